"""Guarantee 3: what comes back is what was returned, typed; what cannot be restored is not cached."""

import copy
import dataclasses
import datetime as dt
import enum
import subprocess
import sys
import typing
import uuid
import zoneinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from support.ids import named

from exp_pool import register_type
from exp_pool.core.codecs.typed import TypedCodec, codec_for
from exp_pool.core.values.deep_equal import difference
from exp_pool.core.values.encoding import immutable


class Colour(enum.Enum):
    RED = "red"


class Place(typing.NamedTuple):
    lat: float
    lon: float


@dataclasses.dataclass
class Leaf:
    name: str
    weight: float


class Tree(BaseModel):
    leaves: list[Leaf]
    colour: Colour = Colour.RED
    place: Place | None = None


class Money:
    """A class of a user's own, taught to the pool."""

    def __init__(self, amount, currency):
        self.amount, self.currency = amount, currency


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    from exp_pool.core.values import registered_types

    monkeypatch.setattr(registered_types, "REGISTERED", {})
    register_type(Money, lambda m: (m.amount, m.currency), lambda c: Money(*c))


def cached(manager, value, annotation=None):
    """A function that gives a fresh copy of the value, and how often it ran."""
    runs = []

    def f(req):
        runs.append(req)
        return copy.deepcopy(value)

    f.__annotations__["return"] = annotation
    return manager.exp_cache(exclude=["value"])(f), runs


VALUES = [
    None, True, 0, -1, 10**5000, 0.0, -0.0, float("nan"), float("inf"), "", "\ud800", b"\x00\xff", bytearray(b"x"), 1j, [], {}, (), set(), frozenset(),
    [1, [2.0, ("3", {4})]], {"a": {1: (None,)}}, {(1, 2): {"x"}}, {"$exp:tuple": [1]}, {"$exp:type": ["os.system", "x"]}, [{"$exp:sdk": ["openai.types.chat.ChatCompletion", {}, {}]}],
    Decimal("1.00"), Fraction(1, 3), uuid.UUID(int=1), range(3), slice(1, None), Path("a"), PurePosixPath("b"), dt.date(2024, 2, 29), dt.timedelta(1, 2, 3),
    dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), dt.datetime(1, 1, 1), dt.time(1, tzinfo=dt.UTC),
    np.arange(6, dtype=">i2").reshape(2, 3), {"v": np.float32(1.5)}, Money(Decimal("9.90"), "EUR"), {"paid": [Money(1, "USD")]},
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=named)
@pytest.mark.parametrize("store", ["memory://", "sqlite:///pool.db"])
def test_without_any_annotation(make_manager, value, store):
    f, runs = cached(make_manager(store=store), value)
    for _ in range(3):
        assert difference(value, f("x")) is None
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Colour, Colour.RED),
        (Place, Place(1.0, 2.0)),
        (Leaf, Leaf("a", 1.0)),
        (dict[str, list[Tree]], {"t": [Tree(leaves=[Leaf("b", 2.0)], place=Place(0.5, -0.5))]}),
        (Tree | None, Tree(leaves=[])),
    ],
    ids=named,
)
def test_what_the_return_annotation_names(make_manager, annotation, value):
    f, runs = cached(make_manager(), value, annotation)
    for _ in range(3):
        assert difference(value, f("x")) is None
    assert len(runs) == 1


class Hidden(Money):
    pass


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (None, object()),
        (None, Hidden(1, "EUR")),
        (None, [Leaf("a", 1.0)]),
        (None, Place(1.0, 2.0)),
        (None, np.ma.array([1, 2], mask=[0, 1])),
        (Leaf, Leaf("a", 1)),
        (Tree, Tree.model_construct(leaves=[Leaf("a", 1)], colour=Colour.RED, place=None)),
        (list[Leaf], [Leaf("a", float("nan"))]),
    ],
    ids=named,
)
def test_what_cannot_be_restored_is_not_cached(make_manager, annotation, value):
    f, runs = cached(make_manager(), value, annotation)
    for _ in range(3):
        assert type(f("x")) is type(value)
    assert len(runs) == 3


def test_a_registration_that_loses_something_stores_nothing(make_manager):
    register_type(Money, lambda m: m.amount, lambda amount: Money(amount, "EUR"))
    f, runs = cached(make_manager(), Money(1, "USD"))
    assert [f("x").currency for _ in range(2)] == ["USD", "USD"]
    assert len(runs) == 2


@pytest.mark.parametrize("value", [[1, [2]], {"a": {"b": [1]}}, {1, 2}, bytearray(b"xy"), np.zeros(3)], ids=named)
@pytest.mark.parametrize("store", ["memory://", "sqlite:///pool.db"])
def test_changing_what_came_back_changes_nothing_stored(make_manager, value, store):
    f, runs = cached(make_manager(store=store), value)
    for _ in range(3):
        got = f("x")
        assert difference(value, got) is None
        for thing in (got, *(got.values() if isinstance(got, dict) else ())):
            if isinstance(thing, np.ndarray):
                thing[:] = 7
            else:
                thing.clear()
    assert len(runs) == 1


class Node:
    def __init__(self, value):
        self.value = value


arrays = st.sampled_from(["<f8", ">i4", "|b1", "<U3", "<M8[s]", "<c8"]).flatmap(
    lambda dtype: st.tuples(st.integers(0, 3), st.integers(0, 3)).map(
        lambda shape: np.arange(shape[0] * shape[1]).astype("<i8").reshape(shape).astype(dtype)
    )
)
atoms = st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text(st.characters(codec=None)) | st.binary() | st.binary().map(bytearray) | st.decimals() | st.fractions() | st.uuids() | st.dates() | st.datetimes(timezones=st.none() | st.just(dt.UTC) | st.timezones()) | st.times(timezones=st.none() | st.just(dt.UTC)) | st.timedeltas() | st.builds(range, st.integers(-5, 5), st.integers(-5, 5)) | st.builds(slice, st.integers()) | st.builds(PurePosixPath, st.sampled_from(["a", "b/c"])) | arrays | st.builds(np.float32, st.floats(width=32)) | st.builds(np.int64, st.integers(-9, 9))  # fmt: skip
taglike = st.sampled_from(["tuple", "dict", "set", "type", "array", "scalar", "sdk", "text", "zone", ""]).map("$exp:".__add__)  # fmt: skip
hashable = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | taglike | st.dates() | st.decimals(allow_nan=False),
    lambda v: st.tuples(v, v) | st.frozensets(v, max_size=3),
    max_leaves=5,
)  # fmt: skip
values = st.recursive(
    atoms | taglike,
    lambda v: (
        st.lists(v, max_size=4)
        | st.tuples(v, v)
        | st.dictionaries(st.text() | taglike | hashable, v, max_size=4)
        | st.dictionaries(taglike, v, min_size=1, max_size=1)
        | st.frozensets(hashable, max_size=3)
        | st.sets(hashable, max_size=3)
        | v.map(Node)
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(values)
def test_everything_nested_comes_back_the_same(value):
    register_type(Node, lambda node: node.value, Node)
    codec = TypedCodec()
    text = codec.encode(value)
    text.encode()
    one, other = codec.decode(text), codec.decode(text)
    assert difference(value, one) is None
    assert codec.encode(one) == text
    if one is other:
        assert immutable(one), "only what nobody can change may be one object"


def test_a_tag_anywhere_in_user_data_is_data():
    codec = codec_for(test_a_tag_anywhere_in_user_data_is_data)
    for name in ("tuple", "type", "array", "scalar", "sdk", "int", "what"):
        tag = {f"$exp:{name}": [1, 2]}
        for value in (tag, [tag], (tag,), {"a": tag}, {"$exp:x": tag}, {1: tag}, Money(tag, [tag]), {**tag, "b": 1}):
            back = codec.decode(*codec.encode(value))
            assert difference(value, back) is None


def test_nothing_heavy_is_imported_for_it():
    script = (
        "import sys, exp_pool; from exp_pool import register_type; from exp_pool.core.values.encoding import dumps, loads\n"
        "loads(dumps([{1: (2,)}, b'x']))\n"
        "print([n for n in ('numpy', 'openai', 'anthropic', 'pydantic') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
