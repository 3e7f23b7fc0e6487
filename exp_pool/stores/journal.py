"""Change journal: many rows are changed all or none, and can be undone later, whatever the engine.

One change, from top to bottom (`Journal.apply`):

1. **Alone**: a lease keeps other changes of the namespace out. What a killed process left unfinished is ended first.
2. **Looked at**: every row still has the revision that the change was made for; else nothing is written.
3. **Journalled**: the state ``curation`` names the change, the log ``curation:ID`` says what each row is and will be.
4. **Applied**: rows are edited, each only if it still has its revision. Trouble up to here takes everything back.
5. **Decided**: one compare-and-swap of the state. From here on whoever finds it unfinished finishes it.
6. **Finished**: rows are added, deleted and restored, which nobody can refuse any more; their audit logs hear of it.
7. **Closed**: the log ``curation`` keeps the change, the state is free again.

A process that was only asleep cannot do harm when it wakes: taking back raises the revision of every row that it might
still edit, and the state no longer is as it expects. Readers may see some rows before others while a change is applied.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from typing import Any

from exp_pool.core.contracts.plugs import Put, PutMode, PutStatus, RecordStore
from exp_pool.core.contracts.rows import audit_entry, audit_log
from exp_pool.core.edits import Edit, EditKind, batches, no_place, restorable, row_of, taken_back
from exp_pool.core.experience import new_id
from exp_pool.core.filters import Condition
from exp_pool.core.values.encoding import loads
from exp_pool.errors import ConflictError, ExpPoolError, StoreError
from exp_pool.runtime.clock import monotonic
from exp_pool.stores.change_history import (
    NAME,
    ChangeNote,
    ChangeNotes,
    ChangeStatus,
    LostChangeError,
    Phase,
    RenewLease,
    journal_name,
)

_TRIES = 5  # of taking back a row that others change meanwhile
_LOOK_S = 0.05  # between two looks at a lease that another process has
_PATIENCE_S = 1.0  # beyond the end of a lease that nobody renews
_NAMED = 5  # rows in a message


class Journal(ChangeNotes):
    """The changes of one namespace.

    Args:
        store: where the rows are.
        namespace: whose.
        lease_s: after so many seconds without a sign of life a process that applies a change is given up.
    """

    def __init__(self, store: RecordStore, namespace: str, lease_s: float) -> None:
        super().__init__(store, namespace)
        self._lease_s = lease_s

    def apply(self, note: ChangeNote, edits: Sequence[Edit]) -> ChangeNote:
        """Make a change, all of it or nothing; the note as it is kept.

        Raises:
            ConflictError: rows were changed meanwhile (the message names some), or others make a change all the time.
            StoreError: the store failed; the message says what became of the change.
        """
        with self._alone() as renew:
            self._end_unfinished(renew)
            if standing_in_the_way := self.obstacles(edits):
                raise ConflictError(_refusal(standing_in_the_way))
            try:
                return self._apply(note, edits, renew)
            except LostChangeError:
                raise
            except BaseException as err:
                ended = self._end_after(err, note, renew)
                if ended is not None and isinstance(err, StoreError):
                    return ended
                raise

    def obstacles(self, edits: Sequence[Edit]) -> dict[str, str]:
        """By their ids: rows that cannot be changed as they should, and why."""
        found: dict[str, str] = {}
        cutoff = self._store.cleared_at(self._namespace)
        for batch in batches(edits):
            there = self._rows([edit.id for edit in batch])
            arriving = [edit for edit in batch if edit.deed in (EditKind.ADD, EditKind.RESTORE)]
            keys = [str((edit.after or {})["key"]) for edit in arriving]
            answering = dict(zip(keys, self._store.get_many(self._namespace, keys), strict=True))
            for edit in batch:
                if edit.deed in (EditKind.ADD, EditKind.RESTORE):
                    reason = no_place(edit, there.get(edit.id), answering, cutoff)
                elif edit.id not in there:
                    reason = "it was deleted meanwhile"
                elif there[edit.id].revision != edit.revision:
                    reason = f"its revision is {there[edit.id].revision} now, and was {edit.revision}"
                else:
                    continue
                if reason:
                    found[edit.id] = reason
        return found

    def recover(self) -> ChangeNote | None:
        """End what a killed process left unfinished, after its lease; what became of it, None where nothing was.

        Raises:
            ConflictError: another process is at it.
            StoreError: the store failed.
        """
        if self._open() is None:
            return None
        with self._alone() as renew:
            return self._end_unfinished(renew)

    def forget(self, id_: str) -> list[str]:
        """Drop a change's journal, so that it cannot be undone; the ids of rows that it deleted for good."""
        gone = [edit.id for edit in self.edits(id_) if edit.deed is EditKind.DELETE]
        there = self._rows(gone)
        self._store.drop_logs(self._namespace, [journal_name(id_)])
        return [id_ for id_ in gone if id_ not in there]

    def erase(self, where: Sequence[Condition]) -> list[str]:
        """Drop from all journals deleted rows that meet the conditions, and edits of rows that are gone for good.

        Returns:
            ids of the rows that are gone for good.

        Raises:
            ConflictError: another process makes a change; erase again when it is done.
            StoreError: the store failed; erase again.
        """
        self.recover()  # or its journal would be missed by whoever ends it
        prefix = journal_name("")
        logs = self._store.names(self._namespace).logs
        changes = [name.removeprefix(prefix) for name in logs if name.startswith(prefix)]
        stay = {edit.id for id_ in changes for edit in self.edits(id_) if restorable(edit, where)}
        erased: dict[str, None] = {}
        for id_ in changes:
            kept: list[Edit] = []
            dropped: list[Edit] = []
            for batch in batches(self.edits(id_)):
                there = stay | self._rows([edit.id for edit in batch]).keys()
                for edit in batch:
                    matches = edit.deed is EditKind.DELETE and not restorable(edit, where)
                    (kept if edit.id in there and not matches else dropped).append(edit)
            if dropped:
                self._store.drop_logs(self._namespace, [journal_name(id_)])
                self._write(journal_name(id_), kept)
                erased |= dict.fromkeys(edit.id for edit in dropped)
        return [id_ for id_ in erased if id_ not in stay and not self._rows([id_])]

    # One change

    def _apply(self, note: ChangeNote, edits: Sequence[Edit], renew: RenewLease) -> ChangeNote:
        revision = self._set(note, Phase.JOURNALLING, self._revision())
        self._write(journal_name(note.id), edits, renew)
        revision = self._set(note, Phase.APPLYING, revision)
        for batch in batches(edit for edit in edits if edit.deed in (EditKind.EDIT, EditKind.DELETE)):
            renew()
            self._edit(batch)
        revision = self._set(note, Phase.FINISHING, revision)
        self._finish(note, edits, renew)
        return self._close(replace(note, standing=ChangeStatus.APPLIED), revision)

    def _edit(self, edits: Sequence[Edit]) -> None:
        """Rows that will be deleted are written as they are: whoever changes them from now on comes too late."""
        rows = self._rows([edit.id for edit in edits])
        puts = [
            Put(
                replace(rows[edit.id], **(edit.after or {})) if edit.deed is EditKind.EDIT else rows[edit.id],
                PutMode.UPDATE,
                expected_revision=edit.revision,
            )
            for edit in edits
            if edit.id in rows
        ]
        statuses = self._store.put_many(puts)
        refused = {e.id: "it was deleted meanwhile" for e in edits if e.id not in rows}
        refused |= {
            put.record.id: "it was changed meanwhile"
            for put, status in zip(puts, statuses, strict=True)
            if status is PutStatus.CONFLICT
        }
        if refused:
            raise ConflictError(_refusal(refused))

    def _finish(self, note: ChangeNote, edits: Iterable[Edit], renew: RenewLease, *, again: bool = False) -> None:
        """Add, delete and restore rows, and write their audit logs. Doing it again changes nothing."""
        for batch in batches(edits):
            renew()
            # A row that was added and deleted since stays deleted; one that is restored is a deleted one.
            modes = {EditKind.ADD: PutMode.REPLICATE, EditKind.RESTORE: PutMode.INSERT}
            puts = [Put(row_of(edit), modes[edit.deed]) for edit in batch if edit.deed in modes]
            if puts:
                self._store.put_many(puts)
            gone = [edit.id for edit in batch if edit.deed is EditKind.DELETE]
            if gone:
                renew()  # nothing refuses a late deletion
                self._store.delete_many(self._namespace, gone)
            for edit in batch:
                self._audit(note, edit, again=again)

    def _audit(self, note: ChangeNote, edit: Edit, *, again: bool) -> None:
        name = audit_log(edit.id)
        if again and any(loads(text).get("change") == note.id for text in self._log(name)):
            return
        detail: dict[str, Any] = {"change": note.id, "who": note.who, "why": note.why, "deed": edit.deed.value}
        if edit.deed is EditKind.EDIT:
            detail["fields"] = sorted(edit.after or {})
            if "trust" in (edit.after or {}):
                detail["trust"] = (edit.after or {})["trust"]  # nodes that exchange snapshots settle it by this
        self._store.append_log(self._namespace, name, [audit_entry(note.what, edit.id, **detail)])

    def _end_after(self, err: BaseException, note: ChangeNote, renew: RenewLease) -> ChangeNote | None:
        """After trouble: the note, if the change was decided and is now finished; None where it came to nothing.

        Raises:
            StoreError: the store still fails, or the change came to nothing because it did.
        """
        try:
            ended = self._end_unfinished(renew) or next((n for n in self.notes() if n.id == note.id), None)
        except ExpPoolError as trouble:
            raise StoreError(
                f"the change {note.id} may be unfinished, and the store goes on to fail ({trouble}). The next call of "
                f"exp_pool.curation, or doctor --fix, takes it back or finishes it, and history says which: {err}"
            ) from err
        if ended is not None and ended.standing is ChangeStatus.APPLIED:
            return ended
        if isinstance(err, StoreError):
            raise StoreError(f"nothing is changed, the change {note.id} was taken back: {err}") from err
        return None

    def _end_unfinished(self, renew: RenewLease) -> ChangeNote | None:
        open_ = self._open()
        if open_ is None:
            return None
        note, revision = open_.note, open_.revision
        if open_.phase is Phase.FINISHING:
            self._finish(note, self.edits(note.id), renew, again=True)
            return self._close(replace(note, standing=ChangeStatus.APPLIED), revision)
        if open_.phase is not Phase.JOURNALLING:
            revision = self._set(note, Phase.TAKING_BACK, revision)
            for batch in batches(e for e in self.edits(note.id) if e.deed in (EditKind.EDIT, EditKind.DELETE)):
                renew()
                self._take_back(batch)
        self._store.drop_logs(self._namespace, [journal_name(note.id)])
        return self._close(replace(note, standing=ChangeStatus.TAKEN_BACK), revision)

    def _take_back(self, edits: Sequence[Edit]) -> None:
        """Rows as they were; what others changed on top of it stays. A row not reached yet gets a new revision."""
        left = {edit.id: edit for edit in edits}
        for _ in range(_TRIES):
            puts = []
            for id_, row in self._rows(list(left)).items():
                edit = left[id_]
                was = taken_back(row, edit)[0] if edit.deed is EditKind.EDIT else row
                if was != row or row.revision == edit.revision:
                    puts.append(Put(was, PutMode.UPDATE, expected_revision=row.revision))
            statuses = self._store.put_many(puts) if puts else []
            refused = [p.record.id for p, s in zip(puts, statuses, strict=True) if s is PutStatus.CONFLICT]
            if not refused:
                return
            left = {id_: left[id_] for id_ in refused}
        raise ConflictError(f"the experience {min(left)!r} is being changed by others all the time; try again")

    @contextmanager
    def _alone(self) -> Iterator[RenewLease]:
        owner, patience = new_id(), monotonic() + self._lease_s + _PATIENCE_S
        while (lease := self._store.claim(self._namespace, NAME, owner, self._lease_s).lease) is None:
            if monotonic() > patience:
                raise ConflictError(
                    f"another process is changing the namespace {self._namespace!r}; try again when it is done"
                )
            time.sleep(_LOOK_S)
        held = [lease]

        def renew() -> None:
            renewed = self._store.renew(held[0], self._lease_s)
            if renewed is None:
                raise LostChangeError(
                    "this process gave no sign of life for too long, and another one ended its change; "
                    "exp_pool.curation.history says how"
                )
            held[0] = renewed

        try:
            yield renew
        finally:
            with suppress(StoreError):  # it ends by itself
                self._store.release(held[0])


def _refusal(rows: Mapping[str, str]) -> str:
    return f"nothing is changed, because of {len(rows):,} experience{'s'[: len(rows) != 1]}: {some(rows)}"


def some(rows: Mapping[str, str]) -> str:
    """The first few of these rows and their reasons, for a message."""
    said = "; ".join(f"{id_!r}: {reason}" for id_, reason in islice(rows.items(), _NAMED))
    return said + (f"; and {len(rows) - _NAMED:,} more" if len(rows) > _NAMED else "")
