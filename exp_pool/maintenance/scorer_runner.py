"""Runs one scorer on rows: several at a time, each with a time-out; and writes scores into rows."""

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
_TRIES = 5  # of a write, where others change the row meanwhile
_IN_A_ROW = 3  # unavailable so often, and the other rows are left for later: each would cost a time-out, or money
_AT = "@"  # between a scorer's name and an earlier version of that scorer


@dataclass(frozen=True, slots=True)
class FunctionScorer:
    """The scorer of a decorated function, and what it needs to read the function's answers."""

    scorer: Scorer
    function: Callable[..., Any]
    codec: ResponseCodec


@dataclass(frozen=True, slots=True)
class ScoringResult:
    """The outcome of one call of a scorer: a score or an error, and what the call cost."""

    record: Record
    outcome: Score | Exception
    spending: Spending = field(default_factory=Spending)


@dataclass(frozen=True, slots=True)
class ScorerSettings:
    """How a scorer wants to be called: attributes of the scorer, or defaults. See `protocols.Scorer`."""

    name: str
    version: str | None
    concurrency: int
    timeout_s: float

    @classmethod
    def of(cls, scorer: Any) -> ScorerSettings:
        """Read the attributes of a scorer.

        Raises:
            ConfigurationError: an attribute has a value that it cannot have; the message names it.
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
    """Calls one scorer on workers of its own. A call that hangs blocks nobody but its worker.

    A plain function that hangs cannot be ended: its worker is lost, and once all workers are lost, the scorer is
    unavailable.

    Args:
        scorer: what to call.
        feedback: gives the values that people gave a row's experience.
        concurrency: how many calls at a time; by default the scorer's own `concurrency`, else 1.

    Raises:
        ConfigurationError: `concurrency`, or one of the scorer's attributes, has a value that it cannot have.

    Attributes:
        stopped: whether the last `run` left rows out, because the scorer is unavailable.
    """

    def __init__(
        self, scorer: Scorer, feedback: Callable[[Record], Sequence[float]], concurrency: int | None = None
    ) -> None:
        settings = ScorerSettings.of(scorer)
        self.scorer = scorer
        self.name, self.version, self._timeout_s = settings.name, settings.version, settings.timeout_s
        self._feedback = feedback
        self.stopped = False
        count = settings.concurrency if concurrency is None else _at_least_one("concurrency", concurrency)
        self._workers = [SingleThreadExecutor(f"exp_pool-scorer-{self.name}") for _ in range(count)]

    def run(
        self, records: Iterable[Record], scored: Callable[[Record], FunctionScorer | None]
    ) -> Generator[ScoringResult, None, None]:
        """Yield the result of each row, in the order in which results come.

        The run stops after three results in a row that found the scorer unavailable. The calling thread reads the rows
        and is to write the scores.

        Args:
            records: the rows to score.
            scored: gives the scorer of a row's function, whose codec reads the answer; None: there is none.
        """
        todo: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[ScoringResult] = queue.SimpleQueue()

        def work(worker: SingleThreadExecutor) -> None:
            while (record := todo.get()) is not None:
                done.put(self._result(worker, record, scored(record)))

        threads = [
            threading.Thread(target=work, args=(worker,), name="exp_pool-rating", daemon=True)
            for worker in self._workers
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
                result = done.get()
                under_way -= 1
                in_a_row = in_a_row + 1 if unavailable(result.outcome) else 0
                yield result
        finally:
            for _ in threads:
                todo.put(None)

    def close(self) -> None:
        """Let the workers end."""
        for worker in self._workers:
            worker.stop(0.0)

    def _result(self, worker: SingleThreadExecutor, record: Record, scored: FunctionScorer | None) -> ScoringResult:
        spending = Spending()
        try:
            return ScoringResult(record, self._score(worker, record, scored, spending), spending)
        except Exception as err:
            return ScoringResult(record, err, spending)

    def _score(
        self, worker: SingleThreadExecutor, record: Record, scored: FunctionScorer | None, spending: Spending
    ) -> Score:
        if worker.stuck:
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
                score = resolve(worker.run(lambda: self.scorer(context), self._timeout_s), self._timeout_s)
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
    """Whether the error is the scorer's and not the row's, so that the next row would fare no better."""
    return isinstance(outcome, TimeoutError | ConnectionError | ConfigurationError | ScorerUnavailableError)


def scorer_name(scorer: Any) -> str:
    """The name under which a scorer's scores are stored: its `name`, else that of the function or class."""
    name = getattr(scorer, "name", None) or getattr(scorer, "__name__", None) or type(scorer).__name__
    return str(name)


def has_score(record: Record, name: str, version: str | None) -> bool:
    """Whether the row has a score of this scorer.

    Args:
        record: the row.
        name: the scorer's name.
        version: of the scorer; None: any version.
    """
    score = read_scores(record.scores).get(name)
    return score is not None and version in (None, score.version)


def apply_score(record: Record, score: Score, deciding: str | None = None) -> Record:
    """The row with this score. The last score in the row decides.

    A score of another version of the scorer stays, as ``name@version``, ahead of the others: it never decides.

    Args:
        record: the row.
        score: the new score.
        deciding: name of the scorer whose score decides, if the row has one; else the new score decides.
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
    """Store a score; try again if others change the row meanwhile.

    Args:
        store: where the row is.
        record: the row as it was scored.
        score: the new score.
        deciding: see `apply_score`.

    Returns:
        False where the row is gone, or has another answer than the one that was scored.

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
