"""``sqlite:///file``: the embedded default. WAL, one writer at a time, readers beside it.

Durability: an acknowledged write survives a killed process (WAL with ``synchronous=NORMAL``); a power cut may take the
last ones, never the file. Files are 0600 in a folder of 0700, if this store creates it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from loguru import logger

from exp_pool.core.config import ExpPoolConfig
from exp_pool.errors import StoreError
from exp_pool.runtime.files import create_file
from exp_pool.stores.sql.engine import translated
from exp_pool.stores.sql.sqlite_engine import SqliteEngine
from exp_pool.stores.sql.sqlite_file import SqliteFile
from exp_pool.stores.sql.sqlite_rescue import repair, restore_from


class SqliteStore(SqliteEngine):
    """A record store in one SQLite file, shared by threads and processes of one machine.

    Args:
        path: the file; it and its folder are created at first use.
        timeout_s: how long to wait for another writer before giving up.
        compress_above: characters above which arguments, responses and corrections are compressed; None: never.
    """

    def __init__(self, path: str | Path, timeout_s: float = 5.0, compress_above: int | None = 65536) -> None:
        super().__init__(SqliteFile(path, timeout_s), Path(path), compress_above)

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig) -> SqliteStore:
        """The store of ``sqlite:///file``."""
        return cls(location, config.store_timeout, config.compress_above)

    @translated
    def check(self) -> list[str]:
        remedy = "run `exp-pool doctor --fix`: it keeps what can be read, and sets the damaged file aside"
        try:
            found = self._file.quick_check()
            found += self._damaged_rows() if not found else []
        except sqlite3.DatabaseError as err:
            found = [str(err)]
        return [f"{self.path}: {what}; {remedy}" for what in found]

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
