"""Test kit: a pytest plugin for code that uses a pool, contracts and a faulty store for authors of plugs.

``RecordStoreContract``, ``VectorIndexContract``, ``CodecContract``: subclass one, give the fixtures, and pytest runs
everything that the contract promises: `exp_pool.core.contracts.stores` for record stores, `contracts.plugs` for vector
indexes and codecs. ``FaultyStore`` fails where you say.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exp_pool.testing.codec import CodecContract
    from exp_pool.testing.faults import Fault, FaultyStore, at, every
    from exp_pool.testing.record_store import RecordStoreContract, RecordStoreShape
    from exp_pool.testing.vector_index import VectorIndexContract, VectorIndexShape

__all__ = [
    "CodecContract",
    "Fault",
    "FaultyStore",
    "RecordStoreContract",
    "RecordStoreShape",
    "VectorIndexContract",
    "VectorIndexShape",
    "at",
    "every",
]

_CONTRACTS = ("codec", "record_store", "vector_index", "_writes", "_queries", "_maintenance", "_migration")
_PLACES = {
    "CodecContract": "codec",
    "Fault": "faults",
    "FaultyStore": "faults",
    "RecordStoreContract": "record_store",
    "RecordStoreShape": "record_store",
    "VectorIndexContract": "vector_index",
    "VectorIndexShape": "vector_index",
    "at": "faults",
    "every": "faults",
}


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def __getattr__(name: str) -> Any:
    """Import on first use: every test run loads the pytest plugin, which lies in this package too."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _PLACES[name] in _CONTRACTS:
        import pytest

        pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in _CONTRACTS))
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
