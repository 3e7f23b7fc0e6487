"""SQL tables beside that of the rows: leases, named states, logs, tombstones."""

from __future__ import annotations

import secrets
from abc import abstractmethod
from collections.abc import Sequence

from exp_pool.core.contracts.plugs import Claim, Deletion, Lease, LogEntry, Names, State
from exp_pool.core.record import Record
from exp_pool.stores.columns import keep, restore
from exp_pool.stores.sql.dialect import Connection
from exp_pool.stores.sql.engine import SqlEngine, translated
from exp_pool.stores.sql.rows import Rows

_RANDOM_BITS = 10  # of a token, which otherwise is the time: they keep two leases of one microsecond apart


class SqlSideTables(SqlEngine):
    """Leases, states, logs and tombstones of a store that speaks SQL."""

    def _rows(self, connection: Connection) -> Rows:
        return Rows(connection, self._dialect, self._compress_above)

    @abstractmethod
    def _current(self, namespace: str, key: str) -> tuple[bool, Record | None]:
        """Whether the key has a current row; and the row, None where it is damaged."""

    # Leases

    @translated
    def claim(self, namespace: str, key: str, owner: str, ttl_s: float, passing: str | None = None) -> Claim:
        _, record = self._current(namespace, key)  # most claims find the row; reading needs no lock
        passed = record is not None and record.id == passing
        if record is not None and not passed and self._fresh(record):
            return Claim(record=record)
        place, random = (keep(namespace), keep(key)), secrets.randbits(_RANDOM_BITS)
        taken = self._take(place, keep(owner), random, int(ttl_s * 1e6), whatever_is_there=passed)
        lease = None if taken is None else Lease(namespace, key, owner, *taken)
        if passed or lease is None:  # somebody else computes it, or has stored it meanwhile; or the row is damaged
            there, record = self._current(namespace, key)
            if record is not None and record.id != passing:
                if lease is not None:
                    self.release(lease)
                return Claim(record=record if self._fresh(record) else None)
            if there and record is None:
                taken = self._take(place, keep(owner), random, int(ttl_s * 1e6), whatever_is_there=True)
                lease = None if taken is None else Lease(namespace, key, owner, *taken)
        return Claim(lease=lease)

    def _fresh(self, record: Record) -> bool:
        """Whether a row has not expired, by the store's clock."""
        if record.expires_at is None:
            return True
        now, values = self._dialect.now()
        ((fresh,),) = self._all(f"SELECT ? > {now}", (record.expires_at, *values))
        return bool(fresh)

    @abstractmethod
    def _take(
        self, place: tuple[str, str], owner: str, random: int, ttl_us: int, *, whatever_is_there: bool
    ) -> tuple[int, int] | None:
        """Token and end of the lease of a (namespace, key).

        None where somebody else has it, or a fresh row is there, unless `whatever_is_there`: it is known to be damaged,
        or to be no answer. Tokens grow with the time.
        """

    @translated
    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        now, values = self._dialect.now()
        mine = (keep(lease.namespace), keep(lease.key), lease.token)
        where = 'WHERE namespace = ? AND "key" = ? AND token = ?'

        def renew(connection: Connection) -> int | None:
            extended = f"UPDATE leases SET expires_at = {now} + ? {where}"
            connection.execute(extended, (*values, int(ttl_s * 1e6), *mine))
            row = connection.execute(f"SELECT expires_at FROM leases {where}", mine).fetchone()
            return None if row is None else int(row[0])

        until = self._write(renew)
        return None if until is None else Lease(lease.namespace, lease.key, lease.owner, lease.token, until)

    @translated
    def release(self, lease: Lease) -> None:
        statement = 'DELETE FROM leases WHERE namespace = ? AND "key" = ? AND token = ?'
        values = (keep(lease.namespace), keep(lease.key), lease.token)
        self._write(lambda connection: connection.execute(statement, values))

    # States and logs

    @translated
    def read_state(self, namespace: str, name: str) -> State | None:
        statement = "SELECT value, revision FROM states WHERE namespace = ? AND name = ?"
        rows = self._all(statement, (keep(namespace), keep(name)))
        return State(restore(rows[0][0]), rows[0][1]) if rows else None

    @translated
    def write_state(self, namespace: str, name: str, value: str, expected_revision: int | None) -> bool:
        ref = (keep(namespace), keep(name))
        change = (
            "UPDATE states SET value = ?, revision = revision + 1 WHERE namespace = ? AND name = ? AND revision = ?"
        )

        def write(connection: Connection) -> bool:
            if expected_revision is not None:
                return connection.execute(change, (keep(value), *ref, expected_revision)).rowcount == 1
            there = f"SELECT 1 FROM states WHERE namespace = ? AND name = ?{self._dialect.lock}"
            if connection.execute(there, ref).fetchone() is not None:
                return False
            connection.execute(
                "INSERT INTO states (namespace, name, value, revision) VALUES (?, ?, ?, 1)", (*ref, keep(value))
            )
            return True

        return self._write(write)

    @translated
    def append_log(self, namespace: str, name: str, entries: Sequence[str]) -> int:
        if not entries:
            return 0
        ref = (keep(namespace), keep(name))

        def append(connection: Connection) -> int:
            first = self._dialect.draw(connection, ref[0], len(entries))
            rows = [(first + number, *ref, keep(entry)) for number, entry in enumerate(entries)]
            connection.executemany("INSERT INTO logs (position, namespace, name, entry) VALUES (?, ?, ?, ?)", rows)
            return first + len(entries) - 1

        return self._write(append)

    @translated
    def read_log(self, namespace: str, name: str, *, after: int = 0, limit: int = 1000) -> list[LogEntry]:
        statement = (
            "SELECT position, entry FROM logs WHERE namespace = ? AND name = ? AND position > ? "
            "ORDER BY position LIMIT ?"
        )
        rows = self._all(statement, (keep(namespace), keep(name), after, limit))
        return [LogEntry(position, restore(entry)) for position, entry in rows]

    @translated
    def drop_logs(self, namespace: str, names: Sequence[str]) -> None:
        refs = [(keep(namespace), keep(name)) for name in names]
        if refs:
            statement = "DELETE FROM logs WHERE namespace = ? AND name = ?"
            self._write(lambda connection: connection.executemany(statement, refs))

    @translated
    def names(self, namespace: str) -> Names:
        states, logs = (
            sorted(restore(name) for (name,) in self._all(statement, (keep(namespace),)))
            for statement in (
                "SELECT name FROM states WHERE namespace = ?",
                "SELECT DISTINCT name FROM logs WHERE namespace = ?",
            )
        )
        return Names(states, logs)

    # Deletions

    @translated
    def deletions(self, namespace: str, *, after: str = "", limit: int = 1000) -> list[Deletion]:
        statement = "SELECT id, deleted_at FROM tombstones WHERE namespace = ? AND id > ? ORDER BY id LIMIT ?"
        rows = self._all(statement, (keep(namespace), keep(after), limit))
        return [Deletion(restore(id_), at) for id_, at in rows]

    @translated
    def cleared_at(self, namespace: str) -> int | None:
        rows = self._all("SELECT cleared_at FROM cutoffs WHERE namespace = ?", (keep(namespace),))
        return int(rows[0][0]) if rows else None

    @translated
    def apply_tombstones(self, namespace: str, deletions: Sequence[Deletion], cleared_at: int | None = None) -> None:
        space, deleted = keep(namespace), [(keep(id_), at) for id_, at in deletions]

        def write(connection: Connection) -> None:
            rows = self._rows(connection)
            rows.delete(space, [id_ for id_, _ in deleted])
            rows.apply_tombstones(space, deleted)
            if cleared_at is not None:
                rows.set_cleared_at(space, cleared_at)

        self._write(write)
