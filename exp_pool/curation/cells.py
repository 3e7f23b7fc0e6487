"""Reading edited cells: pandas turns integers into floats, and has four kinds of null."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Any, Final

from exp_pool.core.experience import MISSING
from exp_pool.core.values.deep_equal import difference
from exp_pool.core.values.encoding import loads
from exp_pool.curation.columns import METADATA, CellKind, FrameColumn
from exp_pool.curation.frames import SHOWN, as_text
from exp_pool.errors import DecodingError, InvalidInputError
from exp_pool.runtime.clock import to_us

_PANDAS_NOTHING = ("NAType", "NaTType")


class Nothing(Enum):
    """The types of `NONE` and `EMPTY`: an enum, so that type checkers can narrow them."""

    NONE = "NONE"
    EMPTY = "EMPTY"

    def __repr__(self) -> str:
        return self.value


NONE: Final = Nothing.NONE
"""In a cell: the value None. A cell that is null says that there is no value."""

EMPTY: Final = Nothing.EMPTY
"""The cell is null where there is a value."""


def read_cell(column: FrameColumn, cell: Any, present: Any, *, json: bool, floats: bool) -> Any:
    """Value of an edited cell, in the form of `columns`; `present` itself where the cell was not edited.

    Args:
        column: which.
        cell: as the frame has it.
        present: the cell of the stored row; `MISSING` for a new one.
        json: Arrow or Polars, whose columns of any type hold JSON text.
        floats: pandas keeps the column as floats, whatever it was.

    Raises:
        InvalidInputError: it cannot be; the message does not name the row.
    """
    if is_null(cell):
        return present if present is MISSING or is_null(present) else EMPTY
    if cell is NONE:
        return None
    if cell is MISSING:
        return MISSING
    if json and column.kind is CellKind.VALUE and not column.name.startswith(METADATA):
        value = _read_json(cell, present)
    elif json and column.kind is CellKind.TEXT and present is not MISSING and cell == as_text(present):
        value = present
    else:
        value = _READERS[column.kind](cell, present, floats)
    return present if same(present, value) else value


def is_null(cell: Any) -> bool:
    """Whether a cell is null: None, NaN, or a null of pandas (known by name, so that pandas is not imported)."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell)) or type(cell).__name__ in _PANDAS_NOTHING


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, types too."""
    if type(one) is not type(other):
        return False
    if type(one) in (str, int, bool):
        return bool(one == other)
    return difference(one, other) is None


def _read_json(cell: Any, present: Any) -> Any:
    if not isinstance(cell, str):
        raise InvalidInputError(f"{cell!r:.80} must be JSON text in an Arrow or Polars frame")
    if cell == MISSING.value:
        return MISSING
    if cell == SHOWN[CellKind.VALUE](present):
        return present
    try:
        return loads(cell)
    except DecodingError as err:
        raise InvalidInputError(
            f"{cell!r:.80} must be JSON text in an Arrow or Polars frame, a text in quotes ({err})"
        ) from err


def _read_text(cell: Any, _present: Any, _floats: bool) -> str:
    if not isinstance(cell, str):
        raise InvalidInputError(f"{cell!r:.80} must be text")
    return cell.value if isinstance(cell, Enum) else str(cell)


def _plain_reader(types: Any, convert: Callable[[Any], Any], wanted: str) -> Callable[[Any, Any, bool], Any]:
    """Reader of a cell that holds one of these types; of an integer also a float without a fraction."""

    def read(cell: Any, _present: Any, _floats: bool) -> Any:
        value = _plain(cell)
        wrong_type = isinstance(value, bool) != (convert is bool) or not isinstance(value, types)
        if wrong_type or (convert is int and value != int(value)):
            raise InvalidInputError(f"{cell!r:.80} must be {wanted}")
        return convert(value)

    return read


def _read_time(cell: Any, _present: Any, _floats: bool) -> int:
    moment = _plain(cell)
    if not isinstance(moment, datetime):
        raise InvalidInputError(f"{cell!r:.80} must be a time, such as datetime.now(timezone.utc)")
    if moment.tzinfo is None:
        raise InvalidInputError(f"{cell!r:.80} has no time zone; give it one, such as .dt.tz_localize('UTC')")
    return to_us(moment)


def _read_value(cell: Any, present: Any, floats: bool) -> Any:
    if same(present, cell):
        return present
    value = _plain(cell)
    if floats and isinstance(value, float) and type(present) is int and value.is_integer():
        return int(value)
    return value


def _plain(cell: Any) -> Any:
    """Python value of a scalar of numpy or pandas."""
    if hasattr(cell, "to_pydatetime"):
        return cell.to_pydatetime(warn=False)
    if type(cell).__module__ == "numpy" and hasattr(cell, "item") and getattr(cell, "ndim", 0) == 0:
        return cell.item()
    return cell


_READERS = {
    CellKind.TEXT: _read_text,
    CellKind.INTEGER: _plain_reader(int | float, int, "a whole number"),
    CellKind.NUMBER: _plain_reader(int | float, float, "a number"),
    CellKind.FLAG: _plain_reader(bool, bool, "True or False"),
    CellKind.TIME: _read_time,
    CellKind.VALUE: _read_value,
}
