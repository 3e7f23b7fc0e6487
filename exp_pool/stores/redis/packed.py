"""Rows and vectors as the bytes that Redis keeps, and back."""

from __future__ import annotations

import json
import operator
import secrets
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from loguru import logger

from exp_pool.core.contracts.plugs import VectorRow
from exp_pool.core.record import Record, Vector
from exp_pool.stores.columns import COLUMNS

_columns_of = operator.attrgetter(*COLUMNS)
_STAMP = 8
_LEVEL, _MAX_EXPANDED = 6, 2**28  # a megabyte of zeros expands to a gigabyte


class StoredRow(NamedTuple):
    """A row and its stamp: 8 random hex characters that tell it from an earlier row with its id."""

    stamp: bytes
    record: Record


class StoredVector(NamedTuple):
    """The vector of a current row, with what an index filters by, so that readers of vectors read no row."""

    stamp: bytes
    id: str
    vector: Vector
    function: str
    version: str
    reuse_scope: str

    def row(self, namespace: str, position: int) -> VectorRow:
        """The vector as `RecordStore.vectors_after` gives it."""
        return VectorRow(self.id, namespace, self.function, self.version, self.reuse_scope, position, self.vector)


def encoded(text: str) -> bytes:
    """Any text as bytes: lone surrogates too."""
    return text.encode("utf-8", "surrogatepass")


def decoded(raw: bytes) -> str:
    """The text that `encoded` was given."""
    return raw.decode("utf-8", "surrogatepass")


def new_stamp() -> bytes:
    """A random stamp."""
    return secrets.token_hex(_STAMP // 2).encode()


def dump(values: Sequence[object]) -> bytes:
    """JSON; not escaped, because two lone surrogates side by side would come back as one character."""
    return encoded(json.dumps(values, ensure_ascii=False, separators=(",", ":")))


def load(raw: bytes) -> Any:
    """The values that `dump` was given.

    Raises:
        ValueError: they are something else.
    """
    return json.loads(decoded(raw))


def pack(stored: StoredRow, compress_above: int | None) -> bytes:
    """A row as bytes: stamp, how it is written, and its values in the order of `COLUMNS` as JSON."""
    body = dump(_columns_of(stored.record))
    if compress_above is not None and len(body) > compress_above:
        return stored.stamp + b"z" + zlib.compress(body, _LEVEL)
    return stored.stamp + b"j" + body


def unpack(raw: bytes | None) -> StoredRow | None:
    """The row; None where there is none, or it is damaged: what cannot be trusted is not there."""
    if raw is None:
        return None
    try:
        stamp, how, body = raw[:_STAMP], raw[_STAMP : _STAMP + 1], raw[_STAMP + 1 :]
        if how == b"z":
            body = zlib.decompressobj().decompress(body, _MAX_EXPANDED)
        record = Record(*load(body)[: len(COLUMNS)])
        if not (isinstance(record.id, str) and isinstance(record.created_at, int)):
            raise TypeError("its values stand in another order")
        return StoredRow(stamp, record)
    except (ValueError, TypeError, zlib.error, RecursionError) as err:
        logger.warning("a row is damaged, so it answers nothing: {} ({})", raw[:80], err)
        return None


def pack_vector(stored: StoredVector) -> bytes:
    """A vector as bytes: stamp, a line of JSON, the values."""
    vector = stored.vector
    line = [stored.id, vector.embedder, vector.whole, stored.function, stored.version, stored.reuse_scope]
    return stored.stamp + dump(line) + b"\n" + vector.values


def unpack_vector(raw: bytes | None) -> StoredVector | None:
    """The vector; None where there is none, or it is damaged."""
    if raw is None:
        return None
    try:
        line, _, values = raw[_STAMP:].partition(b"\n")
        id_, embedder, whole, function, version, reuse_scope = load(line)
        return StoredVector(raw[:_STAMP], id_, Vector(embedder, values, whole), function, version, reuse_scope)
    except (ValueError, TypeError) as err:
        logger.warning("a vector is damaged, so it is not there: {} ({})", raw[:80], err)
        return None
