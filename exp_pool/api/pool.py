"""The pool, blocking: everything that a manager offers. `manager.sync` is one; `pool_parts` makes its parts."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Unpack

from loguru import logger

from exp_pool.api.pool_parts import Plugs, PoolParts
from exp_pool.api.queries import SEARCH_DEFAULTS, SearchOptions
from exp_pool.api.registry import load_scorer
from exp_pool.api.report import Report, report_on
from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import RecordQuery, RecordStore, Scorer
from exp_pool.core.experience import MISSING, Experience
from exp_pool.core.filters import parse_where
from exp_pool.core.results import HistoryEntry, Hit
from exp_pool.errors import ClosedError, EmbedderError, InvalidInputError
from exp_pool.maintenance.backfill import ScoringReport, backfill_scores
from exp_pool.maintenance.doctor import Diagnosis, examine
from exp_pool.maintenance.index_sync import Progress
from exp_pool.maintenance.pending_scores import reasons
from exp_pool.maintenance.scorer_runner import FunctionScorer
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.counters import Counters, Stats
from exp_pool.runtime.display import one_line, without_password
from exp_pool.runtime.forks import reset_in_child
from exp_pool.runtime.keyword_options import complete, lists
from exp_pool.runtime.notices import Notices, log_with_trace
from exp_pool.runtime.switches import PoolSwitches
from exp_pool.search.embedders.service import Embedded
from exp_pool.search.search import SearchQuery
from exp_pool.stores.journal import Journal

_IO_THREADS = 8

_open_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool(PoolSwitches):
    """Everything that touches the pool, blocking; see `ExpManager` for the arguments and for what each method does."""

    def __init__(self, config: ExpPoolConfig, *, before: Pool | None = None, **plugs: Unpack[Plugs]) -> None:
        super().__init__(enabled=config.enabled, read=config.enable_read, write=config.enable_write)
        if before is not None:
            self.copy_from(before)
        self.config = config
        self._parts = parts = PoolParts(
            config,
            switches=self,
            notices=Notices() if before is None else before.notices,
            counters=Counters() if before is None else before.counters,
            **plugs,
        )
        self.secret = parts.secret
        self.notices: Notices = parts.notices
        self.counters: Counters = parts.counters
        self.background = parts.background
        self.local_cache, self.services = parts.local_cache, parts.services
        self.editor, self.deleter, self.functions = parts.editor, parts.deleter, parts.functions
        self.queries = parts.queries
        self._namespaces, self._store, self._index = parts.namespaces, parts.store, parts.index
        self._embeddings, self._pending_vectors, self._index_sync = (
            parts.embeddings,
            parts.pending_vectors,
            parts.index_sync,
        )
        self._pending_scores, self._judge_training, self._outcomes = (
            parts.pending_scores,
            parts.judge_training,
            parts.outcomes,
        )
        self._worker = parts.worker
        # Whether nobody wants to hear of a hit before or while it is given.
        self._plain = not (plugs.get("feeds") or plugs.get("observers"))
        self._threads: ThreadPoolExecutor | None = None
        reset_in_child(self._forget_threads)
        _open_pools.add(self)

    def _forget_threads(self) -> None:
        self._threads = None

    # Calls

    def answers_locally(self) -> bool:
        """Whether the local cache may answer calls. Each of its hits asks, so this is cheap."""
        return self._plain and self.enabled and self._reads and not self._closed and self.local_cache.enabled

    def threads(self) -> ThreadPoolExecutor:
        """Where async callers' blocking work is done."""
        self.check_open()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_IO_THREADS, "exp_pool-io")
        return self._threads

    @property
    def scorers(self) -> dict[str, FunctionScorer]:
        """The scorer of each function, by the name of the function."""
        return self._pending_scores.functions

    def uncached(self, function: str, err: Exception, about: Callable[..., Any]) -> None:
        """Count a call that runs without the pool because it could not be bound, and warn once."""
        self.counters.add("uncached")
        message = f"{function} runs uncached: {err}"
        log_with_trace("DEBUG", message, err)
        of_all = isinstance(err, ClosedError)  # that is nothing about this function
        self.notices.warn_once(f"uncached:{'' if of_all else function}:{type(err).__name__}", message, about)

    @property
    def store(self) -> RecordStore:
        """The record store, for those who move whole rows: `snapshots`."""
        self.check_open()
        return self._store

    @property
    def namespace(self) -> str:
        """The namespace that surrounds the call, else the manager's."""
        return self._namespaces.of()

    @property
    def journal(self) -> Journal:
        """The changes of this namespace, for who makes many at once: `curation`."""
        return self.editor.journal

    # Experiences

    def create_exp(self, experience: Experience) -> str:
        """Store one experience and return its id."""
        return self.editor.create_exps([experience])[0]

    def create_exps(self, experiences: Sequence[Experience]) -> list[str]:
        """Store experiences and return their ids."""
        return self.editor.create_exps(experiences)

    def get_exp(self, id_: str) -> Experience | None:
        """The experience of this id, history too; None if there is none in this namespace."""
        return self.editor.get_exp(id_)

    def update_exp(self, id_: str, **changes: Any) -> Experience:
        """Change fields of an experience and return the changed one."""
        return self.editor.update_exp(id_, changes)

    def annotate(self, id_: str, *, expected: Any = MISSING, metadata: Mapping[str, Any] | None = None) -> Experience:
        """Set the expected answer (default: the response). Later calls get it. Recorded in `history`."""
        return self.editor.annotate(id_, expected=expected, metadata=metadata)

    def feedback(self, id_: str, value: float, reason: str = "") -> None:
        """Say how well the call went that gave this experience: 0 to 1. Credits what it was shown."""
        self.editor.feedback(id_, value, reason)

    def history(self, id_: str) -> list[HistoryEntry]:
        """Everything that is known to have happened to an experience, the oldest first."""
        return self.editor.history(id_)

    def why_unscored(self, id_: str) -> list[str]:
        """Why scorers gave an experience no score, the oldest reason first; empty where nothing went wrong."""
        self.check_open()
        return reasons(self._store, self.namespace, id_)

    def delete_exp(self, id_: str) -> bool:
        """Delete an experience. Returns whether it was there."""
        return self.deleter.delete(id_)

    def delete_exps(self, where: Mapping[str, Any]) -> int:
        """Delete the current experiences that meet all conditions. Returns how many."""
        return self.deleter.delete_where(where)

    def delete_all_exps(self) -> int:
        """Delete everything in this namespace, history too. Returns the number of rows."""
        return self.deleter.delete_all()

    def erase(self, where: Mapping[str, Any]) -> int:
        """Delete what meets all conditions, history too, and leave no byte of it on disk. Returns how many rows."""
        return self.deleter.erase(where)

    def clear_expired(self) -> int:
        """Delete what has expired. Returns how many."""
        return self.deleter.delete_expired()

    def clear_by_key(self, key: str) -> int:
        """Delete what is stored under a key (``.key()`` of a decorated function), history too. Returns how many."""
        return self.deleter.delete_by_key(key)

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
        return self.queries.find(request, given)

    def get_exps_count(self, where: Mapping[str, Any] | None = None) -> int:
        """How many current experiences, expired and quarantined ones too."""
        self.check_open()
        return self.queries.count(where)

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
        return self.queries.iterate(where, order_by=order_by, limit=limit, history=history)

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
        """Embed the rows of this namespace that wait for it, if there is an embedder; nothing is embedded anew."""
        self.check_open()
        self._pending_vectors.run(self.namespace, float("inf"))

    def report(self) -> Report:
        """What experiences did to the outcomes of calls, and how answers were reused, for each function."""
        self.check_open()
        return report_on(self.namespace, self._outcomes, self._judge_training, self._store)

    # Maintenance

    def flush(self, timeout: float | None = None) -> None:
        """Do pending maintenance (embed, index, score, count), at most so many seconds. The rest stays pending."""
        self.check_open()
        deadline = float("inf") if timeout is None else monotonic() + timeout
        self.background.wait_for_refinements(deadline)
        self._worker.run_once(deadline)

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
        query = RecordQuery(self.namespace, parse_where(where))
        return backfill_scores(
            self._store, self._pending_scores, load_scorer(scorer), query, again=again, concurrency=concurrency
        )

    def warm_up(self) -> None:
        """Open the store, load the model however long that takes, and open the index; see `ExpManager.warm_up`."""
        self.check_open()
        self._store.count(RecordQuery(None), limit=1)
        if self._embeddings is None:
            return
        self._embeddings.wait(None)
        deadline = monotonic() + self.config.query_timeout
        embedded = self._embeddings.embed(["warm up"], self.config.query_timeout)
        self._index_sync.run(deadline)
        self.services.search.nearest(SearchQuery(self.config.namespace, "warm up", 1), embedded)
        self._worker.wake()

    def reindex(self, progress: Progress | None = None) -> int:
        """Build the index anew from the store, while the old one answers. Returns its number of rows."""
        self.check_open()
        self._worker.run_once(float("inf"))
        return self._index_sync.rebuild(progress)

    def doctor(self, *, fix: bool = False, progress: Progress | None = None) -> Diagnosis:
        """Report what is stored, pending and damaged; with `fix`, repair it."""
        self.check_open()
        report = examine(self._store, self._index_sync, fix=fix, progress=progress)
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
        """Put a copy of a backup in the place of the store, and set the present one aside. Returns where it is now."""
        self.check_open()
        try:
            with self._index_sync.store_replaced():
                aside: Path | None = self._file_store().restore(source)
        finally:
            self.local_cache.forget_everything()
            self._pending_vectors.store_replaced()
            self.services.search.start_over()
        return aside

    @property
    def place(self) -> Path | None:
        """The file or folder of the store, if it has one."""
        return getattr(self._parts.opened, "path", None)

    def _file_store(self) -> Any:
        if not hasattr(self._parts.opened, "backup"):
            raise InvalidInputError(
                f"store={without_password(self.config.store)!r} is no file that could be copied; use exp_pool.migrate, "
                "exp_pool.snapshots.save and load, or what the database's server offers"
            )
        return self._parts.opened

    def __repr__(self) -> str:
        pairs = [(name, without_password(getattr(self.config, name))) for name in ("store", "index", "namespace")]
        return one_line("Pool", [*pairs, *([("closed", True)] if self._closed else [])])

    def stats(self) -> Stats:
        """What has happened in this process; plain numbers, no I/O."""
        self._parts.count_hot_uses()
        return self.counters.snapshot()

    def close(self) -> None:
        """End background tasks, then maintenance after its batch, and release everything; see `ExpManager.close`."""
        if not self._closed:
            self.background.shutdown_blocking(self.config.exit_timeout)
            self.release()

    def release(self) -> None:
        """Close without ending background tasks, which the caller has done: refinements need what is released here."""
        if self._closed:
            return
        self._closed = True
        _open_pools.discard(self)
        # A model still loading is not waited for: while the interpreter ends, its imports fail anyway.
        loading = self._embeddings is not None and self._embeddings.loading
        self._worker.stop(0.0 if loading else self.config.exit_timeout)
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None
        if self._embeddings is not None:
            self._embeddings.close(0.0)
        self._parts.reranking.close()
        self.services.search.start_over()
        self.local_cache.close()
        self.services.leases.close()
        for part in (self._index, self._store):
            try:
                part.close()
            except Exception as err:
                logger.warning("closing went wrong, nothing is lost: {}", err)


@atexit.register
def _close_at_exit() -> None:
    """Interpreter exit waits for the batch in hand, at most `exit_timeout` for each manager that nobody closed."""
    for pool in list(_open_pools):
        pool.at_exit = True
        pool.close()
