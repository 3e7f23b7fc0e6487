"""Clock of the package, the only one: tests replace it, so that they need not wait."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def now_us() -> int:
    """Microseconds since 1970-01-01 UTC: the form in which records keep times (exact, ordered, the same everywhere)."""
    return time.time_ns() // 1000


def monotonic() -> float:
    """Seconds on a clock that never goes back; for durations and deadlines."""
    return time.monotonic()


def now() -> datetime:
    """Now, as an aware UTC datetime, exact to the microsecond."""
    return to_datetime(now_us())


def to_datetime(microseconds: int) -> datetime:
    """The aware UTC datetime of a record's time."""
    return _EPOCH + timedelta(microseconds=microseconds)


def to_us(moment: datetime) -> int:
    """The record's time of an aware datetime. Integer arithmetic: ``timestamp()`` would round to a float."""
    return (moment - _EPOCH) // _MICROSECOND
