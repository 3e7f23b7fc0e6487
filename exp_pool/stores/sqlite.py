"""``sqlite:///file``: the embedded default. WAL, one writer at a time, readers beside it.

Durability: an acknowledged write survives a killed process (WAL with ``synchronous=NORMAL``); a power cut may take the
last ones, never the file. Files are 0600 in a folder of 0700, if this store creates it.
"""

from __future__ import annotations

import functools
import glob
import secrets
import sqlite3
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from loguru import logger

from exp_pool._clock import now_us
from exp_pool.config import ExpPoolConfig
from exp_pool.errors import StoreError
from exp_pool.files import create_file
from exp_pool.protocols import (
    SCAN_ORDERS,
    Capabilities,
    Claim,
    Deletion,
    Evicted,
    EvictionOrder,
    Lease,
    LogEntry,
    Names,
    Put,
    PutMode,
    PutStatus,
    RecordQuery,
    RequestRow,
    Settlement,
    Space,
    State,
    Touch,
    Usage,
    VectorRow,
)
from exp_pool.records import Duty, Record, Vector
from exp_pool.stores._sql import COLUMNS, checksum, from_row, keep, restore, select
from exp_pool.stores._sqlite_file import SqliteFile
from exp_pool.stores._sqlite_rescue import SET_ASIDE, repair, restore_from
from exp_pool.stores._sqlite_rows import evict_rows, forget_vector, forget_vectors, insert_row, settle, update_row

P = ParamSpec("P")
R = TypeVar("R")

_ALL = ", ".join(COLUMNS)
_BY_KEY = f"SELECT checksum, {_ALL} FROM experiences WHERE namespace = ? AND key = ? AND is_current = 1"
_BY_ID = f"SELECT checksum, {_ALL} FROM experiences WHERE namespace = ? AND id = ?"
# The lease, unless there is a fresh row (?7: which is damaged), or somebody else has a lease that has not ended.
_CLAIM = """
    INSERT INTO leases (namespace, key, owner, token, expires_at)
    SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?7 OR NOT EXISTS (
        SELECT 1 FROM experiences
        WHERE namespace = ?1 AND key = ?2 AND is_current = 1 AND (expires_at IS NULL OR expires_at > ?6))
    ON CONFLICT (namespace, key) DO UPDATE
    SET owner = excluded.owner, token = max(excluded.token, token + 1), expires_at = excluded.expires_at
    WHERE leases.expires_at <= ?6 OR leases.owner = excluded.owner
    RETURNING token"""
# Merged as they come from two indexes, so that a page costs the same wherever it begins.
_VECTORS_AFTER = """
    SELECT v.id, e.function, e.version, e.reuse_scope, v.position AS position, v.data, v.whole
    FROM vectors v JOIN experiences e ON e.namespace = v.namespace AND e.id = v.id
    WHERE v.namespace = ? AND v.embedder = ? AND v.position > ?
    UNION ALL
    SELECT id, NULL, NULL, NULL, position, NULL, 0 FROM forgotten
    WHERE namespace = ? AND embedder = ? AND position > ?
    ORDER BY position LIMIT ?"""
_NAMESPACES = " UNION ".join(
    f"SELECT namespace FROM {table} WHERE namespace <> ''"
    for table in ("experiences", "tombstones", "cutoffs", "states", "logs")
)
_NAMED = 20
_FUNCTION = COLUMNS.index("function")
_PAGE = 500  # rows fetched at once while scanning: well below the limit of bound values, enough to make queries cheap
_TIDY_EVERY_US = 3600 * 10**6  # what was remembered of deletions is looked through once an hour


def _translated(method: Callable[P, R]) -> Callable[P, R]:
    """Give the driver's errors as `StoreError` that names the file and the remedy."""

    @functools.wraps(method)
    def translating(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except (sqlite3.Error, OSError, UnicodeError, OverflowError, TypeError) as err:  # types: of damaged rows
            store = args[0]
            assert isinstance(store, SqliteStore)
            raise StoreError(f"{store.path}: {err}.{_remedy(err)}") from err

    return translating


def _remedy(err: Exception) -> str:
    text = str(err).lower()
    for sign, remedy in (
        ("not a database", " It is no SQLite file: move it away, or give another path in store='sqlite:///...'"),
        ("malformed", " The file is damaged: restore a backup, or move it away to start anew"),
        ("readonly", " Make the file and its folder writable, or give another path in store='sqlite:///...'"),
        ("read-only", " Make the file and its folder writable, or give another path in store='sqlite:///...'"),
        ("permission", " Make the file and its folder writable, or give another path in store='sqlite:///...'"),
        (
            "unable to open",
            " Check that the folder exists and is writable, or give another path in store='sqlite:///...'",
        ),
        ("locked", " Another process is writing for longer than store_timeout"),
        ("full", " Free some disk space; nothing that was stored is lost"),
    ):
        if sign in text:
            return remedy
    return ""


class SqliteStore:
    """A record store in one SQLite file, shared by threads and processes of one machine.

    Args:
        path: the file; it and its folder are created at first use.
        timeout_s: how long to wait for another writer before giving up.
        compress_above: characters above which arguments, responses and corrections are compressed; None: never.
    """

    capabilities = Capabilities(durable=True, shared=True, leases=True)

    def __init__(self, path: str | Path, timeout_s: float = 5.0, compress_above: int | None = 65536) -> None:
        self._file = SqliteFile(path, timeout_s)
        self.path = self._file.path
        self._compress_above = compress_above
        self._tidied = 0

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig) -> SqliteStore:
        """The store of ``sqlite:///file``."""
        return cls(location, config.store_timeout, config.compress_above)

    def __del__(self) -> None:
        with suppress(StoreError, AttributeError):  # it may not have been made whole
            self.close()

    @_translated
    def close(self) -> None:
        self._file.close()

    # Rows

    @_translated
    def get_many(self, namespace: str, refs: Sequence[str], *, by: Literal["key", "id"] = "key") -> list[Record | None]:
        statement, space = _BY_KEY if by == "key" else _BY_ID, keep(namespace)
        with self._file.read() as connection:
            rows = [connection.execute(statement, (space, keep(ref))).fetchone() for ref in refs]
        return [None if row is None else self._read_row(row[0], row[1:]) for row in rows]

    def _read_row(self, check: int | None, row: Sequence[Any]) -> Record | None:
        """The record; None where it is damaged: what cannot be trusted is not there. `check` names it."""
        try:
            return from_row(row, check)
        except (StoreError, TypeError) as err:
            logger.warning("{}: {}: {}", self.path, row[0], err)
            return None

    @_translated
    def put_many(self, puts: Sequence[Put]) -> list[PutStatus]:
        statuses: list[PutStatus] = []
        for start in range(0, len(puts), _PAGE):  # a bound on how long other writers wait
            with self._file.write() as connection:
                statuses += [
                    (update_row if put.mode is PutMode.UPDATE else insert_row)(connection, put, self._compress_above)
                    for put in puts[start : start + _PAGE]
                ]
        return statuses

    @_translated
    def delete_many(self, namespace: str, ids: Sequence[str]) -> list[str]:
        space, deleted = keep(namespace), []
        for start in range(0, len(ids), _PAGE):
            with self._file.write() as connection:
                for id_ in dict.fromkeys(ids[start : start + _PAGE]):
                    ref = (space, keep(id_))
                    if connection.execute("DELETE FROM experiences WHERE namespace = ? AND id = ?", ref).rowcount:
                        forget_vector(connection, *ref)
                        connection.execute("INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)", (*ref, now_us()))
                        deleted.append(id_)
        return deleted

    @_translated
    def usage(self, namespace: str) -> Usage:
        with self._file.read() as connection:
            statement = "SELECT count(*), coalesce(sum(size_bytes), 0) FROM experiences WHERE namespace = ?"
            return Usage(*connection.execute(statement, (keep(namespace),)).fetchone())

    @_translated
    def namespaces(self) -> list[str]:
        with self._file.read() as connection:
            rows = connection.execute(_NAMESPACES).fetchall()
        return sorted(restore(namespace) for (namespace,) in rows)

    @_translated
    def evict(self, namespace: str, order: EvictionOrder, count: int) -> list[Evicted]:
        with self._file.write() as connection:
            return evict_rows(connection, keep(namespace), order, count)

    @_translated
    def clear(self, namespace: str) -> int:
        space = keep(namespace)
        with self._file.write() as connection:
            forget_vectors(connection, space)
            deleted = connection.execute("DELETE FROM experiences WHERE namespace = ?", (space,)).rowcount
            connection.execute("DELETE FROM logs WHERE namespace = ?", (space,))
            connection.execute("INSERT OR REPLACE INTO cutoffs VALUES (?, ?)", (space, now_us()))
        return deleted

    @_translated
    def count(self, query: RecordQuery, *, limit: int | None = None) -> int:
        where, values = select(query, now_us())
        with self._file.read() as connection:
            statement = f"SELECT count(*) FROM (SELECT 1 FROM experiences WHERE {where} LIMIT ?)"
            (found,) = connection.execute(statement, (*values, -1 if limit is None else limit)).fetchone()
        return int(found)

    def scan(
        self, query: RecordQuery, *, order_by: str = "created_at", descending: bool = False, limit: int | None = None
    ) -> Iterator[Record]:
        for page in self._pages(query, order_by, descending, limit):
            yield from page

    @_translated
    def _pages(self, query: RecordQuery, order_by: str, descending: bool, limit: int | None) -> Iterator[list[Record]]:
        """The handles of all rows first (8 bytes each), then the rows page by page, without holding a transaction."""
        assert order_by in SCAN_ORDERS
        where, values = select(query, now_us())
        direction = "DESC" if descending else "ASC"
        # The sign keeps SQLite from walking a whole namespace in this order to save sorting the few rows that match.
        few = query.owed or any(c.operator == "eq" and c.field in ("request", "key", "id") for c in query.where)
        order = f"{'+' if few else ''}{order_by} {direction}"
        with self._file.read() as connection:
            found = connection.execute(
                f"SELECT seq FROM experiences WHERE {where} ORDER BY {order}, seq LIMIT ?",
                (*values, -1 if limit is None else limit),
            )
            handles = array("q", (seq for (seq,) in found))
        return (self._page(handles[start : start + _PAGE]) for start in range(0, len(handles), _PAGE))

    @_translated
    def _page(self, handles: Sequence[int]) -> list[Record]:
        marks = ", ".join("?" * len(handles))
        try:
            with self._file.read() as connection:
                statement = f"SELECT seq, checksum, {_ALL} FROM experiences WHERE seq IN ({marks})"
                rows = connection.execute(statement, handles).fetchall()
            by_handle = {row[0]: self._read_row(row[1], row[2:]) for row in rows}
            return [record for handle in handles if (record := by_handle.get(handle)) is not None]
        except (sqlite3.Error, UnicodeError) as err:
            if "locked" in str(err):
                raise
            if len(handles) == 1:  # the others can be read; `check` names this one
                logger.warning("{}: a row was left out, because it cannot be read: {}", self.path, err)
                return []
            return [record for handle in handles for record in self._page([handle])]

    @_translated
    def touch_many(self, namespace: str, touches: Sequence[Touch]) -> None:
        with self._file.write() as connection:
            connection.executemany(
                "UPDATE experiences SET access_count = access_count + ?, "
                "last_access = max(coalesce(last_access, 0), ?) WHERE namespace = ? AND id = ?",
                [(touch.count, touch.last_access, keep(namespace), keep(touch.id)) for touch in touches],
            )

    @_translated
    def settle_many(self, settlements: Sequence[Settlement]) -> None:
        with self._file.write() as connection:
            for settled in settlements:
                settle(connection, settled)

    @_translated
    def owe(self, query: RecordQuery, duty: Duty) -> int:
        now = now_us()
        where, values = select(query, now)
        statement = f"UPDATE experiences SET {duty}_due = ?, {duty}_tries = 0 WHERE is_current = 1 AND {where}"
        with self._file.write() as connection:
            return connection.execute(statement, (now, *values)).rowcount

    # Vectors

    @_translated
    def get_vectors(self, namespace: str, ids: Sequence[str]) -> list[Vector | None]:
        statement = "SELECT embedder, data, whole FROM vectors WHERE namespace = ? AND id = ?"
        with self._file.read() as connection:
            rows = [connection.execute(statement, (keep(namespace), keep(id_))).fetchone() for id_ in ids]
        return [None if row is None else Vector(restore(row[0]), row[1], bool(row[2])) for row in rows]

    @_translated
    def vectors_after(self, namespace: str, embedder: str, position: int, limit: int) -> list[VectorRow]:
        space = (keep(namespace), keep(embedder), position)
        with self._file.read() as connection:  # one statement: both parts as they are at one moment
            rows = connection.execute(_VECTORS_AFTER, (*space, *space, limit)).fetchall()
        return [
            VectorRow(
                id=restore(id_),
                namespace=namespace,
                function=restore(function or ""),
                version=restore(version or ""),
                reuse_scope=scope or "",
                position=at,
                vector=None if data is None else Vector(embedder, data, bool(whole)),
            )
            for id_, function, version, scope, at, data, whole in rows
        ]

    @_translated
    def spaces(self, namespace: str | None = None) -> dict[Space, int]:
        where, values = ("", ()) if namespace is None else ("WHERE namespace = ?", (keep(namespace),))
        statement = f"SELECT namespace, embedder, count(*) FROM vectors {where} GROUP BY namespace, embedder"
        with self._file.read() as connection:
            rows = connection.execute(statement, values).fetchall()
        return {Space(restore(space), restore(embedder)): count for space, embedder, count in rows}

    @_translated
    def requests_after(self, namespace: str, position: int, limit: int) -> list[RequestRow]:
        # The sign keeps SQLite from sorting the whole namespace: rows stand in the order of seq.
        statement = (
            "SELECT id, function, version, request, seq FROM experiences "
            "WHERE seq > ? AND +namespace = ? AND is_current = 1 ORDER BY seq LIMIT ?"
        )
        with self._file.read() as connection:
            rows = connection.execute(statement, (position, keep(namespace), limit)).fetchall()
        return [
            RequestRow(restore(id_), restore(function), restore(version), restore(request), at)
            for id_, function, version, request, at in rows
        ]

    # Leases, states, logs

    @_translated
    def claim(self, namespace: str, key: str, owner: str, ttl_s: float) -> Claim:
        (record,) = self.get_many(namespace, [key])  # most claims find the row; reading needs no write lock
        if record is not None and not record.expired(now_us()):
            return Claim(record=record)
        now = now_us()
        # Grows with time; the random part keeps two leases of one microsecond apart.
        token, until = now << 10 | secrets.randbits(10), now + int(ttl_s * 1e6)
        values = (keep(namespace), keep(key), keep(owner), token, until, now)
        for damaged in (False, True):
            with self._file.lock() as connection:  # one statement: half the time of a read and a write in a transaction
                taken = connection.execute(_CLAIM, (*values, damaged)).fetchall()
            if taken:
                return Claim(lease=Lease(namespace, key, owner, taken[0][0], until))
            (record,) = self.get_many(namespace, [key])  # stored meanwhile, or somebody else computes it, or damaged
            if record is not None:
                break
        return Claim(record=None if record is None or record.expired(now) else record)

    @_translated
    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        with self._file.write() as connection:
            until = now_us() + int(ttl_s * 1e6)
            kept = connection.execute(
                "UPDATE leases SET expires_at = ? WHERE namespace = ? AND key = ? AND token = ?",
                (until, keep(lease.namespace), keep(lease.key), lease.token),
            ).rowcount
        return Lease(lease.namespace, lease.key, lease.owner, lease.token, until) if kept else None

    @_translated
    def release(self, lease: Lease) -> None:
        with self._file.write() as connection:
            connection.execute(
                "DELETE FROM leases WHERE namespace = ? AND key = ? AND token = ?",
                (keep(lease.namespace), keep(lease.key), lease.token),
            )

    @_translated
    def read_state(self, namespace: str, name: str) -> State | None:
        with self._file.read() as connection:
            row = connection.execute(
                "SELECT value, revision FROM states WHERE namespace = ? AND name = ?", (keep(namespace), keep(name))
            ).fetchone()
        return None if row is None else State(restore(row[0]), row[1])

    @_translated
    def write_state(self, namespace: str, name: str, value: str, expected_revision: int | None) -> bool:
        ref = (keep(namespace), keep(name))
        with self._file.write() as connection:
            if expected_revision is None:
                written = connection.execute("INSERT OR IGNORE INTO states VALUES (?, ?, ?, 1)", (*ref, keep(value)))
            else:
                written = connection.execute(
                    "UPDATE states SET value = ?, revision = revision + 1 "
                    "WHERE namespace = ? AND name = ? AND revision = ?",
                    (keep(value), *ref, expected_revision),
                )
            return written.rowcount == 1

    @_translated
    def append_log(self, namespace: str, name: str, entries: Sequence[str]) -> int:
        last = 0
        with self._file.write() as connection:
            for entry in entries:
                values = (keep(namespace), keep(name), keep(entry))
                last = (
                    connection.execute("INSERT INTO logs (namespace, name, entry) VALUES (?, ?, ?)", values).lastrowid
                    or 0
                )
        return last

    @_translated
    def read_log(self, namespace: str, name: str, *, after: int = 0, limit: int = 1000) -> list[LogEntry]:
        with self._file.read() as connection:
            rows = connection.execute(
                "SELECT position, entry FROM logs WHERE namespace = ? AND name = ? AND position > ? "
                "ORDER BY position LIMIT ?",
                (keep(namespace), keep(name), after, limit),
            ).fetchall()
        return [LogEntry(position, restore(entry)) for position, entry in rows]

    @_translated
    def drop_logs(self, namespace: str, names: Sequence[str]) -> None:
        with self._file.write() as connection:
            refs = [(keep(namespace), keep(name)) for name in names]
            connection.executemany("DELETE FROM logs WHERE namespace = ? AND name = ?", refs)

    @_translated
    def names(self, namespace: str) -> Names:
        with self._file.read() as connection:
            states, logs = (
                sorted(restore(name) for (name,) in connection.execute(statement, (keep(namespace),)))
                for statement in (
                    "SELECT name FROM states WHERE namespace = ?",
                    "SELECT DISTINCT name FROM logs WHERE namespace = ?",
                )
            )
        return Names(states, logs)

    # Deletions

    @_translated
    def deletions(self, namespace: str, *, after: str = "", limit: int = 1000) -> list[Deletion]:
        statement = "SELECT id, deleted_at FROM tombstones WHERE namespace = ? AND id > ? ORDER BY id LIMIT ?"
        with self._file.read() as connection:
            rows = connection.execute(statement, (keep(namespace), keep(after), limit)).fetchall()
        return [Deletion(restore(id_), at) for id_, at in rows]

    @_translated
    def cutoff(self, namespace: str) -> int | None:
        statement = "SELECT cleared_at FROM cutoffs WHERE namespace = ?"
        with self._file.read() as connection:
            row = connection.execute(statement, (keep(namespace),)).fetchone()
        return None if row is None else int(row[0])

    @_translated
    def bury(self, namespace: str, deletions: Sequence[Deletion], cutoff: int | None = None) -> None:
        space = keep(namespace)
        with self._file.write() as connection:
            for id_, at in deletions:
                ref = (space, keep(id_))
                connection.execute("DELETE FROM experiences WHERE namespace = ? AND id = ?", ref)
                forget_vector(connection, *ref)
                connection.execute("INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)", (*ref, at))
            if cutoff is not None:
                connection.execute(
                    "INSERT INTO cutoffs VALUES (?, ?) "
                    "ON CONFLICT (namespace) DO UPDATE SET cleared_at = max(cleared_at, excluded.cleared_at)",
                    (space, cutoff),
                )

    # Upkeep

    @_translated
    def tidy(self, forget_before: int) -> None:
        if forget_before - self._tidied >= _TIDY_EVERY_US:
            with self._file.write() as connection:
                connection.execute("DELETE FROM tombstones WHERE deleted_at < ?", (forget_before,))
                connection.execute("DELETE FROM forgotten WHERE forgotten_at < ?", (forget_before,))
                connection.execute("DELETE FROM leases WHERE expires_at < ?", (forget_before,))
            self._tidied = forget_before
        self._file.checkpoint()

    @_translated
    def vacuum(self) -> None:
        self._file.vacuum()

    @_translated
    def check(self) -> list[str]:
        remedy = "run `python -m exp_pool doctor --fix`: it keeps what can be read, and sets the damaged file aside"
        try:
            found = self._file.quick_check()
            found += self._damaged_rows() if not found else []
        except sqlite3.DatabaseError as err:
            found = [str(err)]
        return [f"{self.path}: {what}; {remedy}" for what in found]

    def _damaged_rows(self) -> list[str]:
        """Rows in which a byte is wrong, which SQLite itself does not notice."""
        damaged = []
        with self._file.read() as connection:
            for check, *row in connection.execute(f"SELECT checksum, {_ALL} FROM experiences"):
                if check is not None and check != checksum(row):
                    damaged.append(f"{row[0]} of {row[_FUNCTION]}")
        named = ", ".join(damaged[:_NAMED]) + (" and others" if len(damaged) > _NAMED else "")
        return [f"{len(damaged)} experiences are damaged and left out: {named}"] if damaged else []

    def set_aside(self) -> list[Path]:
        """Files that a restore or a repair has put beside the pool; they hold what was in it then."""
        return sorted(p for why in SET_ASIDE for p in self.path.parent.glob(f"{glob.escape(self.path.name)}.{why}-*"))

    @_translated
    def repair(self) -> list[str]:
        try:
            if not self.path.exists() or not (self._file.quick_check() or self._damaged_rows()):
                return []
        except sqlite3.OperationalError:  # it cannot be opened, or is locked: nothing is known to be damaged
            raise
        except sqlite3.DatabaseError as err:
            logger.warning("{} is damaged: {}", self.path, err)
        with self._file.put_down():
            return repair(self.path, self._file.timeout_s)

    @_translated
    def restore(self, source: str | Path) -> Path | None:
        """Put a copy of a backup in the place of the pool; where the present file was set aside, if there was one.

        Raises:
            StoreError: the backup is damaged or no pool, or another process has the pool open. Nothing was changed.
        """
        with self._file.put_down():
            return restore_from(self.path, Path(source), self._file.timeout_s)

    @_translated
    def backup(self, path: str | Path) -> None:
        """Copy the pool's file as it is at this moment, while others go on writing.

        Raises:
            StoreError: there is such a file already, or it cannot be written.
        """
        target = Path(path)
        if not target.parent.is_dir():
            raise StoreError(f"the folder {target.parent} does not exist; make it, or name another file")
        if target.exists():
            raise StoreError(f"{target} exists; name a file that does not, or remove it: a backup overwrites nothing")
        create_file(target)
        self._file.backup(target)
