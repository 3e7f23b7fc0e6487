"""Embedders: text to vectors.

Each is one file behind `exp_pool.core.contracts.plugs.Embedder`; `service` runs whichever is chosen.
"""
