"""Scores in the pool: by name, per version, in the background, again; what fails, hangs or lies."""

import asyncio
import math
import subprocess
import sys
import threading
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from servers.chat import ChatServer, graded

from exp_pool import Experience, Score, in_namespace
from exp_pool.errors import (
    ConfigurationError,
    ExpPoolWarning,
    InvalidInputError,
    ScorerUnavailableError,
)
from exp_pool.protocols import RecordQuery
from exp_pool.records import Duty
from exp_pool.registry import load_scorer
from scorers.feedback import FeedbackScorer
from scorers.llm import LLMScorer

PROJECT = Path(__file__).parents[2]


def exps(count, **fields):
    return [Experience(function="f", request=f"r{n}", response=f"a{n}", **fields) for n in range(count)]


def owed(manager):
    return manager.sync._store.count(RecordQuery(None, owed=Duty.SCORE))


def named(name, version, rate):
    def scorer(context):
        return rate(context)

    scorer.name, scorer.version = name, version
    return scorer


def always(value, name="s", version="1"):
    return named(name, version, lambda context: Score(value=value, reason=f"{name} {version}"))


def only(manager):
    (experience,) = manager.sync.iter_exps()
    return experience


def cached(manager, scorer, **options):
    @manager.exp_cache(scorer=scorer, name="f", **options)
    def f(req):
        return f"to {req}"

    return f


@pytest.fixture
def pass_time(monkeypatch):
    """Move the clock."""
    from exp_pool import _clock

    wall, steady, shift = _clock.time.time_ns, _clock.monotonic, [0.0]
    monkeypatch.setattr(_clock.time, "time_ns", lambda: wall() + int(shift[0] * 1e9))
    monkeypatch.setattr("exp_pool.upkeep.scoring.monotonic", lambda: steady() + shift[0])

    def go(seconds):
        shift[0] += seconds

    return go


# By name


def test_every_name_of_ours_is_installed_and_says_what_it_needs():
    ours = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]["exp_pool.scorers"]
    assert sorted(ours) == ["composite", "exact", "execution", "feedback", "llm", "rules", "similarity"]
    installed = {entry.name: entry.value for entry in entry_points(group="exp_pool.scorers")}
    assert ours.items() <= installed.items(), "install the project again: its entry points have changed"
    for name in ("exact", "execution", "feedback", "similarity"):
        assert load_scorer(name).name == name
    for name in ("composite", "llm", "rules"):
        with pytest.raises(
            ConfigurationError, match=rf"scorer={name!r} needs settings.*from scorers\.{name} import"
        ) as needs:
            load_scorer(name)
    assert "rubric" not in str(needs.value)


def test_a_name_that_is_not_installed_lists_those_that_are(make_manager):
    with pytest.raises(ConfigurationError, match=r"scorer='nobody' is not installed; installed: .*exact"):
        make_manager().exp_cache(scorer="nobody")(lambda req: req)
    with pytest.raises(ConfigurationError, match="not installed"):
        make_manager().sync.score_exps("nobody")


STRANGER = """
from exp_pool import Score

class Polite:
    name, version = "polite", "3"
    async def __call__(self, context):
        return Score(value=float("please" in context.value), reason="said please, or not")

class Picky:
    def __init__(self, taste): ...

def plain(context):
    return Score(value=0.5)
"""

USE = """
from exp_pool import ExpManager
from exp_pool.errors import ConfigurationError
from exp_pool.registry import load_scorer

with ExpManager(store="memory://", index="none://") as pool:
    @pool.exp_cache(scorer="polite")
    def ask(req):
        return f"{req}, please"
    ask("bread")
    pool.sync.flush()
    (kept,) = pool.sync.iter_exps()
    print(kept.score.value, kept.score.scorer, kept.score.version)
    print(pool.sync.score_exps("plain").scored)
for name in ("picky", "broken", "nobody"):
    try:
        load_scorer(name)
    except ConfigurationError as err:
        print(err)
"""


def test_a_strangers_package(tmp_path):
    (tmp_path / "polite_scorers.py").write_text(STRANGER)
    info = tmp_path / "polite_scorers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: polite-scorers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[exp_pool.scorers]\npolite = polite_scorers:Polite\npicky = polite_scorers:Picky\n"
        "plain = polite_scorers:plain\nbroken = no_such_module:X\n"
    )
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{USE}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    first, second, picky, broken, nobody = done.stdout.splitlines()
    assert (first, second) == ("1.0 polite 3", "1"), done.stderr
    assert "from polite_scorers import Picky, and scorer=Picky(taste=...)" in picky
    assert "no_such_module" in broken
    assert nobody.startswith("scorer='nobody' is not installed; installed: broken, ")
    assert "picky, plain, polite" in nobody


def test_a_scorer_may_be_a_class(make_manager):
    from scorers.exact import ExactScorer

    manager = make_manager()
    f = cached(manager, ExactScorer)
    f("x")
    manager.sync.annotate(only(manager).id)
    manager.sync.flush()
    assert only(manager).score.value == 1


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"concurrency": True}, {"timeout_s": 0}, {"name": "a@b"}, {"version": 3}]
)
def test_a_scorer_whose_attributes_cannot_be(make_manager, wrong):
    scorer = always(1.0)
    for name, value in wrong.items():
        setattr(scorer, name, value)
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        cached(make_manager(), scorer)


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
    manager.sync._scoring.feedback = lambda record: (1.0, 1.0) if record.request == "x" else ()
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


# Scorers and versions side by side


def test_versions_are_kept_and_the_newest_stands_under_the_name(make_manager):
    manager = make_manager()
    manager.sync.create_exps(exps(1))
    for version, value in (("1", 0.1), ("2", 0.2), ("3", 0.3)):
        manager.sync.score_exps(always(value, version=version))
    scores = only(manager).scores
    assert {name: (score.value, score.version) for name, score in scores.items()} == {
        "s": (0.3, "3"),
        "s@2": (0.2, "2"),
        "s@1": (0.1, "1"),
    }
    assert only(manager).score.version == "3"
    manager.sync.score_exps(always(0.9, version="1"))
    assert {name: score.value for name, score in only(manager).scores.items()} == {"s": 0.9, "s@3": 0.3, "s@2": 0.2}
    assert only(manager).score.value == 0.9
    assert manager.sync.get_exps_count({"score": 0.9}) == 1


def test_the_scorer_of_the_function_decides_whatever_others_say(make_manager):
    manager = make_manager()
    f = cached(manager, always(0.9, "own"))
    f("x")
    manager.sync.score_exps(always(0.4, "other"))
    assert only(manager).score.scorer == "other", "the newest, while its own has not spoken"
    manager.sync.flush()
    assert only(manager).score.scorer == "own"
    manager.sync.score_exps(always(0.1, "other", "2"))
    assert list(only(manager).scores) == ["other@1", "other", "own"]
    assert manager.sync.get_exps_count({"score": 0.9}) == 1


def test_it_decides_in_processes_that_do_not_have_it(tmp_path, make_manager):
    store = f"sqlite:///{tmp_path}/pool.db"
    here = make_manager(store=store)
    cached(here, always(0.9, "own"))("x")
    here.sync.flush()
    there = make_manager(store=store)
    assert there.sync.score_exps(always(0.1, "other")).scored == 1
    assert only(there).score.scorer == "own"


def test_no_scorer_writes_under_anothers_name(make_manager):
    manager = make_manager()
    manager.sync.create_exps(exps(1))
    manager.sync.score_exps(named("thief", "1", lambda c: Score(value=1.0, scorer="exact", version="9")))
    assert only(manager).scores == {"thief": Score(value=1.0, scorer="thief", version="1")}


def test_size_counts_scores(make_manager):
    manager = make_manager()
    manager.sync.create_exps(exps(1))
    (before,) = (r.size_bytes for r in manager.sync._store.scan(RecordQuery(None)))
    manager.sync.score_exps(always(1.0))
    (after,) = manager.sync._store.scan(RecordQuery(None))
    assert after.size_bytes - before == len(after.scores) - len("{}")


# score_exps


KILLED = """
import os, sys
from exp_pool import ExpManager, Score

asked = []

def rate(context):
    asked.append(1)
    if len(asked) > 10:
        os._exit(9)
    return Score(value=0.5)

with ExpManager(store=sys.argv[1], index="none://") as pool:
    pool.sync.score_exps(rate)
"""


def test_a_killed_one_goes_on_where_it_was(tmp_path, make_manager):
    store = f"sqlite:///{tmp_path}/pool.db"
    manager = make_manager(store=store)
    manager.sync.create_exps(exps(30))
    killed = subprocess.run([sys.executable, "-c", KILLED, store], check=False, timeout=120)
    assert killed.returncode == 9
    asked = []

    def rate(context):
        asked.append(context.experience.request)
        return Score(value=0.5)

    report = manager.sync.score_exps(rate)
    assert (report.scored, report.skipped, len(asked)) == (20, 10, 20)
    assert manager.sync.score_exps(rate).skipped == 30
    again = manager.sync.score_exps(rate, again=True)
    assert (again.scored, again.skipped) == (30, 0)


def test_errors_are_collected(make_manager):
    manager = make_manager()
    manager.sync.create_exps(exps(10))

    def rate(context):
        if context.experience.request in ("r3", "r4", "r5", "r6"):
            raise ValueError(f"no {context.experience.request}")
        return Score(value=0.5)

    report = manager.sync.score_exps(named("s", "1", rate))
    assert (report.scored, len(report.failed), report.stopped) == (6, 4, "")
    assert "no r3" in next(iter(report.failed.values()))
    assert str(report).startswith("scored 6, skipped 0, failed 4; 0 tokens, 0.0000 USD, ")


def test_it_stops_where_no_other_would_fare_better(make_manager):
    manager = make_manager()
    manager.sync.create_exps(exps(50))
    asked = []

    def rate(context):
        asked.append(1)
        raise ScorerUnavailableError("the key is refused")

    report = manager.sync.score_exps(named("s", "1", rate))
    assert (len(asked), len(report.failed), report.stopped) == (3, 3, "the key is refused")


def test_where_namespaces_and_kinds(make_manager):
    manager = make_manager()
    manager.sync.create_exps(
        [*exps(3), *exps(2, kind="failure", version="failed"), Experience(function="g", request="r", response="a")]
    )
    with in_namespace("other"):
        manager.sync.create_exps(exps(4))
    assert manager.sync.score_exps(always(0.5), {"function": "g"}).scored == 1
    assert manager.sync.score_exps(always(0.5)).scored == 3
    assert manager.sync.score_exps(always(0.5), {"kind": "failure"}).scored == 2
    with in_namespace("other"):
        assert manager.sync.get_exps_count({"score": {"exists": True}}) == 0
        assert manager.sync.score_exps(always(0.5)).scored == 4
    with pytest.raises(InvalidInputError):
        manager.sync.score_exps(always(0.5), {"nonsense": 1})
    with pytest.raises(ConfigurationError, match="concurrency"):
        manager.sync.score_exps(always(0.5), concurrency=0)


def test_so_many_at_once_and_no_more(make_manager):
    manager = make_manager()
    manager.sync.create_exps(exps(12))
    together = threading.Barrier(4)
    lock, busy, most = threading.Lock(), [0], [0]

    def rate(context):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        together.wait(60)
        with lock:
            busy[0] -= 1
        return Score(value=0.5)

    report = manager.sync.score_exps(named("s", "1", rate), concurrency=4)
    assert (report.scored, most[0]) == (12, 4)


def test_others_change_it_meanwhile(make_manager):
    manager = make_manager()
    manager.sync.create_exps(exps(3))
    ids = [e.id for e in manager.sync.iter_exps()]

    def rate(context):
        change = {"r0": lambda i: manager.sync.update_exp(i, metadata={"seen": True}), "r1": manager.sync.delete_exp}
        change["r2"] = lambda i: manager.sync.update_exp(i, response="changed")
        change[context.experience.request](context.experience.id)
        return Score(value=0.5)

    report = manager.sync.score_exps(named("s", "1", rate))
    assert report.failed.keys() == {ids[1], ids[2]}, "gone, or another answer than the one that was scored"
    first, last = manager.sync.iter_exps()
    assert (first.metadata, first.score.value) == ({"seen": True}, 0.5)
    assert (last.response, last.score) == ("changed", None)


def test_by_the_async_manager(make_manager):
    async def go():
        manager = make_manager()
        await manager.create_exps(exps(5))
        report = await manager.score_exps(always(0.5))
        return report.scored, await manager.why_unscored("nobody")

    assert asyncio.run(go()) == (5, [])


def test_a_bar_shows_what_it_costs(monkeypatch, capsys):
    from exp_pool.progress import bar

    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    with bar("scoring", 10) as done:
        for _ in range(10):
            done("1,234 tokens")
    said = capsys.readouterr().err
    assert "scoring" in said
    assert "1,234 tokens" in said
    with bar("scoring", 5) as done:
        done("few")
    assert "few" not in capsys.readouterr().err


# With a model


@pytest.fixture
def server(monkeypatch):
    server = ChatServer()
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    yield server
    server.close()


def test_a_model_scores_a_pool_and_it_is_known_what_that_cost(server, make_manager):
    manager = make_manager()
    manager.sync.create_exps(exps(20))
    scorer = LLMScorer("m", "Short.", (1, 10), usd_per_million=(2.0, 20.0), cache=make_manager().exp_cache)
    report = manager.sync.score_exps(scorer)
    assert (report.scored, report.tokens_in, report.tokens_out) == (20, 2000, 200)
    assert report.money_usd == pytest.approx(20 * (200 + 200) / 1e6)
    assert 1 <= server.busiest <= 4
    again = manager.sync.score_exps(scorer, again=True)
    assert (again.scored, again.tokens_in, len(server.requests)) == (20, 0, 20), "from the cache"
    stricter = LLMScorer("m", "Short, and in French.", (1, 10))
    server.reply = graded(2)
    assert manager.sync.score_exps(stricter).scored == 20
    for experience in manager.sync.iter_exps():
        assert experience.scores["llm"].value == 0.2
        assert experience.scores[f"llm@{scorer.version}"].value == 0.7


def test_a_scorers_cached_calls_are_nobodys_experience(server, make_manager):
    manager = make_manager()
    manager.sync.create_exps(exps(3))
    scorer = LLMScorer("m", "Short.", (1, 10), cache=manager.exp_cache)
    assert manager.sync.score_exps(scorer).scored == 3
    assert manager.sync.score_exps(scorer).skipped == 3
    assert len(server.requests) == 3


@pytest.mark.parametrize(("status", "remedy"), [(401, "api_key"), (404, "check model and base_url")])
def test_a_wrong_key_or_model_leaves_it_unscored_and_says_what_to_do(server, make_manager, status, remedy):
    server.reply = lambda _: (status, {"error": {"message": "no", "code": None}})
    manager = make_manager()
    f = cached(manager, LLMScorer("m", "Short.", (1, 10)))
    with pytest.warns(ExpPoolWarning, match=remedy):
        assert f("x") == "to x"
        manager.sync.flush()
    assert only(manager).score is None
    assert remedy in manager.sync.why_unscored(only(manager).id)[0]
    assert remedy in manager.sync.score_exps(LLMScorer("m", "Short.", (1, 10))).stopped or len(server.requests) < 3


def test_the_examples_of_the_docs_run(server, tmp_path):
    import re

    blocks = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "scoring.md").read_text(), re.DOTALL)
    rest = "for scorer in (alike, rules, graded, cheap_first, best_known, both):\n    print(pool.sync.score_exps(scorer))\n"
    script = "\n".join([*blocks, rest, "pool.sync.close()"])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "value=1.0 reason='14 characters' scorer='short' version=''"
    assert lines[2] == "[]"
    assert all("failed 0" in line for line in lines[3:]), lines
