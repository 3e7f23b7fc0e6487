"""Durations: what may be written, in seconds."""

from datetime import timedelta

import pytest

from exp_pool.core.ttl import to_seconds
from exp_pool.errors import (
    ConfigurationError,
)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        (None, None),
        (5, 5),
        (0.5, 0.5),
        (timedelta(minutes=1), 60),
        ("90", 90),
        ("1h", 3600),
        ("1h30m", 5400),
        ("500 ms", 0.5),
        ("2D", 172800),
        ("1w", 604800),
    ],
)
def test_durations(duration, seconds):
    assert to_seconds(duration) == seconds


@pytest.mark.parametrize(
    "duration", ["soon", "", "1 fortnight", "-1h", 0, -5, float("nan"), float("inf"), True, [], timedelta(0)]
)
def test_what_is_no_duration(duration):
    with pytest.raises(ConfigurationError, match="ttl="):
        to_seconds(duration)
