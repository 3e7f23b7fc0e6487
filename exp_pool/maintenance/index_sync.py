"""Synchronises a derived index with the store: hands it changed vectors, and has it rebuilt where it is in doubt.

The store keeps how far the index got: one position for each partition and generation of the index. So whatever happens
to either, the two meet again. An index that lost its files is a new generation, which has no position and gets all
vectors; an index that was killed gets those again that it may not have kept.

An index that several processes share is fed by one of them at a time, which holds a lease in the store for as long.
Else a process that has read a vector before a change could hand it over after another process had handed over the
change, and the old vector would stay. The other processes search what they know to be in the index, and scan the rest.
"""

from __future__ import annotations

import functools
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from loguru import logger

from exp_pool.core.contracts.plugs import IndexPartition, RecordStore, RenewableIndex, VectorIndex, VectorRow
from exp_pool.errors import IndexOwnedError, VectorIndexError
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.runtime.notices import Notices
from exp_pool.runtime.plugs import offers
from exp_pool.search.nearest import NearestNeighbours

_PAGE = 2000  # rows handed over at once, 0.5 s of Chroma: what closing waits for
_POOL_STATE = "pool"  # in no namespace: who this pool is, so that another's index is noticed
_FEEDING_S = 60.0  # the lease of a process that feeds a shared index: one that was killed keeps others out for so long
_KNOWN_GENERATIONS = 2  # the one that answers, and the one being built

Progress: TypeAlias = Callable[[int, int], object]
"""Called with the number of rows done and of all rows, as far as it is known."""


@reinit_after_fork()
class IndexSync:
    """Keeps a derived index up to date with the store. Thread-safe: one thread at a time.

    Args:
        store: has the vectors.
        index: gets them.
        nearest: is told which vectors the index has, so that it scans the rest.
        counters: counts `indexed`, `repaired` and `degraded`.
        notices: warns once of an index that fails.
        index_from: number of vectors from which a partition is indexed; a smaller one is scanned.
        report_building: called while a partition is built in the background, with the partition, the number of rows
            done, and the number of all rows.
    """

    def __init__(
        self,
        store: RecordStore,
        index: VectorIndex,
        nearest: NearestNeighbours,
        counters: Counters,
        notices: Notices,
        index_from: int,
        report_building: Callable[[IndexPartition, int, int], object],
    ) -> None:
        self._store = store
        self._index = index
        self._renewable: RenewableIndex | None = index if offers(index, RenewableIndex) else None  # type: ignore[assignment]
        self._count: Callable[[IndexPartition], int] | None = getattr(index, "count", None)
        self._nearest = nearest
        self._counters = counters
        self._notices = notices
        self._index_from = index_from
        self._report_building = report_building
        self._stopped = False
        self._checked: set[tuple[IndexPartition, str]] = set()  # whether it has as many rows as it should: asked once
        self._turn = threading.Lock()
        self._owner = uuid.uuid4().hex

    def stop(self) -> None:
        """Hand over no further page."""
        self._stopped = True

    @contextmanager
    def store_replaced(self) -> Iterator[None]:
        """``with`` this, replace the store's file: the index waits, and forgets all that it knew of the store.

        The new file may use positions again that the old one has given to other rows.
        """
        with self._turn:
            try:
                yield
            finally:
                self._nearest.start_over()
                self._checked.clear()

    def run(self, deadline: float) -> None:
        """Bring every indexed partition up to date, until the deadline (`clock.monotonic`).

        Raises:
            StoreError: the store failed.
        """
        for partition, count in self._indexed().items():
            try:
                with self._turn:
                    self._sync(partition, count, deadline)
            except IndexOwnedError as err:  # as it should be where several processes use a pool
                self._nearest.uncover(partition)
                logger.debug("exact scan answers: {}", err)
            except VectorIndexError as err:
                self._failed(partition, err)

    def clear(self, namespace: str) -> None:
        """Remove what the index has of a namespace.

        Raises:
            StoreError: the store failed.
            VectorIndexError: the index cannot be written; deleted rows stay in its files, and searches drop them.
        """
        with self._turn:
            for partition in self._store.partitions(namespace):
                self._nearest.uncover(partition)
            self._index.clear(namespace, self._pool())

    def rebuild(self, progress: Progress | None = None) -> int:
        """Build the index of every indexed partition anew, beside the old one; how many rows it has then.

        Raises:
            StoreError: the store failed.
            VectorIndexError: the index cannot be written; the old one goes on answering.
        """
        indexed = self._indexed()
        done, total = 0, sum(indexed.values())
        for partition, count in indexed.items():
            with self._turn:
                generation = self._generation(partition)
                if self._renewable is not None:
                    generation = self._renewable.renew(partition)
                self._fill(partition, generation, float("inf"), _within(progress, done, total), anew=True)
            done += count
        return done

    def check(self) -> list[str]:
        """What is wrong with the index: sentences that say what to do.

        Raises:
            StoreError: the store failed.
        """
        problems = []
        for partition, count in self._indexed().items():
            try:
                with self._turn:
                    problems += self._problems_of(partition, count)
            except IndexOwnedError:
                continue  # the process that has it open looks after it
            except VectorIndexError as err:
                problems.append(f"the index of {partition.namespace!r}: {err}; exact scan answers")
        return problems

    def _problems_of(self, partition: IndexPartition, count: int) -> list[str]:
        generation = self._generation(partition)
        if self._count is None:
            return []
        doubt = self._renewable.doubt(partition) if self._renewable is not None else ""
        if doubt:
            return [f"the index of {partition.namespace!r} is in doubt, because {doubt}; `doctor --fix` looks into it"]
        behind = self._store.vectors_after(*partition, self._position(partition, generation), 1)
        there = self._count(partition)
        if behind or not self._lacks(there, count):
            return []
        return [
            f"the index of {partition.namespace!r} has {there} rows instead of {count}; `doctor --fix` builds it anew"
        ]

    def complete(self) -> bool:
        """Whether the index has everything that it should have."""
        return all(self._behind(partition) == 0 for partition in self._indexed())

    def facts(self) -> dict[str, str]:
        """How much of each partition is indexed, for people."""
        if not self._index.derived:
            return {}
        indexed, found = self._indexed(), {}
        for partition, count in self._store.partitions().items():
            if partition in indexed:
                rest = "the rest is scanned meanwhile" if self._behind(partition) else "all of them"
                fact = f"{count - self._behind(partition)} of {count} vectors; {rest}"
            else:
                fact = f"not in use below {self._index_from:,} vectors (index_from): exact scan answers"
            found[f"index of {partition.namespace!r}"] = fact
        return found

    def _behind(self, partition: IndexPartition) -> int:
        """How many vectors the index does not have yet."""
        try:
            with self._turn:
                position = self._position(partition, self._generation(partition))
        except VectorIndexError:
            position = 0
        return sum(row.vector is not None for page in self._pages(partition, position) for row in page)

    def mend(self, progress: Progress | None = None) -> list[str]:
        """Look into what is in doubt, and build anew what is damaged; what was done, in words.

        Raises:
            StoreError: the store failed.
        """
        before = self._counters.snapshot().repaired
        self._checked.clear()
        self.run(float("inf"))
        if self.check():
            self.rebuild(progress)
            return ["the index was built anew"]
        repaired = self._counters.snapshot().repaired - before
        return ["the index was built anew" if repaired else "the index was looked at, is sound and up to date"]

    def _indexed(self) -> dict[IndexPartition, int]:
        if not self._index.derived:
            return {}
        return {partition: count for partition, count in self._store.partitions().items() if count >= self._index_from}

    def _failed(self, partition: IndexPartition, err: VectorIndexError) -> None:
        self._nearest.uncover(partition)
        self._counters.add("degraded")
        logger.warning("exact scan answers, because the index cannot be kept up to date: {}", err)
        self._notices.warn_once("index", f"the index cannot be used, exact scan answers: {err}")

    def _sync(self, partition: IndexPartition, count: int, deadline: float) -> None:
        generation, progress = self._generation(partition), None
        if self._nearest.covered(partition) is None:
            self._checked.discard((partition, generation))
            if self._renewable is not None:
                generation = self._sound(self._renewable, partition, generation)
            progress = _within(functools.partial(self._report_building, partition), 0, count)
        if self._fill(partition, generation, deadline, progress) and self._count is not None:
            self._check_count(self._count, partition, generation)

    def _generation(self, partition: IndexPartition) -> str:
        return self._index.generation(partition, self._pool())

    def _pool(self) -> str:
        known = self._store.read_state("", _POOL_STATE)
        if known is None:
            self._store.write_state("", _POOL_STATE, uuid.uuid4().hex, None)
            known = self._store.read_state("", _POOL_STATE)
        return known.value if known else ""

    # Doubt

    def _sound(self, index: RenewableIndex, partition: IndexPartition, generation: str) -> str:
        """The generation to fill: this one if the index finds all its rows, else a new one."""
        doubt = index.doubt(partition)
        if not doubt:
            return generation
        logger.info("the index is looked at, because {}", doubt)
        findable = index.findable(partition)
        if findable is None:
            logger.warning("the index is damaged and built anew: {}", doubt)
            self._counters.add("repaired")
            return self._renew(index, partition)
        position = self._position(partition, generation)
        rows = [row for page in self._pages(partition, 0) for row in page if row.vector is not None]
        missing = sum(row.position <= position and row.id not in findable for row in rows)
        if missing:
            logger.warning("the index does not find {} of its rows and is built anew: {}", missing, doubt)
            self._counters.add("repaired")
            return self._renew(index, partition)
        index.believe(partition)
        index.delete_many(partition, sorted(findable - {row.id for row in rows}))
        return generation

    def _renew(self, index: RenewableIndex, partition: IndexPartition) -> str:
        self._nearest.uncover(partition)
        return index.renew(partition)

    def _check_count(self, count: Callable[[IndexPartition], int], partition: IndexPartition, generation: str) -> None:
        """Compare the number of rows, once for each generation.

        A store that was put back from a copy may have rows that this index has dropped.
        """
        if (partition, generation) in self._checked:
            return
        there, expected = count(partition), self._store.partitions(partition.namespace).get(partition, 0)
        if self._store.vectors_after(*partition, self._position(partition, generation), 1):
            return  # while rows come, the numbers differ; another time
        self._checked.add((partition, generation))
        if self._lacks(there, expected):
            logger.warning("the index has {} rows, the store {}: it is built anew", there, expected)
            self._counters.add("repaired")
            if self._renewable is not None:
                generation = self._renew(self._renewable, partition)
                self._checked.add((partition, generation))
            self._fill(partition, generation, float("inf"), anew=True)

    def _lacks(self, there: int, expected: int) -> bool:
        """Whether the index has too few rows, or (one of our own, without dead rows) too many."""
        return there < expected or (there != expected and self._renewable is not None)

    # Positions

    def _fill(
        self,
        partition: IndexPartition,
        generation: str,
        deadline: float,
        progress: Callable[[int], object] | None = None,
        *,
        anew: bool = False,
    ) -> bool:
        """Hand over vectors that changed since the last time (`anew`: all); whether it came to the last of them."""
        with self._feeding(partition) as may_feed:
            position = self._position(partition, generation)
            if not may_feed():
                if position:  # what another process has handed over is searched here, too
                    self._nearest.cover(partition, position)
                return False
            return self._hand_over(partition, generation, 0 if anew else position, deadline, progress, may_feed)

    def _hand_over(
        self,
        partition: IndexPartition,
        generation: str,
        position: int,
        deadline: float,
        progress: Callable[[int], object] | None,
        may_feed: Callable[[], bool],
    ) -> bool:
        done = 0
        for rows in self._pages(partition, position):
            if self._stopped or monotonic() >= deadline or not may_feed():
                return False
            gone = [row.id for row in rows if row.vector is None]
            new = [row for row in rows if row.vector is not None]
            if gone:  # first: a row that was deleted and came back is in both
                self._index.delete_many(partition, gone)
            if new:
                self._index.upsert_many(partition, new)
            position = rows[-1].position
            self._remember(partition, generation, position)
            done += len(new)
            self._counters.add("indexed", len(new))
            if progress is not None:
                progress(done)
        if self._renewable is not None:
            self._renewable.complete(partition)
        self._nearest.cover(partition, position)
        return True

    @contextmanager
    def _feeding(self, partition: IndexPartition) -> Iterator[Callable[[], bool]]:
        """Give a function that tells, before each page, whether this process may (still) hand rows over."""
        if self._renewable is not None or not self._store.capabilities.leases:
            yield lambda: True
            return
        lease = self._store.claim(partition.namespace, f"index:{partition.embedder}", self._owner, _FEEDING_S).lease

        def may_feed() -> bool:
            nonlocal lease
            lease = self._store.renew(lease, _FEEDING_S) if lease is not None else None
            return lease is not None

        try:
            yield may_feed
        finally:
            if lease is not None:
                self._store.release(lease)

    def _pages(self, partition: IndexPartition, position: int) -> Iterator[list[VectorRow]]:
        while rows := self._store.vectors_after(*partition, position, _PAGE):
            yield rows
            position = rows[-1].position
            if len(rows) < _PAGE:
                return

    def _position(self, partition: IndexPartition, generation: str) -> int:
        return self._positions(partition)[0].get(generation, 0)

    def _positions(self, partition: IndexPartition) -> tuple[dict[str, int], int | None]:
        known = self._store.read_state(partition.namespace, f"index:{partition.embedder}")
        if known is None:
            return {}, None
        try:
            positions = {str(name): int(position) for name, position in json.loads(known.value).items()}
        except (ValueError, AttributeError, TypeError):  # damaged: as if nothing had been handed over
            positions = {}
        return positions, known.revision

    def _remember(self, partition: IndexPartition, generation: str, position: int) -> None:
        positions, revision = self._positions(partition)
        positions = {name: at for name, at in positions.items() if name != generation}
        kept = dict([*positions.items()][1 - _KNOWN_GENERATIONS :]) | {generation: position}
        if not self._store.write_state(partition.namespace, f"index:{partition.embedder}", json.dumps(kept), revision):
            raise IndexOwnedError("another process feeds the same index; this one tries again later")


def _within(progress: Progress | None, before: int, total: int) -> Callable[[int], object] | None:
    return None if progress is None else lambda done: progress(before + done, total)
