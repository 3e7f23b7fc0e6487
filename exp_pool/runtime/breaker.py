"""A server that is away is not waited for by every caller: one asks now and then, the others hear at once.

The circuit breaker of M. Nygard, Release It! (2007), without a count: one lost connection is reason enough.
"""

from __future__ import annotations

import threading

from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.forks import reinit_after_fork

_FIRST_S = 0.1
_GROWTH = 2.0


@reinit_after_fork()
class Breaker:
    """Thread-safe.

    Args:
        longest_s: between two tries at most. The first comes after a tenth of a second, each next one after twice that.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._lock = threading.Lock()
        self._trouble = ""
        self._pause_s = 0.0
        self._until = 0.0
        self._trying = False

    def trouble(self) -> str:
        """Why nothing should be tried now; ``""``: try, and say how it went. One caller at a time is told to try."""
        if not self._trouble:
            return ""
        with self._lock:
            if monotonic() < self._until:
                return self._trouble
            self._until = monotonic() + self._longest_s  # the others wait for what this one finds
            self._trying = True
            return ""

    def failed(self, why: str) -> None:
        """The server could not be reached, or has not answered."""
        with self._lock:
            if self._trouble and not self._trying:  # one of many callers that the same outage met
                return
            self._trouble, self._trying = why, False
            self._pause_s = min(self._pause_s * _GROWTH or _FIRST_S, self._longest_s)
            self._until = monotonic() + self._pause_s

    def succeeded(self) -> None:
        """It answers."""
        if self._trouble:
            with self._lock:
                self._trouble, self._pause_s, self._trying = "", 0.0, False
