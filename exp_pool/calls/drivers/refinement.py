"""Runs the slower, better function beside the quick one.

A coroutine function that is overtaken is cancelled: the better answer is the caller's at once. A plain function is on
its caller's thread, where nothing can end it: its caller waits for it, and has the better answer then.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from loguru import logger

from exp_pool.calls.drivers.single_flight import soon
from exp_pool.calls.steps import Improve, Outcome
from exp_pool.core.capture import begin_capture
from exp_pool.runtime.call_context import carried, in_namespace
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.notices import log_with_trace

T = TypeVar("T")


class Refinement:
    """The better answer on its way. The story looks whether it is there, and in the end says what to do with it."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self._said = threading.Event()
        self._woken: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._keep: Callable[[Outcome], Any] | None = None
        self._overtake: Callable[[], None] | None = None

    def arrive(self, outcome: Outcome) -> None:
        """The better answer is there."""
        self.outcome = outcome
        if self._overtake is not None:
            self._overtake()

    async def overtaking(self, quick: Awaitable[T]) -> T | None:
        """See `steps.Better`. Cancels as `asyncio.timeout` does: in this task, and nothing but the quick function."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                self._overtake = lambda: limit.reschedule(loop.time())
                if self.outcome is not None:
                    self._overtake()
                return await quick
        except TimeoutError:
            if not limit.expired():
                raise
            return None
        finally:
            self._overtake = None

    def decide(self, keep: Callable[[Outcome], Any] | None) -> None:
        """The call is over: tell this story with the outcome; None where it has been used."""
        with self._lock:
            self._keep = keep
            self._said.set()
            woken, self._woken = self._woken, []
        for wake in woken:
            wake()

    def wait(self, timeout_s: float) -> Callable[[Outcome], Any] | None:
        """What was decided. Blocks the thread."""
        self._said.wait(timeout_s)
        return self._keep

    async def wait_async(self, timeout_s: float) -> Callable[[Outcome], Any] | None:
        """What was decided."""
        loop, said = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            if self._said.is_set():
                return self._keep
            self._woken.append(lambda: soon(loop, said.set))
        try:
            async with asyncio.timeout(timeout_s):
                await said.wait()
        except TimeoutError:
            return None
        return self._keep


# ── On a thread ───────────────────────────────────────────────────────────────────────────────────────────────────────


class _Given(Future[None]):
    """The end of a refinement on a thread: of its work, or of the patience with it. What comes later is dropped."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self._function = function
        self._ending = threading.Lock()
        self.set_running_or_notify_cancel()

    def end(self) -> bool:
        """End it; whether it had not ended yet."""
        with self._ending:
            if self.done():
                return False
            self.set_result(None)
            return True

    def cancel(self) -> bool:
        """Give it up. Its thread, which nobody can end, goes on to the end of its function."""
        ended = self.end()
        if ended:
            logger.info("{}: the refinement was cancelled, the quick answer stays", self._function)
        return ended


def refine_on_thread(step: Improve, tell: Callable[[Any], Any]) -> tuple[Refinement, Future[None]]:
    """Begin on a thread of its own; `tell` tells a story to its end."""
    better, given = Refinement(), _Given(step.request.function)

    def give_up() -> None:
        if given.end():
            _too_late(step)

    def work() -> None:
        timer = threading.Timer(step.timeout_s, give_up)
        timer.daemon = True
        timer.start()
        try:
            outcome = _run(step)
            timer.cancel()
            if given.done() or not tell(step.accepts(outcome)):
                return
            better.arrive(outcome)
            keep = better.wait(step.timeout_s)
            if keep is not None and not given.done():
                tell(keep(outcome))
        except Exception as err:
            if not given.done():
                _failed(step, err)
        finally:
            timer.cancel()
            given.end()

    context = carried()
    threading.Thread(target=context.run, args=(work,), name="exp_pool-refine", daemon=True).start()
    return better, given


def _run(step: Improve) -> Outcome:
    capture, _ = begin_capture()
    began = monotonic()
    with in_namespace(step.request.namespace):
        value = step.function(*step.request.args, **step.request.kwargs)
    return Outcome(value, None, capture, monotonic() - began, refined=True)


# ── As a task ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def refine_as_task(step: Improve, tell: Callable[[Any], Any]) -> tuple[Refinement, asyncio.Task[None]]:
    """Begin as a task of the running loop; `tell` is a coroutine function that tells a story to its end."""
    better = Refinement()
    return better, asyncio.create_task(
        _refine(step, better, tell), name=f"refine {step.request.function}", context=carried()
    )


async def _refine(step: Improve, better: Refinement, tell: Callable[[Any], Any]) -> None:
    request = step.request
    capture, _ = begin_capture()
    began = monotonic()
    try:
        async with asyncio.timeout(step.timeout_s) as limit:
            with in_namespace(request.namespace):
                value = await step.function(*request.args, **request.kwargs)
        outcome = Outcome(value, None, capture, monotonic() - began, refined=True)
        if not await tell(step.accepts(outcome)):
            return
        better.arrive(outcome)
        keep = await better.wait_async(step.timeout_s)
        if keep is not None:
            await tell(keep(outcome))
    except asyncio.CancelledError:
        logger.info("{}: the refinement was cancelled, the quick answer stays", request.function)
        raise
    except Exception as err:
        if isinstance(err, TimeoutError) and limit.expired():
            _too_late(step)
        else:
            _failed(step, err)


# ── What the log says ─────────────────────────────────────────────────────────────────────────────────────────────────


def _too_late(step: Improve) -> None:
    logger.warning("{}: not refined within {:g} s, the quick answer stays", step.request.function, step.timeout_s)


def _failed(step: Improve, err: Exception) -> None:
    message = f"{step.request.function}: the refinement failed, the quick answer stays: {err!r}"
    logger.warning("{}", message)
    log_with_trace("DEBUG", message, err)
