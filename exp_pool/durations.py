"""How long an answer stays fresh: seconds, a timedelta, or text such as ``"1h"``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TypeAlias

from exp_pool.errors import ConfigurationError

Duration: TypeAlias = float | timedelta | str

_LONGEST_S = 100 * 366 * 86_400.0
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")


def to_seconds(duration: Duration | None) -> float | None:
    """The duration in seconds; None stays None (for ever).

    Raises:
        ConfigurationError: the value is no duration, or not above zero.
    """
    if duration is None:
        return None
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, str):
        seconds = _from_text(duration)
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        seconds = float(duration)
    else:
        raise ConfigurationError(f"ttl={duration!r} is no duration; give seconds, a timedelta or text such as '1h'")
    if not 0 < seconds <= _LONGEST_S:
        raise ConfigurationError(f"ttl={duration!r} must be above zero and at most a century; None means for ever")
    return seconds


def _from_text(text: str) -> float:
    """``"90"``, ``"1h"``, ``"1h30m"``, ``"500 ms"``."""
    stripped = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", stripped):
        return float(stripped)
    if not re.fullmatch(rf"(?:{_TEXT.pattern}\s*)+", stripped):
        raise ConfigurationError(f"ttl={text!r} is no duration; write for example '30s', '15m', '1h', '7d' or '1h30m'")
    return sum(float(amount) * _UNITS[unit] for amount, unit in _TEXT.findall(stripped))
