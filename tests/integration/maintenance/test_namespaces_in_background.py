"""Guarantee 9: what works for a tenant in the background asks the pool as that tenant."""

import asyncio

import pytest
from support.tenants import by_one_vector, namespaces_of, plain

from exp_pool import (
    Experience,
    Refine,
    Score,
    VerifiedJudge,
    in_namespace,
)
from exp_pool.protocols import Verdict


@pytest.fixture
def manager():
    with plain() as made:
        yield made


@pytest.fixture
def ask(manager):
    @manager.exp_cache(name="ask")
    def ask(question: str) -> str:
        return f"to {question}"

    return ask


# ── Background work ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def model(manager):
    """A cached model that scorers and judges ask."""

    @manager.exp_cache(name="model")
    def model(prompt: str) -> str:
        return prompt

    @manager.exp_cache(name="model")
    async def async_model(prompt: str) -> str:
        return prompt

    model.later = async_model
    return model


def asked_by(manager):
    return {
        space: [request for request in requests if request.startswith("rate")]
        for space, requests in namespaces_of(manager).items()
    }


@pytest.mark.parametrize("of_decorator", [True, False], ids=["namespace=", "in_namespace"])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_scorers_ask_the_pool_in_the_namespace_of_what_they_rate(manager, model, kind, of_decorator):
    def rate(context):
        model(f"rate {context.experience.request}")
        return Score(value=1.0)

    async def async_rate(context):
        await model.later(f"rate {context.experience.request}")
        return Score(value=1.0)

    scorer = rate if kind == "def" else async_rate
    for tenant in ("acme", "bolt"):
        if of_decorator:
            manager.exp_cache(name="f", namespace=tenant, scorer=scorer)(lambda q: q)(f"of {tenant}")
        else:
            with in_namespace(tenant):
                manager.exp_cache(name="f", scorer=scorer)(lambda q: q)(f"of {tenant}")
    manager.sync.flush()
    assert asked_by(manager) == {"acme": ["rate of acme"], "bolt": ["rate of bolt"]}


def test_scoring_by_hand_asks_in_the_namespace_of_what_it_rates(manager, model, ask):
    def rate(context):
        model(f"rate {context.experience.request}")
        return Score(value=1.0)

    with in_namespace("acme"):
        ask("hi")
        manager.sync.score_exps(rate, {"function": "ask"})
    assert asked_by(manager) == {"acme": ["rate hi"]}


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_refinements_run_in_the_namespace_of_their_call(manager, model, kind):
    def better(question):
        return model(f"rate {question}")

    async def async_better(question):
        return await model.later(f"rate {question}")

    async def quick(question):
        return question

    if kind == "def":
        manager.exp_cache(name="f", namespace="acme", refine=Refine(better))(lambda question: question)("hi")
    else:
        function = manager.exp_cache(name="f", namespace="acme", refine=Refine(async_better))(quick)

        async def call():
            await function("hi")
            await manager.flush()

        asyncio.run(call())
    manager.sync.flush()
    assert asked_by(manager) == {"acme": ["rate hi"]}


class AskingJudge:
    """A judge that asks a cached model about what it is shown."""

    candidates = 1

    def __init__(self, model):
        self.model = model

    def judge(self, question):
        self.model(f"rate {question.request}")
        return Verdict(question.hits[0], "yes")


def test_judges_ask_the_pool_in_the_namespace_of_the_call():
    with by_one_vector() as manager:
        model = manager.exp_cache(name="model")(lambda prompt: prompt)
        function = manager.exp_cache(name="f", namespace="acme", judge=AskingJudge(model))(lambda question: question)
        function("hi")
        manager.sync.flush()
        assert function("you") == "hi"
        assert asked_by(manager) == {"acme": ["rate you"]}


def test_what_compares_answers_asks_in_the_namespace_of_the_call():
    with by_one_vector() as manager:
        model = manager.exp_cache(name="model")(lambda prompt: prompt)

        def same(stored, live):
            model(f"rate {stored} and {live}")
            return True

        judge = VerifiedJudge(max_error_rate=0.02, same=same)
        function = manager.exp_cache(name="f", namespace="acme", judge=judge)(lambda question: question)
        function("hi")
        manager.sync.flush()
        function("you")
        manager.sync.flush()
        assert asked_by(manager) == {"acme": ["rate hi and you"]}


def test_a_reranker_asks_in_the_namespace_of_the_query(manager, model):
    def relevance(request, texts):
        for text in texts:
            model(f"rate {text}")
        return [1.0] * len(texts)

    for text in ("the sky is blue", "the sea is blue"):
        manager.sync.create_exp(Experience(function="f", request=text, response="yes", namespace="acme"))
    found = manager.sync.search("blue", query_type="lexical", namespace="acme", reranker=relevance)
    assert len(found) == 2
    assert asked_by(manager) == {"acme": ["rate the sea is blue", "rate the sky is blue"]}
