"""Rows and vectors for tests of stores and indexes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from exp_pool.core.contracts.plugs import Put, PutStatus, RecordStore
from exp_pool.core.experience import Experience
from exp_pool.core.record import Record, Vector, to_record
from exp_pool.core.values.vectors import to_bytes, to_unit

DIMENSION = 16

# Text that engines, file systems and quoting trip over.
NASTY_TEXTS = [
    "",
    " ",
    "\0",
    "a\0b",
    "\x1a0000",
    "\ud800",
    "a\udfff\ud83d",
    "'; DROP TABLE experiences; --",
    '%_*$."\\',
    "日本語 🤷",
    "\x1a",
]


def row(request: str = "r", response: Any = "a", namespace: str = "n", **fields: Any) -> Record:
    """Row of the function f for a test.

    Args:
        request: its text.
        response: the answer.
        namespace: where it belongs.
        fields: columns that replace what an Experience makes of them.
    """
    fields = {"origin": "automatic", **fields}
    of_exp = {
        k: fields.pop(k)
        for k in list(fields)
        if k in Experience.model_fields and k not in ("id", "created_at", "expires_at")
    }
    record = to_record(Experience(**{"function": "f", "request": request, "response": response, **of_exp}), namespace)
    return replace(record, **fields)


def put(store: RecordStore, *rows: Record, **how: Any) -> list[PutStatus]:
    """Put rows and return their statuses."""
    return store.put_many([Put(r, **how) for r in rows])


def vector(*values: float, embedder: str = "e", whole: bool = True) -> Vector:
    """Vector of these values."""
    return Vector(embedder, to_bytes(np.asarray(values)), whole)


def unit(seed: int, count: int = 1) -> np.ndarray:
    """(count, DIMENSION) random vectors of unit length."""
    return to_unit(np.random.default_rng(seed).normal(size=(count, DIMENSION)), count)
