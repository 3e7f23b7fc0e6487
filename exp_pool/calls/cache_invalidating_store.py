"""Wraps the record store, so that every write invalidates the local cache."""

from __future__ import annotations

from collections.abc import Sequence

from exp_pool.calls.local_cache import LocalCache
from exp_pool.core.contracts.plugs import Deletion, Evicted, EvictionOrder, Put, PutStatus, RecordStore
from exp_pool.stores.store_proxy import StoreProxy


class CacheInvalidatingStore(StoreProxy):
    """The store behind the local cache: after each write, no earlier answer of what was written is given.

    Args:
        store: the store of the pool.
        cache: what writes invalidate.
    """

    def __init__(self, store: RecordStore, cache: LocalCache) -> None:
        super().__init__(store)
        self._cache = cache

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

    def apply_tombstones(self, namespace: str, deletions: Sequence[Deletion], cleared_at: int | None = None) -> None:
        """See `RecordStore.apply_tombstones`."""
        try:
            self._store.apply_tombstones(namespace, deletions, cleared_at)
        finally:
            self._cache.forget_ids(namespace, [deletion.id for deletion in deletions])

    def clear(self, namespace: str) -> int:
        """See `RecordStore.clear`."""
        try:
            return self._store.clear(namespace)
        finally:
            self._cache.forget_namespace(namespace)
