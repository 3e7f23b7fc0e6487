"""What vector indexes share to which nothing is handed over: they read the store's vectors, or find nothing."""

from __future__ import annotations

from collections.abc import Sequence

from exp_pool.core.contracts.plugs import IndexPartition, VectorRow


class StoreBackedIndex:
    """A vector index with no rows of its own: what is stored is found, what is deleted is gone."""

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
