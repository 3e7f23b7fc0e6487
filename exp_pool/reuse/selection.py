"""Selection of the similar experiences that a call is shown: limit, scores, diversity (MMR) and hold-out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from exp_pool.core.contracts.plugs import ContextBuilder
from exp_pool.core.experience import Experience, ExperienceKind, json_form
from exp_pool.core.filters import Condition
from exp_pool.core.identity.request_text import json_text
from exp_pool.core.results import Hit
from exp_pool.errors import ConfigurationError
from exp_pool.reuse.option_checks import check_bool, check_count, check_number

Where: TypeAlias = tuple[Condition, ...]

_WIDER = 4  # candidates for each experience shown, where they are to differ; with 2 a cluster of five hides all else
_COMPARED = 2000  # characters of each text: what is behind does not make two experiences less alike
_ANSWERS = (ExperienceKind.SUCCESS.value, ExperienceKind.INSIGHT.value)
_FAILURE = ExperienceKind.FAILURE.value


@dataclass(frozen=True, slots=True)
class InjectedExperiences:
    """The experiences that one call is shown.

    Attributes:
        experiences: most relevant first.
        left_out: those left out at random; None where there is no hold-out.
        holdout: the probability with which each was left out.
    """

    experiences: tuple[Experience, ...] = ()
    left_out: tuple[Experience, ...] | None = None
    holdout: float = 0.0

    @property
    def parents(self) -> tuple[str, ...]:
        """The ids of those shown."""
        return tuple(experience.id for experience in self.experiences)

    @property
    def note(self) -> dict[str, Any]:
        """What the stored metadata says about it: whoever estimates an effect must know what might have been shown."""
        if self.left_out is None:
            return {}
        return {"holdout": self.holdout, "left_out": [experience.id for experience in self.left_out]}


@dataclass(frozen=True, slots=True)
class ExperienceSelection:
    """Which similar experiences are shown: always of the call's namespace, function and version, trusted and fresh.

    Args:
        limit: how many at most.
        min_similarity: the least cosine similarity, -1 to 1.
        min_score: the least score, 0 to 1; one without a score is not shown then. Failures are not asked for theirs.
        holdout: the probability, 0 up to but not 1, with which each of those that would be shown is left out,
            independently of the others and without a replacement, so that its effect can be told from chance.
        diversity: 0 to 1; how much being unlike those before it counts against being similar to the request.
        failures: whether failures are among them, too.
        fitting: of experiences in their order those for which there is room.

    Raises:
        ConfigurationError: a value is out of range.
    """

    limit: int = 5
    min_similarity: float = 0.0
    min_score: float | None = None
    holdout: float = 0.0
    diversity: float = 0.0
    failures: bool = False
    fitting: Callable[[Sequence[Experience]], Sequence[Experience]] | None = None

    def __post_init__(self) -> None:
        check_count("limit", self.limit)
        check_number("min_similarity", self.min_similarity, -1)
        if self.min_score is not None:
            check_number("min_score", self.min_score)
        check_number("holdout", self.holdout)
        if self.holdout == 1:
            raise ConfigurationError("holdout=1 would never show anything, so nothing could be compared; try 0.1")
        check_number("diversity", self.diversity)
        check_bool("failures", self.failures)

    @property
    def candidates(self) -> int:
        """How many are looked for."""
        return self.limit * _WIDER if self.diversity else self.limit

    @property
    def searches(self) -> tuple[Where, ...]:
        """The conditions of each search that it takes; conditions cannot be joined by "or", so it may take two."""
        score = () if self.min_score is None else (Condition("score", "", "gte", self.min_score),)
        answers = Condition("kind", "", "in", _ANSWERS)
        if not self.failures:
            return ((answers, *score),)
        return ((answers, *score), (Condition("kind", "", "eq", _FAILURE),)) if score else ((),)

    def choose(self, hits: Sequence[Hit], draw: Callable[[], float]) -> InjectedExperiences:
        """Choose what is shown of what was found. `draw` gives a number of [0, 1) for each candidate for `holdout`.

        What would be shown is decided first, by limit, diversity and room, and only then who of these is left out:
        nobody moves up, so each one's chance is known exactly, whatever happened to the others.
        """
        ranked = sorted(hits, key=lambda hit: -hit.similarity)
        chosen = self._fit([hit.experience for hit in diverse(ranked, self.limit, self.diversity)])
        if not self.holdout:
            return InjectedExperiences(tuple(chosen))
        drawn = [(experience, draw() < self.holdout) for experience in chosen]
        kept = self._fit([experience for experience, out in drawn if not out])
        return InjectedExperiences(tuple(kept), tuple(experience for experience, out in drawn if out), self.holdout)

    def _fit(self, experiences: Sequence[Experience]) -> Sequence[Experience]:
        return experiences if self.fitting is None else self.fitting(experiences)


@runtime_checkable
class Selective(Protocol):
    """A context builder, or `Inject`, that says which experiences it wants, not only how many."""

    @property
    def selection(self) -> ExperienceSelection:
        """Which experiences it wants."""
        ...


def selection_of(wanting: Selective | ContextBuilder) -> ExperienceSelection:
    """The selection of a builder; of one that only has a `limit`, the default one with that limit.

    Raises:
        ConfigurationError: its `limit` is no whole number above zero.
    """
    return wanting.selection if isinstance(wanting, Selective) else ExperienceSelection(wanting.limit)


def diverse(ranked: Sequence[Hit], limit: int, diversity: float) -> list[Hit]:
    """At most so many by maximal marginal relevance; without diversity the first ones.

    Each next one is that with the greatest ``(1 - diversity) * similarity - diversity * likeness``, where likeness is
    to the most alike of those before it. (Carbonell, Goldstein: The Use of MMR, Diversity-Based Reranking for
    Reordering Documents and Producing Summaries, 1998.) Likeness is the share of words that two experiences have in
    common (Jaccard), requests and answers together: vectors stand for requests only, and five different questions with
    the same answer teach as little as one.

    Args:
        ranked: by falling similarity.
        limit: how many.
        diversity: 0 to 1.
    """
    if not diversity or len(ranked) < 2:  # noqa: PLR2004  (one is like nobody)
        return list(ranked[:limit])
    words_of = [_words(hit.experience) for hit in ranked]
    alike = [0.0] * len(ranked)
    left, chosen = list(range(len(ranked))), list[Hit]()
    while left and len(chosen) < limit:
        best = max(left, key=lambda i: ((1 - diversity) * ranked[i].similarity - diversity * alike[i], -i))
        left.remove(best)
        chosen.append(ranked[best])
        for i in left:
            alike[i] = max(alike[i], _overlap(words_of[i], words_of[best]))
    return chosen


def _words(experience: Experience) -> frozenset[str]:
    from exp_pool.core.tokenizer import words  # `regex` takes 10 ms to import, and few want diversity

    return frozenset(words(f"{experience.request[:_COMPARED]}\n{text_of_value(experience.value)[:_COMPARED]}"))


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    either = len(one | other)
    return len(one & other) / either if either else 1.0


def text_of_value(value: Any) -> str:
    """An answer as people and models read it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json_text(json_form(value))
