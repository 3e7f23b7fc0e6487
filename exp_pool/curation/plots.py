"""Pictures of a pool: how it grows and what it saves, how good it is, what it is about, what helps.

Each function draws on an Axes, a new one by default, and returns it; nothing global is touched. A pool that has nothing
to show yet gives an Axes that says so. Needs matplotlib: ``pip install 'exp_pool[plots]'``.
"""

from __future__ import annotations

import importlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from exp_pool.api.report import FunctionReport
from exp_pool.core.contracts.plugs import RecordQuery
from exp_pool.core.filters import parse_where
from exp_pool.core.record import Record, read_scores
from exp_pool.curation.review.frame import at_least, one_of
from exp_pool.curation.review.vectors import stored_meaning
from exp_pool.errors import ConfigurationError
from exp_pool.runtime.clock import to_datetime
from exp_pool.runtime.plugs import to_install
from exp_pool.runtime.progress import watched

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from exp_pool.api.manager import ExpManager

# Okabe, Ito, "Color universal design", 2008: told apart by the colour-blind, too.
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"
_COLOURS = (_BLUE, _ORANGE, _GREEN, _RED, "#CC79A7", "#56B4E9", "#F0E442")
_VERDICTS = {"helps": _GREEN, "hurts": _RED}
_SIZE = (7.0, 4.0)
_TEXT = 44  # characters of a request, a function
_BARS = 12
_POINTS = 16  # in time, with at least five experiences each
_CONFIDENCE = 1.96  # standard deviations: 95%
_SCRIPTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC", "SimHei")
_SAVED = {"money_usd": "US dollars", "time_s": "seconds", "tokens_in": "tokens read", "tokens_out": "tokens written"}


def growth(manager: ExpManager, where: Mapping[str, Any] | None = None, *, ax: Axes | None = None) -> Axes:
    """How many experiences there are over time; and how often they answered, by when they were stored (right scale).

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
    ax = _axes(ax, "Experiences over time")
    if not len(rows):
        return _nothing(ax, manager, "nothing is stored yet")
    created, used = rows[np.argsort(rows[:, 0], kind="stable")].T
    moments = [to_datetime(int(moment)) for moment in created]
    ax.step(moments, np.arange(1, len(created) + 1), where="post", color=_BLUE)
    ax.fill_between(moments, np.arange(1, len(created) + 1), step="post", color=_BLUE, alpha=0.15)
    ax.set_ylabel("experiences", color=_BLUE)
    ax.set_ylim(0)
    _dates(ax)
    parts = np.array_split(np.arange(len(created)), min(_POINTS, max(1, len(created) // 5)))
    rates = ax.twinx()
    rates.plot(
        [to_datetime(int(created[part].mean())) for part in parts],
        [used[part].sum() / (used[part].sum() + len(part)) for part in parts],
        color=_ORANGE,
        marker="o",
        markersize=4,
    )
    rates.set_ylim(0, 1)
    rates.yaxis.set_major_formatter(_percent())
    rates.set_ylabel("hit rate of what was stored then", color=_ORANGE)
    rates.spines["top"].set_visible(False)
    total = used.sum() / (used.sum() + len(used))
    ax.set_title(f"{len(created):,} experiences, {total:.0%} of their calls answered from the pool", parse_math=False)
    return ax


def scores(manager: ExpManager, where: Mapping[str, Any] | None = None, *, ax: Axes | None = None) -> Axes:
    """How each scorer has scored: median, quartiles, 1.5 times their distance, and what lies outside.

    Arguments and errors are those of `growth`.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for row in _rows(manager, where):
        for scorer, score in read_scores(row.scores).items():
            found[scorer].append(score.value)
    ax = _axes(ax, "Scores")
    if not found:
        return _nothing(ax, manager, "nothing is scored yet")
    names = sorted(found, key=lambda name: -float(np.median(found[name])))[:_BARS][::-1]  # the best on top
    drawn = ax.boxplot([found[name] for name in names], orientation="horizontal", widths=0.55, patch_artist=True)
    for box in drawn["boxes"]:
        box.set(facecolor=_BLUE, alpha=0.3, edgecolor=_BLUE)
    for part in (*drawn["whiskers"], *drawn["caps"]):
        part.set(color=_BLUE)
    for line in drawn["medians"]:
        line.set(color=_BLUE, linewidth=2)
    for dots in drawn["fliers"]:
        dots.set(marker=".", markeredgecolor=_GREY, alpha=0.5)
    _names(ax, [f"{_brief(name)}\nn = {len(found[name]):,}" for name in names], start=1)
    ax.set_xlim(-0.02, 1.02)
    ax.set_xlabel("score")
    return ax


def calibration(
    manager: ExpManager, function: str | Callable[..., Any] | None = None, *, ax: Axes | None = None
) -> Axes:
    """How right a `VerifiedJudge` is about similar requests: the chance it predicted, and how many really were right.

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
    reports = [report for report in _reports(manager, function) if report.reuse and report.reuse.calibration]
    ax = _axes(ax, "Similar requests: predicted and seen")
    if not reports:
        return _nothing(ax, manager, "no VerifiedJudge has compared answers yet")
    ax.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--")
    series = [
        [(1 - c.predicted, 1 - c.wrong / c.pairs, c.pairs) for c in r.reuse.calibration] for r in reports if r.reuse
    ]
    _rightness(ax, reports, series)
    ax.xaxis.set_major_formatter(_percent())
    ax.set(xlabel="predicted: the stored answer is right", xlim=(-0.02, 1.02))
    return ax


def similarity(
    manager: ExpManager, function: str | Callable[..., Any] | None = None, *, ax: Axes | None = None
) -> Axes:
    """What similarity says about correctness: how many stored answers were right for requests so similar.

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
    reports = [report for report in _reports(manager, function) if report.reuse and report.reuse.by_similarity]
    ax = _axes(ax, "Similar requests: similarity and correctness")
    if not reports:
        return _nothing(ax, manager, "no VerifiedJudge has compared answers yet")
    series = [[(at.similarity, at.right, at.pairs) for at in r.reuse.by_similarity] for r in reports if r.reuse]
    _rightness(ax, reports, series)
    ax.set(xlabel="similarity (cosine)")
    return ax


def _rightness(
    ax: Axes, reports: Sequence[FunctionReport], series: Sequence[Sequence[tuple[float, float, int]]]
) -> None:
    """Of each function (where, share that was right, pairs), as dots with intervals."""
    handles = []
    for seen, colour in zip(series, _COLOURS, strict=False):
        places, right, pairs = np.array(seen).T
        low, high = _wilson(right, pairs)
        ax.vlines(places, low, high, color=colour, alpha=0.5)
        handles.append(
            ax.scatter(places, right, s=15 + 120 * pairs / pairs.max(), color=colour, zorder=3, clip_on=False)
        )
    counts = [sum(pairs for *_, pairs in seen) for seen in series]
    names = [f"{_brief(report.function)}: {count:,} pairs" for report, count in zip(reports, counts, strict=True)]
    _legend(ax, handles, names[: len(handles)], loc="upper left")
    ax.yaxis.set_major_formatter(_percent())
    ax.set(ylabel="the stored answer was right", ylim=(-0.02, 1.02))


def requests(
    manager: ExpManager,
    where: Mapping[str, Any] | None = None,
    *,
    colour: str = "function",
    method: str = "pca",
    limit: int = 5000,
    ax: Axes | None = None,
) -> Axes:
    """A map of requests: what is near in meaning is near on it, as far as two dimensions allow.

    Args:
        manager: whose pool. Vectors are those that are stored; what is owed one is embedded first.
        where: conditions, as in queries.
        colour: by ``"function"`` or by ``"score"`` (the deciding one; grey: none).
        method: ``"pca"``: the two directions in which requests differ most; or ``"umap"``, which keeps neighbours
            together (``pip install umap-learn``).
        limit: how many points at most; of more requests every so manieth is shown.
        ax: where to draw.

    Raises:
        InvalidInputError: a value that cannot be, or a pool without vectors.
        ConfigurationError: matplotlib, or umap-learn, is not installed.
        EmbedderError, StoreError: what is owed cannot be embedded; the store failed.
    """
    one_of("colour", colour, ("function", "score"))
    one_of("method", method, _METHODS)
    at_least("limit", limit, 3, math.inf)
    pool = manager.sync
    rows = [(row.id, row.function, row.score) for row in _rows(manager, where)]
    total = len(rows)
    rows = rows[:: max(1, math.ceil(total / limit))]
    ax = _axes(ax, "Requests")
    meaning = stored_meaning(pool, [id_ for id_, _, _ in rows])
    if len(meaning.places) < 3:  # noqa: PLR2004  (two points are no map)
        return _nothing(ax, manager, "too few requests for a map")
    shown = [rows[place] for place in meaning.places]
    points, said = _METHODS[method](meaning.vectors)
    if colour == "score":
        _by_score(ax, points, [score for _, _, score in shown])
    else:
        _by_function(ax, points, [function for _, function, _ in shown])
    ax.set(xticks=[], yticks=[], xlabel=said[0], ylabel=said[1])
    ax.set_title(f"{len(shown):,} requests" + (f" of {total:,}" if len(shown) < total else ""), parse_math=False)
    return ax


def lifts(
    manager: ExpManager,
    function: str | Callable[..., Any] | None = None,
    *,
    limit: int = 20,
    ax: Axes | None = None,
) -> Axes:
    """What showing each experience does to the outcome, with 95% intervals: the surest to help, and to hurt.

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
    ax = _axes(ax, "What helps")
    if not reports:
        return _nothing(ax, manager, "no lift is known yet: Inject(holdout=), and feedback")
    report = max(reports, key=lambda each: each.outcomes)
    known = [effect for effect in report.lifts if math.isfinite(effect.lift)]
    if len(known) > limit:
        known = [*known[: limit // 2], *known[-(limit // 2) :]]
    known = known[::-1]  # the most helpful on top
    places = np.arange(len(known))
    colours = [_VERDICTS.get(effect.verdict, _GREY) for effect in known]
    ends = [[b if math.isfinite(b) else e for b, e in ((e.low, -1.0), (e.high, 1.0))] for e in known]
    ax.hlines(places, [low for low, _ in ends], [high for _, high in ends], color=colours, linewidth=2, alpha=0.6)
    ax.scatter([effect.lift for effect in known], places, color=colours, zorder=3)
    ax.axvline(0, color=_GREY, linewidth=1)
    _names(ax, [_brief(effect.request or effect.id) for effect in known])
    ax.set_ylim(-0.7, len(known) - 0.3)
    ax.set_xlabel("lift of the outcome when it is shown")
    ax.set_title(f"{_brief(report.function)}: {report.outcomes:,} outcomes", parse_math=False)
    _legend(ax, [_dot(_GREEN), _dot(_RED), _dot(_GREY)], ["helps", "hurts", "unclear"], loc="best")
    return ax


def savings(
    manager: ExpManager,
    where: Mapping[str, Any] | None = None,
    *,
    what: str = "money_usd",
    ax: Axes | None = None,
) -> Axes:
    """What the pool's answers have saved, by function: what each had cost when it was made, as often as it was used.

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
    ax = _axes(ax, "Saved")
    if not saved:
        return _nothing(ax, manager, f"nothing is saved yet, as far as {_SAVED[what]} were recorded")
    names = sorted(saved, key=lambda name: -saved[name])
    shown = [*names[: _BARS - 1], *(["others"] if len(names) >= _BARS else names[_BARS - 1 :])]
    amounts = [saved[name] for name in names[: _BARS - 1]]
    if len(names) >= _BARS:
        amounts.append(sum(saved[name] for name in names[_BARS - 1 :]))
    places = np.arange(len(shown))[::-1]
    bars = ax.barh(places, amounts, color=_GREEN, height=0.6)
    ax.bar_label(bars, [_amount(amount) for amount in amounts], padding=3, color=_GREY)
    _names(ax, [_brief(name) for name in shown[::-1]])
    ax.set_xlim(0, max(amounts) * 1.15)
    ax.set_ylim(-0.7, len(shown) - 0.3)
    ax.set_xlabel(_SAVED[what])
    ax.set_title(f"{_amount(sum(saved.values()))} {_SAVED[what]} saved", parse_math=False)
    return ax


# ── What is drawn ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(manager: ExpManager, where: Mapping[str, Any] | None) -> Iterable[Record]:
    """Current ones, expired and quarantined ones too, after uses have been counted."""
    pool = manager.sync
    query = RecordQuery(pool.space, parse_where(where))
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


def _pca(vectors: Any) -> tuple[Any, tuple[str, str]]:
    centred = vectors - vectors.mean(axis=0)
    _, spread, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2] * np.sign(directions[:2].sum(axis=1, keepdims=True) + 1e-12)  # or it flips at will
    if len(directions) < 2:  # noqa: PLR2004  (an embedder of one dimension)
        directions = np.vstack([directions, np.zeros_like(directions)])
    shares = np.append(spread**2 / max(float((spread**2).sum()), 1e-12), 0.0)
    return centred @ directions.T, (f"PC 1 ({shares[0]:.0%} of the variance)", f"PC 2 ({shares[1]:.0%})")


def _umap(vectors: Any) -> tuple[Any, tuple[str, str]]:
    umap = _installed("umap", "umap-learn")
    neighbours = min(15, len(vectors) - 1)
    return umap.UMAP(n_neighbors=neighbours, metric="cosine", random_state=0, n_jobs=1).fit_transform(vectors), (
        "UMAP 1",
        "UMAP 2",
    )


_METHODS: Mapping[str, Callable[[Any], tuple[Any, tuple[str, str]]]] = {"pca": _pca, "umap": _umap}


def _by_function(ax: Axes, points: Any, functions: Sequence[str]) -> None:
    counts = {name: functions.count(name) for name in dict.fromkeys(functions)}
    names = sorted(counts, key=lambda name: -counts[name])
    colours = {name: _COLOURS[at] if at < len(_COLOURS) else _GREY for at, name in enumerate(names)}
    ax.scatter(*points.T, c=[colours[name] for name in functions], s=_dots(len(points)), alpha=0.6, linewidths=0)
    labelled = names[: len(_COLOURS)]
    handles = [_dot(colours[name]) for name in labelled]
    labels = [f"{_brief(name)} ({counts[name]:,})" for name in labelled]
    if len(names) > len(labelled):
        handles.append(_dot(_GREY))
        labels.append(f"{len(names) - len(labelled)} others")
    _legend(ax, handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)


def _by_score(ax: Axes, points: Any, found: Sequence[float | None]) -> None:
    values = np.array([math.nan if score is None else score for score in found])
    none = np.isnan(values)
    size = _dots(len(points))
    ax.scatter(*points[none].T, color=_GREY, s=size, alpha=0.25, linewidths=0)
    drawn = ax.scatter(*points[~none].T, c=values[~none], cmap="viridis", vmin=0, vmax=1, s=size, linewidths=0)
    ax.figure.colorbar(drawn, ax=ax, label="score")


def _dots(count: int) -> float:
    return 30.0 if count < 300 else 12.0 if count < 2000 else 6.0  # noqa: PLR2004


# ── How it is drawn ───────────────────────────────────────────────────────────────────────────────────────────────────


def _axes(ax: Axes | None, title: str) -> Axes:
    if ax is None:
        pyplot = _installed("matplotlib.pyplot", "matplotlib", to_install("plots"))
        _, ax = pyplot.subplots(figsize=_SIZE, layout="constrained")
    assert ax is not None
    ax.set_title(title)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    return ax


def _nothing(ax: Axes, manager: ExpManager, why: str) -> Axes:
    said = f"{why}\n(namespace {_brief(manager.sync.space)})"
    ax.text(0.5, 0.5, said, ha="center", va="center", color=_GREY, transform=ax.transAxes, **_plain())
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def _names(ax: Axes, names: Sequence[str], start: int = 0) -> None:
    """Names along the left side. What people write is no formula."""
    ax.set_yticks(range(start, start + len(names)), names, **_plain())
    ax.tick_params(axis="y", length=0)


def _legend(ax: Axes, handles: Sequence[Any], labels: Sequence[str], **where: Any) -> None:
    # A label that begins with "_" would be left out.
    legend = ax.legend(
        handles[: len(labels)], [f" {label}" for label in labels][: len(handles)], frameon=False, **where
    )
    for text in legend.get_texts():
        text.set(**_plain())


def _dot(colour: str) -> Any:
    line = importlib.import_module("matplotlib.lines").Line2D
    return line([], [], marker="o", linestyle="", color=colour, markersize=6)


def _plain() -> dict[str, Any]:
    """Text as it is written, in a font that has Chinese, where one is installed."""
    fonts = importlib.import_module("matplotlib.font_manager")
    known = set(fonts.get_font_names())
    return {"parse_math": False, "fontfamily": ["DejaVu Sans", *(name for name in _SCRIPTS if name in known)]}


def _brief(text: str) -> str:
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    line = "".join(letter for letter in line if letter.isprintable())
    return line if len(line) <= _TEXT else line[: _TEXT - 1] + "…"


def _amount(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"  # noqa: PLR2004


def _percent() -> Any:
    return importlib.import_module("matplotlib.ticker").PercentFormatter(1.0)


def _dates(ax: Axes) -> None:
    dates = importlib.import_module("matplotlib.dates")
    locator = dates.AutoDateLocator(maxticks=7)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))


def _installed(module: str, package: str, command: str | None = None) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as err:
        raise ConfigurationError(f"this needs {package}: {command or f'pip install {package}'} ({err})") from err
