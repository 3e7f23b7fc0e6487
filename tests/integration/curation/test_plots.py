"""Pictures show what is in the pool; an empty pool says so; nothing global is touched."""

import random
import sys
from datetime import UTC, datetime, timedelta

import pytest
from support.judged_calls import Asking

from exp_pool import Experience, Metric, Score, in_namespace
from exp_pool.curation import plots
from exp_pool.errors import ConfigurationError, InvalidInputError
from exp_pool.testing.factories import NASTY_TEXTS

matplotlib = pytest.importorskip("matplotlib")
pytest.importorskip("matplotlib.pyplot")
ALL = [plots.growth, plots.scores, plots.calibration, plots.similarity, plots.requests, plots.lifts, plots.savings]
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _no_window():
    with matplotlib.rc_context({"backend": "agg"}):
        yield
        matplotlib.pyplot.close("all")


@pytest.fixture
def manager(make_manager):
    return make_manager()


def fill(manager, count=40, function="f", **fields):
    manager.sync.create_exps(
        [
            Experience(
                **{
                    "function": function,
                    "request": f"{'abcdefghij'[n % 10] * 5} question {n}",
                    "response": n,
                    "created_at": START + timedelta(days=n),
                    "access_count": n % 4,
                    "scores": {"good": Score(value=0.9), "bad": Score(value=n / 100)},
                    "metric": Metric(money_usd=0.5, time_s=2.0),
                    **fields,
                }
            )
            for n in range(count)
        ]
    )


def said(ax):
    """Every text of the picture."""
    ax.figure.canvas.draw()
    return [text.get_text() for text in ax.figure.findobj(matplotlib.text.Text) if text.get_text()]


@pytest.mark.parametrize("plot", ALL, ids=lambda plot: plot.__name__)
def test_an_empty_pool_says_so(manager, plot):
    ax = plot(manager)
    assert any("(namespace default)" in text for text in said(ax))
    assert not ax.lines
    assert not ax.collections
    assert not ax.patches


@pytest.mark.parametrize("plot", ALL, ids=lambda plot: plot.__name__)
def test_it_draws_where_it_is_told_and_touches_nothing_else(manager, plot):
    fill(manager)
    before = dict(matplotlib.rcParams)
    figure, (left, right) = matplotlib.pyplot.subplots(1, 2)
    assert plot(manager, ax=right) is right
    assert not left.has_data()
    assert plot(manager).figure is not figure
    assert dict(matplotlib.rcParams) == before


def test_growth_counts_experiences_and_the_calls_that_they_answered(manager):
    fill(manager)
    with in_namespace("other"):
        fill(manager, 100)
    ax = plots.growth(manager)
    assert ax.lines[0].get_ydata()[-1] == 40
    assert ax.get_title() == "40 experiences, 60% of their calls answered from the pool"  # 60 hits, 40 first calls
    (rates,) = [other for other in ax.figure.axes if other is not ax]
    assert all(0 <= rate <= 0.75 for rate in rates.lines[0].get_ydata())
    assert plots.growth(manager, {"access_count": {"gte": 3}}).lines[0].get_ydata()[-1] == 10


def test_scores_stand_by_scorer_the_best_on_top(manager):
    fill(manager)
    ax = plots.scores(manager)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["bad\nn = 40", "good\nn = 40"]


def test_savings_are_what_answers_had_cost_as_often_as_they_were_used(manager):
    fill(manager)
    fill(manager, 4, function="g", metric=Metric())
    ax = plots.savings(manager)
    assert [bar.get_width() for bar in ax.patches] == [30.0]
    assert ax.get_title() == "30 US dollars saved"
    assert [bar.get_width() for bar in plots.savings(manager, what="time_s").patches] == [120.0]
    for n in range(20):
        fill(manager, 4, function=f"more.{n}")
    ax = plots.savings(manager)
    assert len(ax.patches) == 12
    assert sum(bar.get_width() for bar in ax.patches) == pytest.approx(30 + 20 * 3)
    with pytest.raises(InvalidInputError, match="what='fame'"):
        plots.savings(manager, what="fame")


def test_requests_are_points_by_function_or_score(manager):
    fill(manager, 30)
    fill(manager, 10, function="g", scores={})
    ax = plots.requests(manager)
    assert len(ax.collections[0].get_offsets()) == 40
    assert {" f (30)", " g (10)"} <= set(said(ax))
    none, scored = plots.requests(manager, colour="score").collections
    assert (len(none.get_offsets()), len(scored.get_offsets())) == (10, 30)
    ax = plots.requests(manager, limit=10)
    assert len(ax.collections[0].get_offsets()) == 10
    assert ax.get_title() == "10 requests of 40"
    with pytest.raises(InvalidInputError, match="colour='taste'"):
        plots.requests(manager, colour="taste")


def test_umap_is_used_where_it_is_installed(manager, monkeypatch):
    fill(manager)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ConfigurationError, match="pip install umap-learn"):
        plots.requests(manager, method="umap")


def test_a_missing_matplotlib_is_named(manager, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ConfigurationError, match=r"pip install .*matplotlib"):
        plots.scores(manager)


def test_what_the_judge_predicted_against_what_was_seen(manager):
    asking = Asking(manager)
    asking.go(300)
    seen = asking.reuse().calibration
    ax = plots.calibration(manager)
    (dots,) = [each for each in ax.collections if isinstance(each, matplotlib.collections.PathCollection)]
    right = {round(1 - each.predicted, 6): 1 - each.wrong / each.pairs for each in seen}
    assert {round(x, 6): y for x, y in dots.get_offsets().tolist()} == pytest.approx(right)
    assert f" ask: {sum(each.pairs for each in seen)} pairs" in said(ax)
    assert plots.calibration(manager, "another").texts
    assert not plots.calibration(manager, asking.ask).texts


def test_similarity_against_correctness(manager):
    asking = Asking(manager)
    asking.go(300)
    (memory,) = (studied.memory for studied in manager.sync._judge_training.all("default"))
    seen = {}
    for example, wrong, _ in memory.labels:
        pair, chance = example.features, example.chance
        step = seen.setdefault(min(int(pair.numbers[0] * 20), 19), [0.0, 0.0])
        step[0] += (not wrong) / chance
        step[1] += 1 / chance
    ax = plots.similarity(manager)
    (dots,) = [each for each in ax.collections if isinstance(each, matplotlib.collections.PathCollection)]
    right = {round((step + 0.5) / 20, 6): share / total for step, (share, total) in seen.items()}
    assert len(right) > 3
    assert {round(x, 6): y for x, y in dots.get_offsets().tolist()} == pytest.approx(right)
    assert f" ask: {len(memory.labels)} pairs" in said(ax)
    assert plots.similarity(manager, "another").texts


def test_lifts_have_intervals_and_the_most_helpful_stands_on_top(manager):
    chance = random.Random(0)
    effects = {"tests first": 0.3, "delete the test": -0.4, "nothing": 0.0}
    pool = manager.sync
    for name in effects:
        pool.create_exp(Experience(function="act", request=name, response=1, id=name, origin="automatic"))
    for number in range(200):
        shown = [name for name in effects if chance.random() >= 0.3]
        left_out = [name for name in effects if name not in shown]
        made = Experience(
            function="act",
            request=f"call {number}",
            response=1,
            parents=shown,
            origin="automatic",
            metadata={"exp_pool": {"holdout": 0.3, "left_out": left_out}},
        )
        success = 0.5 + sum(effects[name] for name in shown)
        pool.feedback(pool.create_exp(made), float(chance.random() < success))
    pool.flush()
    report = {lift.id: lift for lift in pool.report().functions[0].lifts}
    ax = plots.lifts(manager)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[0] == "delete the test"
    assert names[-1] == "tests first"
    lines, dots = ax.collections
    for at, name in enumerate(names):
        (low, _), (high, _) = lines.get_segments()[at]
        assert (low, dots.get_offsets()[at][0], high) == pytest.approx(
            (report[name].low, report[name].lift, report[name].high)
        )
    assert len(plots.lifts(manager, limit=2).get_yticklabels()) == 2
    assert plots.lifts(manager, "another").texts


def test_what_people_write_is_shown_as_it_is(manager):
    """Neither a formula, nor a break, nor something that cannot be drawn."""
    for n, text in enumerate(["$x_{$", "_hidden", "a\nb", *NASTY_TEXTS]):
        name = text.strip() or f"f{n}"
        fill(manager, 3, function=name, scores={name: Score(value=0.5)})
    for plot in (plots.growth, plots.scores, plots.requests, plots.savings):
        plot(manager).figure.canvas.draw()
    assert " _hidden (3)" in said(plots.requests(manager)) or "_hidden" in said(plots.savings(manager))
    assert "$x_{$" in said(plots.savings(manager))
