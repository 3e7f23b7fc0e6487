"""``exact://``: exact scan of the store's own vectors, kept in memory and brought up to date before each search.

It has nothing to damage and misses nothing, so it is also what answers while another index cannot, and faster than any
other up to some 100,000 vectors (see `docs/durability.md`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import IndexPartition, Neighbour, RecordStore, VectorQuery, VectorRow
from exp_pool.core.values.vectors import VectorTable
from exp_pool.errors import StoreError, VectorIndexError
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.search.indexes._store_backed import StoreBackedIndex

_PAGE = 10_000  # 15 MB of 384 dimensions: few round trips, bounded memory


@reinit_after_fork()
class ExactIndex(StoreBackedIndex):
    """Exact cosine similarity by numpy.

    Args:
        store: whose vectors are searched.
        max_bytes: of vectors kept in memory. Beyond it the partitions that were searched longest ago are dropped; one
            that is larger alone is read from the store for each search.
    """

    def __init__(self, store: RecordStore, max_bytes: int = 2**31) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._tables: OrderedDict[IndexPartition, VectorTable] = OrderedDict()

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig, store: RecordStore) -> ExactIndex:  # noqa: ARG003
        """The index of ``exact://``."""
        return cls(store, config.scan_bytes)

    def search(self, query: VectorQuery, start: int = 0) -> list[list[Neighbour]]:
        """See `VectorIndex.search`; with `start`, only among what changed after that position of the store's."""
        partition = IndexPartition(query.namespace, query.embedder)
        with self._lock:
            try:
                table = self._table(partition, start, 4 * query.vectors.shape[1])
                if table is None:
                    return self._search_pages(partition, query, start)
            except StoreError as err:
                raise VectorIndexError(f"the store's vectors cannot be read: {err}") from err
            return _nearest(table, query)

    def _table(self, partition: IndexPartition, start: int, size: int) -> VectorTable | None:
        """What is in memory of the partition, brought up to date; None where it is too large."""
        table = self._tables.pop(partition, None)
        if table is None or table.start != start:
            table = VectorTable(start)
        for rows in self._pages(partition, table.position):
            _apply(table, rows, size)
            if table.nbytes > self._max_bytes:
                return None
        self._tables[partition] = table  # the last one is the one searched last
        while sum(kept.nbytes for kept in self._tables.values()) > self._max_bytes:
            self._tables.popitem(last=False)
        return table

    def _pages(self, partition: IndexPartition, position: int) -> Iterator[list[VectorRow]]:
        while rows := self._store.vectors_after(*partition, position, _PAGE):
            yield rows
            position = rows[-1].position
            if len(rows) < _PAGE:
                return

    def _search_pages(self, partition: IndexPartition, query: VectorQuery, start: int) -> list[list[Neighbour]]:
        """Page by page; a row is in one page only, because the store tells the last change of each."""
        best: list[list[Neighbour]] = [[] for _ in query.vectors]
        for rows in self._pages(partition, start):
            table = VectorTable()
            _apply(table, rows, 4 * query.vectors.shape[1])
            best = [
                sorted((*found, *more), key=lambda neighbour: -neighbour.similarity)[: query.limit]
                for found, more in zip(best, _nearest(table, query), strict=True)
            ]
        return best

    def clear(self, namespace: str, pool: str) -> None:  # noqa: ARG002
        with self._lock:
            for partition in [partition for partition in self._tables if partition.namespace == namespace]:
                del self._tables[partition]

    def close(self) -> None:
        with self._lock:
            self._tables.clear()


def _apply(table: VectorTable, rows: Sequence[VectorRow], size: int) -> None:
    for row in rows:
        if row.vector is None:
            table.remove(row.id)
    table.put_many(
        [
            (row.id, row.vector.values, (row.function, row.version, row.reuse_scope))
            for row in rows
            if row.vector and len(row.vector.values) == size
        ]
    )
    table.position = rows[-1].position


def _nearest(table: VectorTable, query: VectorQuery) -> list[list[Neighbour]]:
    labels = (query.function, query.version, query.reuse_scope)
    return [
        [Neighbour(id_, similarity) for id_, similarity in table.nearest(vector, query.limit, labels)]
        for vector in query.vectors
    ]
