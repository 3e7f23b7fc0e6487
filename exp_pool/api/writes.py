"""What changes experiences: storing, correcting, deleting, erasing. The half of the pool that writes, blocking."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from loguru import logger

from exp_pool.api.per_function import PerFunction
from exp_pool.calls.drivers.services import CallServices
from exp_pool.calls.explain import explain
from exp_pool.calls.request import KeyOfCall, Request
from exp_pool.calls.similar_calls import calls_like
from exp_pool.calls.store_result import failure_key
from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Put, PutMode, PutStatus, RecordQuery, RecordStore
from exp_pool.core.contracts.rows import audit_entry, audit_log
from exp_pool.core.edits import Deed, Edit, batches
from exp_pool.core.experience import MISSING, Experience, HistoryEntry, Trust
from exp_pool.core.filters import Condition, parse_where
from exp_pool.core.identity.keys import make_key
from exp_pool.core.record import Match, Record, to_experience, to_record, vouched_for, with_answers_of
from exp_pool.core.values.encoding import from_plain
from exp_pool.errors import (
    ConflictError,
    InvalidInputError,
    NamespaceError,
    NotFoundError,
    StoreError,
    VectorIndexError,
)
from exp_pool.maintenance.index_sync import Follower
from exp_pool.maintenance.judge_training import Verifying
from exp_pool.maintenance.outcomes import Outcomes
from exp_pool.maintenance.pending_scores import Scoring, reasons
from exp_pool.maintenance.scorer_runner import unscored_log
from exp_pool.maintenance.worker import Upkeep
from exp_pool.runtime.call_context import current_namespace
from exp_pool.runtime.clock import now_us, to_datetime
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.notices import Notices
from exp_pool.stores.journal import ChangeNote, Journal
from exp_pool.stores.lineage import with_inherited_trust

# What `update_exp` may not touch: it is what the experience is found by. `clone` makes another experience.
_FIXED = frozenset("id namespace function version key arguments request created_at access_count last_access".split())
_TRIES = 5  # of an update that others get in between
_DELETE_BATCH = 500


class Editing(PerFunction):
    """See `ExpManager` for what each method does."""

    config: ExpPoolConfig
    counters: Counters
    services: CallServices
    secret: bytes | None
    _store: RecordStore
    _follower: Follower
    _scoring: Scoring
    _outcomes: Outcomes
    _verifying: Verifying
    _upkeep: Upkeep
    _opened: RecordStore
    notices: Notices

    def create_exp(self, experience: Experience) -> str:
        """Store one experience; its id."""
        return self.create_exps([experience])[0]

    def create_exps(self, experiences: Sequence[Experience]) -> list[str]:
        """Store experiences; their ids."""
        self.check_writable()
        records = []
        for experience in experiences:
            if not isinstance(experience, Experience):
                raise InvalidInputError(f"expected an Experience, got {experience!r:.80}")
            records.append(self.record_of(experience))
        records = with_inherited_trust(self._store, records)
        statuses = self._store.put_many([Put(record) for record in records])
        stored = [r for r, status in zip(records, statuses, strict=True) if status is not PutStatus.CONFLICT]
        self.counters.add("stored", len(stored))
        self.services.stored(stored, by_hand=True)
        taken = [r.id for r, status in zip(records, statuses, strict=True) if status is PutStatus.CONFLICT]
        if taken:
            raise ConflictError(
                f"{len(taken)} of {len(records)} were not stored, because their ids are taken, "
                f"such as {taken[0]!r}; change those with update_exp, or store copies made by clone()"
            )
        return [record.id for record in records]

    def record_of(self, experience: Experience) -> Record:
        """The row that would be stored of an experience."""
        space = experience.namespace or self._namespace(None)
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
        record = self._get(id_)
        return None if record is None else to_experience(record)

    def update_exp(self, id_: str, **changes: Any) -> Experience:
        """Change fields of an experience; the changed one."""
        self.check_writable()
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
        self.follow(*(to_record(experience, self._namespace(None)) for experience in (before, after)))
        return after

    def annotate(self, id_: str, *, expected: Any = MISSING, metadata: Mapping[str, Any] | None = None) -> Experience:
        """Say what the answer should be (by default: the one it gave); from now on that answers. Audited."""
        self.check_writable()
        before, after = self._change(id_, lambda experience: experience.annotate(expected=expected, metadata=metadata))
        replaced = {"expected_before": before.expected} if before.annotated else {}
        self._audit("annotate", id_, metadata=dict(metadata or {}), **replaced, expected=after.expected)
        self._owe_score(id_, after.function)
        return after

    def change(self, note: ChangeNote, edits: Sequence[Edit]) -> ChangeNote:
        """Change many rows of this namespace, all or none, and do what follows from it; see `Journal.apply`."""
        self.check_writable()
        kept = self.journal.apply(note, edits)
        for batch in batches(edit for edit in edits if edit.deed is Deed.EDIT):
            rows = self._store.get_many(self._namespace(None), [edit.id for edit in batch], by="id")
            for edit, row in zip(batch, rows, strict=True):
                if row is not None:
                    self.follow(replace(row, **(edit.before or {})), row)
        new = [Record(**(edit.after or {})) for edit in edits if edit.deed in (Deed.ADD, Deed.RESTORE)]
        self.services.stored([row for row in new if row.is_current], by_hand=True)
        return kept

    def follow(self, before: Record, after: Record) -> None:
        """What follows from an edit: evidence against what is trusted again counts anew; scores are owed."""
        if before.trust != after.trust == Trust.TRUSTED:
            self._outcomes.cleared(after.namespace, after.function, after.id)
        if before.answer != after.answer:
            self._owe_score(after.id, after.function)

    @property
    def space(self) -> str:
        """The namespace that surrounds the call, else the manager's."""
        return self._namespace(None)

    @property
    def journal(self) -> Journal:
        """The changes of this namespace."""
        self.check_open()
        return Journal(self._store, self._namespace(None), self.config.lease_timeout)

    def forget_change(self, id_: str) -> int:
        """Drop what a change needs to be undone; how many deleted experiences are gone for good by that."""
        self.check_writable()
        gone = self.journal.forget(id_)
        self._drop_logs(self._namespace(None), gone)
        return len(gone)

    def _audit(self, what: str, id_: str, **detail: Any) -> None:
        self._store.append_log(self._namespace(None), audit_log(id_), [audit_entry(what, id_, **detail)])

    def feedback(self, id_: str, value: float, reason: str = "") -> None:
        """Say how well the call went that gave this experience: 0 to 1. Credits what it was shown."""
        self.check_writable()
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InvalidInputError(f"value={value!r} must be a number of 0 (failed) to 1 (all that was wanted)")
        if not isinstance(reason, str):
            raise InvalidInputError(f"reason={reason!r:.80} must be text")
        record = self._there(id_)
        self._outcomes.add(record, float(value), reason)
        self._verifying.told(record.namespace, id_, float(value))
        self._owe_score(id_, record.function)
        self._upkeep.owed()

    def history(self, id_: str) -> list[HistoryEntry]:
        """Everything that is known to have happened to an experience, the oldest first."""
        record = self._there(id_)
        same_call = RecordQuery(record.namespace, parse_where({"key": record.key}), history=True)
        entries = []
        for row in self._store.scan(same_call):
            detail = {"origin": row.origin, "current": row.is_current, "trust": row.trust}
            entries.append(HistoryEntry(to_datetime(row.created_at), "stored", row.id, detail))
        position = 0
        while page := self._store.read_log(record.namespace, audit_log(id_), after=position):
            position = page[-1].position
            for _, text in page:
                entry = from_plain(json.loads(text))
                at, what, about = (entry.pop(name) for name in ("at", "what", "id"))
                entries.append(HistoryEntry(datetime.fromisoformat(at), what, about, entry))
        return sorted(entries, key=lambda entry: entry.at)

    def _owe_score(self, id_: str, function: str) -> None:
        """It was annotated or rated: a scorer may say something else now."""
        if self._scoring.owe(self._namespace(None), id_, function):
            self._upkeep.owed()

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
                (changed,) = with_inherited_trust(self._store, [changed])
            (status,) = self._store.put_many([Put(changed, PutMode.UPDATE, expected_revision=record.revision)])
            if status is not PutStatus.CONFLICT:
                return before, after if changed.trust == after.trust else after._with(trust=changed.trust)  # noqa: SLF001
        raise ConflictError(f"the experience {id_!r} is being changed by others all the time; try again")

    def delete_exp(self, id_: str) -> bool:
        """Delete an experience; whether it was there."""
        return bool(self._delete([id_]))

    def delete_exps(self, where: Mapping[str, Any]) -> int:
        """Delete the current experiences that meet all conditions; how many."""
        if not where:
            raise InvalidInputError("delete_exps needs conditions; delete_all_exps() deletes everything")
        return self._delete_matching(RecordQuery(self._namespace(None), parse_where(where)))

    def delete_all_exps(self) -> int:
        """Delete everything in the manager's namespace, history too; how many rows."""
        self.check_writable()
        space = self._namespace(None)
        deleted = self._store.clear(space)
        self._outcomes.forget(space)
        try:
            self._follower.clear(space)
        except VectorIndexError as err:
            logger.warning("the index keeps deleted rows, which the join drops: {}", err)
        return deleted

    def erase(self, where: Mapping[str, Any]) -> int:
        """Delete what meets all conditions, history too, and leave no byte of it on disk; how many rows."""
        if not where:
            raise InvalidInputError("erase needs conditions, such as {'function': 'ask'} or {'id': '...'}")
        conditions = parse_where(where)
        erased = self._delete_matching(RecordQuery(self._namespace(None), conditions, history=True))
        self._drop_logs(self._namespace(None), self.journal.erase(conditions))
        self._store.vacuum()
        unreadable = self._store.check()
        try:
            self._follower.clear(self._namespace(None))  # built anew from what is left
        except VectorIndexError as err:
            raise VectorIndexError(
                f"erased from the store, but the index keeps vectors of what was erased: {err}; erase again, with the "
                "same conditions, when no other process has the pool open"
            ) from err
        if unreadable:
            raise StoreError(
                f"{erased} rows were erased, but what is damaged cannot be told from what was to be erased: "
                f"{unreadable[0]}. Then erase again"
            )
        self._warn_of_copies()
        return erased

    def _warn_of_copies(self) -> None:
        copies = [str(path) for path in getattr(self._opened, "set_aside", list)()]
        if copies:
            self.notices.once(
                f"copies:{copies}",
                f"erased, but files that were set aside may still hold it; remove them: {', '.join(copies)}",
            )

    def clear_expired(self) -> int:
        """Delete what has expired; how many."""
        due = Condition("expires_at", "", "lte", now_us())
        return self._delete_matching(RecordQuery(self._namespace(None), (due,), history=True))

    def clear_by_key(self, key: str) -> int:
        """Delete what is stored under a key (see ``.key()`` of a decorated function), its history too.

        How many rows.
        """
        space = key.namespace if isinstance(key, KeyOfCall) else self._namespace(None)
        return self._delete_matching(RecordQuery(space, parse_where({"key": str(key)}), history=True))

    def invalidate(self, namespace: str, key: str) -> int:
        """`clear_by_key` in a call's own namespace, and what is kept of its failures."""
        both = parse_where({"key": {"in": [key, failure_key(key)]}})
        return self._delete_matching(RecordQuery(namespace, both, history=True))

    def explain(
        self,
        request: Request,
        min_score: float | None = None,
        nearest: Match | None = None,
        misfit: Callable[[Record], str] | None = None,
    ) -> str:
        """Why nothing stored answers this call, whatever a judge says.

        Args:
            request: the call.
            min_score: what the function wants of an answer.
            nearest: the stored call to compare it with; by default the one that is most like it.
            misfit: says why the function would not return the answer of a row now; "" where it would.
        """
        (current,) = self._store.get_many(request.namespace, [request.key])
        rows = (
            [] if current is not None else [nearest.record] if nearest is not None else calls_like(request, self._store)
        )
        said = explain(request, current, rows, min_score, misfit)
        if nearest is not None and nearest.found_by != "exact" and current is None:
            said = f"{said} (similarity {nearest.similarity:.3f})"
        why = (
            [] if current is None or current.score is not None else reasons(self._store, request.namespace, current.id)
        )
        return f"{said}; unscored: {why[-1]}" if why else said

    def why_unscored(self, id_: str) -> list[str]:
        """Why scorers gave an experience no score, the oldest reason first; empty where nothing went wrong."""
        self.check_open()
        return reasons(self._store, self._namespace(None), id_)

    def _delete_matching(self, query: RecordQuery) -> int:
        self.check_writable()
        assert query.namespace is not None
        ids = [record.id for record in self._store.scan(query)]
        return sum(
            len(self._delete(ids[start : start + _DELETE_BATCH], query.namespace))
            for start in range(0, len(ids), _DELETE_BATCH)
        )

    def _delete(self, ids: Sequence[str], namespace: str | None = None) -> list[str]:
        self.check_writable()
        space = self._namespace(namespace)
        deleted = self._store.delete_many(space, ids)
        self._drop_logs(space, deleted)
        return deleted

    def _drop_logs(self, space: str, ids: Sequence[str]) -> None:
        if ids:
            self._store.drop_logs(space, [log(id_) for id_ in ids for log in (audit_log, unscored_log)])

    # Small things

    def _namespace(self, given: str | None) -> str:
        if given is not None and (not isinstance(given, str) or not given):
            raise InvalidInputError(f"namespace={given!r} must be text, not empty")
        named = given or current_namespace()
        if named is None and self.config.require_namespace:
            raise NamespaceError(
                "no namespace is named here, and require_namespace is on: ask inside `with in_namespace(...)`, give "
                "namespace= where it is taken, or the experience its namespace"
            )
        return named or self.config.namespace

    def _get(self, id_: str) -> Record | None:
        self.check_open()
        if not isinstance(id_, str):
            raise InvalidInputError(f"an id is text, got {id_!r:.80}")
        return self._store.get_many(self._namespace(None), [id_], by="id")[0]

    def _there(self, id_: str) -> Record:
        record = self._get(id_)
        if record is None:
            raise NotFoundError(f"no experience {id_!r} in namespace {self._namespace(None)!r}")
        return record
