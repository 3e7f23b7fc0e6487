import dataclasses
import datetime as dt
import enum
import functools
import itertools
import os
import pathlib
import subprocess
import sys
import uuid
import zoneinfo
from collections import Counter, OrderedDict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from exp_pool.errors import UnkeyableError
from exp_pool.keys import encode, make_key, make_scope


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
    ids=repr,
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


GOLDEN_KEYS = ["c3693c19ff84", "bcde0278fc2a", "b96ee505422a", "f74cfbd4fb8f", "9a4adc2f5e22", "49032a123443", "71da20fa71f7", "d8b2ca0b03d4", "432ea1fd015e", "c187808f4277", "1c795db5eb38", "3ef0dce7882c", "2ba898ad105a", "aef570ffdb64", "6679611fbc6f", "31af9641657f", "535941c84c18", "eb843c32051e", "bd89ce97bc1c", "08584224d017"]  # fmt: skip


def golden_calls():
    values = [None, True, 1, 1.5, "x", b"x", [1], (1,), {"a": 1}, {1}, Decimal("1.0"), dt.datetime(2024, 1, 2, 3, tzinfo=UTC), uuid.UUID(int=5), pathlib.PurePath("a/b"), range(3), 2**80, "日本\ud800", [[], {}, ()], len, 1j]  # fmt: skip
    return [make_key("module.f", "v1", {"x": value, "y": None}) for value in values]


def test_keys_are_those_of_earlier_versions():
    """Keys are stored: if this fails, every pool in the world misses. Change `_KEY_FORMAT` and this list together, or neither."""
    assert [key[:12] for key in golden_calls()] == GOLDEN_KEYS


def test_keys_do_not_depend_on_the_process_or_its_hash_seed():
    code = f"import sys; sys.path[:0] = {sys.path!r}; from unit import test_keys as t; print(*t.golden_calls())"
    code = code.replace(
        "from unit import test_keys as t",
        "import importlib.util as u; s = u.spec_from_file_location('t', %r); t = u.module_from_spec(s); s.loader.exec_module(t)"
        % __file__,
    )
    for seed in ("0", "12345"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert done.stdout.split() == golden_calls()


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
