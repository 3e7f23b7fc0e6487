"""Guarantee 5: concurrent identical calls run the function once, and nobody is harmed by anybody else."""

import asyncio
import contextvars
import gc
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.gates import Gate, aboard, until

from exp_pool import bypass, in_namespace
from exp_pool.calls.drivers import single_flight

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture(params=["memory", "sqlite"])
def manager(request, make_manager, tmp_path):
    store = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}[request.param]
    return make_manager(store=store, **PLAIN)


# A thousand identical calls


def test_of_a_thousand_from_64_threads_one_runs(manager):
    gate = Gate()
    ask = manager.exp_cache(name="ask")(lambda q: gate.run())
    with ThreadPoolExecutor(64) as threads:
        answers = [threads.submit(ask, "q") for _ in range(1000)]
        until(lambda: aboard(manager) == 64)
        gate.open.set()
        values = [answer.result(30) for answer in answers]
    assert values == [{"run": 1}] * 1000
    assert len({id(value) for value in values}) == 1000, "each has a copy of its own"
    stats = manager.stats()
    assert (stats.misses, stats.hits + stats.coalesced) == (1, 999)
    assert stats.coalesced >= 63


def test_of_a_thousand_tasks_one_runs(manager):
    gate = Gate()

    @manager.exp_cache
    async def ask(q):
        return await gate.arun()

    async def main():
        tasks = [asyncio.create_task(ask("q")) for _ in range(1000)]
        while aboard(manager) < 1000:
            await asyncio.sleep(0)
        gate.open.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [{"run": 1}] * 1000
    assert (manager.stats().misses, manager.stats().coalesced) == (1, 999)


def test_threads_and_tasks_of_four_loops_share_one_run(manager):
    gate = Gate()

    @manager.exp_cache(name="both")
    def on_threads(q):
        return gate.run()

    @manager.exp_cache(name="both")
    async def on_loops(q):
        return await gate.arun()

    async def crowd():
        return await asyncio.gather(*(on_loops("q") for _ in range(200)))

    with ThreadPoolExecutor(16) as threads:
        loops = [threads.submit(asyncio.run, crowd()) for _ in range(4)]
        calls = [threads.submit(on_threads, "q") for _ in range(200)]
        until(lambda: aboard(manager) == 812)
        gate.open.set()
        values = [call.result(30) for call in calls] + [value for loop in loops for value in loop.result(30)]
    assert values == [{"run": 1}] * 1000
    assert gate.runs == 1


@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_of_a_thousand_streams_one_runs(manager, kind):
    runs = []

    @manager.exp_cache
    def stream(q):
        runs.append(q)
        yield from ({"n": n} for n in range(3))

    @manager.exp_cache
    async def astream(q):
        runs.append(q)
        for n in range(3):
            await asyncio.sleep(0)
            yield {"n": n}

    async def crowd():
        async def read():
            return [chunk async for chunk in astream("q")]

        return await asyncio.gather(*(read() for _ in range(1000)))

    if kind == "tasks":
        values = asyncio.run(crowd())
    else:
        barrier = threading.Barrier(64)

        def read(i):
            if i < 64:
                barrier.wait(30)
            return list(stream("q"))

        with ThreadPoolExecutor(64) as threads:
            values = list(threads.map(read, range(1000)))
    assert values == [[{"n": 0}, {"n": 1}, {"n": 2}]] * 1000
    assert len({id(chunk) for value in values for chunk in value}) == 3000
    assert len(runs) == 1


def test_streams_of_several_loops_share_one_run(manager):
    runs, gate = [], threading.Event()

    @manager.exp_cache
    async def stream(q):
        runs.append(q)
        yield 1
        while not gate.is_set():
            await asyncio.sleep(0.001)
        yield 2

    async def read():
        return [chunk async for chunk in stream("q")]

    async def crowd():
        return await asyncio.gather(*(read() for _ in range(50)))

    def readers():
        running = manager.sync.services.streams._running
        return sum(len(stream.buffer.readers) for stream in running.values())

    with ThreadPoolExecutor(4) as threads:
        loops = [threads.submit(asyncio.run, crowd()) for _ in range(4)]
        until(lambda: readers() == 200)
        gate.set()
        assert [chunks for loop in loops for chunks in loop.result(30)] == [[1, 2]] * 200
    assert len(runs) == 1


# Cancellation


def test_a_cancelled_caller_cancels_nobody_else_not_even_as_the_leader(manager):
    gate = Gate()

    @manager.exp_cache
    async def ask(q):
        return await gate.arun()

    async def main():
        tasks = [asyncio.create_task(ask("q")) for _ in range(10)]
        while aboard(manager) < 10 or not gate.entered.is_set():
            await asyncio.sleep(0)
        for task in (tasks[0], tasks[5]):  # the first leads
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        gate.open.set()
        return await asyncio.gather(*(task for task in tasks if not task.cancelled()))

    assert asyncio.run(main()) == [{"run": 1}] * 8
    assert manager.sync.get_exps_count() == 1


def test_the_last_caller_who_goes_cancels_the_function_and_sees_it_out(manager):
    seen = []

    @manager.exp_cache
    async def ask(q):
        seen.append("entered")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    async def main():
        tasks = [asyncio.create_task(ask("q")) for _ in range(3)]
        while aboard(manager) < 3 or not seen:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        assert [type(r) for r in await asyncio.gather(*tasks, return_exceptions=True)] == [asyncio.CancelledError] * 3

    asyncio.run(main())
    assert seen == ["entered", "cleaned up"]
    assert manager.sync.services.flights._flights == {}


def test_a_function_that_swallows_its_cancellation_is_heard(manager):
    entered = []

    @manager.exp_cache
    async def ask(q):
        entered.append(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "a last word"

    async def main():
        task = asyncio.create_task(ask("q"))
        while not entered:
            await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(main()) == "a last word"


def test_a_function_that_cancels_itself_is_nobody_elses_cancellation(manager):
    runs = []

    @manager.exp_cache
    async def ask(q):
        runs.append(q)
        await asyncio.sleep(0.01)
        if len(runs) == 1:
            raise asyncio.CancelledError
        return "second"

    async def main():
        return await asyncio.gather(*(ask("q") for _ in range(5)), return_exceptions=True)

    first, *others = asyncio.run(main())
    assert isinstance(first, asyncio.CancelledError)
    assert others == ["second"] * 4
    assert len(runs) == 2


def test_a_thousand_random_schedules(make_manager):
    """Callers come, are cancelled, and the function raises, at random: no hang, no foreign cancellation."""
    rng = random.Random(5)

    async def schedule(manager, number):
        seen = {"runs": 0, "failures": 0, "fails": rng.random() < 0.4}  # a dict: plain values would be in the key
        asked_to_go = set()

        @manager.exp_cache(name=f"ask{number}")
        async def ask(q):
            seen["runs"] += 1
            for _ in range(rng.randrange(5)):
                await asyncio.sleep(0)
            if seen["fails"] and rng.random() < 0.5:
                seen["failures"] += 1
                raise ValueError("boom")
            return {"q": q}

        async def caller(i):
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
            return await ask("q")

        tasks = [asyncio.create_task(caller(i)) for i in range(rng.randrange(1, 8))]
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
            victim = rng.choice(tasks)
            if not victim.done() and rng.random() < 0.5:
                asked_to_go.add(victim)
                victim.cancel()
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        for task, result in zip(tasks, results, strict=True):
            if isinstance(result, asyncio.CancelledError):
                assert task in asked_to_go, "a foreign cancellation"
            else:
                assert result == {"q": "q"} or (isinstance(result, ValueError) and seen["failures"])
        # A flight whose callers all went is a failed one, too.
        assert seen["runs"] <= 1 + seen["failures"] + len(asked_to_go)
        assert manager.sync.services.flights._flights == {}
        return seen["runs"]

    async def main():
        manager = make_manager(**PLAIN)
        return [await schedule(manager, number) for number in range(1000)]

    assert sum(asyncio.run(main())) > 500


# Exceptions


def test_an_exception_reaches_every_waiter_with_its_traceback_and_is_not_cached(manager):
    gate, errors = Gate(), []

    @manager.exp_cache
    def ask(q):
        gate.run()
        raise KeyError("this", 7)

    def call():
        try:
            ask("q")
        except KeyError as err:
            errors.append(err)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: aboard(manager) == 8)
    gate.open.set()
    for thread in threads:
        thread.join(30)
    assert gate.runs == 1
    assert [error.args for error in errors] == [("this", 7)] * 8
    assert len({id(error) for error in errors}) == 8
    for error in errors:
        names, trace = [], error.__traceback__
        while trace is not None:
            names.append(trace.tb_frame.f_code.co_name)
            trace = trace.tb_next
        assert "ask" in names, "where in the function it was raised"
    with pytest.raises(KeyError):
        ask("q")
    assert gate.runs == 2


def test_a_leader_who_is_interrupted_leaves_the_call_to_the_others(manager):
    gate = Gate()

    @manager.exp_cache
    def ask(q):
        if gate.runs == 0:
            gate.run()
            raise KeyboardInterrupt
        return "fine"

    seen = []

    def lead():
        with pytest.raises(KeyboardInterrupt):
            ask("q")
        seen.append("interrupted")

    leader = threading.Thread(target=lead)
    leader.start()
    gate.entered.wait(30)
    with ThreadPoolExecutor(4) as threads:
        others = [threads.submit(ask, "q") for _ in range(4)]
        until(lambda: aboard(manager) == 5)
        gate.open.set()
        assert [other.result(30) for other in others] == ["fine"] * 4
    leader.join()
    assert seen == ["interrupted"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the loop's tasks die with it
def test_a_leader_whose_loop_is_closed_under_it_is_given_up(make_manager, monkeypatch):
    monkeypatch.setattr(single_flight, "_LOOK_S", 0.01)
    manager, runs = make_manager(**PLAIN), []

    @manager.exp_cache
    async def ask(q):
        runs.append(q)
        if len(runs) == 1:
            await asyncio.Event().wait()
        return "fine"

    loop = asyncio.new_event_loop()
    task = loop.create_task(ask("q"))
    until(lambda: loop.run_until_complete(asyncio.sleep(0)) is None and runs)

    async def wait():
        call = asyncio.create_task(ask("q"))
        while aboard(manager) < 2:
            await asyncio.sleep(0)
        task._log_destroy_pending = False
        for other in asyncio.all_tasks(loop):
            other._log_destroy_pending = False
        loop.close()
        return await call

    assert asyncio.run(wait()) == "fine"
    task = loop = None
    gc.collect()


def test_context_variables_of_the_leader_are_the_callers_both_ways(manager):
    user, mark = contextvars.ContextVar("user"), contextvars.ContextVar("mark", default="old")

    @manager.exp_cache
    async def ask(q):
        mark.set("set inside")
        return user.get()

    async def main():
        user.set("ann")
        return await ask("q"), mark.get()

    assert asyncio.run(main()) == ("ann", "set inside")


def test_tenants_never_share_a_run(manager):
    gate = Gate()
    ask = manager.exp_cache(name="ask")(lambda q: gate.run())

    def call(tenant):
        with in_namespace(tenant):
            return ask("q")

    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(call, tenant) for tenant in ("a", "a", "b", "b")]
        until(lambda: aboard(manager) == 4)
        gate.open.set()
        for one in calls:
            one.result(30)
    assert gate.runs == 2


def test_without_single_flight_every_call_runs(manager):
    gate = Gate()
    ask = manager.exp_cache(name="ask", single_flight=False)(lambda q: gate.run())
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(ask, "q") for _ in range(4)]
        until(lambda: gate.runs == 4)
        gate.open.set()
        for one in calls:
            one.result(30)


def test_what_cannot_be_encoded_is_computed_by_each(manager):
    gate = Gate()
    ask = manager.exp_cache(name="ask")(lambda q: (gate.run(), object())[1])
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(ask, "q") for _ in range(3)]
        until(lambda: aboard(manager) == 3)
        gate.open.set()
        values = {id(one.result(30)) for one in calls}
    assert len(values) == 3


def test_a_broken_store_still_runs_it_once(make_manager, tmp_path):
    (tmp_path / "pool.db").write_text("this is no database at all, not even nearly one")
    manager, gate = make_manager(store=f"sqlite:///{tmp_path}/pool.db", **PLAIN), Gate()
    ask = manager.exp_cache(name="ask")(lambda q: gate.run())
    with ThreadPoolExecutor(16) as threads:
        calls = [threads.submit(ask, "q") for _ in range(16)]
        until(lambda: aboard(manager) == 16)
        gate.open.set()
        assert [call.result(30) for call in calls] == [{"run": 1}] * 16


def test_a_call_that_may_not_write_gives_back_no_lease_of_others(tmp_path, make_manager):
    """Leases are by key; calls under `bypass(read=False)` claim nothing, and must not end what they did not begin."""
    manager = make_manager(store=f"sqlite:///{tmp_path}/pool.db", **PLAIN)
    entered, gate = threading.Event(), threading.Event()

    @manager.exp_cache
    def ask(q):
        if not entered.is_set():
            entered.set()
            assert gate.wait(30)
        return "answer"

    writer = threading.Thread(target=ask, args=("q",))
    writer.start()
    assert entered.wait(30)
    with bypass(read=False):
        assert ask("q") == "answer"
    assert len(manager.sync.services.leases._held) == 1
    gate.set()
    writer.join(30)
    assert manager.stats().stored == 1
