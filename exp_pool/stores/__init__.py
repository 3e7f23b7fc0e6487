"""Record stores: where experiences live.

Each is one file behind `exp_pool.protocols.RecordStore`; none imports another.
"""
