"""What MetaGPT's exp_pool can do, this one can: one test for each line of that list, named after it."""

import asyncio

import pytest
from exp_pool.scorers.llm import LLMScorer
from support.servers.chat import ChatServer, graded, material_of

from exp_pool import Experience, Score


@pytest.fixture
def server(monkeypatch):
    server = ChatServer()
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    yield server
    server.close()


def test_score_1_to_10_and_reason(server, make_manager):
    manager = make_manager()

    @manager.exp_cache(scorer=LLMScorer("m", "Is it good?", (1, 10)))
    def produce(req):
        return f"{req} done"

    for points in (1, 7, 10):
        server.reply = graded(points, f"worth {points}")
        produce(f"p{points}")
        manager.sync.flush()
    scores = {e.request: e.score for e in manager.sync.iter_exps()}
    assert {request: score.value for request, score in scores.items()} == {"p1": 0.1, "p7": 0.7, "p10": 1.0}
    assert scores["p7"].reason == "7 of 10: worth 7"
    assert material_of(server.requests[0]) == {"request": "p1", "answer": "p1 done"}
    old = Experience.from_metagpt(
        {"req": "r", "resp": "a", "tag": "t", "metric": {"score": {"val": 9, "reason": "good"}}}
    )
    assert (old.score.value, old.score.reason) == (0.9, "good")


class Lengthy:
    name, version = "lengthy", "1"

    def __call__(self, context):
        return Score(value=min(1.0, len(context.value) / 10))


async def later(context):
    await asyncio.sleep(0)
    return Score(value=0.4)


@pytest.mark.parametrize(("scorer", "value"), [(Lengthy(), 0.6), (later, 0.4), (lambda c: Score(value=0.3), 0.3)])
def test_pluggable_scorer(make_manager, scorer, value):
    manager = make_manager()

    @manager.exp_cache(scorer=scorer)
    async def produce(req):
        return f"{req} done"

    assert asyncio.run(produce(req="x")) == "x done"
    manager.sync.flush()
    (kept,) = manager.sync.iter_exps()
    assert kept.score.value == value


def test_a_scorer_that_fails_does_not_lose_the_experience(make_manager):
    """Where MetaGPT loses it, and waits for the model before it answers."""
    manager = make_manager()

    @manager.exp_cache(scorer=lambda context: 1 / 0)
    def produce(req):
        return f"{req} done"

    assert produce("x") == produce("x") == "x done"
    manager.sync.flush()
    (kept,) = manager.sync.iter_exps()
    assert (kept.response, kept.score, manager.stats().hits) == ("x done", None, 1)
