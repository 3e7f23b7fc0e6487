"""Routing's parts by themselves: what an endpoint may be, orders, rates, circuits, events, hedges."""

import asyncio
import gc
import random
from collections import Counter
from types import SimpleNamespace

import pytest

from exp_pool.errors import ConfigurationError, EndpointError
from exp_pool.routing import ADAPTERS, STRATEGIES, ConcurrentRouter, Load, ModelEndpoint
from exp_pool.routing.circuit import Circuit
from exp_pool.routing.hedge import first_success
from exp_pool.routing.limiter import EndpointLimiter
from exp_pool.routing.router import _patient
from exp_pool.routing.semaphore import ResizableSemaphore
from exp_pool.routing.sliding_window import SlidingWindow
from exp_pool.routing.transport import EventParser

URL = "https://example.org/v1/chat/completions"


@pytest.fixture
def clock(monkeypatch):
    """The time of circuits, rates and gates, moved by hand."""
    now = SimpleNamespace(time=1000.0)
    for module in ("circuit", "sliding_window", "limiter"):
        monkeypatch.setattr(f"exp_pool.routing.{module}.monotonic", lambda: now.time)
    return now


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1/chat/completions", "openai"),
        ("http://localhost:8000/v1/chat/completions/", "openai"),
        ("https://api.openai.com/v1/responses", "openai-responses"),
        ("https://api.anthropic.com/v1/messages", "anthropic"),
        ("https://generativeai.googleapis.com/v1/models/gemini-pro:generateContent", "gemini"),
        ("https://generativelanguage.googleapis.com/v1beta/models/g:streamGenerateContent?alt=sse", "gemini"),
    ],
)
def test_the_url_shows_the_format(url, provider):
    assert ModelEndpoint("m", url).adapter is ADAPTERS[provider]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": ""}, "needs a name"),
        ({"url": "api.openai.com/v1/chat/completions"}, "must begin with http"),
        ({"url": "ftp://example.org/v1/messages"}, "must begin with http"),
        ({"url": "https:///v1/messages"}, "name a host"),
        ({"url": 3}, "url must be a text"),
        ({"url": f"{URL}?v=1&key=secret"}, "url has 'key' in its query, where logs show it; give the key as api_key="),
        ({"url": f"{URL}?API_KEY=secret"}, "url has 'API_KEY' in its query"),
        ({"health_url": "example.org"}, "health_url='example.org' must begin with http"),
        ({"health_url": 3}, "health_url must be a text"),
        ({"url": "https://example.org/"}, "does not show the wire format.*/chat/completions.*provider= one of openai"),
        ({"provider": "cohere"}, "provider='cohere' is unknown; one of auto, openai"),
        ({"provider": None}, "provider=None is unknown"),
        ({"max_concurrent": 0}, "max_concurrent=0 must be a whole number of at least 1"),
        ({"max_concurrent": -1}, "max_concurrent=-1"),
        ({"max_concurrent": 2.5}, "max_concurrent=2.5 must be a whole number"),
        ({"max_concurrent": True}, "max_concurrent=True"),
        ({"max_concurrent": None}, "max_concurrent=None"),
        ({"timeout": 0}, "timeout=0 must be a number above 0"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"timeout": "30"}, "timeout='30'"),
        ({"retries": -1}, "retries=-1 must be a whole number of at least 0"),
        ({"requests_per_minute": 0}, "requests_per_minute=0"),
        ({"tokens_per_minute": -5}, "tokens_per_minute=-5"),
        ({"weight": 0}, "weight=0 must be a number above 0"),
        ({"price_in": -1.0}, "price_in=-1.0"),
        ({"priority": "high"}, "priority='high'"),
        ({"api_key": "env:NO_SUCH_KEY_HERE"}, "NO_SUCH_KEY_HERE.*not set"),
        ({"api_key": "se\ncret"}, "cannot stand in an HTTP header"),
        ({"api_key": 5}, "api_key must be a text"),
    ],
)
def test_what_no_endpoint_can_be(settings, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        ModelEndpoint(**{"name": "m", "url": URL, **settings})
    assert "cret" not in str(caught.value).replace("secret", "")


@pytest.mark.parametrize(
    ("endpoints", "settings", "message"),
    [
        ([], {}, "no endpoints"),
        ([ModelEndpoint("m", URL), ModelEndpoint("m", URL)], {}, "two endpoints are called 'm'"),
        ([URL], {}, "must be a ModelEndpoint"),
        (ModelEndpoint("m", URL), {}, "must be a list"),
        (URL, {}, "must be a list"),
        (None, {}, "must be a list"),
        ([ModelEndpoint("m", URL)], {"strategy": "best"}, "strategy='best' is unknown; one of priority, round_robin"),
        ([ModelEndpoint("m", URL)], {"strategy": None}, "strategy=None"),
        ([ModelEndpoint("m", URL)], {"deadline": 0}, "deadline=0"),
        ([ModelEndpoint("m", URL)], {"refresh_s": -1}, "refresh_s=-1"),
        ([ModelEndpoint("m", URL)], {"max_bytes": 0}, "max_bytes=0"),
    ],
)
def test_what_no_router_can_be(endpoints, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        ConcurrentRouter(endpoints, **settings)


def candidates(*names, **settings):
    each = {name: [values[place] for values in settings.values()] for place, name in enumerate(names)}
    return [
        SimpleNamespace(
            endpoint=ModelEndpoint(name, URL, **dict(zip(settings, values, strict=True))), running=0, latency_s=None
        )
        for name, values in each.items()
    ]


def shares(strategy, among, requests=3000, load=None):
    """Of so many requests, each of which ends before the next; every order has everybody in it once."""
    order_of = STRATEGIES[strategy]()
    firsts = Counter()
    for number in range(requests):
        order = list(order_of(among, load or Load(str(number), 100, 100)))
        assert sorted(map(id, order)) == sorted(map(id, among))
        firsts[order[0].endpoint.name] += 1
    return {name: count / requests for name, count in firsts.items()}


@pytest.mark.parametrize("strategy", ["round_robin", "least_busy", "latency", "weighted"])
def test_equal_endpoints_get_equal_shares(strategy):
    among = candidates("a", "b", "c", "d")
    for each in among:
        each.latency_s = 0.5
    assert shares(strategy, among) == dict.fromkeys("abcd", 0.25)


def test_hashed_keys_are_spread_evenly_and_stay():
    among = candidates("a", "b", "c", "d")
    for share in shares("hash", among, 20_000).values():
        assert share == pytest.approx(0.25, rel=0.05)
    hashed = STRATEGIES["hash"]()
    keys = [Load(f"key {number}", 1, 1) for number in range(5000)]
    before = [hashed(among, key)[0] for key in keys]
    assert before == [hashed(random.Random(3).sample(among, 4), key)[0] for key in keys]
    after = [hashed(among[:3], key)[0] for key in keys]
    moved = [was is not now for was, now in zip(before, after, strict=True)]
    assert moved == [was is among[3] for was in before]  # its keys, and no others
    assert sum(moved) / len(keys) < 1 / 4 + 0.05


def test_priority_is_strict():
    assert shares("priority", candidates("a", "b", "c", priority=[3, 1, 2])) == {"b": 1.0}
    assert shares("priority", candidates("a", "b")) == {"a": 1.0}


def test_weights_are_kept_and_mixed():
    among = candidates("a", "b", "c", weight=[5, 1, 1])
    assert shares("weighted", among, 700) == {"a": 5 / 7, "b": 1 / 7, "c": 1 / 7}
    order_of = STRATEGIES["weighted"]()
    assert "".join(order_of(among, Load("", 1, 1))[0].endpoint.name for _ in range(7)) == "aabacaa"


def test_cost_depends_on_the_request():
    among = candidates(
        "reads cheaply", "writes cheaply", "says nothing", price_in=[1, 5, None], price_out=[10, 5, None]
    )
    assert shares("cost", among, 1, Load("", 1000, 10)) == {"reads cheaply": 1}
    assert shares("cost", among, 1, Load("", 10, 1000)) == {"writes cheaply": 1}
    assert STRATEGIES["cost"]()(among, Load("", 1, 1))[-1].endpoint.name == "says nothing"


def test_the_least_busy_by_what_it_can_take():
    a, b = among = candidates("a", "b", max_concurrent=[10, 2])
    a.running, b.running = 4, 1
    assert STRATEGIES["least_busy"]()(among, Load("", 1, 1)) == [a, b]
    a.running = 6
    assert STRATEGIES["least_busy"]()(among, Load("", 1, 1)) == [b, a]


def test_the_quickest_first_until_it_is_busy():
    slow, quick, new = among = candidates("slow", "quick", "new")
    slow.latency_s, quick.latency_s = 1.0, 0.3
    latency = STRATEGIES["latency"]()
    assert latency(among, Load("", 1, 1)) == [new, quick, slow]
    quick.running = 3
    assert latency([slow, quick], Load("", 1, 1)) == [slow, quick]


def test_a_rate_is_never_exceeded(clock):
    rng, rate, taken = random.Random(5), SlidingWindow(100), []
    for _ in range(3000):
        amount = rng.randrange(1, 40)
        if wait := rate.wait_s(amount):
            clock.time += wait
            assert rate.wait_s(amount) == pytest.approx(0, abs=1e-6)
            clock.time += 1e-6
        rate.take(amount)
        taken.append((clock.time, amount))
        window = sum(amount for at, amount in taken if at > clock.time - 60)
        assert window <= 100
        taken = [each for each in taken if each[0] > clock.time - 61]
        clock.time += rng.random() * 5


def test_a_rate_waits_no_longer_than_it_must(clock):
    rate = SlidingWindow(10)
    first = rate.take(6)
    clock.time += 20
    rate.take(4)
    assert (rate.wait_s(1), rate.wait_s(6), rate.wait_s(7), rate.wait_s(11)) == (40, 40, 60, float("inf"))
    rate.correct(first, 2)
    assert (rate.wait_s(4), rate.wait_s(5)) == (0, 40)
    clock.time += 41
    rate.correct(first, 1000)  # it does not count any more
    assert rate.wait_s(6) == 0


def test_pauses_of_a_circuit_double_up_to_a_minute(clock):
    circuit = Circuit(1, 1.0)
    circuit.failed("down", probe=False)
    pauses = []
    for _ in range(9):
        before = clock.time
        while circuit.refusal():
            clock.time += 0.5
        pauses.append(clock.time - before)
        assert circuit.state == "half-open"
        assert circuit.enter()
        assert "one request is trying" in circuit.refusal()
        circuit.failed("down", probe=True)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    clock.time += 60
    circuit.enter()
    circuit.succeeded()
    assert (circuit.state, circuit.refusal()) == ("closed", "")


def test_late_failures_do_not_prolong_a_pause(clock):
    circuit = Circuit(2, 1.0)
    for _ in range(10):
        circuit.failed("down", probe=False)
    clock.time += 1.0
    assert circuit.refusal() == ""


def test_events_may_be_cut_anywhere():
    wire = 'data: {"a": "größer 你好"}\r\n\r\n: comment\nevent: x\ndata: one\ndata: two\n\ndata:three\n\n\ndata: never ended\n'.encode()
    rng = random.Random(1)
    for _ in range(50):
        parser, events, left = EventParser(), [], wire
        while left:
            size = rng.randrange(1, 9)
            events += parser.feed(left[:size])
            left = left[size:]
        assert events == ['{"a": "größer 你好"}', "one\ntwo", "three"]


def fails(name, after=0):
    async def run():
        for _ in range(after):
            await asyncio.sleep(0)
        raise EndpointError(name)

    return run


def test_hedges_run_beside_and_losers_end():
    ended, started = [], []

    def never(name):
        async def run():
            started.append(name)
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(name)

        return run

    async def gives():
        return "second"

    assert asyncio.run(first_success([never("a"), gives], 0.0)) == "second"
    assert (started, ended) == (["a"], ["a"])
    assert asyncio.run(first_success([fails("a"), fails("b"), gives])) == "second"
    with pytest.raises(EndpointError, match="b"):
        asyncio.run(first_success([fails("a"), fails("b", 5)], 0.0))

    async def cancelled():
        task = asyncio.create_task(first_success([never("c"), never("d")], 0.0))
        while "d" not in started:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return sorted(ended)

    assert asyncio.run(cancelled()) == ["a", "c", "d"]


def test_a_hedge_that_is_not_allowed_is_not_begun():
    async def slow():
        await asyncio.sleep(0.01)
        return "first"

    async def gives():
        return "second"

    assert asyncio.run(first_success([slow, gives], 0.0, lambda: False)) == "first"


def test_who_fails_beside_the_winner_is_heard_out():
    """Or asyncio would say that an exception was never retrieved."""
    heard = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["message"]))
        for _ in range(20):  # which of the two is looked at first is chance
            go = asyncio.Event()

            async def gives(go=go):
                await go.wait()
                return "answer"

            async def breaks(go=go):
                await go.wait()
                raise EndpointError("late")

            racing = asyncio.create_task(first_success([gives, breaks], 0.0))
            for _ in range(10):
                await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.001, go.set)
            assert await racing == "answer"
        gc.collect()

    asyncio.run(main())
    gc.collect()
    assert heard == []


def test_who_can_take_it_soonest_is_waited_for(clock):
    def gate(name, limit, used_at):
        gate = EndpointLimiter(ModelEndpoint(name, URL, tokens_per_minute=limit))
        clock.time = used_at
        gate.tokens.take(limit)
        return gate

    soon, later, never = gate("soon", 1000, 1000.0), gate("later", 1000, 1050.0), gate("never", 10, 1050.0)
    free = EndpointLimiter(ModelEndpoint("free", URL))
    assert _patient([soon, later, never], 20) == [later, soon]
    assert soon in _patient([soon, never], 20)
    assert _patient([later, soon], 20) == [soon]
    assert _patient([later, free], 20) == [free]
    assert _patient([never], 20) == []


# ── Slots ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_slots_are_never_more_than_their_size_while_it_changes_and_while_some_give_up():
    async def main():
        slots, inside, most, entered = ResizableSemaphore(3), 0, [], []
        coin = random.Random(4)

        async def visit(number):
            nonlocal inside
            async with slots:
                inside += 1
                entered.append(number)
                most.append((inside, size))
                try:
                    for _ in range(coin.randrange(4)):
                        await asyncio.sleep(0)
                finally:
                    inside -= 1

        size, tasks = 3, []
        for number in range(400):
            tasks.append(asyncio.ensure_future(visit(number)))
            if number % 7 == 0:
                coin.choice(tasks).cancel()
            if number % 40 == 0:
                size = coin.randrange(1, 6)
                slots.resize(size)
                while slots._inside > size:  # nobody is sent out, nor who was let in and has not noticed yet
                    await asyncio.sleep(0)
                most.clear()
            await asyncio.sleep(0)
            assert all(count <= size for count, size in most)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert inside == 0
        late = max(max(entered[:place]) - number for place, number in enumerate(entered) if place)
        assert late <= 5, "in the order in which they came, but for who was let in and has not noticed yet"
        for _ in range(size):  # and no place is lost
            await asyncio.wait_for(slots.__aenter__(), 5)
        assert len(entered) > 300

    asyncio.run(main())


def test_who_gives_up_when_it_is_its_turn_gives_its_place_to_the_next():
    async def main():
        slots = ResizableSemaphore(1)
        await slots.__aenter__()
        second = asyncio.ensure_future(slots.__aenter__())
        await asyncio.sleep(0)
        await slots.__aexit__()  # its turn has come, but it does not know yet
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        await asyncio.wait_for(slots.__aenter__(), 5)

    asyncio.run(main())
