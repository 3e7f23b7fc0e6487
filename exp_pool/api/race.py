"""Race: several calls at once, and the first answer that is accepted."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from exp_pool.core.capture import Capture, begin_capture, record
from exp_pool.errors import InvalidInputError, RaceError
from exp_pool.runtime.async_bridge import call_async
from exp_pool.runtime.call_context import copy_context

T = TypeVar("T")

Racer: TypeAlias = Awaitable[T] | Callable[[], T | Awaitable[T]]


async def race(*calls: Racer[T], accept: Callable[[T], bool | Awaitable[bool]] | None = None) -> T:
    """Begin all calls together; what the first one that is accepted returns.

    The others are cancelled, and have ended when this returns; only a plain function, which runs on a thread, goes on
    to its end, and what it returns is dropped. Of several that are there at once the one given first wins. Within a
    decorated function the experience gets what the winner has recorded, and what all of them cost.

    Args:
        calls: coroutines, or functions without arguments, ``def`` or ``async def``.
        accept: says whether an answer is good enough, ``def`` (run on a thread) or ``async def``; by default any is.

    Raises:
        RaceError: none was accepted; it holds what they returned and raised.
        InvalidInputError: no calls, or something that cannot be called or awaited.
    """
    _check(calls, accept)
    captures: dict[asyncio.Task[T], Capture] = {}
    running = [asyncio.create_task(_run(call, captures), context=copy_context()) for call in calls]
    left, winner = list(running), None
    refused: list[T] = []
    errors: list[BaseException] = []
    try:
        while left:
            await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in left if task.done()]:
                left.remove(task)
                try:
                    value: T = task.result()
                    if accept is None or await call_async(accept, value):
                        winner = task
                        return value
                    refused.append(value)
                except asyncio.CancelledError as err:
                    if not task.cancelled():
                        raise  # it is this race that is cancelled
                    errors.append(err)
                except Exception as err:
                    errors.append(err)
    finally:
        for task in left:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for task, capture in captures.items():
            _record(capture, whole=task is winner)
    said = [f"{value!r:.80} was not accepted" for value in refused] + [f"{err!r:.200}" for err in errors]
    raise RaceError(f"none of {len(calls)} calls gave an accepted answer: {'; '.join(said)}", refused, errors)


def _check(calls: tuple[Any, ...], accept: Any) -> None:
    wrong = [call for call in calls if not (inspect.isawaitable(call) or callable(call))]
    if wrong or not calls or not (accept is None or callable(accept)):
        for call in calls:
            if inspect.iscoroutine(call):
                call.close()
        if calls and not wrong:
            raise InvalidInputError(f"accept={accept!r} must be a callable of an answer")
        given = f"{wrong[0]!r:.80} is neither" if wrong else "there are none"
        raise InvalidInputError(f"the calls of a race are coroutines, or functions without arguments; {given}")


async def _run(call: Any, captures: dict[asyncio.Task[Any], Capture]) -> Any:
    task = asyncio.current_task()
    assert task is not None
    captures[task], _ = begin_capture()
    return await (call if inspect.isawaitable(call) else call_async(call))


def _record(capture: Capture, *, whole: bool) -> None:
    """Record for the call outside what was recorded in a part of it."""
    record(money_usd=capture.money_usd, tokens_in=capture.tokens_in, tokens_out=capture.tokens_out)
    if whole:
        record(model=capture.model, strategy=capture.strategy, metadata=capture.metadata)
        for step in capture.steps:
            record(step=step)
