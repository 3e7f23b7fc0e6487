"""How much an endpoint is asked, when it is left alone, and who is asked beside it or in its place."""

import asyncio
import threading
from collections import Counter

import pytest
from support.routers import endpoint, route, use
from support.servers.models import Raw

from exp_pool.routing import AllModelsFailed
from exp_pool.runtime import clock


def test_no_more_at_once_than_allowed(model_server):
    three, more = threading.Barrier(3), threading.Event()
    first = iter(range(3))

    def reply(body):
        if next(first, None) is not None:
            three.wait(20)
            more.wait(0.2)  # a fourth would come now
        return "ok"

    server = model_server(reply=reply)

    async def ask(router):
        async def stream(number):
            return "".join([text async for text in router.stream_request(str(number))])

        whole = [router.route_request(str(number)) for number in range(30)]
        return await asyncio.gather(*whole, *(stream(number) for number in range(30)))

    answers = use([endpoint(server, max_concurrent=3)], ask)
    assert len(answers) == len(server.requests) == 60
    assert server.busiest == 3


def test_the_circuit_opens_and_closes_again(model_server, monkeypatch):
    replies = {"say": Raw(500)}
    sick, good = model_server(reply=lambda body: replies["say"]), model_server(name="good")
    later = [0.0]
    start = clock.time.monotonic
    monkeypatch.setattr(
        clock,
        "time",
        type("Later", (), {"monotonic": staticmethod(lambda: start() + later[0]), "time_ns": clock.time.time_ns}),
    )

    async def ask(router):
        async def model():
            return (await router.route_request("hello"))["model"], router.health()["sick"]["circuit"]

        seen = [await model() for _ in range(5)]
        asked = len(sick.requests)
        later[0] += 2.0
        seen.append(await model())  # the probe fails
        probed = len(sick.requests) - asked
        later[0] += 1.5
        seen.append(await model())  # the pause is twice as long now
        replies["say"] = "well again"
        later[0] += 3.0
        seen += [await model(), await model()]
        return seen, asked, probed

    (seen, asked, probed) = use([endpoint(sick, "sick", retries=0, breaker_after=3), endpoint(good, priority=1)], ask)
    closed, opened = ("good", "closed"), ("good", "open")
    assert seen == [closed, closed, opened, opened, opened, opened, opened, ("sick", "closed"), ("sick", "closed")]
    assert (asked, probed) == (3, 1)


def test_one_request_at_a_time_probes(model_server, monkeypatch):
    release, entered = threading.Event(), threading.Event()
    replies = {"say": lambda: Raw(500)}
    sick, good = model_server(reply=lambda body: replies["say"]()), model_server(name="good")

    def slow():
        entered.set()
        release.wait(20)
        return "well"

    async def ask(router):
        await router.route_request("hello")
        replies["say"] = slow
        later = clock.monotonic() + 5
        monkeypatch.setattr("exp_pool.routing.circuit.monotonic", lambda: later)
        probe = asyncio.create_task(router.route_request("probe"))
        await asyncio.to_thread(entered.wait, 20)
        others = await asyncio.gather(*(router.route_request("other") for _ in range(10)))
        probe.cancel()  # a probe that is given up keeps nobody out
        await asyncio.gather(probe, return_exceptions=True)
        release.set()
        return [other["model"] for other in others], (await router.route_request("again"))["model"]

    (others, again) = use([endpoint(sick, "sick", retries=0, breaker_after=1), endpoint(good, priority=1)], ask)
    assert others == ["good"] * 10
    assert again == "sick"


def test_a_bad_request_is_not_the_endpoints_fault(model_server):
    server = model_server(reply=lambda body: Raw(400, b"too long"))

    async def ask(router):
        for _ in range(8):
            with pytest.raises(AllModelsFailed, match="HTTP 400"):
                await router.route_request("hello")
        return router.health()["m"]["circuit"]

    assert use([endpoint(server, "m", breaker_after=2)], ask) == "closed"


def test_no_more_a_minute_than_allowed(model_server):
    few, many = model_server(name="few"), model_server(name="many")

    async def ask(router):
        return await asyncio.gather(*(router.route_request("hello") for _ in range(20)))

    answers = use([endpoint(few, requests_per_minute=7), endpoint(many, priority=1)], ask)
    assert Counter(answer["model"] for answer in answers) == {"few": 7, "many": 13}


def test_tokens_count_as_the_answer_says(model_server):
    """110 each as the server says, whatever was reckoned: the tenth would be above 1,000."""
    few, many = model_server(name="few"), model_server(name="many")

    async def ask(router):
        return [(await router.route_request("hello", max_tokens=10))["model"] for _ in range(12)]

    models = use([endpoint(few, tokens_per_minute=1000), endpoint(many, priority=1)], ask)
    assert models == ["few"] * 9 + ["many"] * 3


def test_a_request_above_the_limit_of_tokens_never_waits(model_server):
    with pytest.raises(AllModelsFailed, match=r"may take \d+ tokens, and tokens_per_minute=100"):
        route([endpoint(model_server(), tokens_per_minute=100)], "hello " * 200)


def test_the_slow_one_is_hedged(model_server):
    release, held = threading.Event(), []

    def reply(body):
        if "slow" in body["messages"][-1]["content"]:
            held.append(1)
            release.wait(20)
        return "first"

    a, b = model_server(reply=reply), model_server(reply=lambda body: "second")

    async def ask(router):
        for _ in range(30):
            await router.route_request("quick")
        answer = await router.route_request("slow")
        return answer, router.health()["a"]["running"]

    endpoints = [endpoint(a, "a"), endpoint(b, "b", priority=1)]
    (answer, running) = use(endpoints, ask, release=release, hedge=True)
    release.clear()
    without = route([endpoint(a, "a", timeout=0.3), endpoints[1]], "slow", router={"release": release})
    assert (answer["model"], answer["response"]) == ("b", "second")
    (loser,) = [attempt for attempt in answer["attempts"] if attempt["model"] == "a"]
    assert "given up" in loser["error"]
    assert running == 0
    assert "no answer in" in without["attempts"][0]["error"]  # it had to wait for the time-out


def test_where_all_is_slow_few_are_hedged(model_server):
    """Ten are saved up, then one in ten; asking twice would not help."""
    release = threading.Event()
    release.set()
    a, b = (
        model_server(reply=lambda body: release.wait(20) and "a"),
        model_server(reply=lambda body: release.wait(20) and "b"),
    )

    async def ask(router):
        for _ in range(30):
            await router.route_request("quick")
        hedged = len(b.requests)
        release.clear()
        tasks = [asyncio.create_task(router.route_request("slow")) for _ in range(60)]
        while len(a.requests) < 90 or len(b.requests) - hedged < 10:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # more would come now
        seen = len(b.requests)
        release.set()
        await asyncio.gather(*tasks)
        return seen

    seen = use(
        [endpoint(a, "a", max_concurrent=100), endpoint(b, "b", priority=1, max_concurrent=100)], ask, hedge=True
    )
    assert seen <= 10 + 60 * 0.1


def test_a_strategy_in_trouble_is_passed_over(model_server):
    def broken(candidates, load):
        raise RuntimeError("oops")

    a, b = model_server(name="a"), model_server(name="b")
    endpoints = [endpoint(a, priority=1), endpoint(b)]
    with pytest.warns(UserWarning, match="oops"):
        assert route(endpoints, strategy=broken)["model"] == "b"
    with pytest.warns(UserWarning, match="no order"):
        assert route(endpoints, strategy=lambda candidates, load: ["a"])["model"] == "b"
    assert route(endpoints, strategy=lambda candidates, load: candidates)["model"] == "a"
