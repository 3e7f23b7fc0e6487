"""A quick answer now, a better one later."""

import asyncio
import gc
import random
import threading
import warnings

import pytest
from loguru import logger

from exp_pool import Refine, Score, exp_cache, in_namespace
from exp_pool.calls.drivers.refinement import RunningRefinement
from exp_pool.errors import ConfigurationError, NotScorableError

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


def test_what_the_condition_refuses_is_not_the_callers_either(manager):
    done = asyncio.Event()

    async def better(q):
        done.set()
        return ""

    @manager.exp_cache(refine=better, cache_if=bool, name="f")
    async def quick(q):
        await done.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        return "quick"

    assert asyncio.run(quick("q")) == "quick"


def test_a_coroutine_function_that_is_overtaken_is_cancelled(manager):
    ended = []

    async def better(q):
        return "better"

    @manager.exp_cache(refine=better)
    async def quick(q):
        try:
            await asyncio.Event().wait()  # for ever
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main():
        answer = await quick("q")
        assert not asyncio.current_task().cancelling()
        return answer, await asyncio.gather(quick("p"), quick("p")), asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == ("better", ["better", "better"], set())
    assert ended == ["cancelled"] * 2


def test_a_quick_function_that_will_not_be_cancelled_or_raises_then_loses_all_the_same(manager):
    async def better(q):
        return "better"

    @manager.exp_cache(refine=better)
    async def quick(q):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if q == "raises":
                raise TimeoutError("mine") from None
            return "quick"

    async def own(q):
        raise TimeoutError("of the function's own")

    async def never(q):
        await asyncio.Event().wait()

    async def main():
        assert [await quick("stays"), await quick("raises")] == ["better", "better"]
        assert not asyncio.current_task().cancelling()
        with pytest.raises(TimeoutError, match="of the function's own"):
            await manager.exp_cache(refine=never, name="own")(own)("q")
        await manager.background.shutdown(0)

    asyncio.run(main())


def test_the_better_function_gets_arguments_of_its_own(manager):
    began, gate, seen = threading.Event(), threading.Event(), []
    client = threading.Lock()

    def better(messages, client=None):
        seen.append(client)
        began.set()
        assert gate.wait(30)
        return [m["content"] for m in messages]

    @manager.exp_cache(refine=better, exclude=["client"])
    def quick(messages, client=None):
        messages[0]["content"] = "changed by the quick one"
        return ["quick"]

    messages = [{"role": "user", "content": "hi"}]
    assert quick(messages, client) == ["quick"]
    assert began.wait(30)
    messages.clear()
    gate.set()
    manager.sync.flush()
    assert quick([{"role": "user", "content": "hi"}]) == ["hi"]
    assert seen == [client], "what is no data is shared"


def test_on_its_thread_the_better_function_is_where_the_call_was(manager):
    @manager.exp_cache(name="inner")
    def inner(q):
        return "inner"

    @manager.exp_cache(refine=lambda q: inner(q) + "!", name="f")
    def quick(q):
        return "quick"

    with in_namespace("tenant"):
        quick("q")
    manager.sync.flush()
    assert [e.function for e in manager.sync.iter_exps()] == []
    with in_namespace("tenant"):
        assert {e.function for e in manager.sync.iter_exps()} == {"inner", "f"}


def messages_of(level="DEBUG"):
    lines = []
    logger.enable("exp_pool")
    sink = logger.add(lambda m: lines.append((m.record["level"].name, m.record["message"])), level=level)
    return lines, sink


@pytest.fixture
def log():
    lines, sink = messages_of()
    yield lines
    logger.remove(sink)
    logger.disable("exp_pool")


@pytest.mark.parametrize("kind", ["thread", "task"])
def test_what_the_log_says_of_a_refinement(manager, log, kind):
    gate = threading.Event()

    def hangs(q):
        assert gate.wait(30)

    def fails(q):
        raise RuntimeError("premium is down")

    async def ahangs(q):
        await asyncio.Event().wait()

    async def afails(q):
        fails(q)

    def quick(q):
        return "quick"

    async def aquick(q):
        return "quick"

    def calls(better, name, timeout=0.01):
        options = {"refine": Refine(better, timeout=timeout), "name": name}
        return manager.exp_cache(**options)(quick if kind == "thread" else aquick)

    one, two = (hangs, fails) if kind == "thread" else (ahangs, afails)
    slow, failing, given_up = calls(one, "slow"), calls(two, "failing"), calls(one, "given_up", 60)

    async def main():
        for function in (slow, failing, given_up):
            answer = function("q")
            assert (answer if kind == "thread" else await answer) == "quick"
            if function is not given_up:
                await manager.flush()
        await asyncio.sleep(0)
        assert await manager.background.shutdown(0) == []

    asyncio.run(main())
    gate.set()
    assert manager.background.count == 0
    said = [(level, line.splitlines()[0]) for level, line in log if "quick answer stays" in line]
    failed = "failing: the refinement failed, the quick answer stays: RuntimeError('premium is down')"
    assert said == [
        ("WARNING", "slow: not refined within 0.01 s, the quick answer stays"),
        ("WARNING", failed),
        ("DEBUG", failed),
        ("INFO", "given_up: the refinement was cancelled, the quick answer stays"),
    ]
    assert [level for level, line in log if "Traceback" in line] == ["DEBUG"]


SCORES = {"quick": 0.5, "better": 0.9, "worse": 0.1, "same": 0.5}


def by_value(context):
    if context.value == "fails":
        raise RuntimeError("no score")
    if context.value == "later":
        raise NotScorableError("nobody has rated it")
    return Score(value=SCORES[context.value])


@pytest.mark.parametrize("scored_before", [False, True])
@pytest.mark.parametrize(
    ("better", "stays"), [("better", False), ("same", False), ("worse", True), ("fails", True), ("later", True)]
)
def test_an_answer_with_a_lower_score_does_not_replace(manager, better, stays, scored_before):
    gate = threading.Event()

    def slow(q):
        assert gate.wait(30)
        return better

    @manager.exp_cache(refine=slow, scorer=by_value)
    def quick(q):
        return "quick"

    quick("q")
    if scored_before:
        manager.sync.score_exps(by_value)
    gate.set()
    manager.sync.flush()
    assert quick("q") == ("quick" if stays else better)
    (current,) = manager.sync.iter_exps()
    rows = {e.response: e for e in manager.sync.iter_exps(history=True)}
    assert current.score.value == SCORES[current.response]
    if better in SCORES:
        assert rows[better].origin == "refined"
        assert rows[better].score.value == SCORES[better], "scored before it was stored"
        assert len(rows) == 2, "the other one is history"
    elif better == "later":
        assert (rows[better].origin, rows[better].score) == ("refined", None)


def test_where_nothing_can_be_scored_yet_the_better_answer_replaces(manager):
    gate = threading.Event()

    def slow(q):
        assert gate.wait(30)
        return "better"

    def never(context):
        raise NotScorableError("nobody has rated it")

    @manager.exp_cache(refine=slow, scorer=never)
    def quick(q):
        return "quick"

    quick("q")
    gate.set()
    manager.sync.flush()
    assert quick("q") == "better"


def test_five_hundred_calls_with_random_timings_failures_cancellations_and_shutdowns(make_manager):
    rng, arrived, took_part, trouble = random.Random(3), set(), set(), []
    managers = [make_manager(**PLAIN) for _ in range(5)]

    async def better(n):
        for _ in range(rng.randrange(8)):
            await asyncio.sleep(0)
        if n % 7 == 0:
            raise RuntimeError("down")
        arrived.add(n)
        return ["better", n]

    def quick_in(manager):
        @manager.exp_cache(refine=Refine(better, timeout=10), name="quick")
        async def quick(n):
            for _ in range(rng.randrange(8)):
                await asyncio.sleep(0)
            if n % 11 == 0:
                raise ValueError("quick is down")
            return ["quick", n]

        return quick

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))
        results = []
        for number, manager in enumerate(managers):
            tasks = [asyncio.create_task(quick_in(manager)(n)) for n in range(number * 100, number * 100 + 100)]
            for _ in range(rng.randrange(1, 4)):
                await asyncio.sleep(0)
            for task in rng.sample(tasks, 10):
                task.cancel()
            shut = number % 2
            if shut:
                assert await manager.background.shutdown(timeout=rng.choice([0, 0.001])) == []
            results += await asyncio.gather(*tasks, return_exceptions=True)
            await (manager.background.shutdown(5) if shut else manager.flush())
            assert manager.background.count == 0
            if not shut:
                took_part.update(range(number * 100, number * 100 + 100))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return results

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        results = asyncio.run(main())
        gc.collect()
    assert trouble == [], "such as exceptions that were never retrieved"
    assert [str(each.message) for each in said if "never" in str(each.message)] == []
    values = [result for result in results if isinstance(result, list)]
    assert len(values) > 300
    assert {result[0] for result in values} == {"quick", "better"}
    for n, result in enumerate(results):
        failed = isinstance(result, asyncio.CancelledError) or (n % 11 == 0 and isinstance(result, ValueError))
        assert failed or result in (["quick", n], ["better", n])
    stored = {e.arguments["n"]: e.response[0] for manager in managers for e in manager.sync.iter_exps()}
    for n in took_part & arrived:
        assert stored[n] == "better"
    assert {n for n, word in stored.items() if word == "better"} <= arrived


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


def test_a_cancellation_that_comes_with_the_decision_is_not_lost():
    async def main():
        refinement = RunningRefinement()
        waiting = asyncio.create_task(refinement.wait_async(30))
        await asyncio.sleep(0)
        refinement.decide(None)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
