"""Batches: a list in, a list of the same length out; each item is a call of its own."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import BaseModel
from support.ids import named

from exp_pool import exp_cache, record
from exp_pool.errors import ConfigurationError, ExpPoolWarning

PLAIN = {"index": "none://", "embedder": "none"}


class City(BaseModel):
    name: str


@pytest.fixture(params=["memory", "sqlite"])
def manager(request, make_manager, tmp_path):
    store = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}[request.param]
    return make_manager(store=store, **PLAIN)


@pytest.fixture(params=["sync", "async"])
def decorate(request, manager):
    """Decorate a plain batch function, or its coroutine twin; calling it gives the list either way."""

    def wrap(function, **options):
        if request.param == "sync":
            return manager.exp_cache(batch="items", **options)(function)

        async def twin(items, **kwargs):
            await asyncio.sleep(0)
            return function(items, **kwargs)

        twin.__annotations__ = getattr(function, "__annotations__", {})
        cached = manager.exp_cache(batch="items", **{"name": function.__name__, **options})(twin)

        def call(*args, **kwargs):
            return asyncio.run(cached(*args, **kwargs))

        call.cached = cached
        return call

    return wrap


def test_only_what_is_missing_is_computed_once_each_in_order(decorate, manager):
    batches = []

    def square(items, power=2):
        batches.append(list(items))
        return [[item**power] for item in items]

    square = decorate(square)
    assert square([3, 1, 3, 2]) == [[9], [1], [9], [4]]
    assert square([2, 4, 1]) == [[4], [16], [1]]
    assert square([4], power=3) == [[64]]
    assert square((1, 2)) == [[1], [4]]
    assert square([]) == []
    assert batches == [[3, 1, 2], [4], [4], []], "what is made of nothing only the function knows"
    stored = {(e.arguments["items"], e.arguments.get("power", 2)) for e in manager.sync.iter_exps()}
    assert stored == {(3, 2), (1, 2), (2, 2), (4, 2), (4, 3)}


def test_answers_are_objects_of_the_callers_own(decorate):
    def make(items):
        return [{"n": item} for item in items]

    make = decorate(make)
    first = make([1, 1, 2])
    first[0]["n"] = "changed"
    assert first[1] == {"n": 1}
    assert make([1, 2]) == [{"n": 1}, {"n": 2}]


def test_models_of_the_item_annotation_come_back_typed(decorate):
    runs = []

    def find(items: list[str]) -> list[City]:
        runs.append(items)
        return [City(name=item) for item in items]

    find = decorate(find)
    assert find(["a", "b"]) == find(["a", "b"]) == [City(name="a"), City(name="b")]
    assert len(runs) == 1


WRONG = [[1], [1, 2, 3], None, 7, "ab", {1: 2, 2: 3}, {1, 2}, object()]


@pytest.mark.parametrize("place", range(len(WRONG)), ids=lambda place: named(WRONG[place]))
def test_a_result_that_cannot_be_taken_apart_is_handed_through_and_nothing_is_stored(decorate, manager, place):
    wrong = WRONG[place]

    def broken(items):
        return WRONG[place]

    broken = decorate(broken)
    with pytest.warns(ExpPoolWarning, match=r"broken: what it returned.*return a list") as said:
        assert [broken([1, 2]), broken([2, 1])] == [wrong, wrong]
    assert len(said) == 1
    assert manager.sync.get_exps_count() == 0


def test_an_exception_is_the_callers_and_nothing_is_stored_but_what_was_there_stays(decorate, manager):
    def half(items):
        if 2 in items:
            raise ValueError("boom")
        return items

    half = decorate(half)
    assert half([1]) == [1]
    with pytest.raises(ValueError, match="boom"):
        half([1, 2])
    assert half([1]) == [1]
    assert manager.sync.get_exps_count() == 1


def test_items_without_identity_run_each_time_and_the_others_are_cached(decorate):
    batches, odd = [], object()

    def name(items):
        batches.append(items)
        return [str(type(item).__name__) for item in items]

    name = decorate(name)
    with pytest.warns(ExpPoolWarning, match="no stable identity"):
        assert name([1, odd, 1]) == ["int", "object", "int"]
    assert name([odd, 1, odd]) == ["object", "int", "object"]
    assert batches == [[1, odd], [odd, odd]]


def test_falsy_items_and_answers(decorate):
    batches = []

    def same(items):
        batches.append(items)
        return list(items)

    same = decorate(same)
    falsy = [None, 0, "", False, [], {}, 0.0]
    assert [repr(x) for x in same(falsy)] == [repr(x) for x in same(falsy)] == [repr(x) for x in falsy]
    assert len(batches) == 1


def test_what_the_call_cost_is_divided(decorate, manager):
    def paid(items):
        record(money_usd=1.0, tokens_in=10, model="m")
        return items

    paid = decorate(paid)
    paid([1, 2, 3])
    stored = list(manager.sync.iter_exps())
    assert sum(e.metric.money_usd for e in stored) == pytest.approx(1.0)
    assert sum(e.metric.tokens_in for e in stored) == 10
    assert {e.model for e in stored} == {"m"}


def test_an_argument_that_is_no_list_is_the_functions_business(decorate):
    def whatever(items):
        return sorted(items)

    whatever = decorate(whatever)
    with pytest.warns(ExpPoolWarning, match="given a str as items=.*runs uncached: give a list") as said:
        assert whatever("ba") == whatever("ba") == ["a", "b"]
    assert len(said) == 1
    with pytest.raises(TypeError):
        whatever(None)


def test_concurrent_batches_compute_each_item_once(manager):
    computed, lock, barrier = [], threading.Lock(), threading.Barrier(8)

    @manager.exp_cache(batch="items")
    def compute(items):
        with lock:
            computed.extend(items)
        return [[item] for item in items]

    def call(start):
        barrier.wait(30)
        items = [(start + n) % 40 for n in range(20)]
        assert compute(items) == [[item] for item in items]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(call, range(0, 40, 5)))
    assert sorted(computed) == list(range(40))


def test_concurrent_coroutine_batches_compute_each_item_once(manager):
    computed = []

    @manager.exp_cache(batch="items")
    async def compute(items):
        await asyncio.sleep(0.01)
        computed.extend(items)
        return [[item] for item in items]

    async def main():
        return await asyncio.gather(*(compute([(start + n) % 40 for n in range(20)]) for start in range(0, 40, 5)))

    for start, answers in zip(range(0, 40, 5), asyncio.run(main()), strict=True):
        assert answers == [[(start + n) % 40] for n in range(20)]
    assert sorted(computed) == list(range(40))


def test_a_batch_that_calls_itself_runs_through(manager):
    @manager.exp_cache(batch="items")
    def deep(items, depth=0):
        return deep(items, 0) if depth == 0 and len(seen) < 3 and not seen.append(1) else list(items)

    seen = []
    assert deep([1, 2]) == [1, 2]


def test_what_can_be_asked_of_a_batch(manager):
    @manager.exp_cache(batch="items")
    def same(items):
        return list(items)

    same([1, 2])
    assert [hit.experience.response if hit else None for hit in same.lookup([1, 3, 2])] == [1, None, 2]
    assert same.call([1, 2]).found_by == "exact"
    assert same.call([1, 9]).found_by is None
    assert same.invalidate([1]) == 1
    assert [bool(hit) for hit in same.lookup([1, 2])] == [False, True]
    assert "differs in items: 5 here" in same.explain([5])


def test_options_that_cannot_go_together():
    def f(items, experiences=()):
        return items

    for options, message in (
        ({"batch": "item"}, "batch='item' names no parameter of .*its parameters: items, experiences"),
        ({"batch": "items", "inject": "experiences"}, "goes with neither inject= nor context_builder="),
    ):
        with pytest.raises(ConfigurationError, match=message):
            exp_cache(**options)(f)

    def stream(items):
        yield items

    with pytest.raises(ConfigurationError, match="does not go with a generator"):
        exp_cache(batch="items")(stream)


def test_a_cancelled_batch_takes_no_item_from_others_and_the_last_one_ends_it(manager):
    runs, cleaned = [], []

    @manager.exp_cache(batch="items")
    async def slow(items):
        runs.append(list(items))
        try:
            while not gate:
                await asyncio.sleep(0)
        finally:
            cleaned.append(list(items))
        return [[item] for item in items]

    gate = []

    def aboard():
        return sum(flight.waiters for flight in list(manager.sync.services.flights._flights.values()))

    async def main():
        first = asyncio.create_task(slow([1, 2]))
        while not runs:
            await asyncio.sleep(0)
        second = asyncio.create_task(slow([2, 3]))
        while aboard() < 4:
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        gate.append(1)
        assert await second == [[2], [3]]
        gate.clear()
        third, fourth = asyncio.create_task(slow([7])), asyncio.create_task(slow([7]))
        while aboard() < 2 or len(runs) < 3:
            await asyncio.sleep(0)
        for task in (third, fourth):
            task.cancel()
        assert [type(e) for e in await asyncio.gather(third, fourth, return_exceptions=True)] == [asyncio.CancelledError] * 2  # fmt: skip
        while len(cleaned) < 3:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 30))
    assert runs == [[1, 2], [3], [7]]
    assert manager.sync.services.flights._flights == {}
    assert manager.sync.get_exps_count() == 3
