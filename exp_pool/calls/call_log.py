"""The log record of a call: structured, and written as one line of text.

loguru's sinks find the record under ``record["extra"]["exp_pool"]``; the text is made only if a sink wants it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CallLogRecord:
    """``name [CACHED|strategy|model] detail``; without ``CACHED|`` where the function ran.

    Attributes:
        function: the name under which the call is stored.
        strategy, model: what was recorded of it; None where nothing was.
        cached: whether the pool answered.
        detail: gives more text, in the words of the function's domain (`describe=`); of several lines, each gets the
            same beginning. Called only if a sink wants the text.
    """

    function: str
    strategy: str | None
    model: str | None
    cached: bool
    detail: Callable[[], str | None] | None = None

    def write(self) -> None:
        """Log it at level DEBUG. Costs half a microsecond where no sink listens."""
        logger.debug("{exp_pool}", exp_pool=self)

    def __str__(self) -> str:
        cached = "CACHED|" if self.cached else ""
        beginning = f"{self.function} [{cached}{self.strategy or _UNKNOWN}|{self.model or _UNKNOWN}]"
        return "\n".join(f"{beginning} {line}".rstrip() for line in self._said().splitlines() or [""])

    def _said(self) -> str:
        try:
            return (self.detail and self.detail()) or ""
        except Exception as err:  # a log line is no reason to fail a call
            return f"(describe= raised {err!r:.80})"
