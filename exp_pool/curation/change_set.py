"""Change set: what a change adds, edits and deletes, field by field, readable before and after it is applied."""

from __future__ import annotations

import html
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from exp_pool.core.edits import Edit, EditKind, added, deleted, edit_of
from exp_pool.core.experience import MISSING, Experience
from exp_pool.core.record import Record, to_experience
from exp_pool.core.values.deep_equal import difference
from exp_pool.curation.columns import CellKind, column, editable_cells
from exp_pool.runtime.clock import to_datetime

_SHOWN = 20  # rows of each sort, when it is printed
_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 60
_brief.maxdict = _brief.maxlist = _brief.maxset = _brief.maxtuple = 4


@dataclass(frozen=True)
class Change:
    """Change of a namespace by an edited frame or a step of curation. Falsy if it does nothing.

    Attributes:
        namespace: whose.
        what: which step: apply, undo, merge, distill, relabel, quarantine, promote.
        added: experiences that are new; each has the id that it gets, or got.
        changed: by id and column, the value before and after; `MISSING` where there is none.
        deleted: experiences that go.
        stale: by id, rows of the frame that were changed or deleted since it was taken, and how. Such a change is
            refused; take a new frame, or leave these rows out.
        id: what `undo` wants to know; None as long as it is not applied.
        at, who, why: when it was applied (ISO 8601, UTC), by whom, and why.
        edits: the same for the journal.
    """

    namespace: str
    what: str = "apply"
    added: tuple[Experience, ...] = ()
    changed: Mapping[str, Mapping[str, tuple[Any, Any]]] = field(default_factory=dict)
    deleted: tuple[Experience, ...] = ()
    stale: Mapping[str, str] = field(default_factory=dict)
    id: str | None = None
    at: str = ""
    who: str = ""
    why: str = ""
    edits: tuple[Edit, ...] = field(default=(), repr=False)
    _asked: Mapping[str, str] = field(default_factory=dict, repr=False)  # what the changed ones were asked, by id

    def __bool__(self) -> bool:
        return bool(self.edits or self.stale)

    def __repr__(self) -> str:
        return "\n".join([self._headline(), *self._lines()])

    def _headline(self) -> str:
        counts = [
            f"{len(rows):,} {what}"
            for rows, what in (
                (self.added, "added"),
                (self.changed, "changed"),
                (self.deleted, "deleted"),
                (self.stale, "changed by others since the frame was taken"),
            )
            if rows
        ]
        done = f"{self.what} {self.id} by {self.who}" if self.id else f"{self.what}, not applied"
        why = f" ({self.why})" if self.why else ""
        return f"{done}{why}: {', '.join(counts) or 'no changes'}"

    def _lines(self) -> Iterator[str]:
        for experience in islice(self.added, _SHOWN):
            yield f"+ {experience.id} {_asked(experience)} -> {brief(experience.value)}"
        yield from _more(self.added)
        for id_, fields in islice(self.changed.items(), _SHOWN):
            yield f"~ {id_} {self._asked.get(id_, '')}"
            for name, (before, after) in fields.items():
                yield f"    {name}: {brief(before)} -> {brief(after)}"
        yield from _more(self.changed)
        for experience in islice(self.deleted, _SHOWN):
            yield f"- {experience.id} {_asked(experience)} -> {brief(experience.value)}"
        yield from _more(self.deleted)
        for id_, how in islice(self.stale.items(), _SHOWN):
            yield f"! {id_}: {how}"
        yield from _more(self.stale)

    def _repr_html_(self) -> str:
        """HTML for notebooks. Stored text is escaped."""
        rows: list[tuple[str, ...]] = []
        rows += [("added", e.id, _asked(e), "", "", brief(e.value)) for e in islice(self.added, _SHOWN)]
        for id_, fields in islice(self.changed.items(), _SHOWN):
            asked = self._asked.get(id_, "")
            rows += [("changed", id_, asked, name, brief(b), brief(a)) for name, (b, a) in fields.items()]
        rows += [("deleted", e.id, _asked(e), "", brief(e.value), "") for e in islice(self.deleted, _SHOWN)]
        rows += [("stale", id_, "", how, "", "") for id_, how in islice(self.stale.items(), _SHOWN)]
        more = "".join(
            f"<p>{html.escape(line)}</p>"
            for some in (self.added, self.changed, self.deleted, self.stale)
            for line in _more(some)
        )
        return (
            f"<p>{html.escape(self._headline())}</p>"
            + table(("", "id", "request", "column", "before", "after"), rows)
            + more
        )


def planned(
    namespace: str,
    what: str,
    pairs: Iterable[tuple[Record | None, Record | None]],
    *,
    stale: Mapping[str, str] | None = None,
    restored: frozenset[str] = frozenset(),
) -> Change:
    """Change that turns rows into others.

    Args:
        namespace: whose rows.
        what: the step: apply, undo, merge, distill, relabel, quarantine, promote.
        pairs: of each row the state before and after; None before: it is added, None after: it is deleted.
        stale: by id, why a row of the frame cannot be changed.
        restored: ids of added rows that existed before: `EditKind.RESTORE`.
    """
    edits: list[Edit] = []
    new, gone = [], []
    changed: dict[str, Mapping[str, tuple[Any, Any]]] = {}
    asked: dict[str, str] = {}
    for before, after in pairs:
        if before is None and after is not None:
            edit = added(after)
            edits.append(replace(edit, deed=EditKind.RESTORE) if after.id in restored else edit)
            new.append(to_experience(after))
        elif after is None and before is not None:
            edits.append(deleted(before))
            gone.append(to_experience(before))
        elif before is not None and after is not None and (found := edit_of(before, after)) is not None:
            edits.append(found)
            changed[before.id] = _fields(before, after)
            asked[before.id] = _brief.repr(before.request)
    return Change(namespace, what, tuple(new), changed, tuple(gone), stale or {}, edits=tuple(edits), _asked=asked)


def _fields(before: Record, after: Record) -> dict[str, tuple[Any, Any]]:
    old, new = editable_cells(before), editable_cells(after)
    return {
        name: (_shown(name, old.get(name, MISSING)), _shown(name, new.get(name, MISSING)))
        for name in dict.fromkeys([*old, *new])
        if difference(old.get(name, MISSING), new.get(name, MISSING)) is not None
    }


def _shown(name: str, cell: Any) -> Any:
    return to_datetime(cell) if cell is not MISSING and column(name).kind is CellKind.TIME else cell


def brief(value: Any) -> str:
    """Beginning of a value."""
    return _brief.repr(value)


def _asked(experience: Experience) -> str:
    return _brief.repr(experience.request)


def _more(rows: Any) -> Iterator[str]:
    if len(rows) > _SHOWN:
        yield f"... and {len(rows) - _SHOWN:,} more"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """HTML table of rows of text, escaped. Notebooks align every cell right, which suits only numbers."""
    left = 'style="text-align: left"'
    cells = "".join(f"<th {left}>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td {left}>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
