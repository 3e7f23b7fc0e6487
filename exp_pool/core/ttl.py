"""Time to live of answers: seconds, a timedelta, text such as ``"1h"``, or a `Ttl` that says more."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

from exp_pool.errors import ConfigurationError

Duration: TypeAlias = float | timedelta | str

_LONGEST_S = 100 * 366 * 86_400.0
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")


def to_seconds(duration: Duration | None, name: str = "ttl") -> float | None:
    """The duration in seconds; None stays None (for ever).

    Raises:
        ConfigurationError: the value is no duration, or not above zero.
    """
    if duration is None:
        return None
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, str):
        seconds = _from_text(duration, name)
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        seconds = float(duration)
    else:
        raise ConfigurationError(f"{name}={duration!r} is no duration; give seconds, a timedelta or text such as '1h'")
    if not 0 < seconds <= _LONGEST_S:
        raise ConfigurationError(f"{name}={duration!r} must be above zero and at most a century")
    return seconds


def _from_text(text: str, name: str) -> float:
    """``"90"``, ``"1h"``, ``"1h30m"``, ``"500 ms"``."""
    stripped = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", stripped):
        return float(stripped)
    if not re.fullmatch(rf"(?:{_TEXT.pattern}\s*)+", stripped):
        raise ConfigurationError(
            f"{name}={text!r} is no duration; write for example '30s', '15m', '1h', '7d' or '1h30m'"
        )
    return sum(float(amount) * _UNITS[unit] for amount, unit in _TEXT.findall(stripped))


def as_text(seconds: float) -> str:
    """As `to_seconds` reads it: ``"90d"``, ``"1h30m"``, ``"500ms"``, ``"2.5s"``."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    left, parts = seconds, []
    for unit in ("d", "h", "m"):
        whole, left = divmod(left, _UNITS[unit])
        if whole:
            parts.append(f"{whole:.0f}{unit}")
    if left or not parts:
        parts.append(f"{left:g}s")
    return "".join(parts)


@dataclass(frozen=True)
class Ttl:
    """How long an answer stays fresh, and what may be served after that.

    Args:
        after: fresh for so long (seconds, a timedelta or ``"1h"``).
        jitter: 0 to 1: the share of `after` by which each answer may expire earlier, at random, so that answers stored
            together are not renewed together.
        stale: so long after its expiry the answer is still served to calls that come while one call renews it.
        if_error: so long after its expiry the answer is still served where renewing it raises.
        early: an answer that is asked for within so long before its expiry is given, and renewed in the background:
            what is asked for often never expires. Less than `after`; for plain and coroutine functions.

    Raises:
        ConfigurationError: a value that is no duration, or out of range.
    """

    after: Duration
    jitter: float = 0.0
    stale: Duration = 0.0
    if_error: Duration = 0.0
    early: Duration = 0.0
    after_s: float = field(init=False, repr=False, compare=False)
    stale_s: float = field(init=False, repr=False, compare=False)
    if_error_s: float = field(init=False, repr=False, compare=False)
    early_s: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.jitter, bool) or not isinstance(self.jitter, int | float) or not 0 <= self.jitter <= 1:
            raise ConfigurationError(f"Ttl(jitter={self.jitter!r}) must be between 0 and 1: a share of `after`")
        if self.after is None:
            raise ConfigurationError("Ttl(after=None): nothing would expire; give a duration, or no ttl at all")
        object.__setattr__(self, "after_s", to_seconds(self.after))
        for name in ("stale", "if_error", "early"):
            value = getattr(self, name)
            seconds = 0.0 if value in (0, None) and not isinstance(value, bool) else to_seconds(value)
            object.__setattr__(self, f"{name}_s", seconds)
        if self.early_s >= self.after_s:
            raise ConfigurationError(f"Ttl(early={self.early!r}) must be less than after={self.after!r}")

    @classmethod
    def of(cls, duration: Duration | Ttl | None) -> Ttl | None:
        """The duration as a `Ttl`; None stays None (for ever).

        Raises:
            ConfigurationError: the value is no duration.
        """
        return duration if isinstance(duration, Ttl) or duration is None else cls(duration)
