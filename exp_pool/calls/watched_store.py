"""Wraps the record store, so that every write invalidates the local cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exp_pool.calls.local_cache import LocalCache
from exp_pool.core.contracts.plugs import Deletion, Evicted, EvictionOrder, Put, PutStatus, RecordStore


class WatchedStore:
    """The store behind the local cache: after each write, no earlier answer of what was written is given.

    Everything else is the store's own method, not a method that passes the call on, which would cost each call a frame.

    Args:
        store: the store of the pool.
        cache: what writes invalidate.
    """

    def __init__(self, store: RecordStore, cache: LocalCache) -> None:
        self._store = store
        self._cache = cache
        self.capabilities = store.capabilities
        self.get_many = store.get_many
        self.usage = store.usage
        self.scan = store.scan
        self.count = store.count
        self.touch_many = store.touch_many
        self.complete_many = store.complete_many
        self.enqueue = store.enqueue
        self.get_vectors = store.get_vectors
        self.vectors_after = store.vectors_after
        self.partitions = store.partitions
        self.requests_after = store.requests_after
        self.claim = store.claim
        self.renew = store.renew
        self.release = store.release
        self.read_state = store.read_state
        self.write_state = store.write_state
        self.append_log = store.append_log
        self.read_log = store.read_log
        self.drop_logs = store.drop_logs
        self.names = store.names
        self.deletions = store.deletions
        self.cutoff = store.cutoff
        self.tidy = store.tidy
        self.vacuum = store.vacuum
        self.namespaces = store.namespaces
        self.repair = store.repair
        self.check = store.check
        self.close = store.close

    def __getattr__(self, name: str) -> Any:
        """What only this store offers, such as `backup`."""
        return getattr(self._store, name)

    def put_many(self, puts: Sequence[Put]) -> list[PutStatus]:
        """See `RecordStore.put_many`."""
        try:
            return self._store.put_many(puts)
        finally:
            self._cache.forget([(put.record.namespace, put.record.key) for put in puts])

    def delete_many(self, namespace: str, ids: Sequence[str]) -> list[str]:
        """See `RecordStore.delete_many`."""
        try:
            return self._store.delete_many(namespace, ids)
        finally:
            self._cache.forget_ids(namespace, ids)

    def evict(self, namespace: str, order: EvictionOrder, count: int) -> list[Evicted]:
        """See `RecordStore.evict`."""
        evicted = self._store.evict(namespace, order, count)
        self._cache.forget([(namespace, row.key) for row in evicted])
        return evicted

    def bury(self, namespace: str, deletions: Sequence[Deletion], cutoff: int | None = None) -> None:
        """See `RecordStore.bury`."""
        try:
            self._store.bury(namespace, deletions, cutoff)
        finally:
            self._cache.forget_ids(namespace, [deletion.id for deletion in deletions])

    def clear(self, namespace: str) -> int:
        """See `RecordStore.clear`."""
        try:
            return self._store.clear(namespace)
        finally:
            self._cache.forget_namespace(namespace)
