"""Background tasks of a manager: refinements of quick answers, and tasks that users register."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeAlias

from loguru import logger

from exp_pool.errors import InvalidInputError
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.runtime.notices import Notices

Work: TypeAlias = "asyncio.Task[Any] | Future[Any]"

_LIMIT = 10  # tasks at once, above which a warning asks whether they end
_GRACE_S = 1.0  # for what was cancelled to clean up


@reinit_after_fork(keep=("limit",))
class Background:
    """The background tasks of one manager. A task that has ended is dropped by itself.

    Args:
        notices: warns once of too many tasks.

    Attributes:
        limit: how many tasks may run at once before a warning asks, once, whether they end.
    """

    def __init__(self, notices: Notices) -> None:
        self.limit = _LIMIT
        self._notices = notices
        self._lock = threading.Lock()
        self._running: dict[Work, tuple[str, bool]] = {}  # its name, and whether it is a refinement

    @property
    def count(self) -> int:
        """How many are running: refinements and registered tasks."""
        with self._lock:
            return len(self._running)

    @property
    def names(self) -> list[str]:
        """The names of the tasks that are running."""
        with self._lock:
            return [name for name, _ in self._running.values()]

    def register(self, task: Work, name: str) -> None:
        """Register a task of yours: `shutdown`, and closing the manager, wait for it.

        Args:
            task: an ``asyncio.Task``, or a future of ``concurrent.futures``.
            name: for logs.

        Raises:
            InvalidInputError: `task` is neither.
        """
        if not isinstance(task, asyncio.Future | Future):
            raise InvalidInputError(
                f"background.register({task!r:.80}) takes an asyncio.Task or a concurrent.futures.Future; "
                "make a task of a coroutine by asyncio.create_task()"
            )
        self._add(task, name, refines=False)

    def refine(self, task: Work, name: str) -> None:
        """Register a refinement, which `flush` waits for, too."""
        self._add(task, name, refines=True)

    def _add(self, task: Work, name: str, *, refines: bool) -> None:
        with self._lock:
            self._running[task] = (name, refines)
            many = len(self._running)
        task.add_done_callback(self._forget)
        if many > self.limit:
            self._notices.warn_once(
                "background",
                f"{many} tasks run in the background, such as {name!r}: do they end? background.names names them all; "
                "where so many are meant to be, raise background.limit",
            )

    def _forget(self, task: Any) -> None:
        with self._lock:
            self._running.pop(task, None)

    def _now(self, *, refinements: bool = False) -> list[Work]:
        with self._lock:
            return [task for task, (_, refines) in self._running.items() if refines or not refinements]

    # Waiting for the end

    def wait_for_refinements(self, deadline: float) -> None:
        """Wait, on a thread, until the refinements that run now have ended, or the deadline (`clock.monotonic`)."""
        _wait(self._now(refinements=True), deadline)

    async def refined(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  (a bound on waiting for others)
        """Wait until the refinements that run now have ended."""
        await _wait_async(self._now(refinements=True), float("inf") if timeout is None else monotonic() + timeout)

    async def shutdown(self, timeout: float = 30.0) -> list[str]:  # noqa: ASYNC109
        """Wait for all tasks, cancel those that are left, and wait a second for them; the names of those that go on.

        Closing the manager does the same, within `exit_timeout`. A registered task that calls this is left alone.
        """
        me = asyncio.current_task()
        for tasks, deadline in self._ending(timeout, lambda task: task is not me and _goes_on(task)):
            await _wait_async(tasks, deadline)
        return self._left(lambda task: task is not me)

    def shutdown_blocking(self, timeout: float = 30.0) -> list[str]:
        """`shutdown` for a thread. Tasks of a loop that runs on this thread are cancelled at once."""
        for tasks, deadline in self._ending(timeout, _goes_on_elsewhere):
            _wait(tasks, deadline)
        return self._left(_goes_on_elsewhere)

    def _ending(self, timeout: float, may_end: Callable[[Work], bool]) -> Iterator[tuple[list[Work], float]]:
        """Yield tasks and when to stop waiting: those that run or begin meanwhile, then those left, cancelled."""
        deadline = monotonic() + timeout
        while (running := list(filter(may_end, self._now()))) and monotonic() < deadline:
            yield running, deadline
        for task in self._now():
            if task is not _current_task():
                _cancel(task)
        yield list(filter(may_end, self._now())), monotonic() + _GRACE_S

    def _left(self, counts: Callable[[Work], bool]) -> list[str]:
        with self._lock:
            for task in list(filter(_is_over, self._running)):
                del self._running[task]
            names = [name for task, (name, _) in self._running.items() if counts(task)]
        for name in names:
            logger.warning("the background task {!r} did not end", name)
        return names


# A task of a loop can only end while its loop runs, and while no waiting thread blocks the loop.


def _goes_on(task: Work) -> bool:
    return isinstance(task, Future) or task.get_loop().is_running()


def _goes_on_elsewhere(task: Work) -> bool:
    return isinstance(task, Future) or (task.get_loop().is_running() and task.get_loop() is not _running_loop())


def _is_over(task: Work) -> bool:
    """Whether the task can never end, because its loop was closed."""
    return not isinstance(task, Future) and task.get_loop().is_closed()


def _wait(tasks: Iterable[Work], deadline: float) -> None:
    ends = _ends(filter(_goes_on_elsewhere, tasks), None)
    concurrent.futures.wait(ends, _seconds(deadline))


async def _wait_async(tasks: Iterable[Work], deadline: float) -> None:
    ends = [asyncio.wrap_future(end) for end in _ends(filter(_goes_on, tasks), asyncio.get_running_loop())]
    if ends:
        await asyncio.wait(ends, timeout=_seconds(deadline))
    for end in ends:
        end.cancel()  # or it would tell a loop that may be closed by then


def _ends(tasks: Iterable[Work], running: asyncio.AbstractEventLoop | None) -> list[Future[None]]:
    """A future for each task that is done when the task ends. Another loop than the running one is asked to set it."""
    ends = []
    for task in tasks:
        ended: Future[None] = Future()
        ended.set_running_or_notify_cancel()

        def tell(_: Any, ended: Future[None] = ended) -> None:
            ended.set_result(None)

        if isinstance(task, Future) or task.get_loop() is running:
            task.add_done_callback(tell)
        elif not _on(task, functools.partial(task.add_done_callback, tell)):
            continue
        ends.append(ended)
    return ends


def _seconds(deadline: float) -> float | None:
    return None if deadline == float("inf") else max(0.0, deadline - monotonic())


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _current_task() -> asyncio.Task[Any] | None:
    return None if _running_loop() is None else asyncio.current_task()


def _cancel(task: Work) -> None:
    if isinstance(task, Future):
        task.cancel()
    else:
        _on(task, task.cancel)


def _on(task: asyncio.Task[Any], do: Callable[[], Any]) -> bool:
    """Have the task's loop call a function; False if that loop is closed."""
    try:
        task.get_loop().call_soon_threadsafe(do)
    except RuntimeError:  # the loop is closed, and the task with it
        return False
    return True
