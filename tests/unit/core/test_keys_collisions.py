"""Values that are easily taken for one another: what a name, a type or a base class does not show.

Each of these pairs once shared a key.
"""

import dataclasses
import datetime as dt
import decimal
import functools
import pathlib
import time
import types
import typing
import unittest.mock
import weakref
import zoneinfo
from collections import OrderedDict, defaultdict, namedtuple

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pool.core.identity.canonical import encode
from exp_pool.core.identity.keys import make_key
from exp_pool.errors import UnkeyableError


def original(x):
    return x


class Hiding(dict):
    def items(self):
        return []


class Ordered(OrderedDict): ...


class Factory(defaultdict): ...


class Shouting(str):
    __slots__ = ()

    def encode(self, *args):
        return b"the same"


@dataclasses.dataclass
class Record(dict):
    x: int = 1


@dataclasses.dataclass
class Failure(Exception):
    x: int = 1


@dataclasses.dataclass
class Mangled:
    __slots__ = ("__hidden", "x")
    x: int

    def hide(self, value):
        self.__hidden = value
        return self


class Free(pydantic.BaseModel, extra="allow"):
    x: int = 1
    _x: int = pydantic.PrivateAttr(default=7)


def record(**items):
    made = Record()
    made.update(items)
    return made


def failure(*args):
    made = Failure()
    made.args = args
    return made


def free(held=None, **extra):
    made = Free(**extra)
    made.__dict__.update(held or {})
    return made


def structured(offsets, kind=np.void):
    layout = np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": offsets, "itemsize": 12})
    return np.zeros(1, np.dtype((kind, layout)))


def partial_with(**attributes):
    made = functools.partial(len)
    vars(made).update(attributes)
    return made


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (Hiding(a=1), Hiding(a=2)),
        (Ordered(a=1, b=2), Ordered(b=2, a=1)),
        (Factory(int), Factory(list)),
        (defaultdict(int), defaultdict(list)),
        (Shouting("a"), Shouting("b")),
        (record(a=1), record(a=2)),
        (failure(1), failure(2)),
        (Mangled(1).hide(1), Mangled(1).hide(2)),
        (free(y=1), free({"y": 1})),
        (free(_x=1), free(_x=2)),
        (partial_with(), partial_with(a=1)),
        (functools.partial(max, 1), functools.partial(functools.partial, max, 1)),
        (types.SimpleNamespace(a=1), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (list[int], list[str]),
        (list[int], list),
        (int | str, int | None),
        (typing.Literal[1], typing.Literal[True]),
        (typing.Literal["int"], typing.Literal[b"int"]),
        (np.dtype("f4"), np.dtype("f8")),
        (structured([0, 4]), structured([4, 8])),
        (structured([0, 4]), structured([0, 4], np.record)),
        (structured([0, 4])[0], structured([0, 4], np.record)[0]),
        (np.zeros(1, [("a", "i4", 2)]), np.zeros(1, [("a", "i4"), ("b", "i4")])),
        (np.zeros(1, "M8[D]"), np.zeros(1, "M8[25D]")),
        (np.str_("a"), np.str_("a\0")),
        (np.str_("a"), "a"),
        (np.bytes_(b"a"), np.void(b"a")),
        (decimal.Decimal("NaN"), decimal.Decimal("sNaN")),
        (decimal.Decimal("1"), decimal.Decimal("1.0")),
        (complex(0.0, -0.0), complex(0.0, 0.0)),
        (dt.date(2024, 1, 1), dt.datetime(2024, 1, 1)),
        (zoneinfo.ZoneInfo("UTC"), dt.UTC),
        (dt.timezone(dt.timedelta(hours=1)), dt.timezone(dt.timedelta(hours=1), "CET")),
        (pathlib.PurePosixPath("a"), pathlib.PurePosixPath("/a")),
        ("\ud800\udc00", "\U00010000"),
        (range(0), range(1, 1)),
        ([[1], 2], [[1, 2]]),
        (frozenset({(1, 2)}), frozenset({(2, 1)})),
        ({1: "a", "1": "b"}, {1: "b", "1": "a"}),
        (10**5000, 10**5000 + 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_these_are_different_calls(a, b):
    assert encode(a) != encode(b)


def zone_of_a_file():
    found = (pathlib.Path(root) / "Asia" / "Tokyo" for root in zoneinfo.TZPATH)
    file = next((path for path in found if path.exists()), None)
    if file is None:
        pytest.skip("no files of time zones on this system")
    with file.open("rb") as data:
        return zoneinfo.ZoneInfo.from_file(data, key="Europe/Berlin")


class Zone(zoneinfo.ZoneInfo): ...


class Folder(type(pathlib.PurePath())): ...


class Matrix(np.ndarray): ...


class Number(np.float64): ...


def impostor(x): ...


functools.update_wrapper(impostor, original)


@pytest.mark.parametrize(
    "make",
    [
        zone_of_a_file,
        lambda: Zone("Europe/Berlin"),
        lambda: Folder("a"),
        lambda: impostor,
        lambda: time.localtime(0),
        lambda: pathlib.Path().stat(),
        lambda: unittest.mock.Mock(spec=pathlib.PurePath),
        lambda: unittest.mock.MagicMock(spec=dict),
        lambda: weakref.proxy(original),
        lambda: memoryview(b"a"),
        lambda: np.zeros(1).view(Matrix),
        lambda: np.asmatrix([[1]]) if hasattr(np, "asmatrix") else np.ma.array([1]),
        lambda: np.ma.array([1], mask=[True]),
        lambda: np.zeros(1, [("a", "g")]),
        lambda: np.zeros(1, [("a", object)]),
        lambda: Number(1),
        lambda: np.sin,
        lambda: Exception("a"),
        lambda: {}.keys(),
        lambda: {}.get,
        lambda: dict.fromkeys,
        lambda: str.upper,
        lambda: staticmethod(original),
        lambda: functools.partialmethod(original),
        lambda: NotImplemented,
        lambda: typing.TypeVar("T"),
        lambda: typing,
        lambda: weakref.ref(original),
    ],
)
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_what_cannot_be_told_apart_is_refused(make):
    with pytest.raises(UnkeyableError):
        encode(make())


def test_whatever_looking_at_a_value_raises_makes_it_unkeyable():
    class Broken:
        def __exp_key__(self):
            raise OSError("no such model")

    with pytest.raises(UnkeyableError, match=r"argument 'x'.*no such model") as caught:
        make_key("f", "", {"x": Broken()})
    assert caught.value.path == "x"


def test_equal_values_have_one_key_whatever_surrounds_them():
    one = np.zeros(2, np.dtype([("a", "i1"), ("b", "i4")], align=True))
    other = one.copy()
    other.view("u1")[1] = 7  # between the fields
    assert encode(one) == encode(other)
    with decimal.localcontext() as context:
        context.capitals = 0
        small = encode(decimal.Decimal("1E+3"))
    assert small == encode(decimal.Decimal("1E+3"))
    assert encode(dt.timezone(dt.timedelta(0), "UTC")) == encode(dt.UTC)
    assert encode(typing.Optional[int]) == encode(int | None)  # noqa: UP045
    assert encode(functools.partial(functools.partial(max, 1), 2)) == encode(functools.partial(max, 1, 2))


def test_a_class_is_itself_again_in_another_process_by_its_name_alone():
    by_name = encode(Free)
    assert encode(Hiding) != by_name
    assert b"local" not in by_name


@dataclasses.dataclass
class Point:
    a: object
    b: object


Pair = namedtuple("Pair", "a b")


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.decimals(), st.fractions(),
    st.complex_numbers(), st.dates(), st.times(), st.datetimes(), st.timedeltas(), st.uuids(),
    st.builds(bytearray, st.binary()), st.builds(pathlib.PurePosixPath, st.text("ab/", max_size=4)),
    st.sampled_from([int, str, len, original, ..., range(2), slice(1)]), st.builds(np.int8, st.integers(-9, 9)),
)  # fmt: skip
names = st.text(max_size=3) | st.integers(-2, 2).map(lambda n: n * 5 + 7) | st.binary(max_size=2)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        *(st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(names, inner), st.frozensets(names)),
        *(st.sets(names), st.builds(Ordered, st.dictionaries(names, inner))),
        *(st.builds(types.SimpleNamespace, a=inner), st.builds(Pair, inner, inner), st.builds(Point, inner, inner)),
    ),
    max_leaves=10,
)


def form(value):
    """What two values share exactly if they are the same, types and all."""
    name = type(value).__name__
    if isinstance(value, Ordered):
        return name, tuple((form(key), form(item)) for key, item in value.items())
    if isinstance(value, dict):
        return name, frozenset((form(key), form(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return name, tuple(map(form, value))
    if isinstance(value, set | frozenset):
        return name, frozenset(map(form, value))
    if isinstance(value, types.SimpleNamespace | Point):
        return name, tuple((key, form(item)) for key, item in vars(value).items())
    return name, repr(value), getattr(value, "fold", None)


def again(value):
    """The same value, built the other way round."""
    if isinstance(value, Ordered):
        return Ordered((key, again(item)) for key, item in value.items())
    if isinstance(value, dict):
        return {key: again(item) for key, item in reversed(value.items())}
    if isinstance(value, Pair):
        return Pair(*map(again, value))
    if isinstance(value, list | tuple):
        return type(value)(map(again, value))
    if isinstance(value, set | frozenset):
        return type(value)(sorted(value, key=repr, reverse=True))
    if isinstance(value, types.SimpleNamespace):
        return types.SimpleNamespace(a=again(value.a))
    return Point(again(value.a), again(value.b)) if isinstance(value, Point) else value


@given(trees, trees)
def test_encodings_are_equal_exactly_if_values_are(a, b):
    assert (encode(a) == encode(b)) == (form(a) == form(b))
    assert encode(a) == encode(again(a))


@given(trees)
def test_a_value_is_not_what_surrounds_it(a):
    around = [a, [a], (a,), {"a": a}, types.SimpleNamespace(a=a), Pair(a, a), Point(a, a), repr(a), encode(a)]
    assert len({encode(value) for value in around}) == len(around)
