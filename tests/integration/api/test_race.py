"""Several calls at once, and the first good answer."""

import asyncio
import functools
import gc
import threading
import warnings

import pytest

from exp_pool import Step, race, record
from exp_pool.errors import InvalidInputError, RaceError


def run(coroutine):
    """What it comes to; no task is left, and nothing complains of never being awaited or retrieved."""
    trouble = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))
        try:
            return await coroutine
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}
            gc.collect()
            await asyncio.sleep(0)

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            return asyncio.run(main())
        finally:
            gc.collect()
            assert (trouble, [str(each.message) for each in said]) == ([], [])


async def after(turns, value):
    for _ in range(turns):
        await asyncio.sleep(0)
    if isinstance(value, Exception):
        raise value
    return value


def test_the_first_wins_and_the_others_have_ended():
    ended = []

    async def loser(n):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(n)

    assert run(race(loser(1), after(3, "won"), loser(2))) == "won"
    assert sorted(ended) == [1, 2]


def test_what_is_not_accepted_or_raises_is_passed_over():
    async def accept(value):
        return value > 2

    calls = [after(1, 1), after(2, ValueError("down")), after(3, 2), after(9, 3), after(30, 4)]
    assert run(race(*calls, accept=accept)) == 3
    assert run(race(after(1, None), after(2, "x"))) is None, "None is an answer like any other"


def test_none_is_good_enough():
    async def cancelled():
        raise asyncio.CancelledError

    def accept(value):
        if value == 2:
            raise ValueError("cannot be judged")
        return False

    with pytest.raises(RaceError, match="none of 4 calls.*1 was not accepted.*down.*cannot be judged") as caught:
        run(race(after(1, 1), after(2, OSError("down")), after(6, 2), cancelled(), accept=accept))
    assert caught.value.refused == (1,)
    assert {type(err) for err in caught.value.errors} == {OSError, ValueError, asyncio.CancelledError}


def test_functions_run_on_threads():
    gate, seen = threading.Event(), []

    def slow():
        seen.append(threading.current_thread())
        assert gate.wait(30)

    async def main():
        try:
            return await race(slow, functools.partial(max, 1, 2), lambda: after(50, 3))
        finally:
            gate.set()

    assert run(main()) == 2
    assert seen[0] is not threading.main_thread()


def test_who_is_cancelled_cancels_all():
    ended = []

    async def runner(n):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(n)

    async def main(turns):
        task = asyncio.create_task(race(runner(1), runner(2)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def at_once():
        asyncio.current_task().cancel()
        with pytest.raises(asyncio.CancelledError):
            await race(runner(1), runner(2))

    for turns in range(1, 6):
        run(main(turns))
    assert len(ended) == 10
    run(at_once())
    assert len(ended) == 12


def test_the_experience_has_the_winners_words_and_the_cost_of_all(make_manager):
    manager = make_manager(index="none://", embedder="none")

    async def ask(model, turns):
        record(
            model=model,
            strategy=model.upper(),
            tokens_in=10,
            money_usd=0.5,
            metadata={"by": model},
            step=Step(plan=model),
        )
        return await after(turns, model)

    @manager.exp_cache
    async def answer(q):
        return await race(ask("slow", 99), ask("fast", 3), ask("refused", 1), accept=lambda model: model != "refused")

    assert asyncio.run(answer("q")) == "fast"
    (stored,) = manager.sync.iter_exps()
    assert (stored.model, stored.strategy, stored.metadata) == ("fast", "FAST", {"by": "fast"})
    assert [step.plan for step in stored.trajectory] == ["fast"]
    assert (stored.metric.tokens_in, stored.metric.money_usd) == (30, 1.5)


def test_wrong_calls_are_named():
    for calls, accept, message in (
        ((), None, "there are none"),
        ((after(1, 1), 5), None, "coroutines, or functions without arguments; 5 is neither"),
        ((after(1, 1),), "yes", "accept='yes' must be a callable"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            run(race(*calls, accept=accept))
