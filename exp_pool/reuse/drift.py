"""Drift detection: an alarm when answers go wrong more often than was predicted. Pure.

Each label is a bet that wrong answers come more often than predicted: while the predictions hold, a better's wealth
does not grow on average, however the requests are ordered. Wealth that fell below 1 begins again at 1, so the bets are
on "from some moment on": an e-detector, here of the CUSUM kind (Shin, Ramdas, Rinaldo: E-detectors, 2024), which raises
a false alarm once in `_PATIENCE` labels on average or more rarely.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_PATIENCE = 1e6
_SLACK, _FACTOR = 0.02, 1.3  # predictions that are a little low are no drift: the aim and the bound take care of those
_RELIED_ON = 0.5  # pairs that are predicted to be wrong are not answered
_STAKES = (0.1, 0.3, 0.8)


@dataclass(slots=True)
class DriftDetector:
    """The drift detector of one function. It is told of every label."""

    _wealth: list[float] = field(default_factory=lambda: [1.0] * len(_STAKES))

    def raised_by(self, predicted: float, *, wrong: bool) -> bool:
        """Whether this label, on top of those before it, raises the alarm."""
        if predicted > _RELIED_ON:
            return False
        expected = min(_FACTOR * predicted + _SLACK, 0.95)
        for place, stake in enumerate(_STAKES):
            # Fair where wrong answers are as frequent as expected: a gain of stake * (1 - expected) / expected, capped.
            gain = min(stake / expected, 4.0)
            factor = 1 + gain * (wrong - expected)
            self._wealth[place] = max(1.0, self._wealth[place]) * factor
        return sum(self._wealth) / len(_STAKES) >= _PATIENCE
