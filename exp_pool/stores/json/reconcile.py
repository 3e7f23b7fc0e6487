"""Reconciliation of a folder's files with its database: what people changed, and what follows from it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

from exp_pool.core.record import Record
from exp_pool.stores.json.rows import content_of, place_of
from exp_pool.stores.rules import to_history

Ref: TypeAlias = tuple[str, str]  # namespace and id
_USE = ("last_access", "access_count", "embed_due", "embed_tries", "score_due", "score_tries")  # not in the files


class RowFile(NamedTuple):
    """A file that was read: where it stands, and the row that it holds."""

    place: str
    row: Record


@dataclass
class Changes:
    """What the database and the folder lack."""

    rows: list[Record] = field(default_factory=list)
    """Rows to be stored anew: added or edited by a person, or made history by such a row."""
    gone: list[Ref] = field(default_factory=list)
    """Rows whose file was removed."""
    misplaced: list[RowFile] = field(default_factory=list)
    """Rows to be written to their own place, and where they stand now."""
    copies: list[str] = field(default_factory=list)
    """Files that say the same as another one."""
    rivals: dict[str, str] = field(default_factory=dict)
    """Files with the id of another one, and why they cannot be served."""


def says(file: Record, known: Record) -> bool:
    """Whether a file says what is known of its row; the revision of an edited row is not written into its file."""
    return file.revision <= known.revision and content_of(replace(file, revision=known.revision)) == content_of(known)


def reconcile(rows: dict[Ref, Record], files: Iterable[RowFile], embedded: Container[Ref], now: int) -> Changes:
    """Compare a folder with its database. The files are right.

    Args:
        rows: every row of the database.
        files: every file of the folder that could be read.
        embedded: the rows that have a vector.
        now: the time in microseconds, from which on the vector and the score of new rows are pending.
    """
    changes = Changes()
    chosen = _one_of_each_id(files, changes)
    found = {ref: _adopted(file.row, rows.get(ref), embedded, now) for ref, file in chosen.items()}
    current: defaultdict[Ref, list[Record]] = defaultdict(list)
    for row in found.values():
        if row.is_current:
            current[row.namespace, row.key].append(row)
    for rivals in current.values():
        newest = max(rivals, key=lambda row: (row.created_at, (row.namespace, row.id) not in rows, row.id))
        for row in rivals:
            if row is not newest:
                found[row.namespace, row.id] = to_history(row, newest.id)
    for ref, row in found.items():
        if row is not rows.get(ref):
            changes.rows.append(row)
        if chosen[ref].place != place_of(row) or not says(chosen[ref].row, row):
            changes.misplaced.append(RowFile(chosen[ref].place, row))
    changes.rows.sort(key=lambda row: (row.created_at, row.id))
    changes.misplaced.sort(key=lambda file: file.row.is_current)  # history first: it leaves its place to what follows
    changes.gone = [ref for ref in rows if ref not in found]
    return changes


def _one_of_each_id(files: Iterable[RowFile], changes: Changes) -> dict[Ref, RowFile]:
    """Keep one file of each id: the one that says it is current. A killed process may have left another."""
    chosen: dict[Ref, RowFile] = {}
    for file in files:
        ref = (file.row.namespace, file.row.id)
        if ref not in chosen:
            chosen[ref] = file
            continue
        loser, chosen[ref] = sorted((file, chosen[ref]), key=_precedence)
        row, other = loser.row, chosen[ref].row
        alike = replace(row, is_current=other.is_current, superseded_by=other.superseded_by, revision=other.revision)
        if content_of(alike) == content_of(other):
            changes.copies.append(loser.place)
        else:
            changes.rivals[loser.place] = f"its id {ref[1]!r} is that of {chosen[ref].place}, too"
    return chosen


def _precedence(file: RowFile) -> tuple[bool, int, bool]:
    return file.row.is_current, file.row.revision, file.place == place_of(file.row)


def _adopted(row: Record, known: Record | None, embedded: Container[Ref], now: int) -> Record:
    """The row of a file, with what is known of its use; the known row itself where the file says the same."""
    if known is None:  # everything is pending
        row = replace(row, embed_due=now, score_due=now if row.score is None else None)
    elif says(row, known):
        return known
    else:
        use = {name: getattr(known, name) for name in _USE}
        row = replace(row, revision=max(known.revision + 1, row.revision), **use)
        if known.request_hash != row.request_hash or (row.namespace, row.id) not in embedded:
            row = replace(row, embed_due=now, embed_tries=0)
    return row if row.is_current else replace(row, embed_due=None, score_due=None)
