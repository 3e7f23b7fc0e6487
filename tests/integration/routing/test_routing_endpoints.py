"""Which endpoints a router asks: they come and go, and are asked whether they are well."""

import asyncio
import json
import threading

import pytest
from support.routers import KEY, endpoint, route, use
from support.servers import until

from exp_pool.errors import AllModelsFailed, ClosedError, ConfigurationError
from exp_pool.routing import ConcurrentRouter


def test_endpoints_come_and_go(model_server):
    """A request that is under way at one that goes is answered there."""
    release, entered = threading.Event(), threading.Event()

    def reply(body):
        entered.set()
        release.wait(20)
        return "old says so"

    old, new = model_server(reply=reply), model_server(name="new")
    known, asked = [endpoint(old, "old")], asyncio.Event()

    async def discover():
        asked.set()
        if not known:
            raise OSError("the registry is away")
        return known

    async def ask(router):
        under_way = asyncio.create_task(router.route_request("hello"))
        await asyncio.to_thread(entered.wait, 20)
        known[:] = [endpoint(new, "new")]
        while "old" in router.health():
            await asyncio.sleep(0.01)
        second = await router.route_request("hello")
        known.clear()
        asked.clear()
        await asked.wait()  # in trouble, the last ones stay
        third = await router.route_request("hello")
        release.set()
        return [(await under_way)["response"], second["response"], third["response"]]

    answers = use(discover, ask, refresh_s=0.02)
    assert answers == ["old says so", "new says: hello", "new says: hello"]


@pytest.mark.parametrize(
    ("found", "message"), [([], "no endpoints"), ("ab", "must be a list"), ([1], "must be a ModelEndpoint")]
)
def test_a_discovery_that_finds_nonsense_is_told(found, message):
    async def discover():
        return found

    with pytest.raises(ConfigurationError, match=message):
        route(discover)


# ── A file ────────────────────────────────────────────────────────────────────────────────────────────────────────────

TOML = """
[[endpoints]]
name = "{name}"
url = "{url}"
api_key = "env:TEST_MODEL_KEY"
max_concurrent = 3
"""


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("TEST_MODEL_KEY", KEY)


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_a_file_lists_them_and_is_looked_at_again(model_server, tmp_path, kind):
    one, two = model_server(name="one"), model_server(name="two")
    path = tmp_path / f"endpoints.{kind}"

    def write(server):
        entry = {"name": server.name, "url": server.url, "api_key": "env:TEST_MODEL_KEY", "max_concurrent": 3}
        text = TOML.format(name=server.name, url=server.url) if kind == "toml" else json.dumps({"endpoints": [entry]})
        path.write_text(text)

    async def ask(router):
        first = await router.route_request("hello")
        path.write_text("half a line [")  # as an editor may leave it: the last ones stay
        second = await router.route_request("hello")
        write(two)
        while "two" not in router.health():
            await asyncio.sleep(0.01)
        return [each["response"] for each in (first, second, await router.route_request("hello"))]

    write(one)
    assert use(str(path), ask, refresh_s=0.02) == ["one says: hello", "one says: hello", "two says: hello"]
    assert one.headers[0]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", None, "cannot be read from .*a.toml"),
        ("a.toml", "name = ", "cannot be read from"),
        ("a.toml", "\udc80", "cannot be read from"),
        ("a.json", "[" * 100_000, "cannot be read from"),
        ("a.json", "[]", "lists no endpoints; write"),
        ("a.toml", "endpoints = 1", "lists no endpoints; write"),
        ("a.toml", "endpoints = []", "there are no endpoints"),
        ("a.toml", "#" * (2**20 + 1), "longer than 1,048,576 bytes"),
        ("a.toml", "[[endpoints]]\nname = 'a'", "endpoint 1: it needs name and url"),
        (
            "a.toml",
            TOML.format(name="a", url="ftp://x") + "retry = 3",
            "endpoint 1: retry is unknown; known: name, url",
        ),
        ("a.toml", TOML.format(name="a", url="ftp://x"), "endpoint 1: .*must begin with http"),
        ("a.toml", TOML.format(name="a", url="http://x/v1/messages") * 2, "two endpoints are called 'a'"),
    ],
)
def test_a_file_that_lists_none_is_told_at_once(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match=message):
        ConcurrentRouter(tmp_path / name)


# ── Health ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_is_not_well_is_left_alone_until_it_is(model_server):
    first, second = model_server(name="first"), model_server(name="second")
    endpoints = [endpoint(first, health_url=f"{first.base}/health"), endpoint(second, priority=1)]

    async def state(router, wanted):
        while router.health()["first"]["circuit"] != wanted:
            await asyncio.sleep(0.01)

    async def ask(router):
        said = [await router.route_request("hello")]
        first.well = False
        await state(router, "open")
        said.append(await router.route_request("hello"))
        with pytest.raises(AllModelsFailed, match=r"first: its health check failed: .*HTTP 503"):
            second.reply = lambda body: 1 / 0
            await router.route_request("hello", deadline=5)
        first.well = True
        await state(router, "closed")
        said.append(await router.route_request("hello"))
        return [each["model"] for each in said]

    assert use(endpoints, ask, refresh_s=0.02) == ["first", "second", "first"]
    assert second.checks == 0, "it has no health_url"


def test_where_nobody_answers_the_health_check_nobody_is_asked(model_server):
    server = model_server(name="there")
    gone = endpoint(server, "gone", health_url="http://127.0.0.1:9/health", timeout=1.0)

    async def ask(router):
        while router.health()["gone"]["circuit"] != "open":
            await asyncio.sleep(0.01)
        return (await router.route_request("hello"))["model"]

    assert use([gone, endpoint(server, priority=1)], ask) == "there"


# ── The same endpoint with other settings ─────────────────────────────────────────────────────────────────────────────


def test_limits_hold_while_the_settings_of_an_endpoint_change(model_server):
    """What is under way, and what was sent in this minute, counts for the new limits; so does an open circuit."""
    release, server = threading.Event(), model_server()

    def reply(body):
        release.wait(20)
        return "so"

    server.reply = reply
    known = [endpoint(server, max_concurrent=2, requests_per_minute=6)]

    async def discover():
        return list(known)

    async def changed(router, **settings):
        known[:] = [endpoint(server, **settings)]
        while router._limiters.all[0].endpoint != known[0]:
            await asyncio.sleep(0.01)

    async def ask(router):
        asked = [asyncio.create_task(router.route_request("hello")) for _ in range(4)]
        await asyncio.to_thread(until, lambda: server.busy == 2, "two are asked")
        await changed(router, max_concurrent=2, requests_per_minute=5, weight=3.0)
        asked.append(asyncio.create_task(router.route_request("hello")))
        async with asyncio.timeout(20):
            while router.health()["model"]["running"] < 5 and server.busy < 3:
                await asyncio.sleep(0.01)
        assert server.busy == 2
        release.set()
        await asyncio.gather(*asked)
        with pytest.raises(AllModelsFailed):  # the sixth of this minute
            await router.route_request("hello", deadline=0.2)
        return server.busiest

    assert use(discover, ask, release=release, refresh_s=0.01) == 2
    assert len(server.requests) == 5


def test_who_waits_for_a_rate_hears_at_once_that_the_router_was_closed(model_server):
    server = model_server()

    async def ask(router):
        await router.route_request("hello")
        waiting = asyncio.create_task(router.route_request("hello"))
        async with asyncio.timeout(20):
            while not router._limiters.all[0]._in_order.locked():  # it waits for its rate
                await asyncio.sleep(0.01)
        await router.close()
        with pytest.raises(ClosedError):
            await asyncio.wait_for(waiting, 10)

    use([endpoint(server, requests_per_minute=1)], ask)
