"""``postgresql://user:password@host:port/database``: PostgreSQL 14 or newer, through psycopg 3.

Tables lie in a schema of their own: ``exp_pool``, or ``?schema=name``. All other parameters are libpq's (``sslmode``,
``target_session_attrs``, several hosts). A pooler between must keep sessions (PgBouncer: ``pool_mode=session``), since
statements are prepared.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Capabilities, Neighbour, VectorQuery
from exp_pool.errors import ConfigurationError, StoreError
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.display import without_password
from exp_pool.runtime.plugs import to_install
from exp_pool.stores.columns import restore
from exp_pool.stores.listener import Listener, News, message
from exp_pool.stores.sql.connections import ServerUnavailable
from exp_pool.stores.sql.dialect import (
    Connection,
    Cursor,
    Dialect,
    first_on_conflict,
    percent_marks,
    upsert_on_conflict,
)
from exp_pool.stores.sql.engine import translated
from exp_pool.stores.sql.server import PATIENCE, ServerStore
from exp_pool.stores.sql.server_schema import Types

try:
    import psycopg
    from psycopg.pq import TransactionStatus
    from psycopg.types.string import BytesBinaryDumper

    from exp_pool.stores.sql import pgvector
except ImportError as err:
    raise ConfigurationError(f"postgresql:// needs psycopg: {to_install('postgres')}") from err

R = TypeVar("R")

_OLDEST = 140000
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,52}")  # and, as a channel, "exp_pool_" before it: 63 in all
_MIGRATING = 0x58504F4C  # the number of the advisory lock, "XPOL"
_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_TEND_EVERY_S = 60.0  # looking for spaces that have become large counts all vectors
_TABLES = ("experiences", "vectors", "forgotten", "tombstones", "states", "logs")


def _draw(connection: Connection, namespace: str, count: int) -> int:
    statement = (
        "INSERT INTO counters (namespace, value) VALUES (?, ?) "
        "ON CONFLICT (namespace) DO UPDATE SET value = counters.value + excluded.value RETURNING value"
    )
    (last,) = connection.execute(statement, (namespace, count)).fetchone()
    return int(last) - count + 1


def _alone(connection: Connection, namespace: str) -> None:
    statement = (
        "INSERT INTO counters (namespace, value) VALUES (?, 0) "
        "ON CONFLICT (namespace) DO UPDATE SET value = counters.value"
    )
    connection.execute(statement, (namespace,))


def _announce(connection: Connection, namespace: str, keys: Sequence[str]) -> None:
    # On a channel of the schema, which is where the connection looks first.
    said = message(restore(namespace), [restore(key) for key in keys])
    connection.execute("SELECT pg_notify('exp_pool_' || current_schema(), ?)", (said,))


_DIALECT = Dialect(
    now=lambda: (_NOW, []),
    draw=_draw,
    alone=_alone,
    listed="listed",
    upsert=upsert_on_conflict,
    first=first_on_conflict,
    hashed=("request_hash", 64),
    position="strpos",
    greatest="greatest",
    lock=" FOR UPDATE",
    announce=_announce,
    scoped=True,
    nulls=(" NULLS FIRST", " NULLS LAST"),
)
# Text is compared by its characters' numbers, as Python does, whatever the database's language.
_TYPES = Types(
    text='text COLLATE "C"',
    blob="bytea",
    real="double precision",
    row_number="bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    name='text COLLATE "C"',
    table_end="",
    partial=True,
    prefix="",
)


class _Link(psycopg.Connection[Any]):
    """A connection that waits for the server so long and no longer: libpq itself waits for ever."""

    timeout_s = 5.0
    searches = False  # whether it is prepared for pgvector

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, self.timeout_s if timeout is None else timeout)
        except psycopg.OperationalError as err:
            if type(err).__name__ != "_WaitTimeout" or timeout is not None:
                raise
            self.close()  # its answer may still come, to another question
            raise ServerUnavailable(f"no answer within {self.timeout_s:g} s", hung=True) from err


def _concerns_others(record: logging.LogRecord) -> bool:
    """Whether psycopg may log this.

    Of a link that is lost it warns once for each block that the error leaves, on stderr where logging is not
    configured. The error itself says the same.
    """
    about = record.args[0] if isinstance(record.args, tuple) and record.args else None
    return not isinstance(getattr(about, "_conn", None), _Link)


logging.getLogger("psycopg").addFilter(_concerns_others)


class _PostgresSession:
    """A connection of psycopg as `Connection`: statements have ``?`` and are sent until a result is read."""

    def __init__(self, link: _Link, pipeline: psycopg.Pipeline | None = None) -> None:
        self._link = link
        self._pipeline = pipeline

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor:
        cursor = self._link.execute(percent_marks(statement), values or None, binary=True)
        return cursor if self._pipeline is None else _Sent(cursor, self._pipeline)

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]], /) -> None:
        with self._link.cursor() as cursor:
            cursor.executemany(percent_marks(statement), rows)


class _Sent:
    """The result of a statement that may not have been answered yet."""

    def __init__(self, cursor: psycopg.Cursor[Any], pipeline: psycopg.Pipeline) -> None:
        self._cursor = cursor
        self._pipeline = pipeline
        self.fetchone = cursor.fetchone
        self.fetchall = cursor.fetchall

    @property
    def rowcount(self) -> int:
        if self._cursor.rowcount < 0:
            self._pipeline.sync()
        return self._cursor.rowcount


class PostgresStore(ServerStore[_Link]):
    """A record store in a schema of a PostgreSQL database, shared by processes and hosts.

    Args:
        url: ``postgresql://...``.
        timeout_s: how long each call waits: for a connection, for the server, for other transactions.
    """

    capabilities = Capabilities(durable=True, shared=True, leases=True)
    errors = (psycopg.Error, ServerUnavailable)

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        base, _, query = url.partition("?")
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        self._name = parameters.pop("schema", "exp_pool")
        if not _SCHEMA.fullmatch(self._name):
            raise ConfigurationError(
                f"schema={self._name!r} must be lower-case letters, digits and underscores, at most 53, no digit first"
            )
        self._conninfo = base + (f"?{urlencode(parameters)}" if parameters else "")
        super().__init__(without_password(url), _DIALECT, timeout_s)
        self._index_from: int | None = None
        self._tended = -_TEND_EVERY_S

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig) -> PostgresStore:
        """The store of ``postgresql://...``."""
        return cls(location, config.store_timeout)

    # Connections

    def _connect(self) -> _Link:
        try:
            link = _Link.connect(
                self._conninfo,
                autocommit=True,
                connect_timeout=max(1, math.ceil(self._timeout_s)),
                application_name="exp_pool",
            )
        except psycopg.OperationalError as err:
            raise ServerUnavailable(_said(err)) from err
        try:
            self._greet(link)
        except BaseException:
            link.close()
            raise
        return link

    def _greet(self, link: _Link) -> None:
        link.adapters.register_dumper(bytes, BytesBinaryDumper)
        if link.info.server_version < _OLDEST:
            raise StoreError(
                f"{self.place} is PostgreSQL {link.info.server_version // 10000}; exp_pool needs 14 or newer"
            )
        milliseconds = int(self._timeout_s * 1000)
        link.timeout_s = self._timeout_s
        with self._at(link):
            # A client that is stopped in a transaction holds what it has locked no longer than others wait for it.
            link.execute(
                f'SET search_path TO "{self._name}", public; SET lock_timeout = {milliseconds}; '
                f"SET idle_in_transaction_session_timeout = {milliseconds}; SET client_encoding TO 'UTF8'"
            )
            link.searches = pgvector.can_search(link)
            if link.searches:
                self._dialect = replace(_DIALECT, embedding=pgvector.Embedding)

    def _usable(self, connection: _Link) -> bool:
        return not connection.closed and connection.pgconn.transaction_status == TransactionStatus.IDLE

    @contextmanager
    def _at(self, link: _Link) -> Iterator[None]:
        """Raise `ServerUnavailable` for whatever goes wrong with the connection."""
        try:
            yield
        except psycopg.Error as err:
            if link.closed or link.broken:
                raise ServerUnavailable(_said(err)) from err
            raise

    @contextmanager
    def _reading(self, connection: _Link, timeout_s: float) -> Iterator[Connection]:
        connection.timeout_s = timeout_s
        with self._at(connection):
            yield _PostgresSession(connection)

    @contextmanager
    def _writing(self, connection: _Link, timeout_s: float) -> Iterator[Connection]:
        connection.timeout_s = timeout_s
        with self._at(connection), connection.pipeline() as pipeline, connection.transaction():
            yield _PostgresSession(connection, pipeline)

    @contextmanager
    def _migrating(self, connection: _Link) -> Iterator[Connection]:
        with self._reading(connection, self._timeout_s) as session, connection.transaction():
            session.execute("SELECT pg_advisory_xact_lock(?)", (_MIGRATING,))
            session.execute(f'CREATE SCHEMA IF NOT EXISTS "{self._name}"')
            yield session

    def _types(self, connection: Connection) -> Types:  # noqa: ARG002
        return _TYPES

    def _tables(self, connection: Connection) -> list[str]:
        statement = "SELECT table_name FROM information_schema.tables WHERE table_schema = ?"
        return [str(name) for (name,) in connection.execute(statement, (self._name,)).fetchall()]

    def _met_another(self, err: Exception) -> bool:
        met = (
            psycopg.errors.UniqueViolation,
            psycopg.errors.DeadlockDetected,
            psycopg.errors.SerializationFailure,
        )
        return isinstance(err, met)

    def remedy(self, err: Exception) -> str:
        for sign, remedy in (
            ("password authentication", " Check the user and the password in store='postgresql://user:password@...'"),
            ("no password supplied", " Give the password: store='postgresql://user:password@...', or PGPASSWORD"),
            ("pg_hba.conf", " The server lets this user in from nowhere, or wants TLS: add ?sslmode=require"),
            ("does not support ssl", " The server has no TLS: use ?sslmode=prefer, or switch TLS on there"),
            ("ssl", " Check sslmode, sslrootcert and the server's certificate"),
            (r'database "([^"]*)" does not exist', r" Create it, as the server's administrator: createdb \1"),
            (r'role "([^"]*)" does not exist', r" Create it, as the server's administrator: CREATE ROLE \1 LOGIN"),
            ("(relation|schema) .* does not exist", " It was dropped: restore it, or use another one: ?schema=NAME"),
            ("permission denied", " Let the user create the schema: GRANT CREATE ON DATABASE ... TO ..., or make it"),
            ("read-only", " It is a replica: name the primary, or several hosts and ?target_session_attrs=read-write"),
            ("too many", " Raise max_connections there, or use a pooler: each manager has up to 16 connections"),
            ("lock timeout", " Another transaction held a row for longer than store_timeout"),
            ("disk full", " Free some disk space there; nothing that was stored is lost"),
            ("no space left", " Free some disk space there; nothing that was stored is lost"),
            ("refused", " Start the server, or check host and port"),
            ("resolve", " Check the name of the host"),
            ("timeout", " Check host, port and firewall, or raise store_timeout"),
            ("no answer", " The server hangs or is overloaded; or raise store_timeout"),
        ):
            if found := re.search(sign, str(err), re.IGNORECASE):
                return found.expand(remedy)
        return ""

    # Changes by others

    def changes(
        self, heard: Callable[[str, Sequence[str] | None], object], listening: Callable[[bool], object]
    ) -> Callable[[], None]:
        """See `protocols.AnnouncingStore`; by LISTEN and NOTIFY."""
        return Listener(self._subscribe, heard, listening).stop

    @contextmanager
    def _subscribe(self) -> Iterator[News]:
        self._prepare()
        with closing(self._connect()) as link:
            link.execute(f'LISTEN "exp_pool_{self._name}"')

            def news(timeout_s: float) -> list[str]:
                found = [notice.payload for notice in link.notifies(timeout=timeout_s, stop_after=1)]
                if not found:
                    link.execute("SELECT 1")  # a connection that is lost says nothing of it
                return found

            yield news

    # Neighbours

    def search_from(self, index_from: int) -> None:
        """See `protocols.SearchingStore`."""
        self._index_from = index_from

    @translated
    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        """See `protocols.SearchingStore`."""
        self._prepare()

        def search(link: _Link) -> list[list[Neighbour]]:
            link.timeout_s = self._timeout_s
            with self._at(link):
                self._keep_embeddings(link)
                return pgvector.search(link, query)

        return self._connections.run(search)

    def _keep_embeddings(self, link: _Link) -> None:
        if not link.searches:
            with link.transaction():
                pgvector.enable(link, self.place)
            link.searches = True
            self._dialect = replace(_DIALECT, embedding=pgvector.Embedding)

    # Maintenance

    @translated
    def tidy(self, forget_before: int) -> None:
        super().tidy(forget_before)
        if self._index_from is None or monotonic() - self._tended < _TEND_EVERY_S:
            return
        index_from, spaces = self._index_from, self.partitions()

        def tend(link: _Link) -> None:
            link.timeout_s = self._timeout_s * PATIENCE
            with self._at(link):
                self._keep_embeddings(link)
                pgvector.tend(link, spaces, index_from)

        self._connections.run(tend)
        self._tended = monotonic()

    @translated
    def vacuum(self) -> None:
        def vacuum(session: Connection) -> None:
            for table in _TABLES:
                session.execute(f"VACUUM FULL {table}")

        self._read(vacuum, patient=True)  # outside of a transaction


def _said(err: Exception) -> str:
    return " ".join(str(err).split())
