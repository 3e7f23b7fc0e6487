"""Batches of whatever can be taken apart item by item: what the function is given, and what the caller gets."""

import array
import asyncio
import itertools
import subprocess
import sys
import threading
import warnings
from collections import UserList, deque, namedtuple
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from pydantic import BaseModel
from support.ids import named

from exp_pool.core.values.batch_values import parts_of, split
from exp_pool.core.values.deep_equal import difference
from exp_pool.errors import ExpPoolWarning, ReplayMissError

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture
def manager(make_manager):
    return make_manager(store="memory://", **PLAIN)


@pytest.fixture(params=["sync", "async"])
def decorate(request, manager):
    """Decorate a plain batch function, or its coroutine twin; calling it gives the value either way."""

    def wrap(function):
        if request.param == "sync":
            return manager.exp_cache(batch="items", name="f")(function)

        async def twin(items):
            await asyncio.sleep(0)
            return function(items)

        twin.__annotations__ = getattr(function, "__annotations__", {})
        cached = manager.exp_cache(batch="items", name="f")(twin)
        return lambda items: asyncio.run(cached(items))

    return wrap


def same(a, b):
    """Type, content and what else a container has."""
    assert type(a) is type(b), (a, b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, pd.Series | pd.DataFrame):
        assert a.equals(b)
        assert getattr(a, "name", None) == getattr(b, "name", None)
        assert a.index.equals(b.index)
        assert (
            list(getattr(a, "dtypes", [])) == list(getattr(b, "dtypes", []))
            if isinstance(a, pd.DataFrame)
            else a.dtype == b.dtype
        )
    elif isinstance(a, pl.Series | pl.DataFrame):
        assert a.equals(b)
        assert a.dtypes == b.dtypes if isinstance(a, pl.DataFrame) else (a.name, a.dtype) == (b.name, b.dtype)
    elif isinstance(a, np.ndarray) and a.dtype == object:
        assert a.shape == b.shape
        assert difference(a.tolist(), b.tolist()) is None
    elif isinstance(a, type({}.keys()) | type({}.values()) | type({}.items())):
        assert list(a) == list(b)
    else:
        assert difference(a, b) is None, (a, b)
    return True


# What is passed, what the function is given of it where the first two items are known, and its number of items.
GIVEN = {
    "list": lambda: (["a", "b", "c", "d"], ["c", "d"]),
    "tuple": lambda: (("a", "b", "c", "d"), ("c", "d")),
    "set": lambda: (dict.fromkeys("abcd").keys() | set(), None),
    "frozenset": lambda: (frozenset("abcd"), None),
    "range": lambda: (range(4), range(2, 4)),
    "range with steps": lambda: (range(10, 0, -3), range(4, 0, -3)),
    "generator": lambda: ((c for c in "abcd"), ["c", "d"]),
    "map": lambda: (map(str, range(4)), ["2", "3"]),
    "chain": lambda: (itertools.chain("ab", "cd"), ["c", "d"]),
    "keys": lambda: (dict.fromkeys("abcd").keys(), {"c": 1, "d": 1}.keys()),
    "values": lambda: (dict(enumerate("abcd")).values(), {1: "c", 2: "d"}.values()),
    "items": lambda: ({"a": 1, "b": 2, "c": 3, "d": 4}.items(), {"c": 3, "d": 4}.items()),
    "deque": lambda: (deque("abcd", 9), deque("cd", 9)),
    "array": lambda: (array.array("d", [1, 2, 3, 4]), array.array("d", [3, 4])),
    "ndarray": lambda: (np.arange(4, dtype="<f4"), np.array([2, 3], "<f4")),
    "ndarray of text": lambda: (np.array(["a", "bb", "c", "dd"]), np.array(["c", "dd"], "<U2")),
    "ndarray of objects": lambda: (np.array(["a", None, 3, "d"], object), np.array([3, "d"], object)),
    "ndarray of two dimensions": lambda: (np.arange(8).reshape(4, 2), np.arange(4, 8).reshape(2, 2)),
    "tensor": lambda: (torch.arange(4), torch.tensor([2, 3])),
    "tensor of two dimensions": lambda: (torch.arange(8.0).reshape(4, 2), torch.arange(4.0, 8.0).reshape(2, 2)),
    "pandas": lambda: (pd.Series(["a", "b", "c", "d"], index=list("wxyz"), name="t"), pd.Series(["c", "d"], index=list("yz"), name="t")),
    "pandas of numbers": lambda: (pd.Series([1.5, 2.5, 3.5, 4.5]), pd.Series([3.5, 4.5], index=[2, 3])),
    "index": lambda: (pd.Index(["a", "b", "c", "d"]), pd.Index(["c", "d"])),
    "frame": lambda: (pd.DataFrame({"n": [1, 2, 3, 4], "t": list("abcd")}), pd.DataFrame({"n": [3, 4], "t": list("cd")}, index=[2, 3])),
    "polars": lambda: (pl.Series("t", ["a", "b", "c", "d"]), pl.Series("t", ["c", "d"])),
    "polars frame": lambda: (pl.DataFrame({"n": [1, 2, 3, 4]}), pl.DataFrame({"n": [3, 4]})),
}  # fmt: skip


@pytest.mark.parametrize("kind", GIVEN)
def test_the_function_is_given_what_the_caller_passed_of_the_missing_items_only(decorate, kind):
    given = []

    def name(items):
        kept = items if not hasattr(items, "__next__") else list(items)
        given.append(kept)
        return [str(item) for item in split(kept)[0].items]

    f = decorate(name)
    whole, rest = GIVEN[kind]()
    found, whole = split(whole)
    items = found.items
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = f(found.some([0, 1])[0])
        assert sorted(first) == sorted(str(item) for item in items[:2])
        assert f(found.again()) == [str(item) for item in items]
        assert f(found.again()) == [str(item) for item in items]
    assert len(given) == 2, "the last call asked for nothing new"
    if rest is not None:
        same(given[1], rest)
    else:
        assert type(given[1]) is type(whole)
        assert given[1] == set(items[2:])


def test_a_list_of_a_class_of_its_own_is_given_as_it_is(decorate):
    given = []

    def name(items):
        given.append(items)
        return [str(item) for item in items]

    f = decorate(name)
    whole = UserList([1, 2, 2])
    assert f(whole) == ["1", "2", "2"]
    assert f([1, 3]) == ["1", "3"]
    assert f(UserList([3, 2])) == ["3", "2"]
    assert f(UserList([1, 4])) == ["1", "4"]
    assert given == [whole, [3], UserList([1, 4])], "there is no way to make one of some items"


RETURNED = {
    "list": lambda n: [f"<{i}>" for i in n],
    "tuple": lambda n: tuple(f"<{i}>" for i in n),
    "deque": lambda n: deque(f"<{i}>" for i in n),
    "values": lambda n: {place: f"<{i}>" for place, i in enumerate(n)}.values(),
    "array": lambda n: array.array("d", n),
    "ndarray": lambda n: np.array(n, "<f4"),
    "ndarray of rows": lambda n: np.array([[i, i + 1] for i in n], "<f2"),
    "ndarray of matrices": lambda n: np.array([[[i], [i]] for i in n], "<i8"),
    "ndarray of text": lambda n: np.array(["x" * i for i in n], "<U9"),
    "ndarray of bools": lambda n: np.array([i % 2 == 0 for i in n]),
    "ndarray of times": lambda n: np.array([f"2024-01-0{i + 1}" for i in n], "<M8[D]"),
    "ndarray of objects": lambda n: np.array([{"n": i} for i in n], object),
    "list of arrays": lambda n: [np.array([i, i], "<f4") for i in n],
    "tensor": lambda n: torch.tensor(n, dtype=torch.float32),
    "tensor of rows": lambda n: torch.tensor([[i, i] for i in n], dtype=torch.int16),
    "tensor of half precision": lambda n: torch.tensor([[i, i] for i in n], dtype=torch.bfloat16),
    "list of tensors": lambda n: [torch.tensor([i]) for i in n],
    "pandas": lambda n: pd.Series([i / 2 for i in n], name="half"),
    "pandas of text": lambda n: pd.Series([str(i) for i in n]),
    "polars": lambda n: pl.Series("half", [i / 2 for i in n]),
    "polars of text": lambda n: pl.Series([str(i) for i in n]),
}  # fmt: skip


@pytest.mark.parametrize("kind", RETURNED)
def test_the_caller_gets_what_the_function_returns_whatever_is_known(decorate, kind):
    asked = []

    def give(items):
        asked.append(list(items))
        return RETURNED[kind](list(items))

    f = decorate(give)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for items in ([1, 2], [1, 2], [2, 1], [1, 3], [3, 1, 3], [4, 4], [2]):
            got, live = f(items), RETURNED[kind](items)
            if isinstance(live, list) and isinstance(live[0], torch.Tensor):
                assert type(got) is list
                assert all(same(a, b) for a, b in zip(got, live, strict=True))
            else:
                same(got, live)
    assert asked == [[1, 2], [3], [4]]


def test_an_iterator_that_is_returned(decorate):
    asked = []

    def give(items):
        asked.append(items)
        return (i * 2 for i in items)

    f = decorate(give)
    for items in ([1, 2], [2, 1], [1, 3]):
        got = f(items)
        assert hasattr(got, "__next__")
        assert list(got) == [i * 2 for i in items]
    assert asked == [[1, 2], [3]]


@pytest.mark.parametrize("length", [1, 3])
def test_an_iterator_of_another_length_is_handed_through(decorate, length):
    f = decorate(lambda items: iter(range(length)))
    with pytest.warns(ExpPoolWarning, match="cannot be taken apart"):
        assert list(f([1, 2])) == list(range(length))


def test_a_series_keeps_the_labels_that_it_was_asked_with(decorate):
    f = decorate(lambda items: items.str.upper())
    first = pd.Series(["a", "b"], index=[7, 9], name="t")
    same(f(first), first.str.upper())
    same(f(first), first.str.upper())
    second = pd.Series(["c", "b", "a"], index=[1, 2, 3], name="t")
    same(f(second), second.str.upper())
    same(f(second), second.str.upper())


class City(BaseModel):
    name: str
    people: int = 0


def test_models_in_a_tuple(decorate):
    asked = []

    def find(items) -> tuple[City, ...]:
        asked.append(items)
        return tuple(City(name=item) for item in items)

    f = decorate(find)
    for items in (["a", "b"], ["b", "a"], ["a", "c"]):
        got = f(items)
        assert got == tuple(City(name=item) for item in items)
        assert all(city.model_dump(exclude_unset=True) == {"name": city.name} for city in got)
    assert asked == [["a", "b"], ["c"]]


Pair = namedtuple("Pair", "answers usage")


@pytest.mark.parametrize(
    "returned",
    [
        lambda items: dict.fromkeys(items, 1),
        lambda items: {str(item) for item in items},
        lambda items: "ab",
        lambda items: 0.5,
        lambda items: None,
        lambda items: np.float64(1.0),
        lambda items: np.array(3),
        lambda items: Pair(list(items), 7),
        lambda items: pd.DataFrame({"n": list(items)}),
        lambda items: pd.Series(list(items), index=[f"i{item}" for item in items]),
        lambda items: [1] * (len(items) + 1),
        lambda items: np.zeros((len(items) + 1, 2)),
    ],
    ids=named,
)
def test_what_cannot_be_taken_apart_is_handed_through_with_one_warning(decorate, manager, returned):
    asked = []

    def give(items):
        asked.append(list(items))
        return returned(items)

    f = decorate(give)
    with pytest.warns(ExpPoolWarning, match="f: what it returned, a .*, cannot be taken apart") as said:
        for items in ([1, 2], [2, 3]):
            got, live = f(items), returned(items)
            assert type(got) is type(live)
            assert repr(got) == repr(live)
    assert len(said) == 1
    assert asked == [[1, 2], [2, 3]], "once each"
    assert manager.sync.get_exps_count() == 0


def test_where_only_a_part_was_missing_it_runs_for_all(decorate, manager):
    asked = []

    def give(items):
        asked.append(list(items))
        return list(items) if len(items) == 1 else {"of": list(items)}

    f = decorate(give)
    assert f([1]) == [1]
    with pytest.warns(ExpPoolWarning, match="cannot be taken apart"):
        assert f([1, 2, 3]) == {"of": [1, 2, 3]}
        assert f([4, 4]) == [4, 4], "of one distinct item it is a list"
    assert asked == [[1], [2, 3], [1, 2, 3], [4]]
    assert manager.sync.get_exps_count() == 2


def test_rows_that_do_not_go_together_are_asked_for_anew(decorate):
    """As of a function that pads each batch to its longest item."""
    asked = []

    def pad(items):
        asked.append(list(items))
        return np.array([[i] * max(items) for i in items])

    f = decorate(pad)
    same(f([1]), np.array([[1]]))
    with pytest.warns(ExpPoolWarning, match="cannot be put together"):
        same(f([1, 2]), np.array([[1, 1], [2, 2]]))
    same(f([1, 2]), np.array([[1, 1], [2, 2]]))
    assert asked == [[1], [2], [1, 2]]


def test_in_replay_nothing_runs_for_what_does_not_go_together(manager):
    f = manager.exp_cache(batch="items", name="f")(lambda items: np.array([[i] * max(items) for i in items]))
    f([1]), f([2])
    manager.sync.replay = True
    same(f([2]), np.array([[2, 2]]))
    with pytest.raises(ReplayMissError, match="cannot be put together"):
        f([1, 2])


def test_nothing_to_do(decorate):
    f = decorate(lambda items: np.zeros((len(items), 3), "<f4"))
    for _ in range(2):
        same(f([]), np.zeros((0, 3), "<f4"))
        same(f(np.array([])), np.zeros((0, 3), "<f4"))


def test_an_iterator_without_end_and_one_that_fails_are_the_functions_business(decorate, monkeypatch):
    monkeypatch.setattr("exp_pool.core.values.batch_values._MOST", 100)
    f = decorate(lambda items: list(itertools.islice(items, 3)))
    with pytest.warns(ExpPoolWarning, match="given a itertools.count"):
        assert f(itertools.count()) == [0, 1, 2]

    def failing():
        yield from "ab"
        raise OSError("gone")

    g = decorate(lambda items: list(items))
    with pytest.raises(OSError, match="gone"):
        g(failing())
    h = decorate(lambda items: [next(items), next(items)])
    assert h(failing()) == ["a", "b"], "it never met the failure"


def test_a_file_is_passed_as_it_is(decorate, tmp_path):
    (tmp_path / "lines").write_text("a\nb\n")
    f = decorate(lambda items: items.read())
    with (tmp_path / "lines").open() as file, pytest.warns(ExpPoolWarning, match="TextIOWrapper"):
        assert f(file) == "a\nb\n"


def test_what_cannot_be_cached_meets_the_whole_of_an_iterator(make_manager):
    manager = make_manager(store="memory://", **PLAIN)

    class Agent:
        def __init__(self):
            self.model = "m"

        @manager.exp_cache(batch="items")
        def ask(self, items):
            return list(items)

    with pytest.warns(ExpPoolWarning, match="self_key"):
        assert Agent().ask(c for c in "abc") == ["a", "b", "c"]


def test_one_item_and_items_that_stand_twice_get_objects_of_their_own(decorate):
    f = decorate(lambda items: tuple([item] for item in items))
    assert f(["a"]) == (["a"],)
    got = f(("a", "b", "a"))
    got[0].append("changed")
    assert got == (["a", "changed"], ["b"], ["a"])
    assert f(("a", "b")) == (["a"], ["b"])


def test_an_item_that_fails_fails_the_batch_and_the_others_stay(decorate):
    def half(items):
        if 2 in items:
            raise ValueError("boom")
        return np.asarray(items)

    f = decorate(half)
    same(f(np.array([1])), np.array([1]))
    with pytest.raises(ValueError, match="boom"):
        f(np.array([1, 2]))
    same(f(np.array([1])), np.array([1]))


def test_arrays_lists_and_tensors_of_equal_numbers_are_not_the_same_items(decorate):
    asked = []

    def give(items):
        asked.append(type(items[0]).__name__)
        return [type(item).__name__ for item in items]

    f = decorate(give)
    for _ in range(2):
        assert f([1.0]) == ["float"]
        assert f(np.array([1.0])) == ["float64"]
        assert f(np.array([1.0], "<f4")) == ["float32"]
        assert f(torch.tensor([1.0])) == ["Tensor"]
    assert asked == ["float", "float64", "float32", "Tensor"]


def test_items_as_positional_arguments(manager):
    asked = []

    @manager.exp_cache(batch="items")
    def f(*items, by=1):
        asked.append(items)
        return [(item, by) for item in items]

    assert f("ab", 5) == f("ab", 5) == [("ab", 1), (5, 1)]
    assert f(("a", "b"), "ab") == [(("a", "b"), 1), ("ab", 1)]
    assert f(5, by=2) == [(5, 2)]
    assert asked == [("ab", 5), (("a", "b"),), (5,)]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_who_waits_for_an_item_of_a_result_that_cannot_be_taken_apart_is_answered(manager, kind):
    asked = []

    def result(items):
        asked.append(list(items))
        return {item: -item for item in items}

    def aboard():
        return sum(flight.waiters for flight in list(manager.sync.services.flights._flights.values()))

    if kind == "sync":
        go = threading.Event()

        @manager.exp_cache(batch="items")
        def f(items):
            if 1 in items:
                assert go.wait(30)
            return result(items)

        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(f, [1, 2])
            while aboard() < 2:
                pass
            second = threads.submit(f, [2])
            while aboard() < 3:
                pass
            go.set()
            answers = [first.result(30), second.result(30)]
    else:

        @manager.exp_cache(batch="items")
        async def g(items):
            while 1 in items and aboard() < 3:
                await asyncio.sleep(0)
            return result(items)

        async def main():
            first = asyncio.create_task(g([1, 2]))
            while aboard() < 2:
                await asyncio.sleep(0)
            return [*await asyncio.gather(first, g([2]))]

        answers = asyncio.run(asyncio.wait_for(main(), 30))
    assert answers == [{1: -1, 2: -2}, {2: -2}]
    assert manager.sync.services.flights._flights == {}
    assert manager.sync.get_exps_count() == 0


def test_who_waits_for_an_item_of_an_array_gets_an_array(manager):
    go = threading.Event()

    @manager.exp_cache(batch="items")
    def f(items):
        if 1 in items:
            assert go.wait(30)
        return np.array([[item, item] for item in items], "<f4")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(f, [1, 2])
        flights = manager.sync.services.flights._flights
        while sum(flight.waiters for flight in list(flights.values())) < 2:
            pass
        second = threads.submit(f, [2])
        while sum(flight.waiters for flight in list(flights.values())) < 3:
            pass
        go.set()
        same(first.result(30), np.array([[1, 1], [2, 2]], "<f4"))
        same(second.result(30), np.array([[2, 2]], "<f4"))


def test_people_correct_one_item_of_an_array(decorate, manager):
    f = decorate(lambda items: np.array([[i, i] for i in items], "<f4"))
    f([1, 2])
    (exp,) = [e for e in manager.sync.iter_exps() if e.arguments["items"] == 1]
    manager.sync.annotate(exp.id, expected=[9.0, 8.0])
    same(f([1, 2]), np.array([[9, 8], [2, 2]], "<f4"))


def test_a_tensor_comes_back_and_is_a_key(make_manager):
    manager = make_manager(store="memory://", **PLAIN)
    runs = []

    @manager.exp_cache
    def f(tensor):
        runs.append(1)
        return {"t": tensor * 2}

    for value in (
        torch.tensor(1.5),
        torch.zeros(0, 3),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j]),
        torch.eye(2).T,
    ):
        for _ in range(2):
            got = f(value)["t"]
            assert got.dtype == (value * 2).dtype
            assert torch.equal(got, value * 2)
    assert len(runs) == 5
    assert f.key(torch.zeros(2)) != f.key(torch.zeros(2, 1)) != f.key(torch.zeros(2, dtype=torch.float64))
    with pytest.warns(ExpPoolWarning, match="gradients"):
        f(torch.ones(2, requires_grad=True))


def test_nothing_is_imported_to_take_a_batch_apart():
    script = (
        "import sys\n"
        "from exp_pool.core.values.batch_values import split\nfrom exp_pool.core.values.batch_values import parts_of, put_together\n"
        "found, _ = split([1, 2])\nparts_of((1, 2), 2, [1, 2]), put_together([1], ['tuple'], [1])\n"
        "print([n for n in ('numpy', 'torch', 'pandas', 'polars') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_masked_array_and_other_subclasses_are_handed_through():
    assert split(np.ma.array([1, 2], mask=[0, 1]))[0] is None
    assert parts_of(np.ma.array([1, 2], mask=[0, 1]), 2, [1, 2])[0] is None
    assert split(np.array(1))[0] is None
    assert split(torch.tensor(1))[0] is None
