"""``sqlite:///file``: the embedded default. WAL, one writer at a time, readers beside it.

Durability: an acknowledged write survives a killed process (WAL with ``synchronous=NORMAL``); a power cut may take the
last ones, never the file. Files are 0600 in a folder of 0700, if this store creates it.
"""

from __future__ import annotations

import glob
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from loguru import logger

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Capabilities
from exp_pool.core.record import Record
from exp_pool.errors import StoreError
from exp_pool.runtime.clock import now_us
from exp_pool.runtime.files import create_file
from exp_pool.stores.sql.dialect import Connection, Dialect, first_on_conflict, upsert_on_conflict
from exp_pool.stores.sql.engine import translated
from exp_pool.stores.sql.sqlite_file import SqliteFile
from exp_pool.stores.sql.sqlite_rescue import SET_ASIDE, repair, restore_from
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


class SqliteStore(SqlStore):
    """A record store in one SQLite file, shared by threads and processes of one machine.

    Args:
        path: the file; it and its folder are created at first use.
        timeout_s: how long to wait for another writer before giving up.
        compress_above: characters above which arguments, responses and corrections are compressed; None: never.
    """

    capabilities = Capabilities(durable=True, shared=True, leases=True)
    errors = (sqlite3.Error,)

    def __init__(self, path: str | Path, timeout_s: float = 5.0, compress_above: int | None = 65536) -> None:
        self._file = SqliteFile(path, timeout_s)
        self.path = self._file.path
        super().__init__(str(self.path), _DIALECT, compress_above)

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig) -> SqliteStore:
        """The store of ``sqlite:///file``."""
        return cls(location, config.store_timeout, config.compress_above)

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

    # Upkeep

    @translated
    def tidy(self, forget_before: int) -> None:
        super().tidy(forget_before)
        self._file.checkpoint()

    @translated
    def vacuum(self) -> None:
        self._file.vacuum()

    @translated
    def check(self) -> list[str]:
        remedy = "run `exp-pool doctor --fix`: it keeps what can be read, and sets the damaged file aside"
        try:
            found = self._file.quick_check()
            found += self._damaged_rows() if not found else []
        except sqlite3.DatabaseError as err:
            found = [str(err)]
        return [f"{self.path}: {what}; {remedy}" for what in found]

    def set_aside(self) -> list[Path]:
        """Files that a restore or a repair has put beside the pool; they hold what was in it then."""
        return sorted(p for why in SET_ASIDE for p in self.path.parent.glob(f"{glob.escape(self.path.name)}.{why}-*"))

    @translated
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

    @translated
    def restore(self, source: str | Path) -> Path | None:
        """Put a copy of a backup in the place of the pool; where the present file was set aside, if there was one.

        Raises:
            StoreError: the backup is damaged or no pool, or another process has the pool open. Nothing was changed.
        """
        with self._file.put_down():
            return restore_from(self.path, Path(source), self._file.timeout_s)

    @translated
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
