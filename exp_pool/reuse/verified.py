"""`VerifiedJudge`: reuse by similarity with a bound on wrong answers. It learns from the calls that it lets run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from exp_pool.core.contracts.plugs import Question, Verdict
from exp_pool.core.results import Hit
from exp_pool.errors import ConfigurationError, InvalidInputError
from exp_pool.reuse.judge_memory import JudgeMemory
from exp_pool.reuse.option_checks import check_count, is_number
from exp_pool.reuse.pair_features import PairFeatures, pair_features
from exp_pool.reuse.training_examples import TrainingExample

_LARGEST_RATE = 0.5


@dataclass(frozen=True, slots=True)
class VerifiedJudge:
    """Similar requests are answered as long as wrong answers stay within a share of all requests.

    It starts by abstaining. Each abstention runs the function, whose answer says whether the stored one would have
    been right: that labels the pair of requests. From labels it learns which pairs may be reused: boosted trees on
    their similarity, their words, and what the guard (`reuse.guard`) says of them, whose veto is final; and which
    words tell (`reuse.wording_model`). It answers those that are surest, and lets some of these run all the same, by
    the toss of a coin with known odds: what it finds there bounds what it does not see.

    What is promised: with the given confidence, at every moment, wrong answers are at most `max_error_rate` of all
    requests so far that it was asked about, whatever the requests are and in whatever order they come (`reuse.bound`
    states the theorem). Identical requests are answered as always and count as neither. It takes evidence: at a rate
    of 0.02 some 650 requests of a function pass before the first answer. What is not promised: that the rate holds
    within any stretch of requests by itself; and nothing at all where `same` is wrong about what is the same.

    What was learned belongs to one function and version in one namespace. It is kept in the store, as numbers, and
    shared by all processes. When answers go wrong more often than predicted, it forgets what it learned, says so once,
    and abstains until it has learned anew.

    Args:
        max_error_rate: wrong answers per request, above 0, at most 0.5.
        confidence: of the promise, above 0.5, below 1.
        same: whether a stored and a live response are the same: ``same(stored, live)``, ``def`` or ``async def``; or
            the name of a scorer, which rates the stored response with the live one as `expected` (0.5 or more counts
            as the same). By default they are the same when they are equal but for case, spaces and punctuation at the
            end. It is asked on a thread of its own, one pair after the other, for at most 30 s each.
        candidates: how many similar experiences are looked at; each takes about half a millisecond.

    Raises:
        ConfigurationError: a value that cannot be.
    """

    max_error_rate: float = 0.02
    confidence: float = 0.95
    same: Callable[[Any, Any], Any] | str | None = None
    candidates: int = 1
    taught: tuple[tuple[str, str, bool], ...] = field(default=(), repr=False)
    pure: ClassVar[bool] = True
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        rate, confidence = self.max_error_rate, self.confidence
        if not is_number(rate) or not 0 < rate <= _LARGEST_RATE:
            raise ConfigurationError(
                f"max_error_rate={rate!r} must be above 0 and at most 0.5: the share of all requests that may be "
                "answered wrongly, such as 0.02"
            )
        if not is_number(confidence) or not 0.5 < confidence < 1:  # noqa: PLR2004
            raise ConfigurationError(f"confidence={confidence!r} must be above 0.5 and below 1, such as 0.95")
        if not (self.same is None or callable(self.same) or (isinstance(self.same, str) and self.same)):
            raise ConfigurationError(f"same={self.same!r} must be a callable(stored, live) or the name of a scorer")
        check_count("candidates", self.candidates)

    @classmethod
    def fit(cls, pairs: Iterable[tuple[str, str, Any]], **settings: Any) -> Self:
        """A judge that has been taught: it knows from the first request on which pairs are sure.

        The bound still has to be earned on live requests: what others labelled, elsewhere, proves nothing about these.

        Args:
            pairs: (request, other request, whether one answer serves both); the pool's embedder embeds them.
            settings: those of the judge.

        Raises:
            InvalidInputError: something else than such pairs, or none.
        """
        taught = tuple(labelled(pairs))
        if not taught:
            raise InvalidInputError(
                "there are no pairs to learn from; give (request, other request, same answer?) tuples"
            )
        return cls(taught=taught, **settings)

    def judge(self, question: Question) -> Verdict:
        """The hit that is surest to be right, if the bound allows it; in any case an example to be learned from."""
        exact = next((hit for hit in question.hits if hit.found_by == "exact"), None)
        if exact is not None:
            return Verdict(exact, "identical request")
        memory = question.memory
        if not isinstance(memory, JudgeMemory):
            return Verdict(None, "nothing is known of this function: only identical requests are answered")
        from exp_pool.reuse.guard import objections  # when needed: its word lists take 40 ms

        seen = list(objections(question.request, (hit.experience.request for hit in question.hits)))
        pairs = [
            pair_features(question.request, hit.experience.request, hit.similarity, found)
            for hit, (found, _) in zip(question.hits, seen, strict=True)
        ]
        predictions = memory.predict(pairs)
        if predictions is None:
            why = f"too little is known yet: {memory.evidence} (similarity {question.hits[0].similarity:.3f})"
            return Verdict(None, why, question.hits[0], TrainingExample(pairs[0], None, 1.0))
        vetoes = [veto for _, veto in seen]
        best = min(range(len(pairs)), key=lambda place: (vetoes[place] is not None, predictions[place]))
        return _verdict(memory, question.hits[best], pairs[best], predictions[best], vetoes[best])


def _verdict(memory: JudgeMemory, hit: Hit, pair: PairFeatures, predicted: float, veto: str | None) -> Verdict:
    chance = memory.chance(predicted) if veto is None and memory.allows(predicted) else 1.0
    if chance >= 1:
        most = f"may be at most {max(memory.rule.limit, 0):.3f} now, with {memory.evidence}"
        why = f"similarity {hit.similarity:.3f}, " + (veto or f"chance of being wrong {predicted:.3f}, {most}")
        return Verdict(None, why, hit, TrainingExample(pair, predicted, 1.0))
    example = TrainingExample(pair, predicted, chance)
    if memory.coin.random() < chance:
        return Verdict(hit, f"explored, as is one in {1 / chance:.0f} like it", hit, example, live=True)
    return Verdict(hit, f"chance of being wrong {predicted:.3f}", hit, example)


def labelled(pairs: Iterable[tuple[str, str, Any]]) -> list[tuple[str, str, bool]]:
    """The pairs (request, other request, whether one answer serves both), looked at.

    Raises:
        InvalidInputError: something else than such pairs.
    """
    if not isinstance(pairs, Iterable):
        raise InvalidInputError(f"{pairs!r:.80} is no list of labelled pairs: (request, other request, True or False)")
    checked = []
    for pair in pairs:
        match pair:
            case (str() as request, str() as other, same) if same in (0, 1):
                checked.append((request, other, bool(same)))
            case _:
                raise InvalidInputError(f"{pair!r:.120} is no labelled pair: (request, other request, True or False)")
    return checked
