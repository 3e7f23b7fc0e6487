"""Performs the story for a coroutine function.

What may wait for I/O is done by a thread, the function by its own task.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from exp_pool._clock import monotonic
from exp_pool.capture import begin_capture, end_capture
from exp_pool.drivers.ports import Ports
from exp_pool.flow import Outcome, Run, Story

T = TypeVar("T")


async def drive(
    telling: Story[T], ports: Ports, function: Callable[..., Awaitable[Any]], threads: Callable[[], Executor]
) -> T:
    """The story's end. A cancelled caller ends the story; a write already under way is finished by its thread."""
    try:
        step = next(telling)
        while True:
            try:
                if isinstance(step, Run):
                    came_of_it: Any = await _run(function, step)
                elif ports.quick(step):
                    came_of_it = ports.perform(step)
                else:
                    came_of_it = await hop(threads, ports.perform, step)
            except Exception as err:
                step = telling.throw(err)
            else:
                step = telling.send(came_of_it)
    except StopIteration as end:
        ending: T = end.value
        return ending
    finally:
        telling.close()


async def hop(threads: Callable[[], Executor], job: Callable[..., T], *args: Any) -> T:
    """The job's result, done by a thread, with the caller's context variables."""
    context = contextvars.copy_context()

    def work() -> T:
        try:
            return context.run(job, *args)
        except StopIteration as err:  # a future cannot carry it, and the caller would wait for ever
            raise RuntimeError(f"a plug raised {err!r}") from err

    return await asyncio.get_running_loop().run_in_executor(threads(), work)


async def _run(function: Callable[..., Awaitable[Any]], step: Run) -> Outcome:
    capture, token = begin_capture()
    began = monotonic()
    try:
        value = await function(*step.request.args, **step.request.kwargs)
    except Exception as err:
        return Outcome(error=err, capture=capture, time_s=monotonic() - began)
    finally:
        end_capture(token)
    return Outcome(value, None, capture, monotonic() - began)
