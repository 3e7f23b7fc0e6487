"""Judges tried on labelled pairs of requests: how many a judge answers, and how many of these wrongly.

Each pair goes through the real flow (`calls.flow`): of a pool that shows it only the pair's first request, the
second is asked. What the judge learns, it learns from what that brings, in the order of the pairs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from exp_pool.api.registry import embedder_loading, load_scorer
from exp_pool.calls.call_spec import CallSpec
from exp_pool.calls.flow import flow
from exp_pool.calls.policy import Mode, Policy
from exp_pool.calls.request import Request, bind_call
from exp_pool.calls.steps import (
    AskFeeds,
    AskJudge,
    Claimed,
    ClaimLease,
    Degraded,
    FindSimilar,
    FlowStep,
    LookUp,
    Outcome,
    Recall,
    Run,
    StoreRow,
    TrainJudge,
)
from exp_pool.core.codecs.typed import codec_for
from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Embedder, Judge, Verdict
from exp_pool.core.record import Match, Record
from exp_pool.errors import ConfigurationError, InvalidInputError
from exp_pool.maintenance.judge_training import JudgeTraining
from exp_pool.reuse.boilerplate import without_boilerplate
from exp_pool.reuse.judges import resolve_judge
from exp_pool.reuse.verified import VerifiedJudge, labelled
from exp_pool.runtime.async_bridge import resolve
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.display import Shown
from exp_pool.runtime.notices import Notices
from exp_pool.runtime.progress import progress
from exp_pool.search.embedders.service import EmbeddingService
from exp_pool.stores.memory import MemoryStore

_NAMESPACE = "evaluation"
_EMBEDDED_AT_ONCE, _EMBED_S = 64, 300.0


@dataclass(frozen=True, slots=True, repr=False)
class Tally(Shown):
    """Counts of evaluated pairs: those answered from the pool, of these the wrong ones; those explored to learn."""

    total: int
    answered: int
    wrong: int
    explored: int

    @property
    def answered_share(self) -> float:
        """The share of all requests that was answered from the pool."""
        return self.answered / self.total if self.total else 0.0

    @property
    def error_rate(self) -> float:
        """The share of all requests that was answered wrongly."""
        return self.wrong / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Tally):
    """One order of the pairs, and its two halves."""

    halves: tuple[Tally, Tally]
    alarms: tuple[int, ...] = ()  # after how many pairs the judge noticed that what it had learned holds no longer


@dataclass(frozen=True, slots=True)
class _Pair:
    call_async: Request
    stored: Record
    similarity: float
    whole: bool
    live: str


def evaluate(
    judge: Judge,
    pairs: Iterable[tuple[str, str, Any]],
    *,
    embedder: str | Callable[..., Any] | Embedder | None = None,
    orders: int | Sequence[Sequence[int]] = 1,
    seed: int = 0,
) -> list[Evaluation]:
    """Replay labelled pairs through the real flow: a pool that holds ``a`` is asked ``b``.

    Args:
        judge: what is tried. A `VerifiedJudge` learns anew in each order; its `same` is not asked, the labels are.
        pairs: (a, b, same): two requests, and whether the answer to one answers the other (True, False, 1 or 0).
        embedder: as for a manager; by default the configured one.
        orders: in so many random orders; or the orders themselves, each a sequence of positions in `pairs`.
        seed: of the orders, and of what a learning judge looks into.

    Returns:
        one `Evaluation` for each order.

    Raises:
        InvalidInputError: something is no labelled pair, or an order names a position that is not there.
        ConfigurationError: the judge is none, or there is no embedder.
        EmbedderError: a text cannot be embedded.
    """
    known = labelled(pairs)
    if not known:
        raise InvalidInputError("there are no pairs to evaluate a judge on; give (a, b, same) tuples")
    resolved = resolve_judge(judge)
    if isinstance(resolved, VerifiedJudge):
        resolved = replace(resolved, same=None)
    loading = embedder_loading(embedder if embedder is not None else ExpPoolConfig().embedder)
    if loading is None:
        raise ConfigurationError("embedder='none' finds nothing similar; name one, such as the default")
    embeddings = EmbeddingService(loading)
    try:
        prepared = _prepared(known, embeddings)
        wanted = list(_orders(orders, len(prepared), seed))
        return [_replayed(resolved, prepared, order, embeddings, seed + n) for n, order in enumerate(wanted)]
    finally:
        embeddings.close(0.0)


def _orders(orders: int | Sequence[Sequence[int]], count: int, seed: int) -> Iterator[Sequence[int]]:
    if isinstance(orders, int):
        if orders < 1:
            raise InvalidInputError(f"orders={orders!r} must be at least 1")
        for number in range(orders):
            order = list(range(count))
            random.Random(seed + number).shuffle(order)  # noqa: S311  (an experiment to be repeated)
            yield order
        return
    if not isinstance(orders, Sequence):
        raise InvalidInputError(f"orders={orders!r:.80} must be a whole number, or a list of orders")
    for given in orders:
        outside = next((place for place in given if not 0 <= place < count), None)
        if outside is not None:
            raise InvalidInputError(f"an order names position {outside!r}, but there are {count} pairs")
        yield given


def _asked(request: str) -> str:
    """The function that is evaluated: its answers are the labels."""
    return request


def _prepared(pairs: Sequence[tuple[str, str, bool]], embeddings: EmbeddingService) -> list[_Pair]:
    spec = CallSpec(_asked, name="evaluated")
    compared = [without_boilerplate(a, b) or (a, b) for a, b, _ in pairs]
    texts = list(
        dict.fromkeys(text for (a, b, _), parts in zip(pairs, compared, strict=True) for text in (a, b, *parts))
    )
    vectors: dict[str, tuple[Any, bool]] = {}
    starts = range(0, len(texts), _EMBEDDED_AT_ONCE)
    for start in progress(starts, "embedding"):
        part = texts[start : start + _EMBEDDED_AT_ONCE]
        embedded = embeddings.embed(part, _EMBED_S)
        vectors.update(zip(part, zip(embedded.vectors, embedded.whole, strict=True), strict=True))
    prepared = []
    for number, (a, b, same) in enumerate(pairs):
        (of_a, _), (of_b, _) = (vectors[part] for part in compared[number])
        whole = all(vectors[text][1] for text in (a, b, *compared[number]))
        call_async = bind_call(spec, (b,), {}, _NAMESPACE, None)
        stored = bind_call(spec, (a,), {}, _NAMESPACE, None).to_record(f"{number}", f'"{number}"', "json")
        live = f"{number}" if same else f"not {number}"
        prepared.append(_Pair(call_async, stored, float(min(of_a @ of_b, 1.0)), whole, live))
    return prepared


@dataclass(slots=True)
class _Replay:
    """Performs the flow's steps for one pair."""

    learning: JudgeTraining
    policy: Policy
    pair: _Pair
    explored: bool = False

    def answered_right(self) -> bool | None:
        """Whether the pool's answer was right; None where it did not answer."""
        call_flow = flow(self.pair.call_async, self.policy, Mode())
        result: Any = None
        try:
            while True:
                result = self._perform(call_flow.send(result))
        except StopIteration as end:
            answer = end.value.answer
            return None if answer.found_by is None else bool(answer.value == self.pair.live)

    def _perform(self, step: FlowStep) -> Any:
        identical = self.pair.call_async.key == self.pair.stored.key
        match step:
            case LookUp():
                return self.pair.stored if identical else None
            case ClaimLease():
                return Claimed(self.pair.stored if identical else None)
            case FindSimilar():
                return [Match(self.pair.stored, self.pair.similarity, "semantic")] if self.pair.whole else []
            case Recall():
                return self.learning.recall(step)
            case AskJudge(judge, question):
                verdict: Verdict = resolve(judge.judge(question))
                self.explored = verdict.live
                return verdict
            case Run():
                return Outcome(self.pair.live)
            case TrainJudge():
                return self.learning.learn(step)
            case StoreRow():
                return True
            case Degraded(error=error):
                raise error
            case AskFeeds():
                return ...
            case _:
                return None


def _replayed(
    judge: Judge | None, pairs: Sequence[_Pair], order: Sequence[int], embeddings: EmbeddingService, seed: int
) -> Evaluation:
    learning = JudgeTraining(MemoryStore(), embeddings, Counters(), Notices(), lambda: None, load_scorer)
    learning.coin.seed(seed)
    learns = isinstance(judge, VerifiedJudge)
    policy = Policy(codec_for(_asked, None), judge, single_flight=False, learns=learns)
    outcomes: list[tuple[bool | None, bool]] = []
    alarms: list[int] = []
    for place in order:
        replay = _Replay(learning, policy, pairs[place])
        right = replay.answered_right()
        outcomes.append((right, replay.explored))
        if learns:
            learning.run()
            raised = learning.alarms
            alarms += [len(outcomes)] * (raised - len(alarms))
    middle = len(outcomes) // 2
    whole = _tally(outcomes)
    halves = _tally(outcomes[:middle]), _tally(outcomes[middle:])
    return Evaluation(whole.total, whole.answered, whole.wrong, whole.explored, halves, tuple(alarms))


def _tally(outcomes: Sequence[tuple[bool | None, bool]]) -> Tally:
    return Tally(
        total=len(outcomes),
        answered=sum(right is not None for right, _ in outcomes),
        wrong=sum(right is False for right, _ in outcomes),
        explored=sum(explored for _, explored in outcomes),
    )
