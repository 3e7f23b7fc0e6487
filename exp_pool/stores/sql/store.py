"""A record store that speaks SQL: every method once. An engine adds connections, a dialect and a schema."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, Literal

from loguru import logger

from exp_pool.core.contracts.plugs import (
    SCAN_ORDERS,
    Completion,
    Evicted,
    EvictionOrder,
    IndexPartition,
    Put,
    PutStatus,
    RecordQuery,
    RequestRow,
    Touch,
    Usage,
    VectorRow,
)
from exp_pool.core.filters import holds
from exp_pool.core.record import Record, TaskKind, Vector
from exp_pool.errors import StoreError
from exp_pool.runtime.clock import now_us
from exp_pool.stores.columns import COLUMNS, NAMES, checksum, expanded, from_row, keep, restore
from exp_pool.stores.sql.dialect import Connection, marks
from exp_pool.stores.sql.engine import translated
from exp_pool.stores.sql.side_tables import SqlSideTables
from exp_pool.stores.sql.where import Where, select

_CURRENT = f'SELECT checksum, {NAMES} FROM experiences WHERE namespace = ? AND "key" = ? AND is_current = 1'
# Each part ends by itself: a server sorts all that the two have before it gives out a page.
_VECTORS_AFTER = """
    SELECT * FROM (
        SELECT v.id, e."function", e.version, e.reuse_scope, v.position AS position, v.data, v.whole
        FROM vectors v JOIN experiences e ON e.namespace = v.namespace AND e.id = v.id
        WHERE v.namespace = ? AND v.embedder = ? AND v.position > ? ORDER BY v.position LIMIT ?) AS present
    UNION ALL
    SELECT id, NULL, NULL, NULL, position, NULL, 0 FROM (
        SELECT id, position FROM forgotten
        WHERE namespace = ? AND embedder = ? AND position > ? ORDER BY position LIMIT ?) AS gone
    ORDER BY position LIMIT ?"""
_NAMESPACES = " UNION ".join(
    f"SELECT namespace FROM {table} WHERE namespace <> ''"
    for table in ("experiences", "tombstones", "cutoffs", "states", "logs")
)
_OPTIONAL = ("last_access", "score", "expires_at")  # of the columns that scans can be ordered by
_NAMED = 20
_FUNCTION = COLUMNS.index("function")
_PAGE = 500  # rows at once: a bound on how long others wait for a writer, enough to make queries cheap
_TIDY_EVERY_US = 3600 * 10**6  # what was remembered of deletions is looked through once an hour


class SqlStore(SqlSideTables):
    """A record store on an engine that speaks SQL."""

    _tidied = 0

    # Rows

    @translated
    def get_many(self, namespace: str, refs: Sequence[str], *, by: Literal["key", "id"] = "key") -> list[Record | None]:
        if by == "key" and len(refs) == 1:  # what each call asks
            return [self._current(namespace, refs[0])[1]]
        space = keep(namespace)
        found: dict[str, Record | None] = {}
        for start in range(0, len(refs), _PAGE):
            some = [keep(ref) for ref in refs[start : start + _PAGE]]
            statement = (
                f'SELECT "{by}", checksum, {NAMES} FROM experiences WHERE namespace = ? AND "{by}" IN '
                f"({marks(len(some))}){' AND is_current = 1' if by == 'key' else ''}"
            )
            for ref, check, *row in self._all(statement, (space, *some)):
                found[restore(ref)] = self._read_row(check, row)
        return [found.get(ref) for ref in refs]

    def _current(self, namespace: str, key: str) -> tuple[bool, Record | None]:
        values = (keep(namespace), keep(key))
        row = self._read(lambda connection: connection.execute(_CURRENT, values).fetchone())
        return row is not None, None if row is None else self._read_row(row[0], row[1:])

    def _read_row(self, check: int | None, row: Sequence[Any]) -> Record | None:
        """The record; None, and a line of the log, where its checksum is wrong or it cannot be read."""
        try:
            return from_row(row, check)
        except (StoreError, TypeError) as err:
            logger.warning("{}: {}: {}", self.place, row[0], err)
            return None

    @translated
    def put_many(self, puts: Sequence[Put]) -> list[PutStatus]:
        statuses: list[PutStatus] = []
        for start in range(0, len(puts), _PAGE):
            page = puts[start : start + _PAGE]
            statuses += self._write(lambda connection, page=page: self._rows(connection).put(page))  # type: ignore[misc]
        return statuses

    @translated
    def delete_many(self, namespace: str, ids: Sequence[str]) -> list[str]:
        space, deleted = keep(namespace), []
        for start in range(0, len(ids), _PAGE):
            page = {keep(id_): id_ for id_ in ids[start : start + _PAGE]}

            def delete(connection: Connection, page: dict[str, str] = page) -> list[str]:
                rows = self._rows(connection)
                gone = set(rows.delete(space, list(page)))
                now = now_us()
                rows.apply_tombstones(space, [(id_, now) for id_ in gone])
                return [id_ for kept, id_ in page.items() if kept in gone]

            deleted += self._write(delete)
        return deleted

    @translated
    def usage(self, namespace: str) -> Usage:
        statement = "SELECT count(*), coalesce(sum(size_bytes), 0) FROM experiences WHERE namespace = ?"
        ((rows, size),) = self._all(statement, (keep(namespace),), patient=True)
        return Usage(int(rows), int(size))

    @translated
    def namespaces(self) -> list[str]:
        return sorted(restore(namespace) for (namespace,) in self._all(_NAMESPACES, patient=True))

    @translated
    def evict(self, namespace: str, order: EvictionOrder, count: int) -> list[Evicted]:
        return self._write(lambda connection: self._rows(connection).evict(keep(namespace), order, count), patient=True)

    @translated
    def clear(self, namespace: str) -> int:
        space = keep(namespace)

        def clear(connection: Connection) -> int:
            rows = self._rows(connection)
            rows.alone([space])
            held = connection.execute("SELECT id FROM vectors WHERE namespace = ?", (space,)).fetchall()
            for start in range(0, len(held), _PAGE):
                rows.forget_vectors([(space, id_) for (id_,) in held[start : start + _PAGE]])
            deleted = connection.execute("DELETE FROM experiences WHERE namespace = ?", (space,)).rowcount
            connection.execute("DELETE FROM logs WHERE namespace = ?", (space,))
            rows.set_cleared_at(space, now_us())
            self._dialect.announce(connection, space, ())
            return deleted

        return self._write(clear, patient=True)

    @translated
    def count(self, query: RecordQuery, *, limit: int | None = None) -> int:
        where = select(query, self._dialect)
        if where.rest:
            return len(self._handles(where, "seq", limit))
        at_most, values = ("", where.values) if limit is None else (" LIMIT ?", [*where.values, limit])
        ((found,),) = self._all(
            f"SELECT count(*) FROM (SELECT 1 AS one FROM experiences WHERE {where.term}{at_most}) AS found", values
        )
        return int(found)

    def scan(
        self, query: RecordQuery, *, order_by: str = "created_at", descending: bool = False, limit: int | None = None
    ) -> Iterator[Record]:
        for page in self._pages(query, order_by, descending, limit):
            yield from page

    @translated
    def _pages(self, query: RecordQuery, order_by: str, descending: bool, limit: int | None) -> Iterator[list[Record]]:
        """Rows page by page: all row numbers are read first (8 bytes each), so that no transaction stays open."""
        assert order_by in SCAN_ORDERS
        # The sign keeps SQLite from walking a whole namespace in this order to save sorting the few rows that match.
        few = query.pending or any(c.operator == "eq" and c.field in ("request", "key", "id") for c in query.where)
        nulls = self._dialect.nulls if order_by in _OPTIONAL else ("", "")  # without the words an index is in order
        direction = f"DESC{nulls[1]}" if descending else f"ASC{nulls[0]}"
        order = f'{self._dialect.unindexed if few else ""}"{order_by}" {direction}, seq'
        handles = self._handles(select(query, self._dialect), order, limit)
        return (self._page(handles[start : start + _PAGE]) for start in range(0, len(handles), _PAGE))

    def _handles(self, where: Where, order: str, limit: int | None) -> array[int]:
        at_most, values = ("", where.values) if limit is None or where.rest else (" LIMIT ?", [*where.values, limit])
        statement = f"SELECT seq{where.looked_at} FROM experiences WHERE {where.term} ORDER BY {order}{at_most}"
        rows = self._all(statement, values, patient=True)
        if not where.rest:
            return array("q", (seq for (seq,) in rows))
        found = array("q")
        for seq, *values in rows:
            row = SimpleNamespace(**dict(zip(where.fields, map(expanded, values), strict=True)))
            if all(holds(condition, row) for condition in where.rest):
                found.append(seq)
        return found[:limit]

    @translated
    def _page(self, handles: Sequence[int]) -> list[Record]:
        statement = f"SELECT seq, checksum, {NAMES} FROM experiences WHERE seq IN ({marks(len(handles))})"
        by_handle = {row[0]: self._read_row(row[1], row[2:]) for row in self._all(statement, handles)}
        return [record for handle in handles if (record := by_handle.get(handle)) is not None]

    @translated
    def touch_many(self, namespace: str, touches: Sequence[Touch]) -> None:
        statement = (
            "UPDATE experiences SET access_count = access_count + ?, "
            f"last_access = {self._dialect.greatest}(coalesce(last_access, 0), ?) WHERE namespace = ? AND id = ?"
        )
        ordered = sorted(touches, key=lambda touch: touch.id)  # two who use the same rows do not wait for each other
        rows = [(touch.count, touch.last_access, keep(namespace), keep(touch.id)) for touch in ordered]
        self._write(lambda connection: connection.executemany(statement, rows))

    @translated
    def complete_many(self, completions: Sequence[Completion]) -> None:
        for start in range(0, len(completions), _PAGE):
            page = completions[start : start + _PAGE]
            self._write(lambda connection, page=page: self._rows(connection).settle(page))  # type: ignore[misc]

    @translated
    def enqueue(self, query: RecordQuery, task: TaskKind) -> int:
        where, (now, values) = select(query, self._dialect), self._dialect.now()
        change = f"UPDATE experiences SET {task}_due = {now}, {task}_tries = 0 WHERE is_current = 1 AND"
        if not where.rest:
            return self._write(lambda c: c.execute(f"{change} {where.term}", (*values, *where.values)).rowcount)
        handles, owing = self._handles(where, "seq", None), 0
        for start in range(0, len(handles), _PAGE):
            some = handles[start : start + _PAGE]
            statement = f"{change} seq IN ({marks(len(some))})"
            owing += self._write(lambda c, s=statement, v=(*values, *some): c.execute(s, v).rowcount)  # type: ignore[misc]
        return owing

    # Vectors and requests

    @translated
    def get_vectors(self, namespace: str, ids: Sequence[str]) -> list[Vector | None]:
        found: dict[str, Vector] = {}
        for start in range(0, len(ids), _PAGE):
            some = [keep(id_) for id_ in ids[start : start + _PAGE]]
            statement = (
                f"SELECT id, embedder, data, whole FROM vectors WHERE namespace = ? AND id IN ({marks(len(some))})"
            )
            for id_, embedder, data, whole in self._all(statement, (keep(namespace), *some)):
                found[restore(id_)] = Vector(restore(embedder), data, bool(whole))
        return [found.get(id_) for id_ in ids]

    @translated
    def vectors_after(self, namespace: str, embedder: str, position: int, limit: int) -> list[VectorRow]:
        space = (keep(namespace), keep(embedder), position, limit)
        return [  # one statement: both parts as they are at one moment
            VectorRow(
                id=restore(id_),
                namespace=namespace,
                function=restore(function or ""),
                version=restore(version or ""),
                reuse_scope=scope or "",
                position=at,
                vector=None if data is None else Vector(embedder, data, bool(whole)),
            )
            for id_, function, version, scope, at, data, whole in self._all(_VECTORS_AFTER, (*space, *space, limit))
        ]

    @translated
    def partitions(self, namespace: str | None = None) -> dict[IndexPartition, int]:
        where, values = ("", ()) if namespace is None else ("WHERE namespace = ?", (keep(namespace),))
        statement = f"SELECT namespace, embedder, count(*) FROM vectors {where} GROUP BY namespace, embedder"
        rows = self._all(statement, values, patient=True)
        return {IndexPartition(restore(space), restore(embedder)): int(count) for space, embedder, count in rows}

    @translated
    def requests_after(self, namespace: str, position: int, limit: int) -> list[RequestRow]:
        # The sign keeps SQLite from sorting the whole namespace: rows stand in the order of seq.
        listed = self._dialect.listed
        statement = (
            f'SELECT id, "function", version, request, {listed} FROM experiences WHERE {listed} > ? '
            f"AND {self._dialect.unindexed}namespace = ? AND is_current = 1 ORDER BY {listed} LIMIT ?"
        )
        return [
            RequestRow(restore(id_), restore(function), restore(version), restore(request), at)
            for id_, function, version, request, at in self._all(statement, (position, keep(namespace), limit))
        ]

    # Maintenance

    @translated
    def tidy(self, forget_before: int) -> None:
        if forget_before - self._tidied < _TIDY_EVERY_US:
            return

        def forget(connection: Connection) -> None:
            connection.execute("DELETE FROM tombstones WHERE deleted_at < ?", (forget_before,))
            connection.execute("DELETE FROM forgotten WHERE forgotten_at < ?", (forget_before,))
            connection.execute("DELETE FROM leases WHERE expires_at < ?", (forget_before,))

        self._write(forget, patient=True)
        self._tidied = forget_before

    def _damaged_rows(self) -> list[str]:
        """Rows whose checksum is wrong: the engine itself may not notice a changed byte."""
        damaged, after = [], 0
        statement = f"SELECT seq, checksum, {NAMES} FROM experiences WHERE seq > ? ORDER BY seq LIMIT ?"
        while rows := self._all(statement, (after, _PAGE)):
            damaged += [
                f"{row[0]} of {row[_FUNCTION]}" for _, check, *row in rows if check not in (None, checksum(row))
            ]
            after = rows[-1][0]
        named = ", ".join(damaged[:_NAMED]) + (" and others" if len(damaged) > _NAMED else "")
        return [f"{len(damaged)} experiences are damaged and left out: {named}"] if damaged else []
