"""``exact``: 1 where the function's answer equals what a person says it should be, else 0."""

from __future__ import annotations

from exp_pool.errors import NotScorableError
from exp_pool.protocols import MISSING, Score, ScoreContext


class ExactScorer:
    """Compares the response with `expected`. Equal means equal in value and type."""

    name = "exact"
    version = "1"

    def __call__(self, context: ScoreContext, /) -> Score:
        """The score.

        Raises:
            NotScorableError: the experience is not annotated; it is scored once it is.
        """
        experience = context.experience
        if experience.expected is MISSING:
            raise NotScorableError("there is no expected answer to compare with; annotate the experience first")
        same = type(experience.response) is type(experience.expected) and experience.response == experience.expected
        return Score(value=float(same), reason="equals expected" if same else "differs from expected", scorer=self.name)
