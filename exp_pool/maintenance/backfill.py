"""Scores what is there already, with a scorer that somebody chose: `ExpManager.score_exps`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from exp_pool.core.contracts.plugs import RecordQuery, RecordStore, Scorer
from exp_pool.core.experience import Score
from exp_pool.core.filters import Condition
from exp_pool.core.record import Record
from exp_pool.maintenance.pending_scores import PendingScores, forget_reasons
from exp_pool.maintenance.scorer_runner import ScorerRunner, ScoringResult, has_score, write_score
from exp_pool.runtime.clock import monotonic, now_us
from exp_pool.runtime.progress import bar

# A scorer's cached calls are nobody's experience.
_OWN_CALLS = Condition("metadata", "exp_pool_purpose", "ne", "scoring")


@dataclass(slots=True)
class ScoringReport:
    """What `score_exps` did. Print it for one line.

    Attributes:
        scored: how many experiences got a score.
        skipped: how many had one of this scorer and version already.
        failed: why others got none, by their ids.
        stopped: why it was given up before all were tried, because no other would have fared better; else ``""``.
        tokens_in: sent to models.
        tokens_out: received from models.
        money_usd: what that cost, where the scorer knows prices.
        time_s: how long it took.
    """

    scored: int = 0
    skipped: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    money_usd: float = 0.0
    time_s: float = 0.0

    @property
    def cost(self) -> str:
        """Tokens and money, in words."""
        return f"{self.tokens_in + self.tokens_out:,} tokens, {self.money_usd:.4f} USD"

    def __str__(self) -> str:
        said = (
            f"scored {self.scored}, skipped {self.skipped}, failed {len(self.failed)}; {self.cost}, {self.time_s:.1f} s"
        )
        return f"{said}; stopped: {self.stopped}" if self.stopped else said


def backfill_scores(
    store: RecordStore,
    scoring: PendingScores,
    scorer: Scorer,
    query: RecordQuery,
    *,
    again: bool,
    concurrency: int | None,
) -> ScoringReport:
    """Score the rows of a query; each score is written when it is there, so that it can be gone on with later.

    Raises:
        StoreError: the store failed.
        ConfigurationError: `concurrency`, or one of the scorer's attributes, cannot be.
    """
    report, began = ScoringReport(), monotonic()
    rating = ScorerRunner(scorer, scoring.feedback, concurrency)
    # Rows that come meanwhile are left out: a scorer whose calls the pool caches makes one for each row.
    until_now = Condition("created_at", "", "lte", now_us())
    failures = () if any(c.field == "kind" for c in query.where) else (Condition("kind", "", "ne", "failure"),)
    query = replace(query, where=(*query.where, until_now, _OWN_CALLS, *failures))
    deciding: dict[str, str | None] = {}
    with bar(f"scoring with {rating.name}", store.count(query)) as done:

        def wanted() -> Iterator[Record]:
            for record in store.scan(query):
                if not again and has_score(record, rating.name, rating.version):
                    report.skipped += 1
                    done(report.cost)
                    continue
                if record.function not in deciding:
                    deciding[record.function] = scoring.deciding(record.function)
                yield record

        rated = rating.rate(wanted(), lambda record: scoring.functions.get(record.function))
        try:
            for each in rated:
                _take(store, report, each, deciding[each.record.function])
                done(report.cost)
            if rating.stopped:
                report.stopped = next(reversed(report.failed.values()))
        finally:
            rated.close()
            rating.close()
            report.time_s = round(monotonic() - began, 3)
    return report


def _take(store: RecordStore, report: ScoringReport, rated: ScoringResult, deciding: str | None) -> None:
    record, outcome = rated.record, rated.outcome
    report.tokens_in += rated.spending.tokens_in
    report.tokens_out += rated.spending.tokens_out
    report.money_usd += rated.spending.money_usd
    if not isinstance(outcome, Score):
        report.failed[record.id] = str(outcome) or repr(outcome)
        return
    if write_score(store, record, outcome, deciding):
        report.scored += 1
        forget_reasons(store, record)
    else:
        report.failed[record.id] = "it was changed or deleted meanwhile; score it again"
