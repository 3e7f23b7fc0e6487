"""Scores made in the background: what comes of them; what fails, hangs or lies."""

import asyncio
import math
import threading

import pytest
from exp_pool.scorers.feedback import FeedbackScorer
from support.raters import always, cached, only, owed

from exp_pool import Score
from exp_pool.errors import (
    ExpPoolWarning,
    ScorerUnavailableError,
)
from exp_pool.protocols import RecordQuery


@pytest.fixture
def pass_time(monkeypatch):
    """Move the clock."""
    from exp_pool.runtime import clock

    wall, steady, shift = clock.time.time_ns, clock.monotonic, [0.0]
    monkeypatch.setattr(clock.time, "time_ns", lambda: wall() + int(shift[0] * 1e9))
    monkeypatch.setattr("exp_pool.maintenance.pending_scores.monotonic", lambda: steady() + shift[0])

    def go(seconds):
        shift[0] += seconds

    return go


# What comes of it


@pytest.mark.parametrize(
    "lie",
    [
        11,
        "10/10",
        True,
        None,
        math.nan,
        1.0,
        {"value": 1},
        Score.model_construct(value=11),
        Score.model_construct(value=math.nan),
        Score.model_construct(value="1"),
        Score.model_construct(value=True),
    ],
)
def test_a_scorer_that_lies_leaves_it_unscored_with_the_reason(make_manager, lie):
    manager = make_manager()
    f = cached(manager, lambda context: lie, min_score=0.1)
    f("x")
    manager.sync.flush()
    assert (only(manager).scores, manager.stats().scored) == ({}, 0)
    (why,) = manager.sync.why_unscored(only(manager).id)
    assert "<lambda>: " in why
    assert "again at" in why
    assert "unscored: " in f.explain("x")
    assert manager.sync.score_exps(lambda context: lie, again=True).failed.keys() == {only(manager).id}


def test_nothing_is_scored_on_the_callers_path(make_manager):
    manager = make_manager()
    threads = []

    def scorer(context):
        threads.append(threading.current_thread())
        return Score(value=1.0)

    cached(manager, scorer)("x")
    manager.sync.flush()
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


def test_what_fails_is_tried_again_and_given_up_with_a_word(make_manager, pass_time):
    manager = make_manager()
    tries = []

    def scorer(context):
        tries.append(1)
        raise ValueError("no idea")

    f = cached(manager, scorer)
    with pytest.warns(ExpPoolWarning) as warned:
        f("x")
        for _ in range(20):
            manager.sync.flush()
            pass_time(3700)
    assert len(tries) == 12
    assert owed(manager) == 0
    why = manager.sync.why_unscored(only(manager).id)
    assert len(why) == 12
    assert "given up after 12 tries" in why[-1]
    assert "no idea" in why[-1]
    assert sum("given up" in str(warning.message) for warning in warned) == 1
    assert manager.stats().unscored == 12


def test_the_reasons_go_with_a_score_and_with_the_experience(make_manager, pass_time):
    manager = make_manager()
    outcomes = [Score(value=0.5), ValueError("later")]

    def scorer(context):
        outcome = outcomes.pop() if outcomes else ValueError("never")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    cached(manager, scorer)("x")
    manager.sync.flush()
    (first,) = (e.id for e in manager.sync.iter_exps())
    assert len(manager.sync.why_unscored(first)) == 1
    manager.sync.flush()
    assert len(outcomes) == 1, "not before its time"
    pass_time(3)
    manager.sync.flush()
    assert (only(manager).score.value, manager.sync.why_unscored(first)) == (0.5, [])
    cached(manager, scorer)("y")
    manager.sync.flush()
    (second,) = (e.id for e in manager.sync.iter_exps({"request": "y"}))
    assert manager.sync.why_unscored(second)
    manager.sync.delete_exp(second)
    assert manager.sync._store.names("default").logs == []


def test_what_there_is_nothing_to_score_by_waits_for_a_person(make_manager, pass_time):
    manager = make_manager()
    f = cached(manager, "exact")
    f("x")
    manager.sync.flush()
    assert owed(manager) == 0, "it costs nothing until somebody annotates"
    assert "annotate" in manager.sync.why_unscored(only(manager).id)[0]
    manager.sync.annotate(only(manager).id, expected="something else")
    assert owed(manager) == 1
    manager.sync.flush()
    assert only(manager).score == Score(value=0.0, reason="differs from expected", scorer="exact", version="1")
    manager.sync.annotate(only(manager).id, expected="to x")
    manager.sync.flush()
    assert only(manager).score.value == 1.0
    assert manager.sync.why_unscored(only(manager).id) == []


def test_another_process_that_annotates_has_it_scored(tmp_path, make_manager):
    store = f"sqlite:///{tmp_path}/pool.db"
    here = make_manager(store=store)
    cached(here, "exact")("x")
    here.sync.flush()
    there = make_manager(store=store)  # has never heard of the function
    there.sync.annotate(only(there).id)
    here.sync.flush()
    assert only(here).score.value == 1.0


def test_feedback_reaches_a_scorer(make_manager):
    manager = make_manager()
    manager.sync._pending_scores.feedback = lambda record: (1.0, 1.0) if record.request == "x" else ()
    f = cached(manager, FeedbackScorer())
    f("x"), f("y")
    manager.sync.flush()
    assert {e.request: e.score and e.score.value for e in manager.sync.iter_exps()} == {"x": 0.75, "y": None}


# What hangs


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_one_that_hangs_holds_up_nothing_else(make_manager, kind):
    manager = make_manager()
    released, hanging = threading.Event(), threading.Event()

    def plain(context):
        hanging.set()
        released.wait(60)
        return Score(value=1.0)

    async def later(context):
        hanging.set()
        await asyncio.Event().wait()

    scorer = plain if kind == "def" else later
    scorer.timeout_s = 0.2
    try:
        f = cached(manager, scorer)
        f("x")
        assert hanging.wait(30)

        @manager.exp_cache(scorer=always(0.5), name="g")
        def g(req):
            return req

        assert g("y") == "y"
        manager.sync.flush(30)
        assert {e.request: e.score and e.score.value for e in manager.sync.iter_exps()} == {"x": None, "y": 0.5}
        assert [e.request for e in manager.sync.query_exps("y", top_k=1)] == ["y"]
        (x,) = manager.sync.iter_exps({"request": "x"})
        assert "gave no score within 0.2 s" in manager.sync.why_unscored(x.id)[0]
        assert f("x") == "to x"
    finally:
        released.set()


def test_the_worker_embeds_while_a_scorer_takes_its_time(make_manager):
    released, embedded, asked = threading.Event(), threading.Event(), threading.Event()

    def embed(texts):
        from conftest import letters

        if "later" in texts:
            embedded.set()
        return letters(texts)

    def scorer(context):
        asked.set()
        assert released.wait(60)
        return Score(value=1.0)

    manager = make_manager(embedder=embed)
    f = cached(manager, scorer)
    f("x")
    assert asked.wait(30)
    f("later")
    assert embedded.wait(30), "by the worker, while the scorer is at it"
    released.set()
    manager.sync.flush()
    assert manager.stats().scored == 2


def test_a_plain_one_that_hangs_is_asked_no_more_until_it_comes_back(make_manager, pass_time):
    manager = make_manager()
    released, asked = threading.Event(), []

    def scorer(context):
        asked.append(context.experience.request)
        released.wait(60)
        return Score(value=1.0)

    scorer.timeout_s = 0.1
    f = cached(manager, scorer)
    try:
        for n in range(10):
            f(f"r{n}")
        for _ in range(3):
            manager.sync.flush()
            pass_time(5000)
        assert len(asked) == 1
        assert owed(manager) == 10
        rows = {row.request: row.score_tries for row in manager.sync._store.scan(RecordQuery(None))}
        assert sum(rows.values()) == rows[asked[0]] == 1, "the others are not to blame"
    finally:
        released.set()


def test_closing_waits_for_no_scorer(make_manager):
    released, asked = threading.Event(), threading.Event()

    def scorer(context):
        asked.set()
        released.wait(60)
        return Score(value=1.0)

    manager = make_manager(exit_timeout=0.1)
    cached(manager, scorer)("x")
    assert asked.wait(30)
    manager.sync.close()
    released.set()


def test_whoever_waits_while_it_is_closed_does_not_wait_for_ever(make_manager):
    manager = make_manager()
    cached(manager, always(0.5))("x")
    manager.sync._pending_scores.stop(0)
    assert manager.sync._pending_scores.begin().done()


def test_the_reasons_of_what_is_evicted_go_with_it(make_manager):
    manager = make_manager(max_entries=2)
    f = cached(manager, lambda context: None)
    for n in range(2):
        f(f"r{n}")
    manager.sync.flush()
    assert len(manager.sync._store.names("default").logs) == 2
    for n in range(2, 6):
        f(f"r{n}")
    manager.sync.flush()
    left = {f"unscored:{e.id}" for e in manager.sync.iter_exps()}
    assert len(left) == 2
    assert set(manager.sync._store.names("default").logs) == left


def test_an_outage_costs_no_row_its_tries(make_manager, pass_time):
    manager = make_manager()
    asked, away = [], [True]

    def scorer(context):
        asked.append(1)
        if away[0]:
            raise ScorerUnavailableError("the key is refused; set another")
        return Score(value=0.5)

    f = cached(manager, scorer)
    for n in range(20):
        f(f"r{n}")
    manager.sync.flush()
    assert len(asked) == 3, "the others would have fared no better"
    manager.sync.flush()
    assert len(asked) == 3, "not yet again"
    for _ in range(30):
        pass_time(3700)
        manager.sync.flush()
    assert owed(manager) == 20
    away[0] = False
    pass_time(3700)
    manager.sync.flush()
    assert (owed(manager), manager.stats().scored) == (0, 20)
    assert manager.sync._store.names("default").logs == []
