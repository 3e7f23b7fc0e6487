"""Guarantee 2, methods: what an object is and holds belongs to the call, wherever it holds it."""

import abc
import array
import collections
import datetime as dt
import decimal
import enum
import fractions
import functools
import pathlib
import types
import weakref
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import pytest

from exp_pool import Experience, exp_cache, set_exp_manager
from exp_pool.errors import ExpPoolWarning

T = TypeVar("T")


@pytest.fixture(autouse=True)
def manager(make_manager):
    manager = make_manager(index="none://", embedder="none")
    set_exp_manager(manager)
    return manager


def shown(self):
    """What a receiver says of itself, whatever it is."""
    return self.shows() if hasattr(self, "shows") else repr(self)


class Asked:
    __slots__ = ()

    @exp_cache
    def ask(self, q):
        return [shown(self), q]


class Named(NamedTuple):
    model: str

    @exp_cache
    def ask(self, q):
        return [self.model, q]


class Text(Asked, str):
    __slots__ = ()


class Whole(Asked, int):
    __slots__ = ()


class Real(Asked, float):
    __slots__ = ()


class Bytes(Asked, bytes):
    __slots__ = ()


class Array(Asked, bytearray):
    __slots__ = ()


class Row(Asked, tuple):
    __slots__ = ()


class Items(Asked, list):
    __slots__ = ()


class Table(Asked, dict):
    __slots__ = ()


class Names(Asked, set):
    __slots__ = ()


class Fixed(Asked, frozenset):
    __slots__ = ()


class Ends(Asked, collections.deque):
    __slots__ = ()


class Ordered(Asked, collections.OrderedDict): ...


class Counts(Asked, collections.Counter): ...


class Defaults(Asked, collections.defaultdict):
    __slots__ = ()


class Chain(Asked, collections.ChainMap): ...


class UserTable(Asked, collections.UserDict): ...


class UserItems(Asked, collections.UserList): ...


class UserText(Asked, collections.UserString): ...


class Money(Asked, decimal.Decimal):
    __slots__ = ()


class Share(Asked, fractions.Fraction):
    __slots__ = ()


class Day(Asked, dt.date):
    __slots__ = ()


class Moment(Asked, dt.datetime):
    __slots__ = ()


class Span(Asked, dt.timedelta):
    __slots__ = ()


class Zone(Asked, dt.tzinfo):
    def __init__(self, hours):
        self.hours = hours

    def shows(self):
        return f"+{self.hours}"


class Trouble(Asked, Exception): ...


class Numbers(Asked, array.array):
    __slots__ = ()


class Matrix(Asked, np.ndarray): ...


class Part(Asked, functools.partial):
    def shows(self):
        return repr(self.args)


class Place(Asked, pathlib.PurePosixPath):
    __slots__ = ()


class Bag(Asked, types.SimpleNamespace): ...


class Property(Asked, property):
    def shows(self):
        return self.fget()


class Module(Asked, types.ModuleType):
    def shows(self):
        return self.__name__


class Mode(Asked, enum.Enum):
    FAST = "fast"
    SLOW = "slow"


class Private(Asked):
    __slots__ = ("__model",)

    def __init__(self, model):
        self.__model = model

    def shows(self):
        return self.__model


class ManyPrivate(Private):
    __slots__ = ("__more",)


class Kept:
    """A descriptor that keeps what it is given."""

    def __init__(self):
        self.of = weakref.WeakKeyDictionary()

    def __get__(self, instance, owner=None):
        return self if instance is None else self.of.get(instance)

    def __set__(self, instance, value):
        self.of[instance] = value


class Described(Asked):
    model = Kept()

    def __init__(self, model):
        self.model = model

    def shows(self):
        return self.model


_ELSEWHERE = weakref.WeakKeyDictionary()


class Set(Asked):
    def __init__(self, model):
        self.model = model

    @property
    def model(self):
        return _ELSEWHERE[self]

    @model.setter
    def model(self, value):
        _ELSEWHERE[self] = value

    def shows(self):
        return self.model


class Plain(Asked):
    def __init__(self, model):
        self.model = model

    def shows(self):
        return self.model


class Slotted(Asked):
    __slots__ = ("model",)

    def __init__(self, model):
        self.model = model

    def shows(self):
        return self.model


class Box(Asked, Generic[T]):
    def __init__(self, model):
        self.model = model

    def shows(self):
        return self.model


def matrix(numbers):
    return np.array(numbers).view(Matrix)


RECEIVERS = [
    (Named, "a", "b"), (Text, "a", "b"), (Whole, 1, 2), (Real, 1.5, 2.5), (Bytes, b"a", b"b"), (Array, b"a", b"b"), (Row, (1,), (2,)), (Items, [1], [2]),
    (Table, {"m": 1}, {"m": 2}), (Names, {1}, {2}), (Fixed, {1}, {2}), (Ends, [1], [2]), (Ordered, {"m": 1}, {"m": 2}), (Counts, "a", "b"),
    (lambda v: Defaults(int, v), {"m": 1}, {"m": 2}), (Chain, {"m": 1}, {"m": 2}), (UserTable, {"m": 1}, {"m": 2}), (UserItems, [1], [2]), (UserText, "a", "b"),
    (Money, "1", "2"), (Share, "1/2", "1/3"), (lambda d: Day(2024, 1, d), 1, 2), (lambda d: Moment(2024, 1, d), 1, 2), (Span, 1, 2), (Zone, 1, 2),
    (Trouble, "a", "b"), (lambda v: Numbers("i", v), [1], [2]), (matrix, [1, 2], [3, 4]), (lambda v: Part(len, v), "a", "b"), (Place, "a", "b"),
    (lambda v: Bag(m=v), "a", "b"), (lambda v: Property(lambda: v), "a", "b"), (Module, "a", "b"), (Mode, "fast", "slow"), (Private, "a", "b"),
    (ManyPrivate, "a", "b"), (Described, "a", "b"), (Set, "a", "b"), (Plain, "a", "b"), (Slotted, "a", "b"), (Box, "a", "b"), (Box[int], "a", "b"),
]  # fmt: skip


def label(value):
    return getattr(value, "__name__", str(value))[:20]


@pytest.mark.parametrize(("make", "one", "other"), RECEIVERS, ids=label)
@pytest.mark.filterwarnings("ignore::exp_pool.errors.ExpPoolWarning")
def test_two_receivers_never_share_an_answer(manager, make, one, other):
    answers = [make(one).ask("q"), make(other).ask("q"), make(one).ask("q"), make(other).ask("q")]
    assert answers[0] == answers[2] != answers[1] == answers[3]
    # Either each has a key of its own, and answers, or it runs uncached and says so.
    assert (manager.stats().hits, manager.stats().uncached) in ((2, 0), (0, 4))


KEYED = (Named, Text, Whole, Row, Items, Table, Names, Mode)


@pytest.mark.parametrize(("make", "one", "other"), [case for case in RECEIVERS if case[0] in KEYED], ids=label)
def test_receivers_that_are_what_they_hold_are_keyed(manager, make, one, other):
    make(one).ask("q"), make(other).ask("q"), make(one).ask("q")
    assert (manager.stats().hits, manager.stats().uncached) == (1, 0)


class Stateless:
    @exp_cache
    def ask(self, q):
        return [type(self).__name__, q]


class Empty(Stateless):
    __slots__ = ()


class Abstract(Stateless, abc.ABC):
    @property
    def style(self):
        return "plain"

    @functools.cached_property
    def slow(self):
        return 1


class Concrete(Abstract, Generic[T]): ...


@pytest.mark.parametrize("cls", [Stateless, Empty, Abstract, Concrete], ids=label)
def test_an_object_without_state_stands_for_its_class(manager, cls):
    assert cls().ask("q") == cls().ask("q")
    assert (manager.stats().hits, manager.stats().uncached) == (1, 0)


# Beside self_key=


class Agent:
    def __init__(self, model="m"):
        self.model = model

    def style(self):
        return "plainly"

    @exp_cache(self_key=("model",))
    def ask(self, q):
        return [self.style(), self.model, q]

    @exp_cache(self_key=())
    def tell(self, q):
        return [self.style(), q]


class Lawyer(Agent):
    def style(self):
        return "precisely"


class Pirate(Agent):
    def style(self):
        return "arr"


class Mixed(Lawyer, Pirate):
    def style(self):
        return "mixed"


def test_the_class_counts_beside_self_key():
    kinds = (Agent, Lawyer, Pirate, Mixed)
    styles = ["plainly", "precisely", "arr", "mixed"]
    for _ in range(2):
        assert [kind().ask("q") for kind in kinds] == [[style, "m", "q"] for style in styles]
        assert [kind().tell("q") for kind in kinds] == [[style, "q"] for style in styles]
    assert [kind("n").ask("q")[1] for kind in kinds] == ["n"] * 4


def test_the_defining_class_adds_nothing_so_that_rows_made_by_hand_answer(manager):
    name = f"{__name__}.Agent"
    manager.sync.create_exp(Experience(function=f"{name}.tell", arguments={"q": "x"}, response=["by hand"]))
    manager.sync.create_exp(
        Experience(function=f"{name}.ask", arguments={"self": {"model": "m"}, "q": "x"}, response=["by hand"])
    )
    assert Agent().tell("x") == Agent().ask("x") == ["by hand"]
    assert Pirate().tell("x") == ["arr", "x"]


def test_the_class_is_shown_among_the_stored_arguments(manager):
    Pirate().ask("x")
    (stored,) = manager.sync.iter_exps()
    assert stored.arguments["self"] == {"<class>": f"<{__name__}.Pirate>", "model": "m"}


def test_classes_of_one_name_beside_self_key(manager):
    def make(words):
        class Local:
            style = words

            @exp_cache(self_key=())
            def ask(self, q):
                return [self.style, q]

        return Local()

    assert [make("a").ask("q"), make("b").ask("q"), make("a").ask("q")] == [["a", "q"], ["b", "q"], ["a", "q"]]
    assert manager.stats().hits == 1


def test_an_uncached_receiver_says_so():
    with pytest.warns(ExpPoolWarning, match="Described.*"):
        Described("a").ask("q")
