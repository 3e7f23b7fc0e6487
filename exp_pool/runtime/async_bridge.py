"""Bridge between threads and coroutines: calls plugs that may be ``def`` or ``async def``.

From a thread, what a plug gives is awaited on one background loop, never on the caller's own: a notebook's is always
running, and nothing here patches loops.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from exp_pool.runtime.forks import reinit_after_fork

T = TypeVar("T")

_NAME = "exp_pool-awaiting"


def resolve(result: T | Awaitable[T], timeout_s: float | None = None) -> T:
    """The result, or where it is awaitable, what the background loop gets from it.

    Raises:
        TimeoutError: the awaitable took longer than `timeout_s`; it is cancelled.
    """
    if not inspect.isawaitable(result):
        return result
    if threading.current_thread().name == _NAME:  # a plug that is being awaited called one itself: this loop is busy
        with ThreadPoolExecutor(1) as executor:
            nested: Future[T] = executor.submit(asyncio.run, _awaited_within(result, timeout_s))
            return nested.result()
    future: Future[T] = asyncio.run_coroutine_threadsafe(_awaited(result), _background.loop())
    try:
        return future.result(timeout_s)
    except TimeoutError:
        future.cancel()
        raise


async def call_async(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function without blocking this event loop: a coroutine function is awaited, another runs on a thread."""
    call = getattr(function, "__call__", None)  # noqa: B004  (of a callable object, which may be an async one)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        return await function(*args)
    result = await asyncio.to_thread(function, *args)
    return await result if inspect.isawaitable(result) else result


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def _awaited_within(awaitable: Awaitable[T], timeout_s: float | None) -> T:
    return await asyncio.wait_for(_awaited(awaitable), timeout_s)


@reinit_after_fork(leave=("_loop",))
class _BackgroundLoop:
    """One event loop on a daemon thread, which starts when the loop is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name=_NAME, daemon=True).start()
                self._loop = loop
            return self._loop


_background = _BackgroundLoop()
