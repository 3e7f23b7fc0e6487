"""Runs the scorers that decorated functions were given, on what is owed a score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from exp_pool._clock import monotonic, now_us
from exp_pool.awaiting import settled
from exp_pool.codecs import ResponseCodec
from exp_pool.counters import Counters
from exp_pool.errors import InvalidInputError
from exp_pool.experience import MISSING, Score
from exp_pool.filters import Condition
from exp_pool.notices import Notices, log_with_trace
from exp_pool.protocols import Put, PutMode, PutStatus, RecordQuery, RecordStore, ScoreContext, Scorer, Settlement
from exp_pool.records import Duty, Record, read_scores, to_experience, write_scores

_TIMEOUT_S = 60.0  # for an async scorer; a sync one runs as long as it runs, on the worker
_BACKOFF_S, _LONGEST_BACKOFF_S = 2.0, 3600.0


@dataclass(frozen=True, slots=True)
class Scored:
    """A function that has a scorer."""

    scorer: Scorer
    function: Callable[..., Any]
    codec: ResponseCodec


class Scoring:
    """Settles SCORE. Rows of functions that this process has not decorated stay owed."""

    def __init__(self, store: RecordStore, counters: Counters, notices: Notices) -> None:
        self._store = store
        self._counters = counters
        self._notices = notices
        self._functions: dict[str, Scored] = {}

    def configure(self, function: str, scored: Scored) -> None:
        """From now on this scorer decides about the function's experiences."""
        self._functions[function] = scored

    def run(self, deadline: float) -> None:
        """Score everything due now, until the deadline (`_clock.monotonic`).

        Raises:
            StoreError: the store failed.
        """
        if not self._functions:
            return
        known = Condition("function", "", "in", tuple(self._functions))
        for record in self._store.scan(RecordQuery(None, (known,), owed=Duty.SCORE)):
            if monotonic() >= deadline:
                return
            self._score(record, self._functions[record.function])

    def _score(self, record: Record, scored: Scored) -> None:
        try:
            changed = apply_score(record, self._ask(record, scored))
        except Exception as err:  # unscored, with the reason; tried again later
            wait = min(_BACKOFF_S * 2.0**record.score_tries, _LONGEST_BACKOFF_S)
            log_with_trace("WARNING", f"{record.function}: not scored, tried again in {wait:g} s: {err!r}", err)
            failed = f"{record.function}: its scorer failed, so it is unscored: {err!r}"
            self._notices.once(f"score:{record.function}", failed)
            retry_at = now_us() + int(wait * 1e6)
            self._store.settle_many(
                [Settlement(record.namespace, record.id, Duty.SCORE, done=False, retry_at=retry_at)]
            )
            return
        (status,) = self._store.put_many([Put(changed, PutMode.UPDATE, expected_revision=record.revision)])
        if status is not PutStatus.CONFLICT:  # on a conflict it stays owed, and the next round sees the new row
            self._store.settle_many([Settlement(record.namespace, record.id, Duty.SCORE)])
            self._counters.add("scored")

    def _ask(self, record: Record, scored: Scored) -> Score:
        answer = record.answer
        value = MISSING if answer is None else scored.codec.decode(answer, record.codec)
        context = ScoreContext(to_experience(record), scored.function, value)
        score = settled(scored.scorer(context), _TIMEOUT_S)
        if not isinstance(score, Score):
            raise InvalidInputError(
                f"the scorer returned {score!r:.80}; a scorer returns Score(value=0..1, reason='...')"
            )
        named = score.scorer or scorer_name(scored.scorer)
        return score.model_copy(
            update={"scorer": named, "version": score.version or getattr(scored.scorer, "version", "")}
        )


def scorer_name(scorer: Any) -> str:
    """What its scores are filed under: its `name`, else that of the function or class."""
    name = getattr(scorer, "name", None) or getattr(scorer, "__name__", None) or type(scorer).__name__
    return str(name)


def apply_score(record: Record, score: Score) -> Record:
    """The row with this score as the deciding one: the last."""
    scores = read_scores(record.scores)
    scores.pop(score.scorer, None)
    return replace(record, scores=write_scores({**scores, score.scorer: score}), score=score.value)
