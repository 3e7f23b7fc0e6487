"""Counters of one manager: what has happened in this process since it was made, in memory."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, fields

from exp_pool.runtime.display import Shown
from exp_pool.runtime.forks import reinit_after_fork


@dataclass(frozen=True, slots=True, repr=False)
class Stats(Shown):
    """The numbers of `manager.stats()`, at one moment.

    `hits`: calls answered from the pool. `misses`: calls that ran the function with the pool in use. `coalesced`: calls
    that were given the answer of an identical one that was running. `uncached`: calls that could not be told from
    others. `degraded`: how often something went wrong with the pool and was left out. `repaired`: how often
    the index was built anew because it was damaged. `unscored`: how often a scorer gave no score. `saved_...`: what
    hits and coalesced calls did not have to do: calls, and of hits the seconds, US dollars and tokens recorded with
    each answer.
    """

    hits: int = 0
    misses: int = 0
    coalesced: int = 0
    stored: int = 0
    degraded: int = 0
    uncached: int = 0
    embedded: int = 0
    indexed: int = 0
    repaired: int = 0
    scored: int = 0
    unscored: int = 0
    evicted: int = 0
    saved_calls: int = 0
    saved_time_s: float = 0.0
    saved_money_usd: float = 0.0
    saved_tokens_in: int = 0
    saved_tokens_out: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class CacheInfo(Shown):
    """A decorated function's numbers in this process, and how many of its answers are stored now."""

    hits: int
    misses: int
    coalesced: int
    currsize: int


@reinit_after_fork(keep=("_counts", "_of_function"))
class Counters:
    """Counts. Thread-safe."""

    def __init__(self) -> None:
        self._counts: dict[str, float] = {field.name: 0 for field in fields(Stats)}
        self._of_function: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()  # another thread of the parent may have held it

    def add(self, name: str, count: int = 1) -> None:
        """Add to one of the counts of `Stats`."""
        with self._lock:
            self._counts[name] += count

    def called(self, function: str, how: str, metric: str = "{}", count: int = 1) -> None:
        """Count calls of a function.

        Args:
            function: its name.
            how: how they ended: ``"hits"``, ``"misses"`` or ``"coalesced"``.
            metric: JSON of what the reused answer has cost when it was made, for `saved_...`.
            count: how many calls.
        """
        with self._lock:
            self._counts[how] += count
            self._of_function[function, how] = self._of_function.get((function, how), 0) + count
            if how != "misses":
                self._counts["saved_calls"] += count
                for name, amount in json.loads(metric).items():
                    saved = f"saved_{name}"
                    if saved in self._counts and isinstance(amount, int | float):
                        self._counts[saved] += amount * count

    def of_function(self, function: str) -> tuple[int, int, int]:
        """Hits, misses and coalesced calls of a function."""
        with self._lock:
            hits, misses, coalesced = (
                self._of_function.get((function, how), 0) for how in ("hits", "misses", "coalesced")
            )
        return hits, misses, coalesced

    def snapshot(self) -> Stats:
        """The numbers now."""
        with self._lock:
            return Stats(**self._counts)  # type: ignore[arg-type]  # counts of whole things stay whole
