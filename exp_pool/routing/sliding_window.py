"""Sliding-window rate limiter: at most so much in any 60 seconds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from exp_pool.runtime.clock import monotonic


@dataclass(slots=True)
class WindowEntry:
    """An amount that was taken at a time, estimated first and corrected later."""

    at: float
    amount: int


class SlidingWindow:
    """A rate limiter: what was taken in the last `period_s` seconds never exceeds `limit`.

    It keeps a log. A token bucket lets twice the limit pass in one window, half of it saved up, half of it new.
    """

    def __init__(self, limit: int, period_s: float = 60.0) -> None:
        self.limit, self._period_s = limit, period_s
        self._log: deque[WindowEntry] = deque()
        self._total = 0

    def wait_s(self, amount: int) -> float:
        """Seconds until so much may be taken; 0: now; infinity: never, it is above the limit."""
        if amount > self.limit:
            return float("inf")
        now = monotonic()
        while self._log and self._log[0].at + self._period_s <= now:
            self._total -= self._log.popleft().amount
        excess = self._total + amount - self.limit
        wait = 0.0
        for taken in self._log:
            if excess <= 0:
                break
            excess -= taken.amount
            wait = taken.at + self._period_s - now
        return wait

    def take(self, amount: int) -> WindowEntry:
        """Count an amount from now on."""
        taken = WindowEntry(monotonic(), amount)
        self._log.append(taken)
        self._total += amount
        return taken

    def correct(self, taken: WindowEntry, amount: int) -> None:
        """Replace an amount that was estimated. Where it was more, later ones wait for longer."""
        if taken.at + self._period_s > monotonic():
            self._total += amount - taken.amount
            taken.amount = amount


def with_limit(window: SlidingWindow | None, limit: int | None) -> SlidingWindow | None:
    """The rate limiter with another limit, if any: what was taken still counts."""
    if limit is None or window is None:
        return None if limit is None else SlidingWindow(limit)
    window.limit = limit
    return window
