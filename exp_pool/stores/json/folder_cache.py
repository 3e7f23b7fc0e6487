"""SQLite database that is kept in agreement with the files of a folder, in both directions."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

from exp_pool.core.record import Record, Vector
from exp_pool.errors import StoreError
from exp_pool.runtime.clock import now_us
from exp_pool.runtime.notices import warn
from exp_pool.stores.columns import NAMES, from_row, keep, restore
from exp_pool.stores.json.folder import DATABASE, FileStamp, Folder
from exp_pool.stores.json.old_journal import drop_journal, has_journal, replay_journal
from exp_pool.stores.json.reconcile import Ref, RowFile, reconcile, says
from exp_pool.stores.json.rows import UnreadableError, place_of, place_of_key, read_row, write_row
from exp_pool.stores.rules import CONTENT
from exp_pool.stores.sql.dialect import Connection
from exp_pool.stores.sql.engine import translated
from exp_pool.stores.sql.rows import Scope, by_namespace
from exp_pool.stores.sql.sqlite_engine import SqliteEngine
from exp_pool.stores.sql.sqlite_file import SqliteFile, is_damage
from exp_pool.stores.sql.sqlite_rescue import repair

R = TypeVar("R")
Stored: TypeAlias = Callable[[Ref], Record | None]  # the row that the database has

_DELETED_AT_ONCE = 500
# Times of files are this coarse at most: one that was changed just before it was looked at may have been changed just
# after, too, and its stamp would not tell. It is read once more.
_COARSE_NS = 50 * 10**6

# Which files the statements of a transaction ask for: of what a row was, and of what it is.
_REMEMBER = "INSERT INTO touched VALUES ({0}.namespace, {0}.id, {0}.key, {0}.is_current);"
_TRIGGERS = (
    "CREATE TEMP TABLE touched (namespace TEXT, id TEXT, key TEXT, is_current INTEGER)",
    f"CREATE TEMP TRIGGER added AFTER INSERT ON main.experiences BEGIN {_REMEMBER.format('NEW')} END",
    f"CREATE TEMP TRIGGER removed AFTER DELETE ON main.experiences BEGIN {_REMEMBER.format('OLD')} END",
    f"CREATE TEMP TRIGGER changed AFTER UPDATE OF is_current, superseded_by, revision, {', '.join(CONTENT)} "
    f"ON main.experiences BEGIN {_REMEMBER.format('OLD')} {_REMEMBER.format('NEW')} END",
)
# Rows are numbered by AUTOINCREMENT, which remembers the last number once there was a row.
_NUMBER_FROM = (
    "INSERT INTO sqlite_sequence (name, seq) SELECT 'experiences', ? "
    "WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'experiences')"
)
_COUNT = "SELECT count(*) FROM experiences"
_STORED = f"SELECT checksum, {NAMES} FROM experiences WHERE namespace = ? AND id = ?"
_TOUCHED = "SELECT DISTINCT namespace, id, key, is_current FROM touched ORDER BY is_current"


class _KnownFile(NamedTuple):
    """A file that was found to say what the database says. `settled`: its stamp tells whether it is still the same."""

    stamp: FileStamp
    digest: bytes
    settled: bool


class FolderCache(SqliteEngine):
    """The database of a folder: what people changed in files is taken over, and rows that change are written.

    Args:
        path: the folder; created at first use.
        timeout_s: how long to wait for another writer before giving up.
    """

    def __init__(self, path: str | Path, timeout_s: float = 5.0) -> None:
        self._folder = Folder(Path(path))
        self._seen: dict[str, _KnownFile] = {}  # by the places of files
        self._opened: tuple[int, int] | None = None  # which file the database is that agrees with the others
        self._traced: Connection | None = None  # the writing connection that has the triggers
        # A transaction takes as long as its files do, and a child would find the lock of one held for ever.
        file = SqliteFile(self._folder.state / DATABASE, timeout_s, rest_s=timeout_s)
        super().__init__(file, Path(path), compress_above=None)

    def close(self) -> None:
        super().close()
        self._opened = None

    def remedy(self, err: Exception) -> str:
        text = str(err).lower()
        if "no space" in text or "full" in text:
            return " Free some disk space; nothing that was stored is lost"
        if "locked" in text:
            return " Another process is writing for longer than store_timeout"
        if any(sign in text for sign in ("permission", "readonly", "read-only", "unable to open", "not a directory")):
            return " Make the folder and its files readable and writable, or give another path in store='json:///...'"
        return ""

    # Transactions of the database

    def _read(self, work: Callable[[Connection], R], *, patient: bool = False) -> R:
        def read() -> R:
            self._open()
            return super(FolderCache, self)._read(work, patient=patient)

        return self._unless_damaged(read)

    def _write(self, work: Callable[[Connection], R], *, patient: bool = False) -> R:  # noqa: ARG002
        def write(connection: Connection) -> R:
            result = work(connection)
            self._write_touched(connection)
            return result

        def open_and_write() -> R:
            self._open()
            return self._transaction(write)

        return self._unless_damaged(open_and_write)

    def _transaction(self, work: Callable[[Connection], R]) -> R:
        """Do it while nobody else writes, neither rows nor files."""
        try:
            with self._file.write() as connection:
                for statement in () if connection is self._traced else _TRIGGERS:
                    connection.execute(statement)
                connection.execute("DELETE FROM touched")
                result = work(connection)
        except BaseException:
            self._seen.clear()  # a file may say what was taken back
            raise
        self._traced = connection
        return result

    def _unless_damaged(self, work: Callable[[], R]) -> R:
        """Do it; where the database turns out to be damaged, once more with what can be read of it."""
        try:
            return work()
        except sqlite3.DatabaseError as err:
            if not is_damage(err):
                raise
            warn(f"{self._file.path} is damaged ({err}), so it is made anew; no experience is lost")
            self._mend()
            return work()

    def _mend(self) -> None:
        """Put another database in the place of a damaged one; what it lacks, the files have."""
        with self._file.put_down():
            self._opened = None
            if not self._file.damage():  # another thread or process was faster
                return
            try:
                repair(self._file.path, self._file.timeout_s)
            except (StoreError, sqlite3.Error):  # another process has it open, and will notice
                try:
                    repair(self._file.path, self._file.timeout_s, in_use=True)
                except sqlite3.OperationalError:  # no room for another one, for example
                    raise
                except (StoreError, sqlite3.Error):  # nothing can be kept
                    for ending in ("", "-wal", "-shm", "-journal"):
                        Path(f"{self._file.path}{ending}").unlink(missing_ok=True)

    def _open(self) -> None:
        """Make sure that the database is there and agrees with the files; somebody may have removed it."""
        if self._opened is not None and self._opened == self._database():
            return
        with self._file.alone():
            if self._opened is not None and self._opened == self._database():  # another thread was faster
                return
            with self._file.put_down():
                self._folder.open()
                self._transaction(self._load)
                if has_journal(self._folder.state) and self._file.empty_log():  # else once more at the next opening
                    drop_journal(self._folder.state)
                self._opened = self._database()

    def _database(self) -> tuple[int, int] | None:
        """What the database's file is recognized by."""
        try:
            there = os.lstat(self._file.path)  # half the time of Path's
        except OSError:
            return None
        return there.st_dev, there.st_ino

    def _load(self, connection: Connection) -> None:
        self._folder.prepare()
        self._seen.clear()
        ((position,),) = connection.execute("SELECT value FROM counters WHERE name = 'position'").fetchall()
        if position == 0:  # a new database; readers of one that was lost go on from where they are
            connection.execute("UPDATE counters SET value = ? WHERE name = 'position'", (now_us(),))
            connection.execute(_NUMBER_FROM, (now_us(),))
        self._reconcile(connection)
        if position == 0:
            replay_journal(self._folder.state, connection, self._rows(connection))

    # From files to the database

    @translated
    def _look(self, places: Sequence[str] | None = None) -> bool:
        """Take over what people changed in these files, or in all; whether there was anything."""

        def stored(ref: Ref) -> Record | None:
            return self._read(lambda connection: self._stored(connection, ref))

        if places is None:
            ((count,),) = self._all(_COUNT)
            agreed = self._all_agree(count, stored)
        else:
            there = {place: stamp for place in places if (stamp := self._folder.stamp(place)) is not None}
            agreed = all(place in there or place not in self._seen for place in places)
            agreed = agreed and all(self._agrees(place, stamp, stored) for place, stamp in there.items())
        if not agreed:
            self._write(self._adopt)
        return not agreed

    def _adopt(self, connection: Connection) -> None:
        """Take over what people changed, unless somebody was only writing it, who is done now."""
        ((count,),) = connection.execute(_COUNT).fetchall()
        if not self._all_agree(count, lambda ref: self._stored(connection, ref)):
            self._reconcile(connection)

    def _stored(self, connection: Connection, ref: Ref) -> Record | None:
        found = connection.execute(_STORED, (keep(ref[0]), keep(ref[1]))).fetchone()
        return None if found is None else self._read_row(found[0], found[1:])

    def _all_agree(self, count: int, stored: Stored) -> bool:
        there = self._folder.walk()
        for place in [place for place in list(self._seen) if place not in there]:
            self._seen.pop(place, None)
        return count == len(there) and all(self._agrees(place, stamp, stored) for place, stamp in there.items())

    def _agrees(self, place: str, stamp: FileStamp, stored: Stored) -> bool:
        """Whether a file says what the database says; it may have been changed by another process, which told it."""
        seen = self._seen.get(place)
        if seen is not None and seen.settled and seen.stamp == stamp:
            return True
        found = self._folder.read(place)
        if found is None:
            return False
        content, stamp = found
        if seen is None or seen.digest != _digest(content):
            try:
                row = read_row(content)
            except UnreadableError:
                return False
            known = stored((row.namespace, row.id))
            if known is None or place_of(known) != place or not says(row, known):
                return False
        self._saw(place, content, stamp)
        return True

    def _saw(self, place: str, content: bytes, stamp: FileStamp) -> None:
        settled = stamp.mtime_ns + _COARSE_NS < now_us() * 1000
        self._seen[place] = _KnownFile(stamp, _digest(content), settled)

    def _reconcile(self, connection: Connection) -> None:
        """Bring the database into agreement with all files."""
        stored = connection.execute(f"SELECT namespace, id, checksum, {NAMES} FROM experiences").fetchall()
        read = [self._read_row(check, row) for _, _, check, *row in stored]
        damaged = [(restore(each[0]), restore(each[1])) for each, row in zip(stored, read, strict=True) if row is None]
        rows = {(row.namespace, row.id): row for row in read if row is not None}
        embedded = {
            (restore(n), restore(id_)) for n, id_ in connection.execute("SELECT namespace, id FROM vectors").fetchall()
        }
        changes = reconcile(rows, self._files(rows), embedded, now_us())
        for place in changes.copies:
            self._remove_file(place)
        for place, reason in changes.rivals.items():
            self._set_aside(place, reason)
        self._replace_rows(connection, [*changes.gone, *damaged], changes.rows, rows)
        for _, row in changes.misplaced:
            self._write_file(row)
        for place in {place for place, _ in changes.misplaced} - {place_of(row) for _, row in changes.misplaced}:
            self._remove_file(place)
        connection.execute("DELETE FROM touched")  # the files were there before the rows

    def _files(self, rows: dict[Ref, Record]) -> Iterator[RowFile]:
        """Every file that can be read; of those that are as they were seen the row that is known."""
        known = {place_of(row): row for row in rows.values()}
        before, self._seen = self._seen, {}
        for place, stamp in self._folder.walk().items():
            seen = before.get(place)
            if seen is not None and seen.settled and seen.stamp == stamp and place in known:
                self._seen[place] = seen
                yield RowFile(place, known[place])
            elif (found := self._folder.read(place)) is not None:
                try:
                    row = read_row(found[0])
                except UnreadableError as err:
                    self._set_aside(place, str(err))
                    continue
                self._saw(place, *found)
                yield RowFile(place, row)

    def _set_aside(self, place: str, reason: str) -> None:
        self._seen.pop(place, None)
        path = self._folder.set_aside(place)
        warn(f"{self.path / place} is not served, because {reason}; it was set aside as {path}")

    def _replace_rows(
        self, connection: Connection, gone: list[Ref], new: list[Record], known: dict[Ref, Record]
    ) -> None:
        """Delete rows without a trace, and store others with the vectors that they had for the same request."""
        vectors: dict[Ref, tuple[Vector, Scope]] = {}
        kept = {(keep(row.namespace), keep(row.id)): row for row in new}
        for ref, row in kept.items():
            old = known.get((row.namespace, row.id))
            if old is not None and row.is_current and old.request_hash == row.request_hash:
                statement = "SELECT embedder, data, whole FROM vectors WHERE namespace = ? AND id = ?"
                for embedder, data, whole in connection.execute(statement, ref).fetchall():
                    scope = (keep(row.function), keep(row.version), row.reuse_scope)
                    vectors[ref] = (Vector(restore(embedder), data, bool(whole)), scope)
        rows = self._rows(connection)
        for namespace, ids in by_namespace([*((keep(n), keep(id_)) for n, id_ in gone), *kept]).items():
            for start in range(0, len(ids), _DELETED_AT_ONCE):
                rows.delete(namespace, ids[start : start + _DELETED_AT_ONCE])
        rows.store(kept, vectors)

    # From the database to files

    def _write_touched(self, connection: Connection) -> None:
        """Write the files of rows that were changed; then remove those that nothing stands for any more."""
        written, left = set(), set()
        for namespace, id_, key, is_current in connection.execute(_TOUCHED).fetchall():
            found = connection.execute(f"{_STORED} AND is_current = ?", (namespace, id_, is_current)).fetchone()
            if found is not None:
                written.add(self._write_file(from_row(found[1:], found[0])))
            else:
                left.add(place_of_key(restore(namespace), restore(key), None if is_current else restore(id_)))
        for place in left - written:
            self._remove_file(place)

    def _write_file(self, row: Record) -> str:
        place, content = place_of(row), write_row(row)
        self._seen[place] = _KnownFile(self._folder.write(place, content), _digest(content), settled=False)
        return place

    def _remove_file(self, place: str) -> None:
        self._folder.remove(place)
        self._seen.pop(place, None)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
