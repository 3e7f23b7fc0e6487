"""Guarantee 8: readers of one running stream share it; whoever needs the next chunk pulls it."""

import asyncio
import threading

import pytest

from exp_pool import ExpManager

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture(params=["memory", "sqlite"])
def manager(request, make_manager, tmp_path):
    store = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}[request.param]
    return make_manager(store=store, max_stream_bytes=1000, **PLAIN)


def test_readers_of_a_running_stream_share_it_and_a_late_one_starts_at_its_beginning(manager):
    runs = []

    @manager.exp_cache
    def stream(q):
        runs.append(q)
        yield from ([n] for n in range(4))

    first = stream("q")
    assert [next(first), next(first)] == [[0], [1]]
    second = stream("q")
    assert next(second) == [0]
    first.close()
    assert list(second) == [[1], [2], [3]], "who goes early takes nothing from the others"
    assert runs == ["q"]
    assert manager.sync.get_exps_count() == 1, "and the stream is stored when the last reader has read it"
    assert manager.stats().coalesced == 1


def test_readers_of_a_running_async_stream_share_it(manager):
    runs = []

    @manager.exp_cache
    async def stream(q):
        runs.append(q)
        for n in range(4):
            yield [n]

    async def main():
        first, second = stream("q"), stream("q")
        seen = [await anext(first), await anext(first), await anext(second)]
        await first.aclose()
        return seen, [chunk async for chunk in second]

    assert asyncio.run(main()) == ([[0], [1], [0]], [[1], [2], [3]])
    assert runs == ["q"]
    assert manager.sync.get_exps_count() == 1


def test_a_cancelled_reader_cancels_no_other_reader(manager):
    gate, cleaned = {}, []

    @manager.exp_cache
    async def stream(q):
        try:
            yield 1
            await gate["open"].wait()
            yield 2
        finally:
            cleaned.append(q)

    async def read():
        return [chunk async for chunk in stream("q")]

    async def main():
        gate["open"] = asyncio.Event()
        first, second = asyncio.create_task(read()), asyncio.create_task(read())
        running = manager.sync.services.streams._running
        while not running or len(next(iter(running.values())).buffer.readers) < 2:
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        gate["open"].set()
        return await second

    assert asyncio.run(main()) == [1, 2]
    assert cleaned == ["q"]


def test_after_the_bound_a_late_reader_calls_for_itself_and_others_go_on(manager):
    runs = []

    @manager.exp_cache
    def stream(q):
        runs.append(q)
        yield from ["x" * 400] * 5

    first, second = stream("q"), stream("q")
    next(first), next(second)
    next(first), next(first)  # 1,200 bytes: beyond the bound
    late = stream("q")
    next(late)
    assert len(runs) == 2
    assert [len(list(first)), len(list(second)), len(list(late))] == [2, 4, 4]


def test_a_thread_that_needs_the_next_chunk_waits_for_the_one_that_pulls_it(manager):
    gate, entered = threading.Event(), threading.Event()

    @manager.exp_cache
    def stream(q):
        yield 1
        entered.set()
        assert gate.wait(30)
        yield 2

    results = {}

    def read(name):
        results[name] = list(stream("q"))

    first = threading.Thread(target=read, args=("first",))
    first.start()
    assert entered.wait(30)
    second = threading.Thread(target=read, args=("second",))
    second.start()
    gate.set()
    first.join(30), second.join(30)
    assert results == {"first": [1, 2], "second": [1, 2]}
    assert manager.stats().misses == 1


def test_a_time_out_inside_an_async_generator_spans_its_chunks(manager):
    """The function's generator stays in one task, as what it opens there demands."""
    tasks = set()

    @manager.exp_cache
    async def stream(q):
        async with asyncio.timeout(30):
            for n in range(3):
                tasks.add(asyncio.current_task())
                yield n

    async def main():
        return [chunk async for chunk in stream("q")]

    assert asyncio.run(main()) == [0, 1, 2]
    assert len(tasks) == 1


def test_the_first_of_two_that_ran_side_by_side_is_stored(tmp_path, make_manager):
    url = f"sqlite:///{tmp_path}/pool.db"
    one, two = make_manager(store=url, **PLAIN), ExpManager(store=url, **PLAIN)
    first = one.exp_cache(name="s")(lambda q: (yield "one"))
    second = two.exp_cache(name="s")(lambda q: (yield "two"))
    with two:
        running, other = first("q"), second("q")
        assert [next(running), next(other)] == ["one", "two"]
        assert list(other) == []
        assert list(running) == []
        assert [e.response for e in one.sync.iter_exps(history=True)] == [["two"]]
