"""Exponential backoff of pending tasks that failed: 2 s, 4 s, 8 s, ... at most an hour.

How often a task was tried stands in the row, so that all processes together count. Therefore no library for retries
within a process, such as tenacity, serves here.
"""

from __future__ import annotations

from exp_pool.core.contracts.plugs import Completion
from exp_pool.core.record import Record, TaskKind
from exp_pool.runtime.clock import now_us

_FIRST_S, _LONGEST_S = 2.0, 3600.0
_DOUBLINGS = 30  # more than make the longest wait; without a limit a float overflows after a thousand tries


def wait_s(tries: int) -> float:
    """Seconds from a failed try to the next one, after so many failed tries before."""
    return min(_FIRST_S * 2.0 ** min(tries, _DOUBLINGS), _LONGEST_S)


def postpone(record: Record, task: TaskKind, seconds: float) -> Completion:
    """What to tell the store where a task on a row failed and is to be tried again.

    Args:
        record: the row.
        task: what failed.
        seconds: from now to the next try.
    """
    return Completion(record.namespace, record.id, task, done=False, retry_at=now_us() + int(seconds * 1e6))
