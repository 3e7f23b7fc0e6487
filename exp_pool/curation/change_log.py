"""Change log: apply a change, undo it, list changes, forget them. `stores.journal` makes a change all or nothing."""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from exp_pool.core.edits import Edit, EditKind, taken_back
from exp_pool.core.experience import new_id
from exp_pool.core.record import Record
from exp_pool.curation.change_set import Change, planned
from exp_pool.curation.frame_diff import diff
from exp_pool.curation.frames import recover_unfinished
from exp_pool.errors import ConflictError, InvalidInputError, NotFoundError
from exp_pool.runtime.clock import now, now_us
from exp_pool.stores.change_history import ChangeNote, ChangeStatus
from exp_pool.stores.journal import some
from exp_pool.stores.pages import rows_by_id

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager
    from exp_pool.api.pool import Pool

# What people say of an experience: one that was added and then changed there is not simply deleted again.
_SAID = "response expected kind trust metric trajectory model strategy parents metadata expires_at".split()


def apply_frame(
    manager: ExpManager,
    frame: Any,
    dry_run: bool = True,
    *,
    who: str | None = None,
    why: str = "",
    delete_missing: bool = False,
) -> Change:
    """Apply an edited frame, all of it or nothing. By default only return what would change.

    Args:
        manager: whose pool.
        frame: a frame, or what `diff` gave.
        dry_run: change nothing.
        who: for `history`; by default the user of this machine.
        why: likewise.
        delete_missing: see `diff`.

    Returns:
        the change; applied, it has an `id`, by which it can be undone. Falsy where there was nothing to do.

    Raises:
        ConflictError: experiences were changed or deleted since the frame was taken; the message says which. Nothing
            is changed.
        InvalidInputError, NotFoundError: see `diff`.
        StoreError: the store failed; the message says what became of the change.
    """
    if isinstance(frame, Change):
        if delete_missing:
            raise InvalidInputError("delete_missing=True belongs to diff(), which knows the frame")
        change = frame
    else:
        change = diff(manager, frame, delete_missing=delete_missing)
    return change if dry_run else commit(manager.sync, change, who=who, why=why)


def undo(manager: ExpManager, change_id: str, *, who: str | None = None, why: str = "", partly: bool = False) -> Change:
    """Undo an applied change: rows are restored byte for byte, but revisions go up.

    What others changed since about other columns of the same experiences stays. It is a change itself, with an id, and
    can be undone.

    Args:
        manager: whose pool.
        change_id: of `Change.id`, or `history`.
        who: for `history`; by default the user of this machine.
        why: likewise.
        partly: leave out what cannot be undone, because others changed or deleted it since.

    Raises:
        NotFoundError: there is no such change, or it was forgotten.
        ConflictError: it was undone already or never applied, or others changed since what it changed; the message says
            what. Nothing is changed.
        StoreError: the store failed; the message says what became of it.
    """
    pool = manager.sync
    recover_unfinished(pool)
    note = _note(pool, change_id)
    if note.standing is not ChangeStatus.APPLIED:
        raise ConflictError(f"the change {change_id} cannot be undone: it is {note.standing}")
    edits = list(pool.journal.edits(change_id))
    trouble: dict[str, str] = {}
    if not edits:
        raise NotFoundError(f"the change {change_id} was forgotten: what it changed is not kept any more")
    if erased := note.added + note.changed + note.deleted - len(edits):
        trouble[f"{erased} of its experiences"] = "erased since"
    pairs = list(_reversed(pool, note, edits, trouble))
    restored = frozenset(edit.id for edit in edits if edit.deed is EditKind.DELETE)
    change = planned(pool.namespace, "undo", pairs, restored=restored)
    trouble |= pool.journal.obstacles(change.edits)
    if trouble and not partly:
        raise ConflictError(
            f"the change {change_id} cannot be undone as a whole: {some(trouble)}. Undo what came later first, or "
            "leave these out with partly=True"
        )
    possible = [(before, after) for before, after in pairs if (before or after).id not in trouble]  # type: ignore[union-attr]
    change = planned(pool.namespace, "undo", possible, restored=restored)
    return commit(pool, change, who=who, why=why, of=change_id)


def _reversed(
    pool: Pool, note: ChangeNote, edits: Sequence[Edit], trouble: dict[str, str]
) -> Iterator[tuple[Record | None, Record | None]]:
    chain = {note.id}  # the change, its undo, the undo of that, ...
    notes = pool.journal.notes()
    for each in notes:
        if each.of in chain:
            chain.add(each.id)
    undone = {each.id for each in notes if each.standing is ChangeStatus.UNDONE}
    undone |= {each.id for each in notes if each.of in undone}  # and what undid them: both together are nothing
    rows = rows_by_id(pool.store, pool.namespace, [edit.id for edit in edits])
    for edit, (_, row) in zip(edits, rows, strict=True):
        if edit.deed is EditKind.DELETE:
            was = Record(**(edit.before or {}))
            due = now_us() if was.is_current else None
            yield None, replace(was, revision=was.revision + 2, embed_due=due, embed_tries=0)
        elif row is None:
            trouble[edit.id] = "it was deleted since"
        elif edit.deed is EditKind.EDIT:
            was, theirs = taken_back(row, edit)
            if theirs:
                trouble[edit.id] = f"others changed {', '.join(sorted(theirs))} since"
            elif (
                was.trust != row.trust
                and row.revision > edit.revision + 1  # a change raises it by one, so that others were here since
                and _judged_since(pool, edit.id, chain, undone)
            ):
                trouble[edit.id] = "others decided on its trust since"
            yield row, was
        else:
            if theirs := [name for name in _SAID if getattr(row, name) != (edit.after or {})[name]]:
                trouble[edit.id] = f"it was added, and others changed {', '.join(theirs)} since"
            yield row, None


def _judged_since(pool: Pool, id_: str, chain: set[str], undone: set[str]) -> bool:
    """Trust has two values: what others took back and set again looks as this change left it, and is theirs."""
    later = False
    for entry in pool.history(id_):
        change = entry.detail.get("change")
        if change in chain:
            later = False
        elif change in undone:
            continue
        elif entry.what != "stored" and "trust" in entry.detail:
            later = True
    return later


def history(manager: ExpManager) -> list[ChangeNote]:
    """Changes of the namespace, the oldest first: who, when, why, how many, and what became of each (`standing`).

    One that is ``unfinished`` is being applied just now, or its process died: the next call of this package takes it
    back or finishes it.
    """
    return manager.sync.journal.notes()


def recover(manager: ExpManager) -> ChangeNote | None:
    """Finish or take back a change that a killed process left unfinished. All functions here but `history` do it first.

    Raises:
        ConflictError: another process is at work.
    """
    return manager.sync.journal.recover()


def forget(manager: ExpManager, change_id: str) -> int:
    """Drop the data that undoing a change needs; return how many deleted experiences are gone for good by that.

    `history` goes on to tell of it. (An experience that a change deleted is kept in its journal, for `undo`, until it
    is forgotten or erased.)

    Raises:
        NotFoundError: there is no such change.
    """
    pool = manager.sync
    recover_unfinished(pool)
    _note(pool, change_id)
    return pool.deleter.forget_change(change_id)


def commit(pool: Pool, change: Change, *, who: str | None, why: str, of: str | None = None) -> Change:
    """Apply a change, and return it with its id. A change without edits is returned as it is.

    Args:
        pool: the pool of the change's namespace.
        change: what `diff` or `planned` made.
        who: for `history`; None: the user of this machine.
        why: likewise.
        of: the id of the change that this one undoes.

    Raises:
        ConflictError: it is stale, applied already, or another namespace's.
        StoreError: the store failed; the message says what became of it.
    """
    if change.id is not None:
        raise ConflictError(f"the change {change.id} is applied already; take a new frame")
    if change.namespace != pool.namespace:
        raise InvalidInputError(f"the change is of namespace {change.namespace!r}, and this is {pool.namespace!r}")
    if change.stale:
        raise ConflictError(
            f"nothing is changed: {len(change.stale):,} experiences were changed by others since the frame was taken: "
            f"{some(change.stale)}. Take a new frame, or leave out what is in the diff's `stale`: "
            "frame[~frame.id.isin(list(change.stale))]"
        )
    if not change:
        return change
    deeds = [edit.deed for edit in change.edits]
    note = ChangeNote(
        id=new_id(),
        at=now().isoformat(),
        who=_user() if who is None else who,
        why=why,
        what=change.what,
        added=deeds.count(EditKind.ADD) + deeds.count(EditKind.RESTORE),
        changed=deeds.count(EditKind.EDIT),
        deleted=deeds.count(EditKind.DELETE),
        of=of,
    )
    kept = pool.editor.change(note, change.edits)
    return replace(change, id=kept.id, at=kept.at, who=kept.who, why=kept.why)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without a user's name
        return "unknown"


def _note(pool: Pool, change_id: str) -> ChangeNote:
    note = next((note for note in pool.journal.notes() if note.id == change_id), None)
    if note is None:
        raise NotFoundError(f"no change {change_id!r} in namespace {pool.namespace!r}; history(manager) lists them")
    return note
