"""The steps that a flow yields, what drivers send back for each, and what a call results in.

`flow` yields the steps, `drivers` perform them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

from exp_pool.calls.request import Request
from exp_pool.core.capture import Capture
from exp_pool.core.codecs.typed import ResponseCodec
from exp_pool.core.contracts.plugs import Judge, Lease, Question
from exp_pool.core.filters import Condition
from exp_pool.core.record import Match, Record
from exp_pool.core.results import Answer

T = TypeVar("T")


# ── Steps that have a result ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class AskFeeds:
    """Ask each feed in turn. Result: the first value that is not ``...``, else ``...``."""

    request: Request


@dataclass(frozen=True, slots=True)
class Coalesce:
    """Drive a part of the flow once for all concurrent identical calls. Result: `Shared`.

    The result is None where this call must not wait, because that would be a deadlock, or because of `wait`. The part
    was not driven then.
    """

    request: Request
    part: Callable[[], Flow[CallResult]]
    write: bool  # calls that may write are not coalesced with calls that may not
    wait: bool = True


@dataclass(frozen=True, slots=True)
class LookUp:
    """Read the row of the request's key. Result: the current `Record`, or None."""

    request: Request


@dataclass(frozen=True, slots=True)
class ClaimLease:
    """Read the row of the request's key and, where nothing fresh is stored, take the key's lease. Result: `Claimed`.

    With `wait`, the driver waits while another process holds the lease. `passing` is the id of a row that is fresh, but
    does not answer this call: the store treats it as absent.
    """

    request: Request
    wait: bool = True
    passing: str | None = None


@dataclass(frozen=True, slots=True)
class FindSimilar:
    """Search by meaning. Result: at most `limit` `Match`es, trusted and fresh, the most similar first.

    All are of the same function and version, and meet the conditions of `where`. With `to_answer` they are also of the
    same reuse scope, and the embedder has read both texts whole.
    """

    request: Request
    limit: int
    min_similarity: float
    to_answer: bool
    where: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Recall:
    """Read the state of a judge that learns. Result: what it has learned of the function, or None."""

    request: Request
    judge: Judge


@dataclass(frozen=True, slots=True)
class AskJudge:
    """Ask the judge. Result: its `Verdict`."""

    judge: Judge
    question: Question


@dataclass(frozen=True, slots=True)
class Run:
    """Run the function on the request's arguments. Result: an `Outcome`, which holds the function's exception, too.

    The result is None where an identical call was stored since the look-up: look up again, then ask again. A coroutine
    function is cancelled as soon as the better answer of `refinement` is there; then the result means nothing.
    """

    request: Request
    refinement: Refinement | None = None


@dataclass(frozen=True, slots=True)
class StartRefinement:
    """Start the better function beside the quick one. Result: a `Refinement`.

    The better function's outcome counts only if the flow of `accepts` returns true.
    """

    request: Request
    function: Callable[..., Any]
    timeout_s: float
    accepts: Callable[[Outcome], Flow[bool]]


@dataclass(frozen=True, slots=True)
class CallUserCallback:
    """Call a user's callback, ``def`` or ``async def``, where the function ran. Result: what the callback returns."""

    question: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Score a row now. Result: the row, with its score if it has one now. Raises what the scorer raised."""

    request: Request
    record: Record


@dataclass(frozen=True, slots=True)
class StoreRow:
    """Store a row. Result: whether it was stored; false where another process has taken over the lease."""

    request: Request
    record: Record
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class Explain:
    """Explain a miss. Result: text that says why nothing stored answers this call."""

    request: Request
    misfit: Callable[[Record], str] | None = None  # see `Policy.misfit`


@dataclass(frozen=True, slots=True)
class HasWaiters:
    """Ask whether an identical call waits for this one. Result: a bool. Calls that come later do not join."""

    request: Request


# ── Steps without a result: notifications, and work that is done later ────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Found:
    """The pool answers with this row: count it, log it, notify observers, fill the local cache."""

    request: Request
    match: Match
    decode: Callable[[], Any] | None = None  # gives the answer anew, for the local cache
    until: int | None = None  # microseconds; from then on the local cache sends calls here again


@dataclass(frozen=True, slots=True)
class Coalesced:
    """The answer of an identical call that was running answers this one, too."""

    request: Request


@dataclass(frozen=True, slots=True)
class NotFound:
    """A miss: the function is about to run."""

    request: Request


@dataclass(frozen=True, slots=True)
class LogRun:
    """The function has returned: log the call."""

    request: Request
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ReportStaleSource:
    """An answer is stored, but other source of the function gave it."""

    request: Request


@dataclass(frozen=True, slots=True)
class Degraded:
    """The call goes on without a part of the pool that failed. `what` completes "the pool could not ..."."""

    request: Request
    what: str
    error: Exception


@dataclass(frozen=True, slots=True)
class TrainJudge:
    """Later, let the judge learn from this call: its training example, and the live answer as JSON with its codec.

    Without a live answer, `considered` has answered the call.
    """

    request: Request
    judge: Judge
    example: Any
    considered: Record
    codec: ResponseCodec
    live: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Renew:
    """Drive this flow in the background, which runs the function and stores its answer; one at a time for each key."""

    request: Request
    flow: Callable[[], Flow[CallResult]]


FlowStep: TypeAlias = (
    AskFeeds
    | Coalesce
    | LookUp
    | ClaimLease
    | FindSimilar
    | Recall
    | AskJudge
    | Run
    | StartRefinement
    | CallUserCallback
    | ScoreRow
    | StoreRow
    | Explain
    | HasWaiters
    | Found
    | Coalesced
    | NotFound
    | LogRun
    | ReportStaleSource
    | Degraded
    | TrainJudge
    | Renew
)

Flow: TypeAlias = Generator[FlowStep, Any, T]


# ── Results ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Claimed:
    """The current fresh row; or none, perhaps with the lease; or `busy`: another process computes the answer."""

    record: Record | None = None
    lease: Lease | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """What may answer a call, and what the judge learns from the call's end."""

    match: Match | None = None
    training: TrainJudge | None = None
    live: bool = False  # the match could answer, but the function runs all the same: the call is explored
    why: str = ""  # the judge's words
    shown: tuple[Match, ...] = ()  # to the judge, the most similar first


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of the function.

    Attributes:
        value: what it returned.
        error: what it raised.
        capture: what was recorded while it ran.
        time_s: how long it ran (seconds).
        refined: this is the outcome of the better function, and it was accepted.
        whole: what the value is an item of (`core.values.batch_values`).
    """

    value: Any = None
    error: Exception | None = None
    capture: Capture = field(default_factory=Capture)
    time_s: float = 0.0
    refined: bool = False
    whole: str = ""


class Refinement(Protocol):
    """A better answer being computed. `outcome` is set once the better function has returned and was accepted."""

    outcome: Outcome | None

    def decide(self, finish: Callable[[Outcome], Flow[Any]] | None) -> None:
        """The call is over. `finish` makes the flow to drive with the outcome; None where the outcome was used."""

    def race_against(self, quick: Awaitable[T]) -> Awaitable[T | None]:
        """The quick function's result; None as soon as the better answer is there, and then `quick` is cancelled."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """What the caller gets: an answer, or the exception that the function raised.

    `encoded` is the answer as JSON text with its codec's name, from which others get their own copies; None where it
    could not be encoded.
    """

    answer: Answer[Any]
    error: Exception | None = None
    encoded: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """Result of a single-flight section, and whether this caller led it."""

    result: CallResult
    led: bool
