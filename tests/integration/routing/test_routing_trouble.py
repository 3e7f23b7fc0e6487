"""What goes wrong at endpoints: who is asked next, what is tried again, what is said; and that nothing stays open."""

import asyncio
import gzip
import json
import threading
from email.utils import format_datetime

import psutil
import pytest
from loguru import logger
from support.routers import KEY, endpoint, open_files, route, use
from support.servers import until
from support.servers.models import Cut, Hangup, Raw

from exp_pool.errors import ClosedError, InvalidInputError
from exp_pool.routing import AllModelsFailed, ConcurrentRouter, EndpointError, ModelEndpoint
from exp_pool.runtime import clock

WIRES = ["openai", "openai-responses", "anthropic", "gemini"]


def first(*replies, then="fine"):
    """Each of the replies once, then another."""
    left = iter(replies)
    return lambda body: next(left, then)


TROUBLES = {
    "server error": Raw(500, b'{"error": {"message": "broken"}}'),
    "not there": Raw(404, b"no such model"),
    "key refused": Raw(401, f'{{"error": {{"message": "Incorrect API key provided: {KEY}"}}}}'.encode()),
    "malformed": Raw(body=b'{"choices": ['),
    "no JSON at all": Raw(body=b"<html>welcome</html>", content_type="text/html"),
    "other JSON": Raw(body=b'{"hello": "world"}'),
    "a list": Raw(body=b"[1]"),
    "deep": Raw(body=b"[" * 100_000),
    "no choices": Raw(body=b'{"choices": [], "output": null, "type": "message", "candidates": []}'),
    "hung up": Hangup(),
    "cut off": Raw(body=b'{"choices": [', claims=1000),
    "bad gzip": Raw(body=b"no gzip", headers={"Content-Encoding": "gzip"}),
    "redirect": Raw(302, b"", {"Location": "http://127.0.0.1:9/steal"}),
    "an error in a 200": Raw(body=b'{"type": "error", "error": {"message": "overloaded"}}'),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
@pytest.mark.parametrize("wire", WIRES)
def test_the_next_one_answers(model_server, wire, trouble, streamed):
    bad, good = model_server(wire, reply=lambda body: trouble), model_server("openai", reply=lambda body: "I am here")

    async def ask(router):
        if not streamed:
            answer = await router.route_request("hello")
            return answer["model"], answer["response"], answer["attempts"]
        stream = router.stream_request("hello")
        return "good", "".join([text async for text in stream]), stream.attempts

    (model, text, attempts) = use([endpoint(bad, "bad", retries=0), endpoint(good, "good", priority=1)], ask)
    assert (model, text) == ("good", "I am here")
    assert [attempt["model"] for attempt in attempts] == ["bad", "good"]
    assert attempts[0]["error"]
    assert "bad" in attempts[0]["error"]
    assert KEY not in str(attempts)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_a_body_without_end_is_not_read(model_server, packed):
    """100 MB, plain or unpacked from 100 kB."""
    body = gzip.compress(b" " * 100 * 2**20, compresslevel=6) if packed else b" " * 100 * 2**20
    huge = model_server(reply=lambda _: Raw(body=body, headers={"Content-Encoding": "gzip"} if packed else {}))
    good = model_server("openai", "good")
    before = psutil.Process().memory_info().rss
    answer = route([endpoint(huge, "huge"), endpoint(good, priority=1)], router={"max_bytes": 2**20})
    assert answer["model"] == "good"
    assert ("compressed (gzip)" if packed else "longer than max_bytes=1,048,576") in answer["attempts"][0]["error"]
    assert psutil.Process().memory_info().rss - before < 40 * 2**20


@pytest.mark.parametrize(
    "trouble", [Raw(503), Raw(429), Hangup(), Raw(500), Raw(529)], ids=["503", "429", "hung up", "500", "529"]
)
def test_what_passes_is_tried_again(model_server, trouble):
    server = model_server(reply=first(trouble, trouble))
    answer = route([endpoint(server)])
    assert answer["response"] == "fine"
    assert [bool(attempt["error"]) for attempt in answer["attempts"]] == [True, True, False]


@pytest.mark.parametrize(
    "trouble",
    [Raw(400), Raw(401), Raw(404), Raw(429, b'{"error": {"code": "insufficient_quota"}}')],
    ids=["400", "401", "404", "no money"],
)
def test_what_does_not_pass_is_not(model_server, trouble):
    server = model_server(reply=lambda body: trouble)
    with pytest.raises(AllModelsFailed, match=r"model: |model at"):
        route([endpoint(server)])
    assert len(server.requests) == 1


@pytest.mark.parametrize("header", ["Retry-After", "Retry-After-Ms", "date"])
def test_retry_after_is_followed(model_server, header):
    """Asked for 0.4 s; without that the first wait would be 0.25 s at most."""
    value = {"Retry-After": "0.4", "Retry-After-Ms": "400"}.get(header)
    name = header if value else "Retry-After"
    value = value or format_datetime(clock.to_datetime(clock.now_us() + 2_000_000), usegmt=True)
    times = []

    def reply(body):
        times.append(clock.monotonic())
        return Raw(429, headers={name: value}) if len(times) == 1 else "fine"

    assert route([endpoint(model_server(reply=reply))])["response"] == "fine"
    assert times[1] - times[0] > (0.4 if header != "date" else 0.9)


def test_a_long_retry_after_sends_everybody_elsewhere(model_server):
    busy, free = model_server(reply=lambda body: Raw(429, headers={"Retry-After": "30"})), model_server(name="free")

    async def ask(router):
        answers = [await router.route_request("hello") for _ in range(3)]
        return answers, router.health()

    (answers, health) = use([endpoint(busy, "busy"), endpoint(free, priority=1)], ask)
    assert [answer["model"] for answer in answers] == ["free"] * 3
    assert len(busy.requests) == 1
    assert health["busy"]["circuit"] == "open"


def test_when_all_fail_each_is_named(model_server):
    a, b = model_server(reply=lambda body: Raw(500, b"sick")), model_server(reply=lambda body: Raw(400, b"what?"))
    with pytest.raises(
        AllModelsFailed, match=r"first at http://127.*HTTP 500: sick.*second at .*HTTP 400: what\?"
    ) as caught:
        route([endpoint(a, "first", retries=1), endpoint(b, "second", priority=1)])
    assert [(each["model"], each["status"]) for each in caught.value.attempts] == [
        ("first", 500),
        ("first", 500),
        ("second", 400),
    ]


def test_nobody_listens():
    gone = ModelEndpoint("gone", "http://127.0.0.1:9/v1/chat/completions", retries=1)
    with pytest.raises(AllModelsFailed, match="gone at http://127.0.0.1:9") as caught:
        route([gone])
    assert len(caught.value.attempts) == 2


def test_an_endpoint_that_hangs_is_left(model_server):
    release = threading.Event()
    slow, good = model_server(reply=lambda body: release.wait(20) and "late"), model_server(name="good")
    answer = route([endpoint(slow, "slow", timeout=0.2), endpoint(good, priority=1)], router={"release": release})
    assert answer["model"] == "good"
    assert "no answer in 0.2 s" in answer["attempts"][0]["error"]
    assert len(slow.requests) == 1  # waiting again would have been in vain


def test_the_deadline_is_for_everything(model_server):
    release = threading.Event()
    slow = model_server(reply=lambda body: release.wait(20) and "late")
    with pytest.raises(AllModelsFailed, match="the time is over") as caught:
        route([endpoint(slow, "slow")], deadline=0.2, router={"release": release})
    assert caught.value.attempts[0]["model"] == "slow"


def test_a_slow_first_token_sends_the_stream_elsewhere(model_server):
    release = threading.Event()
    slow, good = model_server("anthropic", reply=lambda body: "too late"), model_server(name="good")
    slow.between = lambda: release.wait(20)  # its head is sent, and no text

    async def ask(router):
        stream = router.stream_request("hello")
        return "".join([text async for text in stream]), stream.model, stream.attempts

    endpoints = [endpoint(slow, "slow", first_token_timeout=0.2), endpoint(good, priority=1)]
    (text, model, attempts) = use(endpoints, ask, release=release)
    assert (text, model) == ("good says: hello", "good")
    assert "no first token in 0.2 s" in attempts[0]["error"]


@pytest.mark.parametrize("wire", WIRES)
def test_after_the_first_token_nobody_goes_on(model_server, wire):
    cut, good = model_server(wire, reply=lambda body: Cut("one two three four")), model_server(name="good")

    async def ask(router):
        texts = []
        with pytest.raises(EndpointError, match="cut"):
            async for text in router.stream_request("hello"):
                texts.append(text)
        return texts, router.health()["cut"]["running"]

    (texts, running) = use([endpoint(cut, "cut"), endpoint(good, priority=1)], ask)
    assert texts[0] == "one "
    assert good.requests == []
    assert running == 0


def test_a_stream_that_is_left_gives_its_place_back(model_server):
    server = model_server(reply=lambda body: "a b c d e f")

    async def ask(router):
        for _ in range(5):
            async with router.stream_request("hello") as stream:
                async for _text in stream:
                    break
        return await router.route_request("hello")

    answer = use([endpoint(server, max_concurrent=1)], ask, deadline=20)
    assert answer["response"] == "a b c d e f"


def test_the_key_is_nowhere(model_server, monkeypatch, caplog):
    """Not in the repr, errors, logs, or what errors came from."""
    monkeypatch.setenv("MY_KEY", KEY)
    server = model_server(reply=lambda body: Raw(401, f"bad key {KEY}".encode()))
    mine = ModelEndpoint("m", server.url + "?v=1", api_key="env:MY_KEY", headers={"X-Extra": KEY})
    lines = []
    caplog.set_level(0)  # of the standard library, too: httpx logs every request
    sink = logger.add(lines.append, level=0, diagnose=True, backtrace=True)
    logger.enable("exp_pool")
    try:
        with pytest.raises(AllModelsFailed) as caught:
            route([mine])
        import traceback

        told = "".join(traceback.format_exception(caught.value))
    finally:
        logger.disable("exp_pool")
        logger.remove(sink)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert lines
    assert "?v=1" in caplog.text
    for text in (repr(mine), told, str(caught.value.attempts), "".join(lines), caplog.text):
        assert KEY not in text


def test_keys_of_the_environment_go_to_their_providers_only(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_API_KEY", "google")
    assert ModelEndpoint("a", "https://api.openai.com/v1/chat/completions").key() == KEY
    assert ModelEndpoint("a", "https://generativelanguage.googleapis.com/v1/models/g:generateContent").key() == "google"
    for url in (
        "https://api.openai.com.evil.org",
        "http://api.openai.com",
        "http://127.0.0.1",
        "https://api.anthropic.com",
    ):
        assert ModelEndpoint("a", url + "/v1/chat/completions").key() is None


def test_who_waits_when_it_closes_hears_of_it(model_server):
    release, entered = threading.Event(), threading.Event()
    server = model_server(reply=lambda body: (entered.set(), release.wait(20), "late")[-1])

    async def main():
        router = ConcurrentRouter([endpoint(server, max_concurrent=1)])
        waiting = [asyncio.create_task(router.route_request("hello")) for _ in range(3)]
        await asyncio.to_thread(entered.wait, 20)
        await router.close()
        await router.close()
        with pytest.raises(ClosedError):
            await router.route_request("hello")
        return await asyncio.gather(*waiting, return_exceptions=True)

    before = open_files()
    try:
        assert [type(error) for error in asyncio.run(main())] == [ClosedError] * 3
    finally:
        release.set()
    until(lambda: open_files() <= before, "every connection is closed")


def test_a_router_belongs_to_one_loop(model_server):
    router = ConcurrentRouter([endpoint(model_server())])
    with asyncio.Runner() as runner:
        assert runner.run(router.route_request("hello"))["response"] == "model says: hello"
        with pytest.raises(InvalidInputError, match="another event loop"):
            asyncio.run(router.route_request("hello"))
        runner.run(router.close())


def test_a_cancelled_caller_leaves_nothing(model_server):
    release, entered = threading.Event(), threading.Event()
    server = model_server(reply=lambda body: (entered.set(), release.wait(20), "late")[-1])

    async def ask(router):
        tasks = [asyncio.create_task(router.route_request("hello")) for _ in range(5)]
        await asyncio.to_thread(entered.wait, 20)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        release.set()
        return router.health()["model"]["running"], (await router.route_request("hello"))["response"]

    (running, answer) = use([endpoint(server, max_concurrent=2)], ask)
    assert (running, answer) == (0, "late")


@pytest.mark.parametrize(
    ("prompt", "options"),
    [("", {}), ("  ", {}), ([], {}), (3, {}), ([{"content": "x"}], {}), ([{"role": "boss"}], {}), ("hi", {"preferred_model": "x"}), ("hi", {"stream": True}), ("hi", {"deadline": 0}), ("hi", {"deadline": "soon"})],
)  # fmt: skip
def test_what_cannot_be_asked_is_said_at_once(model_server, prompt, options):
    server = model_server()
    with pytest.raises(InvalidInputError):
        route([endpoint(server)], prompt, **options)
    assert server.requests == []


def test_what_is_unchanged_keeps_its_circuit(model_server):
    """Asking again which endpoints there are forgets nothing about those that stay."""
    sick, good = model_server(reply=lambda body: Raw(500)), model_server(name="good")
    asked = []

    async def discover():
        asked.append(1)
        return [endpoint(sick, "sick", retries=0, breaker_after=1, breaker_pause=50), endpoint(good, priority=1)]

    async def ask(router):
        await router.route_request("hello")
        before = len(asked)
        while len(asked) < before + 3:
            await asyncio.sleep(0.01)
        await router.route_request("hello")
        return router.health()["sick"]["circuit"]

    assert use(discover, ask, refresh_s=0.01) == "open"
    assert len(sick.requests) == 1


@pytest.mark.parametrize(
    "said", [{"error": {"message": KEY}}, {"hello": KEY}, {"choices": [{"delta": {"content": KEY}}]}]
)
def test_the_key_is_not_in_what_a_server_says_with_status_200(model_server, said):
    with pytest.raises(AllModelsFailed) as caught:
        route([endpoint(model_server(reply=lambda body: Raw(body=json.dumps(said).encode())), retries=0)])
    assert KEY not in str(caught.value) + str(caught.value.attempts)
