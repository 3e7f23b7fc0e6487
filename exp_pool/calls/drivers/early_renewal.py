"""Renews, in the background, an answer that was asked for shortly before it expires."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from loguru import logger

from exp_pool.calls.steps import Renew
from exp_pool.runtime.background import Background
from exp_pool.runtime.call_context import copy_context
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.runtime.notices import log_with_trace


@reinit_after_fork()
class Renewals:
    """The keys that are being renewed in this process, each by one flow. Other processes may renew the same keys."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._lock = threading.Lock()
        self._runs: set[tuple[str, str, str]] = set()

    def on_thread(self, step: Renew, drive: Callable[[Any], Any]) -> None:
        """Begin on a thread of its own, unless the key is being renewed; `drive` drives a flow."""
        if not self._begin(step):
            return
        ended = Future[None]()
        ended.set_running_or_notify_cancel()

        def work() -> None:
            try:
                _log(step, drive(step.flow()).error)
            except Exception as err:
                _log(step, err)
            finally:
                self._end(step)
                ended.set_result(None)

        self._background.refine(ended, f"renew {step.request.function}")
        context = copy_context()
        threading.Thread(target=context.run, args=(work,), name="exp_pool-renew", daemon=True).start()

    def as_task(self, step: Renew, drive: Callable[[Any], Any]) -> None:
        """Begin as a task of the running loop, unless the key is being renewed; `drive` is a coroutine function."""
        if not self._begin(step):
            return

        async def work() -> None:
            try:
                _log(step, (await drive(step.flow())).error)
            except Exception as err:
                _log(step, err)

        name = f"renew {step.request.function}"
        task = asyncio.create_task(work(), name=name, context=copy_context())
        task.add_done_callback(lambda _: self._end(step))
        self._background.refine(task, name)

    def _begin(self, step: Renew) -> bool:
        with self._lock:
            if step.request.run in self._runs:
                return False
            self._runs.add(step.request.run)
            return True

    def _end(self, step: Renew) -> None:
        with self._lock:
            self._runs.discard(step.request.run)


def _log(step: Renew, err: Exception | None) -> None:
    if err is not None:
        message = f"{step.request.function}: not renewed, the answer stays until it expires: {err!r}"
        logger.warning("{}", message)
        log_with_trace("DEBUG", message, err)
