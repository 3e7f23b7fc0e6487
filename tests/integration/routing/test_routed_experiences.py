"""What the experience of a decorated function records of the router that it asks."""

import json

import pytest
from support.routers import endpoint, use
from support.servers.models import ModelServer, Raw

from exp_pool import exp_cache

DOWN = Raw(500, b"{}")


@pytest.fixture
def servers():
    made = [ModelServer("openai", name) for name in ("first", "second")]
    yield made
    for server in made:
        server.close()


def ask_once(manager, endpoints, strategy="priority", preferred=None, stream=False, **options):
    """The experiences after one routed call, asked twice."""

    async def do(router):
        if stream:

            @exp_cache(manager=manager, name="ask", **options)
            async def ask(prompt):
                async with router.stream_request(prompt, preferred) as texts:
                    async for text in texts:
                        yield text

            return [[text async for text in ask("hello")] for _ in range(2)]

        @exp_cache(manager=manager, name="ask", **options)
        async def ask(prompt):
            return (await router.route_request(prompt, preferred))["response"]

        return [await ask("hello") for _ in range(2)]

    first, second = use(endpoints, do, strategy)
    assert first == second
    return list(manager.sync.iter_exps())


@pytest.fixture
def manager(make_manager):
    return make_manager(index="none://", embedder="none")


@pytest.mark.parametrize("stream", [False, True])
def test_model_strategy_tokens_and_money_are_recorded(manager, servers, stream):
    (stored,) = ask_once(manager, [endpoint(servers[0], price_in=2.0, price_out=20.0)], "round_robin", stream=stream)
    assert (stored.model, stored.strategy) == ("first", "round_robin")
    if not stream:  # the test server does not count what it streams
        assert (stored.metric.tokens_in, stored.metric.tokens_out) == (100, 10)
        assert stored.metric.money_usd == pytest.approx(100 * 2e-6 + 10 * 20e-6)
    assert sum(len(server.requests) for server in servers) == 1


def test_without_a_price_there_is_no_money(manager, servers):
    (stored,) = ask_once(manager, [endpoint(servers[0], price_in=2.0)])
    assert (stored.metric.tokens_in, stored.metric.money_usd) == (100, None)


@pytest.mark.parametrize("stream", [False, True])
def test_a_fallback_is_recorded_as_one_and_can_be_kept_out_or_short(make_manager, servers, stream):
    servers[0].reply = lambda body: DOWN
    endpoints = [endpoint(servers[0], retries=0), endpoint(servers[1], priority=1)]
    plain = {"index": "none://", "embedder": "none"}
    (stored,) = ask_once(make_manager(**plain), endpoints, stream=stream)
    assert (stored.model, stored.strategy) == ("second", "fallback")

    def first_only(call, value):
        return call.strategy != "fallback"

    assert ask_once(make_manager(**plain), endpoints, stream=stream, cache_if=first_only) == []

    def short(call, value):
        return 60 if call.strategy == "fallback" else None

    (stored,) = ask_once(make_manager(**plain), endpoints, stream=stream, ttl=short)
    assert (stored.expires_at - stored.created_at).total_seconds() == 60
    servers[0].reply = lambda body: "first again"
    (stored,) = ask_once(make_manager(**plain), endpoints, stream=stream, ttl=short)
    assert (stored.model, stored.strategy, stored.expires_at) == ("first", "priority", None)


def test_a_fallback_is_one_even_where_the_first_is_not_asked_at_all(manager, servers):
    servers[0].reply = lambda body: DOWN
    endpoints = [endpoint(servers[0], retries=0, breaker_after=1, breaker_pause=60), endpoint(servers[1], priority=1)]

    async def do(router):
        @exp_cache(manager=manager, name="ask")
        async def ask(prompt):
            return (await router.route_request(prompt))["response"]

        for prompt in ("a", "b"):
            await ask(prompt)

    use(endpoints, do)
    assert len(servers[0].requests) == 1
    assert {(e.request, e.model, e.strategy) for e in manager.sync.iter_exps()} == {
        ("a", "second", "fallback"),
        ("b", "second", "fallback"),
    }


def test_who_is_preferred_is_no_fallback_and_others_are(make_manager, servers):
    endpoints = [endpoint(servers[0]), endpoint(servers[1], priority=1, retries=0)]
    plain = {"index": "none://", "embedder": "none"}
    (stored,) = ask_once(make_manager(**plain), endpoints, preferred="second")
    assert (stored.model, stored.strategy) == ("second", "priority")
    servers[1].reply = lambda body: DOWN
    (stored,) = ask_once(make_manager(**plain), endpoints, preferred="second")
    assert (stored.model, stored.strategy) == ("first", "fallback")


def test_what_was_cut_off_is_recorded_and_can_be_kept_out(make_manager, servers):
    payload = servers[0].format.whole("model", "half an ans")
    payload["choices"][0]["finish_reason"] = "length"
    servers[0].reply = lambda body: Raw(body=json.dumps(payload).encode())
    plain = {"index": "none://", "embedder": "none"}
    (stored,) = ask_once(make_manager(**plain), [endpoint(servers[0])])
    assert stored.metadata["finish_reason"] == "length"

    def whole(call, value):
        return "finish_reason" not in call.metadata

    assert ask_once(make_manager(**plain), [endpoint(servers[0])], cache_if=whole) == []
    servers[0].reply = lambda body: "a whole answer"
    (stored,) = ask_once(make_manager(**plain), [endpoint(servers[0])], cache_if=whole)
    assert "finish_reason" not in stored.metadata


@pytest.mark.parametrize("strategy", ["hash", "cost"])
def test_who_stands_in_for_the_one_that_the_strategy_wants_is_a_fallback(make_manager, servers, strategy):
    """Also where that one is not even asked, its circuit being open."""
    manager = make_manager(index="none://", embedder="none")
    endpoints = [
        endpoint(server, retries=0, breaker_after=1, breaker_pause=60, price_in=price, price_out=price)
        for server, price in zip(servers, (1.0, 2.0), strict=True)
    ]

    async def do(router):
        @exp_cache(manager=manager, name="ask")
        async def ask(prompt):
            return (await router.route_request(prompt, route_key="k"))["response"]

        await ask("a")
        wanted = next(server for server in servers if server.requests)
        wanted.reply = lambda body: DOWN
        for prompt in ("b", "c"):
            await ask(prompt)
        assert len(wanted.requests) == 2, "the third was not sent there"

    use(endpoints, do, strategy)
    assert [e.strategy for e in manager.sync.iter_exps()] == [strategy, "fallback", "fallback"]
