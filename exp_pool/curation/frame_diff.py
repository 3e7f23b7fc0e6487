"""Diff of an edited frame against the store as it is now: `diff`.

Each stored row is shown as the frame would show it. A cell that says something else was edited, unless the row has
another revision than the frame: then others may have changed it, and the row is `stale`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pydantic

from exp_pool.core.experience import MISSING, Experience
from exp_pool.core.record import Record
from exp_pool.curation.cells import EMPTY, is_null, read_cell, same
from exp_pool.curation.change_set import Change, planned
from exp_pool.curation.columns import DELETED, ParsedRecord, column
from exp_pool.curation.edited_frame import ONLY_IN_NEW_ROWS, EditedFrame, read_only
from exp_pool.curation.edited_row import edited_row, error_text, experience_fields
from exp_pool.curation.frames import recover_unfinished
from exp_pool.errors import EncodingError, InvalidInputError, NotFoundError
from exp_pool.stores.lineage import with_inherited_trust
from exp_pool.stores.pages import rows_by_id

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager
    from exp_pool.api.pool import Pool

_NAMED = 5  # ids in a message
_USED = ("access_count", "last_access")  # they move without a new revision
_SCALARS = (str, int, float, bool)


def diff(manager: ExpManager, frame: Any, *, delete_missing: bool = False) -> Change:
    """Change that applying an edited frame would make; nothing is written. See `Change`.

    Rows without an id are new experiences, rows with ``deleted=True`` go. A row that is not there says nothing, unless
    `delete_missing`; a column that is not there says nothing either. A null cell takes the value away (`MISSING` does
    so in any frame), `NONE` makes it None.

    Args:
        manager: whose pool.
        frame: of `to_frame`, `to_arrow`, `to_polars` or `iter_frames`; edited, cut, put in another order.
        delete_missing: rows that were in the frame when it was taken, and are not any more, are to be deleted.

    Raises:
        InvalidInputError: an unknown column, an id twice, a cell that cannot be or must not be edited, a frame of
            another namespace. The message names the row, the column and what to do.
        NotFoundError: ids that this namespace never showed to the frame.
        ConfigurationError: pandas is not installed.
        StoreError: the store failed.
    """
    pool = manager.sync
    recover_unfinished(pool)
    table = EditedFrame.read(frame)
    table.check_namespace(pool.namespace)
    old, new = table.places()
    stale: dict[str, str] = {}
    pairs = list(_changed(pool, table, old, stale))
    if delete_missing:
        pairs += _missing(pool, table, {table.cells["id"][at] for at in old}, stale)
    pairs += ((None, row) for row in _added(pool, table, new))
    change = planned(pool.namespace, "apply", pairs, stale=stale)
    return replace(change, stale=stale | pool.journal.obstacles(change.edits))


# ── Rows that are there ───────────────────────────────────────────────────────────────────────────────────────────────


def _changed(
    pool: Pool, table: EditedFrame, places: Sequence[int], stale: dict[str, str]
) -> Iterator[tuple[Record | None, Record | None]]:
    ids = [table.cells["id"][at] for at in places]
    unknown = []
    for at, (id_, record) in zip(places, rows_by_id(pool.store, pool.namespace, ids), strict=True):
        going = table.deletes(at)
        if record is not None:
            revision = table.revision(id_, at)
            edited = (
                {}
                if going
                else _edited(table, ParsedRecord(record), id_, at, same_revision=revision == record.revision)
            )
            if (edited or going) and revision != record.revision:
                stale[id_] = f"its revision is {record.revision} now, and was {revision} when the frame was taken"
            elif going:
                yield record, None
            elif edited:
                yield record, edited_row(pool, record, edited)
        elif table.origin is not None and id_ in table.origin.rows:
            if not going:
                stale[id_] = "it was deleted meanwhile"
        else:
            unknown.append(id_)
    if unknown:
        raise NotFoundError(
            f"{len(unknown):,} experiences of the frame are not in namespace {pool.namespace!r}, but deleted, or "
            f"another namespace's: {', '.join(map(repr, unknown[:_NAMED]))}. Leave the rows out, or the id empty for "
            "new ones"
        )


def _edited(table: EditedFrame, row: ParsedRecord, id_: str, at: int, *, same_revision: bool) -> dict[str, Any]:
    """Edited cells by column. Read-only columns must agree with the store."""
    edited: dict[str, Any] = {}
    taken = table.origin.rows.get(id_) if table.origin is not None else None
    for name, how in table.columns.items():
        if name in ("id", "revision", DELETED):
            continue
        if not how.editable and not same_revision:
            continue
        cell, present = table.cells[name][at], how.read(row)
        if type(cell) in _SCALARS and type(cell) is type(present) and cell == present and not table.json:
            continue  # most cells: half the time of a diff
        if name in _USED:
            present = _used(name, present, taken, cell)
        value = table.value(name, cell, present, at)
        if value is present or same(value, present):
            continue
        if value is EMPTY:
            value = _emptied(table, name, id_) if same_revision else MISSING
        if not how.editable:
            raise read_only(name, id_, present, value)
        edited[name] = value
    return edited


def _used(name: str, present: Any, taken: tuple[int, int, int | None] | None, cell: Any) -> Any:
    """Usage that the frame showed; the experience may have been used since."""
    if taken is not None:
        shown = taken[1 + _USED.index(name)]
        return MISSING if shown is None else shown
    if is_null(cell):
        return MISSING
    said = read_cell(column(name), cell, present, json=False, floats=False)
    return said if present is not MISSING and said <= present else present


def _emptied(table: EditedFrame, name: str, id_: str) -> Any:
    """Null cell: it removes the value if the frame showed that value; a column that was added shows nothing."""
    taken = table.origin
    if taken is None or name not in taken.columns or id_ not in taken.rows:
        raise InvalidInputError(
            f"{name!r} of {id_!r} is empty, and nothing says that the frame was taken with it (attrs are lost in CSV, "
            "Polars and when frames are put together). Put exp_pool.MISSING there to take the value away (in Arrow and "
            "Polars the text MISSING, in columns of JSON text), or leave the row or the column out"
        )
    return MISSING


# ── Rows that are new, or not there ───────────────────────────────────────────────────────────────────────────────────


def _added(pool: Pool, table: EditedFrame, places: Sequence[int]) -> list[Record]:
    keys: dict[str, int] = {}
    rows = []
    for at in places:
        if table.deletes(at):
            raise InvalidInputError(f"row {at} has no id and is to be deleted; leave it out")
        cells = {
            name: value
            for name, how in table.columns.items()
            if (how.editable or name in ONLY_IN_NEW_ROWS) and name != DELETED
            if (value := table.value(name, table.cells[name][at], MISSING, at)) is not MISSING
        }
        try:
            row = pool.editor.record_of(Experience(**experience_fields(None, cells)))
        except (pydantic.ValidationError, EncodingError, ValueError) as err:
            raise InvalidInputError(
                f"row {at} has no id, so it is a new experience, and cannot be: {error_text(err)}"
            ) from err
        if row.key in keys:
            raise InvalidInputError(f"rows {keys[row.key]} and {at} are new experiences of the same call; keep one")
        keys[row.key] = at
        rows.append(row)
    return with_inherited_trust(pool.store, rows)


def _missing(
    pool: Pool, table: EditedFrame, there: set[str], stale: dict[str, str]
) -> Iterator[tuple[Record | None, Record | None]]:
    if table.origin is None:
        raise InvalidInputError(
            "delete_missing=True: the frame does not say which rows it was taken with (attrs are lost in CSV, in "
            "Polars, when frames are put together); mark rows with deleted=True instead"
        )
    ids = [id_ for id_ in table.origin.rows if id_ not in there]
    for id_, record in rows_by_id(pool.store, pool.namespace, ids):
        revision = table.origin.rows[id_][0]
        if record is not None and record.revision == revision:
            yield record, None
        elif record is not None:
            stale[id_] = f"its revision is {record.revision} now, and was {revision} when the frame was taken"
