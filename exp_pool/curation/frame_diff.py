"""What was edited in a frame, against the store as it is now: `diff`.

Row by row: the stored row is shown as the frame would show it, and a cell that says something else was edited, unless
the row has another revision than the frame: then others may have been at it, and the row is `stale`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pydantic

from exp_pool.core.experience import MISSING, Experience, Score
from exp_pool.core.record import Record, sized, to_experience, to_record, vouched_for
from exp_pool.curation.cells import EMPTY, is_null, read_cell, same
from exp_pool.curation.change_set import Change, planned
from exp_pool.curation.columns import (
    DELETED,
    FOUND,
    METADATA,
    METADATA_JSON,
    METRIC,
    SCORE,
    Column,
    Kind,
    Row,
    column,
)
from exp_pool.curation.frames import SELECTION, Selection, settle
from exp_pool.errors import EncodingError, InvalidInputError, NotFoundError
from exp_pool.runtime.clock import to_datetime
from exp_pool.stores.lineage import with_inherited_trust

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager
    from exp_pool.api.pool import Pool

_BATCH = 500
_NAMED = 5  # ids in a message
_USED = ("access_count", "last_access")  # they move without a new revision
_TEXTS = frozenset("response expected metadata trajectory scores".split())  # which make up size_bytes
_NEW = frozenset("function version request arguments created_at".split())  # what only a new experience can be given
_BY_HAND = "by hand"
_SCALARS = (str, int, float, bool)

# The columns of a record in which an edited column is kept, where the names differ.
_KEPT_IN = {METADATA: ("metadata",), METADATA_JSON: ("metadata",), METRIC: ("metric",), SCORE: ("scores", "score")}


@dataclass(frozen=True)
class _Table:
    """A frame of any kind."""

    cells: Mapping[str, Sequence[Any]]
    columns: Mapping[str, Column]
    count: int
    selection: Selection | None
    json: bool
    floats: frozenset[str]

    def cell(self, name: str, at: int) -> Any:
        found = self.cells.get(name)
        return None if found is None else found[at]


def diff(manager: ExpManager, frame: Any, *, delete_missing: bool = False) -> Change:
    """What applying an edited frame would do; nothing is written. See `Change`.

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
    settle(pool)
    table = _read(frame)
    _check(table, pool.space)
    old, new = _places(table)
    pairs: list[tuple[Record | None, Record | None]] = []
    stale: dict[str, str] = {}
    for start in range(0, len(old), _BATCH):
        pairs += _changed(pool, table, old[start : start + _BATCH], stale)
    if delete_missing:
        pairs += _missing(pool, table, {table.cells["id"][at] for at in old}, stale)
    pairs += ((None, row) for row in _added(pool, table, new))
    change = planned(pool.space, "apply", pairs, stale=stale)
    return replace(change, stale=stale | pool.journal.obstacles(change.edits))


# ── Frames ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(frame: Any) -> _Table:
    """The frame without what `review` said of its rows: that is for people."""
    kind = type(frame).__module__.partition(".")[0]
    if kind == "polars" and hasattr(frame, "to_arrow"):
        frame, kind = frame.to_arrow(), "pyarrow"
    if kind == "pandas" and hasattr(frame, "columns"):
        names = [*frame.columns]
        if "id" not in names and frame.index.name == "id":
            frame = frame.reset_index()
            names = [*frame.columns]
        _once("column", names)
        names = [name for name in names if not str(name).startswith(FOUND)]
        cells = {name: frame[name].tolist() for name in names}
        text = frame.attrs.get(SELECTION)
        floats = frozenset(name for name in names if frame[name].dtype.kind == "f")
    elif kind == "pyarrow" and hasattr(frame, "schema"):
        _once("column", frame.column_names)
        cells = {name: frame[name].to_pylist() for name in frame.column_names if not name.startswith(FOUND)}
        floats = frozenset()
        found = (frame.schema.metadata or {}).get(SELECTION.encode())
        text = None if found is None else found.decode()
    else:
        raise InvalidInputError(
            f"{frame!r:.80} is no frame; give one of to_frame, to_arrow, to_polars or iter_frames, or a diff"
        )
    columns = {name: column(name) for name in cells}
    selection = None if text is None else Selection.parse(text)
    return _Table(cells, columns, len(frame), selection, kind == "pyarrow", floats)


def _once(what: str, names: Sequence[Any]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InvalidInputError(
            f"{what} {', '.join(map(repr, twice[:_NAMED]))} stands in the frame more than once; keep one of each"
        )


def _check(table: _Table, namespace: str) -> None:
    if "id" not in table.cells:
        raise InvalidInputError("the frame has no column 'id', so nobody knows which experiences its rows are")
    spaces = {str(cell) for cell in table.cells.get("namespace", ()) if not is_null(cell)}
    if table.selection is not None:
        spaces.add(table.selection.namespace)
    if others := sorted(spaces - {namespace}):
        raise InvalidInputError(
            f"the frame has experiences of the namespace {others[0]!r}, and this is {namespace!r}; apply it to a "
            f"manager of that namespace, or in `with in_namespace({others[0]!r})`"
        )


def _places(table: _Table) -> tuple[list[int], list[int]]:
    """Where rows with an id stand, and where those without one do."""
    cells = table.cells["id"]
    old: list[int] = []
    new: list[int] = []
    for at in range(table.count):
        (new if is_null(cells[at]) else old).append(at)
    for at in old:
        if not isinstance(cells[at], str) or not cells[at]:
            raise InvalidInputError(f"row {at}: id={cells[at]!r:.80} is no id; leave it empty for a new experience")
    _once("id", [cells[at] for at in old])
    return old, new


# ── Rows that are there ───────────────────────────────────────────────────────────────────────────────────────────────


def _changed(
    pool: Pool, table: _Table, places: Sequence[int], stale: dict[str, str]
) -> Iterator[tuple[Record | None, Record | None]]:
    ids = [table.cells["id"][at] for at in places]
    unknown = []
    for id_, at, record in zip(ids, places, pool.store.get_many(pool.space, ids, by="id"), strict=True):
        going = _going(table, at)
        if record is not None:
            revision = _revision(table, id_, at)
            edited = {} if going else _edited(table, Row(record), id_, at, same_revision=revision == record.revision)
            if (edited or going) and revision != record.revision:
                stale[id_] = f"its revision is {record.revision} now, and was {revision} when the frame was taken"
            elif going:
                yield record, None
            elif edited:
                yield record, edited_row(pool, record, edited)
        elif table.selection is not None and id_ in table.selection.rows:
            if not going:
                stale[id_] = "it was deleted meanwhile"
        else:
            unknown.append(id_)
    if unknown:
        raise NotFoundError(
            f"{len(unknown):,} experiences of the frame are not in namespace {pool.space!r}, but deleted, or another "
            f"namespace's: {', '.join(map(repr, unknown[:_NAMED]))}. Leave the rows out, or the id empty for new ones"
        )


def _going(table: _Table, at: int) -> bool:
    cell = table.cell(DELETED, at)
    return not is_null(cell) and bool(_said(table, DELETED, cell, False, at))


def _revision(table: _Table, id_: str, at: int) -> int:
    """The one that the frame was taken with."""
    cell = table.cell("revision", at)
    taken = table.selection.rows.get(id_) if table.selection is not None else None
    if is_null(cell):
        if taken is None:
            raise InvalidInputError(
                f"the frame does not say which revision of {id_!r} it shows; keep the column 'revision' (a frame of "
                "to_frame knows it by its attrs, too)"
            )
        return taken[0]
    revision = _said(table, "revision", cell, MISSING, at)
    if not isinstance(revision, int):
        raise InvalidInputError(f"row {at}, {id_!r}: revision={cell!r} is no revision; leave the column as it is")
    if taken is not None and revision != taken[0]:
        raise _fixed("revision", id_, taken[0], revision)
    return revision


def _edited(table: _Table, row: Row, id_: str, at: int, *, same_revision: bool) -> dict[str, Any]:
    """What the frame says otherwise, by column. Read-only columns must say what the store says."""
    edited: dict[str, Any] = {}
    taken = table.selection.rows.get(id_) if table.selection is not None else None
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
        value = _said(table, name, cell, present, at)
        if value is present or same(value, present):
            continue
        if value is EMPTY:
            value = _emptied(table, name, id_) if same_revision else MISSING
        if not how.editable:
            raise _fixed(name, id_, present, value)
        edited[name] = value
    return edited


def _used(name: str, present: Any, taken: tuple[int, int, int | None] | None, cell: Any) -> Any:
    """What the frame showed: the experience may have been used since."""
    if taken is not None:
        shown = taken[1 + _USED.index(name)]
        return MISSING if shown is None else shown
    if is_null(cell):
        return MISSING
    said = read_cell(column(name), cell, present, json=False, floats=False)
    return said if present is not MISSING and said <= present else present


def _emptied(table: _Table, name: str, id_: str) -> Any:
    """A null cell takes the value away, if the frame showed that value; a column that was put in shows nothing."""
    taken = table.selection
    if taken is None or name not in taken.columns or id_ not in taken.rows:
        raise InvalidInputError(
            f"{name!r} of {id_!r} is empty, and nothing says that the frame was taken with it (attrs are lost in CSV, "
            "Polars and when frames are put together). Put exp_pool.MISSING there to take the value away (in Arrow and "
            "Polars the text MISSING, in columns of JSON text), or leave the row or the column out"
        )
    return MISSING


def _fixed(name: str, id_: str, present: Any, value: Any) -> InvalidInputError:
    remedy = (
        "edit score.<scorer>"
        if name == "score"
        else "use a new row without an id"
        if name in _NEW
        else "leave the column as it is, or out"
    )
    return InvalidInputError(
        f"column {name!r} is read-only, and {id_!r} has {value!r:.80} there instead of {present!r:.80}; {remedy}"
    )


def _said(table: _Table, name: str, cell: Any, present: Any, at: int) -> Any:
    try:
        return read_cell(table.columns[name], cell, present, json=table.json, floats=name in table.floats)
    except (InvalidInputError, OverflowError, ValueError) as err:
        raise InvalidInputError(f"row {at}, {table.cell('id', at)!r}, column {name!r}: {err}") from err


def edited_row(pool: Pool, record: Record, edited: Mapping[str, Any]) -> Record:
    """The row with these cells. What was not edited stays as it is written, byte for byte."""
    before = to_experience(record)
    try:
        changes = _fields(before, edited)
        after = to_record(before.model_copy()._with(**changes), record.namespace, key=record.key)  # noqa: SLF001
    except (pydantic.ValidationError, EncodingError) as err:
        raise InvalidInputError(f"{record.id!r}, {', '.join(edited)}: {_words(err)}") from err
    kept: set[str] = set()
    for name in edited:
        family = name.partition(".")[0] + "."
        kept.update(_KEPT_IN.get(family, (name,)) if "." in name else (name,))
    row = replace(record, **{name: getattr(after, name) for name in kept})
    if kept & _TEXTS:
        row = sized(row)
    if "parents" in kept:
        (row,) = with_inherited_trust(pool.store, [row])
    return vouched_for(row) if "response" in kept or ("trust" in kept and row.trust == "trusted") else row


def _fields(before: Experience | None, cells: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an experience from cells."""
    changes: dict[str, Any] = {}
    scores = dict(before.scores) if before is not None else {}
    metadata = dict(before.metadata) if before is not None else {}
    metric = before.metric.model_dump(exclude_none=True) if before is not None else {}
    for name, value in cells.items():
        family, dot, member = name.partition(".")
        if not dot:
            changes[name] = _field(name, value)
        elif family + dot == SCORE:
            changes["scores"] = _set(scores, member, _score(member, scores.get(member), value))
        elif family + dot == METRIC:
            changes["metric"] = _set(metric, member, value)
        else:
            changes["metadata"] = _set(metadata, member, value)
    return changes


def _field(name: str, value: Any) -> Any:
    if name in ("response", "expected"):
        return value
    if value is MISSING or value is None:
        return [] if name in ("parents", "trajectory") else None
    return to_datetime(value) if column(name).kind is Kind.TIME else value


def _set(members: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    if value is MISSING:
        members.pop(name, None)
    else:
        members[name] = value
    return members


def _score(scorer: str, before: Score | None, value: Any) -> Any:
    """The scorer's name and version stay, so that scoring goes on to leave out what has a score."""
    if value is MISSING:
        return MISSING
    return Score(value=value, reason=_BY_HAND, scorer=scorer, version=before.version if before is not None else "")


# ── Rows that are new, or not there ───────────────────────────────────────────────────────────────────────────────────


def _added(pool: Pool, table: _Table, places: Sequence[int]) -> list[Record]:
    keys: dict[str, int] = {}
    rows = []
    for at in places:
        if _going(table, at):
            raise InvalidInputError(f"row {at} has no id and is to be deleted; leave it out")
        cells = {
            name: value
            for name, how in table.columns.items()
            if (how.editable or name in _NEW) and name != DELETED
            if (value := _said(table, name, table.cells[name][at], MISSING, at)) is not MISSING
        }
        try:
            row = pool.editor.record_of(Experience(**_fields(None, cells)))
        except (pydantic.ValidationError, EncodingError, ValueError) as err:
            raise InvalidInputError(
                f"row {at} has no id, so it is a new experience, and cannot be: {_words(err)}"
            ) from err
        if row.key in keys:
            raise InvalidInputError(f"rows {keys[row.key]} and {at} are new experiences of the same call; keep one")
        keys[row.key] = at
        rows.append(row)
    return with_inherited_trust(pool.store, rows)


def _missing(
    pool: Pool, table: _Table, there: set[str], stale: dict[str, str]
) -> Iterator[tuple[Record | None, Record | None]]:
    if table.selection is None:
        raise InvalidInputError(
            "delete_missing=True: the frame does not say which rows it was taken with (attrs are lost in CSV, in "
            "Polars, when frames are put together); mark rows with deleted=True instead"
        )
    ids = [id_ for id_ in table.selection.rows if id_ not in there]
    for start in range(0, len(ids), _BATCH):
        for record in pool.store.get_many(pool.space, ids[start : start + _BATCH], by="id"):
            if record is None:
                continue
            revision = table.selection.rows[record.id][0]
            if record.revision == revision:
                yield record, None
            else:
                stale[record.id] = f"its revision is {record.revision} now, and was {revision} when the frame was taken"


def _words(err: Exception) -> str:
    if isinstance(err, pydantic.ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".lstrip(": ") for e in err.errors())
    return str(err)
