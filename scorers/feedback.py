"""``feedback``: what people and programs said of an experience, 0 to 1, drawn to the middle while there is little."""

from __future__ import annotations

from exp_pool.errors import ConfigurationError, NotScorableError
from exp_pool.protocols import Score, ScoreContext


class FeedbackScorer:
    """The mean of the feedback values together with `weight` imagined ones of value `prior`.

    That is the posterior mean under a beta prior of this mean and weight (of values that are 0 or 1). So a single
    "1.0" makes 0.67, and ten of them 0.92: one click is no proof.

    Args:
        prior: what an experience is worth before anybody has said anything, 0 to 1.
        weight: how many values the prior counts as, more than 0.
        at_least: how many values there must be before there is a score.

    Raises:
        ConfigurationError: one of these cannot be.
    """

    name = "feedback"

    def __init__(self, *, prior: float = 0.5, weight: float = 2.0, at_least: int = 1) -> None:
        if not (0 <= prior <= 1 and weight > 0 and at_least >= 1):
            raise ConfigurationError(
                f"prior={prior!r} must be 0 to 1, weight={weight!r} more than 0, at_least={at_least!r} 1 or more"
            )
        self._prior, self._weight, self._at_least = prior, weight, at_least
        self.version = f"{prior:g}/{weight:g}"

    def __call__(self, context: ScoreContext, /) -> Score:
        """The score.

        Raises:
            NotScorableError: there is not enough feedback yet.
        """
        count = len(context.feedback)
        if count < self._at_least:
            raise NotScorableError(f"there are {count} feedback values, of {self._at_least} needed")
        value = (self._prior * self._weight + sum(context.feedback)) / (self._weight + count)
        reason = f"mean {sum(context.feedback) / count:.3f} of {count}"
        return Score(value=value, reason=reason)
