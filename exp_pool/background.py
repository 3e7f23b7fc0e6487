"""Work that goes on beside the calls: refinements of quick answers, and tasks that users register."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any, TypeAlias

from loguru import logger

from exp_pool._clock import monotonic
from exp_pool.errors import InvalidInputError
from exp_pool.forks import reset_in_child
from exp_pool.notices import Notices

Work: TypeAlias = "asyncio.Task[Any] | Future[Any]"

_MANY = 10  # tasks at once, above which somebody ought to look


class Background:
    """What runs in the background of one manager. What has ended is forgotten by itself."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._start_over()
        reset_in_child(self._start_over)

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Work, tuple[str, bool]] = {}  # its name, and whether it is a refinement

    @property
    def count(self) -> int:
        """How many are running: refinements and registered tasks."""
        with self._lock:
            return len(self._running)

    @property
    def names(self) -> list[str]:
        """What they were registered as."""
        with self._lock:
            return [name for name, _ in self._running.values()]

    def register(self, task: Work, name: str) -> None:
        """Let the manager look after a task of yours: `shutdown` waits for it.

        Args:
            task: an ``asyncio.Task``, or a future of ``concurrent.futures``.
            name: for logs.

        Raises:
            InvalidInputError: it is neither.
        """
        if not isinstance(task, asyncio.Future | Future):
            raise InvalidInputError(
                f"background.register({task!r:.80}) takes an asyncio.Task or a concurrent.futures.Future; "
                "make a task of a coroutine by asyncio.create_task()"
            )
        self._add(task, name, refines=False)

    def refine(self, task: Work, name: str) -> None:
        """The same for a refinement, which `flush` waits for, too."""
        self._add(task, name, refines=True)

    def _add(self, task: Work, name: str, *, refines: bool) -> None:
        with self._lock:
            self._running[task] = (name, refines)
            many = len(self._running)
        task.add_done_callback(self._forget)
        if many > _MANY:
            self._notices.once("background", f"{many} tasks run in the background, such as {name!r}: are they ended?")

    def _forget(self, task: Any) -> None:
        with self._lock:
            self._running.pop(task, None)

    def _now(self, *, refinements: bool) -> list[Work]:
        with self._lock:
            return [task for task, (_, refines) in self._running.items() if refines or not refinements]

    def wait_for_refinements(self, deadline: float) -> None:
        """Wait, on a thread, until those that run now have ended, at most until the deadline (`_clock.monotonic`)."""
        for task in self._now(refinements=True):
            ended = threading.Event()

            def end(_: Any, ended: threading.Event = ended) -> None:
                ended.set()

            if isinstance(task, Future):
                task.add_done_callback(end)
            elif task.get_loop() is _running_loop() or task.get_loop().is_closed():
                continue  # it cannot go on while this thread waits
            else:
                task.get_loop().call_soon_threadsafe(task.add_done_callback, end)
            ended.wait(None if deadline == float("inf") else max(0.0, deadline - monotonic()))

    async def refined(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  (a bound on waiting for others)
        """Wait until the refinements that run now have ended."""
        await _ended(self._now(refinements=True), timeout)

    async def shutdown(self, timeout: float = 30.0) -> list[str]:  # noqa: ASYNC109
        """Wait for everything, then cancel what is left; the names of what did not end even so."""
        left = await _ended(self._now(refinements=False), timeout)
        for task in left:
            _cancel(task)
        stubborn = await _ended(left, 1.0)
        names = [name for task, (name, _) in list(self._running.items()) if task in stubborn]
        for name in names:
            logger.warning("the background task {!r} did not end", name)
        return names

    def cancel(self) -> None:
        """Cancel the refinements: the manager closes."""
        for task in self._now(refinements=True):
            _cancel(task)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _ended(tasks: list[Work], timeout: float | None) -> list[Work]:  # noqa: ASYNC109
    """Those that have not ended within the time-out."""
    here = asyncio.get_running_loop()
    of_here = {task: task for task in tasks if not isinstance(task, Future) and task.get_loop() is here}
    others = {asyncio.wrap_future(task): task for task in tasks if isinstance(task, Future)}
    waited: dict[Any, Work] = {**of_here, **others}
    if not waited:
        return []
    _, left = await asyncio.wait(waited, timeout=timeout)
    return [waited[task] for task in left]


def _cancel(task: Work) -> None:
    if isinstance(task, Future):
        task.cancel()
        return
    try:
        task.get_loop().call_soon_threadsafe(task.cancel)
    except RuntimeError:  # its loop is closed, and it with it
        return
