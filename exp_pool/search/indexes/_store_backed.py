"""Store-backed index: the base of the vector indexes without rows of their own.

They search the store's vectors directly (`exact`, `pgvector`) or find nothing (`none`), so `IndexSync` hands them
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from exp_pool.core.contracts.plugs import IndexPartition, VectorRow


class StoreBackedIndex:
    """Base of indexes that hold no rows: what they find is always what the store holds now."""

    derived = False

    def generation(self, partition: IndexPartition, pool: str) -> str:  # noqa: ARG002
        return ""

    def upsert_many(self, partition: IndexPartition, rows: Sequence[VectorRow]) -> None:
        """Nothing to do."""

    def delete_many(self, partition: IndexPartition, ids: Sequence[str]) -> None:
        """Nothing to do."""

    def clear(self, namespace: str, pool: str) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""
