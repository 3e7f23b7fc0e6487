"""The background worker of a manager: it does what rows are owed, off every caller's path; scores, on another thread.

What is owed stands in the rows themselves, so a killed process loses nothing: the next one finds it. What stands only
in memory are use counts; closing writes them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from loguru import logger

from exp_pool.core.contracts.plugs import RecordStore, Touch
from exp_pool.errors import EmbedderError, ExpPoolError
from exp_pool.maintenance.eviction import Eviction
from exp_pool.maintenance.index_sync import IndexSync
from exp_pool.maintenance.judge_training import JudgeTraining
from exp_pool.maintenance.outcomes import Outcomes
from exp_pool.maintenance.pending_scores import PendingScores
from exp_pool.maintenance.pending_vectors import PendingVectors
from exp_pool.runtime.clock import monotonic, now_us
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.runtime.notices import Notices, log_with_trace

# Between the first row that is owed something and the work on it: rows that come together are done together, and a
# short script ends before the model is loaded in vain.
_LINGER_S = 0.5
_AGAIN_S = 30.0  # how often rows whose retry has come are looked for


@reinit_after_fork()
class MaintenanceWorker:
    """Evicts, weighs outcomes, scores, embeds, feeds the index, counts use; `flow` says who calls `owed` and `used`."""

    def __init__(
        self,
        store: RecordStore,
        embedding: PendingVectors,
        index_sync: IndexSync,
        scoring: PendingScores,
        verifying: JudgeTraining,
        notices: Notices,
        eviction: Eviction,
        outcomes: Outcomes,
        count_hot_uses: Callable[[], None],
        remember_s: float,
    ) -> None:
        self._remember_us = int(remember_s * 1e6)
        self._eviction = eviction
        self._outcomes = outcomes
        self._count_hot_uses = count_hot_uses
        self._store = store
        self._pending_vectors = embedding
        self._index_sync = index_sync
        self._pending_scores = scoring
        self._judge_training = verifying
        self._notices = notices
        self._lock = threading.Lock()
        self._turn = threading.RLock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._touches: dict[tuple[str, str], Touch] = {}
        self._grown: set[str] = set()

    # Told by callers; never waits for I/O

    def stored(self, namespaces: Iterable[str], *, by_hand: bool = False) -> None:
        """Rows were stored there: something is owed to them, and they may be too many.

        By hand: people put them in, so the next call is to find them.
        """
        if by_hand:
            self._pending_vectors.put_in(namespaces)
        if self._eviction.wanted:
            self._grown.update(namespaces)
        self.wake()

    def wake(self) -> None:
        """Something is to be done."""
        if not self._wake.is_set():
            self._wake.set()
        if self._thread is None or not self._thread.is_alive():
            self._start()

    def used(self, namespace: str, id_: str, count: int = 1, at: int | None = None) -> None:
        """A row answered a call, or so many, the last one then (microseconds)."""
        self._remember(namespace, [Touch(id_, count, now_us() if at is None else at)])
        self.wake()

    def _remember(self, namespace: str, touches: Iterable[Touch]) -> None:
        with self._lock:
            for touch in touches:
                known = self._touches.get((namespace, touch.id))
                total, last = (known.count, known.last_access) if known else (0, 0)
                summed = Touch(touch.id, total + touch.count, max(last, touch.last_access))
                self._touches[namespace, touch.id] = summed

    # The work

    def run_once(self, deadline: float) -> None:
        """Everything that is due now, on the calling thread, until the deadline (`clock.monotonic`).

        Scores are made on a thread of their own, and waited for.

        Raises:
            StoreError: the store failed; what was not done stays owed.
        """
        self._judge_training.compare(deadline)
        self._tend()
        self._pending_scores.run(deadline)
        self._embed_and_index(lambda: self._pending_vectors.run(None, deadline), deadline)

    def _tend(self) -> None:
        self._count_hot_uses()
        with self._turn:  # or the worker and a flush would count half of the uses each
            self._write_touches()  # before eviction, which goes by them
            self._evict()
            self._outcomes.run()
            self._judge_training.run()

    def _embed_and_index(self, embed: Callable[[], None], deadline: float) -> None:
        failed: EmbedderError | None = None
        try:
            embed()
        except EmbedderError as err:  # another process's namespace: neither the index nor the log waits for that
            failed = err
        if self._stopping.is_set():  # the store may be closed and its folder gone: using it would make it anew
            return
        self._index_sync.run(deadline)
        if self._stopping.is_set():
            return
        self._store.tidy(now_us() - self._remember_us)
        if failed is not None:
            raise failed

    def catch_up(self, namespace: str, embedder: str, deadline: float) -> None:
        """Embed what is owed in one namespace: what was written there is found."""
        self._pending_vectors.run(namespace, deadline, embedder=embedder)

    def catch_up_for_call(self, namespace: str, function: str, embedder: str, deadline: float) -> None:
        """Embed what is owed to a function, where a call is to find it; see `Embedding.catch_up_for_call`."""
        self._pending_vectors.catch_up_for_call(namespace, function, embedder, deadline)

    def _evict(self) -> None:
        grown, self._grown = self._grown, set()
        try:
            self._eviction.run(grown)
        except ExpPoolError:
            self._grown |= grown
            raise

    def _write_touches(self) -> None:
        with self._lock:
            touches, self._touches = self._touches, {}
        by_namespace: dict[str, list[Touch]] = {}
        for (namespace, _), touch in touches.items():
            by_namespace.setdefault(namespace, []).append(touch)
        while by_namespace:
            namespace, batch = by_namespace.popitem()
            try:
                self._store.touch_many(namespace, batch)
            except BaseException:  # counted another time: a store that failed after it wrote counts them twice
                for space, left in [(namespace, batch), *by_namespace.items()]:
                    self._remember(space, left)
                raise

    # The thread

    def _start(self) -> None:
        with self._lock:
            gone = self._thread is None or not self._thread.is_alive()
            if gone and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._work, name="exp_pool-upkeep", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(_AGAIN_S)
            self._stopping.wait(_LINGER_S)
            if self._stopping.is_set():
                return
            self._wake.clear()
            try:
                self._tend()
                if self._pending_scores.functions:  # nobody waits for scorers: they may be slow, and may hang
                    self._pending_scores.begin().add_done_callback(self._say)
                self._embed_and_index(self._pending_vectors.run_aside, float("inf"))
            except BaseException as err:
                self._trouble(err)

    def _say(self, scored: Future[None]) -> None:
        if (err := scored.exception()) is not None:
            self._trouble(err)

    def _trouble(self, err: BaseException) -> None:
        log_with_trace("WARNING", f"upkeep failed and will try again: {err}", err)
        detail = str(err) if isinstance(err, ExpPoolError) else repr(err)
        self._notices.warn_once(f"upkeep:{type(err).__name__}", f"upkeep failed and will try again: {detail}")

    def stop(self, timeout_s: float) -> None:
        """End the thread after the batch in hand, waiting at most the time-out; write what stands only in memory."""
        self._stopping.set()
        self._pending_vectors.stop()
        self._index_sync.stop()
        self._wake.set()
        deadline = monotonic() + timeout_s
        self._pending_scores.stop(timeout_s)
        with self._lock:  # or it might be one that another thread is just starting
            thread = self._thread
        if thread is not None:
            thread.join(max(0.0, deadline - monotonic()))
        self._count_hot_uses()
        # A round takes milliseconds. Where the thread hangs in one, what it has in hand is its to write.
        if not self._turn.acquire(timeout=max(_LINGER_S, deadline - monotonic())):
            logger.warning("upkeep did not end in time: what was counted in the last moments is not written")
            return
        try:
            self._write_touches()
        except ExpPoolError as err:
            logger.warning("use counts of the last moments were not written: {}", err)
        finally:
            self._judge_training.close()
            self._turn.release()
