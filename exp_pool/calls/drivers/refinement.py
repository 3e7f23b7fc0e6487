"""Runs the slower, better function of `refine=` beside the quick one.

Where the better answer comes first, a quick coroutine function is cancelled, and its caller has the better answer at
once. A plain function runs on its caller's thread, where nothing can end it: the caller waits for its end, and has the
better answer then.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from loguru import logger

from exp_pool.calls.steps import Outcome, StartRefinement
from exp_pool.core.capture import begin_capture
from exp_pool.runtime.call_context import copy_context, in_namespace
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.notices import log_with_trace

T = TypeVar("T")


class RunningRefinement:
    """A better answer being computed. The flow asks for it, and decides in the end what is done with it."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self._decision: Future[Callable[[Outcome], Any] | None] = Future()
        self._end_race: Callable[[], None] | None = None

    def arrive(self, outcome: Outcome) -> None:
        """Set the better answer, and end the race."""
        self.outcome = outcome
        if self._end_race is not None:
            self._end_race()

    async def race_against(self, quick: Awaitable[T]) -> T | None:
        """See `steps.Refinement`. As `asyncio.timeout` does, it cancels the quick function only, in this task."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                self._end_race = lambda: limit.reschedule(loop.time())
                if self.outcome is not None:
                    self._end_race()
                return await quick
        except TimeoutError:
            if not limit.expired():
                raise
            return None
        finally:
            self._end_race = None

    def decide(self, finish: Callable[[Outcome], Any] | None) -> None:
        """The call is over. `finish` makes the flow to drive with the outcome; None where the outcome was used."""
        self._decision.set_result(finish)

    def wait(self, timeout_s: float) -> Callable[[Outcome], Any] | None:
        """What was decided; None if nothing was within the time-out (seconds). Blocks the thread."""
        try:
            return self._decision.result(timeout_s)
        except TimeoutError:
            return None

    async def wait_async(self, timeout_s: float) -> Callable[[Outcome], Any] | None:
        """What was decided; None if nothing was within the time-out (seconds)."""
        try:
            async with asyncio.timeout(timeout_s):  # `wait_for` would lose a cancellation that comes with the decision
                return await asyncio.shield(asyncio.wrap_future(self._decision))
        except TimeoutError:
            return None


# ── On a thread ───────────────────────────────────────────────────────────────────────────────────────────────────────


class _ThreadEnd(Future[None]):
    """Done when a refinement's thread has ended, or was given up; what comes later is dropped."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self._function = function
        self._ending = threading.Lock()
        self.set_running_or_notify_cancel()

    def set_done(self) -> bool:
        """Set it done; whether it was not done yet."""
        with self._ending:
            if self.done():
                return False
            self.set_result(None)
            return True

    def cancel(self) -> bool:
        """Give the refinement up. Nothing can end its thread, which goes on to the end of its function."""
        ended = self.set_done()
        if ended:
            logger.info("{}: the refinement was cancelled, the quick answer stays", self._function)
        return ended


def refine_on_thread(step: StartRefinement, drive: Callable[[Any], Any]) -> tuple[RunningRefinement, Future[None]]:
    """Begin on a thread of its own; `drive` drives a flow to its end."""
    refinement, end = RunningRefinement(), _ThreadEnd(step.request.function)

    def give_up() -> None:
        if end.set_done():
            _too_late(step)

    def work() -> None:
        timer = threading.Timer(step.timeout_s, give_up)
        timer.daemon = True
        timer.start()
        try:
            outcome = _run(step)
            timer.cancel()
            if end.done() or not drive(step.accepts(outcome)):
                return
            refinement.arrive(outcome)
            finish = refinement.wait(step.timeout_s)
            if finish is not None and not end.done():
                drive(finish(outcome))
        except Exception as err:
            if not end.done():
                _failed(step, err)
        finally:
            timer.cancel()
            end.set_done()

    context = copy_context()
    threading.Thread(target=context.run, args=(work,), name="exp_pool-refine", daemon=True).start()
    return refinement, end


def _run(step: StartRefinement) -> Outcome:
    capture, _ = begin_capture()
    began = monotonic()
    with in_namespace(step.request.namespace):
        value = step.function(*step.request.args, **step.request.kwargs)
    return Outcome(value, None, capture, monotonic() - began, refined=True)


# ── As a task ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def refine_as_task(step: StartRefinement, drive: Callable[[Any], Any]) -> tuple[RunningRefinement, asyncio.Task[None]]:
    """Begin as a task of the running loop; `drive` is a coroutine function that drives a flow to its end."""
    refinement = RunningRefinement()
    return refinement, asyncio.create_task(
        _refine(step, refinement, drive), name=f"refine {step.request.function}", context=copy_context()
    )


async def _refine(step: StartRefinement, refinement: RunningRefinement, drive: Callable[[Any], Any]) -> None:
    request = step.request
    capture, _ = begin_capture()
    began = monotonic()
    try:
        async with asyncio.timeout(step.timeout_s) as limit:
            with in_namespace(request.namespace):
                value = await step.function(*request.args, **request.kwargs)
        outcome = Outcome(value, None, capture, monotonic() - began, refined=True)
        if not await drive(step.accepts(outcome)):
            return
        refinement.arrive(outcome)
        finish = await refinement.wait_async(step.timeout_s)
        if finish is not None:
            await drive(finish(outcome))
    except asyncio.CancelledError:
        logger.info("{}: the refinement was cancelled, the quick answer stays", request.function)
        raise
    except Exception as err:
        if isinstance(err, TimeoutError) and limit.expired():
            _too_late(step)
        else:
            _failed(step, err)


# ── What the log says ─────────────────────────────────────────────────────────────────────────────────────────────────


def _too_late(step: StartRefinement) -> None:
    logger.warning("{}: not refined within {:g} s, the quick answer stays", step.request.function, step.timeout_s)


def _failed(step: StartRefinement, err: Exception) -> None:
    message = f"{step.request.function}: the refinement failed, the quick answer stays: {err!r}"
    logger.warning("{}", message)
    log_with_trace("DEBUG", message, err)
