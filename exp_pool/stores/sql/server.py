"""A record store on a database server that speaks SQL: connections, deadlines, retries, and the server's clock.

A statement is repeated only where that is safe: what only reads, on a new connection where the old one was lost; a
transaction that came to nothing, because it met another one (deadlock, two rows of one key) or was lost before its
COMMIT was sent. Where the answer to a COMMIT is lost, nobody knows, and the caller hears of trouble.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

from exp_pool.errors import StoreError
from exp_pool.stores.sql.connections import C, Connections
from exp_pool.stores.sql.dialect import Connection, Dialect
from exp_pool.stores.sql.engine import translated
from exp_pool.stores.sql.server_schema import MIGRATIONS, Types
from exp_pool.stores.sql.store import SqlStore

R = TypeVar("R")

_CONNECTIONS = 16  # a manager's threads, and those of a web server
_TRIES = 20  # of a transaction that meets others
PATIENCE = 60  # times store_timeout, for what looks at every row: counting, clearing, checking


class ServerStore(SqlStore, Generic[C]):
    """A record store on a server.

    Args:
        place: the URL without its password.
        dialect: of the engine.
        timeout_s: how long each call waits: for a connection, for the server, for other transactions.
    """

    def __init__(self, place: str, dialect: Dialect, timeout_s: float) -> None:
        super().__init__(place, dialect, None)  # servers compress by themselves, where it is worth it
        self._timeout_s = timeout_s
        self._ready = False
        self._connections: Connections[C] = Connections(self._connect, self._usable, timeout_s, _CONNECTIONS, place)

    # What an engine adds. Each gives the driver's errors as they are, but `ServerUnavailable` where the connection is
    # lost.

    @abstractmethod
    def _connect(self) -> C:
        """A new connection, which commits each statement by itself."""

    @abstractmethod
    def _usable(self, connection: C) -> bool:
        """Whether the connection is open, and in no transaction."""

    @abstractmethod
    def _reading(self, connection: C, timeout_s: float) -> AbstractContextManager[Connection]:
        """For statements that are each waited for so long."""

    @abstractmethod
    def _writing(self, connection: C, timeout_s: float) -> AbstractContextManager[Connection]:
        """For statements in one transaction, which ends with the block; each is waited for so long."""

    @abstractmethod
    def _migrating(self, connection: C) -> AbstractContextManager[Connection]:
        """For statements that change the schema, while no other process changes it."""

    @abstractmethod
    def _types(self, connection: Connection) -> Types:
        """Column types and indexes in the words of this server."""

    @abstractmethod
    def _tables(self, connection: Connection) -> list[str]:
        """The names of the tables that are there."""

    @abstractmethod
    def _met_another(self, err: Exception) -> bool:
        """Whether a transaction was undone by another one (deadlock, serialization); it is repeated then."""

    # What it gets

    def _read(self, work: Callable[[Connection], R], *, patient: bool = False) -> R:
        self._prepare()
        timeout_s = self._timeout_s * (PATIENCE if patient else 1)

        def read(connection: C) -> R:
            with self._reading(connection, timeout_s) as session:
                return work(session)

        return self._connections.run(read)

    def _write(self, work: Callable[[Connection], R], *, patient: bool = False) -> R:
        self._prepare()
        timeout_s = self._timeout_s * (PATIENCE if patient else 1)
        worked = False

        def write(connection: C) -> R:
            nonlocal worked
            worked = False
            with self._writing(connection, timeout_s) as session:
                done = work(session)
                worked = True  # from here on COMMIT may have been sent
                return done

        for _ in range(_TRIES - 1):
            try:
                return self._connections.run(write, lambda: not worked)
            except self.errors as err:
                if not self._met_another(err):
                    raise
        return self._connections.run(write, lambda: not worked)

    def _prepare(self) -> None:
        if not self._ready:
            self._connections.run(self._migrate)
            self._ready = True

    def _migrate(self, connection: C) -> None:
        """Bring the schema to the newest version.

        Raises:
            StoreError: the tables are of a newer version, or not ours.
        """
        with self._reading(connection, self._timeout_s) as session:
            if self._version(session) == len(MIGRATIONS):
                return
        with self._migrating(connection) as session:
            version = self._version(session)
            if version > len(MIGRATIONS):
                raise StoreError(
                    f"{self.place} is of schema version {version}; this version of exp_pool knows "
                    f"{len(MIGRATIONS)}: install a newer exp_pool"
                )
            if version == 0:
                strange = sorted({"experiences", "vectors", "logs", "states", "counters"} & set(self._tables(session)))
                if strange:
                    raise StoreError(
                        f"{self.place} holds tables that are not exp_pool's: {', '.join(strange)}; "
                        "give the pool a database or schema of its own"
                    )
                session.execute("CREATE TABLE exp_pool_schema (version INTEGER NOT NULL)")
                session.execute("INSERT INTO exp_pool_schema (version) VALUES (0)")
            types = self._types(session)
            for number, statements in enumerate(MIGRATIONS[version:], version + 1):
                for statement in statements(types):
                    session.execute(statement)
                session.execute("UPDATE exp_pool_schema SET version = ?", (number,))

    def _version(self, session: Connection) -> int:
        if "exp_pool_schema" not in self._tables(session):
            return 0
        row = session.execute("SELECT version FROM exp_pool_schema").fetchone()
        return 0 if row is None else int(row[0])

    # Leases

    def _take(
        self, place: tuple[str, str], owner: str, random: int, ttl_us: int, *, whatever_is_there: bool
    ) -> tuple[int, int] | None:
        """Take the lease, then look whether there is a row by now: whoever stored one has given the lease back."""
        now, _ = self._dialect.now()
        ours = 'namespace = ? AND "key" = ?'
        token = f"{now} * 1024 + ?"
        over = (
            f"UPDATE leases SET owner = ?, token = {self._dialect.greatest}(token + 1, {token}), "
            f"expires_at = {now} + ? WHERE {ours} AND (expires_at <= {now} OR owner = ?)"
        )
        first = self._dialect.first(
            "leases", ("namespace", "key"), {"owner": "?", "token": token, "expires_at": f"{now} + ?"}
        )
        fresh = (
            f"SELECT 1 FROM experiences WHERE {ours} AND is_current = 1 AND (expires_at IS NULL OR expires_at > {now})"
        )

        def take(session: Connection) -> tuple[int, int] | None:
            taken_over = session.execute(over, (owner, random, ttl_us, *place, owner))
            taken_first = session.execute(first, (*place, owner, random, ttl_us))
            if not (taken_over.rowcount or taken_first.rowcount):
                return None
            lease = session.execute(f"SELECT token, expires_at FROM leases WHERE {ours}", place)
            stored = session.execute(fresh, place)
            if stored.fetchone() is not None and not whatever_is_there:
                session.execute(f"DELETE FROM leases WHERE {ours}", place)
                return None
            number, until = lease.fetchone()
            return int(number), int(until)

        return self._write(take)

    # Maintenance

    @translated
    def check(self) -> list[str]:
        remedy = "what the server's own tools restore is found again; the others can only be deleted"
        return [f"{self.place}: {what}; {remedy}" for what in self._damaged_rows()]

    @translated
    def repair(self) -> list[str]:
        return []  # nothing that a client could mend: the server's own tools check, repair and restore its files

    @translated
    def close(self) -> None:
        self._connections.close()
