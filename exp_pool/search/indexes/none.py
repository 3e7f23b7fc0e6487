"""``none://``: no similarity. Exact lookup works; nothing is ever embedded."""

from __future__ import annotations

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Neighbour, RecordStore, VectorQuery
from exp_pool.search.indexes._store_backed import StoreBackedIndex


class NoIndex(StoreBackedIndex):
    """The vector index that finds nothing."""

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig, store: RecordStore) -> NoIndex:
        """The index of ``none://``."""
        return cls()

    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        return [[] for _ in query.vectors]
