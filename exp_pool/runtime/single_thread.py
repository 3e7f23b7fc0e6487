"""Executor with one daemon thread, for libraries that must be used by one thread, and for code that may hang.

A caller waits for its job with a time-out; the job itself cannot be stopped. While a job runs on that its caller has
given up on, callers who would wait no longer than it has run already fail at once: a hung model costs its time-out
once, not once per call.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from exp_pool.runtime.call_context import copy_context
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.forks import reinit_after_fork

T = TypeVar("T")

_STOP = 99  # after every waiting job


@reinit_after_fork()
class SingleThreadExecutor:
    """Runs jobs on a thread of its own, in the order of priority, then of submission.

    The thread starts with the first job. Each job runs with the context variables of its caller.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.PriorityQueue[tuple[int, int, Future[Any] | None, Callable[[], Any]]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._began = 0.0
        self._given_up: Future[Any] | None = None

    @property
    def stuck(self) -> bool:
        """Whether a job is still running that its caller has given up on."""
        return self._given_up is not None and not self._given_up.done()

    def run(self, job: Callable[[], T], timeout_s: float, *, priority: int = 0) -> T:
        """Run a job and wait for its result.

        Args:
            job: what to run.
            timeout_s: how long to wait, for earlier jobs and this one.
            priority: a job with a lower one runs first.

        Raises:
            TimeoutError: no result within the time-out. A job that had not begun is dropped; one that had runs on.
            Exception: what the job raised.
        """
        given_up = self._given_up
        if given_up is not None and not given_up.done() and monotonic() - self._began >= timeout_s:
            raise TimeoutError(f"{self._name} is still busy with a job that somebody has given up on")
        future: Future[T] = Future()
        self._ensure_thread()
        context = copy_context()
        self._jobs.put((priority, next(self._order), future, lambda: context.run(job)))
        try:
            return future.result(timeout_s)
        except FutureTimeoutError:
            if future.done():  # the job finished just now, or raised a time-out of its own
                return future.result()
            if not future.cancel():
                self._given_up = future
            raise TimeoutError(f"{self._name} gave no result within {timeout_s:g} s") from None

    def stop(self, timeout_s: float) -> None:
        """End the thread after all waiting jobs; wait for that at most `timeout_s`. A later job starts a new thread."""
        with self._starting:
            thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._jobs.put((_STOP, next(self._order), None, lambda: None))
            thread.join(timeout_s)

    def _ensure_thread(self) -> None:
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            _, _, future, job = self._jobs.get()
            if future is None:
                return
            if not future.set_running_or_notify_cancel():
                continue
            self._began = monotonic()
            try:
                future.set_result(job())
            except Exception as err:
                future.set_exception(err)
            except BaseException as err:  # a panic in a library's native code must not pass for the end of the process
                future.set_exception(RuntimeError(repr(err)))
            del future, job  # or the last result would live as long as the thread waits
