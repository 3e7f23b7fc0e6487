"""Judges: may a stored experience answer this call? By default only an identical request may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from exp_pool.errors import ConfigurationError
from exp_pool.plugs import offers
from exp_pool.protocols import Judge, Question, Verdict


def _check_share(name: str, value: float | None, low: float = 0.0) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= 1):
        raise ConfigurationError(f"{name}={value!r} must be between {low:g} and 1")


@dataclass(frozen=True, slots=True)
class ExactJudge:
    """An identical request is answered; nothing else is (the default)."""

    candidates: int = 0

    def judge(self, question: Question) -> Verdict:
        """The identical request's answer, if there is one."""
        hit = next((hit for hit in question.hits if hit.found_by == "exact"), None)
        return Verdict(hit, "identical request" if hit else "no identical request")


@dataclass(frozen=True, slots=True)
class PerfectJudge:
    """An identical request is answered where its experience is scored at least `min_score`.

    MetaGPT's judge: it asks for the best score there is.
    """

    min_score: float = 1.0
    candidates: int = 0

    def __post_init__(self) -> None:
        _check_share("min_score", self.min_score)

    def judge(self, question: Question) -> Verdict:
        """The identical request's answer, if it is good enough; one without a score is not."""
        for hit in question.hits:
            score = hit.experience.score
            if hit.found_by == "exact" and score is not None and score.value >= self.min_score:
                return Verdict(hit, f"identical request, score {score.value:g}")
        return Verdict(None, f"no identical request with a score of {self.min_score:g}")


@dataclass(frozen=True, slots=True)
class ThresholdJudge:
    """The most similar request in the same reuse scope answers, if it is similar enough; an identical one before it.

    A fixed threshold promises no error rate: on real question pairs a cosine of 0.92 is wrong for one request in fifty,
    and some of those pairs differ in nothing but a "not".

    Args:
        min_similarity: cosine from which a request counts as the same, 0 to 1.
        min_score: the least score of the experience; one without a score is not reused then.
        candidates: how many similar experiences are looked at.
    """

    min_similarity: float
    min_score: float | None = None
    candidates: int = 5

    def __post_init__(self) -> None:
        _check_share("min_similarity", self.min_similarity)
        _check_share("min_score", self.min_score)
        if not isinstance(self.candidates, int) or self.candidates < 1:
            raise ConfigurationError(
                f"candidates={self.candidates!r} must be at least 1; for identical requests use ExactJudge()"
            )

    def judge(self, question: Question) -> Verdict:
        """The first hit that is similar and good enough."""
        for hit in question.hits:
            score = hit.experience.score
            if hit.similarity >= self.min_similarity and good_enough(
                None if score is None else score.value, self.min_score
            ):
                return Verdict(hit, f"similarity {hit.similarity:.3f}")
        return Verdict(None, f"nothing with a similarity of {self.min_similarity:g} and the score asked for")


def good_enough(score: float | None, least: float | None) -> bool:
    """Whether a score reaches the least one asked for; where one is asked for, no score is not enough."""
    return least is None or (score is not None and score >= least)


def resolve_judge(judge: object) -> Judge | None:
    """The judge of a decorator's option; None for the default, which needs no step of its own.

    Raises:
        ConfigurationError: it is neither ``"exact"`` nor a judge.
    """
    if judge == "exact" or isinstance(judge, ExactJudge):
        return None
    if offers(judge, Judge):
        return cast("Judge", judge)
    raise ConfigurationError(
        f"judge={judge!r} is no judge; use 'exact', PerfectJudge(), ThresholdJudge(0.9) or one of your own"
    )
