"""Change history of a namespace: a summary of each change, its row edits (for undo), and the change in progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from exp_pool.core.contracts.plugs import RecordStore
from exp_pool.core.edits import Edit, EditKind, batches
from exp_pool.core.record import Record
from exp_pool.core.values.encoding import dumps, loads
from exp_pool.errors import ConflictError, DecodingError
from exp_pool.runtime.display import Shown
from exp_pool.stores.pages import log_entries

NAME = "curation"  # of the lease, of the state and of the log of changes; of no key, which is hexadecimal

RenewLease: TypeAlias = Callable[[], None]


class ChangeStatus(StrEnum):
    """What became of a change."""

    APPLIED = "applied"
    UNDONE = "undone"  # it was applied, and a later change undid it
    TAKEN_BACK = "taken back"  # it came to nothing
    UNFINISHED = "unfinished"  # it is being applied, or a process died: the next change ends it


class Phase(StrEnum):
    """How far a change got that is being applied."""

    JOURNALLING = "journalling"
    APPLYING = "applying"
    TAKING_BACK = "taking back"
    FINISHING = "finishing"


@dataclass(frozen=True, slots=True, repr=False)
class ChangeNote(Shown):
    """One change as a namespace remembers it: what was done, by whom, when and why; and what became of it."""

    id: str
    at: str  # ISO 8601, UTC
    who: str
    why: str
    what: str  # apply, undo, merge, ...
    added: int = 0
    changed: int = 0
    deleted: int = 0
    of: str | None = None  # the change that it undoes
    standing: ChangeStatus = ChangeStatus.UNFINISHED


@dataclass(frozen=True, slots=True)
class OpenChange:
    """A change that is being applied, how far it got, and the revision of the state that says so."""

    note: ChangeNote
    phase: Phase
    revision: int


class LostChangeError(ConflictError):
    """Another process took the lease over, and ends the change."""


class ChangeNotes:
    """What a namespace keeps of its changes: the log ``curation``, the state of that name, and a journal of each.

    Args:
        store: where the rows are.
        namespace: whose.
    """

    def __init__(self, store: RecordStore, namespace: str) -> None:
        self._store, self._namespace = store, namespace

    def unfinished(self) -> ChangeNote | None:
        """The change that is being applied, or was left so by a killed process."""
        found = self._open()
        closed = found is not None and any(_read_note(text).id == found.note.id for text in self._log(NAME))
        return None if found is None or closed else found.note

    def notes(self) -> list[ChangeNote]:
        """Every change, the oldest first, and what became of it."""
        kept = {note.id: note for note in map(_read_note, self._log(NAME))}
        undone: set[str] = set()
        for note in reversed(kept.values()):
            if note.of is not None and note.standing is ChangeStatus.APPLIED and note.id not in undone:
                undone.add(note.of)
        notes = [replace(n, standing=ChangeStatus.UNDONE) if n.id in undone else n for n in kept.values()]
        open_ = self.unfinished()
        return notes if open_ is None else [*notes, open_]

    def edits(self, id_: str) -> Iterator[Edit]:
        """What a change did, row by row; without rows that were erased since."""
        for text in self._log(journal_name(id_)):
            try:
                edit = Edit(**loads(text))
                yield replace(edit, deed=EditKind(edit.deed))
            except (TypeError, ValueError) as err:
                raise DecodingError(f"the journal of the change {id_} cannot be read: {err}") from err

    # The change that is being applied

    def _open(self) -> OpenChange | None:
        state = self._store.read_state(self._namespace, NAME)
        value = None if state is None else json.loads(state.value)
        if state is None or value is None:
            return None
        return OpenChange(_read_note(json.dumps(value["note"])), Phase(value["phase"]), state.revision)

    def _revision(self) -> int | None:
        state = self._store.read_state(self._namespace, NAME)
        return None if state is None else state.revision

    def _set(self, note: ChangeNote, phase: Phase | None, expected: int | None) -> int:
        value = "null" if phase is None else json.dumps({"note": asdict(note), "phase": phase.value})
        if not self._store.write_state(self._namespace, NAME, value, expected):
            raise LostChangeError(
                f"the change {note.id} was ended by another process; exp_pool.curation.history says how"
            )
        return (expected or 0) + 1

    def _close(self, note: ChangeNote, revision: int) -> ChangeNote:
        self._store.append_log(self._namespace, NAME, [json.dumps(asdict(note))])
        self._set(note, None, revision)
        return note

    def _write(self, name: str, edits: Iterable[Edit], renew: RenewLease | None = None) -> None:
        for batch in batches(edits):
            if renew is not None:
                renew()
            self._store.append_log(
                self._namespace, name, [dumps({**asdict(edit), "deed": edit.deed.value}) for edit in batch]
            )

    def _log(self, name: str) -> Iterator[str]:
        return log_entries(self._store, self._namespace, name)

    def _rows(self, ids: Sequence[str]) -> dict[str, Record]:
        return {row.id: row for row in self._store.get_many(self._namespace, ids, by="id") if row is not None}


def _read_note(text: str) -> ChangeNote:
    try:
        note = ChangeNote(**json.loads(text))
        return replace(note, standing=ChangeStatus(note.standing))
    except (TypeError, ValueError) as err:
        raise DecodingError(f"a change of the past cannot be read: {err}") from err


def journal_name(id_: str) -> str:
    """The log that has the edits of a change."""
    return f"{NAME}:{id_}"
