"""Circuit breaker: while a server is away, one caller tries it now and then, and the others fail at once.

The pattern of M. Nygard, Release It! (2007), without a count: one lost connection is reason enough.
"""

from __future__ import annotations

import threading

from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.forks import reinit_after_fork

_FIRST_S = 0.1
_GROWTH = 2.0


@reinit_after_fork()
class Breaker:
    """The circuit breaker of one server. Thread-safe.

    Args:
        longest_s: the longest wait between two tries, in seconds. The first wait is a tenth of a second, each next one
            twice as long.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._lock = threading.Lock()
        self._trouble = ""
        self._pause_s = 0.0
        self._until = 0.0
        self._trying = False

    def trouble(self) -> str:
        """Why the server is not to be tried now; ``""``: try it, then call `failed` or `succeeded`.

        One caller at a time is told to try.
        """
        if not self._trouble:
            return ""
        with self._lock:
            if monotonic() < self._until:
                return self._trouble
            self._until = monotonic() + self._longest_s  # the others wait for what this one finds
            self._trying = True
            return ""

    def failed(self, why: str) -> None:
        """Note that the server could not be reached, or has not answered."""
        with self._lock:
            if self._trouble and not self._trying:  # one of many callers that the same outage met
                return
            self._trouble, self._trying = why, False
            self._pause_s = min(self._pause_s * _GROWTH or _FIRST_S, self._longest_s)
            self._until = monotonic() + self._pause_s

    def succeeded(self) -> None:
        """Note that the server answers."""
        if self._trouble:
            with self._lock:
                self._trouble, self._pause_s, self._trying = "", 0.0, False
