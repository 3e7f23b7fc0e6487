"""The pool itself: its parts wired together, and everything a manager offers, blocking.

`manager.sync` is one of these.
"""

from __future__ import annotations

import atexit
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Unpack, cast

from loguru import logger

from exp_pool.api.queries import SEARCH_DEFAULTS, Queries, SearchOptions
from exp_pool.api.registry import embedder_loading, load_scorer, open_front, open_index, open_store
from exp_pool.api.report import Report, report_on
from exp_pool.api.writes import Editing
from exp_pool.calls.drivers.early_renewal import Renewals
from exp_pool.calls.drivers.judge import JudgeRunner
from exp_pool.calls.drivers.leases import Leases
from exp_pool.calls.drivers.services import CallServices
from exp_pool.calls.drivers.single_flight import Flights
from exp_pool.calls.drivers.stream_buffer import Streams
from exp_pool.calls.local_cache import LocalCache
from exp_pool.calls.watched_store import WatchedStore
from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import (
    SCAN_ORDERS,
    AnnouncingStore,
    Embedder,
    Event,
    EventKind,
    Evicted,
    Observer,
    RecordQuery,
    RecordStore,
    Scorer,
    Space,
    VectorIndex,
)
from exp_pool.core.experience import Call, Experience, Hit
from exp_pool.core.filters import parse_where
from exp_pool.core.record import Record, to_experience
from exp_pool.errors import (
    ClosedError,
    DecodingError,
    EmbedderError,
    InvalidInputError,
    StoreError,
)
from exp_pool.maintenance.backfill import ScoringReport, rescore
from exp_pool.maintenance.doctor import Diagnosis, examine
from exp_pool.maintenance.eviction import Eviction
from exp_pool.maintenance.index_sync import Follower, Progress
from exp_pool.maintenance.judge_training import Verifying
from exp_pool.maintenance.outcomes import Outcomes
from exp_pool.maintenance.pending_scores import Scoring
from exp_pool.maintenance.pending_vectors import Embedding
from exp_pool.maintenance.scorer_runner import Scored, unscored_log
from exp_pool.maintenance.worker import Upkeep
from exp_pool.runtime.background import Background
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.counters import Counters, Stats
from exp_pool.runtime.display import one_line
from exp_pool.runtime.forks import reset_in_child
from exp_pool.runtime.keyword_options import complete, lists
from exp_pool.runtime.notices import Notices, log_with_trace
from exp_pool.runtime.plugs import offers
from exp_pool.runtime.urls import without_password
from exp_pool.search.embedders.service import Embedded, EmbeddingService
from exp_pool.search.indexes.lexical import LexicalIndex
from exp_pool.search.indexes.none import NoIndex
from exp_pool.search.nearest import Neighbours
from exp_pool.search.rerank import Reranker, Reranking
from exp_pool.search.search import Search, Wanted
from exp_pool.stores.tiers import tiered

_IO_THREADS = 8

_open_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool(Editing):
    """Everything that touches the pool, blocking; see `ExpManager` for the arguments and for what each method does."""

    def __init__(
        self,
        config: ExpPoolConfig,
        *,
        store: RecordStore | None = None,
        index: VectorIndex | None = None,
        embedder: Callable[..., Any] | Embedder | None = None,
        reranker: Reranker | None = None,
        callbacks: Sequence[Callable[[str, Experience], Any]] = (),
        feeds: Sequence[Callable[[Call], Any]] = (),
        observers: Sequence[Observer] = (),
        before: Pool | None = None,
    ) -> None:
        self.config = config
        super().__init__(enabled=config.enabled, read=config.enable_read, write=config.enable_write)
        self.secret = config.key_secret.get_secret_value().encode() if config.key_secret else None
        self.notices = Notices() if before is None else before.notices
        self.counters = Counters() if before is None else before.counters
        if before is not None:
            self.go_on_as(before)
        opened = store if store is not None else open_store(config.store, config)
        self.local_cache = LocalCache(
            config.hot_ttl, config.hot_entries, config.hot_bytes, shared=opened.capabilities.shared
        )
        if config.hot not in (None, "memory://"):
            opened = tiered(opened, open_front(str(config.hot), config), config.store_timeout, self._hot_failed)
        if config.hot == "memory://" and offers(opened, AnnouncingStore):
            self.local_cache.follow(cast("AnnouncingStore", opened))
        self._opened = opened
        self._store: RecordStore = WatchedStore(opened, self.local_cache)
        self.background = Background(self.notices)
        self._plain = not feeds and not observers  # nobody wants to hear of a hit before or while it is given
        self._index = index if index is not None else open_index(config.index, config, self._store)
        loading = embedder_loading(embedder if embedder is not None else config.embedder)
        self._embeddings = (
            None
            if loading is None or isinstance(self._index, NoIndex)
            else EmbeddingService(loading, config.load_timeout, self._owed)
        )
        self._scoring = Scoring(self._store, self.counters, self.notices, feedback=self._feedback)
        self._verifying = Verifying(self._store, self._embeddings, self.counters, self.notices, self._owed, load_scorer)
        neighbours = Neighbours(self._store, self._index, self.counters, self.notices, config.scan_bytes)
        self._embedding = Embedding(self._store, self._embeddings, self.counters, self.notices, config.query_timeout)
        self._follower = Follower(
            self._store, self._index, neighbours, self.counters, self.notices, config.index_from, self._building
        )
        eviction = Eviction(self._store, config, self.counters, self.notices, self._evicted)
        self._outcomes = Outcomes(
            self._store, self.notices, quarantine=config.quarantine, confidence=config.quarantine_confidence
        )
        self._upkeep = Upkeep(
            self._store,
            self._embedding,
            self._follower,
            self._scoring,
            self._verifying,
            self.notices,
            eviction,
            self._outcomes,
            self._count_hot_uses,
            config.tombstone_retention,
        )
        search = Search(self._store, neighbours, self._embeddings, LexicalIndex(self._store), self.notices)
        self.services = CallServices(
            store=self._store,
            search=search,
            maintenance=self._upkeep,
            counters=self.counters,
            notices=self.notices,
            judges=JudgeRunner(config.judge_timeout),
            judge_memory=self._verifying,
            leases=Leases(self._store, config.lease_timeout),
            flights=Flights(),
            streams=Streams(),
            renewals=Renewals(self.background),
            local_cache=self.local_cache,
            background=self.background,
            embed_timeout_s=config.embed_timeout,
            explain=self.explain,
            score=self._scoring.rated,
            outdated=self.outdated,
            feeds=tuple(feeds),
            callbacks=tuple(callbacks),
            observers=tuple(observers),
        )
        self._reranking = Reranking(reranker if reranker is not None else config.reranker)
        self._queries = Queries(
            self._store, self._index, search, self._embeddings, self._upkeep, self._reranking, config.query_timeout
        )
        self._start_over()
        reset_in_child(self._start_over)
        _open_pools.add(self)

    def _start_over(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    # Calls

    def answers_hot(self) -> bool:
        """Whether calls may be answered by the hot tier, as far as this pool is asked: each hot hit asks."""
        return self._plain and self.enabled and self._reads and not self._closed

    def _count_hot_uses(self) -> None:
        for record, count, last in self.local_cache.uses():
            self.counters.called(record.function, "hits", record.metric, count)
            self._upkeep.used(record.namespace, record.id, count, last)

    def _feedback(self, record: Record) -> list[float]:
        return self._outcomes.values(record)

    def _owed(self) -> None:
        self._upkeep.owed()

    def _hot_failed(self, err: StoreError) -> None:
        self.counters.add("degraded")
        self.notices.once("hot", f"the hot tier (setting `hot`) cannot be used, so the store answers every call: {err}")

    def _building(self, space: Space, done: int, total: int) -> None:
        self.services.notify(Event(EventKind.REBUILD, space.namespace, detail={"done": done, "total": total}))

    def _evicted(self, namespace: str, rows: Sequence[Evicted]) -> None:
        for row in rows:
            self.services.notify(Event(EventKind.EVICT, namespace, row.function, row.key, row.id))
        self._store.drop_logs(namespace, [unscored_log(row.id) for row in rows])

    def threads(self) -> ThreadPoolExecutor:
        """Where async callers' blocking work is done."""
        self.check_open()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_IO_THREADS, "exp_pool-io")
        return self._threads

    def score_with(self, function: str, scored: Scored) -> None:
        """From now on this scorer rates the function's experiences."""
        self._scoring.configure(function, scored)

    def uncached(self, function: str, err: Exception, about: Callable[..., Any]) -> None:
        """A call could not be made a request: it runs without the pool, which is said once."""
        self.counters.add("uncached")
        message = f"{function} runs uncached: {err}"
        log_with_trace("DEBUG", message, err)
        of_all = isinstance(err, ClosedError)  # that is nothing about this function
        self.notices.once(f"uncached:{'' if of_all else function}:{type(err).__name__}", message, about)

    @property
    def queries(self) -> Queries:
        """What is asked by text."""
        return self._queries

    @property
    def store(self) -> RecordStore:
        """The record store, for those who move whole rows: `snapshots`."""
        self.check_open()
        return self._store

    # Queries

    @lists(SearchOptions, SEARCH_DEFAULTS)
    def query_exps(self, request: str, **options: Unpack[SearchOptions]) -> list[Experience]:
        """`search`, without how each was found."""
        return [hit.experience for hit in self.search(request, **options)]

    @lists(SearchOptions, SEARCH_DEFAULTS)
    def search(self, request: str, **options: Unpack[SearchOptions]) -> list[Hit]:
        """Experiences whose request is equal (`query_type` exact, newest first) or similar, most similar first."""
        given = complete("search", SearchOptions, SEARCH_DEFAULTS, options)
        self.check_open()
        found = self._queries.find(request, self._namespace(given["namespace"]), given)
        return [
            Hit(experience, match.similarity, match.found_by)
            for match in found
            for experience in self._read([match.record])
        ]

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Vectors of these texts, by this pool's embedder; those of a moment ago are remembered."""
        self.check_open()
        if self._embeddings is None:
            raise EmbedderError(
                "this manager has no embedder: make one with an embedder, and index='exact://' or 'chroma:///folder'"
            )
        return self._embeddings.embed(texts, self.config.query_timeout)

    def read_whole(self, texts: Sequence[str]) -> list[bool]:
        """Whether this pool's embedder reads each text to its end, every word of it; true where there is none."""
        self.check_open()
        return (
            [True] * len(texts)
            if self._embeddings is None
            else self._embeddings.whole(texts, self.config.query_timeout)
        )

    def embed_owed(self) -> None:
        """Make the vectors that this namespace is owed, if there is an embedder; nothing is embedded anew."""
        self.check_open()
        self._embedding.run(self._namespace(None), float("inf"))

    def get_exps_count(self, where: Mapping[str, Any] | None = None) -> int:
        """How many current experiences, expired and quarantined ones too."""
        self.check_open()
        return self._store.count(RecordQuery(self._namespace(None), parse_where(where)))

    def iter_exps(
        self,
        where: Mapping[str, Any] | None = None,
        *,
        order_by: str = "created_at",
        limit: int | None = None,
        history: bool = False,
    ) -> Iterator[Experience]:
        """Current experiences, expired and quarantined ones too, in the order of a field (``-field``: falling)."""
        self.check_open()
        field = order_by.removeprefix("-") if isinstance(order_by, str) else ""
        if field not in SCAN_ORDERS:
            raise InvalidInputError(
                f"order_by={order_by!r} is unknown; known, with or without '-': {', '.join(SCAN_ORDERS)}"
            )
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise InvalidInputError(f"limit={limit!r} must be a whole number, not negative")
        query = RecordQuery(self._namespace(None), parse_where(where), history=history)
        most = None if limit is None else min(limit, sys.maxsize)  # what engines take
        records = self._store.scan(query, order_by=field, descending=order_by.startswith("-"), limit=most)
        return self._read(records)

    def report(self) -> Report:
        """What experiences did to the outcomes of calls, and how answers were reused, for each function."""
        self.check_open()
        return report_on(self._namespace(None), self._outcomes, self._verifying, self._store)

    # Upkeep

    def flush(self, timeout: float | None = None) -> None:
        """Do what is owed: embed, index, score, count; at most so many seconds. What cannot be done stays owed."""
        self.check_open()
        deadline = float("inf") if timeout is None else monotonic() + timeout
        self.background.wait_for_refinements(deadline)
        self._upkeep.run_once(deadline)

    def score_exps(
        self,
        scorer: str | Scorer,
        where: Mapping[str, Any] | None = None,
        *,
        again: bool = False,
        concurrency: int | None = None,
    ) -> ScoringReport:
        """Score the current experiences that meet all conditions, and have no score of this scorer and version yet."""
        self.check_writable()
        query = RecordQuery(self._namespace(None), parse_where(where))
        return rescore(self._store, self._scoring, load_scorer(scorer), query, again=again, concurrency=concurrency)

    def warm_up(self) -> None:
        """Open the store, load the model however long that takes, and open the index; see `ExpManager.warm_up`."""
        self.check_open()
        self._store.count(RecordQuery(None), limit=1)
        if self._embeddings is None:
            return
        self._embeddings.wait(None)
        deadline = monotonic() + self.config.query_timeout
        embedded = self._embeddings.embed(["warm up"], self.config.query_timeout)
        self._follower.run(deadline)
        self.services.search.nearest(Wanted(self.config.namespace, "warm up", 1), embedded)
        self._owed()

    def reindex(self, progress: Progress | None = None) -> int:
        """Build the index anew from the store, beside the old one, which answers meanwhile; how many rows it has."""
        self.check_open()
        self._upkeep.run_once(float("inf"))
        return self._follower.rebuild(progress)

    def doctor(self, *, fix: bool = False, progress: Progress | None = None) -> Diagnosis:
        """What is there, what is owed, what is damaged; with `fix`, mend it."""
        self.check_open()
        report = examine(self._store, self._follower, fix=fix, progress=progress)
        if report.done:
            self.local_cache.forget_everything()
            self.services.search.start_over()
        return report

    def vacuum(self) -> None:
        """Give the space of what was deleted back to the disk. Others wait meanwhile."""
        self.check_open()
        self._store.vacuum()

    def backup(self, path: str | Path) -> None:
        """Copy the store, as it is at this moment, to a file that is not there yet."""
        self.check_open()
        self._file_store().backup(path)

    def restore(self, source: str | Path) -> Path | None:
        """Put a copy of a backup in the place of the store, and set the present one aside; where it is now."""
        self.check_open()
        try:
            with self._follower.another_store():
                aside: Path | None = self._file_store().restore(source)
        finally:
            self.local_cache.forget_everything()
            self._embedding.start_over()
            self.services.search.start_over()
        return aside

    @property
    def place(self) -> Path | None:
        """The file or folder of the store, if it has one."""
        return getattr(self._opened, "path", None)

    def _file_store(self) -> Any:
        if not hasattr(self._opened, "backup"):
            raise InvalidInputError(
                f"store={without_password(self.config.store)!r} is no file that could be copied; use exp_pool.migrate, "
                "exp_pool.snapshots.save and load, or what the database's server offers"
            )
        return self._opened

    def __repr__(self) -> str:
        pairs = [(name, without_password(getattr(self.config, name))) for name in ("store", "index", "namespace")]
        return one_line("Pool", [*pairs, *([("closed", True)] if self._closed else [])])

    def stats(self) -> Stats:
        """What has happened in this process; plain numbers, no I/O."""
        self._count_hot_uses()
        return self.counters.snapshot()

    def close(self) -> None:
        """End background tasks, then upkeep after the batch in hand, and release everything; see `ExpManager.close`."""
        if not self._closed:
            self.background.shutdown_blocking(self.config.exit_timeout)
            self.release()

    def release(self) -> None:
        """Close without a look at background tasks, for who has ended them: refinements need what is released here."""
        if self._closed:
            return
        self._closed = True
        _open_pools.discard(self)
        # A model still loading is not waited for: while the interpreter ends, its imports fail anyway.
        loading = self._embeddings is not None and self._embeddings.loading
        self._upkeep.stop(0.0 if loading else self.config.exit_timeout)
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None
        if self._embeddings is not None:
            self._embeddings.close(0.0)
        self._reranking.close()
        self.services.search.start_over()
        self.local_cache.close()
        self.services.leases.close()
        for part in (self._index, self._store):
            try:
                part.close()
            except Exception as err:
                logger.warning("closing went wrong, nothing is lost: {}", err)

    # Small things

    def _read(self, records: Iterable[Record]) -> Iterator[Experience]:
        """The experiences of rows.

        One that cannot be read is named once, counted and left out, not the end of the query.
        """
        for record in records:
            try:
                yield to_experience(record)
            except DecodingError as err:
                self.counters.add("degraded")
                self.notices.once(f"unreadable:{record.id}", f"left out of what was asked for: {err}")


@atexit.register
def _close_at_exit() -> None:
    """Interpreter exit waits for the batch in hand, at most `exit_timeout` for each manager that nobody closed."""
    for pool in list(_open_pools):
        pool.at_exit = True
        pool.close()
