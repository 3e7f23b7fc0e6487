"""``composite``: several scorers as one, by weighted mean, minimum, first that decides, or veto."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from typing import Any, Literal, get_args

from exp_pool.errors import ConfigurationError, NotScorableError, ScorerError
from exp_pool.protocols import Score, ScoreContext, Scorer

from ._texts import version_of

How = Literal["mean", "min", "first", "veto"]


class CompositeScorer:
    """Asks several scorers, as one.

    - ``mean``: their weighted mean; ``min``: the least. Where one of them gives no score, there is none.
    - ``first``: the first in order that has something to score by (the others raise `NotScorableError`): ``exact``
      where a person annotated, else a model. Any other failure is one of the whole.
    - ``veto``: the last one decides, unless one before it, asked in order, gives less than `threshold`: then it is 0,
      and no other is asked. So cheap rules stand before an expensive model.

    Args:
        scorers: two or more, objects or functions, ``def`` or ``async def``.
        how: one of the four.
        weights: of the mean, one for each scorer; by default equal.
        threshold: scores below it are a veto.
        name: what its scores are filed under.

    Raises:
        ConfigurationError: one of these cannot be.
    """

    made_by = "CompositeScorer([rules, llm], how='veto')"

    def __init__(
        self,
        scorers: Sequence[Scorer],
        how: How = "mean",
        *,
        weights: Sequence[float] | None = None,
        threshold: float = 0.5,
        name: str = "composite",
    ) -> None:
        if len(scorers) < 2 or not all(callable(part) and not isinstance(part, type) for part in scorers):  # noqa: PLR2004
            raise ConfigurationError(f"scorers={scorers!r:.120} must be two or more scorers, as objects or functions")
        if how not in get_args(How):
            raise ConfigurationError(f"how={how!r} is unknown; known: {', '.join(get_args(How))}")
        if weights is not None and (how != "mean" or len(weights) != len(scorers) or not all(w > 0 for w in weights)):
            raise ConfigurationError(f"weights={weights!r} go with how='mean', a positive number for each scorer")
        if not 0 < threshold <= 1:
            raise ConfigurationError(f"threshold={threshold!r} must be above 0, and at most 1")
        self._parts = [(_name(part), part) for part in scorers]
        self._how = how
        self._weights = tuple(weights or (1.0,) * len(scorers))
        self._threshold = threshold
        self.name = name
        labels = [(label, str(getattr(part, "version", ""))) for label, part in self._parts]
        self.version = version_of([labels, how, self._weights, threshold])
        self.timeout_s = sum(float(getattr(part, "timeout_s", 60.0)) for part in scorers)
        self.concurrency = min(int(getattr(part, "concurrency", 1)) for part in scorers)

    async def __call__(self, context: ScoreContext, /) -> Score:
        """The score.

        Raises:
            NotScorableError: with ``first``, none has anything to score by.
            Exception: what a scorer raised that was asked.
        """
        match self._how:
            case "first":
                return await self._first(context)
            case "veto":
                return await self._unless_vetoed(context)
            case _:
                scores = await asyncio.gather(*(_ask(part, context) for _, part in self._parts))
        told = [f"{label} {score.value:.2f}" for (label, _), score in zip(self._parts, scores, strict=True)]
        if self._how == "min":
            least = min(range(len(scores)), key=lambda place: scores[place].value)
            return Score(value=scores[least].value, reason=f"least of {', '.join(told)}: {scores[least].reason}")
        weighted = sum(weight * score.value for weight, score in zip(self._weights, scores, strict=True))
        return Score(value=min(1.0, weighted / sum(self._weights)), reason=f"mean of {', '.join(told)}")

    async def _first(self, context: ScoreContext) -> Score:
        passed = []
        for label, part in self._parts:
            try:
                score = await _ask(part, context)
            except NotScorableError as err:
                passed.append(f"{label}: {err}")
            else:
                return Score(value=score.value, reason=f"{label}: {score.reason}")
        raise NotScorableError("; ".join(passed))

    async def _unless_vetoed(self, context: ScoreContext) -> Score:
        *gates, (label, last) = self._parts
        for gate, part in gates:
            score = await _ask(part, context)
            if score.value < self._threshold:
                return Score(value=0.0, reason=f"vetoed by {gate} ({score.value:.2f}): {score.reason}")
        score = await _ask(last, context)
        return Score(value=score.value, reason=f"{label}: {score.reason}")


async def _ask(part: Scorer, context: ScoreContext) -> Score:
    answer = await _on_a_thread(lambda: part(context))
    score = await answer if inspect.isawaitable(answer) else answer
    if not isinstance(score, Score):
        raise ScorerError(f"{_name(part)} returned {score!r:.80}; a scorer returns Score(value=0..1, reason='...')")
    return score


def _on_a_thread(job: Callable[[], Any]) -> Awaitable[Any]:
    """The result of a job on a thread of its own: a plain function that takes its time keeps no other scorer waiting.

    Not ``asyncio.to_thread``: the interpreter waits at its end for a thread of those that hangs.
    """
    future: Future[Any] = Future()

    def work() -> None:
        try:
            result = job()
        except BaseException as err:
            if future.set_running_or_notify_cancel():
                future.set_exception(err)
        else:
            if future.set_running_or_notify_cancel():
                future.set_result(result)

    threading.Thread(target=work, name="exp_pool-composite", daemon=True).start()
    return asyncio.wrap_future(future)


def _name(part: Any) -> str:
    return str(getattr(part, "name", None) or getattr(part, "__name__", None) or type(part).__name__)
