"""Plots of a pool: growth and hit rate, savings, scores, calibration, lift, and a map of its requests.

Each function draws on an Axes, a new one by default, and returns it; nothing global is touched. A pool that has nothing
to show yet gives an Axes that says so. Needs matplotlib: ``pip install 'exp_pool[plots]'``.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from exp_pool.api.report import FunctionReport, Reuse
from exp_pool.core.contracts.plugs import RecordQuery
from exp_pool.core.filters import parse_where
from exp_pool.core.record import Record, read_scores
from exp_pool.curation.plots.axes import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    ORANGE,
    RED,
    add_legend,
    amount_text,
    brief,
    dot,
    name_rows,
    new_axes,
    nothing_to_show,
    percent,
    show_dates,
)
from exp_pool.curation.plots.request_map import METHODS, by_function, by_score
from exp_pool.curation.review.frame import at_least, one_of
from exp_pool.curation.review.vectors import stored_vectors
from exp_pool.runtime.clock import to_datetime
from exp_pool.runtime.progress import watched

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from exp_pool.api.manager import ExpManager

_VERDICTS = {"helps": GREEN, "hurts": RED}
_BARS = 12
_POINTS = 16  # in time, with at least five experiences each
_CONFIDENCE = 1.96  # standard deviations: 95%
_SAVED = {"money_usd": "US dollars", "time_s": "seconds", "tokens_in": "tokens read", "tokens_out": "tokens written"}


def growth(manager: ExpManager, where: Mapping[str, Any] | None = None, *, ax: Axes | None = None) -> Axes:
    """Number of experiences over time; and the hit rate by when they were stored (right scale).

    The pool keeps how often each answer was used, not when. So the hit rate at a time is that of the answers stored
    then: of all calls that they were for, the first one included, the share that they answered up to now.

    Args:
        manager: whose pool; the namespace is the manager's, or that of ``in_namespace``.
        where: conditions, as in queries.
        ax: where to draw.

    Raises:
        InvalidInputError: an unknown field in `where`.
        ConfigurationError: matplotlib is not installed.
        StoreError: the store failed.
    """
    rows = np.array([(row.created_at, row.access_count) for row in _rows(manager, where)], dtype=np.int64)
    ax = new_axes(ax, "Experiences over time")
    if not len(rows):
        return nothing_to_show(ax, manager, "nothing is stored yet")
    created, used = rows[np.argsort(rows[:, 0], kind="stable")].T
    moments = [to_datetime(int(moment)) for moment in created]
    ax.step(moments, np.arange(1, len(created) + 1), where="post", color=BLUE)
    ax.fill_between(moments, np.arange(1, len(created) + 1), step="post", color=BLUE, alpha=0.15)
    ax.set_ylabel("experiences", color=BLUE)
    ax.set_ylim(0)
    show_dates(ax)
    parts = np.array_split(np.arange(len(created)), min(_POINTS, max(1, len(created) // 5)))
    rates = ax.twinx()
    rates.plot(
        [to_datetime(int(created[part].mean())) for part in parts],
        [used[part].sum() / (used[part].sum() + len(part)) for part in parts],
        color=ORANGE,
        marker="o",
        markersize=4,
    )
    rates.set_ylim(0, 1)
    rates.yaxis.set_major_formatter(percent())
    rates.set_ylabel("hit rate of what was stored then", color=ORANGE)
    rates.spines["top"].set_visible(False)
    total = used.sum() / (used.sum() + len(used))
    ax.set_title(f"{len(created):,} experiences, {total:.0%} of their calls answered from the pool", parse_math=False)
    return ax


def scores(manager: ExpManager, where: Mapping[str, Any] | None = None, *, ax: Axes | None = None) -> Axes:
    """Box plot of scores by scorer: median, quartiles, whiskers of 1.5 times their distance, outliers.

    Args:
        manager: whose pool.
        where: conditions, as in queries.
        ax: where to draw.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for row in _rows(manager, where):
        for scorer, score in read_scores(row.scores).items():
            found[scorer].append(score.value)
    ax = new_axes(ax, "Scores")
    if not found:
        return nothing_to_show(ax, manager, "nothing is scored yet")
    names = sorted(found, key=lambda name: -float(np.median(found[name])))[:_BARS][::-1]  # the best on top
    drawn = ax.boxplot([found[name] for name in names], orientation="horizontal", widths=0.55, patch_artist=True)
    for box in drawn["boxes"]:
        box.set(facecolor=BLUE, alpha=0.3, edgecolor=BLUE)
    for part in (*drawn["whiskers"], *drawn["caps"]):
        part.set(color=BLUE)
    for line in drawn["medians"]:
        line.set(color=BLUE, linewidth=2)
    for dots in drawn["fliers"]:
        dots.set(marker=".", markeredgecolor=GREY, alpha=0.5)
    name_rows(ax, [f"{brief(name)}\nn = {len(found[name]):,}" for name in names], start=1)
    ax.set_xlim(-0.02, 1.02)
    ax.set_xlabel("score")
    return ax


def calibration(
    manager: ExpManager, function: str | Callable[..., Any] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Calibration of a `VerifiedJudge`: predicted chance that a similar answer is right, and the share that was right.

    From `ExpManager.report`: pairs of requests whose answers were compared, by what was predicted for them, with 95%
    intervals (Wilson); larger dots are more pairs. On the diagonal predictions are true; above it, too careful.

    Args:
        manager: whose pool.
        function: of which function; by default all that have such a judge.
        ax: where to draw.

    Raises:
        ConfigurationError: matplotlib is not installed.
        StoreError: the store failed.
    """

    def predicted(report: Reuse) -> list[tuple[float, float, int]]:
        return [(1 - each.predicted, 1 - each.wrong / each.pairs, each.pairs) for each in report.calibration]

    ax = new_axes(ax, "Similar requests: predicted and seen")
    if _rightness(ax, manager, function, predicted):
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        ax.xaxis.set_major_formatter(percent())
        ax.set(xlabel="predicted: the stored answer is right", xlim=(-0.02, 1.02))
    return ax


def similarity(
    manager: ExpManager, function: str | Callable[..., Any] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Similarity against correctness: the share of stored answers that were right for requests of that similarity.

    From `ExpManager.report`: the pairs of requests whose answers a `VerifiedJudge` compared, with 95% intervals
    (Wilson); larger dots are more pairs. Where the dots do not rise, no threshold will do.

    Args:
        manager: whose pool.
        function: of which function; by default all that have such a judge.
        ax: where to draw.

    Raises:
        ConfigurationError: matplotlib is not installed.
        StoreError: the store failed.
    """
    ax = new_axes(ax, "Similar requests: similarity and correctness")
    if _rightness(
        ax, manager, function, lambda report: [(a.similarity, a.right, a.pairs) for a in report.by_similarity]
    ):
        ax.set(xlabel="similarity (cosine)")
    return ax


def _rightness(
    ax: Axes,
    manager: ExpManager,
    function: str | Callable[..., Any] | None,
    seen_by: Callable[[Reuse], list[tuple[float, float, int]]],
) -> bool:
    """Draw, for each function, (where, share that was right, pairs) as dots with intervals; whether there were any."""
    found = ((each.function, seen_by(each.reuse)) for each in _reports(manager, function) if each.reuse)
    series = {name: seen for name, seen in found if seen}
    if not series:
        nothing_to_show(ax, manager, "no VerifiedJudge has compared answers yet")
        return False
    handles = []
    for seen, colour in zip(series.values(), COLOURS, strict=False):
        places, right, pairs = np.array(seen).T
        ax.vlines(places, *_wilson(right, pairs), color=colour, alpha=0.5)
        sizes = 15 + 120 * pairs / pairs.max()
        handles.append(ax.scatter(places, right, s=sizes, color=colour, zorder=3, clip_on=False))
    names = [f"{brief(name)}: {sum(pairs for *_, pairs in seen):,} pairs" for name, seen in series.items()]
    add_legend(ax, handles, names[: len(handles)], loc="upper left")
    ax.yaxis.set_major_formatter(percent())
    ax.set(ylabel="the stored answer was right", ylim=(-0.02, 1.02))
    return True


def requests(
    manager: ExpManager,
    where: Mapping[str, Any] | None = None,
    *,
    colour: str = "function",
    method: str = "pca",
    limit: int = 5000,
    ax: Axes | None = None,
) -> Axes:
    """Map of requests in two dimensions: near points are near in meaning, as far as two dimensions allow.

    Args:
        manager: whose pool. Stored vectors are used; pending rows are embedded first.
        where: conditions, as in queries.
        colour: by ``"function"`` or by ``"score"`` (the deciding one; grey: none).
        method: ``"pca"``: the two directions in which requests differ most; or ``"umap"``, which keeps neighbours
            together (``pip install umap-learn``).
        limit: how many points at most; of more requests every so manieth is shown.
        ax: where to draw.

    Raises:
        InvalidInputError: a value that cannot be, or a pool without vectors.
        ConfigurationError: matplotlib, or umap-learn, is not installed.
        EmbedderError, StoreError: pending rows cannot be embedded; the store failed.
    """
    one_of("colour", colour, ("function", "score"))
    one_of("method", method, METHODS)
    at_least("limit", limit, 3, math.inf)
    pool = manager.sync
    rows = [(row.id, row.function, row.score) for row in _rows(manager, where)]
    total = len(rows)
    rows = rows[:: max(1, math.ceil(total / limit))]
    ax = new_axes(ax, "Requests")
    meaning = stored_vectors(pool, [id_ for id_, _, _ in rows])
    if len(meaning.places) < 3:  # noqa: PLR2004  (two points are no map)
        return nothing_to_show(ax, manager, "too few requests for a map")
    shown = [rows[place] for place in meaning.places]
    points, said = METHODS[method](meaning.vectors)
    if colour == "score":
        by_score(ax, points, [score for _, _, score in shown])
    else:
        by_function(ax, points, [function for _, function, _ in shown])
    ax.set(xticks=[], yticks=[], xlabel=said[0], ylabel=said[1])
    ax.set_title(f"{len(shown):,} requests" + (f" of {total:,}" if len(shown) < total else ""), parse_math=False)
    return ax


def lifts(
    manager: ExpManager, function: str | Callable[..., Any] | None = None, *, limit: int = 20, ax: Axes | None = None
) -> Axes:
    """Lift of each experience with 95% intervals: the surest to help, and to hurt.

    From `ExpManager.report`; needs ``Inject(holdout=)`` and `feedback`.

    Args:
        manager: whose pool.
        function: of which function; by default the one with most outcomes.
        limit: how many experiences at most, half of them from either end.
        ax: where to draw.

    Raises:
        ConfigurationError: matplotlib is not installed.
        StoreError: the store failed.
    """
    at_least("limit", limit, 2, math.inf)
    reports = [report for report in _reports(manager, function) if any(math.isfinite(e.lift) for e in report.lifts)]
    ax = new_axes(ax, "What helps")
    if not reports:
        return nothing_to_show(ax, manager, "no lift is known yet: Inject(holdout=), and feedback")
    report = max(reports, key=lambda each: each.outcomes)
    known = [effect for effect in report.lifts if math.isfinite(effect.lift)]
    if len(known) > limit:
        known = [*known[: limit // 2], *known[-(limit // 2) :]]
    known = known[::-1]  # the most helpful on top
    places = np.arange(len(known))
    colours = [_VERDICTS.get(effect.verdict, GREY) for effect in known]
    ends = [[b if math.isfinite(b) else e for b, e in ((e.low, -1.0), (e.high, 1.0))] for e in known]
    ax.hlines(places, [low for low, _ in ends], [high for _, high in ends], color=colours, linewidth=2, alpha=0.6)
    ax.scatter([effect.lift for effect in known], places, color=colours, zorder=3)
    ax.axvline(0, color=GREY, linewidth=1)
    name_rows(ax, [brief(effect.request or effect.id) for effect in known])
    ax.set_ylim(-0.7, len(known) - 0.3)
    ax.set_xlabel("lift of the outcome when it is shown")
    ax.set_title(f"{brief(report.function)}: {report.outcomes:,} outcomes", parse_math=False)
    add_legend(ax, [dot(GREEN), dot(RED), dot(GREY)], ["helps", "hurts", "unclear"], loc="best")
    return ax


def savings(
    manager: ExpManager, where: Mapping[str, Any] | None = None, *, what: str = "money_usd", ax: Axes | None = None
) -> Axes:
    """Savings by function: the cost of each answer when it was made, times its uses.

    Args:
        manager: whose pool.
        where: conditions, as in queries.
        what: ``"money_usd"``, ``"time_s"``, ``"tokens_in"`` or ``"tokens_out"``.
        ax: where to draw.

    Raises:
        InvalidInputError: a value that cannot be.
        ConfigurationError: matplotlib is not installed.
        StoreError: the store failed.
    """
    one_of("what", what, _SAVED)
    saved: dict[str, float] = defaultdict(float)
    for row in _rows(manager, where):
        cost = json.loads(row.metric).get(what)
        if isinstance(cost, int | float) and row.access_count:
            saved[row.function] += cost * row.access_count
    ax = new_axes(ax, "Saved")
    if not saved:
        return nothing_to_show(ax, manager, f"nothing is saved yet, as far as {_SAVED[what]} were recorded")
    names = sorted(saved, key=lambda name: -saved[name])
    shown = [*names[: _BARS - 1], *(["others"] if len(names) >= _BARS else names[_BARS - 1 :])]
    amounts = [saved[name] for name in names[: _BARS - 1]]
    if len(names) >= _BARS:
        amounts.append(sum(saved[name] for name in names[_BARS - 1 :]))
    places = np.arange(len(shown))[::-1]
    bars = ax.barh(places, amounts, color=GREEN, height=0.6)
    ax.bar_label(bars, [amount_text(amount) for amount in amounts], padding=3, color=GREY)
    name_rows(ax, [brief(name) for name in shown[::-1]])
    ax.set_xlim(0, max(amounts) * 1.15)
    ax.set_ylim(-0.7, len(shown) - 0.3)
    ax.set_xlabel(_SAVED[what])
    ax.set_title(f"{amount_text(sum(saved.values()))} {_SAVED[what]} saved", parse_math=False)
    return ax


def _rows(manager: ExpManager, where: Mapping[str, Any] | None) -> Iterable[Record]:
    """Current rows, with expired and quarantined ones."""
    pool = manager.sync
    query = RecordQuery(pool.namespace, parse_where(where))
    return watched(pool.store.scan(query), "reading experiences", pool.store.count(query))


def _reports(manager: ExpManager, function: str | Callable[..., Any] | None) -> list[FunctionReport]:
    name = getattr(function, "__exp_function__", function)
    return [report for report in manager.sync.report().functions if name is None or report.function == name]


def _wilson(shares: Any, counts: Any) -> tuple[Any, Any]:
    """95% intervals of shares (Wilson, 1927)."""
    square = _CONFIDENCE**2 / counts
    middle = (shares + square / 2) / (1 + square)
    half = np.sqrt(shares * (1 - shares) * square + square**2 / 4) / (1 + square)
    return middle - half, middle + half
