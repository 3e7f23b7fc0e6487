"""One run of the user's function: its result or exception, what it records meanwhile, and how long it takes."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from exp_pool.calls.steps import Outcome
from exp_pool.core.capture import begin_capture, end_capture
from exp_pool.core.values.batch_values import Part
from exp_pool.runtime.clock import monotonic


class FunctionRun:
    """``with FunctionRun() as run: run.value = function()``; afterwards `outcome` has the value, or the exception.

    What ends a process or a task (no `Exception`) goes through.
    """

    __slots__ = ("_began", "_capture", "_token", "outcome", "value")

    value: Any
    outcome: Outcome

    def __enter__(self) -> Self:
        self.value = None
        self._capture, self._token = begin_capture()
        self._began = monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> bool:
        time_s = monotonic() - self._began
        end_capture(self._token)
        if err is None:
            value, word = self.value, ""
            if type(value) is Part:
                value, word = value.value, value.word
            self.outcome = Outcome(value, None, self._capture, time_s, whole=word)
            return False
        if isinstance(err, Exception):
            self.outcome = Outcome(None, err, self._capture, time_s)
            return True
        return False
