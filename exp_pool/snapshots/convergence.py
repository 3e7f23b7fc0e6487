"""Convergence: snapshot entries brought into a pool so that nodes agree, whatever the order of loading.

- A row that both nodes have gets its later state (`entries.rank`). Its trust is decided apart (`entries.merged_trust`),
  and its audit logs are merged.
- A deletion holds, unless it was undone later.
- Of the answers of one call that no later call replaced, the same one is current on every node (`_precedence`). The
  others wait as history that no row has superseded, and may become current when that one is deleted.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from exp_pool.core.contracts.plugs import Deletion, Put, PutMode, PutStatus, RecordQuery
from exp_pool.core.contracts.rows import audit_log, logs_of
from exp_pool.core.filters import Condition
from exp_pool.core.record import Record
from exp_pool.runtime.clock import now_us
from exp_pool.snapshots.entries import (
    CHANGEABLE,
    SnapshotDeletion,
    SnapshotEntry,
    loaded_entry,
    merged_trust,
    missing_trust_entry,
    rank,
    restored_at,
    revision_of,
)
from exp_pool.stores.pages import all_deletions, audit_entries, log_entries

if TYPE_CHECKING:
    from exp_pool.api.pool import Pool

_PENDING = "snapshots:pending"  # rows that are being put anew, until they are there again
_AWAITED = 0  # a row buried at this time is put anew; as `store_copier` does


class SnapshotLoader:
    """Loads entries into a pool's namespace. It first finishes what a killed process left half done."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._store, self._namespace = pool, pool.store, pool.namespace
        self._logs = set(self._store.names(self._namespace).logs)
        self._refused: list[str] = []
        self._put_back()

    def rows(self, entries: Sequence[SnapshotEntry], *, changed_too: bool) -> int:
        """Load rows of another pool; return how many were written."""
        store, namespace = self._store, self._namespace
        records = [entry.record for entry in entries]
        known = {r.id: r for r in store.get_many(namespace, [r.id for r in records], by="id") if r is not None}
        taken = {r.key for r in store.get_many(namespace, [r.key for r in records]) if r is not None}
        buried = functools.cache(self._tombstones)  # for these entries, once, and only where one of them was deleted
        unsettled: dict[str, dict[str, str]] = {}  # by key: rows that another node saw superseded, and by which
        written = 0
        for entry in entries:
            row = entry.record
            here = known.get(row.id)
            if here is None:
                written += self._add(entry, unsettled, taken, buried)
                continue
            if not changed_too:
                continue
            changed = self._update(here, entry)
            written += changed
            superseded = row.superseded_by is not None and here.superseded_by is None
            if changed or superseded or row.is_current != here.is_current:
                facts = unsettled.setdefault(row.key, {})
                if superseded:
                    facts[row.id] = str(row.superseded_by)
        for key, facts in unsettled.items():
            self._settle(key, facts)
        if written or unsettled:
            self._pool.services.maintenance.stored({namespace}, by_hand=True)
        return written

    def all_in(self) -> bool:
        """Whether, since the last call, each row found its place here: as the row, or as a deletion of this pool.

        Nothing does where the namespace was cleared since, or another process changed the row at this moment.
        """
        refused, self._refused = self._refused, []
        return not refused or self._tombstones().keys() >= set(refused)

    def deletions(self, gone: Sequence[SnapshotDeletion]) -> int:
        """Load deletions of another pool; return how many rows were deleted."""
        times = {deletion.id: deletion.at for deletion in gone if deletion.id}
        if not times:
            return 0
        ours = self._tombstones()
        rows = {r.id: r for r in self._store.get_many(self._namespace, list(times), by="id") if r is not None}
        kept = {id_ for id_ in rows if restored_at(self._audit_log(id_)) > times[id_]}
        buried = [Deletion(id_, at) for id_, at in times.items() if id_ not in kept and ours.get(id_, -1) < at]
        if not buried:
            return 0
        self._store.apply_tombstones(self._namespace, buried)
        left = [rows[deletion.id] for deletion in buried if deletion.id in rows]
        if left:
            self._store.drop_logs(self._namespace, logs_of(row.id for row in left))
            for key in {row.key for row in left if row.is_current}:
                self._settle(key, {})
        return len(left)

    def cleared(self, at: int, *, delete: bool) -> tuple[int, int]:
        """Apply the cut-off of a pool that was cleared; return how many rows were deleted here and how many stay."""
        store, namespace = self._store, self._namespace
        store.apply_tombstones(namespace, [], at)
        older = RecordQuery(namespace, (Condition("created_at", "", "lte", at),), history=True)
        ids = [row.id for row in store.scan(older) if restored_at(self._audit_log(row.id)) <= at]
        return (self.deletions([SnapshotDeletion(id_, at) for id_ in ids]), 0) if delete else (0, len(ids))

    # Rows

    def _add(
        self,
        entry: SnapshotEntry,
        unsettled: dict[str, dict[str, str]],
        taken: set[str],
        buried: Callable[[], Mapping[str, int]],
    ) -> bool:
        row = replace(entry.record, namespace=self._namespace)
        waits = row.superseded_by is None and row.key in taken
        now = now_us()
        row = replace(row, is_current=row.superseded_by is None and not waits)
        put = Put(replace(row, embed_due=now if row.is_current else None), PutMode.REPLICATE)
        (status,) = self._store.put_many([put])
        if status is PutStatus.DELETED and (revived := restored_at(entry.log)):
            cutoff = self._store.cleared_at(self._namespace) or 0
            if revived > max(buried().get(row.id, -1), cutoff if row.created_at <= cutoff else -1):
                (status,) = self._store.put_many([replace(put, mode=PutMode.INSERT)])
        if status not in (PutStatus.CURRENT, PutStatus.HISTORY):
            self._refused.append(row.id)
            return False
        if row.is_current:
            taken.add(row.key)
        if waits or (row.annotated and row.superseded_by is not None):
            unsettled.setdefault(row.key, {})
        if log := self._audit_log(row.id):  # a curator deleted it here, who might take that back
            self._append_log(row.id, [loaded_entry(row.id, entry.record.revision, row.revision)])
        self._append_log(row.id, [text for text in entry.log if text not in set(log)])
        return True

    def _update(self, here: Record, entry: SnapshotEntry) -> bool:
        """Give the row the later state if the file has it; return whether the row changed."""
        log = self._audit_log(here.id)
        log += (untold := missing_trust_entry(here, log))
        news = [*untold] + [text for text in entry.log if text not in set(log)]
        ours, theirs = rank(here, log, revision_of(here, log)), entry.rank
        state: dict[str, Any] = {"trust": merged_trust([*log, *news], here.trust, entry.record.trust)}
        if theirs > ours and theirs.content != ours.content:  # equal content may be written otherwise
            others = {*CHANGEABLE, "size_bytes"} - {"trust"}
            state |= {name: getattr(entry.record, name) for name in others}
        later = replace(here, **state)
        changed = later != here
        if changed:
            (status,) = self._store.put_many([Put(later, PutMode.UPDATE, expected_revision=here.revision)])
            if status is PutStatus.CONFLICT:  # another process changed it: the next load decides
                self._refused.append(here.id)
                return False
            self._pool.editor.follow(here, later)
        if (revision := max(ours, theirs).revision) != ours.revision + changed:
            news.append(loaded_entry(here.id, revision, here.revision + changed))
        self._append_log(here.id, news)
        return changed

    def _audit_log(self, id_: str) -> list[str]:
        return audit_entries(self._store, self._namespace, id_) if audit_log(id_) in self._logs else []

    def _append_log(self, id_: str, log: Sequence[str]) -> None:
        if log:
            self._store.append_log(self._namespace, audit_log(id_), log)
            self._logs.add(audit_log(id_))

    # Which answer of a call is current

    def _settle(self, key: str, superseded: dict[str, str]) -> None:
        """Choose the current row of a key, the same on every node that knows the same rows."""
        same_call = RecordQuery(self._namespace, (Condition("key", "", "eq", key),), history=True)
        rows = list(self._store.scan(same_call))
        origins = {row.id: row.origin for row in rows if not row.annotated}
        settled = []
        for row in rows:
            by = row.superseded_by or superseded.get(row.id)
            if row.annotated and origins.get(by or "", "manual") != "manual":
                by = None  # by a call on a node that did not know of the annotation yet: no call replaces one
            settled.append(replace(row, superseded_by=by))
        first = max((row for row in settled if row.superseded_by is None), key=_precedence, default=None)
        wanted = [replace(row, is_current=row is first) for row in settled]
        changed = [row for row, was in zip(wanted, rows, strict=True) if row != was]
        if changed:
            self._put_anew(changed)

    def _put_anew(self, rows: Sequence[Record]) -> None:
        """Delete and insert rows to change which one is current; a store offers no other way.

        They are written down before, so that a killed process loses none.
        """
        vectors = self._store.get_vectors(self._namespace, [row.id for row in rows])
        self._store.append_log(self._namespace, _PENDING, [json.dumps(asdict(row)) for row in rows])
        self._store.apply_tombstones(self._namespace, [Deletion(row.id, _AWAITED) for row in rows])
        self._store.put_many([
            Put(_due(row, vector is None), PutMode.INSERT, vector if row.is_current else None)
            for row, vector in zip(rows, vectors, strict=True)
        ])  # fmt: skip
        self._store.drop_logs(self._namespace, [_PENDING])

    def _put_back(self) -> None:
        if _PENDING not in self._logs:
            return
        pending = (Record(**json.loads(text)) for text in log_entries(self._store, self._namespace, _PENDING))
        rows = {row.id: row for row in pending}
        awaited = {id_ for id_, at in self._tombstones().items() if at == _AWAITED}
        self._store.put_many([Put(_due(row, pending=True)) for row in rows.values() if row.id in awaited])
        self._store.drop_logs(self._namespace, [_PENDING])

    def _tombstones(self) -> dict[str, int]:
        return {deletion.id: deletion.deleted_at for deletion in all_deletions(self._store, self._namespace)}


def _due(row: Record, pending: bool) -> Record:
    return replace(row, embed_due=now_us() if row.is_current and pending else None, embed_tries=0)


def _precedence(record: Record) -> tuple[bool, bool, int, str]:
    return (record.trust == "trusted", record.annotated, record.created_at, record.id)
