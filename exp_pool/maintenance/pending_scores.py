"""Scores rows with a pending score, with the scorers that decorated functions were given, on a thread of its own.

So a scorer that is slow, or hangs, keeps no row from being embedded. A row whose scoring fails is tried again later,
ever less often, and given up after twelve tries (some two hours). While a scorer is unavailable (no connection, a
refused key), its rows stay pending, and one of them is tried now and then. The reason stands in a log of each
experience.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace

from exp_pool.core.contracts.plugs import Completion, RecordQuery, RecordStore
from exp_pool.core.contracts.rows import unscored_log
from exp_pool.core.experience import Score
from exp_pool.core.filters import Condition
from exp_pool.core.record import Record, TaskKind
from exp_pool.core.values.redaction import redacted_text
from exp_pool.errors import ExpPoolError, NotScorableError
from exp_pool.maintenance.retries import postpone, wait_s
from exp_pool.maintenance.scorer_runner import (
    FunctionScorer,
    ScorerRunner,
    ScoringResult,
    apply_score,
    scorer_name,
    unavailable,
    write_score,
)
from exp_pool.runtime.clock import monotonic, now_us, to_datetime
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.runtime.notices import Notices, log_with_trace

_TRIES = 12
_EVERYWHERE = ""  # which scorer a function has is the code's business, not a tenant's
_REASON = 500  # characters


@reinit_after_fork(keep=("functions",))
class PendingScores:
    """Completes tasks of the kind SCORE. Rows of functions that this process has not decorated stay pending.

    Args:
        store: where rows and reasons stand.
        counters: counts `scored` and `unscored`.
        notices: warns once of a scorer that fails.
        feedback: gives the values that people gave a row's experience.
    """

    def __init__(
        self,
        store: RecordStore,
        counters: Counters,
        notices: Notices,
        feedback: Callable[[Record], Sequence[float]] = lambda _: (),
    ) -> None:
        self._store = store
        self._counters = counters
        self._notices = notices
        self.feedback = feedback
        self.functions: dict[str, FunctionScorer] = {}  # what decides about the experiences of each
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._next: Future[None] | None = None  # the round that has not begun
        self._stopping = threading.Event()
        self._runners: dict[str, ScorerRunner] = {}  # by function
        self._pauses: dict[str, tuple[int, float]] = {}  # how often in a row it was unavailable, until when to wait
        self._remembered: dict[str, str] = {}

    def deciding(self, function: str) -> str | None:
        """The name of the scorer whose score decides about a function: configured here, or last by another process.

        Raises:
            StoreError: the store failed.
        """
        if function in self.functions:
            return scorer_name(self.functions[function].scorer)
        state = self._store.read_state(_EVERYWHERE, _state_of(function))
        return None if state is None else state.value

    def enqueue(self, namespace: str, id_: str, function: str) -> bool:
        """Score an experience anew that was annotated or rated, if its function has a scorer.

        Args:
            namespace: of the experience.
            id_: of the experience.
            function: its name.

        Returns:
            Whether a score is pending now.

        Raises:
            StoreError: the store failed.
        """
        if self.deciding(function) is None:
            return False
        return self._store.enqueue(RecordQuery(namespace, (Condition("id", "", "eq", id_),)), TaskKind.SCORE) > 0

    def scored(self, record: Record) -> Record:
        """The row with a score that its function's scorer gives now; the same row where it cannot be scored yet.

        Nothing is written.

        Raises:
            Exception: what the scorer raised.
        """
        scored = self.functions.get(record.function)
        if scored is None:
            return record
        runner = self._runner(record.function, scored)
        (result,) = runner.run([record], lambda _: scored)
        if isinstance(result.outcome, Score):
            return replace(apply_score(record, result.outcome, runner.name), score_due=None)
        if isinstance(result.outcome, NotScorableError):
            return record
        raise result.outcome

    # Rounds

    def begin(self) -> Future[None]:
        """Begin a round, which scores everything that is due now; the future of the round.

        Where a round goes on already, another one follows it.
        """
        with self._lock:
            if self._stopping.is_set():  # no thread would end the round
                nothing: Future[None] = Future()
                nothing.set_result(None)
                return nothing
            if self._next is None:
                self._next = Future()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="exp_pool-scoring", daemon=True)
                self._thread.start()
            return self._next

    def run(self, deadline: float) -> None:
        """Wait for a round, at most until the deadline (`clock.monotonic`); a round that takes longer goes on.

        Raises:
            StoreError: the store failed.
        """
        if not self.functions:
            return
        try:
            self.begin().result(None if deadline == float("inf") else max(0.0, deadline - monotonic()))
        except FutureTimeoutError:
            return

    def stop(self, timeout_s: float) -> None:
        """Write nothing any more; wait at most `timeout_s` for what is being written."""
        with self._lock:  # a thread that is there has been started
            self._stopping.set()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _work(self) -> None:
        while True:
            with self._lock:
                this, self._next = self._next, None
                if this is None:
                    self._thread = None
                    return
            try:
                self._round()
            except BaseException as err:
                this.set_exception(err)
            else:
                this.set_result(None)

    def _round(self) -> None:
        of_these = Condition("function", "", "in", tuple(self.functions))
        if not of_these.value or not self._store.count(RecordQuery(None, (of_these,), pending=TaskKind.SCORE), limit=1):
            return
        for function, scored in list(self.functions.items()):
            if self._stopping.is_set():
                return
            if monotonic() >= self._pauses.get(function, (0, 0.0))[1]:
                self._score(function, scored)

    def _score(self, function: str, scored: FunctionScorer) -> None:
        of_it = Condition("function", "", "eq", function)
        rows = self._store.scan(RecordQuery(None, (of_it,), pending=TaskKind.SCORE))
        first = next(rows, None)
        if first is None:
            return
        runner = self._runner(function, scored)
        self._remember(function, runner.name)
        results = runner.run(itertools.chain([first], rows), lambda _: scored)
        try:
            for result in results:
                if self._stopping.is_set():  # the store may be closed and its folder gone: using it would make it anew
                    return
                self._write(result, runner)
        finally:
            results.close()

    def _runner(self, function: str, scored: FunctionScorer) -> ScorerRunner:
        runner = self._runners.get(function)
        if runner is None or runner.scorer is not scored.scorer:
            if runner is not None:
                runner.close()
            runner = self._runners[function] = ScorerRunner(scored.scorer, self.feedback)
        return runner

    def _remember(self, function: str, name: str) -> None:
        """Store which scorer decides, for processes that do not have the function."""
        if self._remembered.get(function) != name:
            state = self._store.read_state(_EVERYWHERE, _state_of(function))
            if state is None or state.value != name:
                self._store.write_state(_EVERYWHERE, _state_of(function), name, state.revision if state else None)
            self._remembered[function] = name

    # Results

    def _write(self, result: ScoringResult, runner: ScorerRunner) -> None:
        record, outcome = result.record, result.outcome
        if isinstance(outcome, Score):
            self._pauses.pop(record.function, None)
            # Else the score of what the row is now stays pending.
            if write_score(self._store, record, outcome, runner.name):
                self._done(record)
                self._counters.add("scored")
                forget_reasons(self._store, record)
            return
        self._counters.add("unscored")
        if isinstance(outcome, NotScorableError):  # pending again once somebody annotates or rates it
            self._note(record, runner, outcome, None)
            self._done(record)
        elif unavailable(outcome):
            self._pause(record, runner, outcome)
        else:
            self._failed(record, runner, outcome)

    def _pause(self, record: Record, runner: ScorerRunner, err: Exception) -> None:
        times, until = self._pauses.get(record.function, (0, 0.0))
        wait = wait_s(times)
        if isinstance(err, TimeoutError):  # perhaps only this row takes so long
            self._failed(record, runner, err)
        elif not times:
            self._note(record, runner, err, now_us() + int(wait * 1e6))
        if monotonic() >= until:  # one outage counts once, whatever was under way
            self._pauses[record.function] = times + 1, monotonic() + wait
        log_with_trace("WARNING", f"{record.function}: not scored, tried again in {wait:g} s: {err!r}", err)
        self._notices.warn_once(f"score:{record.function}", f"{record.function}: cannot be scored now: {err}")

    def _failed(self, record: Record, runner: ScorerRunner, err: Exception) -> None:
        if record.score_tries + 1 >= _TRIES:
            given_up = f"given up after {_TRIES} tries, score_exps() tries it again; {_words(err)}"
            self._note(record, runner, given_up, None)
            self._done(record)
            self._notices.warn_once(f"score-given-up:{record.function}", f"{record.function}: scoring {given_up}")
            return
        wait = wait_s(record.score_tries)
        postponed = postpone(record, TaskKind.SCORE, wait)
        log_with_trace("WARNING", f"{record.function}: not scored, tried again in {wait:g} s: {err!r}", err)
        failed = f"{record.function}: its scorer failed, so it is unscored: {err!r}"
        self._notices.warn_once(f"score:{record.function}", failed)
        self._note(record, runner, err, postponed.retry_at)
        self._store.complete_many([postponed])

    def _done(self, record: Record) -> None:
        self._store.complete_many([Completion(record.namespace, record.id, TaskKind.SCORE)])

    def _note(self, record: Record, runner: ScorerRunner, why: Exception | str, retry_at: int | None) -> None:
        entry = {
            "at": to_datetime(now_us()).isoformat(timespec="seconds"),
            "scorer": runner.name,
            "version": runner.version or "",
            "reason": why if isinstance(why, str) else _words(why),
            "retry_at": None if retry_at is None else to_datetime(retry_at).isoformat(timespec="seconds"),
        }
        self._store.append_log(record.namespace, unscored_log(record.id), [json.dumps(entry)])


def reasons(store: RecordStore, namespace: str, id_: str) -> list[str]:
    """Why an experience has no score, the oldest reason first; empty where nothing went wrong, or it has one now.

    Args:
        store: where the log is.
        namespace: of the experience.
        id_: of the experience.

    Raises:
        StoreError: the store failed.
    """
    said = []
    for entry in store.read_log(namespace, unscored_log(id_)):
        note = json.loads(entry.entry)
        scorer = note["scorer"] + (f" {note['version']}" if note["version"] else "")
        again = f"; again at {note['retry_at']}" if note["retry_at"] else ""
        said.append(f"{note['at']} {scorer}: {note['reason']}{again}")
    return said


def forget_reasons(store: RecordStore, record: Record) -> None:
    """Drop the log of why the experience had no score: it has one now."""
    log = unscored_log(record.id)
    if store.read_log(record.namespace, log, limit=1):  # mostly there is none, and reading is cheaper than a write
        store.drop_logs(record.namespace, [log])


def _state_of(function: str) -> str:
    return f"scorer:{function}"


def _words(err: Exception) -> str:
    return redacted_text(str(err) if isinstance(err, ExpPoolError) else repr(err))[:_REASON]
