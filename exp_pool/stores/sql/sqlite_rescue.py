"""Repair and restore of an SQLite file that no other process has open. Nothing is overwritten.

The present file is set aside under a name of its own; what takes its place is written beside it and renamed at the end.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC
from pathlib import Path
from typing import Any

from exp_pool.errors import StoreError
from exp_pool.runtime.clock import now
from exp_pool.runtime.files import create_file, create_folder, sync_folder
from exp_pool.stores.columns import COLUMNS, from_row
from exp_pool.stores.sql.sqlite_file import SqliteFile
from exp_pool.stores.sql.sqlite_schema import APPLICATION_ID, MIGRATIONS

SET_ASIDE = ("damaged", "before-restore")  # why a file of the pool has another name now
_BESIDE = ("-wal", "-shm", "-journal")
_RANGE = 1024  # rows read at once; where that fails, halves of it
_KEYED_BY_ROWID = ("experiences", "vectors", "logs", "forgotten")
_OTHERS = ("tombstones", "cutoffs", "states", "counters")  # leases are not worth keeping
# What was counted is not given out twice; what has lost its vector is embedded again; how far an index got is unknown.
_AFTERWARDS = (
    "INSERT OR IGNORE INTO counters VALUES ('position', 0), ('token', 0)",
    """UPDATE counters SET value = max(value, coalesce((SELECT max(position) FROM vectors), 0),
       coalesce((SELECT max(position) FROM forgotten), 0), coalesce((SELECT max(position) FROM logs), 0))
       WHERE name = 'position'""",
    """DELETE FROM vectors WHERE NOT EXISTS (SELECT 1 FROM experiences e
       WHERE e.namespace = vectors.namespace AND e.id = vectors.id AND e.is_current = 1)""",
    """UPDATE experiences SET embed_due = 0, embed_tries = 0 WHERE is_current = 1 AND NOT EXISTS
       (SELECT 1 FROM vectors v WHERE v.namespace = experiences.namespace AND v.id = experiences.id)""",
    "DELETE FROM states WHERE name LIKE 'index:%'",
)
_NAMED = 20
_LARGEST = 2**31  # a number of a row so far beyond the first one is damage


def repair(path: Path, timeout_s: float, *, in_use: bool = False) -> list[str]:
    """Move a damaged pool aside and put what can be read of it in its place; what was done, in words.

    Args:
        path: the file.
        timeout_s: how long to wait for another process that has it open.
        in_use: go on although one has; what that one writes meanwhile is lost.

    Raises:
        StoreError: another process has it open, or there is no room for the new file.
    """
    if not in_use:
        _alone(path, timeout_s)
    before = _state(path)
    new = path.with_name(f"{path.name}.repaired")
    _remove(new)
    try:
        with closing(_reading(path)) as damaged:
            kept, lost = _copy(damaged, new, timeout_s)
        if not in_use:
            _alone(path, timeout_s)
            if _state(path) != before:
                raise StoreError(
                    f"{path}: another process wrote to it meanwhile; close that one first. Nothing was changed"
                )
        aside = _take_the_place(path, new, SET_ASIDE[0])
    finally:
        _remove(new)
    lost = [what for what in lost if what.startswith(("experiences", "all of experiences"))]
    left = f"; could not be read: {', '.join(lost)} (a backup may have them)" if lost else ""
    return [f"{path}: kept {kept['experiences']} experiences{left}; the damaged file was set aside as {aside.name}"]


def restore_from(path: Path, source: Path, timeout_s: float) -> Path | None:
    """Put a copy of a backup in the place of the pool; where the present one was set aside, None if there was none.

    Raises:
        StoreError: the backup is damaged or no pool, or another process has the present one open. Nothing was changed.
    """
    if not source.is_file():
        raise StoreError(f"{source} is no file; name a backup made by `exp-pool backup`")
    new = path.with_name(f"{path.name}.restored")
    _remove(new)
    create_folder(path.parent)
    create_file(new)
    try:
        with closing(_reading(source)) as backup, closing(sqlite3.connect(new)) as copy:
            try:
                _refuse_what_is_no_pool(backup, source)
            except sqlite3.DatabaseError as err:
                raise StoreError(f"{source} is no backup of a pool: {err}. Nothing was changed") from err
            backup.backup(copy)
            # The index that lies there knows other rows: how far it got with these is unknown.
            copy.execute("DELETE FROM states WHERE name LIKE 'index:%'")
            _alone(path, timeout_s)
            # Whose the index is that lies there: an older backup may not have known it yet.
            with suppress(sqlite3.Error), closing(_reading(path)) as present:
                for row in present.execute("SELECT * FROM states WHERE namespace = '' AND name = 'pool'"):
                    copy.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)", row)
            copy.commit()
        if path.exists():
            return _take_the_place(path, new, SET_ASIDE[1])
        _rename(new, path)
        return None
    finally:
        _remove(new)


def _refuse_what_is_no_pool(backup: sqlite3.Connection, source: Path) -> None:
    if backup.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
        raise StoreError(f"{source} is no backup of a pool. Nothing was changed")
    (version,) = backup.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreError(f"{source} was written by a newer exp_pool; upgrade exp_pool first. Nothing was changed")
    if backup.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise StoreError(f"{source} is damaged; use another backup. Nothing was changed")


def _alone(path: Path, timeout_s: float) -> None:
    """Make sure that no other process has the file open, and move its log into the file, if it can be read."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path, timeout=timeout_s, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = delete")  # needs the file for itself
    except sqlite3.OperationalError as err:
        if "locked" in str(err):
            raise StoreError(f"{path}: another process has it open; close it first. Nothing was changed") from err
    except sqlite3.DatabaseError:
        pass  # damaged, which is why we are here


def _state(path: Path) -> list[tuple[int, int]]:
    """Sizes and times of the files, which change when anybody writes."""
    there = [each.stat() for ending in ("", "-wal") if (each := path.with_name(path.name + ending)).exists()]
    return [(found.st_size, found.st_mtime_ns) for found in there]


def _reading(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{path.absolute().as_posix()}?mode=ro", uri=True, isolation_level=None)
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _take_the_place(path: Path, new: Path, why: str) -> Path:
    stamp = now().astimezone(UTC).strftime("%Y%m%dT%H%M%S%f")
    aside = path.with_name(f"{path.name}.{why}-{stamp}")
    for ending in _BESIDE:
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
    try:
        os.link(path, aside)  # there is a pool at every moment
    except OSError:  # no such links there
        path.rename(aside)
    new.replace(path)
    sync_folder(path.parent)
    return aside


def _rename(new: Path, path: Path) -> None:
    new.rename(path)
    sync_folder(path.parent)


def _remove(path: Path) -> None:
    for ending in ("", *_BESIDE):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _copy(damaged: sqlite3.Connection, new: Path, timeout_s: float) -> tuple[dict[str, int], list[str]]:
    """Every row that can be read into a new file: how many of each table, and which were lost."""
    kept: dict[str, int] = {}
    lost: list[str] = []
    wrong: list[int] = []
    target = SqliteFile(new, timeout_s)
    try:
        for table in (*_KEYED_BY_ROWID, *_OTHERS):
            with target.write() as connection:
                columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
                if table == "counters":
                    connection.execute("DELETE FROM counters")
                kept[table] = 0
                for row in _rows(damaged, table, columns, lost):
                    if table == "experiences" and not _well_formed(row):
                        wrong.append(row["seq"])
                        continue
                    names = ", ".join(row)
                    values = f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})"
                    with suppress(sqlite3.IntegrityError):  # a column that must not be empty
                        kept[table] += connection.execute(values, tuple(row.values())).rowcount
        if wrong:
            lost.append(f"experiences with a wrong checksum {_in_words(wrong)}")
        with target.write() as connection:
            for statement in _AFTERWARDS:
                connection.execute(statement)
    finally:
        target.close()
    return kept, lost


def _well_formed(row: dict[str, Any]) -> bool:
    try:
        record = from_row([row[name] for name in COLUMNS], row.get("checksum"))
    except (KeyError, TypeError, ValueError, StoreError):
        return False
    texts = (
        record.id,
        record.namespace,
        record.function,
        record.key,
        record.request,
        record.arguments,
        record.metadata,
    )
    return all(isinstance(text, str) and "\ufffd" not in text for text in texts)


def _rows(damaged: sqlite3.Connection, table: str, columns: list[str], lost: list[str]) -> Iterator[dict[str, Any]]:
    """The rows that can be read, with those of the columns that are there (an older version has fewer)."""
    try:
        there = [row[1] for row in damaged.execute(f"PRAGMA table_info({table})")]
    except sqlite3.DatabaseError:
        lost.append(f"all of {table}")
        return
    names = [name for name in columns if name in there]
    if not names:
        lost.append(f"all of {table}")
        return
    selected = f"SELECT {', '.join(names)} FROM {table}"
    if table in _KEYED_BY_ROWID:
        for row in _by_rowid(damaged, table, selected, lost):
            yield dict(zip(names, row, strict=True))
        return
    try:
        for row in damaged.execute(selected):
            yield dict(zip(names, row, strict=True))
    except sqlite3.DatabaseError:
        lost.append(f"some of {table}")


def _by_rowid(damaged: sqlite3.Connection, table: str, selected: str, lost: list[str]) -> Iterator[tuple[Any, ...]]:
    """All rows, by ranges of their numbers, halved where reading fails, so that only what is damaged is lost."""
    unreadable: list[int] = []
    first = _first_rowid(damaged, table)
    for start in range(first, _last_rowid(damaged, table, first) + 1, _RANGE):
        ranges = [(start, start + _RANGE - 1)]
        while ranges:
            low, high = ranges.pop()
            try:
                rows = damaged.execute(f"{selected} WHERE rowid BETWEEN ? AND ?", (low, high)).fetchall()
            except sqlite3.DatabaseError:
                if low == high:
                    unreadable.append(low)
                else:
                    middle = (low + high) // 2
                    ranges += [(middle + 1, high), (low, middle)]
                continue
            yield from rows
    if unreadable:
        lost.append(f"{table} {_in_words(unreadable)}")


def _in_words(numbers: list[int]) -> str:
    """Rising row numbers as ranges, for people."""
    starts = [n for at, n in enumerate(numbers) if at == 0 or numbers[at - 1] != n - 1]
    ends = [n for at, n in enumerate(numbers) if at + 1 == len(numbers) or numbers[at + 1] != n + 1]
    words = [str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True)]
    return ", ".join(words[:_NAMED]) + (f" and {len(words) - _NAMED} more ranges" if len(words) > _NAMED else "")


def _first_rowid(damaged: sqlite3.Connection, table: str) -> int:
    """Numbers in a JSON folder that has lost its database begin with the time."""
    for statement in (f"SELECT min(rowid) FROM {table}", f"SELECT min(+rowid) FROM {table}"):  # of an index, the second
        with suppress(sqlite3.DatabaseError):
            found = damaged.execute(statement).fetchone()
            if found is not None and isinstance(found[0], int) and found[0] > _LARGEST:
                return found[0]
    return 0


def _last_rowid(damaged: sqlite3.Connection, table: str, first: int) -> int:
    for statement in (
        f"SELECT max(rowid) FROM {table}",
        f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'",
        f"SELECT count(*) * 2 + {first} FROM {table}",
    ):
        with suppress(sqlite3.DatabaseError):
            found = damaged.execute(statement).fetchone()
            if found is not None and isinstance(found[0], int) and first <= found[0] < first + _LARGEST:
                return found[0]
    return first
