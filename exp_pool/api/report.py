"""What experiences did to outcomes, and how answers were reused, for people: `manager.report()`."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from exp_pool.core.contracts.plugs import RecordStore
from exp_pool.core.record import Record
from exp_pool.maintenance.judge_training import JudgeTraining, TrainingState
from exp_pool.maintenance.outcomes import FunctionOutcomes, Outcomes
from exp_pool.reuse.lift import Contrast, Effect, EffectVerdict, LiftTable

_JOINED_AT_ONCE = 500
_TEXT = 60  # characters of a request that are shown
_LISTED = 10  # lifts of a function that are printed: the surest to help, and as many of the others


@dataclass(frozen=True, slots=True)
class Lift:
    """What showing one experience does to the outcome: see `exp_pool.reuse.lift.Effect`.

    `request` is the beginning of its request text. `quarantined`: it is out of use, whoever took it out.
    """

    id: str
    request: str
    lift: float
    low: float
    high: float
    shrunken: float
    shown: int
    held_out: int
    verdict: EffectVerdict
    quarantined: bool


@dataclass(frozen=True, slots=True)
class Calibration:
    """One bin of predictions: `wrong` of its `pairs` were wrong, where about the share `predicted` was expected."""

    predicted: float
    wrong: int
    pairs: int


@dataclass(frozen=True, slots=True)
class AtSimilarity:
    """One similarity bin: `right` is the share of its pairs whose answers agreed, `pairs` how many were compared."""

    similarity: float
    right: float
    pairs: int


@dataclass(frozen=True, slots=True)
class Reuse:
    """What a `VerifiedJudge` did with one function's requests.

    Attributes:
        requests: that were not identical to a stored one, and had something similar.
        answered: of these, from the pool.
        explored: run live although they would have been answered.
        abstained: the rest.
        error_rate: about how many of all requests were answered wrongly: those explored stand for those that were not.
        at_most: with confidence it was less than this, at any time (`exp_pool.reuse.bound`).
        allowed: the judge's `max_error_rate`; None where this process has not asked the judge.
        confidence: of `at_most`.
        drifts: how often it forgot what it had learned because answers went wrong more often.
        calibration: predictions against what was seen, for a plot.
        by_similarity: similarity against what was seen, for a plot.
        version: of the function: each learns for itself.
    """

    requests: int
    answered: int
    explored: int
    abstained: int
    error_rate: float
    at_most: float
    allowed: float | None
    confidence: float
    drifts: int
    calibration: tuple[Calibration, ...]
    by_similarity: tuple[AtSimilarity, ...] = ()
    version: str = ""


@dataclass(frozen=True, slots=True)
class FunctionReport:
    """One function's outcomes.

    Attributes:
        function: its name.
        outcomes: calls with feedback.
        observed: calls that were shown experiences against those that were not. Not randomised: the calls for which
            nothing similar is found may be harder ones.
        randomised: lift, low and high: the lifts of a call's candidates added up, by the coin that left them out. NaN
            without a hold-out. What the experiences do together, if their effects add. Of calls since the last alarm.
        lifts: one for each experience that was a candidate and is still there, the most helpful first.
        alarms: how often experiences were quarantined because what was shown hurt as a whole.
        reuse: how answers were reused, where a `VerifiedJudge` decides that: of the version that this process asks,
            else of the one that was asked most.
        other_versions: likewise, of the function's other versions.
    """

    function: str
    outcomes: int
    observed: Contrast
    randomised: tuple[float, float, float]
    lifts: tuple[Lift, ...]
    alarms: int = 0
    reuse: Reuse | None = None
    other_versions: tuple[Reuse, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of outcomes in one namespace. Printed, or shown by a notebook, it is a table for each function."""

    namespace: str
    functions: tuple[FunctionReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values; what is not known (NaN) is None."""
        return _plain(asdict(self))  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        if not self.functions:
            return f"namespace {self.namespace}: no feedback yet; manager.feedback(id, value) says how a call went"
        return "\n\n".join(_as_text(function) for function in self.functions)

    def _repr_html_(self) -> str:
        if not self.functions:
            return f"<p>{html.escape(str(self))}</p>"
        return "".join(_as_html(function) for function in self.functions)


def report_on(namespace: str, outcomes: Outcomes, judge_training: JudgeTraining, store: RecordStore) -> Report:
    """What is known now.

    Raises:
        StoreError: the store failed.
    """
    reuse: dict[str, list[Reuse]] = {}
    for known in judge_training.all(namespace):
        reuse.setdefault(known.function, []).append(_reuse(known))
    folded = {known.function: known for known in outcomes.all(namespace)}
    names = sorted({*reuse, *folded})
    return Report(
        namespace,
        tuple(
            _function(
                namespace, folded.get(name) or FunctionOutcomes(name, LiftTable(), "", 0), reuse.get(name, []), store
            )
            for name in names
        ),
    )


def _reuse(studied: TrainingState) -> Reuse:
    memory, bound = studied.memory, studied.memory.bound
    requests = bound.requests
    return Reuse(
        requests=requests,
        answered=memory.answered,
        explored=memory.explored,
        abstained=requests - memory.answered - memory.explored,
        error_rate=min(1.0, max(0.0, bound.estimate / requests)) if requests else math.nan,
        at_most=min(memory.answered, bound.most_wrong(memory.confidence)) / requests if requests else math.nan,
        allowed=memory.rate if studied.asked else None,
        confidence=memory.confidence,
        drifts=memory.alarms,
        calibration=tuple(
            Calibration((place + 0.5) / len(memory.calibration), seen["wrong"], seen["pairs"])
            for place, seen in enumerate(memory.calibration)
            if seen["pairs"]
        ),
        by_similarity=tuple(AtSimilarity(*step) for step in memory.by_similarity()),
        version=studied.version,
    )


def _function(namespace: str, folded: FunctionOutcomes, reuse: list[Reuse], store: RecordStore) -> FunctionReport:
    effects = folded.lifts.effects()
    lifts: list[Lift] = []
    for start in range(0, len(effects), _JOINED_AT_ONCE):
        page = effects[start : start + _JOINED_AT_ONCE]
        rows = store.get_many(namespace, [effect.id for effect in page], by="id")
        lifts += [_lift(effect, row) for effect, row in zip(page, rows, strict=True) if row is not None]
    lifts.sort(key=lambda lift: -lift.shrunken if math.isfinite(lift.shrunken) else 0.0)
    observed = folded.lifts.observed()
    change, low, high = folded.lifts.added_up()
    asked_first = sorted(reuse, key=lambda version: (version.allowed is None, -version.requests))
    return FunctionReport(
        folded.function,
        observed.calls_with + observed.calls_without,
        observed,
        (_within(change), _within(low), _within(high)),
        tuple(lifts),
        folded.lifts.alarms,
        next(iter(asked_first), None),
        tuple(asked_first[1:]),
    )


def _lift(effect: Effect, row: Record) -> Lift:
    text = " ".join(row.request.split())
    return Lift(
        effect.id,
        text if len(text) <= _TEXT else text[: _TEXT - 1] + "…",
        _within(effect.lift),
        float(effect.low),
        float(effect.high),
        float(effect.shrunken),
        effect.shown,
        effect.held_out,
        effect.verdict,
        row.trust != "trusted",
    )


def _within(change: float) -> float:
    """What an outcome of 0 to 1 can change by; estimates from few calls may say more. NaN stays."""
    return change if math.isnan(change) else float(min(max(change, -1.0), 1.0))


# For people

_HEADER = ("experience", "lift", "95% interval", "best guess", "shown", "left out", "verdict")


def _listed(lifts: Sequence[Lift]) -> tuple[Sequence[Lift], int]:
    """The first and the last of the list, and how many between them are left out."""
    if len(lifts) <= 2 * _LISTED:
        return lifts, 0
    return [*lifts[:_LISTED], *lifts[-_LISTED:]], len(lifts) - 2 * _LISTED


def _cells(lift: Lift) -> tuple[str, ...]:
    verdict = lift.verdict + (", quarantined" if lift.quarantined else "")
    return (
        lift.request or lift.id,
        _signed(lift.lift),
        f"{_signed(lift.low)} to {_signed(lift.high)}",
        _signed(lift.shrunken),
        str(lift.shown),
        str(lift.held_out),
        verdict,
    )


def _sentences(report: FunctionReport) -> list[str]:
    seen, said = report.observed, []
    versions = [reuse for reuse in (report.reuse, *report.other_versions) if reuse is not None]
    for reuse in versions:
        which = f"version {reuse.version!r}, " if len(versions) > 1 else ""
        if not reuse.requests:
            continue
        allowed = "" if reuse.allowed is None else f", {reuse.allowed:.1%} allowed"
        said.append(
            f"{which}{reuse.requests:,} requests: {reuse.answered / reuse.requests:.1%} answered from the pool, "
            f"{reuse.explored / reuse.requests:.1%} explored; wrong about {reuse.error_rate:.2%} of all, "
            f"at most {reuse.at_most:.2%} ({reuse.confidence:.0%} confidence{allowed})"
        )
        if reuse.drifts:
            said.append(f"what was learned about reuse was forgotten {reuse.drifts} times: answers had changed")
    if versions and not report.outcomes:
        return said or ["nothing was asked yet that is like a stored request, and not identical"]
    said.append(f"{report.outcomes:,} calls with feedback")
    if seen.calls_with and seen.calls_without:
        said.append(
            f"with experiences {seen.mean_with:.3f} ({seen.calls_with:,} calls), without {seen.mean_without:.3f} "
            f"({seen.calls_without:,}): {_signed(seen.difference)} ({_signed(seen.low)} to {_signed(seen.high)}), "
            "observed, not randomised"
        )
    elif report.outcomes:
        which, mean = ("with", seen.mean_with) if seen.calls_with else ("without", seen.mean_without)
        said.append(f"all of them {which} experiences: mean {mean:.3f}, nothing to compare with")
    change, low, high = report.randomised
    if math.isfinite(change):
        said.append(
            f"lifts of what was shown, added up: {_signed(change)} ({_signed(low)} to {_signed(high)}), randomised"
        )
    else:
        said.append("nothing was left out at random, so no lift is known; use Inject(..., holdout=0.1)")
    if report.alarms:
        said.append(f"what was shown hurt as a whole, and was quarantined: {report.alarms} times")
    return said


def _as_text(report: FunctionReport) -> str:
    lines = [report.function, *(f"  {said}" for said in _sentences(report))]
    shown, between = _listed(report.lifts)
    table = [_HEADER, *map(_cells, shown)]
    if not report.lifts:
        return "\n".join(lines)
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADER))]
    for number, row in enumerate(table):
        first, *middle, last = row
        cells = (first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(middle, widths[1:], strict=False)), last)
        lines.append("  " + "  ".join(cells))
        if between and number == _LISTED:
            lines.append(f"  … {between:,} between …")
    return "\n".join(lines)


def _as_html(report: FunctionReport) -> str:
    shown, between = _listed(report.lifts)
    rows = [_row(_cells(lift), "td") for lift in shown]
    if between:
        rows.insert(_LISTED, f"<tr><td colspan={len(_HEADER)}>… {between:,} between …</td></tr>")
    said = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in _sentences(report))
    table = f"<table>{_row(_HEADER, 'th')}{''.join(rows)}</table>" if rows else ""
    return f"<h4>{html.escape(report.function)}</h4><ul>{said}</ul>{table}"


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _signed(value: float) -> str:
    return f"{value:+.3f}" if math.isfinite(value) else "?"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
