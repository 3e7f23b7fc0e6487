"""A quick answer now, a better one later; and what runs in the background."""

import asyncio
import random
import threading
from concurrent.futures import Future

import pytest

from exp_pool import Refine, exp_cache
from exp_pool.errors import ConfigurationError, InvalidInputError

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture(params=["memory", "sqlite"])
def manager(request, make_manager, tmp_path):
    store = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}[request.param]
    return make_manager(store=store, **PLAIN)


def test_the_quick_answer_now_the_better_one_from_then_on(manager):
    gate = threading.Event()

    def better(q):
        assert gate.wait(30)
        return "better"

    @manager.exp_cache(refine=better)
    def quick(q):
        return "quick"

    assert [quick("q"), quick("q")] == ["quick", "quick"]
    assert manager.background.count == 1
    gate.set()
    manager.sync.flush()
    assert manager.background.count == 0
    assert quick("q") == "better"
    answers = [(e.response, e.origin) for e in manager.sync.iter_exps(history=True)]
    assert answers == [("quick", "automatic"), ("better", "refined")]


def test_the_better_answer_is_the_calls_if_it_is_there_first(manager):
    done = threading.Event()

    def better(q):
        return "better"

    @manager.exp_cache(refine=Refine(better, timeout=5))
    def quick(q):
        while manager.sync.background.count and not done.wait(0.001):
            pass
        return "quick"

    async def abetter(q):
        return "better"

    @manager.exp_cache(refine=abetter)
    async def aquick(q):
        for _ in range(10):
            await asyncio.sleep(0)
        return "quick"

    answer = asyncio.run(aquick.call("q"))
    assert (answer.value, answer.found_by) == ("better", None)
    assert [(e.response, e.origin) for e in manager.sync.iter_exps(history=True)] == [("better", "refined")]


def test_an_annotated_answer_is_not_replaced(manager):
    gate = threading.Event()

    def better(q):
        assert gate.wait(30)
        return "better"

    @manager.exp_cache(refine=better)
    def quick(q):
        return "quick"

    quick("q")
    manager.sync.annotate(next(manager.sync.iter_exps()).id, expected="right")
    gate.set()
    manager.sync.flush()
    assert quick("q") == "right"


def test_what_the_condition_refuses_does_not_replace(manager):
    @manager.exp_cache(refine=lambda q: "", cache_if=bool, name="f")
    def quick(q):
        return "quick"

    quick("q")
    manager.sync.flush()
    assert quick("q") in ("quick", "")
    assert {e.response for e in manager.sync.iter_exps(history=True)} <= {"quick"}


def test_five_hundred_calls_with_random_timings_failures_and_cancellations(make_manager):
    rng, manager = random.Random(3), make_manager(**PLAIN)

    async def better(n):
        for _ in range(rng.randrange(6)):
            await asyncio.sleep(0)
        if n % 7 == 0:
            raise RuntimeError("down")
        return ["better", n]

    @manager.exp_cache(refine=Refine(better, timeout=10))
    async def quick(n):
        for _ in range(rng.randrange(6)):
            await asyncio.sleep(0)
        return ["quick", n]

    async def main():
        tasks = [asyncio.create_task(quick(n)) for n in range(500)]
        await asyncio.sleep(0)
        for task in rng.sample(tasks, 50):
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await manager.flush()
        assert manager.background.count == 0
        return results

    for n, result in enumerate(asyncio.run(main())):
        assert isinstance(result, asyncio.CancelledError) or result in (["quick", n], ["better", n])
    for stored in manager.sync.iter_exps():
        n = stored.arguments["n"]
        assert stored.response == (["quick", n] if n % 7 == 0 else ["better", n])


def test_shutdown_names_what_does_not_end(manager):
    async def main():
        async def stubborn():
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    if gone.is_set():
                        raise

        gone = threading.Event()
        task = asyncio.create_task(stubborn())
        manager.background.register(task, "stubborn")
        names = await manager.background.shutdown(timeout=0.01)
        gone.set()
        task.cancel()
        return names

    assert asyncio.run(main()) == ["stubborn"]


def test_futures_may_be_registered_and_other_things_not(manager):
    future = Future()
    manager.background.register(future, "mine")
    assert (manager.background.count, manager.background.names) == (1, ["mine"])
    future.set_result(None)
    assert manager.background.count == 0
    with pytest.raises(InvalidInputError, match="asyncio.create_task"):
        manager.background.register("a task", "x")


def test_where_a_refinement_cannot_apply():
    def better(q): ...

    async def abetter(q): ...

    def stream(q):
        yield q

    def quick(q): ...

    async def aquick(q): ...

    for function, refine, message in (
        (stream, better, "goes with plain and coroutine functions, not with CachedGenerator"),
        (quick, abetter, "must be of the decorated function's kind: def"),
        (aquick, better, "must be of the decorated function's kind: async def"),
        (quick, "better", "must be a function"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            exp_cache(refine=refine)(function)
    with pytest.raises(ConfigurationError, match="above zero"):
        Refine(better, timeout=0)
