"""Columns of a frame: what a cell of each holds, where its value comes from, and whether it may be edited.

In a cell, `MISSING` means no value, and None is the value None. Times are microseconds. `frames` says how each kind of
frame shows them, `cells` how an edited cell is read.
"""

from __future__ import annotations

import difflib
import json
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from exp_pool.core.experience import MISSING
from exp_pool.core.record import OWN_METADATA, Record, read_answer
from exp_pool.core.values.encoding import loads
from exp_pool.errors import InvalidInputError


class CellKind(Enum):
    """Type of the cells of a column."""

    TEXT = auto()
    INTEGER = auto()
    NUMBER = auto()
    FLAG = auto()
    TIME = auto()
    VALUE = auto()  # anything that can be stored


@dataclass(frozen=True, slots=True)
class FrameColumn:
    """Column of a frame: where its values come from, and whether people may edit them."""

    name: str
    kind: CellKind
    read: Callable[[ParsedRecord], Any]
    editable: bool = False
    field: str = ""  # of the record, where the cell is just that


class ParsedRecord:
    """Record whose JSON columns are parsed once, when a column needs them."""

    __slots__ = ("_metadata", "_metric", "_scores", "record")

    def __init__(self, record: Record) -> None:
        self.record = record
        self._metadata: dict[str, Any] | None = None
        self._metric: dict[str, Any] | None = None
        self._scores: dict[str, Any] | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata without the package's own entry."""
        if self._metadata is None:
            self._metadata = loads(self.record.metadata)
            self._metadata.pop(OWN_METADATA, None)
        return self._metadata

    @property
    def metric(self) -> dict[str, Any]:
        """What the call cost, as far as it is known."""
        if self._metric is None:
            self._metric = _loads(self.record.metric)
        return self._metric

    @property
    def scores(self) -> dict[str, Any]:
        """Scores by scorer, in their order."""
        if self._scores is None:
            self._scores = _loads(self.record.scores)
        return self._scores


def _loads(text: str) -> Any:
    """Parse JSON; most rows hold an empty list or object, which is not parsed."""
    return [] if text == "[]" else {} if text == "{}" else json.loads(text)


def _plain(name: str, kind: CellKind, *, editable: bool = False) -> FrameColumn:
    def read(row: ParsedRecord) -> Any:
        found = getattr(row.record, name)
        return MISSING if found is None else found

    return FrameColumn(name, kind, read, editable, name)


def _of_metric(name: str) -> Callable[[ParsedRecord], Any]:
    return lambda row: row.metric.get(name, MISSING)


def _of_score(name: str) -> Callable[[ParsedRecord], Any]:
    return lambda row: row.scores[name]["value"] if name in row.scores else MISSING


def _of_metadata(name: str) -> Callable[[ParsedRecord], Any]:
    return lambda row: row.metadata.get(name, MISSING)


SCORE, METADATA, METADATA_JSON, METRIC = "score.", "metadata.", "metadata_json.", "metric."
DELETED = "deleted"
FOUND = "found."  # columns of what `review` says of rows; passed over when a frame is applied
_FAMILIES = (SCORE, METADATA, METADATA_JSON)
_METRICS = {
    "time_s": CellKind.NUMBER,
    "money_usd": CellKind.NUMBER,
    "tokens_in": CellKind.INTEGER,
    "tokens_out": CellKind.INTEGER,
}

_FIXED: dict[str, FrameColumn] = {
    column.name: column
    for column in (
        _plain("id", CellKind.TEXT),
        _plain("function", CellKind.TEXT),
        _plain("version", CellKind.TEXT),
        _plain("request", CellKind.TEXT),
        FrameColumn("arguments", CellKind.VALUE, lambda row: loads(row.record.arguments)),
        FrameColumn(
            "response", CellKind.VALUE, lambda row: read_answer(row.record.response, row.record.codec), editable=True
        ),
        FrameColumn(
            "expected", CellKind.VALUE, lambda row: read_answer(row.record.expected, row.record.codec), editable=True
        ),
        _plain("annotated", CellKind.FLAG),
        _plain("kind", CellKind.TEXT, editable=True),
        _plain("origin", CellKind.TEXT, editable=True),
        _plain("trust", CellKind.TEXT, editable=True),
        _plain("score", CellKind.NUMBER),
        _plain("model", CellKind.TEXT, editable=True),
        _plain("strategy", CellKind.TEXT, editable=True),
        *(FrameColumn(METRIC + name, kind, _of_metric(name), editable=True) for name, kind in _METRICS.items()),
        FrameColumn("trajectory", CellKind.VALUE, lambda row: _loads(row.record.trajectory), editable=True),
        FrameColumn("parents", CellKind.VALUE, lambda row: _loads(row.record.parents), editable=True),
        _plain("created_at", CellKind.TIME),
        _plain("expires_at", CellKind.TIME, editable=True),
        _plain("last_access", CellKind.TIME),
        _plain("access_count", CellKind.INTEGER),
        _plain("key", CellKind.TEXT),
        _plain("codec", CellKind.TEXT),
        _plain("size_bytes", CellKind.INTEGER),
        _plain("schema_version", CellKind.INTEGER),
        _plain("is_current", CellKind.FLAG),
        _plain("superseded_by", CellKind.TEXT),
        _plain("namespace", CellKind.TEXT),
        _plain("revision", CellKind.INTEGER),
        FrameColumn(DELETED, CellKind.FLAG, lambda _: False, editable=True),
    )
}
ALWAYS = ("id", "revision")  # without these nothing can be applied
_AFTER = {SCORE: "score", METADATA: "parents"}  # where the columns of a family stand


def column(name: str) -> FrameColumn:
    """Column of a name.

    Raises:
        InvalidInputError: there is no such column; the message names the nearest one.
    """
    if name in _FIXED:
        return _FIXED[name]
    if isinstance(name, str):
        for family, kind, read in (
            (SCORE, CellKind.NUMBER, _of_score),
            (METADATA, CellKind.VALUE, _of_metadata),
            (METADATA_JSON, CellKind.VALUE, _of_metadata),
        ):
            if name.startswith(family):
                member = name.removeprefix(family)
                return FrameColumn(name, kind, read(member), editable=family == SCORE or member != OWN_METADATA)
    close = difflib.get_close_matches(str(name), [*_FIXED, *_FAMILIES], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise InvalidInputError(
        f"there is no column {name!r}{hint} Drop it, or name it {METADATA}{name} to keep it in the metadata. "
        f"Columns: {', '.join(_FIXED)}, {SCORE}<scorer>, {METADATA}<key>"
    )


def editable_cells(record: Record) -> dict[str, Any]:
    """Values of a record that people may edit, by column."""
    row = ParsedRecord(record)
    cells = {name: column.read(row) for name, column in _FIXED.items() if column.editable and name != DELETED}
    cells |= {SCORE + scorer: score["value"] for scorer, score in row.scores.items()}
    return cells | {METADATA + key: value for key, value in row.metadata.items()}


class ColumnSelection:
    """Selected columns: by name, ``score.*`` and ``metadata.*`` for all of a family, None for all."""

    def __init__(self, columns: Sequence[str] | None) -> None:
        if isinstance(columns, str):
            raise InvalidInputError(f"columns={columns!r} must be a list of names, such as [{columns!r}]")
        names = [*_FIXED, SCORE + "*", METADATA + "*"] if columns is None else [*columns]
        if columns is not None:
            names = [*ALWAYS[:1], *(n for n in dict.fromkeys(names) if n not in ALWAYS), *ALWAYS[1:]]
        self._families = [name[:-1] for name in names if name in (SCORE + "*", METADATA + "*")]
        self._columns = [column(name) for name in names if name[:-1] not in self._families]
        self._made = [each for each in self._columns if not each.field]
        self._fields = [each.field for each in self._columns if each.field]

    def cells(
        self, records: Iterable[Record], unreadable: Callable[[Record, Exception], object]
    ) -> dict[str, Sequence[Any]]:
        """Cells of these records by column, in order. A record that cannot be read is left out and reported.

        A time, text or number that is not there is None, which costs nothing; None among values is the value.
        """
        plain_of = operator.attrgetter(*self._fields)
        plain: list[tuple[Any, ...]] = []
        made: list[list[Any]] = []
        members: dict[str, list[Any]] = {}
        for record in records:
            row = ParsedRecord(record)
            try:
                found = [each.read(row) for each in self._made]
                more = self._members(row)
            except (ValueError, LookupError, TypeError, AttributeError) as err:
                unreadable(record, err)
                continue
            for name, cell in more.items():
                if name not in members:
                    members[name] = []
                members[name] += [MISSING] * (len(plain) - len(members[name]))
                members[name].append(cell)
            plain.append(plain_of(record))
            made.append(found)
        for cells in members.values():
            cells.extend([MISSING] * (len(plain) - len(cells)))
        by_field = dict(zip(self._fields, zip(*plain, strict=True), strict=True)) if plain else {}
        by_name = dict(zip((each.name for each in self._made), zip(*made, strict=True), strict=True)) if made else {}
        fixed: dict[str, Sequence[Any]] = {
            each.name: (by_field if each.field else by_name).get(each.name, ()) for each in self._columns
        }
        return self._in_order(fixed, members)

    def _members(self, row: ParsedRecord) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if SCORE in self._families:
            more |= {SCORE + scorer: score["value"] for scorer, score in row.scores.items()}
        if METADATA in self._families:
            more |= {METADATA + key: value for key, value in row.metadata.items()}
        return more

    def _in_order(self, fixed: dict[str, Sequence[Any]], members: dict[str, list[Any]]) -> dict[str, Sequence[Any]]:
        """Put families behind the column that they belong to, sorted, so that two frames of one pool are alike."""
        ordered: dict[str, Sequence[Any]] = {}
        left = sorted(name for name in members if name not in fixed)
        for name, cells in fixed.items():
            ordered[name] = cells
            for family, before in _AFTER.items():
                if name == before:
                    ordered |= {n: members[n] for n in left if n.startswith(family)}
        return ordered | {name: members[name] for name in left if name not in ordered}
