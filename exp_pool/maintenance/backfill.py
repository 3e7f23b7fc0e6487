"""Backfill of scores: `ExpManager.score_exps` scores stored rows with a scorer that the caller chooses."""

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
    """Score the rows of a query. Each score is written at once, so an interrupted backfill can be continued.

    Args:
        store: where the rows are.
        scoring: knows the functions' own scorers and codecs.
        scorer: which scores the rows.
        query: which rows.
        again: also rows that have a score of this scorer and version.
        concurrency: how many rows at a time; by default as the scorer says.

    Raises:
        StoreError: the store failed.
        ConfigurationError: `concurrency`, or one of the scorer's attributes, has a value that it cannot have.
    """
    report, began = ScoringReport(), monotonic()
    runner = ScorerRunner(scorer, scoring.feedback, concurrency)
    # Rows that come meanwhile are left out: a scorer whose calls the pool caches makes one for each row.
    until_now = Condition("created_at", "", "lte", now_us())
    failures = () if any(c.field == "kind" for c in query.where) else (Condition("kind", "", "ne", "failure"),)
    query = replace(query, where=(*query.where, until_now, _OWN_CALLS, *failures))
    deciding: dict[str, str | None] = {}
    with bar(f"scoring with {runner.name}", store.count(query)) as done:

        def wanted() -> Iterator[Record]:
            for record in store.scan(query):
                if not again and has_score(record, runner.name, runner.version):
                    report.skipped += 1
                    done(report.cost)
                    continue
                if record.function not in deciding:
                    deciding[record.function] = scoring.deciding(record.function)
                yield record

        results = runner.run(wanted(), lambda record: scoring.functions.get(record.function))
        try:
            for result in results:
                _write(store, report, result, deciding[result.record.function])
                done(report.cost)
            if runner.stopped:
                report.stopped = next(reversed(report.failed.values()))
        finally:
            results.close()
            runner.close()
            report.time_s = round(monotonic() - began, 3)
    return report


def _write(store: RecordStore, report: ScoringReport, result: ScoringResult, deciding: str | None) -> None:
    record, outcome = result.record, result.outcome
    report.tokens_in += result.spending.tokens_in
    report.tokens_out += result.spending.tokens_out
    report.money_usd += result.spending.money_usd
    if not isinstance(outcome, Score):
        report.failed[record.id] = str(outcome) or repr(outcome)
        return
    if write_score(store, record, outcome, deciding):
        report.scored += 1
        forget_reasons(store, record)
    else:
        report.failed[record.id] = "it was changed or deleted meanwhile; score it again"
