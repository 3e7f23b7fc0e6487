"""Edits: a change to one row, and its inverse. Pure. `stores.journal` applies many of them together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from exp_pool.core.filters import Condition, holds
from exp_pool.core.record import Record, read_scores, sized

_BATCH, _BATCH_CHARS = 500, 4 * 2**20  # edits, whichever comes first: rows may have megabytes each


class EditKind(StrEnum):
    """What a change does to one row."""

    EDIT = "edit"
    ADD = "add"
    DELETE = "delete"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Edit:
    """What a change does to one row.

    `before` and `after` hold columns of the row: those that an EDIT changes, all of them of a row that is added,
    deleted or restored. `revision`: what the row must have (EDIT, DELETE).
    """

    deed: EditKind
    id: str
    revision: int = 0
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


def edit_of(before: Record, after: Record) -> Edit | None:
    """The edit from one state of a row to another; None where they are the same."""
    old, new = asdict(before), asdict(after)
    changed = [name for name in old if old[name] != new[name] and name != "revision"]
    if not changed:
        return None
    return Edit(
        EditKind.EDIT, before.id, before.revision, {name: old[name] for name in changed}, {n: new[n] for n in changed}
    )


def added(row: Record) -> Edit:
    """The edit that adds a row."""
    return Edit(EditKind.ADD, row.id, after=asdict(row))


def deleted(row: Record) -> Edit:
    """The edit that deletes a row."""
    return Edit(EditKind.DELETE, row.id, row.revision, before=asdict(row))


def taken_back(row: Record, edit: Edit) -> tuple[Record, list[str]]:
    """A row as it was before an edit of it, and the columns which others changed since: they stay as they are."""
    assert edit.before is not None
    assert edit.after is not None
    now = {name: getattr(row, name) for name in edit.before}
    mine = {name: value for name, value in edit.before.items() if now[name] == edit.after[name]}
    theirs = [name for name in edit.before if name not in mine and now[name] != edit.before[name]]
    was = replace(row, **mine)
    if theirs and mine:
        scores = read_scores(was.scores)
        was = sized(replace(was, score=scores[next(reversed(scores))].value if scores else None))
    return was, [name for name in theirs if name not in ("size_bytes", "score")]


def row_of(edit: Edit) -> Record:
    """The row that is added or restored."""
    return Record(**(edit.after or {}))


def no_place(edit: Edit, there: Record | None, answering: Mapping[str, Record | None], cutoff: int | None) -> str:
    """Why a row cannot be added or restored; ``""`` where it can.

    Args:
        edit: what is to be done.
        there: the row that has its id already.
        answering: the current rows, by key.
        cutoff: when the namespace was last cleared, in microseconds.
    """
    row = row_of(edit)
    if there is not None:
        return "its id is taken"
    other = answering[row.key]
    if row.is_current and other is not None:
        return f"its call is answered by {other.id!r} already; change that one"
    if edit.deed is EditKind.ADD and cutoff is not None and row.created_at <= cutoff:
        return "it was created before everything in this namespace was deleted; leave created_at out"
    return ""


def restorable(edit: Edit, where: Sequence[Condition]) -> bool:
    """Whether the edit of a row that is gone is kept when what meets these conditions is erased."""
    columns = edit.before if edit.deed is EditKind.DELETE else None
    return columns is not None and not all(holds(condition, Record(**columns)) for condition in where)


def batches(edits: Iterable[Edit]) -> Iterator[list[Edit]]:
    """So many that they can be held and written at once."""
    batch: list[Edit] = []
    size = 0
    for edit in edits:
        batch.append(edit)
        size += sum(len(v) for columns in (edit.before, edit.after) for v in (columns or {}).values() if type(v) is str)
        if len(batch) >= _BATCH or size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
