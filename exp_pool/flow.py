"""The story of one call, told once. READ THIS FIRST.

`story` is a plain generator: it yields steps (dataclasses that say what is to be done) and gets back what came of them.
It does no I/O, knows no thread and no event loop; `drivers.sync` and `drivers.aio` perform the steps for each kind of
function, so the story is never written twice, and a test tells it by feeding literals.

1. **Bind.** `request.CallSpec` has made the call a `Request` before the story begins.
2. **Exact lookup**, by key. Found, fresh and good enough: decode and return. Nothing is embedded, no index is opened.
3. **Similar experiences**, only if the judge or the context wants them.
4. **Judge**: may one of them answer? Only one from the same reuse scope is asked about.
5. **Run** the function, with similar experiences where it wants them.
6. **Keep** its answer in one transaction, and return the live value.
7. **Later**, off the caller's path (`upkeep`): embed, index, score. The record itself says what it is owed.

Whatever goes wrong with the pool is yielded as `Trouble` and the story goes on as if nothing had been found: a broken
pool never breaks the call. Only the function's own outcome is the caller's.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

from exp_pool._clock import now_us
from exp_pool.capture import Capture, cost_of
from exp_pool.codecs import ResponseCodec
from exp_pool.encoding import dumps, json_dumps
from exp_pool.errors import DecodingError
from exp_pool.experience import Answer, Experience, Hit
from exp_pool.protocols import ContextBuilder, Judge, Question, Verdict
from exp_pool.records import Record, to_experience
from exp_pool.request import Request
from exp_pool.reuse.context import Inject
from exp_pool.reuse.judges import good_enough

T = TypeVar("T")

_MICROSECONDS = 1_000_000
_NOTHING_SHOWN: Sequence[Experience] = ()


# ── What the decorator decided, and what the story may ask for ────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Policy:
    """What a decorated function was told about reuse and storing; the same for all its calls."""

    codec: ResponseCodec
    judge: Judge | None = None  # None: identical requests are answered, which needs no step of its own
    min_score: float | None = None
    inject: Inject | None = None
    context_builder: ContextBuilder | None = None
    ttl_s: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    scored: bool = False

    def lasting(self, ttl_s: float) -> Policy:
        """The same, for answers that stay fresh so long."""
        return replace(self, ttl_s=ttl_s)


@dataclass(frozen=True, slots=True)
class Match:
    """A record that was found, how, and how similar its request is (cosine)."""

    record: Record
    similarity: float
    found_by: str


@dataclass(frozen=True, slots=True)
class AskFeeds:
    """Ask each feed in turn. Comes to the first value that is not ``...``, else ``...``."""

    request: Request


@dataclass(frozen=True, slots=True)
class LookUp:
    """Comes to the current `Record` of the request's key, or None."""

    request: Request


@dataclass(frozen=True, slots=True)
class FindSimilar:
    """Comes to at most `limit` `Match`es of the same function and version: trusted, fresh, most similar first.

    With `to_answer` they are also of the same reuse scope, and both texts were read whole by the embedder.
    """

    request: Request
    limit: int
    min_similarity: float
    to_answer: bool


@dataclass(frozen=True, slots=True)
class AskJudge:
    """Comes to the judge's `Verdict`."""

    judge: Judge
    question: Question


@dataclass(frozen=True, slots=True)
class Run:
    """Run the function on the request's arguments. Comes to an `Outcome`; the function's exception is part of it."""

    request: Request


@dataclass(frozen=True, slots=True)
class Keep:
    """Store a row. Comes to whether it was stored."""

    request: Request
    record: Record


@dataclass(frozen=True, slots=True)
class Found:
    """Tell who listens that the pool answered with this."""

    request: Request
    match: Match


@dataclass(frozen=True, slots=True)
class NotFound:
    """Tell who listens that the function is about to run."""

    request: Request


@dataclass(frozen=True, slots=True)
class Trouble:
    """Tell who listens that something went wrong with the pool, and that the call goes on without it."""

    request: Request
    what: str
    error: Exception


FlowStep: TypeAlias = AskFeeds | LookUp | FindSimilar | AskJudge | Run | Keep | Found | NotFound | Trouble


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running the function came to: a value, or its exception; what it recorded, and how long it took."""

    value: Any = None
    error: Exception | None = None
    capture: Capture = field(default_factory=Capture)
    time_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ending:
    """What the caller gets: an answer, or the exception that its function raised."""

    answer: Answer[Any]
    error: Exception | None = None


Story: TypeAlias = Generator[FlowStep, Any, T]


# ── The story ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def story(request: Request, policy: Policy, *, read: bool = True, write: bool = True) -> Story[Ending]:
    """One call, from request to answer. `read` and `write` say whether the pool may be used for either."""
    as_called, shown, stored = request, _NOTHING_SHOWN, None
    if read:
        fed = yield from _attempt(request, "ask the feeds", _step(AskFeeds(request)), default=...)
        if fed is not ...:
            return Ending(Answer(fed, found_by="feed"))
        answer = yield from _attempt(request, "look for an answer", _answer_from_pool(request, policy), default=None)
        if answer is not None:
            return Ending(answer)
        request, shown = yield from _attempt(
            request, "show similar experiences", _with_context(request, policy), default=(request, _NOTHING_SHOWN)
        )
    if write:
        yield from _attempt(as_called, "describe the call", _described(as_called), default=None)
    yield NotFound(as_called)
    outcome: Outcome = yield Run(request)
    parents = tuple(experience.id for experience in shown)
    if outcome.error is not None:
        return Ending(Answer(None, parents=parents), outcome.error)
    if write:
        keeping = _keep(as_called, policy, outcome, parents)
        stored = yield from _attempt(as_called, "store the answer", keeping, default=None)
    return Ending(Answer(outcome.value, id=stored, parents=parents))


def _described(request: Request) -> Story[None]:
    request.describe()
    yield from ()


def match_to_answer(request: Request, policy: Policy) -> Story[Match | None]:
    """What would answer this call now; None if nothing would."""
    record: Record | None = yield LookUp(request)
    exact = Match(record, 1.0, "exact") if record is not None and _may_answer(record, policy) else None
    if policy.judge is None:
        return exact
    similar: list[Match] = []
    # Without a request text only an identical call is in the same reuse scope, and that one was just looked up.
    if exact is None and policy.judge.candidates and request.parameter is not None:
        similar = yield FindSimilar(request, policy.judge.candidates, min_similarity=-1.0, to_answer=True)
    matches = [match for match in (exact, *similar) if match is not None and _may_answer(match.record, policy)]
    if not matches:
        return None
    hits = tuple(Hit(experience, match.similarity, match.found_by) for match, experience in _readable(matches))
    verdict: Verdict = yield AskJudge(policy.judge, Question(request.function, request.text, hits))
    chosen = verdict.hit
    return next((match for match in matches if chosen and match.record.id == chosen.experience.id), None)


def _answer_from_pool(request: Request, policy: Policy) -> Story[Answer[Any] | None]:
    match = yield from match_to_answer(request, policy)
    if match is None or match.record.answer is None:
        return None
    value = policy.codec.decode(match.record.answer, match.record.codec)
    yield Found(request, match)
    return Answer(value, match.record.id, match.found_by, match.similarity)


def _readable(matches: Sequence[Match]) -> list[tuple[Match, Experience]]:
    """Those that can be read: a damaged row among them takes nothing from the others."""
    readable = []
    for match in matches:
        with suppress(DecodingError):
            readable.append((match, to_experience(match.record)))
    return readable


def _may_answer(record: Record, policy: Policy) -> bool:
    """Whether a row may answer at all, whatever a judge thinks of it."""
    return (
        record.answer is not None
        and record.kind == "success"
        and record.trust == "trusted"
        and not record.expired(now_us())
        and good_enough(record.score, policy.min_score)
    )


def _with_context(request: Request, policy: Policy) -> Story[tuple[Request, Sequence[Experience]]]:
    """The call as the function gets it, and the experiences that it is shown."""
    inject, builder = policy.inject, policy.context_builder
    if request.brings_context:
        inject = None
    limit = max(inject.top_k if inject else 0, builder.limit if builder else 0)
    if not limit:
        return request, _NOTHING_SHOWN
    least = inject.min_similarity if inject else 0.0
    matches: list[Match] = yield FindSimilar(request, limit, least, to_answer=False)
    experiences = [experience for _, experience in _readable(matches)]
    rewritten = builder.build(request.text, experiences[: builder.limit]) if builder and experiences else None
    injected = experiences[: inject.top_k] if inject is not None else None
    shown = experiences[: max(builder.limit if builder and rewritten else 0, len(injected or ()))]
    return request.with_context(injected, rewritten), shown


def _keep(request: Request, policy: Policy, outcome: Outcome, parents: tuple[str, ...]) -> Story[str | None]:
    """Store the outcome; the new row's id, or None where it was not stored."""
    text, codec = policy.codec.encode(outcome.value)
    capture = outcome.capture
    record = request.to_record(
        uuid.uuid4().hex,
        text,
        codec,
        model=capture.model,
        strategy=capture.strategy,
        metric=json_dumps(cost_of(capture, round(outcome.time_s, 6))),
        trajectory=json_dumps([step.model_dump(exclude_defaults=True) for step in capture.steps]),
        metadata=dumps({**policy.metadata, **capture.metadata}),
        parents=json_dumps(parents),
    )
    if policy.ttl_s is not None:
        record.expires_at = record.created_at + int(policy.ttl_s * _MICROSECONDS)
    if policy.scored:
        record.score_due = record.created_at
    kept: bool = yield Keep(request, record)
    return record.id if kept else None


def _step(step: FlowStep) -> Story[Any]:
    """A story of one step."""
    return (yield step)


def _attempt(request: Request, what: str, part: Story[T], *, default: T) -> Story[T]:
    """What a part of the story comes to; the default where anything in it raised: the pool never fails the call."""
    try:
        return (yield from part)
    except Exception as err:
        yield Trouble(request, what, err)
        return default
