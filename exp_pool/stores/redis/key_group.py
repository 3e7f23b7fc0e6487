"""A key group: all rows of one (namespace, key), in one Redis hash, so in one slot.

Fields of the hash: ``v`` the version, ``o`` the last operations, ``=`` the current row, ``e`` when that expires, ``x``
its vector, ``r:<id>`` a row of history. The lease is a hash beside it, in the same slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from exp_pool.core.record import Record, Vector
from exp_pool.stores.redis.keys import short_digest
from exp_pool.stores.redis.packed import (
    StoredRow,
    StoredVector,
    decoded,
    encoded,
    new_stamp,
    pack,
    pack_vector,
    unpack,
    unpack_vector,
)
from exp_pool.stores.rules import to_history

_FIRST = (b"v", b"=", b"x")


class KeyGroup:
    """A key group as it was read, and what it is to become.

    Args:
        name: of the group; see `Keys.group_name`.
        ids: the rows that somebody asks for.
        values: of the fields `KeyGroup.fields(ids)`.
        token: of the lease, if there is one.
    """

    def __init__(
        self, name: bytes, ids: Sequence[str], values: Sequence[bytes | None], token: bytes | None = None
    ) -> None:
        self.name = name
        self.version = values[0] or b"0"
        self.current = unpack(values[1])
        self.vector = unpack_vector(values[2])
        self.token = token
        self.spent = b""
        """The token of the lease that the write needs, and gives back."""
        self._before = self._answer()
        self._damaged = values[1] is not None and self.current is None
        self._was_vector = values[2]
        history = zip(ids, values[len(_FIRST) :], strict=True)
        self._history = {id_: stored for id_, raw in history if (stored := unpack(raw)) is not None}
        self.key = next((stored.record.key for stored in self.rows()), "")
        self.changed: dict[str, StoredRow | None] = {}
        """Rows that differ from what was read: as they are now, None where they are gone."""
        self.removed: dict[str, bytes] = {}
        """The stamps of rows that are gone."""

    @classmethod
    def fields(cls, ids: Iterable[str]) -> list[bytes]:
        """The fields of the hash that have to be read."""
        return [*_FIRST, *(b"r:" + encoded(id_) for id_ in ids)]

    @classmethod
    def whole(cls, name: bytes, fields: dict[bytes, bytes]) -> KeyGroup:
        """A group of which every field was read; each row counts as changed."""
        ids = [decoded(field[2:]) for field in fields if field.startswith(b"r:")]
        group = cls(name, ids, [fields.get(field) for field in cls.fields(ids)])
        group.changed = {stored.record.id: stored for stored in group.rows()}
        return group

    def rows(self) -> list[StoredRow]:
        """Every row that was read, the oldest first."""
        found = [*self._history.values(), *([self.current] if self.current else [])]
        return sorted(found, key=lambda stored: (stored.record.is_current, stored.record.created_at))

    def find(self, id_: str) -> StoredRow | None:
        """One of the rows that were asked for."""
        if self.current is not None and self.current.record.id == id_:
            return self.current
        return self._history.get(id_)

    def write(self, record: Record) -> None:
        """Add a row, or put it in the place of the one with its id."""
        known = self.find(record.id)
        stored = StoredRow(known.stamp if known else new_stamp(), record)
        if record.is_current:
            self.current = stored
        else:
            self._history[record.id] = stored
        self.changed[record.id], self.key = stored, record.key

    def supersede(self, successor: str) -> None:
        """Make the current row history."""
        if self.current is not None:
            old, self.current = self.current, None
            self._history[old.record.id] = old
            self.write(to_history(old.record, successor))
            self.vector = None

    def remove(self, id_: str) -> None:
        """Remove a row, if it is there."""
        known = self.find(id_)
        if known is None:
            return
        if self.current is known:
            self.current = self.vector = None
        else:
            del self._history[id_]
        self.changed[id_], self.removed[id_] = None, known.stamp

    def set_vector(self, vector: Vector) -> None:
        """Give the current row a vector."""
        assert self.current is not None
        row = self.current.record
        self.vector = StoredVector(new_stamp(), row.id, vector, row.function, row.version, row.reuse_scope)

    def field_changes(self, compress_above: int | None) -> tuple[list[bytes], list[bytes]]:
        """Fields to set, each before its value, and fields to delete."""
        changed: dict[bytes, bytes | None] = {}
        if self.current is None:
            changed |= {} if self._damaged else {b"=": None, b"e": None}
        elif self.current.record.id in self.changed:
            expires = self.current.record.expires_at
            changed |= {b"=": pack(self.current, compress_above), b"e": None if expires is None else b"%d" % expires}
        vector = None if self.vector is None else pack_vector(self.vector)
        if vector != self._was_vector:
            changed[b"x"] = vector
        for id_ in self.changed:
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

    def listed_as(self, stored: StoredRow) -> tuple[object, ...]:
        """A row as the script `LIST` takes it."""
        row, vector = stored.record, self.vector if stored is self.current else None
        embedder = "" if vector is None else vector.vector.embedder
        return (
            self.name,
            encoded(row.id),
            stored.stamp,
            row.created_at,
            int(row.is_current),
            row.size_bytes,
            short_digest(row.request_hash),
            encoded(embedder),
            short_digest(embedder) if embedder else b"",
            b"" if vector is None else vector.stamp,
            b"" if row.embed_due is None or not row.is_current else row.embed_due,
            b"" if row.score_due is None or not row.is_current else row.score_due,
        )
