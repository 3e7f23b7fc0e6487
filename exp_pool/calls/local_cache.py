"""The local cache: answers of a moment ago, in memory, found by a call's plain arguments without making its key.

It is looked at before the flow begins, and only for calls that the flow would answer without further questions: an
identical request, no judge, no feeds, no observers, nothing to redact. An entry is dropped when this process writes
anything about its key, when its answer expires, and `hot_ttl` after it was read from a store that other processes
share. A store that announces what others change (``hot="memory://"``) has it dropped when that happens, instead.

Users know it as the hot tier (settings `hot_ttl`, `hot_entries`, `hot_bytes`).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from exp_pool.calls.call_log import CallLogRecord
from exp_pool.calls.request import Memo
from exp_pool.core.contracts.plugs import AnnouncingStore
from exp_pool.core.record import Record
from exp_pool.core.values.encoding import immutable
from exp_pool.runtime.clock import now_us
from exp_pool.runtime.forks import reinit_after_fork

# The key of a memo compares by ==, so only types are let in whose equal values are the same argument: 1.0 == 1 == True
# are told apart by their types beside them, but (1,) == (True,) and 0.0 == -0.0 could not be.
_PLAIN = frozenset({str, int, bool, bytes, type(None)})
_FOR_EVER = 1 << 62

_Ref: TypeAlias = tuple[str, str]  # namespace and key


@dataclass(slots=True, eq=False)
class Entry:
    """One answer."""

    ref: _Ref
    memo: Memo
    record: Record
    log_record: CallLogRecord  # of each hit
    until: int  # microseconds
    size: int
    copy: Callable[[], Any]  # the answer, an object of the caller's own
    uses: Iterator[int]  # counts without a lock: `next` of a C iterator is not interrupted
    counted: int = 0
    last_use: int = 0


def memo_of(owner: object, namespace: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Memo | None:
    """The call's key in the local cache; None where its arguments are not plain.

    Args:
        owner: stands for the function and its source.
        namespace: of the call; None: the manager's.
        args: the positional arguments.
        kwargs: the keyword arguments.
    """
    types = tuple(map(type, args))
    if not _PLAIN.issuperset(types):
        return None
    if not kwargs:
        return owner, namespace, types, args
    named = tuple(map(type, kwargs.values()))
    if not _PLAIN.issuperset(named):
        return None
    return owner, namespace, types, args, named, tuple(kwargs.items())


@reinit_after_fork(keep=("_announcing",))
class LocalCache:
    """The local cache of one manager. `CacheInvalidatingStore` invalidates entries at every write.

    Args:
        ttl_s: how long an entry lasts (seconds), where other processes share the store; 0: there is no local cache.
        max_entries: the oldest entries are dropped above so many.
        max_bytes: the oldest entries are dropped above so many bytes of rows.
        shared: whether other processes share the store.
    """

    def __init__(self, ttl_s: float, max_entries: int, max_bytes: int, *, shared: bool) -> None:
        self._ttl_us = int(ttl_s * 1e6) if shared else _FOR_EVER
        self.enabled = ttl_s > 0 and max_entries > 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._announcing: AnnouncingStore | None = None
        self._lock = threading.Lock()
        self._entries: dict[Memo, Entry] = {}  # the oldest first
        self._of_ref: dict[_Ref, list[Entry]] = {}
        self._ref_of_id: dict[tuple[str, str], _Ref] = {}
        self._bytes = 0
        self._gone: list[Entry] = []  # dead ones whose uses are still to be counted
        self._announced = False  # whether the store announces now what other processes change
        self._stop: Callable[[], None] | None = None
        self.writes = 0  # whoever read before a write must not put in what it read after it

    def follow(self, store: AnnouncingStore) -> None:
        """Have the store announce what other processes change, once there are entries. While that works, they last."""
        self._announcing = store

    def _changed(self, namespace: str, keys: Sequence[str] | None) -> None:
        if keys is None:
            self.forget_namespace(namespace)
        else:
            self.forget([(namespace, key) for key in keys])

    def _listening(self, works: bool) -> None:
        self._announced = works
        self.forget_everything()

    def close(self) -> None:
        """Stop listening to the store."""
        self._announcing = None
        if self._stop is not None:
            self._stop()

    def get(self, memo: Memo) -> Entry | None:
        """The entry of a call, if its answer may still be given; this counts as a use."""
        entry = self._entries.get(memo)
        if entry is None:
            return None
        now = now_us()
        if now >= entry.until:
            return None
        next(entry.uses)
        entry.last_use = now
        return entry

    def put(
        self,
        memo: Memo,
        record: Record,
        value: Any,
        log_record: CallLogRecord,
        writes: int,
        decode: Callable[[], Any],
        until: int | None = None,
    ) -> None:
        """Remember an answer that was read when there had been so many `writes`.

        Args:
            memo: what the call is found by.
            record: the row that answered.
            value: its answer, decoded.
            log_record: of each hit.
            writes: the count of writes before the row was read.
            decode: decodes the answer anew, for values that cannot be copied faster.
            until: when calls are to reach the flow again (microseconds).
        """
        if not self.enabled:
            return
        size = record.size_bytes + 500
        lasting = _FOR_EVER if self._announced else now_us() + self._ttl_us
        until = min(lasting, record.expires_at or _FOR_EVER, until or _FOR_EVER)
        ref = (record.namespace, record.key)
        entry = Entry(ref, memo, record, log_record, until, size, _copier(value, decode), itertools.count(1))
        with self._lock:
            if writes != self.writes or size > self._max_bytes // 10:
                return
            if self._announcing is not None and self._stop is None:
                self._stop = self._announcing.changes(self._changed, self._listening)
            known = self._entries.get(memo)
            if known is not None:
                self._kill(known)
            self._entries[memo] = entry
            self._of_ref.setdefault(ref, []).append(entry)
            self._ref_of_id[record.namespace, record.id] = ref
            self._bytes += size
            while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
                self._kill(next(iter(self._entries.values())))

    def _kill(self, entry: Entry) -> None:
        if self._entries.get(entry.memo) is not entry:
            return
        del self._entries[entry.memo]
        entry.until = 0  # for a reader that has it in hand
        self._bytes -= entry.size
        left = [other for other in self._of_ref.get(entry.ref, ()) if other is not entry]
        if left:
            self._of_ref[entry.ref] = left
        else:
            self._of_ref.pop(entry.ref, None)
            self._ref_of_id.pop((entry.record.namespace, entry.record.id), None)
        self._gone.append(entry)

    def forget(self, refs: Sequence[_Ref]) -> None:
        """Drop the answers of these keys, because their rows were stored, replaced, deleted or evicted."""
        with self._lock:
            self.writes += 1
            for ref in refs:
                for entry in self._of_ref.get(ref, ()):
                    self._kill(entry)

    def forget_ids(self, namespace: str, ids: Sequence[str]) -> None:
        """Drop the answers that came from these rows, because the rows were deleted."""
        self.forget([ref for id_ in ids if (ref := self._ref_of_id.get((namespace, id_))) is not None])

    def forget_namespace(self, namespace: str) -> None:
        """Drop every answer of the namespace, because its rows were deleted."""
        self.forget([ref for ref in list(self._of_ref) if ref[0] == namespace])

    def forget_everything(self) -> None:
        """Drop every answer, because the store was replaced, or changes of other processes were missed."""
        self.forget(list(self._of_ref))

    def uses(self) -> list[tuple[Record, int, int]]:
        """Rows that were used since this was last asked, how often, and when last (microseconds)."""
        with self._lock:
            gone, self._gone = self._gone, []
            entries = [*gone, *self._entries.values()]
            found = []
            for entry in entries:
                uses = int(repr(entry.uses)[len("count(") : -1]) - 1  # looking must not count
                if uses > entry.counted:
                    found.append((entry.record, uses - entry.counted, entry.last_use))
                    entry.counted = uses
        return found


def _copier(value: Any, decode: Callable[[], Any]) -> Callable[[], Any]:
    """What gives each caller an answer of its own, the fastest way there is for this value."""
    if immutable(value):
        return lambda: value
    kind = type(value)
    if (kind is dict and all(map(immutable, value.values()))) or (kind is list and all(map(immutable, value))):
        return value.copy  # type: ignore[no-any-return]
    return (lambda: _copied(value)) if _built_in(value) else decode


def _copied(value: Any) -> Any:
    """A deep copy of built-in containers: 1 us for a nested answer, where `json.loads` takes 2 and `deepcopy` 6."""
    kind = type(value)
    if kind is dict:
        return {name: _copied(item) if type(item) in _CONTAINERS else item for name, item in value.items()}
    if kind in _CONTAINERS:
        return kind(_copied(item) if type(item) in _CONTAINERS else item for item in value)
    return value


def _built_in(value: Any, depth: int = 0) -> bool:
    """Whether it is made of immutable values in plain dicts, lists, tuples and sets, not too deep for `_copied`."""
    kind = type(value)
    if kind not in _CONTAINERS:
        return immutable(value)
    if depth > _DEEP:
        return False
    return all(_built_in(item, depth + 1) for item in (value.values() if kind is dict else value))


_CONTAINERS = frozenset({dict, list, tuple, set, frozenset})
_DEEP = 50
