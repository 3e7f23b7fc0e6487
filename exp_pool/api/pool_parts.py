"""The parts of a pool, made and wired together: store, index, embedder, search, maintenance, services for calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict, Unpack, cast

from exp_pool.api.deleter import Deleter
from exp_pool.api.editor import ExperienceEditor
from exp_pool.api.function_records import FunctionRecords
from exp_pool.api.namespaces import Namespaces
from exp_pool.api.queries import Queries
from exp_pool.api.registry import embedder_loading, load_scorer, open_cache_tier, open_index, open_store
from exp_pool.calls.cache_invalidating_store import CacheInvalidatingStore
from exp_pool.calls.drivers.early_renewal import Renewals
from exp_pool.calls.drivers.judge import JudgeRunner
from exp_pool.calls.drivers.leases import Leases
from exp_pool.calls.drivers.services import CallServices
from exp_pool.calls.drivers.single_flight import Flights
from exp_pool.calls.drivers.stream_buffer import Streams
from exp_pool.calls.local_cache import LocalCache
from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import (
    AnnouncingStore,
    Embedder,
    Event,
    EventKind,
    Evicted,
    IndexPartition,
    Observer,
    RecordStore,
    VectorIndex,
)
from exp_pool.core.experience import Experience
from exp_pool.core.results import Call
from exp_pool.errors import StoreError
from exp_pool.maintenance.eviction import Eviction
from exp_pool.maintenance.index_sync import IndexSync
from exp_pool.maintenance.judge_training import JudgeTraining
from exp_pool.maintenance.outcomes import Outcomes
from exp_pool.maintenance.pending_scores import PendingScores
from exp_pool.maintenance.pending_vectors import PendingVectors
from exp_pool.maintenance.worker import MaintenanceWorker
from exp_pool.runtime.background import Background
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.notices import Notices
from exp_pool.runtime.plugs import offers
from exp_pool.runtime.switches import PoolSwitches
from exp_pool.search.embedders.service import EmbeddingService
from exp_pool.search.indexes.lexical import LexicalIndex
from exp_pool.search.indexes.none import NoIndex
from exp_pool.search.nearest import NearestNeighbours
from exp_pool.search.rerank import Reranker, RerankerRunner
from exp_pool.search.search import Search
from exp_pool.stores.near_cache import NearCacheStore


class Plugs(TypedDict, total=False):
    """What a pool may be given besides its settings; see `ExpManager`."""

    store: RecordStore
    index: VectorIndex
    embedder: Callable[..., Any] | Embedder
    reranker: Reranker
    callbacks: Sequence[Callable[[str, Experience], Any]]
    feeds: Sequence[Callable[[Call], Any]]
    observers: Sequence[Observer]


class PoolParts:
    """What one pool is made of. Each part owns its state; this class makes them, and says who tells whom.

    Args:
        config: the settings.
        switches: what calls and people may do.
        notices: for what a developer should act on.
        counters: for `stats`.
        plugs: in the place of those of the settings; and who is told of what.
    """

    def __init__(
        self,
        config: ExpPoolConfig,
        *,
        switches: PoolSwitches,
        notices: Notices,
        counters: Counters,
        **plugs: Unpack[Plugs],
    ) -> None:
        self.notices, self.counters = notices, counters
        self.namespaces = Namespaces(config.namespace, required=config.require_namespace)
        self.secret = config.key_secret.get_secret_value().encode() if config.key_secret else None
        self._open_store(config, plugs.get("store"))
        self.background = Background(notices)
        self.index = plugs["index"] if "index" in plugs else open_index(config.index, config, self.store)
        loading = embedder_loading(plugs.get("embedder", config.embedder))
        self.embeddings = (
            None
            if loading is None or isinstance(self.index, NoIndex)
            else EmbeddingService(loading, config.load_timeout, self._wake_worker)
        )
        neighbours = NearestNeighbours(self.store, self.index, counters, notices, config.scan_bytes)
        self.search = Search(
            store=self.store,
            neighbours=neighbours,
            embeddings=self.embeddings,
            lexical=LexicalIndex(self.store),
            notices=notices,
        )
        self.reranking = RerankerRunner(plugs.get("reranker", config.reranker))
        self._make_maintenance(config, neighbours)
        self.deleter = Deleter(
            store=self.store,
            opened=self.opened,
            switches=switches,
            namespaces=self.namespaces,
            notices=notices,
            index_sync=self.index_sync,
            outcomes=self.outcomes,
            lease_timeout_s=config.lease_timeout,
        )
        self.functions = FunctionRecords(
            store=self.store,
            switches=switches,
            namespaces=self.namespaces,
            notices=notices,
            deleter=self.deleter,
        )
        self.services = CallServices(
            store=self.store,
            search=self.search,
            maintenance=self.worker,
            counters=counters,
            notices=notices,
            embed_timeout_s=config.embed_timeout,
            judges=JudgeRunner(config.judge_timeout),
            leases=Leases(self.store, config.lease_timeout),
            flights=Flights(),
            local_cache=self.local_cache,
            background=self.background,
            streams=Streams(),
            renewals=Renewals(self.background),
            explain=self.functions.explain,
            score=self.pending_scores.scored,
            judge_training=self.judge_training,
            outdated=self.functions.outdated,
            feeds=tuple(plugs.get("feeds", ())),
            callbacks=tuple(plugs.get("callbacks", ())),
            observers=tuple(plugs.get("observers", ())),
        )
        self.editor = ExperienceEditor(
            store=self.store,
            switches=switches,
            namespaces=self.namespaces,
            counters=counters,
            secret=self.secret,
            pending_scores=self.pending_scores,
            outcomes=self.outcomes,
            judge_training=self.judge_training,
            worker=self.worker,
            stored=lambda records: self.services.stored(records, by_hand=True),
            lease_timeout_s=config.lease_timeout,
        )
        self.queries = Queries(
            store=self.store,
            namespaces=self.namespaces,
            counters=counters,
            notices=notices,
            index=self.index,
            search=self.search,
            embeddings=self.embeddings,
            pending_vectors=self.pending_vectors,
            reranking=self.reranking,
            timeout_s=config.query_timeout,
        )

    def _open_store(self, config: ExpPoolConfig, given: RecordStore | None) -> None:
        """Open the store behind the local cache and the cache tier; `opened` is it without the local cache."""
        opened = given if given is not None else open_store(config.store, config)
        self.local_cache = LocalCache(
            config.hot_ttl, config.hot_entries, config.hot_bytes, shared=opened.capabilities.shared
        )
        if config.hot not in (None, "memory://"):
            opened = NearCacheStore(
                opened, open_cache_tier(str(config.hot), config), config.store_timeout, self._hot_failed
            )
        if config.hot == "memory://" and offers(opened, AnnouncingStore):
            self.local_cache.follow(cast("AnnouncingStore", opened))
        self.opened = opened
        self.store = CacheInvalidatingStore(opened, self.local_cache)

    def _make_maintenance(self, config: ExpPoolConfig, neighbours: NearestNeighbours) -> None:
        store, counters, notices = self.store, self.counters, self.notices
        self.outcomes = Outcomes(store, notices, quarantine=config.quarantine, confidence=config.quarantine_confidence)
        self.pending_scores = PendingScores(store, counters, notices, feedback=self.outcomes.values)
        self.judge_training = JudgeTraining(
            store=store,
            embeddings=self.embeddings,
            counters=counters,
            notices=notices,
            wake=self._wake_worker,
            load_scorer=load_scorer,
        )
        self.pending_vectors = PendingVectors(store, self.embeddings, counters, notices, timeout_s=config.query_timeout)
        self.index_sync = IndexSync(
            store=store,
            index=self.index,
            nearest=neighbours,
            counters=counters,
            notices=notices,
            index_from=config.index_from,
            report_building=self._report_building,
        )
        self.worker = MaintenanceWorker(
            store=store,
            eviction=Eviction(store, config, counters, notices, evicted=self._report_evicted),
            outcomes=self.outcomes,
            judge_training=self.judge_training,
            pending_scores=self.pending_scores,
            pending_vectors=self.pending_vectors,
            index_sync=self.index_sync,
            notices=notices,
            count_hot_uses=self.count_hot_uses,
            remember_s=config.tombstone_retention,
        )

    # Who tells whom

    def count_hot_uses(self) -> None:
        """Count the hits that the local cache has given since this was last called."""
        for record, count, last in self.local_cache.uses():
            self.counters.called(record.function, "hits", record.metric, count)
            self.worker.used(record.namespace, record.id, count, last)

    def _wake_worker(self) -> None:
        self.worker.wake()

    def _hot_failed(self, err: StoreError) -> None:
        self.counters.add("degraded")
        self.notices.warn_once(
            "hot", f"the hot tier (setting `hot`) cannot be used, so the store answers every call: {err}"
        )

    def _report_building(self, partition: IndexPartition, done: int, total: int) -> None:
        self.services.notify(Event(EventKind.REBUILD, partition.namespace, detail={"done": done, "total": total}))

    def _report_evicted(self, namespace: str, rows: Sequence[Evicted]) -> None:
        for row in rows:
            self.services.notify(Event(EventKind.EVICT, namespace, row.function, row.key, row.id))
