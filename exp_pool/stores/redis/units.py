"""A unit: all rows of one (namespace, key), in one Redis hash, so in one slot. How it is named, packed and changed.

Fields: ``v`` the version, ``o`` the last operations, ``=`` the current row, ``e`` when that expires, ``x`` its vector,
``r:<id>`` a row of history. The lease is a hash beside it, in the same slot.
"""

from __future__ import annotations

import hashlib
import json
import operator
import secrets
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from loguru import logger

from exp_pool.core.contracts.plugs import VectorRow
from exp_pool.core.record import Record, Vector
from exp_pool.stores.columns import COLUMNS
from exp_pool.stores.rules import to_history

_columns_of = operator.attrgetter(*COLUMNS)
_STAMP = 8  # characters that tell a row from the one that had its id before
_LEVEL, _MAX_EXPANDED = 6, 2**28  # a megabyte of zeros expands to a gigabyte


def encoded(text: str) -> bytes:
    """Any text as bytes: lone surrogates too."""
    return text.encode("utf-8", "surrogatepass")


def decoded(raw: bytes) -> str:
    """The text that `encoded` was given."""
    return raw.decode("utf-8", "surrogatepass")


def digest(*parts: bytes, size: int = 16) -> bytes:
    """A name of fixed length for text of any length; nobody's choice of text makes two of them meet."""
    hashed = hashlib.blake2b(digest_size=size)
    for part in parts:
        hashed.update(b"%d:" % len(part) + part)
    return hashed.hexdigest().encode()


class Stored(NamedTuple):
    """A row and its stamp."""

    stamp: bytes
    record: Record


class StoredVector(NamedTuple):
    """The vector of the current row, with what an index filters by, so that readers of vectors read no row."""

    stamp: bytes
    id: str
    vector: Vector
    function: str
    version: str
    reuse_scope: str

    def row(self, namespace: str, position: int) -> VectorRow:
        """As readers of vectors get it."""
        return VectorRow(self.id, namespace, self.function, self.version, self.reuse_scope, position, self.vector)


def new_stamp() -> bytes:
    """Random."""
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


def pack(stored: Stored, compress_above: int | None) -> bytes:
    """A row as bytes: stamp, how it is written, and its values in the order of `COLUMNS` as JSON."""
    body = dump(_columns_of(stored.record))
    if compress_above is not None and len(body) > compress_above:
        return stored.stamp + b"z" + zlib.compress(body, _LEVEL)
    return stored.stamp + b"j" + body


def unpack(raw: bytes | None) -> Stored | None:
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
        return Stored(stamp, record)
    except (ValueError, TypeError, zlib.error, RecursionError) as err:
        logger.warning("a row is damaged, so it answers nothing: {} ({})", raw[:80], err)
        return None


def pack_vector(stored: StoredVector) -> bytes:
    """Stamp, a line of JSON, the values."""
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


class Unit:
    """A unit as it was read, and what is to become of it.

    Args:
        name: the hash of namespace and key.
        ids: the rows that somebody asks for.
        values: of the fields `Unit.fields(ids)`.
        token: of the lease, if there is one.
    """

    FIRST = (b"v", b"=", b"x")

    def __init__(self, name: bytes, ids: Sequence[str], values: Sequence[bytes | None], token: bytes | None) -> None:
        self.name = name
        self.version = values[0] or b"0"
        self.current = unpack(values[1])
        self.vector = unpack_vector(values[2])
        self.token = token
        self.spent = b""
        """The token of the lease that is given back with the write, which needs it."""
        self._before = self._answer()
        self._damaged = values[1] is not None and self.current is None
        self._was_vector = values[2]
        history = zip(ids, values[len(self.FIRST) :], strict=True)
        self._history = {id_: stored for id_, raw in history if (stored := unpack(raw)) is not None}
        self.key = next((stored.record.key for stored in self.rows()), "")
        self.told: dict[str, Stored | None] = {}
        """What is new about rows: as they are now, or None and gone."""
        self.gone: dict[str, bytes] = {}
        """The stamps of rows that are gone."""

    @classmethod
    def fields(cls, ids: Iterable[str]) -> list[bytes]:
        """What has to be read."""
        return [*cls.FIRST, *(b"r:" + encoded(id_) for id_ in ids)]

    @classmethod
    def whole(cls, name: bytes, fields: dict[bytes, bytes]) -> Unit:
        """A unit of which every field was read."""
        ids = [decoded(field[2:]) for field in fields if field.startswith(b"r:")]
        unit = cls(name, ids, [fields.get(field) for field in cls.fields(ids)], None)
        for stored in unit.rows():
            unit.told[stored.record.id] = stored
        return unit

    def rows(self) -> list[Stored]:
        """Every row that was read, the oldest first."""
        found = [*self._history.values(), *([self.current] if self.current else [])]
        return sorted(found, key=lambda stored: (stored.record.is_current, stored.record.created_at))

    def find(self, id_: str) -> Stored | None:
        """One of the rows that were asked for."""
        if self.current is not None and self.current.record.id == id_:
            return self.current
        return self._history.get(id_)

    def write(self, record: Record) -> None:
        """Add a row, or put it in the place of the one with its id."""
        known = self.find(record.id)
        stored = Stored(known.stamp if known else new_stamp(), record)
        if record.is_current:
            self.current = stored
        else:
            self._history[record.id] = stored
        self.told[record.id], self.key = stored, record.key

    def supersede(self, successor: str) -> None:
        """The current row becomes history."""
        if self.current is not None:
            old, self.current = self.current, None
            self._history[old.record.id] = old
            self.write(to_history(old.record, successor))
            self.vector = None

    def remove(self, id_: str) -> bool:
        """Whether there was such a row."""
        known = self.find(id_)
        if known is None:
            return False
        if self.current is known:
            self.current = self.vector = None
        else:
            del self._history[id_]
        self.told[id_], self.gone[id_] = None, known.stamp
        return True

    def set_vector(self, vector: Vector) -> None:
        """Of the current row."""
        assert self.current is not None
        row = self.current.record
        self.vector = StoredVector(new_stamp(), row.id, vector, row.function, row.version, row.reuse_scope)

    def changes(self, compress_above: int | None) -> tuple[list[bytes], list[bytes]]:
        """Fields to set, each before its value, and fields to delete."""
        changed: dict[bytes, bytes | None] = {}
        if self.current is None:
            changed |= {} if self._damaged else {b"=": None, b"e": None}
        elif self.current.record.id in self.told:
            expires = self.current.record.expires_at
            changed |= {b"=": pack(self.current, compress_above), b"e": None if expires is None else b"%d" % expires}
        vector = None if self.vector is None else pack_vector(self.vector)
        if vector != self._was_vector:
            changed[b"x"] = vector
        for id_ in self.told:
            old = self._history.get(id_)
            changed[b"r:" + encoded(id_)] = None if old is None else pack(old, compress_above)
        setting = [part for field, value in changed.items() if value is not None for part in (field, value)]
        return setting, [field for field, value in changed.items() if value is None]

    @property
    def answers_otherwise(self) -> bool:
        """Whether the key gets another answer than before, or none."""
        return self._before != self._answer()

    def _answer(self) -> tuple[str, int] | None:
        return None if self.current is None else (self.current.record.id, self.current.record.revision)

    def entry(self, id_: str) -> tuple[object, ...]:
        """What the namespace's listing is told of a row that is there."""
        stored = self.told[id_]
        assert stored is not None
        row, vector = stored.record, self.vector if stored is self.current else None
        embedder = b"" if vector is None else encoded(vector.vector.embedder)
        return (
            self.name,
            encoded(row.id),
            stored.stamp,
            row.created_at,
            int(row.is_current),
            row.size_bytes,
            asked(row.request_hash),
            embedder,
            digest(embedder, size=8) if embedder else b"",
            b"" if vector is None else vector.stamp,
            b"" if row.embed_due is None or not row.is_current else row.embed_due,
            b"" if row.score_due is None or not row.is_current else row.score_due,
        )


def asked(request_hash: str) -> bytes:
    """What rows are listed by that were asked the same."""
    return digest(encoded(request_hash), size=8)


class Listing(NamedTuple):
    """The keys of what is known about a namespace, all in one slot.

    ``ids``: id -> where it stands (16 digits of its place in the order of insertion, its unit) and what else is listed;
    place and unit are its head, head and id its handle. ``units``: unit -> the version that is listed. Sorted sets of
    handles: ``rows`` by creation, ``current`` by place, ``asked`` by what was asked, ``embed`` and ``score`` by when
    they are due, ``vectors`` by position, of these ``gone`` by the time. ``marks``: writes that were announced.
    """

    marks: bytes
    ids: bytes
    units: bytes
    rows: bytes
    current: bytes
    asked: bytes
    embed: bytes
    score: bytes
    vectors: bytes
    gone: bytes
    spaces: bytes
    tombs: bytes
    counters: bytes
    empty: bytes
    states: bytes
    logs: bytes

    def log(self, name: str) -> bytes:
        """The key of a log."""
        return self.logs + b":" + digest(encoded(name))


LISTED = 14  # so many keys, the first ones, are brought up to date with each row


class Keys:
    """How everything of a pool is called in Redis."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self.namespaces = self._prefix + b":namespaces"
        self.changed = self._prefix + b":changed"
        self.every_unit = self._prefix + b":{*}"

    def listing(self, namespace: str) -> Listing:
        """Of a namespace."""
        start = self._prefix + b":{" + digest(encoded(namespace)) + b"}:"
        return Listing(*(start + name.encode() for name in Listing._fields))

    def unit_name(self, namespace: str, key: str) -> bytes:
        """Of a (namespace, key)."""
        return digest(encoded(namespace), encoded(key))

    def unit(self, name: bytes) -> bytes:
        """The key of a unit."""
        return self._prefix + b":{" + name + b"}"

    def lease(self, name: bytes) -> bytes:
        """The key of a unit's lease."""
        return self.unit(name) + b":lease"


HEAD = 48  # of a handle: its place and its unit
_RESERVED = b"0" * 16


def unit_of(handle: bytes) -> bytes:
    """The unit that a listed row stands in."""
    return handle[16:HEAD]


def id_of(handle: bytes) -> str:
    """The id of a listed row."""
    return decoded(handle[HEAD:])


def reserved_at(entry: bytes) -> int | None:
    """When an id was reserved that no row has yet (microseconds); None where one has it."""
    return int(entry[HEAD:]) if entry.startswith(_RESERVED) else None
