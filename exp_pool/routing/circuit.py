"""Circuit breaker of an endpoint: one that keeps failing is left alone for a while; then one request probes it.

See M. Nygard, Release It! (2007). It is not `runtime.breaker`, which opens at the first lost connection:
here a request may fail for reasons of its own, a probe may be cancelled (the loser of a hedge) and must not keep the
circuit, and strategies look at circuits that they do not enter.
"""

from __future__ import annotations

from exp_pool.runtime.clock import monotonic

_LONGEST_S = 60.0
_GROWTH = 2.0


class Circuit:
    """A circuit breaker. It belongs to one event loop.

    Args:
        after: so many failures in a row open it.
        pause_s: until the first probe; twice as long after each probe that fails.
    """

    def __init__(self, after: int, pause_s: float) -> None:
        self._after, self._first_s = after, pause_s
        self._failures = 0
        self._why = ""
        self._pause_s = 0.0
        self._until: float | None = None  # None: closed
        self._probing = False
        self.unwell = ""  # why, by its own health check

    def adjust(self, after: int, pause_s: float) -> None:
        """Take other settings, from the next failure on."""
        self._after, self._first_s = after, pause_s

    @property
    def state(self) -> str:
        """``closed``, ``open``, or ``half-open``: the next request, or the one under way, is the probe."""
        if self.unwell:
            return "open"
        if self._until is None:
            return "closed"
        return "open" if monotonic() < self._until else "half-open"

    def refusal(self) -> str:
        """Why no request should be sent now; ``""``: one may."""
        if self.unwell:
            return f"its health check failed: {self.unwell}"
        if self._until is None:
            return ""
        if (left := self._until - monotonic()) > 0:
            return f"left alone for {left:.1f} s more after: {self._why}"
        return f"one request is trying it after: {self._why}" if self._probing else ""

    def enter(self) -> bool:
        """Note that a request is sent, which `refusal` allowed. Whether it is the probe."""
        self._probing = self._until is not None
        return self._probing

    def left(self, *, probe: bool) -> None:
        """Note that a request was given up: nothing is known, and the next one may be the probe."""
        if probe:
            self._probing = False

    def succeeded(self) -> None:
        """Note an answer; also to a request that began before the circuit opened."""
        self._failures, self._why, self._pause_s, self._until, self._probing = 0, "", 0.0, None, False

    def failed(self, why: str, *, probe: bool, pause_s: float = 0.0) -> None:
        """Note a failure.

        Args:
            why: what refusals say.
            probe: whether the request was the probe.
            pause_s: seconds that the server asked to be left alone.
        """
        if probe:
            self._probing = False
        elif self._until is not None:  # one of many requests that the same outage met
            return
        self._failures += 1
        if probe or self._failures >= self._after or pause_s:
            self._pause_s = min(self._pause_s * _GROWTH or self._first_s, max(_LONGEST_S, self._first_s))
            self._why, self._until = why, monotonic() + max(self._pause_s, pause_s)
