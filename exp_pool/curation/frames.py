"""Experiences as frames: pandas, Arrow and Polars, whole or piece by piece.

A frame says by itself what it was taken from (`Selection`), in pandas in ``frame.attrs``, in Arrow in the schema's
metadata, so that edits of it can be told from what others changed meanwhile. It is text: pandas copies it for
nothing, and Parquet keeps it.

pandas holds values as Python has them. Arrow and Polars, whose columns have one type each, hold JSON text, as the store
does, in the columns of any type (response, expected, arguments, trajectory, parents); metadata that is not of one plain
type stands in ``metadata_json.<key>``.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeAlias

from exp_pool.core.contracts.plugs import RecordQuery
from exp_pool.core.experience import MISSING
from exp_pool.core.filters import parse_where
from exp_pool.core.record import Record
from exp_pool.core.values.encoding import dumps, loads
from exp_pool.curation.columns import METADATA, METADATA_JSON, Kind, Wanted, column
from exp_pool.curation.optional_packages import package
from exp_pool.errors import ConflictError, DecodingError, InvalidInputError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from exp_pool.api.manager import ExpManager
    from exp_pool.api.pool import Pool

SELECTION = "exp_pool"  # the entry of attrs, and of a schema's metadata
_Cells: TypeAlias = dict[str, Sequence[Any]]
_LARGEST = 2**63
_NO_TIME = -(2**63)  # numpy's NaT


@dataclass(frozen=True, slots=True)
class Selection:
    """What a frame was taken from: namespace, columns, and of each row revision, access count and last access."""

    namespace: str
    columns: frozenset[str]
    rows: Mapping[str, tuple[int, int, int | None]]

    def __str__(self) -> str:
        rows = [[id_, *of] for id_, of in self.rows.items()]
        return dumps({"namespace": self.namespace, "columns": sorted(self.columns), "rows": rows})

    @classmethod
    def parse(cls, text: Any) -> Selection:
        """The selection of what `str` gave."""
        try:
            value = loads(text)
            rows = {row[0]: (row[1], row[2], row[3]) for row in value["rows"]}
            return cls(value["namespace"], frozenset(value["columns"]), rows)
        except (DecodingError, LookupError, TypeError) as err:
            raise InvalidInputError(
                f"the frame's {SELECTION!r} entry cannot be read ({err}); take a new frame with to_frame"
            ) from err


def to_frame(
    manager: ExpManager,
    where: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    *,
    history: bool = False,
) -> pd.DataFrame:
    """The namespace's experiences as a pandas frame: edit it, look at the `diff`, and `apply_frame` it.

    One row for each experience, by `created_at`, expired and quarantined ones too. Flat columns: scores as
    ``score.<scorer>``, metadata as ``metadata.<key>`` (all after the first dot is the key). Times are aware UTC,
    texts ``str``, integers stay integers where some are missing. A missing cell is null; the answer None is None.

    Args:
        manager: whose pool; the namespace is the manager's, or that of ``in_namespace``.
        where: conditions, as in queries; None: everything.
        columns: only these; ``score.*`` and ``metadata.*`` mean all of these. `id` and `revision` always come along.
        history: earlier answers, too.

    Raises:
        InvalidInputError: an unknown field in `where`, or an unknown column.
        ConfigurationError: pandas is not installed.
        StoreError: the store failed.
    """
    return _whole(manager, where, columns, history, _pandas)


def to_arrow(
    manager: ExpManager,
    where: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    *,
    history: bool = False,
) -> pa.Table:
    """`to_frame` as an Arrow table. Columns of any type hold JSON text, as the module says.

    A lone surrogate, which Arrow cannot hold, is shown as ``?`` in texts; the store keeps it.
    """
    return _whole(manager, where, columns, history, _arrow)


def to_polars(
    manager: ExpManager,
    where: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    *,
    history: bool = False,
) -> pl.DataFrame:
    """`to_arrow` as a Polars frame, which does not remember what it was taken from: see `diff`."""
    return _whole(manager, where, columns, history, _polars)


def iter_frames(
    manager: ExpManager,
    where: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    *,
    rows: int = 10_000,
    kind: str = "pandas",
    history: bool = False,
) -> Iterator[Any]:
    """`to_frame` in pieces, for pools larger than memory. Each piece is a frame of its own, and can be applied as one.

    Args:
        manager: whose pool.
        where: conditions, as in queries.
        columns: only these; by default the metadata columns of a piece are those that its rows have.
        rows: how many a piece has at most.
        kind: ``"pandas"``, ``"arrow"`` or ``"polars"``.
        history: earlier answers, too.

    Raises:
        InvalidInputError: a value that cannot be, or an unknown column.
    """
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise InvalidInputError(f"rows={rows!r} must be a whole number of at least 1")
    if kind not in _KINDS:
        raise InvalidInputError(f"kind={kind!r} is unknown; known: {', '.join(_KINDS)}")
    taken = _pieces(manager, where, columns, history=history, rows=rows)
    return (_KINDS[kind](*piece) for piece in taken)


def frame_of(pool: Pool, records: Iterable[Record], columns: Sequence[str]) -> pd.DataFrame:
    """These rows as a frame, like one of `to_frame`."""
    return _pandas(*_taken(pool, pool.space, records, Wanted(columns)))


def _whole(
    manager: ExpManager,
    where: Mapping[str, Any] | None,
    columns: Sequence[str] | None,
    history: bool,
    kind: Callable[[_Cells, Selection], Any],
) -> Any:
    with _nothing_collected():
        return kind(*next(_pieces(manager, where, columns, history=history, rows=None)))


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Millions of objects are made and none is garbage: looking for it again and again doubles the time of a frame."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _pieces(
    manager: ExpManager,
    where: Mapping[str, Any] | None,
    columns: Sequence[str] | None,
    *,
    history: bool,
    rows: int | None,
) -> Iterator[tuple[_Cells, Selection]]:
    """The first piece even where it is empty."""
    pool, wanted = manager.sync, Wanted(columns)
    space, conditions = pool.space, parse_where(where)  # now: a generator may run on under another namespace
    settle(pool)

    def read() -> Iterator[tuple[_Cells, Selection]]:
        records = pool.store.scan(RecordQuery(space, conditions, history=history))
        yield _taken(pool, space, islice(records, rows), wanted)
        for record in records:
            yield _taken(pool, space, chain((record,), islice(records, rows and rows - 1)), wanted)

    return read()


def _taken(pool: Pool, space: str, records: Iterable[Record], wanted: Wanted) -> tuple[_Cells, Selection]:
    rows: dict[str, tuple[int, int, int | None]] = {}

    def noted() -> Iterator[Record]:
        for record in records:
            rows[record.id] = (record.revision, record.access_count, record.last_access)
            yield record

    def unreadable(record: Record, err: Exception) -> None:
        del rows[record.id]
        pool.notices.warn_once(f"unreadable:{record.id}", f"left out of the frame: {record.id} cannot be read: {err}")

    cells = wanted.cells(noted(), unreadable)
    return cells, Selection(space, frozenset(cells), rows)


# ── Kinds of frames ───────────────────────────────────────────────────────────────────────────────────────────────────


def _pandas(cells: _Cells, selection: Selection) -> pd.DataFrame:
    pandas = package("pandas", "curation")
    frame: pd.DataFrame = pandas.DataFrame({name: _series(pandas, name, found) for name, found in cells.items()})
    frame.attrs[SELECTION] = str(selection)
    return frame


def _series(pandas: Any, name: str, cells: Sequence[Any]) -> Any:
    kind = _kind(name, cells)
    if kind is Kind.TIME:
        import numpy as np

        times = np.array([_NO_TIME if cell is None else cell for cell in cells], dtype=np.int64)
        return pandas.Series(times.view("datetime64[us]")).dt.tz_localize("UTC")
    if kind is Kind.VALUE:
        return pandas.Series([pandas.NA if cell is MISSING else cell for cell in cells], dtype=object)
    plain = [None if cell is MISSING else cell for cell in cells]
    gaps = None in plain
    try:
        match kind:
            case Kind.TEXT:
                return pandas.Series(plain, dtype="str")
            case Kind.INTEGER:
                return pandas.Series(plain, dtype="Int64" if gaps else "int64")
            case Kind.NUMBER:
                return pandas.Series(plain, dtype="float64")
            case Kind.FLAG:
                return pandas.Series(plain, dtype="boolean" if gaps else "bool")
    except (UnicodeEncodeError, OverflowError):  # a lone surrogate; an integer of more than 64 bits
        pass
    return pandas.Series([pandas.NA if cell is None else cell for cell in plain], dtype=object)


def _arrow(cells: _Cells, selection: Selection) -> pa.Table:
    arrow = package("pyarrow", "curation")
    arrays: dict[str, Any] = {}
    for name, found in cells.items():
        kind = _kind(name, found)
        if kind is Kind.VALUE and name.startswith(METADATA):
            arrays[METADATA_JSON + name.removeprefix(METADATA)] = arrow.array(map(as_json, found), arrow.large_string())
        elif kind is Kind.INTEGER and any(abs(cell or 0) >= _LARGEST for cell in found):
            raise InvalidInputError(f"column {name!r} holds an integer of more than 64 bits; leave it out of columns=")
        else:
            arrays[name] = arrow.array([SHOWN[kind](cell) for cell in found], _arrow_type(arrow, kind))
    table: pa.Table = arrow.table(arrays)
    return table.replace_schema_metadata({SELECTION: str(selection)})


def _arrow_type(arrow: Any, kind: Kind) -> Any:
    match kind:
        case Kind.INTEGER:
            return arrow.int64()
        case Kind.NUMBER:
            return arrow.float64()
        case Kind.FLAG:
            return arrow.bool_()
        case Kind.TIME:
            return arrow.timestamp("us", "UTC")
        case _:
            return arrow.large_string()


def as_json(cell: Any) -> str | None:
    """A cell of any type as JSON text, as Arrow frames show it."""
    return None if cell is MISSING else dumps(cell)


def as_text(cell: Any) -> str | None:
    """A text as Arrow frames show it."""
    return None if cell is MISSING or cell is None else cell.encode("utf-8", "replace").decode("utf-8")


def _as_is(cell: Any) -> Any:
    return None if cell is MISSING else cell


SHOWN: Mapping[Kind, Callable[[Any], Any]] = {
    **dict.fromkeys(Kind, _as_is),
    Kind.TEXT: as_text,
    Kind.VALUE: as_json,
}


def _polars(cells: _Cells, selection: Selection) -> pl.DataFrame:
    polars = package("polars", "polars")
    frame: pl.DataFrame = polars.from_arrow(_arrow(cells, selection))
    return frame


def _kind(name: str, cells: Sequence[Any]) -> Kind:
    """What the cells of a column hold; of metadata, the plain type that all of them have."""
    kind = column(name).kind
    if kind is not Kind.VALUE or not name.startswith(METADATA):
        return kind
    types = {type(cell) for cell in cells if cell is not MISSING}
    plain = _PLAIN.get(types.pop()) if len(types) == 1 else None
    if plain is Kind.INTEGER and any(cell is not MISSING and abs(cell) >= _LARGEST for cell in cells):
        plain = None
    if plain is Kind.NUMBER and any(cell is not MISSING and math.isnan(cell) for cell in cells):  # taken for nothing
        plain = None
    if plain is Kind.TEXT and any(cell is not MISSING and not _is_utf8(cell) for cell in cells):
        plain = None
    return plain or Kind.VALUE


_PLAIN = {str: Kind.TEXT, int: Kind.INTEGER, float: Kind.NUMBER, bool: Kind.FLAG}


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


_KINDS: dict[str, Callable[[_Cells, Selection], Any]] = {"pandas": _pandas, "arrow": _arrow, "polars": _polars}


def settle(pool: Pool) -> None:
    """End what a killed process left unfinished; whoever is at work now may go on."""
    with suppress(ConflictError):
        pool.journal.recover()
