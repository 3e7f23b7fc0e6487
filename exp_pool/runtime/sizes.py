"""Sizes in bytes, read from text such as ``"200MB"``, and written as such.

Not pydantic's `ByteSize`, which reads ``"1,000MB"`` and ``"1.MB"`` as 1 byte, ``True`` as 1, ``"8kbit"`` as 1000, and
zero: an `int` of the same value for every text that is valid here, but no error for those that are not.
"""

from __future__ import annotations

import re

from exp_pool.errors import ConfigurationError

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_TEXT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def to_bytes(size: object, name: str = "max_bytes") -> int | None:
    """The size in bytes; None stays None (no limit).

    Args:
        size: a number of bytes, or text with a unit.
        name: of the setting, for errors.

    Raises:
        ConfigurationError: `size` is no size, or not above zero.
    """
    if size is None:
        return None
    found: float | None = None
    if isinstance(size, int) and not isinstance(size, bool):
        found = size
    elif isinstance(size, str) and (match := _TEXT.fullmatch(size.strip().lower())) and match[2] in _UNITS:
        found = float(match[1]) * _UNITS[match[2]]
    if found is None:
        raise ConfigurationError(f"{name}={size!r} is no size; write a number of bytes, or '200MB', '1GiB'")
    if found < 1:
        raise ConfigurationError(f"{name}={size!r} must be above zero")
    return int(found)


def as_text(size: int) -> str:
    """The size in the largest unit of which it is a whole number, as `to_bytes` reads it: ``"64MiB"``, ``"200MB"``."""
    units = sorted((factor, unit) for unit, factor in _UNITS.items() if factor > 1)
    for factor, unit in reversed(units):
        if size and size % factor == 0:
            return f"{size // factor}{unit.upper().replace('IB', 'iB')}"
    return f"{size}B"
