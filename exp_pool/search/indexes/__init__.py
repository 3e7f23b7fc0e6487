"""Vector indexes: similarity, derived from the record store.

Each is one file behind `exp_pool.core.contracts.plugs.VectorIndex`.
"""
