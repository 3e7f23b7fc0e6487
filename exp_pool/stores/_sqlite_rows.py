"""What one writing transaction of an SQLite pool does to its rows. The caller holds the transaction."""

from __future__ import annotations

import sqlite3

from exp_pool._clock import now_us
from exp_pool.protocols import Evicted, EvictionOrder, Put, PutMode, PutStatus, Settlement
from exp_pool.records import Vector
from exp_pool.stores._rules import CONTENT, decide
from exp_pool.stores._sql import COLUMNS, checksum, keep, restore, to_row

_INSERT = f"INSERT INTO experiences ({', '.join(COLUMNS)}, checksum) VALUES ({', '.join('?' * len(COLUMNS))}, ?)"
_STORED = f"SELECT checksum, {', '.join(COLUMNS)} FROM experiences WHERE namespace = ? AND id = ?"
_UPDATE = (
    f"UPDATE experiences SET {', '.join(f'{name} = ?' for name in CONTENT)}, checksum = ?, "
    "revision = revision + 1 "
    "WHERE namespace = ? AND id = ? AND revision = ?"
)
_TO_HISTORY = (
    "UPDATE experiences SET is_current = 0, superseded_by = ?, revision = revision + 1, embed_due = NULL, "
    "score_due = NULL WHERE namespace = ? AND id = ?"
)
_IS_CURRENT = COLUMNS.index("is_current")
_NAMESPACE, _ID, _KEY = (COLUMNS.index(name) for name in ("namespace", "id", "key"))
_CONTENT_AT = tuple(COLUMNS.index(name) for name in CONTENT)


def next_value(connection: sqlite3.Connection, counter: str) -> int:
    """The next value of a counter."""
    connection.execute("UPDATE counters SET value = value + 1 WHERE name = ?", (counter,))
    (value,) = connection.execute("SELECT value FROM counters WHERE name = ?", (counter,)).fetchone()
    return int(value)


def set_vector(connection: sqlite3.Connection, ref: tuple[str, str], vector: Vector) -> None:
    """Store a row's vector at a new position. Readers of another embedder's hear that they have lost it."""
    embedder = keep(vector.embedder)
    known = connection.execute("SELECT embedder FROM vectors WHERE namespace = ? AND id = ?", ref).fetchone()
    if known is not None and known[0] != embedder:
        forget_vector(connection, *ref)
    values = (*ref, embedder, vector.whole, next_value(connection, "position"), vector.values)
    connection.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?, ?)", values)


def forget_vector(connection: sqlite3.Connection, namespace: str, id_: str) -> None:
    """Erase a row's vector; readers hear of it at a new position."""
    gone = connection.execute(
        "DELETE FROM vectors WHERE namespace = ? AND id = ? RETURNING embedder", (namespace, id_)
    ).fetchall()
    for (embedder,) in gone:
        values = (next_value(connection, "position"), namespace, embedder, id_, now_us())
        connection.execute("INSERT INTO forgotten VALUES (?, ?, ?, ?, ?)", values)


def forget_vectors(connection: sqlite3.Connection, namespace: str) -> None:
    """Erase all vectors of a namespace."""
    held = "SELECT id FROM vectors WHERE namespace = ?"
    for (id_,) in connection.execute(held, (namespace,)).fetchall():
        forget_vector(connection, namespace, id_)


def update_row(connection: sqlite3.Connection, put: Put, compress_above: int | None) -> PutStatus:
    """Replace a row's content, if it still has the expected revision."""
    row = to_row(put.record, compress_above)
    ref = (keep(put.record.namespace), keep(put.record.id))
    found = connection.execute(_STORED, ref).fetchone()
    if found is None:
        return PutStatus.CONFLICT
    stored = found[1:]
    changed = [row[at] if at in _CONTENT_AT else value for at, value in enumerate(stored)]
    content = (row[position] for position in _CONTENT_AT)
    if not connection.execute(_UPDATE, (*content, checksum(changed), *ref, put.expected_revision)).rowcount:
        return PutStatus.CONFLICT
    return PutStatus.CURRENT if stored[_IS_CURRENT] else PutStatus.HISTORY


def insert_row(connection: sqlite3.Connection, put: Put, compress_above: int | None) -> PutStatus:
    """Add a row and settle which one is current; the rules are those of `protocols.Put`."""
    record = put.record
    row = to_row(record, compress_above)
    namespace, id_, key = row[_NAMESPACE], row[_ID], row[_KEY]
    if put.lease is not None:
        mine = (namespace, key, put.lease.token)
        if not connection.execute("DELETE FROM leases WHERE namespace = ? AND key = ? AND token = ?", mine).rowcount:
            return PutStatus.STALE
    if put.mode is PutMode.REPLICATE and _deleted_here(connection, namespace, id_, record.created_at):
        return PutStatus.DELETED
    present = connection.execute(
        "SELECT id, expected IS NOT NULL FROM experiences WHERE (namespace = ? AND id = ?) "
        "OR (namespace = ? AND key = ? AND is_current = 1)",
        (namespace, id_, namespace, key),
    ).fetchall()
    if any(other == id_ for other, _ in present):
        return PutStatus.CONFLICT
    other, annotated = present[0] if present else ("", False)
    known = restore(other) if present else None
    decision = decide(put, known, annotated=bool(annotated) and _sound(connection, (namespace, other)))
    if decision.supersedes is not None:
        connection.execute(_TO_HISTORY, (id_, namespace, other))
        forget_vector(connection, namespace, other)
    if decision.record is not record:
        row = to_row(decision.record, compress_above)
    connection.execute(_INSERT, (*row, checksum(row)))
    connection.execute("DELETE FROM tombstones WHERE namespace = ? AND id = ?", (namespace, id_))
    if put.vector is not None and decision.status is PutStatus.CURRENT:
        set_vector(connection, (namespace, id_), put.vector)
    return decision.status


_TURNS = {
    EvictionOrder.LRU: "coalesce(last_access, created_at)",
    EvictionOrder.LFU: "access_count, coalesce(last_access, created_at)",
    EvictionOrder.FIFO: "created_at",
    EvictionOrder.TTL: "expires_at IS NULL, coalesce(expires_at, created_at)",
}


def evict_rows(connection: sqlite3.Connection, namespace: str, order: EvictionOrder, count: int) -> list[Evicted]:
    """Delete the first so many rows in this order; see `protocols.RecordStore.evict`."""
    rows = connection.execute(
        "SELECT id, function, key, size_bytes FROM experiences "
        "WHERE namespace = ? AND expected IS NULL AND origin <> 'manual' AND kind <> 'insight' "
        f"ORDER BY expires_at IS NULL OR expires_at > ?, is_current, {_TURNS[order]}, seq LIMIT ?",
        (namespace, now_us(), count),
    ).fetchall()
    for id_, *_ in rows:
        connection.execute("DELETE FROM experiences WHERE namespace = ? AND id = ?", (namespace, id_))
        forget_vector(connection, namespace, id_)
    return [Evicted(restore(id_), restore(function), restore(key), size) for id_, function, key, size in rows]


def _sound(connection: sqlite3.Connection, ref: tuple[str, str]) -> bool:
    """Whether the row is as it was written: a damaged one answers nothing, and must not keep others from it."""
    check, *row = connection.execute(_STORED, ref).fetchone()
    return check is None or check == checksum(row)


def _deleted_here(connection: sqlite3.Connection, namespace: str, id_: str, created_at: int) -> bool:
    return (
        connection.execute(
            "SELECT 1 FROM tombstones WHERE namespace = ? AND id = ? UNION ALL "
            "SELECT 1 FROM cutoffs WHERE namespace = ? AND cleared_at >= ?",
            (namespace, id_, namespace, created_at),
        ).fetchone()
        is not None
    )


def settle(connection: sqlite3.Connection, settled: Settlement) -> None:
    """Write down what upkeep did about one duty of a current row."""
    ref, duty = (keep(settled.namespace), keep(settled.id)), settled.duty.value
    changes, values = [f"{duty}_due = ?", f"{duty}_tries = {'0' if settled.done else f'{duty}_tries + 1'}"], []
    values.append(None if settled.done else settled.retry_at)
    statement = (
        f"UPDATE experiences SET {', '.join(changes)} "
        f"WHERE namespace = ? AND id = ? AND is_current = 1 AND {duty}_due IS NOT NULL"
    )
    if connection.execute(statement, (*values, *ref)).rowcount and settled.vector is not None:
        set_vector(connection, ref, settled.vector)
