"""Pools that were written by earlier code open and answer: each engine that keeps files, and a snapshot."""

import shutil
import sys

import pytest
from support.paths import DATA

from exp_pool import ExpManager, snapshots

POOLS = DATA / "pools"
PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture
def agents(monkeypatch):
    monkeypatch.syspath_prepend(POOLS)
    import pool_agents

    pool_agents.RUNS.clear()
    yield pool_agents
    sys.modules.pop("pool_agents")


@pytest.fixture(params=["sqlite", "json", "snapshot"])
def manager(request, tmp_path):
    """On a copy: opening one may bring its schema up to date."""
    shutil.copytree(POOLS, tmp_path / "pools")
    url = {"sqlite": f"sqlite:///{tmp_path}/pools/pool.db", "json": f"json:///{tmp_path}/pools/json"}
    with ExpManager(store=url.get(request.param, "memory://"), **PLAIN) as manager:
        if request.param == "snapshot":
            assert snapshots.load(manager, tmp_path / "pools" / "snapshot") > 0
        yield manager


def test_calls_are_answered_as_they_were(manager, agents):
    for function, args, answer in agents.calls(manager):
        assert function(*args) == answer
        assert type(function(*args)) is type(answer)
    assert agents.RUNS == []


def test_what_people_said_is_there(manager):
    (noted,) = manager.sync.iter_exps({"function": "notes"})
    assert (noted.response, noted.value, noted.metadata) == ("a pool", "an experience pool", {"team": "docs"})
    assert noted.annotated
    assert [exp.request for exp in manager.sync.query_exps("what is exp_pool?", query_type="exact")] == [noted.request]
