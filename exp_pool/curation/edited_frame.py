"""Edited frame of any kind (pandas, Arrow, Polars) as columns of cells, checked before the store is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exp_pool.core.experience import MISSING
from exp_pool.curation.cells import is_null, read_cell
from exp_pool.curation.columns import DELETED, FOUND, FrameColumn, column
from exp_pool.curation.frames import FRAME_ORIGIN, FrameOrigin
from exp_pool.errors import InvalidInputError

ONLY_IN_NEW_ROWS = frozenset("function version request arguments created_at".split())
_NAMED = 5  # names in a message


@dataclass(frozen=True)
class EditedFrame:
    """Edited frame of any kind.

    Attributes:
        cells: by column.
        columns: what each column is.
        count: of rows.
        origin: what the frame was taken from, where it still knows.
        json: columns of any type hold JSON text (Arrow, Polars).
        floats: columns that pandas keeps as floats, whatever they were.
    """

    cells: Mapping[str, Sequence[Any]]
    columns: Mapping[str, FrameColumn]
    count: int
    origin: FrameOrigin | None
    json: bool
    floats: frozenset[str]

    @classmethod
    def read(cls, frame: Any) -> EditedFrame:
        """Read a frame without the columns of `review`, which are for people.

        Raises:
            InvalidInputError: it is no frame, or has a column twice or an unknown one.
        """
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
            text = frame.attrs.get(FRAME_ORIGIN)
            floats = frozenset(name for name in names if frame[name].dtype.kind == "f")
        elif kind == "pyarrow" and hasattr(frame, "schema"):
            _once("column", frame.column_names)
            cells = {name: frame[name].to_pylist() for name in frame.column_names if not name.startswith(FOUND)}
            floats = frozenset()
            found = (frame.schema.metadata or {}).get(FRAME_ORIGIN.encode())
            text = None if found is None else found.decode()
        else:
            raise InvalidInputError(
                f"{frame!r:.80} is no frame; give one of to_frame, to_arrow, to_polars or iter_frames, or a diff"
            )
        columns = {name: column(name) for name in cells}
        origin = None if text is None else FrameOrigin.parse(text)
        return cls(cells, columns, len(frame), origin, kind == "pyarrow", floats)

    def check_namespace(self, namespace: str) -> None:
        """Refuse a frame whose rows are not of this namespace.

        Raises:
            InvalidInputError: they are not, or the frame has no ids.
        """
        if "id" not in self.cells:
            raise InvalidInputError("the frame has no column 'id', so nobody knows which experiences its rows are")
        spaces = {str(cell) for cell in self.cells.get("namespace", ()) if not is_null(cell)}
        if self.origin is not None:
            spaces.add(self.origin.namespace)
        if others := sorted(spaces - {namespace}):
            raise InvalidInputError(
                f"the frame has experiences of the namespace {others[0]!r}, and this is {namespace!r}; apply it to a "
                f"manager of that namespace, or in `with in_namespace({others[0]!r})`"
            )

    def places(self) -> tuple[list[int], list[int]]:
        """Numbers of the rows that have an id, and of those that do not.

        Raises:
            InvalidInputError: an id is no text, or stands there twice.
        """
        cells = self.cells["id"]
        old: list[int] = []
        new: list[int] = []
        for at in range(self.count):
            (new if is_null(cells[at]) else old).append(at)
        for at in old:
            if not isinstance(cells[at], str) or not cells[at]:
                raise InvalidInputError(f"row {at}: id={cells[at]!r:.80} is no id; leave it empty for a new experience")
        _once("id", [cells[at] for at in old])
        return old, new

    def cell(self, name: str, at: int) -> Any:
        """Cell as the frame has it; None where the frame has no such column."""
        found = self.cells.get(name)
        return None if found is None else found[at]

    def value(self, name: str, cell: Any, present: Any, at: int) -> Any:
        """Value of a cell; see `read_cell`.

        Args:
            name: of the column.
            cell: as the frame has it.
            present: the cell of the stored row; `MISSING` for a new one.
            at: the row, for the message.

        Raises:
            InvalidInputError: it cannot be; the message names the row and the column.
        """
        try:
            return read_cell(self.columns[name], cell, present, json=self.json, floats=name in self.floats)
        except (InvalidInputError, OverflowError, ValueError) as err:
            raise InvalidInputError(f"row {at}, {self.cell('id', at)!r}, column {name!r}: {err}") from err

    def deletes(self, at: int) -> bool:
        """Whether the row is marked as deleted."""
        cell = self.cell(DELETED, at)
        return not is_null(cell) and bool(self.value(DELETED, cell, False, at))

    def revision(self, id_: str, at: int) -> int:
        """Revision with which the frame was taken.

        Raises:
            InvalidInputError: the frame does not say, or the revision was edited.
        """
        cell = self.cell("revision", at)
        taken = self.origin.rows.get(id_) if self.origin is not None else None
        if is_null(cell):
            if taken is None:
                raise InvalidInputError(
                    f"the frame does not say which revision of {id_!r} it shows; keep the column 'revision' (a frame "
                    "of to_frame knows it by its attrs, too)"
                )
            return taken[0]
        revision = self.value("revision", cell, MISSING, at)
        if not isinstance(revision, int):
            raise InvalidInputError(f"row {at}, {id_!r}: revision={cell!r} is no revision; leave the column as it is")
        if taken is not None and revision != taken[0]:
            raise read_only("revision", id_, taken[0], revision)
        return revision


def _once(what: str, names: Sequence[Any]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InvalidInputError(
            f"{what} {', '.join(map(repr, twice[:_NAMED]))} stands in the frame more than once; keep one of each"
        )


def read_only(name: str, id_: str, present: Any, value: Any) -> InvalidInputError:
    """Error for a read-only cell that was edited.

    Args:
        name: of the column.
        id_: of the experience.
        present: what the store has.
        value: what the frame has.
    """
    remedy = (
        "edit score.<scorer>"
        if name == "score"
        else "use a new row without an id"
        if name in ONLY_IN_NEW_ROWS
        else "leave the column as it is, or out"
    )
    return InvalidInputError(
        f"column {name!r} is read-only, and {id_!r} has {value!r:.80} there instead of {present!r:.80}; {remedy}"
    )
