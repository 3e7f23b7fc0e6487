"""What has happened in this process since the manager was made: plain numbers, in memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields

from exp_pool.forks import reset_in_child


@dataclass(frozen=True, slots=True)
class Stats:
    """A moment's numbers.

    `hits`: calls answered from the pool. `misses`: calls that ran the function with the pool in use. `uncached`: calls
    that could not be told from others. `degraded`: how often something went wrong with the pool and was left out.
    """

    hits: int = 0
    misses: int = 0
    coalesced: int = 0
    stored: int = 0
    degraded: int = 0
    uncached: int = 0
    embedded: int = 0
    indexed: int = 0
    scored: int = 0


class Counters:
    """Counts from any thread."""

    def __init__(self) -> None:
        self._counts = {field.name: 0 for field in fields(Stats)}
        self._start_over()
        reset_in_child(self._start_over)

    def _start_over(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it

    def add(self, name: str, count: int = 1) -> None:
        """Count up."""
        with self._lock:
            self._counts[name] += count

    def snapshot(self) -> Stats:
        """The numbers now."""
        with self._lock:
            return Stats(**self._counts)
