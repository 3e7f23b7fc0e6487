"""Runs the slower, better function beside the quick one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from loguru import logger

from exp_pool._clock import monotonic
from exp_pool.capture import begin_capture
from exp_pool.drivers.single_flight import soon
from exp_pool.notices import log_with_trace
from exp_pool.steps import Improve, Outcome


class Refinement:
    """The better answer on its way. The story looks whether it is there, and in the end says what to do with it."""

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self._said = threading.Event()
        self._woken: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._keep: Callable[[Outcome], Any] | None = None

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


def refine_on_thread(step: Improve, tell: Callable[[Any], Any]) -> tuple[Refinement, Future[None]]:
    """Begin on a thread of its own; `tell` tells a story to its end."""
    better, ended = Refinement(), Future[None]()
    ended.set_running_or_notify_cancel()
    function, timeout_s, request = step.function, step.timeout_s, step.request

    def work() -> None:
        capture, _ = begin_capture()
        began = monotonic()
        try:
            value = function(*request.args, **request.kwargs)
            took = monotonic() - began
            if took > timeout_s:
                logger.warning("{}: refined too late, after {:.1f} s", request.function, took)
                return
            better.outcome = Outcome(value, None, capture, took)
            keep = better.wait(timeout_s)
            if keep is not None:
                tell(keep(better.outcome))
        except Exception as err:
            message = f"{request.function}: the refinement failed, the quick answer stays: {err!r}"
            log_with_trace("WARNING", message, err)
        finally:
            ended.set_result(None)

    threading.Thread(target=work, name="exp_pool-refine", daemon=True).start()
    return better, ended


def refine_as_task(step: Improve, tell: Callable[[Any], Any]) -> tuple[Refinement, asyncio.Task[None]]:
    """Begin as a task of the running loop; `tell` is a coroutine function that tells a story to its end."""
    better = Refinement()
    return better, asyncio.create_task(_refine(step, better, tell), name=f"refine {step.request.function}")


async def _refine(step: Improve, better: Refinement, tell: Callable[[Any], Any]) -> None:
    request = step.request
    capture, _ = begin_capture()
    began = monotonic()
    try:
        async with asyncio.timeout(step.timeout_s) as limit:
            value = await step.function(*request.args, **request.kwargs)
        better.outcome = Outcome(value, None, capture, monotonic() - began)
        keep = await better.wait_async(step.timeout_s)
        if keep is not None:
            await tell(keep(better.outcome))
    except asyncio.CancelledError:
        logger.info("{}: the refinement was cancelled, the quick answer stays", request.function)
        raise
    except Exception as err:
        if isinstance(err, TimeoutError) and limit.expired():
            logger.warning("{}: not refined within {:g} s, the quick answer stays", request.function, step.timeout_s)
        else:
            message = f"{request.function}: the refinement failed, the quick answer stays: {err!r}"
            log_with_trace("WARNING", message, err)
