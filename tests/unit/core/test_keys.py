import dataclasses
import datetime as dt
import enum
import functools
import itertools
import os
import pathlib
import shutil
import subprocess
import sys
import uuid
import zoneinfo
from collections import Counter, OrderedDict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import golden_calls
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, PrivateAttr
from support.ids import named
from support.paths import ROOT

from exp_pool.core.identity.canonical import encode
from exp_pool.core.identity.keys import make_key, make_scope
from exp_pool.errors import UnkeyableError


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Point:
    x: int


class Model(BaseModel):
    x: int


Pair = namedtuple("Pair", "a b")


class ByHand:
    def __init__(self, x):
        self.x, self.noise = x, object()

    def __exp_key__(self):
        return self.x


class Text(str):
    pass


UTC = dt.UTC
DIFFERENT = [
    None, True, False, 0, 1, -1, 255, 2**70, 0.0, -0.0, 1.0, float("nan"), float("inf"), "", "1", "True", "None", "a", "\0", "\ud800",
    b"", b"1", bytearray(b"1"), [], [1], [[1]], (), (1,), ((1,),), {}, {1: 1}, {"1": 1}, {1: "1"}, {True: 1}, set(), {1}, {"1"}, frozenset(), frozenset({1}),
    1j, Decimal("1"), Decimal("1.0"), Fraction(1), dt.date(2024, 1, 1), dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=UTC),
    dt.datetime(2024, 1, 1, fold=1), dt.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), dt.time(0), dt.time(0, fold=1), dt.timedelta(1),
    dt.timezone(dt.timedelta(hours=1)), uuid.UUID(int=1), pathlib.PurePath("a/b"), "a/b", Colour.RED, Number.ONE, Point(1), Model(x=1), Pair(1, 2), (1, 2), Text("a"),
    range(3), slice(3), slice(0, 3), deque([1]), OrderedDict(a=1), Counter("a"), {"a": 1}, ByHand(1), ByHand("1"), int, str, Point, len, sorted, os.path.join,
    functools.partial(sorted, key=len), functools.partial(sorted), np.float32(1), np.float64(1), np.int8(1), np.zeros(2), np.zeros(2, "f4"), np.zeros((2, 1)), np.zeros((1, 2)),
    [1, 2], [2, 1], ["a", "b"], ["ab"], ["a", ["b"]], [["a"], "b"], {"a": {"b": 1}}, {"a": ["b", 1]}, ..., [None], ["n"],
]  # fmt: skip


def test_no_two_of_these_are_the_same_call():
    encoded = [encode(value) for value in DIFFERENT]
    same = [(a, b) for (a, x), (b, y) in itertools.combinations(zip(DIFFERENT, encoded, strict=True), 2) if x == y]
    assert same == []


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1, 2, 3}, {3, 2, 1}),
        (float("nan"), -float("nan")),
        (Point(1), Point(1)),
        (Model(x=1), Model(x=1)),
        (ByHand(1), ByHand(1)),
        (pathlib.PurePosixPath("a/b"), pathlib.PureWindowsPath("a\\b")),
        (np.arange(6).reshape(2, 3)[:, ::-1], np.array([[2, 1, 0], [5, 4, 3]])),
    ],
    ids=named,
)
def test_these_are_the_same_call(a, b):
    assert encode(a) == encode(b)


def a_cycle():
    found = []
    found.append(found)
    return found


def a_deep_one():
    found = []
    for _ in range(10_000):
        found = [found]
    return found


@pytest.mark.parametrize(
    "make",
    [
        object,
        lambda: (i for i in ()),
        lambda: lambda: 1,
        lambda: sys.__stdout__,
        a_cycle,
        a_deep_one,
        lambda: np.array([object()]),
        lambda: [object()],
    ],
)
def test_what_has_no_stable_identity_names_the_argument(make):
    with pytest.raises(UnkeyableError, match="argument 'thing'") as caught:
        make_key("f", "", {"fine": 1, "thing": make()})
    assert caught.value.path == "thing"


def test_function_version_arguments_and_secret_are_told_apart():
    keys = [
        make_key("f", "", {"a": 1}), make_key("g", "", {"a": 1}), make_key("f", "1", {"a": 1}), make_key("f", "", {"b": 1}), make_key("f", "", {}),
        make_key("f", "", {"a": 1}, b"s"), make_key("f", "", {"a": 1}, b"t"), make_scope("f", "", {"a": 1}), make_key("", "f", {"a": 1}),
        make_key("f", "", {"a": 1, "b": None}),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert make_key("f", "", {"a": 1, "b": 2}) == make_key("f", "", {"b": 2, "a": 1})


HERE = Path(__file__).parent
GOLDEN = [line.split("\t") for line in (HERE / "golden_keys.txt").read_text(encoding="utf-8").splitlines()]


def test_keys_are_those_of_earlier_versions():
    """Keys are stored: if this fails, every pool in the world misses. Change `_KEY_FORMAT` and the file together, or neither."""
    assert len(GOLDEN) >= 200
    assert [golden_calls.key_of(expression) for _, expression in GOLDEN] == [key for key, _ in GOLDEN]


def keys_elsewhere(python, **environment):
    """The keys of the same calls as another process makes them."""
    done = subprocess.run(
        [python, "-c", "import golden_calls; golden_calls.main()"],  # as a script its classes would go by its path
        input="\n".join(expression for _, expression in GOLDEN),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={
            **os.environ,
            "PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}",
            "PYTHONIOENCODING": "utf-8",
            **environment,
        },
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("seed", ["0", "12345"])
def test_keys_do_not_depend_on_the_process_or_its_hash_seed(seed):
    assert keys_elsewhere(sys.executable, PYTHONHASHSEED=seed) == [key for key, _ in GOLDEN]


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_keys_do_not_depend_on_the_python_version(version):
    python = shutil.which(f"python{version}")
    needed = [python or "", "-c", "import numpy, pydantic, loguru"]
    if python is None or subprocess.run(needed, capture_output=True).returncode:
        pytest.skip(f"no python{version} with numpy, pydantic and loguru on PATH")
    assert keys_elsewhere(python) == [key for key, _ in GOLDEN]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.frozensets(st.text())
    ),
    max_leaves=12,
)


def typed(value):
    """A form in which two values are equal exactly if they are the same, types and all."""
    if isinstance(value, dict):
        return ("dict", frozenset((typed(k), typed(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(map(typed, value)))
    return (type(value).__name__, repr(sorted(value)) if isinstance(value, frozenset) else repr(value))


@given(plain, plain)
def test_equal_keys_mean_equal_values(a, b):
    assert (encode(a) == encode(b)) == (typed(a) == typed(b))


# Classes made anew by each call of a function, and state beyond the declared fields


def classes(n):
    @dataclasses.dataclass
    class Data:
        x: int
        factor = n

    class Kind(enum.Enum):
        A = n

    class Plain(str):
        __slots__ = ()

        def times(self):
            return n

    return Data(1), Kind.A, Plain("a"), Data, Kind, Plain


def test_local_classes_are_told_apart_by_their_plain_attributes_and_closures():
    for one, same, other in zip(classes(1), classes(1), classes(2), strict=True):
        assert encode(one) == encode(same)
        assert encode(one) != encode(other)


class Stateful(Point):
    def __init__(self, x, extra):
        super().__init__(x)
        self.extra = extra

    @functools.cached_property
    def slow(self):
        return object()


class Private(BaseModel):
    x: int
    _hidden: int = PrivateAttr(default=0)


class Slots(str):
    __slots__ = ("more",)


def test_state_beyond_the_fields_belongs_to_the_key():
    assert encode(Stateful(1, 2)) == encode(Stateful(1, 2))
    assert encode(Stateful(1, 2)) != encode(Stateful(1, 3))
    one, two = Private(x=1), Private(x=1)
    assert encode(one) == encode(two)
    two._hidden = 5
    assert encode(one) != encode(two)
    used = Stateful(1, 2)
    used.slow
    assert encode(used) == encode(Stateful(1, 2)), "what a cached property has put there follows from the rest"
    text = Slots("a")
    assert encode(text) == encode(Slots("a"))
    text.more = 1
    with pytest.raises(UnkeyableError):
        encode(text)


NUMPY = [
    np.zeros(1, [("a", "i4"), ("b", "f4")]),
    np.zeros(1, [("b", "i4"), ("a", "f4")]),
    np.zeros(1, [("a", "f4"), ("b", "i4")]),
    np.zeros(1, "V8"),
    np.zeros(1, "i8"),
    np.zeros(1, "M8[s]"),
    np.zeros(1, "M8[ms]"),
    np.zeros(1, ">i8"),
    np.zeros(()),
    np.float64(0),
    0.0,
]


def test_numpy_values_of_equal_bytes_are_told_apart():
    assert len({encode(value) for value in NUMPY}) == len(NUMPY)
    array = np.arange(10)
    assert encode(array[::2]) == encode(array[::2].copy())
    assert encode(np.asfortranarray(np.ones((2, 3)))) == encode(np.ones((2, 3)))


@pytest.mark.parametrize(
    "value",
    [np.ones((1, 1)).view(np.recarray), np.ma.array([1], mask=[True]), np.zeros(1, object), np.longdouble(1), np.add, np.random.default_rng()],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_numpy_values_without_identity_are_refused(value):
    with pytest.raises(UnkeyableError):
        encode(value)
