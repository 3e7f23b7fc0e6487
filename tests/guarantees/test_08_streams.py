"""Guarantee 8: a stream is stored only when it finishes, comes back chunk by chunk, and is shared while it runs."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import BaseModel
from support.stream_kinds import Kind

from exp_pool import record
from exp_pool.errors import ExpPoolWarning

PLAIN = {"index": "none://", "embedder": "none"}
FALSY = [0, "", None, [], {}, False, b"", 0.0, ()]


@pytest.fixture(params=["memory", "sqlite"])
def manager(request, make_manager, tmp_path):
    store = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}[request.param]
    return make_manager(store=store, max_stream_bytes=1000, **PLAIN)


@pytest.fixture(params=[False, True], ids=["generator", "async generator"])
def kind(request):
    return Kind(request.param)


def test_falsy_chunks_and_all_come_back_each_time(manager, kind):
    stream = kind.decorate(manager, FALSY)
    for _ in range(3):
        found = kind.read(stream("q"))
        assert found == FALSY
        assert [type(chunk) for chunk in found] == [type(chunk) for chunk in FALSY]
    assert kind.runs == ["q"]
    assert next(manager.sync.iter_exps()).response == FALSY


def test_an_empty_stream_is_an_answer(manager, kind):
    stream = kind.decorate(manager, [])
    assert [kind.read(stream("q")), kind.read(stream("q"))] == [[], []]
    assert kind.runs == ["q"]


@pytest.mark.parametrize("limit", [1, 2])
def test_an_abandoned_stream_is_not_stored_and_is_cleaned_up(manager, kind, limit):
    stream = kind.decorate(manager, [1, 2, 3])
    assert kind.read(stream("q"), limit) == [1, 2, 3][:limit]
    assert kind.cleaned == ["q"]
    assert manager.sync.get_exps_count() == 0
    assert kind.read(stream("q")) == [1, 2, 3]
    assert kind.runs == ["q", "q"]


def test_nothing_happens_before_the_first_chunk_is_asked_for(manager, kind):
    stream = kind.decorate(manager, [1])
    begun = stream("q")
    assert kind.runs == []
    assert (inspect.isasyncgen if kind.of_async else inspect.isgenerator)(begun)
    assert kind.read(begun) == [1]


def test_a_wrong_call_fails_as_the_function_does(manager, kind):
    stream = kind.decorate(manager, [1])
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        stream()


def test_only_what_is_asked_for_is_read(manager, kind):
    """No eager buffer: the function is never ahead of its reader."""
    sent = []

    def source():
        for n in range(5):
            sent.append(n)
            yield n

    stream = kind.decorate(manager, source())
    seen = []

    async def aread():
        async for chunk in stream("q"):
            seen.append((chunk, list(sent)))

    if kind.of_async:
        asyncio.run(aread())
    else:
        for chunk in stream("q"):
            seen.append((chunk, list(sent)))
    assert seen == [(n, list(range(n + 1))) for n in range(5)]


def test_an_exception_is_the_readers_and_nothing_is_stored(manager, kind):
    def fail():
        raise ValueError("boom")

    stream = kind.decorate(manager, [1], after=fail)
    for _ in range(2):
        with pytest.raises(ValueError, match="boom"):
            kind.read(stream("q"))
    assert kind.runs == ["q", "q"]
    assert manager.sync.get_exps_count() == 0


def test_a_changed_chunk_changes_nothing_stored(manager, kind):
    stream = kind.decorate(manager, [{"n": 1}, {"n": 2}])
    for _ in range(3):
        found = kind.read(stream("q"))
        assert found == [{"n": 1}, {"n": 2}]
        found[0]["n"] = 99
    original = [{"n": 1}]

    def mutate():
        original[0]["n"] = 99

    stream = kind.decorate(manager, original, after=mutate, name="mutating")
    assert kind.read(stream("q")) == [{"n": 99}], "the chunk is the function's own object"
    assert kind.read(stream("q")) == [{"n": 1}], "what was sent, not what became of it"


def test_chunks_of_a_model_come_back_as_models(manager, kind):
    if kind.of_async:

        @manager.exp_cache(name="async")
        async def stream(q) -> AsyncIterator[Chunk]:
            yield Chunk(text="a")
            yield Chunk(text="b")
    else:

        @manager.exp_cache
        def stream(q) -> Iterator[Chunk]:
            yield Chunk(text="a")
            yield Chunk(text="b")

    for _ in range(2):
        assert kind.read(stream("q")) == [Chunk(text="a"), Chunk(text="b")]
    assert manager.stats().hits == 1
    assert next(manager.sync.iter_exps()).response == [{"text": "a"}, {"text": "b"}]


class Chunk(BaseModel):
    text: str


def test_chunks_that_cannot_be_restored_pass_through_and_that_is_said(manager, kind):
    things = [1, object(), 2]
    stream = kind.decorate(manager, things)
    with pytest.warns(ExpPoolWarning, match="could not be restored"):
        assert kind.read(stream("q")) == things
    assert kind.read(stream("q")) == things
    assert kind.runs == ["q", "q"]


def test_a_longer_stream_than_max_stream_bytes_passes_through(manager, kind):
    long = ["x" * 100] * 20
    stream = kind.decorate(manager, long)
    with pytest.warns(ExpPoolWarning, match="max_stream_bytes=1000"):
        assert kind.read(stream("q")) == long
    assert kind.read(stream("q")) == long
    assert manager.sync.get_exps_count() == 0


def test_a_person_may_correct_a_stream(manager, kind):
    stream = kind.decorate(manager, ["a", "b"])
    kind.read(stream("q"))
    manager.sync.annotate(next(manager.sync.iter_exps()).id, expected=["right", ("t",)])
    assert kind.read(stream("q")) == ["right", ("t",)]


def test_call_gives_the_list_and_where_it_came_from(manager, kind):
    stream = kind.decorate(manager, [1, 2])

    def call():
        return asyncio.run(stream.call("q")) if kind.of_async else stream.call("q")

    live, stored = call(), call()
    assert (live.value, live.found_by) == ([1, 2], None)
    assert (stored.value, stored.found_by, stored.id) == ([1, 2], "exact", live.id)


def test_what_is_recorded_between_chunks_is_stored(manager, kind):
    stream = kind.decorate(manager, [1], after=lambda: record(model="m", tokens_out=3))
    kind.read(stream("q"))
    stored = next(manager.sync.iter_exps())
    assert (stored.model, stored.metric.tokens_out) == ("m", 3)
    assert stored.metric.time_s is not None


def test_conditions_and_durations_see_the_list_of_chunks(manager, kind):
    seen = []
    stream = kind.decorate(
        manager, [1, 2], cache_if=lambda call, value: seen.append(value) or len(value) > 5, ttl=lambda value: 60
    )
    kind.read(stream("q"))
    assert seen == [[1, 2]]
    assert manager.sync.get_exps_count() == 0
    stream = kind.decorate(manager, [1, 2], ttl=lambda value: 60 * len(value), name="timed")
    kind.read(stream("q"))
    stored = next(manager.sync.iter_exps())
    assert (stored.expires_at - stored.created_at).total_seconds() == 120


# send, throw, return


def test_a_generator_driven_by_send_is_never_stored_and_works(manager):
    @manager.exp_cache
    def talk(q):
        heard = yield f"{q}?"
        while heard != "bye":
            heard = yield f"you said {heard}"

    def chat():
        talking = talk("q")
        said = [next(talking), talking.send("a"), talking.send("b")]
        with pytest.raises(StopIteration):
            talking.send("bye")
        return said

    assert chat() == ["q?", "you said a", "you said b"]
    assert manager.sync.get_exps_count() == 0
    assert chat() == ["q?", "you said a", "you said b"]


def test_an_async_generator_driven_by_asend_is_never_stored_and_works(manager):
    @manager.exp_cache
    async def talk(q):
        heard = yield f"{q}?"
        while heard != "bye":
            heard = yield f"you said {heard}"

    async def chat():
        talking = talk("q")
        said = [await anext(talking), await talking.asend("a"), await talking.asend("b")]
        with pytest.raises(StopAsyncIteration):
            await talking.asend("bye")
        return said

    assert asyncio.run(chat()) == ["q?", "you said a", "you said b"]
    assert manager.sync.get_exps_count() == 0
    assert asyncio.run(chat()) == ["q?", "you said a", "you said b"]


def test_send_to_a_replayed_stream_asks_the_function_itself(manager):
    runs = []

    @manager.exp_cache
    def talk(q):
        runs.append(q)
        heard = yield 1
        yield heard

    assert list(talk("q")) == [1, None]
    talking = talk("q")
    assert next(talking) == 1
    assert len(runs) == 1
    assert talking.send("hello") == "hello"
    assert len(runs) == 2


def test_throw_reaches_the_function(manager):
    @manager.exp_cache
    def stream(q):
        try:
            yield 1
        except KeyError:
            yield "caught"

    @manager.exp_cache
    async def astream(q):
        try:
            yield 1
        except KeyError:
            yield "caught"

    running = stream("q")
    next(running)
    assert running.throw(KeyError()) == "caught"
    running.close()

    async def main():
        arunning = astream("q")
        await anext(arunning)
        caught = await arunning.athrow(KeyError())
        await arunning.aclose()
        return caught

    assert asyncio.run(main()) == "caught"
    assert manager.sync.get_exps_count() == 0


def test_what_a_generator_returns_reaches_the_caller_and_is_not_lost(manager):
    runs = []

    @manager.exp_cache
    def stream(q):
        runs.append(q)
        yield 1
        return "the end"

    def outer():
        returned = yield from stream("q")
        yield returned

    with pytest.warns(ExpPoolWarning, match="what a generator returns"):
        assert list(outer()) == [1, "the end"]
    assert list(outer()) == [1, "the end"]
    assert len(runs) == 2


def test_refresh_replaces_a_stored_stream(manager, kind):
    chunks = [1]
    stream = kind.decorate(manager, chunks)
    kind.read(stream("q"))
    chunks[:] = [2, 3]

    def refresh():
        return asyncio.run(stream.refresh("q")) if kind.of_async else stream.refresh("q")

    assert refresh().value == [2, 3]
    assert kind.read(stream("q")) == [2, 3]
