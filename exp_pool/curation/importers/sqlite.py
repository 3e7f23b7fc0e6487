"""Read-only access to untrusted SQLite files: tables only, never views or triggers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from exp_pool.curation.importers.safe_files import MAX_VALUE, ImportSource

MAGIC = b"SQLite format 3\0"
_STEPS = 100_000_000  # of SQLite's machine between two rows; a damaged tree may go in circles


def rows(source: ImportSource, path: Path, table: str, columns: Sequence[str], order: str) -> Iterator[dict[str, Any]]:
    """Rows of a table, in an order. Damage ends them (`ImportSource.damaged`).

    Args:
        source: the import, which hears of damage.
        path: the SQLite file.
        table: its name; a view of that name is refused.
        columns: names of columns.
        order: what stands behind ORDER BY.
    """
    with source.open(path):  # it is a plain file
        pass
    # Without a journal the file is whole as it lies there, and SQLite need not write beside it.
    unchanging = not any(path.with_name(path.name + ending).exists() for ending in ("-wal", "-journal"))
    address = f"file:{quote(str(path.absolute()))}?mode=ro{'&immutable=1' if unchanging else ''}"
    number = 0
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA cell_size_check = ON")
            database.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
            database.set_progress_handler(lambda: 1, _STEPS)
            kind = database.execute("SELECT type FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            if kind is None or kind[0] != "table":
                source.damaged(source.name(path), f"it has no table {table!r}")
                return
            listed = ", ".join(f"[{column}]" for column in columns)  # in quotes, one that is not there is a text
            for row in database.execute(f"SELECT {listed} FROM [{table}] ORDER BY {order}"):  # noqa: S608  (names of our own)
                number += 1
                yield dict(zip(columns, row, strict=True))
                database.set_progress_handler(lambda: 1, _STEPS)  # counts anew
    except (sqlite3.Error, ValueError, OverflowError, MemoryError) as err:
        source.damaged(f"{source.name(path)}, {table} row {number + 1}", str(err))
