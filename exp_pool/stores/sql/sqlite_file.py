"""One SQLite file: its connections, its transactions, its schema, and what keeps it sound.

WAL, one writer at a time, readers beside it. Checkpoints are ours, not SQLite's: versions 3.7.0 to 3.51.2 may damage
the file where one process resets the log while another checkpoints it (sqlite.org/wal.html#walresetbug). Those that we
run (TRUNCATE) keep writers out meanwhile, and nothing else runs any.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from exp_pool.errors import StoreError
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.files import create_file, create_folder
from exp_pool.runtime.forks import reinit_after_fork, rest_during_fork
from exp_pool.runtime.notices import warn
from exp_pool.stores.sql.sqlite_schema import APPLICATION_ID, MIGRATIONS

T = TypeVar("T")

_IDLE_READERS = 16
_CACHE_KIB = 65536  # of the writer: hashes touch pages in no order, and SQLite's own 2 MB halve its speed
_LOOK_S = 0.001  # between two looks whether other threads rest, for a fork
_RESUME_S = 1.0  # after which a reader looks whether the fork is over
_CHECKPOINT_BYTES = 4 * 2**20  # of log, as SQLite's own default: what the background worker waits for
_URGENT_BYTES = 64 * 2**20  # what a writer does not wait for the worker with
_LOOK_EVERY = 64  # writes between two looks at the size of the log
_CHECKPOINT_WAIT_MS = 100  # for readers, while writers wait, too; it is tried again later
_PAGES_AT_ONCE = 1000  # of a backup, 4 MB: writers get their turn in between

_MOUNTS = Path("/proc/mounts")
_NETWORK = re.compile(r"nfs\d?|cifs|smb\w*|fuse\.sshfs|9p|afpfs|glusterfs|fuse\.glusterfs|ceph|lustre|ncpfs|beegfs")


@reinit_after_fork(leave=("_readers", "_writer"))
class SqliteFile:
    """The connections of one process to one file.

    Args:
        path: the file; it and its folder are created at first use.
        timeout_s: how long to wait for another writer before giving up.
        rest_s: how long a fork waits for other threads' transactions and statements.
    """

    def __init__(self, path: str | Path, timeout_s: float, rest_s: float = 1.0) -> None:
        self.path = Path(path)
        self.timeout_s = timeout_s
        self._rest_s = rest_s
        self._readers: deque[sqlite3.Connection] = deque()
        self._writer: sqlite3.Connection | None = None
        self._writing = threading.RLock()
        self._prepared = False
        self._writes = 0
        self._reading: list[None] = []  # one for each thread that reads; `append` and `pop` are not interrupted
        self._resting = threading.Event()
        self._resting.set()
        rest_during_fork(self._rest, self._resume)

    def _rest(self) -> None:
        """Before a fork: keep other threads out of SQLite, whose locks the child could never take, and close the file.

        A child that inherits connections has SQLite's note of the parent's locks, and takes none of its own: the next
        process that closes the file believes that it is the last, and removes the log in which the child writes.
        """
        self._resting.clear()
        self._rested = self._writing.acquire(timeout=self._rest_s)
        self._wait_for_readers(self._rest_s)
        if self._rested and not self._reading and not (self._writer is not None and self._writer.in_transaction):
            self.close()

    def _wait_for_readers(self, timeout_s: float) -> None:
        until = monotonic() + timeout_s
        while self._reading and monotonic() < until:
            self._resting.wait(_LOOK_S)

    def _resume(self) -> None:
        if self._rested:
            self._writing.release()
        self._resting.set()

    # Transactions

    def _acquire(self) -> None:
        if not self._writing.acquire(timeout=self.timeout_s):
            raise StoreError(
                f"{self.path} is locked: another thread has been writing for longer than store_timeout={self.timeout_s}"
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other threads from writing; they wait, at most `timeout_s`. The file is not opened."""
        self._acquire()
        try:
            yield
        finally:
            self._writing.release()

    @contextmanager
    def lock(self) -> Iterator[sqlite3.Connection]:
        """The writing connection, for this thread alone; a single statement is its own transaction."""
        self._acquire()
        try:
            yield self._prepare()
            self._writes += 1
            if self._writes % _LOOK_EVERY == 0 and self._log_bytes() > _URGENT_BYTES:
                with suppress(sqlite3.Error):  # what was written is written
                    self._truncate_log()
        finally:
            self._writing.release()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that has the write lock from its start, so that what it read is still true when it writes."""
        with self.lock() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading."""
        if not self._prepared:
            with self.lock():
                pass
        reading = self._reading
        reading.append(None)
        while not self._resting.is_set():  # looked at after it was said, so that one of the two notices the other
            reading.pop()
            self._resting.wait(_RESUME_S)
            reading.append(None)
        try:
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = self._connect()
            try:
                yield connection
            except BaseException:
                connection.close()  # perhaps with a statement still running
                raise
            if self._prepared and len(self._readers) < _IDLE_READERS:  # else it was closed meanwhile
                self._readers.append(connection)
            else:
                connection.close()
        finally:
            reading.pop()

    def close(self) -> None:
        """Close every connection. The last one to close, of all processes, empties the log."""
        with self._writing:
            while self._readers:
                self._readers.pop().close()
            if self._writer is not None:
                self._writer.close()
            self._writer, self._prepared = None, False

    @contextmanager
    def put_down(self) -> Iterator[None]:
        """Close the file in this process for the time of the block; other threads wait, at most `timeout_s`."""
        with self.alone():
            self._resting.clear()
            try:
                self._wait_for_readers(self.timeout_s)
                self.close()
                yield
            finally:
                self._resting.set()

    # Opening

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self.timeout_s, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        except BaseException:  # the first look at the file: it may be no database
            connection.close()
            raise
        return connection

    def _prepare(self) -> sqlite3.Connection:
        """The writing connection; creates and migrates the file where that is still to be done."""
        if self._writer is not None:
            return self._writer
        create_folder(self.path.parent)
        create_file(self.path)
        connection = self._connect()
        try:
            self._migrate(connection)
            self._choose_journal(connection)
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        except BaseException:
            connection.close()
            raise
        self._writer, self._prepared = connection, True
        return connection

    def _choose_journal(self, connection: sqlite3.Connection) -> None:
        """WAL; on a network file system the rollback journal, because WAL needs shared memory of one machine."""
        network = network_file_system(self.path)
        wanted = "delete" if network else "wal"
        if network:
            warn(
                f"{self.path} is on a network file system ({network}): SQLite is slower there, and not safe "
                "for several machines at once; put it on a local disk, or use a server's store to share it"
            )
        if connection.execute("PRAGMA journal_mode").fetchone() != (wanted,):
            self._patiently(lambda: connection.execute(f"PRAGMA journal_mode = {wanted}"))

    def _patiently(self, job: Callable[[], T]) -> T:
        """Retry while the file is locked: a change of the journal mode needs it alone, and SQLite does not wait."""
        from tenacity import Retrying, retry_if_exception_message, stop_after_delay, wait_random

        patient = Retrying(
            retry=retry_if_exception_message(match=".*locked"),
            stop=stop_after_delay(self.timeout_s),
            wait=wait_random(0.005, 0.05),
            reraise=True,
        )
        return patient(job)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        if self._as_wanted(connection):  # without the write lock, which somebody may hold for long
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and application != APPLICATION_ID:
                raise StoreError(
                    f"{self.path}: this SQLite file is not a pool; give another path in store='sqlite:///...'"
                )
            if version > len(MIGRATIONS):
                raise StoreError(
                    f"{self.path}: written by a newer exp_pool (schema {version}, this one knows {len(MIGRATIONS)}); "
                    "upgrade exp_pool. Nothing was changed"
                )
            for statement in (statement for migration in MIGRATIONS[version:] for statement in migration):
                connection.execute(statement)
            if version < len(MIGRATIONS):
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _as_wanted(self, connection: sqlite3.Connection) -> bool:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        return bool(version == len(MIGRATIONS) and application == APPLICATION_ID)

    # Maintenance

    def checkpoint(self) -> None:
        """Move what the log holds into the file, if there is much of it."""
        if self._log_bytes() > _CHECKPOINT_BYTES:
            with self.lock():
                self._truncate_log()

    def empty_log(self) -> bool:
        """Move all that the log holds into the file, on the disk; whether no reader was in the way."""
        with self.lock():
            return self._truncate_log()

    def _log_bytes(self) -> int:
        try:
            return self.path.with_name(self.path.name + "-wal").stat().st_size
        except OSError:
            return 0

    def _truncate_log(self) -> bool:
        """Whether it is empty now. The caller holds the lock."""
        connection = self._prepare()
        connection.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_WAIT_MS}")
        try:
            (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(self.timeout_s * 1000)}")
        return not busy

    def vacuum(self) -> None:
        """Write the file anew without what was deleted, and empty the log.

        Raises:
            StoreError: the log cannot be emptied, because somebody is reading all the time.
        """
        with self.lock() as connection:
            connection.execute("VACUUM")
            if not self._patient_truncate():
                raise StoreError(f"{self.path}: somebody is reading all the time, so the log keeps what was deleted")

    def _patient_truncate(self) -> bool:
        from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay

        try:
            return bool(
                Retrying(retry=retry_if_result(lambda done: not done), stop=stop_after_delay(self.timeout_s))(
                    self._truncate_log
                )
            )
        except RetryError:
            return False

    def quick_check(self) -> list[str]:
        """Damage that SQLite's ``quick_check`` finds; empty where there is none."""
        with self.read() as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(20)")]
        return [] if found == ["ok"] else found

    def damage(self) -> list[str]:
        """Damage that SQLite's ``integrity_check`` finds, while the file is put down; empty where there is none."""
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(self.path, timeout=self.timeout_s, isolation_level=None)) as connection:
            try:
                found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
            except sqlite3.DatabaseError as err:
                if not is_damage(err):
                    raise
                return [str(err)]
        return [] if found == ["ok"] else found

    def backup(self, target: Path) -> None:
        """Copy the file as it is at one moment, while others go on writing."""
        with self.read() as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy, pages=_PAGES_AT_ONCE)
            copy.execute("PRAGMA journal_mode = delete")  # one file, which reading leaves alone


def is_damage(err: sqlite3.Error) -> bool:
    """Whether SQLite says that the file is damaged, or none of its own; of malformed JSON in a query it does not."""
    return getattr(err, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def network_file_system(path: Path) -> str:
    """The type of the network file system that the path is on; ``""`` if local, or nobody can tell (not Linux)."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    place = path.absolute().parent
    mounted = [(Path(fields[1].replace("\\040", " ")), fields[2]) for line in lines if len(fields := line.split()) > 2]  # noqa: PLR2004
    here = [(len(point.parts), kind) for point, kind in mounted if place.is_relative_to(point)]
    kind = max(here, default=(0, ""), key=lambda found: found[0])[1]
    return kind if _NETWORK.fullmatch(kind) else ""
