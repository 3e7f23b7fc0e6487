"""Asks a scorer, as it wants to be asked, and files what it says. Off every caller's path."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from threading import TIMEOUT_MAX
from typing import Any

from exp_pool.core.codecs.typed import ResponseCodec
from exp_pool.core.contracts.plugs import Put, PutMode, PutStatus, RecordStore, ScoreContext, Scorer, Spending
from exp_pool.core.experience import MISSING, Score
from exp_pool.core.record import Record, measure, read_scores, to_experience, write_scores
from exp_pool.errors import ConfigurationError, InvalidInputError, ScorerError, ScorerUnavailableError
from exp_pool.runtime.async_bridge import resolve
from exp_pool.runtime.call_context import in_namespace
from exp_pool.runtime.single_thread import SingleThreadExecutor

_TIMEOUT_S = 60.0
_TRIES = 5  # of a write that others get in between
_IN_A_ROW = 3  # unavailable so often, and the others are left for later: each would cost a time-out, or money
_AT = "@"  # between a scorer's name and an earlier version of it


@dataclass(frozen=True, slots=True)
class FunctionScorer:
    """A function that has a scorer."""

    scorer: Scorer
    function: Callable[..., Any]
    codec: ResponseCodec


@dataclass(frozen=True, slots=True)
class ScoringResult:
    """What a scorer said of a row: a score or an error, and what that cost."""

    record: Record
    outcome: Score | Exception
    spending: Spending = field(default_factory=Spending)


@dataclass(frozen=True, slots=True)
class ScorerSettings:
    """What a scorer says of itself, by attributes; see `protocols.Scorer`."""

    name: str
    version: str | None
    concurrency: int
    timeout_s: float

    @classmethod
    def of(cls, scorer: Any) -> ScorerSettings:
        """Those of a scorer.

        Raises:
            ConfigurationError: an attribute cannot be; the message names it.
        """
        name, version = scorer_name(scorer), getattr(scorer, "version", None)
        if not name or _AT in name:
            raise ConfigurationError(f"a scorer's name is text without {_AT!r}, got {name!r}")
        if version is not None and not isinstance(version, str):
            raise ConfigurationError(f"{name}: version={version!r} must be text")
        concurrency = _at_least_one(f"{name}: concurrency", getattr(scorer, "concurrency", 1))
        timeout_s = getattr(scorer, "timeout_s", _TIMEOUT_S)
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s < TIMEOUT_MAX:
            raise ConfigurationError(f"{name}: timeout_s={timeout_s!r} must be a positive number of seconds")
        return cls(name, version, concurrency, float(timeout_s))


class ScorerRunner:
    """One scorer, asked on threads of its own, so many at a time, each with a time-out: one that hangs blocks nobody.

    A plain function that hangs cannot be ended: its thread is lost, and once all of them are, the scorer is
    unavailable.

    Args:
        scorer: whom to ask.
        feedback: the values that a row's experience got.
        concurrency: how many at a time; by default the scorer's own `concurrency`, else 1.

    Raises:
        ConfigurationError: `concurrency`, or one of the scorer's attributes, cannot be.
    """

    def __init__(
        self, scorer: Scorer, feedback: Callable[[Record], Sequence[float]], concurrency: int | None = None
    ) -> None:
        says = ScorerSettings.of(scorer)
        self.scorer = scorer
        self.name, self.version, self._timeout_s = says.name, says.version, says.timeout_s
        self._feedback = feedback
        self.stopped = False  # whether the last `rate` left rows out, because it is unavailable
        at_once = says.concurrency if concurrency is None else _at_least_one("concurrency", concurrency)
        self._lanes = [SingleThreadExecutor(f"exp_pool-scorer-{self.name}") for _ in range(at_once)]

    def rate(
        self, records: Iterable[Record], scored: Callable[[Record], FunctionScorer | None]
    ) -> Generator[ScoringResult, None, None]:
        """What it says of each row, in the order in which it comes.

        It is asked no further after three rows in a row found it unavailable. Rows are read, and what comes is to be
        written, by the calling thread.
        """
        todo: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[ScoringResult] = queue.SimpleQueue()

        def work(lane: SingleThreadExecutor) -> None:
            while (record := todo.get()) is not None:
                done.put(self._rated(lane, record, scored(record)))

        threads = [
            threading.Thread(target=work, args=(lane,), name="exp_pool-rating", daemon=True) for lane in self._lanes
        ]
        for thread in threads:
            thread.start()
        under_way = in_a_row = 0
        rows = iter(records)
        try:
            while True:
                record = next(rows, None) if in_a_row < _IN_A_ROW else None
                if record is not None:
                    todo.put(record)
                    under_way += 1
                    if under_way < len(threads):
                        continue
                if not under_way:
                    self.stopped = in_a_row >= _IN_A_ROW
                    return
                rated = done.get()
                under_way -= 1
                in_a_row = in_a_row + 1 if unavailable(rated.outcome) else 0
                yield rated
        finally:
            for _ in threads:
                todo.put(None)

    def close(self) -> None:
        """Let its threads end."""
        for lane in self._lanes:
            lane.stop(0.0)

    def _rated(self, lane: SingleThreadExecutor, record: Record, scored: FunctionScorer | None) -> ScoringResult:
        spending = Spending()
        try:
            return ScoringResult(record, self._score(lane, record, scored, spending), spending)
        except Exception as err:
            return ScoringResult(record, err, spending)

    def _score(
        self, lane: SingleThreadExecutor, record: Record, scored: FunctionScorer | None, spending: Spending
    ) -> Score:
        if lane.stuck:
            raise ScorerUnavailableError(
                f"{self.name} hangs: a call of it has not come back; give it a time limit of its own, or make it async"
            )
        value = MISSING
        experience = to_experience(record)
        if record.answer is not None:
            value = experience.value
            if scored is not None:
                value = scored.codec.read(record.answer, record.codec, given=record.by_people)
        function = None if scored is None else scored.function
        context = ScoreContext(experience, function, value, self._feedback(record), spending)
        try:
            with in_namespace(record.namespace):  # what it asks of the pool is the same tenant's
                score = resolve(lane.run(lambda: self.scorer(context), self._timeout_s), self._timeout_s)
        except TimeoutError as err:
            raise TimeoutError(f"{self.name} gave no score within {self._timeout_s:g} s ({err})") from err
        return self._labelled(score)

    def _labelled(self, score: object) -> Score:
        """The score under the scorer's own name: another's are not overwritten, and one that lies is found out."""
        if not isinstance(score, Score):
            raise InvalidInputError(
                f"the scorer returned {score!r:.80}; a scorer returns Score(value=0..1, reason='...')"
            )
        version = score.version if self.version is None else self.version
        return Score(value=score.value, reason=score.reason, scorer=self.name, version=version)


def _at_least_one(what: str, count: Any) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigurationError(f"{what}={count!r} must be a whole number of at least 1")
    return count


def unavailable(outcome: Score | Exception) -> bool:
    """Whether the scorer, not the row, is to blame: the next row would fare no better."""
    return isinstance(outcome, TimeoutError | ConnectionError | ConfigurationError | ScorerUnavailableError)


def scorer_name(scorer: Any) -> str:
    """What its scores are filed under: its `name`, else that of the function or class."""
    name = getattr(scorer, "name", None) or getattr(scorer, "__name__", None) or type(scorer).__name__
    return str(name)


def has_score(record: Record, name: str, version: str | None) -> bool:
    """Whether the row has a score of this scorer in this version; None: in any."""
    score = read_scores(record.scores).get(name)
    return score is not None and version in (None, score.version)


def apply_score(record: Record, score: Score, deciding: str | None = None) -> Record:
    """The row with this score. The last one decides: that of the scorer `deciding`, else this one.

    Of another version of the scorer the score stays, as ``name@version``, ahead of the others: it never decides.
    """
    scores = read_scores(record.scores)
    before = scores.pop(score.scorer, None)
    if before is not None and before.version != score.version:
        scores = {f"{score.scorer}{_AT}{before.version}": before, **scores}
    scores.pop(f"{score.scorer}{_AT}{score.version}", None)
    scores[score.scorer] = score
    if deciding in scores:
        scores[deciding] = scores.pop(deciding)
    text = write_scores(scores)
    size = record.size_bytes + measure(text) - measure(record.scores)
    return replace(record, scores=text, score=scores[next(reversed(scores))].value, size_bytes=size)


def write_score(store: RecordStore, record: Record, score: Score, deciding: str | None) -> bool:
    """Store a score, again if others change the row meanwhile; False where it is gone, or has another answer now.

    Raises:
        StoreError: the store failed.
        ScorerError: others change the row all the time.
    """
    answer = record.answer
    for _ in range(_TRIES):
        put = Put(apply_score(record, score, deciding), PutMode.UPDATE, expected_revision=record.revision)
        (status,) = store.put_many([put])
        if status is not PutStatus.CONFLICT:
            return True
        (now,) = store.get_many(record.namespace, [record.id], by="id")
        if now is None or not now.is_current or now.answer != answer:
            return False
        record = now
    raise ScorerError(f"the experience {record.id} is being changed by others all the time; score it again")


def unscored_log(id_: str) -> str:
    """The log of why an experience has no score. It goes when it gets one, or is deleted."""
    return f"unscored:{id_}"
