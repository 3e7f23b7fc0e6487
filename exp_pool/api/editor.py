"""Editor of experiences: adds, updates and annotates them, takes feedback on them, and tells their history."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from exp_pool.api.namespaces import Namespaces
from exp_pool.core.contracts.plugs import Put, PutMode, PutStatus, RecordQuery, RecordStore
from exp_pool.core.contracts.rows import audit_entry, audit_log
from exp_pool.core.edits import Edit, EditKind, batches
from exp_pool.core.experience import MISSING, Experience, Trust
from exp_pool.core.filters import parse_where
from exp_pool.core.identity.keys import make_key
from exp_pool.core.record import Record, to_experience, to_record, vouched_for, with_answers_of
from exp_pool.core.results import HistoryEntry
from exp_pool.core.values.encoding import from_plain
from exp_pool.errors import ConflictError, InvalidInputError, NotFoundError
from exp_pool.maintenance.judge_training import JudgeTraining
from exp_pool.maintenance.outcomes import Outcomes
from exp_pool.maintenance.pending_scores import PendingScores
from exp_pool.maintenance.worker import MaintenanceWorker
from exp_pool.runtime.clock import to_datetime
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.switches import PoolSwitches
from exp_pool.stores.change_history import ChangeNote
from exp_pool.stores.journal import Journal
from exp_pool.stores.lineage import with_inherited_trust

# What `update_exp` may not touch: it is what the experience is found by. `clone` makes another experience.
_FIXED = frozenset("id namespace function version key arguments request created_at access_count last_access".split())
_TRIES = 5  # of an update that others get in between


@dataclass(kw_only=True, eq=False)
class ExperienceEditor:
    """Adds and changes experiences of one pool; see `ExpManager` for what each method does."""

    store: RecordStore  # where they live
    switches: PoolSwitches  # whether anything may be changed
    namespaces: Namespaces  # whose are meant
    counters: Counters  # for `stored`
    secret: bytes | None  # what keys are made with, if anything
    pending_scores: PendingScores  # is told what is to be scored anew
    outcomes: Outcomes  # takes feedback
    judge_training: JudgeTraining  # takes feedback, too, about answers that a judge let pass
    worker: MaintenanceWorker  # is woken where a task is pending
    stored: Callable[[Sequence[Record]], None]  # is told of rows that were stored by hand
    lease_timeout_s: float  # of the journal of changes

    def create_exps(self, experiences: Sequence[Experience]) -> list[str]:
        """Store experiences and return their ids."""
        self.switches.check_writable()
        records = []
        for experience in experiences:
            if not isinstance(experience, Experience):
                raise InvalidInputError(f"expected an Experience, got {experience!r:.80}")
            records.append(self.record_of(experience))
        records = with_inherited_trust(self.store, records)
        statuses = self.store.put_many([Put(record) for record in records])
        stored = [r for r, status in zip(records, statuses, strict=True) if status is not PutStatus.CONFLICT]
        self.counters.add("stored", len(stored))
        self.stored(stored)
        taken = [r.id for r, status in zip(records, statuses, strict=True) if status is PutStatus.CONFLICT]
        if taken:
            raise ConflictError(
                f"{len(taken)} of {len(records)} were not stored, because their ids are taken, "
                f"such as {taken[0]!r}; change those with update_exp, or store copies made by clone()"
            )
        return [record.id for record in records]

    def record_of(self, experience: Experience) -> Record:
        """The row that would be stored of an experience."""
        space = experience.namespace or self.namespaces.of()
        return to_record(experience, space, key=self._key(experience), secret=self.secret)

    def _key(self, experience: Experience) -> str:
        """The stored key. One that was not made from the arguments (redacted, by key=) is kept.

        It cannot be made again.
        """
        if self.secret is None:
            return experience.key
        made_of = (experience.function, experience.version, experience.arguments)
        return make_key(*made_of, self.secret) if experience.key == make_key(*made_of) else experience.key

    def get_exp(self, id_: str) -> Experience | None:
        """The experience of this id, history too; None if there is none in this namespace."""
        record = self.record(id_)
        return None if record is None else to_experience(record)

    def update_exp(self, id_: str, changes: Mapping[str, Any]) -> Experience:
        """Change fields of an experience and return the changed one."""
        self.switches.check_writable()
        fixed = sorted(changes.keys() & _FIXED)
        if fixed:
            raise InvalidInputError(
                f"{', '.join(fixed)} cannot be changed; store a copy made by clone({fixed[0]}=...) instead"
            )
        trusts = Trust.TRUSTED in (changes.get("trust"), str(changes.get("trust")))
        before, after = self._change(
            id_,
            lambda experience: experience.model_copy()._with(**changes),  # noqa: SLF001
            vouches=trusts or "response" in changes,
        )
        if before.trust is not after.trust:
            self._audit("trust", id_, before=before.trust.value, trust=after.trust.value)
        if others := sorted(changes.keys() - {"trust"}):
            self._audit("update", id_, fields=others)
        self.follow(*(to_record(experience, self.namespaces.of()) for experience in (before, after)))
        return after

    def annotate(self, id_: str, *, expected: Any = MISSING, metadata: Mapping[str, Any] | None = None) -> Experience:
        """Set the expected answer (default: the response). Later calls get it. Recorded in `history`."""
        self.switches.check_writable()
        before, after = self._change(id_, lambda experience: experience.annotate(expected=expected, metadata=metadata))
        replaced = {"expected_before": before.expected} if before.annotated else {}
        self._audit("annotate", id_, metadata=dict(metadata or {}), **replaced, expected=after.expected)
        self._score_anew(id_, after.function)
        return after

    def change(self, note: ChangeNote, edits: Sequence[Edit]) -> ChangeNote:
        """Change many rows of this namespace, all or none, and do what follows from it; see `Journal.apply`."""
        self.switches.check_writable()
        kept = self.journal.apply(note, edits)
        for batch in batches(edit for edit in edits if edit.deed is EditKind.EDIT):
            rows = self.store.get_many(self.namespaces.of(), [edit.id for edit in batch], by="id")
            for edit, row in zip(batch, rows, strict=True):
                if row is not None:
                    self.follow(replace(row, **(edit.before or {})), row)
        new = [Record(**(edit.after or {})) for edit in edits if edit.deed in (EditKind.ADD, EditKind.RESTORE)]
        self.stored([row for row in new if row.is_current])
        return kept

    def follow(self, before: Record, after: Record) -> None:
        """Follow up an edit: outcomes of a row that is trusted again count anew; a changed answer is scored anew."""
        if before.trust != after.trust == Trust.TRUSTED:
            self.outcomes.trusted_again(after)
        if before.answer != after.answer:
            self._score_anew(after.id, after.function)

    @property
    def journal(self) -> Journal:
        """The changes of this namespace."""
        self.switches.check_open()
        return Journal(self.store, self.namespaces.of(), self.lease_timeout_s)

    def _audit(self, what: str, id_: str, **detail: Any) -> None:
        self.store.append_log(self.namespaces.of(), audit_log(id_), [audit_entry(what, id_, **detail)])

    def feedback(self, id_: str, value: float, reason: str = "") -> None:
        """Say how well the call went that gave this experience: 0 to 1. Credits what it was shown."""
        self.switches.check_writable()
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InvalidInputError(f"value={value!r} must be a number of 0 (failed) to 1 (all that was wanted)")
        if not isinstance(reason, str):
            raise InvalidInputError(f"reason={reason!r:.80} must be text")
        record = self._there(id_)
        self.outcomes.add(record, float(value), reason)
        self.judge_training.add_feedback(record.namespace, id_, float(value))
        self._score_anew(id_, record.function)
        self.worker.wake()

    def history(self, id_: str) -> list[HistoryEntry]:
        """Everything that is known to have happened to an experience, the oldest first."""
        record = self._there(id_)
        same_call = RecordQuery(record.namespace, parse_where({"key": record.key}), history=True)
        entries = []
        for row in self.store.scan(same_call):
            detail = {"origin": row.origin, "current": row.is_current, "trust": row.trust}
            entries.append(HistoryEntry(to_datetime(row.created_at), "stored", row.id, detail))
        position = 0
        while page := self.store.read_log(record.namespace, audit_log(id_), after=position):
            position = page[-1].position
            for _, text in page:
                entry = from_plain(json.loads(text))
                at, what, about = (entry.pop(name) for name in ("at", "what", "id"))
                entries.append(HistoryEntry(datetime.fromisoformat(at), what, about, entry))
        return sorted(entries, key=lambda entry: entry.at)

    def _score_anew(self, id_: str, function: str) -> None:
        """Have an experience scored anew that was annotated or rated."""
        if self.pending_scores.enqueue(self.namespaces.of(), id_, function):
            self.worker.wake()

    def _change(
        self, id_: str, change: Callable[[Experience], Experience], *, vouches: bool = False
    ) -> tuple[Experience, Experience]:
        """Read, change and write, again if somebody got in between: before and after.

        `vouches`: who changes it says that its answer is right, whatever source gave it.
        """
        for _ in range(_TRIES):
            record = self._there(id_)
            before = to_experience(record)
            after = change(before)
            changed = replace(to_record(after, record.namespace, key=record.key), source=record.source)
            changed = with_answers_of(record, before, changed)
            if vouches or changed.response != record.response:
                changed = vouched_for(changed)
            if changed.parents != record.parents:
                (changed,) = with_inherited_trust(self.store, [changed])
            (status,) = self.store.put_many([Put(changed, PutMode.UPDATE, expected_revision=record.revision)])
            if status is not PutStatus.CONFLICT:
                return before, after if changed.trust == after.trust else after._with(trust=changed.trust)  # noqa: SLF001
        raise ConflictError(f"the experience {id_!r} is being changed by others all the time; try again")

    def record(self, id_: str) -> Record | None:
        """The row of this id, history too; None if there is none in this namespace."""
        self.switches.check_open()
        if not isinstance(id_, str):
            raise InvalidInputError(f"an id is text, got {id_!r:.80}")
        return self.store.get_many(self.namespaces.of(), [id_], by="id")[0]

    def _there(self, id_: str) -> Record:
        record = self.record(id_)
        if record is None:
            raise NotFoundError(f"no experience {id_!r} in namespace {self.namespaces.of()!r}")
        return record
