"""``pgvector://``: similarity in the PostgreSQL database of the store, in one transaction with its rows.

There is nothing to build, to follow or to repair beside the store: what is stored is found, what is deleted is gone.
"""

from __future__ import annotations

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Neighbour, RecordStore, SearchingStore, VectorQuery
from exp_pool.errors import ConfigurationError, StoreError, VectorIndexError
from exp_pool.runtime.plugs import offers
from exp_pool.search.indexes._store_backed import StoreBackedIndex


class PgVectorIndex(StoreBackedIndex):
    """Cosine similarity by pgvector: exact up to `index_from` vectors of a partition, HNSW beyond.

    Args:
        store: on PostgreSQL.
        index_from: vectors from which a partition gets an HNSW index.

    Raises:
        ConfigurationError: the store is another one.
    """

    def __init__(self, store: RecordStore, index_from: int = 100_000) -> None:
        if not offers(store, SearchingStore):
            raise ConfigurationError(
                "index='pgvector://' finds vectors in the store's own database: use it with store='postgresql://...', "
                "or another index"
            )
        self._store: SearchingStore = store  # type: ignore[assignment]
        self._store.search_from(index_from)

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig, store: RecordStore) -> PgVectorIndex:  # noqa: ARG003
        """The index of ``pgvector://``: in the database of the store, so it takes no place of its own."""
        return cls(store, config.index_from)

    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        try:
            return self._store.search(query)
        except StoreError as err:
            raise VectorIndexError(str(err)) from err
