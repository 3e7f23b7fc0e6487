"""``none://``: no similarity. Exact lookup works; nothing is ever embedded."""

from __future__ import annotations

from collections.abc import Sequence

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import IndexPartition, Neighbour, RecordStore, VectorQuery, VectorRow


class NoIndex:
    """The vector index that finds nothing."""

    derived = False

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig, store: RecordStore) -> NoIndex:
        """The index of ``none://``."""
        return cls()

    def generation(self, partition: IndexPartition, pool: str) -> str:
        return ""

    def upsert_many(self, partition: IndexPartition, rows: Sequence[VectorRow]) -> None:
        pass

    def delete_many(self, partition: IndexPartition, ids: Sequence[str]) -> None:
        pass

    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        return [[] for _ in query.vectors]

    def clear(self, namespace: str, pool: str) -> None:
        pass

    def close(self) -> None:
        pass
