"""Guarantee 2, closures: what a function only reads there belongs to the call; what it changes, or waits by, does not."""

import asyncio
import collections
import contextvars
import dataclasses
import enum
import functools
import itertools
import logging
import queue
import re
import threading
import types
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import tenacity
from pydantic import BaseModel

from exp_pool import exp_cache, set_exp_manager
from exp_pool.api import function_registry
from exp_pool.errors import ConfigurationError, ExpPoolWarning


@pytest.fixture(autouse=True)
def manager(make_manager, monkeypatch):
    monkeypatch.setattr(function_registry, "_known", {})  # each test wraps the same functions in its own way
    manager = make_manager(index="none://", embedder="none")
    set_exp_manager(manager)
    return manager


@dataclasses.dataclass
class Data:
    model: str
    calls: int = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    model: str


class Model(BaseModel):
    model: str


class Pair(NamedTuple):
    model: str


class Text(str):
    __slots__ = ()


class Mode(enum.Enum):
    A = 1
    B = 2


class Client:
    def __init__(self, model):
        self.model, self.lock, self.calls = model, threading.Lock(), 0

    def ask(self, q):
        return self.model + q


class Loud:
    def ask(self, q):
        return q.upper()


class Quiet:
    def ask(self, q):
        return q.lower()


def loud(q):
    return q.upper()


def quiet(q):
    return q.lower()


def prefix(p):
    return lambda q: p + q


def make(value):
    @exp_cache
    def ask(q):
        return [shown(value), q]

    return ask


def shown(value):
    for how in (lambda: value("q"), lambda: value().ask("q"), lambda: value.ask("q"), lambda: value[0]("q")):
        try:
            return repr(how())
        except (TypeError, AttributeError, IndexError, KeyError):
            pass
    return repr(value)


READ = [
    (None, [1]), (None, "x"), ("a", "b"), (1, True), (1, 1.0), ([1], [2]), ([], [None]), ({"m": 1}, {"m": 2}), ({1}, {2}), (b"a", b"b"), ((1, [2]), (1, [3])),
    (Data("a"), Data("b")), (Frozen("a"), Frozen("b")), (Model(model="a"), Model(model="b")), (Pair("a"), Pair("b")), (Text("a"), Text("b")), (Text("a"), "a"),
    (Mode.A, Mode.B), (re.compile("a"), re.compile("b")), (np.ones(2), np.zeros(2)), (collections.OrderedDict(a=1), collections.OrderedDict(a=2)),
    (types.SimpleNamespace(m=1), types.SimpleNamespace(m=2)), (loud, quiet), (prefix("a"), prefix("b")), (lambda q: q + "a", lambda q: q + "b"), ([loud], [quiet]),
    ([prefix("a")], [prefix("b")]), (functools.partial(loud), functools.partial(quiet)), (Loud, Quiet), (Loud(), Quiet()), (Loud().ask, Quiet().ask), ("a".join, "b".join),
    (functools.lru_cache(loud), functools.lru_cache(quiet)), (lambda q, p="a": p + q, lambda q, p="b": p + q), ({"a": {"b": [1]}}, {"a": {"b": [2]}}),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), READ, ids=lambda v: type(v).__name__)
def test_what_is_only_read_tells_calls_apart(manager, one, other):
    answers = [make(value)("q") for value in (one, other, one, other)]
    assert answers == [[shown(value), "q"] for value in (one, other, one, other)]
    assert (manager.stats().hits, manager.stats().uncached, manager.stats().misses) == (2, 0, 2)


def unstable():
    cycle = []
    cycle.append(cycle)
    circle = {}
    circle["self"] = [circle]
    return [Client("a"), object(), iter([1]), (i for i in ()), open, cycle, circle, Client("a").ask, [Client("a")], np.array([object()])][:4] + [
        cycle, circle, Client("a").ask, [Client("a")], {"c": object()}, np.array([object()]), asyncio.sleep, memoryview(b"a"), functools.partial(loud, object())
    ]  # fmt: skip


@pytest.mark.parametrize("value", [v for v in unstable() if v is not asyncio.sleep], ids=lambda v: type(v).__name__)
def test_what_has_no_stable_identity_runs_uncached_with_one_warning(manager, value):
    def make(client):
        @exp_cache
        def ask(q):
            return [q, client is not None]

        return ask

    ask = make(value)
    with pytest.warns(ExpPoolWarning, match=r"ask.*'client'.*exclude=\['client'\]") as said:
        assert [ask("q"), ask("q")] == [["q", True]] * 2
    assert len(said) == 1
    assert manager.stats().uncached == 2


def test_exclude_names_a_variable(manager):
    def make(client, model):
        @exp_cache(exclude=["client"])
        def ask(q):
            return [client.model, model, q]

        return ask

    assert make(Client("x"), "a")("q") == ["x", "a", "q"]
    assert make(Client("x"), "b")("q") == ["x", "b", "q"]
    assert make(Client("y"), "a")("q") == ["x", "a", "q"]
    assert manager.stats().uncached == 0
    with pytest.raises(ConfigurationError, match="its parameters: q, model"):
        model = "a"
        exp_cache(exclude=["nobody"])(lambda q: [q, model])


def test_of_an_object_the_attributes_that_are_read_count(manager):
    class Agent:
        def __init__(self, model):
            self.model, self.client, self.runs = model, object(), 0

            @exp_cache
            def ask(q):
                self.runs += 1
                return [self.model, q]

            self.ask = ask

    assert [Agent(m).ask("q") for m in ("a", "b", "a")] == [["a", "q"], ["b", "q"], ["a", "q"]]
    assert (manager.stats().hits, manager.stats().uncached) == (1, 0)
    agent = Agent("a")
    agent.model = "b"
    assert agent.ask("q") == ["b", "q"]


# What the function changes itself


def by_nonlocal():
    calls = 0

    @exp_cache
    def ask(q):
        nonlocal calls
        calls += 1
        return [q, calls]

    return ask


def by_append():
    calls = []

    @exp_cache
    def ask(q):
        calls.append(q)
        return [q, len(calls)]

    return ask


def by_index():
    seen = {}

    @exp_cache
    def ask(q):
        seen[q, "x"] = seen.get((q, "x"), 0) + 1
        return [q, sum(seen.values())]

    return ask


def by_augmented_index():
    state = collections.Counter()

    @exp_cache
    def ask(q):
        state[q] += 1
        return [q, sum(state.values())]

    return ask


def by_constant_index():
    state = {"calls": 0, "more": {"x": []}}

    @exp_cache
    def ask(q):
        state["calls"] += 1
        state["more"]["x"].append(q)
        return [q, state["calls"]]

    return ask


def by_attribute():
    data, box = Data("m"), types.SimpleNamespace(calls=0)

    @exp_cache
    def ask(q):
        data.calls += 1
        box.calls = data.calls
        return [q, data.calls, data.model]

    return ask


def by_next():
    numbers = itertools.count(1)

    @exp_cache
    def ask(q):
        return [q, next(numbers)]

    return ask


def by_a_helper():
    calls = []

    def note(q):
        calls.append(q)

    @exp_cache
    def ask(q):
        note(q)
        return [q, len(calls)]

    return ask


def by_a_bound_method():
    note = [].append

    @exp_cache
    def ask(q):
        note(q)
        return [q, 1]

    return ask


def by_a_comprehension():
    calls = []

    @exp_cache
    def ask(q):
        return [[calls.append(c) for c in q] and q, len(calls)]

    return ask


def by_slices():
    calls = []

    @exp_cache
    def ask(q):
        calls[len(calls) :] = [q]
        return [q, len(calls)]

    return ask


def by_deque():
    calls = collections.deque()

    @exp_cache
    def ask(q):
        calls.appendleft(q)
        return [q, len(calls)]

    return ask


CHANGING = [by_nonlocal, by_append, by_index, by_augmented_index, by_constant_index, by_attribute, by_next, by_a_helper, by_a_bound_method, by_a_comprehension, by_slices, by_deque]  # fmt: skip


@pytest.mark.parametrize("make", CHANGING, ids=lambda m: m.__name__)
def test_what_the_function_changes_itself_does_not_count(manager, make):
    ask = make()
    answers = [ask("q"), ask("q"), ask("r"), ask("q")]
    assert answers == [answers[0], answers[0], answers[2], answers[0]] and answers[2][0] == "r"
    assert (manager.stats().misses, manager.stats().hits, manager.stats().uncached) == (2, 2, 0)


def test_of_what_is_changed_the_rest_counts(manager):
    def make(model):
        state, data = {"model": model, "calls": 0}, Data(model)

        @exp_cache
        def ask(q):
            state["calls"] += 1
            data.calls += 1
            return [state["model"], data.model, q]

        return ask

    assert [make(m)("q") for m in ("a", "b", "a")] == [["a", "a", "q"], ["b", "b", "q"], ["a", "a", "q"]]
    assert manager.stats().hits == 1


def test_sorting_is_no_way_to_hide_what_is_read():
    def make(items):
        @exp_cache
        def ask(q):
            items.sort()
            return [items[0], q]

        return ask

    assert [make([3, 1])("q"), make([5, 4])("q")] == [[1, "q"], [4, "q"]]


COORDINATING = [
    threading.Lock(), threading.RLock(), threading.Event(), threading.Condition(), threading.Semaphore(), threading.Barrier(1), threading.local(), asyncio.Lock(),
    asyncio.Event(), asyncio.Semaphore(), asyncio.Queue(), queue.Queue(), queue.SimpleQueue(), queue.PriorityQueue(), contextvars.ContextVar("c"), logging.getLogger("x"),
    types, tenacity.Retrying(),
]  # fmt: skip


@pytest.mark.parametrize("value", COORDINATING, ids=lambda v: type(v).__name__)
def test_what_only_coordinates_does_not_count(manager, value):
    def make(it):
        @exp_cache
        def ask(q):
            return [q, it is None]

        return ask

    assert make(value)("q") == make(value)("q") == ["q", False]
    assert (manager.stats().hits, manager.stats().uncached) == (1, 0)


# Functions that name each other


def test_functions_that_name_themselves(manager):
    def make(base):
        @exp_cache
        def times(n):
            return base if n == 0 else times(n - 1) * 2

        return times

    assert [make(1)(3), make(5)(3), make(1)(3)] == [8, 40, 8]
    assert manager.stats().uncached == 0


def test_functions_that_name_each_other(manager):
    def make(base):
        def even(n):
            return base if n == 0 else odd(n - 1)

        @exp_cache
        def odd(n):
            return -base if n == 0 else even(n - 1)

        return odd

    assert [make(1)(3), make(2)(3), make(1)(3)] == [1, 2, 1]
    assert (manager.stats().hits, manager.stats().uncached) == (1, 0)


def test_variables_that_are_filled_later(manager):
    def make(late):
        @exp_cache
        def ask(q):
            return [value, q]

        value = late
        return ask

    assert [make(1)("q"), make(2)("q"), make(1)("q")] == [[1, "q"], [2, "q"], [1, "q"]]


def test_a_variable_that_others_change_is_looked_at_anew():
    config = {"model": "a"}

    @exp_cache
    def ask(q):
        return [config["model"], q]

    assert ask("q") == ["a", "q"]
    config["model"] = "b"
    assert ask("q") == ["b", "q"]


# Wrappers


def counted(function):
    def wrapper(*args):
        return function(*args)

    return wrapper


def told(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


def capital(q):
    return f"capital of {q}"


def currency(q):
    return f"currency of {q}"


@pytest.mark.parametrize("wrap", [counted, told, lambda f: told(counted(f)), lambda f: counted(told(f))])
def test_two_functions_behind_one_wrapper(manager, wrap):
    functions = [exp_cache(wrap(f)) for f in (capital, currency, capital)]
    assert [f("x") for f in functions] == ["capital of x", "currency of x", "capital of x"]
    assert (manager.stats().hits, manager.stats().uncached) == (1, 0)


@pytest.mark.parametrize("wrap", [counted, told, functools.lru_cache, tenacity.retry, lambda f: f])
def test_what_stands_behind_a_wrapper_counts(manager, wrap):
    def make(config):
        @exp_cache
        @wrap
        def ask(q):
            return [config["model"], q]

        return ask

    models = ("a", "b", "a")
    assert [make({"model": m})("q") for m in models] == [[m, "q"] for m in models]
    assert (manager.stats().hits, manager.stats().uncached) == (1, 0)


def test_what_a_wrapper_closes_over_counts(manager):
    def signed(name):
        def decorate(function):
            @functools.wraps(function)
            def wrapper(*args):
                return f"{function(*args)} ({name})"

            return wrapper

        return decorate

    made = [exp_cache(signed(name)(capital)) for name in ("a", "b", "a")]
    assert [f("x") for f in made] == [f"capital of x ({name})" for name in ("a", "b", "a")]
    assert (manager.stats().hits, manager.stats().uncached) == (1, 0)


def test_a_function_behind_wraps_adds_nothing_of_its_own_to_the_key():
    """Pools of before answer: what is known of it already is its name."""
    assert exp_cache(told(capital)).key("x") == exp_cache(capital).key("x")


def test_secrets_in_closures_are_not_stored(manager):
    def make(config, api_key):
        @exp_cache
        def ask(q):
            return [config["model"], len(api_key), q]

        return ask

    make({"model": "m", "password": "S3CRET"}, "S3CRET")("q")
    (stored,) = manager.sync.iter_exps()
    assert stored.arguments["<closure>"] == {
        "config": {"model": "m", "password": "[redacted]"},
        "api_key": "[redacted]",
    }


class Calculator:
    """A method of this name collects in a list; here it asks."""

    def __init__(self, base):
        self.base = base
        self.inner = self

    def add(self, q):
        return self.base + q


class Proxy:
    def __init__(self, target):
        self._target = target

    def __getattr__(self, name):
        return getattr(self._target, name)


@pytest.mark.parametrize("wrapped", [lambda one: one, Proxy])
@pytest.mark.parametrize("how", ["itself", "what it holds"])
def test_an_object_that_is_asked_by_a_collectors_name_counts(make_manager, wrapped, how):
    manager = make_manager(index="none://", embedder="none")

    def make(c):
        if how == "itself":

            @manager.exp_cache(name="of it", source="ignore")
            def ask(q):
                return c.add(q)

        else:

            @manager.exp_cache(name="of what it holds", source="ignore")
            def ask(q):
                return c.inner.add(q)

        return ask

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where it cannot be keyed it is uncached, which is as good here
        assert [make(wrapped(Calculator(base)))("q") for base in "aba"] == ["aq", "bq", "aq"]


class AnswersToAll:
    def __getattr__(self, name):
        return AnswersToAll()


@pytest.mark.parametrize("held", [AnswersToAll(), [AnswersToAll()], {"client": AnswersToAll()}])
def test_a_client_that_answers_to_every_name_holds_up_nobody(make_manager, held):
    manager = make_manager(index="none://", embedder="none")

    def make(c):
        @manager.exp_cache(name="of a client", source="ignore")
        def ask(q):
            return f"{type(c).__name__} {q}"

        return ask

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert make(held)("q") == f"{type(held).__name__} q"
