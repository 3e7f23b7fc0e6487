"""Guarantee 5: a wait that would close a circle (recursion, crossed calls) runs the function itself."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture(params=["memory", "sqlite"])
def manager(request, make_manager, tmp_path):
    store = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}[request.param]
    return make_manager(store=store, **PLAIN)


@pytest.mark.parametrize("kind", ["sync", "async", "generator", "async generator", "through a thread"])
def test_recursion_through_an_equal_key_runs_through(manager, kind):
    depth = []

    @manager.exp_cache
    def plain(q):
        depth.append(q)
        return plain(q) if len(depth) < 3 else "end"

    @manager.exp_cache
    async def coroutine(q):
        depth.append(q)
        return (await asyncio.gather(coroutine(q), coroutine(q)))[0] if len(depth) < 3 else "end"

    @manager.exp_cache
    def chunks(q):
        depth.append(q)
        yield from chunks(q) if len(depth) < 3 else ["end"]

    @manager.exp_cache
    async def achunks(q):
        depth.append(q)
        if len(depth) < 3:
            async for chunk in achunks(q):
                yield chunk
        else:
            yield "end"

    @manager.exp_cache
    def threaded(q):
        depth.append(q)
        if len(depth) >= 3:
            return "end"
        context = contextvars.copy_context()
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(context.run, threaded, q).result(20)

    async def read():
        return [chunk async for chunk in achunks("q")]

    run = {
        "sync": lambda: plain("q"),
        "async": lambda: asyncio.run(asyncio.wait_for(coroutine("q"), 20)),
        "generator": lambda: "".join(chunks("q")),
        "async generator": lambda: "".join(asyncio.run(asyncio.wait_for(read(), 20))),
        "through a thread": lambda: threaded("q"),
    }
    assert run[kind]() == "end"


def test_calls_that_cross_do_not_wait_for_each_other_for_ever(manager):
    both = threading.Barrier(2)

    @manager.exp_cache
    def ask(q):
        if depth.get() == 0:
            depth.set(1)
            both.wait(20)
            return [q, ask("b" if q == "a" else "a")]
        return q

    depth = contextvars.ContextVar("depth", default=0)
    with ThreadPoolExecutor(2) as threads:
        values = [threads.submit(contextvars.copy_context().run, ask, q) for q in "ab"]
        a, b = (value.result(20) for value in values)
    assert a[0] == "a"
    assert b[0] == "b"


def test_coroutines_that_cross_do_not_wait_for_each_other_for_ever(manager):
    async def main():
        both = asyncio.Event()
        entered = []

        @manager.exp_cache
        async def ask(q):
            entered.append(q)
            if len(entered) == 2:
                both.set()
            await both.wait()
            return [q, await ask("b" if q == "a" else "a")] if len(entered) < 4 else q

        return await asyncio.wait_for(asyncio.gather(ask("a"), ask("b")), 20)

    a, b = asyncio.run(main())
    assert (a[0], b[0]) == ("a", "b")


def test_streams_that_cross_do_not_wait_for_each_other_for_ever(manager):
    both, deep = threading.Barrier(2), contextvars.ContextVar("deep", default=False)

    @manager.exp_cache
    def stream(q):
        yield q
        if not deep.get():
            deep.set(True)
            both.wait(20)
            yield from stream("b" if q == "a" else "a")

    with ThreadPoolExecutor(2) as threads:
        a, b = (threads.submit(lambda q: list(stream(q)), q) for q in "ab")
        assert (a.result(20)[0], b.result(20)[0]) == ("a", "b")


# What belongs to the caller
