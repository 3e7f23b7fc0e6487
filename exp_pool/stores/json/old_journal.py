"""Migration of ``.state/journal``, in which folders kept use, vectors, states, logs and tombstones before SQLite."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exp_pool.core.record import Vector
from exp_pool.core.values.encoding import loads
from exp_pool.errors import DecodingError
from exp_pool.stores.columns import keep
from exp_pool.stores.sql.dialect import Connection
from exp_pool.stores.sql.rows import Ref, Rows, Scope

_LENGTHS = {  # of the lines that matter: leases are over, and what was tidied is not told any more
    "row": (13, 4),
    "vector": (10,),
    "gone": (9,),
    "tombstone": (4,),
    "cutoff": (3,),
    "state": (5,),
    "log": (4,),
}
_FILES = ("journal", "lock")
_USE = (
    "UPDATE experiences SET revision = max(revision, ?), size_bytes = ?, last_access = ?, access_count = ?, "
    "embed_due = ?, embed_tries = ?, score_due = ?, score_tries = ? "
    "WHERE namespace = ? AND id = ? AND request_hash = ?"
)


def replay_journal(state: Path, connection: Connection, rows: Rows) -> None:
    """Take over what the journal says, if there is one.

    Args:
        state: the folder ``.state``.
        connection: to a new database that has the rows of the folder, in a writing transaction.
        rows: of that transaction.
    """
    tables: defaultdict[str, dict[Ref, list[Any]]] = defaultdict(dict)
    for kind, *rest in _lines(state / "journal"):
        if kind == "cutoff":
            rows.set_cleared_at(keep(rest[0]), rest[1])
            continue
        ref, values = (keep(rest[0]), keep(rest[1])), rest[2:]
        if kind == "gone":
            tables["vector"].pop(ref, None)
        elif values == [None]:
            tables[kind].pop(ref, None)
        elif kind == "log":
            tables[kind].setdefault(ref, []).extend(values[0])
        else:
            tables[kind][ref] = values
    for ref, (_, revision, size_bytes, request_hash, *use) in tables["row"].items():
        connection.execute(_USE, (revision, size_bytes, *use, *ref, request_hash))
    vectors: dict[Ref, tuple[Vector, Scope]] = {}
    for ref, (function, version, scope, _, embedder, whole, values) in tables["vector"].items():
        current = "SELECT 1 FROM experiences WHERE namespace = ? AND id = ? AND is_current = 1 AND embed_due IS NULL"
        if connection.execute(current, ref).fetchone():
            vectors[ref] = (Vector(embedder, values, whole), (keep(function), keep(version), scope))
    rows.set_vectors(vectors)
    for namespace, id_ in tables["tombstone"]:
        rows.apply_tombstones(namespace, [(id_, tables["tombstone"][namespace, id_][0])])
    for ref, (value, revision) in tables["state"].items():
        if not ref[1].startswith("index:"):  # how far an index got is counted anew
            connection.execute("INSERT INTO states VALUES (?, ?, ?, ?)", (*ref, keep(value), revision))
    for ref, entries in tables["log"].items():
        lines = [(position, *ref, keep(entry)) for position, entry in entries]
        connection.executemany("INSERT INTO logs (position, namespace, name, entry) VALUES (?, ?, ?, ?)", lines)


def has_journal(state: Path) -> bool:
    """Whether there is a journal or its lock."""
    return any((state / name).exists() for name in _FILES)


def drop_journal(state: Path) -> None:
    """Remove the journal and its lock, which were read; what was taken over is on the disk."""
    for name in _FILES:
        (state / name).unlink(missing_ok=True)


def _lines(path: Path) -> Iterator[list[Any]]:
    """The lines that can be read; a killed process may have left a part of one."""
    there = path.is_file() and not path.is_symlink()
    for line in path.read_bytes().splitlines() if there else ():
        try:
            entry = loads(line.decode())
        except (DecodingError, UnicodeDecodeError):
            continue
        if isinstance(entry, list) and entry and len(entry) in _LENGTHS.get(entry[0], ()):
            yield entry
