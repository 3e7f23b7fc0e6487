"""Loads an embedder once for all managers of a process, on a thread of its own.

Callers wait here with a deadline, on a thread or on an event loop. A model takes seconds to load, or minutes where
it comes from the hub; that is no embedding, and counts in no call's time for embedding.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from exp_pool.core.contracts.plugs import Embedder
from exp_pool.errors import EmbedderError, StillLoadingError
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.forks import reset_in_child

_RETRY_AFTER_S = 30.0  # a model that could not be loaded is not looked for again before


class EmbedderLoader:
    """Loads one embedder when it is first needed. Thread-safe.

    Args:
        make: makes it; called on a thread of its own, once it is needed.
        name: what people know it by.
    """

    def __init__(self, make: Callable[[], Embedder], name: str = "the embedder") -> None:
        self._make = make
        self.name = name
        self._made: Future[Embedder] | None = None
        self._orphaned = False
        self._start_over()
        reset_in_child(self._start_over)

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        # The locks of modules that the parent's thread was importing are held for ever here: who imports them hangs.
        self._orphaned = self._orphaned or self.in_progress
        self._made = None  # a parent's embedder may count on threads that a child lacks
        self._began = 0.0
        self._retry_at = 0.0
        self._waited_since: float | None = None

    @classmethod
    def of(cls, embedder: Embedder) -> EmbedderLoader:
        """The loader of an embedder that is there already."""
        return _ReadyEmbedder(embedder)

    @property
    def begun(self) -> bool:
        """Whether the loading has begun."""
        return self._made is not None

    @property
    def in_progress(self) -> bool:
        """Whether the embedder is being loaded now."""
        made = self._made
        return made is not None and not made.done()

    @property
    def ready(self) -> bool:
        """Whether the embedder is there."""
        made = self._made
        return made is not None and made.done() and made.exception() is None

    def begin(self) -> Future[Embedder]:
        """A future of the embedder; begins the loading unless it has begun. A failure stands for half a minute."""
        made = self._made
        if made is not None and not self._may_retry(made):
            return made
        with self._lock:
            if self._made is None or self._may_retry(self._made):
                self._made = Future()
                self._made.set_running_or_notify_cancel()  # from here on nobody who waits can cancel it
                self._began = monotonic()
                if self._orphaned:
                    self._made.set_exception(self._orphan())
                    return self._made
                try:
                    threading.Thread(
                        target=self._work, args=(self._made,), name="exp_pool-loading", daemon=True
                    ).start()
                except RuntimeError as err:  # the interpreter is ending, or there are too many threads
                    self._made.set_exception(EmbedderError(f"{self.name} cannot be made: {err}"))
            return self._made

    def _may_retry(self, made: Future[Embedder]) -> bool:
        return made.done() and made.exception() is not None and monotonic() >= self._retry_at

    def _orphan(self) -> EmbedderError:
        return EmbedderError(
            f"this process was forked while its parent was loading {self.name}, and cannot load it any more; call "
            "warm_up() before you fork, or start processes by 'spawn' or 'forkserver'"
        )

    def _work(self, made: Future[Embedder]) -> None:
        try:
            embedder = self._make()
        except BaseException as err:  # a panic in a library's native code must not leave everybody waiting
            failure = err if isinstance(err, EmbedderError) else EmbedderError(f"{self.name} cannot be made: {err!r}")
            failure.__cause__ = None if failure is err else err
            self._retry_at = monotonic() + _RETRY_AFTER_S
            made.set_exception(failure)
        else:
            made.set_result(embedder)

    def failure(self) -> EmbedderError | None:
        """Why the embedder cannot be had, if known. A new error each time: one that is raised again grows."""
        made = self._made
        if made is None or not made.done() or self._may_retry(made):
            return None
        err = made.exception()
        return None if err is None else EmbedderError(str(err))

    def wait(self, timeout_s: float | None) -> Embedder:
        """The embedder, once it is there; with None, however long that takes.

        Raises:
            StillLoadingError: it was not there in time.
            EmbedderError: it cannot be had.
        """
        made = self.begin()
        try:
            return made.result(timeout_s)
        except FutureTimeoutError:
            if not made.done():
                raise self.unfinished() from None
            return self.wait(0)  # just now
        except EmbedderError as err:
            raise EmbedderError(str(err)) from err.__cause__

    def unfinished(self) -> StillLoadingError:
        """The error that says that the embedder is not there yet, and what to do."""
        return StillLoadingError(
            f"{self.name} is still loading, for {monotonic() - self._began:.0f} s so far; call `await "
            "manager.warm_up()` or `manager.sync.warm_up()` when the program starts, which waits for it"
        )

    def patience(self, load_timeout_s: float) -> float:
        """How much longer a call may wait for it: so many seconds, counted once, from the first call that waited.

        Not for each call: with a model that never comes, the tenth call would have waited for minutes.
        """
        if load_timeout_s <= 0:
            return 0.0
        if self._waited_since is None:
            self._waited_since = monotonic()
        return max(0.0, self._waited_since + load_timeout_s - monotonic())


class _ReadyEmbedder(EmbedderLoader):
    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        super().__init__(lambda: embedder)

    def _start_over(self) -> None:
        super()._start_over()
        self._made = Future()
        self._made.set_result(self._embedder)


async def done_or_late(future: Future[Embedder], timeout_s: float | None) -> None:
    """Wait on the event loop until the future is done, or for this time-out; its result is not read."""
    waiting = asyncio.wrap_future(future)
    try:
        await asyncio.wait({waiting}, timeout=timeout_s)
    finally:
        if not waiting.cancel() and not waiting.cancelled():  # a loop that is closed by then hears nothing of it
            waiting.exception()
