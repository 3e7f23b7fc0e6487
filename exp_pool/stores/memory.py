"""``memory://``: a record store of dicts under one lock, for tests and notebooks; the reference for all others."""

from __future__ import annotations

import bisect
import itertools
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, Self, TypeAlias

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import (
    SCAN_ORDERS,
    Capabilities,
    Claim,
    Completion,
    Deletion,
    Evicted,
    EvictionOrder,
    IndexPartition,
    Lease,
    LogEntry,
    Names,
    Put,
    PutMode,
    PutStatus,
    RecordQuery,
    RequestRow,
    State,
    Touch,
    Usage,
    VectorRow,
)
from exp_pool.core.record import Record, TaskKind, Vector, hash_text
from exp_pool.runtime.clock import now_us
from exp_pool.runtime.forks import reset_in_child
from exp_pool.stores import rules
from exp_pool.stores.rules import complete, decide, is_pending, matches, order_of, to_history, updated

Ref: TypeAlias = tuple[str, str]  # (namespace, id or key or name)


class MemoryStore:
    """The record store of one process's memory; gone with it."""

    capabilities = Capabilities(durable=False, shared=False, leases=True, blocking=False, atomic_batches=True)

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._rows: dict[Ref, Record] = {}  # in the order of insertion
        self._current: dict[Ref, str] = {}
        self._by_request: defaultdict[Ref, dict[str, None]] = defaultdict(dict)
        self._listed: defaultdict[str, dict[str, int]] = defaultdict(dict)  # positions in `requests_after`, by ids
        self._listings = itertools.count(1)
        self._vectors: dict[Ref, VectorRow] = {}
        self._forgotten: defaultdict[IndexPartition, list[tuple[VectorRow, int]]] = defaultdict(list)
        self._position = 0  # the last one given
        self._positions = itertools.count(1)
        self._tombstones: dict[Ref, int] = {}
        self._cutoffs: dict[str, int] = {}
        self._leases: dict[Ref, Lease] = {}
        self._tokens = itertools.count(1)  # one count for all keys: a token is never given out twice
        self._states: dict[Ref, State] = {}
        self._logs: defaultdict[Ref, list[LogEntry]] = defaultdict(list)
        self._log_positions = itertools.count(1)
        reset_in_child(self._after_fork)

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig) -> Self:  # noqa: ARG003
        """The store of the URL; every manager has its own."""
        return cls()

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # another thread of the parent may have held it

    def get_many(self, namespace: str, refs: Sequence[str], *, by: Literal["key", "id"] = "key") -> list[Record | None]:
        with self._lock:
            if by == "id":
                return [self._rows.get((namespace, ref)) for ref in refs]
            return [self._current_row(namespace, ref) for ref in refs]

    def _current_row(self, namespace: str, key: str) -> Record | None:
        found = self._current.get((namespace, key))
        return None if found is None else self._rows[namespace, found]

    def put_many(self, puts: Sequence[Put]) -> list[PutStatus]:
        with self._lock:
            return [self._update(put) if put.mode is PutMode.UPDATE else self._insert(put) for put in puts]

    def _update(self, put: Put) -> PutStatus:
        new = put.record
        old = self._rows.get((new.namespace, new.id))
        if old is None or old.revision != put.expected_revision:
            return PutStatus.CONFLICT
        self._rows[new.namespace, new.id] = updated(old, new)
        return PutStatus.CURRENT if old.is_current else PutStatus.HISTORY

    def _insert(self, put: Put) -> PutStatus:
        new = put.record
        ref, place = (new.namespace, new.id), (new.namespace, new.key)
        lease = put.lease
        if lease is not None and not self._holds(lease):
            return PutStatus.STALE
        if put.mode is PutMode.REPLICATE and (
            ref in self._tombstones or new.created_at <= self._cutoffs.get(new.namespace, -1)
        ):
            return PutStatus.DELETED
        if ref in self._rows:
            return PutStatus.CONFLICT
        if ref in self._tombstones:
            del self._tombstones[ref]
        known = self._current.get(place)
        current = None if known is None else self._rows[new.namespace, known]
        if lease is not None:
            del self._leases[lease.namespace, lease.key]
        decision = decide(put, known, annotated=current is not None and current.annotated)
        new = decision.record
        if current is not None and decision.supersedes is not None:
            self._to_history(current, new.id)
        self._rows[ref] = new
        self._listed[new.namespace][new.id] = next(self._listings)
        self._by_request[new.namespace, new.request_hash][new.id] = None
        if not new.is_current:
            return PutStatus.HISTORY
        self._current[place] = new.id
        if put.vector is not None:
            self._set_vector(new, put.vector)
        return PutStatus.CURRENT

    def _to_history(self, row: Record, successor: str) -> None:
        self._rows[row.namespace, row.id] = to_history(row, successor)
        self._forget_vector(row.namespace, row.id)

    def _set_vector(self, row: Record, vector: Vector) -> None:
        known = self._vectors.get((row.namespace, row.id))
        if known is not None and _partition(known).embedder != vector.embedder:
            self._forget_vector(row.namespace, row.id)  # its readers hear that they have lost it
        self._position = next(self._positions)
        self._vectors[row.namespace, row.id] = VectorRow(
            row.id, row.namespace, row.function, row.version, row.reuse_scope, self._position, vector
        )

    def _forget_vector(self, namespace: str, id_: str) -> None:
        known = self._vectors.pop((namespace, id_), None)
        if known is not None:
            self._position = next(self._positions)
            gone = replace(known, position=self._position, vector=None)
            self._forgotten[_partition(known)].append((gone, now_us()))

    def delete_many(self, namespace: str, ids: Sequence[str]) -> list[str]:
        with self._lock:
            return [id_ for id_ in dict.fromkeys(ids) if self._delete(namespace, id_)]

    def _delete(self, namespace: str, id_: str) -> bool:
        removed = self._remove(namespace, id_)
        if removed:
            self._tombstones[namespace, id_] = now_us()
        return removed

    def _remove(self, namespace: str, id_: str) -> bool:
        row = self._rows.get((namespace, id_))
        if row is None:
            return False
        del self._rows[namespace, id_], self._listed[namespace][id_]
        if row.is_current:
            del self._current[namespace, row.key]
        self._by_request[namespace, row.request_hash].pop(id_, None)
        self._forget_vector(namespace, id_)
        return True

    def usage(self, namespace: str) -> Usage:
        with self._lock:
            sizes = [row.size_bytes for (space, _), row in self._rows.items() if space == namespace]
        return Usage(len(sizes), sum(sizes))

    def evict(self, namespace: str, order: EvictionOrder, count: int) -> list[Evicted]:
        with self._lock:
            now = now_us()
            rows = [row for (space, _), row in self._rows.items() if space == namespace and not row.protected]
            rows.sort(key=lambda row: rules.eviction_sort_key(row, order, now))
            for row in rows[:count]:
                self._remove(namespace, row.id)
        return [Evicted(row.id, row.function, row.key, row.size_bytes) for row in rows[:count]]

    def clear(self, namespace: str) -> int:
        with self._lock:
            ids = [id_ for space, id_ in self._rows if space == namespace]
            for id_ in ids:
                self._remove(namespace, id_)  # the cut-off stands for their tombstones
            for ref in [ref for ref in self._logs if ref[0] == namespace]:
                del self._logs[ref]
            self._cutoffs[namespace] = now_us()
            return len(ids)

    def scan(
        self, query: RecordQuery, *, order_by: str = "created_at", descending: bool = False, limit: int | None = None
    ) -> Iterator[Record]:
        assert order_by in SCAN_ORDERS
        with self._lock:
            now = now_us()
            rows = [row for row in self._candidates(query) if matches(row, query, now)]
        rows.sort(key=lambda row: order_of(getattr(row, order_by)), reverse=descending)
        return iter(rows[:limit])

    def _candidates(self, query: RecordQuery) -> Iterable[Record]:
        """The rows that a query may match: those of one request where the query names one, else all."""
        if query.namespace is not None:
            for condition in query.where:
                if condition.field == "request" and condition.operator == "eq":
                    found = self._by_request.get((query.namespace, hash_text(str(condition.value))), {})
                    return [self._rows[query.namespace, id_] for id_ in found]
        return self._rows.values()

    def count(self, query: RecordQuery, *, limit: int | None = None) -> int:
        with self._lock:
            found, now = 0, now_us()
            for row in self._candidates(query):
                found += matches(row, query, now)
                if found == limit:
                    break
            return found

    def touch_many(self, namespace: str, touches: Sequence[Touch]) -> None:
        with self._lock:
            for touch in touches:
                row = self._rows.get((namespace, touch.id))
                if row is not None:
                    last = max(touch.last_access, row.last_access or 0)
                    counted = replace(row, access_count=row.access_count + touch.count, last_access=last)
                    self._rows[namespace, touch.id] = counted

    def complete_many(self, completions: Sequence[Completion]) -> None:
        with self._lock:
            for completion in completions:
                row = self._rows.get((completion.namespace, completion.id))
                if row is not None and is_pending(row, completion):
                    if completion.vector is not None:
                        self._set_vector(row, completion.vector)
                    self._rows[row.namespace, row.id] = complete(row, completion)

    def enqueue(self, query: RecordQuery, task: TaskKind) -> int:
        with self._lock:
            now = now_us()
            rows = [row for row in self._candidates(query) if row.is_current and matches(row, query, now)]
            changes: dict[str, object] = {f"{task}_due": now, f"{task}_tries": 0}
            for row in rows:
                self._rows[row.namespace, row.id] = replace(row, **changes)  # type: ignore[arg-type]
            return len(rows)

    def get_vectors(self, namespace: str, ids: Sequence[str]) -> list[Vector | None]:
        with self._lock:
            found = [self._vectors.get((namespace, id_)) for id_ in ids]
        return [None if row is None else row.vector for row in found]

    def vectors_after(self, namespace: str, embedder: str, position: int, limit: int) -> list[VectorRow]:
        with self._lock:
            if position >= self._position:
                return []
            space = IndexPartition(namespace, embedder)
            rows = [row for row in self._vectors.values() if row.position > position and _partition(row) == space]
            rows += [row for row, _ in self._forgotten.get(space, ()) if row.position > position]
        rows.sort(key=lambda row: row.position)
        return rows[:limit]

    def partitions(self, namespace: str | None = None) -> dict[IndexPartition, int]:
        with self._lock:
            return Counter(_partition(row) for row in self._vectors.values() if namespace in (None, row.namespace))

    def requests_after(self, namespace: str, position: int, limit: int) -> list[RequestRow]:
        with self._lock:
            listed = reversed(self._listed[namespace].items()) if namespace in self._listed else ()
            newer = list(itertools.takewhile(lambda each: each[1] > position, listed))
            rows = ((self._rows[namespace, id_], at) for id_, at in reversed(newer))
            current = (
                RequestRow(row.id, row.function, row.version, row.request, at) for row, at in rows if row.is_current
            )
            return list(itertools.islice(current, limit))

    def claim(self, namespace: str, key: str, owner: str, ttl_s: float, passing: str | None = None) -> Claim:
        with self._lock:
            now = now_us()
            ref = (namespace, key)
            known = self._current.get(ref)
            if known not in (None, passing) and not (row := self._rows[namespace, known]).expired(now):
                return Claim(record=row)
            held = self._leases.get(ref)
            if held is not None and held.expires_at > now and held.owner != owner:
                return Claim()
            lease = Lease(namespace, key, owner, next(self._tokens), now + int(ttl_s * 1e6))
            self._leases[ref] = lease
            return Claim(lease=lease)

    def _holds(self, lease: Lease) -> bool:
        held = self._leases.get((lease.namespace, lease.key))
        return held is not None and held.token == lease.token

    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        with self._lock:
            if not self._holds(lease):
                return None
            renewed = replace(lease, expires_at=now_us() + int(ttl_s * 1e6))
            self._leases[lease.namespace, lease.key] = renewed
            return renewed

    def release(self, lease: Lease) -> None:
        with self._lock:
            if self._holds(lease):
                del self._leases[lease.namespace, lease.key]

    def read_state(self, namespace: str, name: str) -> State | None:
        with self._lock:
            return self._states.get((namespace, name))

    def write_state(self, namespace: str, name: str, value: str, expected_revision: int | None) -> bool:
        with self._lock:
            known = self._states.get((namespace, name))
            if (known.revision if known else None) != expected_revision:
                return False
            self._states[namespace, name] = State(value, (expected_revision or 0) + 1)
            return True

    def append_log(self, namespace: str, name: str, entries: Sequence[str]) -> int:
        with self._lock:
            added = [LogEntry(next(self._log_positions), entry) for entry in entries]
            if added:
                self._logs[namespace, name] += added
            return added[-1].position if added else 0

    def read_log(self, namespace: str, name: str, *, after: int = 0, limit: int = 1000) -> list[LogEntry]:
        with self._lock:
            entries = self._logs.get((namespace, name), [])
            start = bisect.bisect_right(entries, after, key=lambda entry: entry.position)
            return entries[start : start + limit]

    def drop_logs(self, namespace: str, names: Sequence[str]) -> None:
        with self._lock:
            for name in names:
                if (namespace, name) in self._logs:
                    del self._logs[namespace, name]

    def names(self, namespace: str) -> Names:
        with self._lock:
            return Names(
                sorted(name for space, name in self._states if space == namespace),
                sorted(name for (space, name), entries in self._logs.items() if space == namespace and entries),
            )

    def deletions(self, namespace: str, *, after: str = "", limit: int = 1000) -> list[Deletion]:
        with self._lock:
            found = [Deletion(id_, at) for (space, id_), at in self._tombstones.items() if space == namespace]
        return sorted(deletion for deletion in found if deletion.id > after)[:limit]

    def cleared_at(self, namespace: str) -> int | None:
        with self._lock:
            return self._cutoffs.get(namespace)

    def apply_tombstones(self, namespace: str, deletions: Sequence[Deletion], cleared_at: int | None = None) -> None:
        with self._lock:
            for deletion in deletions:
                self._remove(namespace, deletion.id)
                self._tombstones[namespace, deletion.id] = deletion.deleted_at
            if cleared_at is not None:
                self._cutoffs[namespace] = max(cleared_at, self._cutoffs.get(namespace, cleared_at))

    def tidy(self, forget_before: int) -> None:
        with self._lock:
            self._tombstones = {ref: at for ref, at in self._tombstones.items() if at >= forget_before}
            for space, gone in self._forgotten.items():
                self._forgotten[space] = [(row, at) for row, at in gone if at >= forget_before]

    def vacuum(self) -> None:
        pass

    def namespaces(self) -> list[str]:
        with self._lock:
            kept = (*self._rows, *self._tombstones, *self._states, *self._logs)
            return sorted({*(namespace for namespace, _ in kept), *self._cutoffs} - {""})

    def repair(self) -> list[str]:
        return []

    def check(self) -> list[str]:
        return []

    def close(self) -> None:
        pass


def _partition(row: VectorRow) -> IndexPartition:
    assert row.vector is not None  # those that are gone stand elsewhere
    return IndexPartition(row.namespace, row.vector.embedder)
