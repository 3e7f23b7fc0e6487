"""What a story may ask for, and what comes of it: the words between `flow`, which tells, and `drivers`, which do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

from exp_pool.calls.request import Request
from exp_pool.core.capture import Capture
from exp_pool.core.codecs.typed import ResponseCodec
from exp_pool.core.contracts.plugs import ContextBuilder, Judge, Lease, Question
from exp_pool.core.filters import Condition
from exp_pool.core.record import Match, Record
from exp_pool.core.results import Answer, Call
from exp_pool.core.ttl import Duration, Ttl
from exp_pool.errors import MisfitError
from exp_pool.reuse.context import Inject
from exp_pool.reuse.judges import good_enough
from exp_pool.reuse.refine import Refine
from exp_pool.runtime.clock import now_us

T = TypeVar("T")

_MICROSECONDS = 1_000_000


# ── What the decorator decided, and what the story may ask for ────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Policy:
    """What a decorated function was told about reuse and storing; the same for all its calls."""

    codec: ResponseCodec
    judge: Judge | None = None  # None: identical requests are answered, which needs no step of its own
    min_score: float | None = None
    inject: Inject | None = None
    context_builder: ContextBuilder | None = None
    ttl: Ttl | Callable[[Call, Any], Duration | Ttl | None] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    scored: bool = False
    cache_if: Callable[[Call, Any], Any] | None = None
    record_failures: bool = False
    single_flight: bool = True
    refine: Refine | None = None
    learns: bool = False  # the judge learns from how calls end
    first_stays: bool = False  # where identical calls may run side by side, the first to finish is stored

    @property
    def stale_s(self) -> float:
        """How long after its expiry an answer is still served while a call renews it."""
        return self.ttl.stale_s if isinstance(self.ttl, Ttl) else 0.0

    @property
    def if_error_s(self) -> float:
        """How long after its expiry an answer is still served in place of the function's exception."""
        return self.ttl.if_error_s if isinstance(self.ttl, Ttl) else 0.0

    def returns(self, record: Record) -> bool:
        """Whether the answer of a row can be one of the function as it is now; `misfit` looks closer."""
        return self.codec.gives(record.codec) or record.by_people

    def misfit(self, record: Record) -> str:
        """Why the function as it is now would not return the answer of a row; "" where it would."""
        if record.answer is None:
            return ""
        try:
            self.codec.read(record.answer, record.codec, given=record.by_people)
        except MisfitError as err:
            return str(err)
        return ""

    def renew_at(self, record: Record) -> int | None:
        """From when on (microseconds) asking for the row has it renewed before it expires; None: never."""
        if record.expires_at is None or not isinstance(self.ttl, Ttl) or not self.ttl.early_s:
            return None
        return record.expires_at - int(self.ttl.early_s * _MICROSECONDS)

    def lets_answer(self, record: Record, source: str, late_s: float = 0.0) -> bool:
        """Whether a row may answer a function of this source at all, whatever a judge thinks of it.

        Args:
            record: the row.
            source: digest of the function's source as it is now.
            late_s: how long ago (seconds) it may have expired.
        """
        return (
            record.answer is not None
            and record.made_by(source)
            and record.kind == "success"
            and record.trust == "trusted"
            and self.returns(record)
            and not record.expired(now_us() - int(late_s * _MICROSECONDS))
            and good_enough(record.score, self.min_score)
        )


@dataclass(frozen=True, slots=True)
class Mode:
    """What this call may do with the pool."""

    read: bool = True
    write: bool = True
    replay: bool = False  # a miss is an error, the function does not run
    remedy: str = "record it first"  # what to do then


@dataclass(frozen=True, slots=True)
class AskFeeds:
    """Ask each feed in turn. Comes to the first value that is not ``...``, else ``...``."""

    request: Request


@dataclass(frozen=True, slots=True)
class Once:
    """Tell this part of the story once for all concurrent identical calls. Comes to `Shared`.

    None where this call must not wait: that would close a circle, or `wait` says so; then nothing was told.
    """

    request: Request
    part: Callable[[], Story[Ending]]
    write: bool  # calls that may write do not ride with calls that may not
    wait: bool = True


@dataclass(frozen=True, slots=True)
class LookUp:
    """Comes to the current `Record` of the request's key, or None."""

    request: Request


@dataclass(frozen=True, slots=True)
class Claim:
    """Look up and, where nothing fresh is stored, take the lease of the key. Comes to `Claimed`.

    With `wait` a leader of another process is waited for as long as its heart beats. `passing` is the id of a row that
    is fresh, but does not answer this call: it counts as if it were not there.
    """

    request: Request
    wait: bool = True
    passing: str | None = None


@dataclass(frozen=True, slots=True)
class FindSimilar:
    """Comes to at most `limit` `Match`es of the same function and version: trusted, fresh, most similar first.

    With `to_answer` they are also of the same reuse scope, and both texts were read whole by the embedder. All meet
    the conditions of `where`.
    """

    request: Request
    limit: int
    min_similarity: float
    to_answer: bool
    where: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class AskJudge:
    """Comes to the judge's `Verdict`."""

    judge: Judge
    question: Question


@dataclass(frozen=True, slots=True)
class Recall:
    """Comes to what a judge that learns remembers of the function; None where nothing is known yet."""

    request: Request
    judge: Judge


@dataclass(frozen=True, slots=True)
class Learn:
    """Later, let the judge learn from this call: what it considered, and the live answer as JSON with its codec.

    No live answer: what was considered has answered.
    """

    request: Request
    judge: Judge
    example: Any
    considered: Record
    codec: ResponseCodec
    live: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Run the function on the request's arguments. Comes to an `Outcome`; the function's exception is part of it.

    None where an identical call was stored since the look-up: look once more, then ask again. A coroutine function is
    cancelled once the better answer is there; then that is in `better`, and what this comes to is nothing.
    """

    request: Request
    better: Better | None = None


@dataclass(frozen=True, slots=True)
class Ran:
    """Tell who listens what the function came to."""

    request: Request
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Improve:
    """Run the better function beside the quick one. Comes to a `Better`.

    What it returns counts only if the story of `accepts` says so.
    """

    request: Request
    function: Callable[..., Any]
    timeout_s: float
    accepts: Callable[[Outcome], Story[bool]]


class Better(Protocol):
    """A better answer on its way. `outcome` is there once the function has returned, and that was accepted."""

    outcome: Outcome | None

    def decide(self, keep: Callable[[Outcome], Story[Any]] | None) -> None:
        """The call is over: the story to be told with the outcome, whenever it comes; None where it has been used."""

    def overtaking(self, quick: Awaitable[T]) -> Awaitable[T | None]:
        """What this comes to; None as soon as the better answer is there, and then it is cancelled."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Score a row that is not stored yet, or not scored yet. Comes to the row, without a score where it has none yet.

    Raises what the scorer raised.
    """

    request: Request
    record: Record


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask something of the user's, ``def`` or ``async def``, where the function ran. Comes to what it returns."""

    question: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Keep:
    """Store a row. Comes to whether it was stored; not where the lease was taken over by someone else."""

    request: Request
    record: Record
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class Explain:
    """Comes to text that says why nothing stored answers this call."""

    request: Request
    misfit: Callable[[Record], str] | None = None  # see `Policy.misfit`


@dataclass(frozen=True, slots=True)
class Outdated:
    """Tell who listens that an answer is there, but was given by other source of the function."""

    request: Request


@dataclass(frozen=True, slots=True)
class Found:
    """Tell who listens that the pool answered with this, and the hot tier, which may give it `again`.

    It may until a time (microseconds) at which calls are to come here again.
    """

    request: Request
    match: Match
    again: Callable[[], Any] | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Renew:
    """Tell this story in the background, unless one of its key is being told: it runs the function and keeps that."""

    request: Request
    telling: Callable[[], Story[Ending]]


@dataclass(frozen=True, slots=True)
class Awaited:
    """Comes to whether an identical call waits for the end of this one. Who comes later calls for himself."""

    request: Request


@dataclass(frozen=True, slots=True)
class Coalesced:
    """Tell who listens that the answer of an identical call that was running answered this one, too."""

    request: Request


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


FlowStep: TypeAlias = (
    AskFeeds
    | Once
    | LookUp
    | Claim
    | FindSimilar
    | Recall
    | AskJudge
    | Learn
    | Run
    | Ran
    | Improve
    | Rate
    | Ask
    | Keep
    | Explain
    | Outdated
    | Found
    | Renew
    | Awaited
    | Coalesced
    | NotFound
    | Trouble
)


@dataclass(frozen=True, slots=True)
class Claimed:
    """The current fresh row; or none, perhaps with the lease; or `busy`: someone else computes it."""

    record: Record | None = None
    lease: Lease | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """What may answer a call, and what is to be learned from how it ends."""

    match: Match | None = None
    example: Learn | None = None
    live: bool = False  # the match would answer, but the judge wants to see what the function says
    why: str = ""  # the judge's words
    shown: tuple[Match, ...] = ()  # to the judge, the most similar first


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running the function came to: a value, or its exception; what it recorded, and how long it took.

    `refined`: it was the better function, and what it returned was accepted. `whole`: what the value is an item of.
    """

    value: Any = None
    error: Exception | None = None
    capture: Capture = field(default_factory=Capture)
    time_s: float = 0.0
    refined: bool = False
    whole: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """What the caller gets: an answer, or the exception that its function raised.

    `encoded` is the answer as JSON text with its codec's name, from which others get their own copies; None where it
    could not be encoded.
    """

    answer: Answer[Any]
    error: Exception | None = None
    encoded: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Shared:
    """The end of a part that was told once, and whether this call told it."""

    ending: Ending
    led: bool


Story: TypeAlias = Generator[FlowStep, Any, T]
