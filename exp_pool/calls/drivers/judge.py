"""Asks judges with a time-out: a judge that raises or hangs costs the call at most that long."""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Awaitable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from exp_pool.core.contracts.plugs import Judge, Question, Verdict
from exp_pool.runtime.async_bridge import resolve
from exp_pool.runtime.call_context import copy_context
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.forks import reinit_after_fork

_MOST_HUNG = 4  # threads that one judge may keep busy after it was given up on; then it is refused at once


@reinit_after_fork()
class JudgeRunner:
    """Asks judges for their verdict. Thread-safe.

    A judge that says of itself that it is `pure` is asked on the caller's thread. One whose ``judge`` is ``async def``
    is awaited on the background loop, and cancelled after the time-out. Any other runs on a thread of its own for each
    question, a tenth of a millisecond: who waits there can be left behind, not stopped, so that a judge that was left
    behind four times, and is still there, is not asked again until one of them has ended.

    Args:
        timeout_s: how long a verdict is waited for.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._hung: Counter[int] = Counter()  # questions left behind, by the judge's id; they keep it alive

    def ask(self, judge: Judge, question: Question) -> Verdict:
        """The judge's verdict.

        Raises:
            TimeoutError: it did not come in time.
            Exception: whatever the judge raised.
        """
        deadline = monotonic() + self._timeout_s
        waits_for_nobody = getattr(judge, "pure", False) is True or inspect.iscoroutinefunction(judge.judge)
        said = judge.judge(question) if waits_for_nobody else self._on_thread(judge, question)
        return resolve(said, max(0.0, deadline - monotonic()))

    def _on_thread(self, judge: Judge, question: Question) -> Verdict | Awaitable[Verdict]:
        me = id(judge)
        if self._hung[me] >= _MOST_HUNG:
            raise TimeoutError(f"the judge {type(judge).__name__} still hangs, so it was not asked")
        future: Future[Verdict | Awaitable[Verdict]] = Future()
        context = copy_context()

        def work() -> None:
            try:
                future.set_result(context.run(judge.judge, question))
            except BaseException as err:
                future.set_exception(err)

        threading.Thread(target=work, name="exp_pool-judge", daemon=True).start()
        try:
            return future.result(self._timeout_s)
        except FutureTimeoutError:
            if future.done():  # it raised a time-out of its own, or has ended just now
                return future.result()
            self._leave_behind(me, future)
            raise TimeoutError(
                f"the judge {type(judge).__name__} gave no verdict within {self._timeout_s:g} s; see judge_timeout"
            ) from None

    def _leave_behind(self, judge_id: int, future: Future[Any]) -> None:
        hung, lock = self._hung, self._lock
        with lock:
            hung[judge_id] += 1

        def ended(_: Future[Any]) -> None:
            with lock:
                hung[judge_id] -= 1
                if not hung[judge_id]:
                    del hung[judge_id]

        future.add_done_callback(ended)
