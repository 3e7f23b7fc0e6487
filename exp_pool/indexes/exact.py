"""``exact://``: brute force over the store's own vectors, kept in memory and brought up to date before each search.

It has nothing to damage and misses nothing, so it is also what answers while another index cannot.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from exp_pool.config import ExpPoolConfig
from exp_pool.errors import StoreError, VectorIndexError
from exp_pool.forks import reset_in_child
from exp_pool.protocols import Neighbour, RecordStore, VectorQuery, VectorRow
from exp_pool.vectors import VectorTable

_PAGE = 10_000  # 15 MB of 384 dimensions: few round trips, bounded memory


class ExactIndex:
    """Exact cosine similarity by numpy.

    Args:
        store: whose vectors are searched.
    """

    derived = False

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._start_over()
        reset_in_child(self._start_over)

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._tables: dict[tuple[str, str], VectorTable] = {}

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig, store: RecordStore) -> ExactIndex:  # noqa: ARG003
        """The index of ``exact://``."""
        return cls(store)

    def generation(self) -> str:
        return ""

    def upsert_many(self, rows: Sequence[VectorRow]) -> None:
        """Nothing to do: `search` reads the store."""

    def delete_many(self, namespace: str, ids: Sequence[str]) -> None:
        """Nothing to do: `search` reads the store."""

    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        with self._lock:
            table = self._tables.setdefault((query.namespace, query.embedder), VectorTable())
            try:
                self._refresh(table, query.namespace, query.embedder)
            except StoreError as err:
                raise VectorIndexError(f"the store's vectors cannot be read: {err}") from err
            labels = (query.function, query.version, query.reuse_scope)
            return [
                [Neighbour(id_, similarity) for id_, similarity in table.nearest(vector, query.limit, labels)]
                for vector in query.vectors
            ]

    def _refresh(self, table: VectorTable, namespace: str, embedder: str) -> None:
        while rows := self._store.vectors_after(namespace, embedder, table.position, _PAGE):
            for row in rows:
                if row.vector is None:
                    table.remove(row.id)
                else:
                    table.put(row.id, row.vector.values, (row.function, row.version, row.reuse_scope))
            table.position = rows[-1].position
            if len(rows) < _PAGE:
                break

    def clear(self, namespace: str) -> None:
        with self._lock:
            for key in [key for key in self._tables if key[0] == namespace]:
                del self._tables[key]

    def close(self) -> None:
        with self._lock:
            self._tables.clear()
