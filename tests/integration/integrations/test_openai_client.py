"""The pool in front of OpenAI's own client, which asks a server on loopback."""

import asyncio
import threading
from contextlib import closing

import openai
import pytest
from openai import AsyncOpenAI, AzureOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from support.servers.models import Cut, ModelServer, Raw
from support.servers.wire_formats import ToolCall

from exp_pool.errors import ConfigurationError, ExpPoolWarning
from exp_pool.integrations.openai import NAME, cached, complete

PLAIN = {"index": "none://", "embedder": "none"}
HI = [{"role": "user", "content": "hi"}]
PRICES = {"gpt": (1.0, 10.0)}


@pytest.fixture
def manager(make_manager, tmp_path):
    return make_manager(store=f"sqlite:///{tmp_path}/pool.db", **PLAIN)


@pytest.fixture
def server():
    with closing(ModelServer("openai", "gpt")) as server:
        yield server


@pytest.fixture
def make(server, manager):
    made = []

    def make(kind=OpenAI, **options):
        client = kind(api_key="test", base_url=f"{server.base}/v1", max_retries=0)
        made.append(client)
        return cached(client, manager=manager, **options)

    yield make
    for client in made:
        if isinstance(client, OpenAI):
            client.close()


def ask(client, **asked):
    return client.chat.completions.create(**{"model": "gpt", "messages": HI, **asked})


def asked_async(make, *calls, **options):
    """What an async client gives, one after the other; of streams the chunks."""

    async def main():
        answers = []
        async with make(AsyncOpenAI, **options) as client:
            for call in calls:
                answer = await ask(client, **call)
                answers.append([chunk async for chunk in answer] if call.get("stream") else answer)
        return answers

    return asyncio.run(main())


def test_the_second_time_the_pool_answers_with_the_packages_types(make, server, manager):
    client = make(prices=PRICES)
    assert isinstance(client, OpenAI)
    first, second = ask(client), ask(client)
    assert type(first) is type(second) is ChatCompletion
    assert first == second
    assert second.choices[0].message.content == "gpt says: hi"
    assert len(server.requests) == 1
    (stored,) = manager.sync.iter_exps()
    assert (stored.function, stored.request, stored.model) == (NAME, "hi", "gpt")
    assert stored.arguments["base_url"] == f"{server.base}/v1/"
    assert (stored.metric.tokens_in, stored.metric.tokens_out) == (100, 10)
    assert stored.metric.money_usd == pytest.approx(100 * 1.0 / 1e6 + 10 * 10.0 / 1e6)


def test_an_async_client_shares_the_pool_with_a_plain_one(make, server):
    first = ask(make())
    second, third = asked_async(make, {}, {"messages": [{"role": "user", "content": "ho"}]})
    assert second == first
    assert third.choices[0].message.content == "gpt says: ho"
    assert len(server.requests) == 2


def test_streams_are_replayed_chunk_by_chunk(make, server, manager):
    client = make()
    with ask(client, stream=True) as chunks:
        assert isinstance(chunks, openai.Stream)
        first = list(chunks)
    second = list(ask(client, stream=True))
    (third,) = asked_async(make, {"stream": True})
    assert first == second == third
    assert {type(chunk) for chunk in second} == {ChatCompletionChunk}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in second if chunk.choices) == "gpt says: hi"
    assert len(server.requests) == 1
    assert ask(client).choices[0].message.content == "gpt says: hi"
    assert len(server.requests) == 2, "a whole answer is another call"
    assert {stored.model for stored in manager.sync.iter_exps()} == {"gpt"}


def test_a_stream_that_is_left_or_breaks_off_is_not_stored(make, server, manager):
    client = make()
    stream = ask(client, stream=True)
    next(stream)
    stream.close()

    async def left():
        async_client = make(AsyncOpenAI)
        chunks = await ask(async_client, stream=True)
        assert isinstance(chunks, openai.AsyncStream)
        async with chunks:
            await anext(chunks)
        await async_client.close()

    asyncio.run(left())
    server.reply = lambda body: Cut("never whole")
    for options in ({}, {"cache_if": lambda call, chunks: True}):
        assert list(ask(make(**options), stream=True)), "the package takes this for the end"
        asked_async(make, {"stream": True}, **options)
    assert manager.sync.get_exps_count() == 0
    assert len(server.requests) == 6
    server.reply = lambda body: "whole"
    list(ask(make(cache_if=lambda call, chunks: call.model == "gpt"), stream=True))
    assert manager.sync.get_exps_count() == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"model": "other"},
        {"temperature": 0.5},
        {"messages": [{"role": "system", "content": "x"}, *HI]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"user": "somebody"},
        {"n": 1},
        {"extra_body": {"top_k": 3}},
    ],
    ids=str,
)
def test_what_may_change_the_answer_is_in_the_key(make, server, changed):
    client = make()
    ask(client), ask(client, **changed), ask(client, **changed)
    assert len(server.requests) == 2


def test_what_does_not_change_the_answer_is_not(make, server):
    client = make(exclude=["user"])
    ask(client)
    for same in (
        {"timeout": 7.0},
        {"extra_headers": {"X-Request-Id": "5"}},
        {"prompt_cache_key": "k"},
        {"user": "somebody"},
        {"temperature": openai.NOT_GIVEN, "seed": openai.omit},
        {"messages": iter(HI)},
    ):
        ask(client, **same)
    assert len(server.requests) == 1


def test_another_server_is_another_question(make, server, manager):
    ask(make())
    with closing(ModelServer("openai", "gpt")) as other, OpenAI(api_key="x", base_url=f"{other.base}/v1") as client:
        ask(cached(client, manager=manager))
        assert len(other.requests) == 1


def test_what_was_cut_off_is_not_stored_unless_asked_for(make, server, manager, monkeypatch):
    whole = server.format.whole("gpt", "half an ans")
    whole["choices"][0]["finish_reason"] = "length"
    monkeypatch.setattr(server.format, "whole", lambda *_: whole)
    client = make()
    assert ask(client).choices[0].finish_reason == "length"
    assert manager.sync.get_exps_count() == 0
    ask(make(cache_if=lambda answer: True))
    assert manager.sync.get_exps_count() == 1
    assert complete([]) is False


def test_calls_of_tools_are_answers(make, server):
    server.reply = lambda body: ToolCall("look_up", {"q": 1})
    client = make()
    assert ask(client) == ask(client)
    assert ask(client).choices[0].message.tool_calls[0].function.name == "look_up"
    assert len(server.requests) == 1


def test_what_the_server_raises_reaches_the_caller(make, server, manager):
    server.reply = lambda body: Raw(429, b'{"error": {"message": "slow down"}}')
    with pytest.raises(openai.RateLimitError):
        ask(make())
    with pytest.raises(openai.RateLimitError):
        asked_async(make, {})
    with pytest.raises(openai.RateLimitError):
        list(ask(make(), stream=True))
    assert manager.sync.get_exps_count() == 0
    assert manager.stats().degraded == 0


def test_concurrent_identical_calls_ask_once(make, server):
    gate = threading.Event()

    def reply(body):
        assert gate.wait(30)
        return "once"

    server.reply = reply

    async def main():
        client = make(AsyncOpenAI)
        tasks = [asyncio.create_task(ask(client)) for _ in range(5)]
        await asyncio.to_thread(lambda: [None for _ in iter(lambda: bool(server.requests), True)])
        gate.set()
        answers = await asyncio.gather(*tasks)
        await client.close()
        return {answer.choices[0].message.content for answer in answers}

    assert asyncio.run(main()) == {"once"}
    assert len(server.requests) == 1


def test_helpers_and_everything_else_are_the_clients_own(make, server, manager):
    client = make()
    raw = client.chat.completions.with_raw_response.create(model="gpt", messages=HI)
    assert raw.parse().choices[0].message.content == "gpt says: hi"
    with client.chat.completions.stream(model="gpt", messages=HI) as stream:
        stream.until_done()
    assert manager.sync.get_exps_count() == 0
    assert len(server.requests) == 2
    assert client.models is not None
    ask(client.with_options(timeout=5))
    assert manager.sync.get_exps_count() == 0


def test_subclasses_of_the_client_too(server, manager):
    azure = AzureOpenAI(api_key="x", api_version="1", base_url=f"{server.base}/v1", max_retries=0)
    with azure:
        client = cached(azure, manager=manager)
        assert isinstance(client, AzureOpenAI)
        assert ask(client) == ask(client)
    assert len(server.requests) == 1


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigurationError, match="takes an openai.OpenAI or openai.AsyncOpenAI"):
        cached("client")
    with OpenAI(api_key="x") as client:
        for prices in ({"gpt": 3}, {"gpt": (1,)}, {"gpt": (1, -2)}, ["gpt"]):
            with pytest.raises(ConfigurationError, match="prices=.*must be a dict from models to"):
                cached(client, prices=prices)
        with pytest.raises(TypeError, match="colour"):
            cached(client, colour="red")


@pytest.mark.parametrize(
    "changed",
    [
        {"usage": {"prompt_tokens": 5}},
        {"usage": {"prompt_tokens": None, "completion_tokens": None}},
        {"usage": {"prompt_tokens": -1, "completion_tokens": "7"}},
        {"model": 7},
        {"model": None},
    ],
    ids=str,
)
def test_imitators_of_the_server_may_count_as_they_like(make, server, manager, monkeypatch, changed):
    whole = server.format.whole("gpt", "hi") | changed
    monkeypatch.setattr(server.format, "whole", lambda *_: whole)
    client = make(prices=PRICES)
    assert ask(client).choices[0].message.content == "hi"
    assert ask(client).choices[0].message.content == "hi"
    assert len(server.requests) == 1


def test_what_is_no_answer_at_all_is_given_as_the_package_gives_it(make, server, manager):
    server.reply = lambda body: Raw(body=b"hello", content_type="text/plain")
    with pytest.warns(ExpPoolWarning, match="could not store"):
        assert ask(make()) == "hello"
    assert manager.sync.get_exps_count() == 0


def test_what_the_client_adds_to_each_address_is_part_of_the_question(server, manager):
    for version in ("1", "2", "2"):
        settings = {"api_key": "test", "base_url": f"{server.base}/v1", "default_query": {"api-version": version}}
        with OpenAI(**settings) as client:
            ask(cached(client, manager=manager))
    assert len(server.requests) == 2
