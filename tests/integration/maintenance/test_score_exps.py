"""Scores of experiences that are there already: versions side by side, gone on with, what it costs; with a model."""

import asyncio
import subprocess
import sys
import threading

import pytest
from exp_pool.scorers.llm import LLMScorer
from support.paths import ROOT
from support.raters import always, cached, exps, named, only
from support.servers.chat import ChatServer, graded

from exp_pool import Experience, Score, in_namespace
from exp_pool.errors import (
    ConfigurationError,
    ExpPoolWarning,
    InvalidInputError,
    ScorerUnavailableError,
)
from exp_pool.protocols import RecordQuery

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
    from exp_pool.runtime.progress import bar

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

    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "scoring.md").read_text(), re.DOTALL)
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
    assert lines[0] == "value=1.0 reason='14 characters' scorer='short'"
    assert lines[1] == "[]"
    assert all("failed 0" in line for line in lines[2:]), lines
