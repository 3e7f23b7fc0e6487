"""Renews, in the background, an answer that was asked for shortly before it expires."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from loguru import logger

from exp_pool.forks import reset_in_child
from exp_pool.notices import log_with_trace
from exp_pool.steps import Renew

if TYPE_CHECKING:
    from exp_pool.drivers.ports import Ports


class Renewals:
    """Which keys are being renewed in this process: each by one story at a time. Other processes may do the same."""

    def __init__(self) -> None:
        self._start_over()
        reset_in_child(self._start_over)

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._keys: set[tuple[str, str]] = set()

    def begin(self, step: Renew) -> bool:
        """Whether nobody does it yet."""
        key = (step.request.namespace, step.request.key)
        with self._lock:
            if key in self._keys:
                return False
            self._keys.add(key)
            return True

    def end(self, step: Renew) -> None:
        """It is done, or has failed: the next call may begin anew."""
        with self._lock:
            self._keys.discard((step.request.namespace, step.request.key))


def renew_on_thread(step: Renew, ports: Ports, tell: Callable[[Any], Any]) -> None:
    """Begin on a thread of its own, unless it is under way."""
    if not ports.renewals.begin(step):
        return
    ended = Future[None]()
    ended.set_running_or_notify_cancel()

    def work() -> None:
        try:
            _log(step, tell(step.telling()).error)
        except Exception as err:
            _log(step, err)
        finally:
            ports.renewals.end(step)
            ended.set_result(None)

    ports.background.refine(ended, f"renew {step.request.function}")
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name="exp_pool-renew", daemon=True).start()


def renew_as_task(step: Renew, ports: Ports, tell: Callable[[Any], Any]) -> None:
    """Begin as a task of the running loop, unless it is under way."""
    if not ports.renewals.begin(step):
        return

    async def work() -> None:
        try:
            _log(step, (await tell(step.telling())).error)
        except Exception as err:
            _log(step, err)

    name = f"renew {step.request.function}"
    task = asyncio.create_task(work(), name=name)
    task.add_done_callback(lambda _: ports.renewals.end(step))
    ports.background.refine(task, name)


def _log(step: Renew, err: Exception | None) -> None:
    if err is not None:
        message = f"{step.request.function}: not renewed, the answer stays until it expires: {err!r}"
        logger.warning("{}", message)
        log_with_trace("DEBUG", message, err)
