"""Data frames of experiences: pandas, Arrow and Polars, whole or in pieces.

A frame carries its origin (`FrameOrigin`), in pandas in ``frame.attrs``, in Arrow in the metadata of the schema, so
that edits can be told from what others changed meanwhile. The origin is one text: copying it costs pandas nothing, and
Parquet keeps it.

pandas holds Python values. Columns of Arrow and Polars have one type each. So columns of any type (response, expected,
arguments, trajectory, parents) hold JSON text there, as in the store, and metadata that is not of one plain type stands
in ``metadata_json.<key>``.
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
from exp_pool.curation.columns import METADATA, METADATA_JSON, CellKind, ColumnSelection, column
from exp_pool.curation.optional_packages import package
from exp_pool.errors import ConflictError, DecodingError, InvalidInputError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from exp_pool.api.manager import ExpManager
    from exp_pool.api.pool import Pool

FRAME_ORIGIN = "exp_pool"  # the entry of attrs, and of a schema's metadata
_Cells: TypeAlias = dict[str, Sequence[Any]]
_LARGEST = 2**63
_NO_TIME = -(2**63)  # numpy's NaT


@dataclass(frozen=True, slots=True)
class FrameOrigin:
    """Origin of a frame: namespace, columns, and of each row revision, access count and last access."""

    namespace: str
    columns: frozenset[str]
    rows: Mapping[str, tuple[int, int, int | None]]

    def __str__(self) -> str:
        rows = [[id_, *of] for id_, of in self.rows.items()]
        return dumps({"namespace": self.namespace, "columns": sorted(self.columns), "rows": rows})

    @classmethod
    def parse(cls, text: Any) -> FrameOrigin:
        """Origin from the text that `str` gave."""
        try:
            value = loads(text)
            rows = {row[0]: (row[1], row[2], row[3]) for row in value["rows"]}
            return cls(value["namespace"], frozenset(value["columns"]), rows)
        except (DecodingError, LookupError, TypeError) as err:
            raise InvalidInputError(
                f"the frame's {FRAME_ORIGIN!r} entry cannot be read ({err}); take a new frame with to_frame"
            ) from err


def to_frame(
    manager: ExpManager,
    where: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    *,
    history: bool = False,
) -> pd.DataFrame:
    """Pandas frame of the namespace's experiences: edit it, look at the `diff`, and `apply_frame` it.

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
    """Arrow table of experiences, like `to_frame`. Columns of any type hold JSON text, as the module says.

    A lone surrogate, which Arrow cannot hold, is shown as ``?`` in texts; the store keeps it.

    Args:
        manager: whose pool.
        where: conditions, as in queries.
        columns: only these, as for `to_frame`.
        history: earlier answers, too.
    """
    return _whole(manager, where, columns, history, _arrow)


def to_polars(
    manager: ExpManager,
    where: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    *,
    history: bool = False,
) -> pl.DataFrame:
    """Polars frame of experiences, like `to_arrow`. It does not remember what it was taken from: see `diff`.

    Args:
        manager: whose pool.
        where: conditions, as in queries.
        columns: only these, as for `to_frame`.
        history: earlier answers, too.
    """
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
    """Pandas frame of these rows, like one of `to_frame`.

    Args:
        pool: where they are.
        records: the rows.
        columns: names of columns.
    """
    return _pandas(*_piece(pool, pool.namespace, records, ColumnSelection(columns)))


def _whole(
    manager: ExpManager,
    where: Mapping[str, Any] | None,
    columns: Sequence[str] | None,
    history: bool,
    kind: Callable[[_Cells, FrameOrigin], Any],
) -> Any:
    with _without_garbage_collection():
        return kind(*next(_pieces(manager, where, columns, history=history, rows=None)))


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Pause garbage collection: of millions of new objects none is garbage, and collecting doubles the time."""
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
) -> Iterator[tuple[_Cells, FrameOrigin]]:
    """Pieces of a frame, at least one, even if it is empty."""
    pool, wanted = manager.sync, ColumnSelection(columns)
    namespace, conditions = pool.namespace, parse_where(where)  # now: a generator may run on under another namespace
    recover_unfinished(pool)

    def read() -> Iterator[tuple[_Cells, FrameOrigin]]:
        records = pool.store.scan(RecordQuery(namespace, conditions, history=history))
        yield _piece(pool, namespace, islice(records, rows), wanted)
        for record in records:
            yield _piece(pool, namespace, chain((record,), islice(records, rows and rows - 1)), wanted)

    return read()


def _piece(
    pool: Pool, namespace: str, records: Iterable[Record], wanted: ColumnSelection
) -> tuple[_Cells, FrameOrigin]:
    rows: dict[str, tuple[int, int, int | None]] = {}

    def noted() -> Iterator[Record]:
        for record in records:
            rows[record.id] = (record.revision, record.access_count, record.last_access)
            yield record

    def unreadable(record: Record, err: Exception) -> None:
        del rows[record.id]
        pool.notices.warn_once(f"unreadable:{record.id}", f"left out of the frame: {record.id} cannot be read: {err}")

    cells = wanted.cells(noted(), unreadable)
    return cells, FrameOrigin(namespace, frozenset(cells), rows)


# ── Kinds of frames ───────────────────────────────────────────────────────────────────────────────────────────────────


def _pandas(cells: _Cells, origin: FrameOrigin) -> pd.DataFrame:
    pandas = package("pandas", "curation")
    frame: pd.DataFrame = pandas.DataFrame({name: _series(pandas, name, found) for name, found in cells.items()})
    frame.attrs[FRAME_ORIGIN] = str(origin)
    return frame


def _series(pandas: Any, name: str, cells: Sequence[Any]) -> Any:
    kind = _kind(name, cells)
    if kind is CellKind.TIME:
        import numpy as np

        times = np.array([_NO_TIME if cell is None else cell for cell in cells], dtype=np.int64)
        return pandas.Series(times.view("datetime64[us]")).dt.tz_localize("UTC")
    if kind is CellKind.VALUE:
        return pandas.Series([pandas.NA if cell is MISSING else cell for cell in cells], dtype=object)
    plain = [None if cell is MISSING else cell for cell in cells]
    gaps = None in plain
    try:
        match kind:
            case CellKind.TEXT:
                return pandas.Series(plain, dtype="str")
            case CellKind.INTEGER:
                return pandas.Series(plain, dtype="Int64" if gaps else "int64")
            case CellKind.NUMBER:
                return pandas.Series(plain, dtype="float64")
            case CellKind.FLAG:
                return pandas.Series(plain, dtype="boolean" if gaps else "bool")
    except (UnicodeEncodeError, OverflowError):  # a lone surrogate; an integer of more than 64 bits
        pass
    return pandas.Series([pandas.NA if cell is None else cell for cell in plain], dtype=object)


def _arrow(cells: _Cells, origin: FrameOrigin) -> pa.Table:
    arrow = package("pyarrow", "curation")
    arrays: dict[str, Any] = {}
    for name, found in cells.items():
        kind = _kind(name, found)
        if kind is CellKind.VALUE and name.startswith(METADATA):
            arrays[METADATA_JSON + name.removeprefix(METADATA)] = arrow.array(map(as_json, found), arrow.large_string())
        elif kind is CellKind.INTEGER and any(abs(cell or 0) >= _LARGEST for cell in found):
            raise InvalidInputError(f"column {name!r} holds an integer of more than 64 bits; leave it out of columns=")
        else:
            arrays[name] = arrow.array([SHOWN[kind](cell) for cell in found], _arrow_type(arrow, kind))
    table: pa.Table = arrow.table(arrays)
    return table.replace_schema_metadata({FRAME_ORIGIN: str(origin)})


def _arrow_type(arrow: Any, kind: CellKind) -> Any:
    match kind:
        case CellKind.INTEGER:
            return arrow.int64()
        case CellKind.NUMBER:
            return arrow.float64()
        case CellKind.FLAG:
            return arrow.bool_()
        case CellKind.TIME:
            return arrow.timestamp("us", "UTC")
        case _:
            return arrow.large_string()


def as_json(cell: Any) -> str | None:
    """JSON text of a cell of any type, as Arrow frames show it."""
    return None if cell is MISSING else dumps(cell)


def as_text(cell: Any) -> str | None:
    """Text as Arrow frames show it."""
    return None if cell is MISSING or cell is None else cell.encode("utf-8", "replace").decode("utf-8")


def _as_is(cell: Any) -> Any:
    return None if cell is MISSING else cell


SHOWN: Mapping[CellKind, Callable[[Any], Any]] = {
    **dict.fromkeys(CellKind, _as_is),
    CellKind.TEXT: as_text,
    CellKind.VALUE: as_json,
}


def _polars(cells: _Cells, origin: FrameOrigin) -> pl.DataFrame:
    polars = package("polars", "polars")
    frame: pl.DataFrame = polars.from_arrow(_arrow(cells, origin))
    return frame


def _kind(name: str, cells: Sequence[Any]) -> CellKind:
    """Type of the cells of a column; of metadata the plain type that all cells have."""
    kind = column(name).kind
    if kind is not CellKind.VALUE or not name.startswith(METADATA):
        return kind
    types = {type(cell) for cell in cells if cell is not MISSING}
    plain = _PLAIN.get(types.pop()) if len(types) == 1 else None
    if plain is CellKind.INTEGER and any(cell is not MISSING and abs(cell) >= _LARGEST for cell in cells):
        plain = None
    if plain is CellKind.NUMBER and any(
        cell is not MISSING and math.isnan(cell) for cell in cells
    ):  # taken for nothing
        plain = None
    if plain is CellKind.TEXT and any(cell is not MISSING and not _is_utf8(cell) for cell in cells):
        plain = None
    return plain or CellKind.VALUE


_PLAIN = {str: CellKind.TEXT, int: CellKind.INTEGER, float: CellKind.NUMBER, bool: CellKind.FLAG}


def _is_utf8(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


_KINDS: dict[str, Callable[[_Cells, FrameOrigin], Any]] = {"pandas": _pandas, "arrow": _arrow, "polars": _polars}


def recover_unfinished(pool: Pool) -> None:
    """Finish what a killed process left unfinished; a change that another process is making goes on."""
    with suppress(ConflictError):
        pool.journal.recover()
