"""Judges: whether a stored experience may answer a call. By default only that of an identical request may.

Whoever answers by similarity stands behind the guard (`exp_pool.reuse.guard`): `ThresholdJudge` by itself, a judge of
your own by `guarded`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from inspect import isawaitable
from itertools import repeat
from typing import ClassVar, TypeAlias, cast

from exp_pool.core.contracts.plugs import Judge, Question, Verdict
from exp_pool.core.results import Hit
from exp_pool.errors import ConfigurationError
from exp_pool.reuse.boilerplate import without_boilerplate
from exp_pool.reuse.option_checks import check_number
from exp_pool.runtime.plugs import offers


@dataclass(frozen=True, slots=True)
class ExactJudge:
    """An identical request is answered; nothing else is (the default)."""

    candidates: int = 0
    pure: ClassVar[bool] = True

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
    pure: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("min_score", self.min_score)

    def judge(self, question: Question) -> Verdict:
        """The identical request's answer, if it is good enough; one without a score is not."""
        there = ""
        for hit in question.hits:
            score = hit.experience.score
            if hit.found_by == "exact" and score is not None and score.value >= self.min_score:
                return Verdict(hit, f"identical request, score {score.value:g}")
            if hit.found_by == "exact":
                there = f" (that of the stored one: {'none' if score is None else format(score.value, 'g')})"
        return Verdict(None, f"no identical request with a score of {self.min_score:g}{there}")


@dataclass(frozen=True, slots=True)
class ThresholdJudge:
    """The most similar request in the same reuse scope answers, if it is similar enough; an identical one before it.

    A fixed threshold promises no error rate: on real question pairs a cosine of 0.92 is wrong for one request in fifty,
    and some of those pairs differ in nothing but a "not". Those the guard takes out.

    Args:
        min_similarity: cosine from which a request counts as the same, 0 to 1.
        min_score: the least score of the experience; one without a score is not reused then.
        candidates: how many similar experiences are looked at.
        guard: whether those are passed over whose text differs from the request in a negation, a number, a name or
            what else `exp_pool.reuse.guard` sees. False where the texts are no language.
    """

    min_similarity: float
    min_score: float | None = None
    candidates: int = 5
    guard: bool = True
    pure: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("min_similarity", self.min_similarity)
        if self.min_score is not None:
            check_number("min_score", self.min_score)
        if not isinstance(self.candidates, int) or self.candidates < 1:
            raise ConfigurationError(
                f"candidates={self.candidates!r} must be at least 1; for identical requests use ExactJudge()"
            )

    def judge(self, question: Question) -> Verdict:
        """The first hit that is similar and good enough, and to which the guard has no objection.

        What the guard objects to in one hit counts for those behind it, too, see `exp_pool.reuse.guard.objections`.
        """
        near = [hit for hit in question.hits if hit.similarity >= self.min_similarity and self._good(hit)]
        vetoes: list[str] = []
        for hit, veto in _with_objections(question.request, near) if self.guard else zip(near, repeat(None)):
            if veto is None:
                return Verdict(hit, f"similarity {hit.similarity:.3f}")
            vetoes.append(f"similarity {hit.similarity:.3f}, but {veto}")
        return Verdict(None, "; ".join(vetoes) or self._lacking(question.hits) + _of_the_rest(question))

    def _lacking(self, hits: Sequence[Hit]) -> str:
        """What the most similar one lacks."""
        if not hits:
            return "nothing was found"
        best = max(hits, key=lambda hit: hit.similarity)
        found = f"the most similar request has a similarity of {best.similarity:.3f}"
        if best.similarity < self.min_similarity:
            return f"{found}, below {self.min_similarity:g}"
        score = best.experience.score
        has = "no score" if score is None else f"a score of {score.value:g}"
        return f"{found}, but {has}, and {self.min_score:g} is asked for"

    def _good(self, hit: Hit) -> bool:
        score = hit.experience.score
        return good_enough(None if score is None else score.value, self.min_score)


# ── Behind the guard, and together ────────────────────────────────────────────────────────────────────────────────────


def _with_objections(request: str, hits: Sequence[Hit]) -> Iterator[tuple[Hit, str | None]]:
    """Each hit with what the guard objects to in it, one by one; to an identical request it never objects."""
    from exp_pool.reuse.guard import objections  # its word lists take 40 ms, for those who want them

    similar = [hit for hit in hits if hit.found_by != "exact"]
    yield from ((hit, None) for hit in hits if hit.found_by == "exact")
    for hit, (_, veto) in zip(similar, objections(request, (hit.experience.request for hit in similar)), strict=True):
        yield hit, veto


def _of_the_rest(question: Question) -> str:
    """For people: which parts were compared, where these are not the whole texts."""
    nearest = max(question.hits, key=lambda hit: hit.similarity, default=None)
    parts = None if nearest is None else without_boilerplate(question.request, nearest.experience.request)
    if nearest is None or parts is None:
        return ""
    mine, other = (part if len(part) <= _SHOWN else f"{part[:_SHOWN]}…" for part in parts)
    return f"; it shares most of its text with that one, so only the rest was compared: {mine!r} with {other!r}"


_SHOWN = 60  # characters of a text


def guarded(judge: Judge) -> Judge:
    """Put the guard before a judge, which then never sees a similar hit that the guard vetoes.

    Args:
        judge: any judge, ``def`` or ``async def``. `ThresholdJudge` needs none of this.

    Raises:
        ConfigurationError: it is no judge.
    """
    return _Guarded([judge])


def all_of(*judges: Judge) -> Judge:
    """A judge that answers with the first hit that all of these choose, when each is shown that hit alone.

    Put the cheap ones first: the next judge is asked only about what those before it chose.

    Raises:
        ConfigurationError: none is given, one is no judge, or one learns.
    """
    return _AllOf(judges)


def any_of(*judges: Judge) -> Judge:
    """A judge that answers with the choice of the first of these judges that does not abstain.

    One that raises has abstained; if none answers, its error is raised.

    Raises:
        ConfigurationError: none is given, one is no judge, or one learns.
    """
    return _AnyOf(judges)


# One way of asking judges with `def` and with `async def`: what has to be awaited is yielded, and sent back.
_Decision: TypeAlias = Generator[Verdict | Awaitable[Verdict], Verdict, Verdict]


class _CompositeJudge:
    """A judge that asks others, each ``def`` or ``async def``.

    Attributes:
        judges: those that it asks.
        candidates: as many as the one wants that wants most.
        pure: whether all of them are.
    """

    def __init__(self, judges: Sequence[object]) -> None:
        if not judges:
            raise ConfigurationError("all_of() and any_of() need at least one judge")
        for judge in judges:
            if not offers(judge, Judge):
                raise ConfigurationError(f"{judge!r} is no judge; it needs `candidates` and `judge(question)`")
            if getattr(judge, "learns", False) is True:
                raise ConfigurationError(
                    f"{judge!r} has to stand alone: it counts what it answers, and what becomes of it. It has the "
                    "guard built in"
                )
        self.judges = cast("tuple[Judge, ...]", tuple(judges))
        self.candidates = max(judge.candidates for judge in self.judges)
        self.pure = all(getattr(judge, "pure", False) is True for judge in self.judges)

    def __repr__(self) -> str:
        return f"{type(self).__name__.lstrip('_')}({', '.join(map(repr, self.judges))})"

    def judge(self, question: Question) -> Verdict | Awaitable[Verdict]:
        """The verdict; an awaitable only from where one of them has to be awaited."""
        return _drive(self._decide(question))

    def _decide(self, question: Question) -> _Decision:
        raise NotImplementedError


class _AllOf(_CompositeJudge):
    def _decide(self, question: Question) -> _Decision:
        hits = question.hits
        against = "nothing was found"
        while hits:
            first = yield _ask(self.judges[0], replace(question, hits=hits))
            chosen = _chosen_of(first, hits)
            if chosen is None:
                return Verdict(None, first.reason)
            reasons = [first.reason]
            for judge in self.judges[1:]:
                verdict = yield _ask(judge, replace(question, hits=(chosen,)))
                reasons.append(verdict.reason)
                if _chosen_of(verdict, (chosen,)) is None:
                    break
            else:
                return Verdict(chosen, "; ".join(filter(None, reasons)))
            against = reasons[-1]
            hits = tuple(hit for hit in hits if hit is not chosen)
        return Verdict(None, against)


class _AnyOf(_CompositeJudge):
    def _decide(self, question: Question) -> _Decision:
        reasons: list[str] = []
        error: Exception | None = None
        for judge in self.judges:
            try:
                verdict = yield _ask(judge, question)
                chosen = _chosen_of(verdict, question.hits)
            except Exception as err:
                error = error or err
                continue
            if chosen is not None:
                return Verdict(chosen, verdict.reason)
            reasons.append(verdict.reason)
        if error is not None:
            raise error
        return Verdict(None, "; ".join(filter(None, reasons)))


class _Guarded(_CompositeJudge):
    def _decide(self, question: Question) -> _Decision:
        judged = list(_with_objections(question.request, question.hits))
        shown = replace(question, hits=tuple(hit for hit, veto in judged if veto is None))
        vetoes = "; ".join(f"similarity {hit.similarity:.3f}, but {veto}" for hit, veto in judged if veto is not None)
        if not shown.hits:
            return Verdict(None, vetoes or "nothing was found")
        verdict = yield _ask(self.judges[0], shown)
        chosen = _chosen_of(verdict, shown.hits)
        return Verdict(chosen, verdict.reason if chosen else "; ".join(filter(None, (vetoes, verdict.reason))))


def _ask(judge: Judge, question: Question) -> Verdict | Awaitable[Verdict]:
    """What a judge says, who is shown no more hits than it wants; an identical request's is always shown."""
    similar = [hit for hit in question.hits if hit.found_by != "exact"][: judge.candidates]
    exact = [hit for hit in question.hits if hit.found_by == "exact"]
    return judge.judge(replace(question, hits=(*exact, *similar)))


def _chosen_of(verdict: Verdict, hits: Sequence[Hit]) -> Hit | None:
    """The hit that was chosen, of those that were shown: a judge may name any other."""
    chosen = verdict.hit
    return None if chosen is None else next((hit for hit in hits if hit.experience.id == chosen.experience.id), None)


def _drive(decision: _Decision) -> Verdict | Awaitable[Verdict]:
    """The decision, at once where no judge has to be awaited."""
    try:
        answer = next(decision)
        while not isawaitable(answer):
            answer = decision.send(answer)
    except StopIteration as end:
        return cast("Verdict", end.value)
    return _drive_async(decision, answer)


async def _drive_async(decision: _Decision, answer: Verdict | Awaitable[Verdict]) -> Verdict:
    try:
        while True:
            try:
                verdict = await answer if isawaitable(answer) else answer
            except Exception as err:
                answer = decision.throw(err)
            else:
                answer = decision.send(verdict)
    except StopIteration as end:
        return cast("Verdict", end.value)


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
