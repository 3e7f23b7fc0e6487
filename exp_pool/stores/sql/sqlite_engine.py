"""Record store on an SQLite file: dialect, transactions, leases and remedies, for `SqliteStore` and `JsonStore`."""

from __future__ import annotations

import glob
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from loguru import logger

from exp_pool.core.contracts.plugs import Capabilities
from exp_pool.core.record import Record
from exp_pool.errors import StoreError
from exp_pool.runtime.clock import now_us
from exp_pool.stores.sql.dialect import Connection, Dialect, first_on_conflict, upsert_on_conflict
from exp_pool.stores.sql.engine import translated
from exp_pool.stores.sql.sqlite_file import SqliteFile
from exp_pool.stores.sql.sqlite_rescue import SET_ASIDE
from exp_pool.stores.sql.store import SqlStore

R = TypeVar("R")

# The lease, unless there is a fresh row (whatever: or even then), or somebody else has a lease that has not ended.
# Values go by name: of numbered ones Python 3.12 warns, and 3.14 takes no sequence for them.
_CLAIM = """
    INSERT INTO leases (namespace, key, owner, token, expires_at)
    SELECT :namespace, :key, :owner, :token, :until WHERE :whatever OR NOT EXISTS (
        SELECT 1 FROM experiences
        WHERE namespace = :namespace AND key = :key AND is_current = 1 AND (expires_at IS NULL OR expires_at > :now))
    ON CONFLICT (namespace, key) DO UPDATE
    SET owner = excluded.owner, token = max(excluded.token, token + 1), expires_at = excluded.expires_at
    WHERE leases.expires_at <= :now OR leases.owner = excluded.owner
    RETURNING token"""


def _draw(connection: Connection, namespace: str, count: int) -> int:  # noqa: ARG001  (one count for all)
    connection.execute("UPDATE counters SET value = value + ? WHERE name = 'position'", (count,))
    (last,) = connection.execute("SELECT value FROM counters WHERE name = 'position'").fetchone()
    return int(last) - count + 1


_DIALECT = Dialect(
    now=lambda: ("?", [now_us()]),
    draw=_draw,
    alone=lambda _connection, _namespace: None,  # who writes is alone anyway
    listed="seq",
    upsert=upsert_on_conflict,
    first=first_on_conflict,
    hashed=("substr(request_hash, 1, 12)", 12),
    position="instr",
    greatest="max",
    unindexed="+",
    json=True,
)


class SqliteEngine(SqlStore):
    """A record store in one SQLite file, shared by threads and processes of one machine.

    Args:
        file: the file; it and its folder are created at first use.
        place: what errors name.
        compress_above: characters above which arguments, responses and corrections are compressed; None: never.
    """

    capabilities = Capabilities(durable=True, shared=True, leases=True)
    errors = (sqlite3.Error,)

    def __init__(self, file: SqliteFile, place: Path, compress_above: int | None) -> None:
        self._file = file
        self.path = place
        super().__init__(str(place), _DIALECT, compress_above)

    def __del__(self) -> None:
        with suppress(StoreError, AttributeError):  # it may not have been made whole
            self.close()

    @translated
    def close(self) -> None:
        self._file.close()

    def _read(self, work: Callable[[Connection], R], *, patient: bool = False) -> R:  # noqa: ARG002
        with self._file.read() as connection:
            return work(connection)

    def _write(self, work: Callable[[Connection], R], *, patient: bool = False) -> R:  # noqa: ARG002
        with self._file.write() as connection:
            return work(connection)

    def remedy(self, err: Exception) -> str:
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

    def _fresh(self, record: Record) -> bool:
        return not record.expired(now_us())

    def _take(
        self, place: tuple[str, str], owner: str, random: int, ttl_us: int, *, whatever_is_there: bool
    ) -> tuple[int, int] | None:
        now = now_us()
        token, until = now << 10 | random, now + ttl_us
        values = {
            "namespace": place[0],
            "key": place[1],
            "owner": owner,
            "token": token,
            "until": until,
            "now": now,
            "whatever": whatever_is_there,
        }
        with self._file.lock() as connection:  # one statement: half the time of a read and a write in a transaction
            taken = connection.execute(_CLAIM, values).fetchall()
        return (taken[0][0], until) if taken else None

    def _page(self, handles: Sequence[int]) -> list[Record]:
        try:
            return super()._page(handles)
        except StoreError as err:
            if "locked" in str(err):
                raise
            if len(handles) == 1:  # the others can be read; `check` names this one
                logger.warning("a row was left out, because it cannot be read: {}", err)
                return []
            return [record for handle in handles for record in self._page([handle])]

    # Maintenance

    def set_aside(self) -> list[Path]:
        """Files that a restore or a repair has put beside the pool's file; they hold what was in it then."""
        beside, name = self._file.path.parent, glob.escape(self._file.path.name)
        return sorted(path for why in SET_ASIDE for path in beside.glob(f"{name}.{why}-*"))

    @translated
    def tidy(self, forget_before: int) -> None:
        super().tidy(forget_before)
        self._file.checkpoint()

    @translated
    def vacuum(self) -> None:
        self._file.vacuum()
