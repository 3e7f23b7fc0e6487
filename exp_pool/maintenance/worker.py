"""The background worker of a manager: does the pending tasks of rows, off every caller's path.

Which tasks are pending stands in the rows themselves, so a killed process loses none: the next process finds them. Only
use counts stand in memory; closing writes them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass

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

# Between the first row with a pending task and the work on it: rows that come together are done together, and a short
# script ends before the model is loaded in vain.
_LINGER_S = 0.5
_AGAIN_S = 30.0  # how often the worker looks for rows whose next try has come


@reinit_after_fork()
@dataclass(kw_only=True, eq=False)
class MaintenanceWorker:
    """Does all maintenance of one pool, on a thread of its own that starts when there is something to do."""

    store: RecordStore  # where rows, uses and logs stand
    eviction: Eviction  # comes first, then `outcomes` and `judge_training`
    outcomes: Outcomes  # weighs feedback
    judge_training: JudgeTraining  # learns from labels
    pending_scores: PendingScores  # scores, on another thread
    pending_vectors: PendingVectors  # embeds
    index_sync: IndexSync  # hands vectors to the index
    notices: Notices  # warns once of what fails
    count_hot_uses: Callable[[], None]  # passes on the uses that the local cache has counted, by `used`
    remember_s: float  # for how long tombstones are kept

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._turn = threading.RLock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._touches: dict[tuple[str, str], Touch] = {}
        self._grown: set[str] = set()

    # Called by callers; never waits for I/O

    def stored(self, namespaces: Iterable[str], *, by_hand: bool = False) -> None:
        """Wake up, because rows were stored: tasks are pending on them, and there may be too many of them.

        Args:
            namespaces: of the rows.
            by_hand: people added them, so the next call is to find them.
        """
        if by_hand:
            self.pending_vectors.added_by_hand(namespaces)
        if self.eviction.enabled:
            self._grown.update(namespaces)
        self.wake()

    def wake(self) -> None:
        """Start a round soon, because there is something to do."""
        if not self._wake.is_set():
            self._wake.set()
        if self._thread is None or not self._thread.is_alive():
            self._start()

    def used(self, namespace: str, id_: str, count: int = 1, at: int | None = None) -> None:
        """Count uses of a row that answered calls.

        Args:
            namespace: of the row.
            id_: of the row.
            count: of calls.
            at: when the last call was, microseconds; None: now.
        """
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
        """Do everything that is due now, on the calling thread, until the deadline (`clock.monotonic`).

        Scores are made on a thread of their own, and waited for.

        Raises:
            StoreError: the store failed; tasks that were not done stay pending.
        """
        self.judge_training.compare(deadline)
        self._do_quick_work()
        self.pending_scores.run(deadline)
        self._embed_and_index(lambda: self.pending_vectors.run(None, deadline), deadline)

    def _do_quick_work(self) -> None:
        self.count_hot_uses()
        with self._turn:  # or the worker and a flush would count half of the uses each
            self._write_touches()  # before eviction, which goes by them
            self._evict()
            self.outcomes.run()
            self.judge_training.run()

    def _embed_and_index(self, embed: Callable[[], None], deadline: float) -> None:
        failed: EmbedderError | None = None
        try:
            embed()
        except EmbedderError as err:  # another process's namespace: neither the index nor the log waits for that
            failed = err
        if self._stopping.is_set():  # the store may be closed and its folder gone: using it would make it anew
            return
        self.index_sync.run(deadline)
        if self._stopping.is_set():
            return
        self.store.tidy(now_us() - int(self.remember_s * 1e6))
        if failed is not None:
            raise failed

    def catch_up_for_call(self, namespace: str, function: str, embedder: str, deadline: float) -> None:
        """Embed a function's pending rows before a call looks for similar ones; see `PendingVectors.catch_up_for_call`.

        Args:
            namespace: of the call.
            function: its name.
            embedder: the name of the embedder that embedded the call.
            deadline: when to stop (`clock.monotonic`).
        """
        self.pending_vectors.catch_up_for_call(namespace, function, embedder, deadline)

    def _evict(self) -> None:
        grown, self._grown = self._grown, set()
        try:
            self.eviction.run(grown)
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
                self.store.touch_many(namespace, batch)
            except BaseException:  # counted another time: a store that failed after it wrote counts them twice
                for space, left in [(namespace, batch), *by_namespace.items()]:
                    self._remember(space, left)
                raise

    # The thread

    def _start(self) -> None:
        with self._lock:
            gone = self._thread is None or not self._thread.is_alive()
            if gone and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._work, name="exp_pool-maintenance", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(_AGAIN_S)
            self._stopping.wait(_LINGER_S)
            if self._stopping.is_set():
                return
            self._wake.clear()
            try:
                self._do_quick_work()
                if self.pending_scores.functions:  # on another thread: scorers may be slow, and may hang
                    self.pending_scores.begin().add_done_callback(self._report_scoring)
                self._embed_and_index(self.pending_vectors.run_in_background, float("inf"))
            except BaseException as err:
                self._report(err)

    def _report_scoring(self, scored: Future[None]) -> None:
        if (err := scored.exception()) is not None:
            self._report(err)

    def _report(self, err: BaseException) -> None:
        log_with_trace("WARNING", f"maintenance failed and will try again: {err}", err)
        detail = str(err) if isinstance(err, ExpPoolError) else repr(err)
        self.notices.warn_once(f"maintenance:{type(err).__name__}", f"maintenance failed and will try again: {detail}")

    def stop(self, timeout_s: float) -> None:
        """End the thread after the batch in hand, waiting at most `timeout_s`; write what stands only in memory."""
        self._stopping.set()
        self.pending_vectors.stop()
        self.index_sync.stop()
        self._wake.set()
        deadline = monotonic() + timeout_s
        self.pending_scores.stop(timeout_s)
        with self._lock:  # or it might be one that another thread is just starting
            thread = self._thread
        if thread is not None:
            thread.join(max(0.0, deadline - monotonic()))
        self.count_hot_uses()
        # Quick work takes milliseconds. Where the thread hangs in it, the counts that it has taken are its to write.
        if not self._turn.acquire(timeout=max(_LINGER_S, deadline - monotonic())):
            logger.warning("maintenance did not end in time: what was counted in the last moments is not written")
            return
        try:
            self._write_touches()
        except ExpPoolError as err:
            logger.warning("use counts of the last moments were not written: {}", err)
        finally:
            self.judge_training.close()
            self._turn.release()
