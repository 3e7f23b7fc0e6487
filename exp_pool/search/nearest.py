"""Nearest neighbours of a vector: by the index as far as it got, and by exact scan of the store's vectors for the rest.

Answers never stop: an index that is too small to be worth it, being built, damaged or another process's is one that
covers nothing, and exact scan answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from loguru import logger

from exp_pool.core.contracts.plugs import IndexPartition, Neighbour, RecordStore, VectorIndex, VectorQuery
from exp_pool.errors import VectorIndexError
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.runtime.notices import Notices
from exp_pool.search.indexes.exact import ExactIndex


class Candidates(NamedTuple):
    """Rows that may match, before they are joined to the store.

    Attributes:
        ids: of the rows, none twice.
        upper_bound: of the similarity of every row that is not among them; minus infinity: there is none.
    """

    ids: list[str]
    upper_bound: float


@reinit_after_fork()
class NearestNeighbours:
    """Searches the index, and scans what the index does not have yet.

    Args:
        store: the authority.
        index: any vector index.
        counters: hears of failures.
        notices: warns of them, once.
        scan_bytes: of vectors in memory at most.
    """

    def __init__(
        self, store: RecordStore, index: VectorIndex, counters: Counters, notices: Notices, scan_bytes: int
    ) -> None:
        self._index = index
        self._scan = index if isinstance(index, ExactIndex) else ExactIndex(store, scan_bytes)
        self._newer = ExactIndex(store, scan_bytes)
        self._counters = counters
        self._notices = notices
        self._covered: dict[IndexPartition, int] = {}  # of a child process: nothing, the index is its parent's
        self._turns: Counter[IndexPartition] = Counter()  # how often it was uncovered

    def cover(self, partition: IndexPartition, position: int) -> None:
        """From now on the index answers for the changes of the store's up to this position; the rest is scanned."""
        self._covered[partition] = position

    def uncover(self, partition: IndexPartition) -> None:
        """From now on exact scan answers for this partition."""
        self._turns[partition] += 1
        self._covered.pop(partition, None)

    def covered(self, partition: IndexPartition) -> int | None:
        """The position up to which the index answers; None: exact scan does."""
        return self._covered.get(partition)

    def find(self, query: VectorQuery) -> Candidates:
        """At least `limit` rows near the query's one vector, if there are so many; some of them may be gone.

        Raises:
            VectorIndexError: the store's vectors cannot be read.
        """
        if not self._index.derived:
            return _candidates(query, self._index.search(query)[0])
        partition = IndexPartition(query.namespace, query.embedder)
        turn, covered = self._turns[partition], self._covered.get(partition)
        if covered is None:
            return _candidates(query, self._scan.search(query)[0])
        try:
            found = self._index.search(query)[0]
        except VectorIndexError as err:
            self._counters.add("degraded")
            logger.warning("exact scan answers, because the index failed: {}", err)
            self._notices.warn_once("index", f"the index failed, exact scan answers until it is back: {err}")
            self.uncover(partition)  # or each caller would wait for it; maintenance covers it again when it is back
            return _candidates(query, self._scan.search(query)[0])
        if self._turns[partition] != turn:  # it was cleared or is being built anew since we looked
            return _candidates(query, self._scan.search(query)[0])
        newer = self._newer.search(query, start=covered)[0]
        return _candidates(query, newer, found)

    def start_over(self) -> None:
        """Forget what was read: another store lies there now."""
        for partition in list(self._covered):
            self.uncover(partition)
        self.close()

    def close(self) -> None:
        """Give back the memory."""
        self._scan.close()
        self._newer.close()


def _candidates(query: VectorQuery, *parts: Sequence[Neighbour]) -> Candidates:
    """The candidates of several searches. One that gave fewer rows than were asked for has given all that it has."""
    ids = dict.fromkeys(neighbour.id for found in parts for neighbour in found)
    bounds = [found[-1].similarity for found in parts if len(found) >= query.limit]
    return Candidates(list(ids), max(bounds, default=-math.inf))
