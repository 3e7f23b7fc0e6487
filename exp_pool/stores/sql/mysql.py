"""``mysql://user:password@host:port/database``: MariaDB 10.6, MySQL 8.0 or newer, through PyMySQL.

The database should be the pool's own. Parameters: ``?ssl=true`` (with the system's authorities), ``ssl_ca=file``.
Names that are part of a key (namespace, id, key, names of states and logs) have 255 or 500 characters at most there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Capabilities
from exp_pool.errors import ConfigurationError, StoreError
from exp_pool.runtime.display import without_password
from exp_pool.runtime.plugs import to_install
from exp_pool.stores.sql.connections import ServerUnavailable
from exp_pool.stores.sql.dialect import Connection, Cursor, Dialect, marks, percent_marks
from exp_pool.stores.sql.engine import translated
from exp_pool.stores.sql.server import ServerStore
from exp_pool.stores.sql.server_schema import Types

try:
    import pymysql
    from pymysql.constants import CR, ER, SERVER_STATUS
except ImportError as err:
    raise ConfigurationError(f"mysql:// needs PyMySQL: {to_install('mysql')}") from err

_PORT = 3306
_OLDEST = {"MariaDB": (10, 6), "MySQL": (8, 0)}
# Text is compared by its characters' numbers, blanks at its end count: as Python does.
_COLLATIONS = {"MariaDB": "utf8mb4_nopad_bin", "MySQL": "utf8mb4_0900_bin"}
_MODE = "ANSI_QUOTES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION"
_NOW = "CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)"
_LOST = frozenset(
    {CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, CR.CR_CONN_HOST_ERROR, CR.CR_CONNECTION_ERROR, 0}
    | {ER.SERVER_SHUTDOWN, 1927, 4031}  # killed by MariaDB, closed as idle by MySQL
)

_MET = frozenset({ER.DUP_ENTRY, ER.LOCK_DEADLOCK})
_TABLES = ("experiences", "vectors", "forgotten", "tombstones", "states", "logs")


def _alone(connection: Connection, namespace: str, count: int = 0) -> None:
    statement = (
        "INSERT INTO counters (namespace, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE value = value + VALUES(value)"
    )
    connection.execute(statement, (namespace, count))


def _draw(connection: Connection, namespace: str, count: int) -> int:
    _alone(connection, namespace, count)
    (last,) = connection.execute("SELECT value FROM counters WHERE namespace = ?", (namespace,)).fetchone()
    return int(last) - count + 1


@functools.lru_cache(64)
def _upsert(table: str, key: tuple[str, ...], others: tuple[str, ...], **changes: str) -> str:
    assigned = (
        f"{name} = {changes.get(name, '{new}').format(old=name, new=f'VALUES({name})')}" for name in others or key[:1]
    )
    names = (*key, *others)
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks(len(names))}) "
        f"ON DUPLICATE KEY UPDATE {', '.join(assigned)}"
    )


def _first(table: str, key: Sequence[str], others: Mapping[str, str]) -> str:
    columns = ", ".join(f'"{name}"' for name in (*key, *others))
    values = ", ".join((marks(len(key)), *others.values()))
    same = f'"{key[0]}" = {table}."{key[0]}"'  # IGNORE would ignore other troubles, too
    return f"INSERT INTO {table} ({columns}) VALUES ({values}) ON DUPLICATE KEY UPDATE {same}"


_DIALECT = Dialect(
    now=lambda: (_NOW, []),
    draw=_draw,
    alone=_alone,
    listed="listed",
    upsert=_upsert,
    first=_first,
    hashed=("request_hash", 64),
    position="instr",
    greatest="greatest",
    lock=" FOR UPDATE",
    scoped=True,
)


class _MysqlSession:
    """A connection of PyMySQL as `Connection`: statements have ``?`` for values."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor:
        cursor: Any = self._connection.cursor()
        cursor.execute(percent_marks(statement), tuple(values))
        return cursor  # type: ignore[no-any-return]

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]], /) -> None:
        self._connection.cursor().executemany(percent_marks(statement), [tuple(row) for row in rows])


class MysqlStore(ServerStore[Any]):
    """A record store in a MariaDB or MySQL database, shared by processes and hosts.

    Args:
        url: ``mysql://...``.
        timeout_s: how long each call waits: for a connection, for the server, for other transactions.
    """

    capabilities = Capabilities(durable=True, shared=True, leases=True)
    errors = (pymysql.Error, ServerUnavailable)

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        parts = urlsplit(url)
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = sorted(parameters.keys() - {"ssl", "ssl_ca"})
        place = without_password(url)
        if unknown:
            raise ConfigurationError(f"{place}: unknown parameter {unknown[0]!r}; known: ssl, ssl_ca")
        self._database = unquote(parts.path.strip("/"))
        if not self._database or "/" in self._database:
            raise ConfigurationError(f"{place} names no database; write mysql://user:password@host:3306/database")
        self._options: dict[str, Any] = {
            "host": parts.hostname or "127.0.0.1",
            "port": parts.port or _PORT,
            "user": unquote(parts.username or "root"),
            "password": unquote(parts.password or "").encode(),  # text PyMySQL would send as Latin-1
            "database": self._database,
        }
        if parameters.get("ssl", "").lower() in ("1", "true", "yes") or "ssl_ca" in parameters:
            self._options["ssl"] = {"ca": parameters.get("ssl_ca")}
        super().__init__(place, _DIALECT, timeout_s)

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig) -> MysqlStore:
        """The store of ``mysql://...``."""
        return cls(location, config.store_timeout)

    # Connections

    def _connect(self) -> Any:
        try:
            connection = pymysql.connect(
                **self._options,
                charset="utf8mb4",
                autocommit=True,
                connect_timeout=max(1, math.ceil(self._timeout_s)),
                read_timeout=self._timeout_s,
                write_timeout=self._timeout_s,
                # Two who change one row wait for each other at most so long.
                init_command=(
                    f"SET SESSION sql_mode = '{_MODE}', time_zone = '+00:00', "
                    f"innodb_lock_wait_timeout = {max(1, math.ceil(self._timeout_s))}"
                ),
            )
        except (pymysql.Error, RuntimeError) as err:  # RuntimeError: a way to log in that needs another package
            raise ServerUnavailable(_said(err)) from err
        kind, version = _kind(connection.get_server_info())
        if version < _OLDEST[kind]:
            connection.close()
            oldest = ".".join(map(str, _OLDEST[kind]))
            raise StoreError(f"{self.place} is {kind} {'.'.join(map(str, version))}; exp_pool needs {oldest} or newer")
        # Rows that were only looked at are not locked. (The variable has another name in each of the two.)
        connection.cursor().execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        return connection

    def _usable(self, connection: Any) -> bool:
        return bool(connection.open) and not connection.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS

    @contextmanager
    def _reading(self, connection: Any, timeout_s: float) -> Iterator[Connection]:
        connection._read_timeout = timeout_s  # noqa: SLF001  (PyMySQL has no other way to change it)
        try:
            yield _MysqlSession(connection)
        except pymysql.Error as err:
            if isinstance(err, pymysql.err.InterfaceError) or _code(err) in _LOST:
                connection._force_close()  # noqa: SLF001  (`close` would wait for the server once more)
                raise ServerUnavailable(_said(err), hung="timed out" in str(err)) from err
            raise

    @contextmanager
    def _writing(self, connection: Any, timeout_s: float) -> Iterator[Connection]:
        with self._reading(connection, timeout_s) as session:
            session.execute("START TRANSACTION")
            try:
                yield session
            except BaseException:
                with suppress(pymysql.Error):
                    connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def _migrating(self, connection: Any) -> Iterator[Connection]:
        with self._reading(connection, self._timeout_s) as session:
            lock = (f"exp_pool {self._database}"[:64],)
            (locked,) = session.execute("SELECT GET_LOCK(?, ?)", (*lock, math.ceil(self._timeout_s))).fetchone()
            if not locked:
                raise StoreError(f"{self.place}: another process has been changing the schema for too long")
            try:
                yield session
            finally:
                session.execute("SELECT RELEASE_LOCK(?)", lock)

    def _types(self, connection: Connection) -> Types:
        (version,) = connection.execute("SELECT version()").fetchone()
        collation = _COLLATIONS[_kind(version)[0]]
        return Types(
            text="LONGTEXT",
            blob="LONGBLOB",
            real="DOUBLE",
            row_number="BIGINT AUTO_INCREMENT PRIMARY KEY",
            name="VARCHAR({})",
            table_end=f" ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {collation}",
            partial=False,
            prefix="(191)",
        )

    def _tables(self, connection: Connection) -> list[str]:
        statement = "SELECT table_name FROM information_schema.tables WHERE table_schema = ?"
        return [str(name) for (name,) in connection.execute(statement, (self._database,)).fetchall()]

    def _met_another(self, err: Exception) -> bool:
        return _code(err) in _MET

    def remedy(self, err: Exception) -> str:
        text = str(err).lower()
        for sign, remedy in (
            ("access denied", " Check user and password in store='mysql://user:password@...', and what they may do"),
            ("denied to user", " Let the user make tables, read and write: GRANT ALL ON database.* TO ..."),
            ("unknown database", " Create it: CREATE DATABASE name, or name another one"),
            ("cryptography", f" Its way to log in needs the package cryptography: {to_install('mysql')}"),
            ("insecure transport", " The server wants TLS: add ?ssl=true"),
            ("certificate", " Check ?ssl_ca=file and the server's certificate"),
            ("ssl", " Check ?ssl=true, ?ssl_ca=file and the server's certificate"),
            ("too many connections", " Raise max_connections there: each manager has up to 16"),
            ("lock wait timeout", " Another transaction held a row for longer than store_timeout"),
            ("max_allowed_packet", " The answer is larger than max_allowed_packet there: raise it"),
            ("packet bigger", " The answer is larger than max_allowed_packet there: raise it"),
            ("data too long", " Namespaces and function names may have 255 characters, ids 500"),
            ("read-only", " It is a replica: name the primary"),
            ("full", " Free some disk space there; nothing that was stored is lost"),
            ("refused", " Start the server, or check host and port"),
            ("name or service", " Check the name of the host"),
            ("timed out", " The server hangs or is out of reach: check host, port, firewall, or raise store_timeout"),
        ):
            if sign in text:
                return remedy
        return ""

    # Maintenance

    @translated
    def vacuum(self) -> None:
        def vacuum(session: Connection) -> None:
            for table in _TABLES:
                session.execute(f"OPTIMIZE TABLE {table}").fetchall()

        self._read(vacuum, patient=True)


def _code(err: Exception) -> int:
    return err.args[0] if err.args and isinstance(err.args[0], int) else -1


def _said(err: Exception) -> str:
    return str(err.args[1]) if len(err.args) > 1 else str(err)


def _kind(version: str) -> tuple[str, tuple[int, ...]]:
    """Which server, and its version, of what it says: ``8.4.2``, ``5.5.5-10.11.6-MariaDB-1``."""
    kind = "MariaDB" if "mariadb" in version.lower() else "MySQL"
    numbers = version.removeprefix("5.5.5-").split("-")[0].split(".")
    return kind, tuple(int(number) for number in numbers[:2] if number.isdigit())
