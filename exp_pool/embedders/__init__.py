"""Embedders: text to vectors.

Each is one file behind `exp_pool.protocols.Embedder`; `service` runs whichever is chosen.
"""
