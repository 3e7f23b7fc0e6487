"""Codecs: what they write, what they refuse and how they say it."""

import collections
import dataclasses
import datetime as dt
import enum
import functools
import json
import threading
import typing
import zoneinfo
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine, Generator, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import PureWindowsPath

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, PrivateAttr, SecretStr, computed_field
from support.ids import named

from exp_pool.core.codecs.typed import AnnotatedCodec, TypedCodec, codec_for
from exp_pool.core.values.codec_stamp import read_stamp
from exp_pool.core.values.deep_equal import difference
from exp_pool.core.values.encoding import dumps, loads
from exp_pool.errors import ConfigurationError, DecodingError, EncodingError


class Mode(enum.Enum):
    FAST = 1
    SLOW = "slow"


@dataclasses.dataclass
class Item:
    price: float
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Order:
    items: list[Item]
    mode: Mode = Mode.FAST


class SpecialItem(Item):
    pass


class Point(typing.NamedTuple):
    x: int
    y: float = 0.0


class Model(BaseModel):
    n: int
    more: dict[str, int] = {}


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int
    _secret: int = PrivateAttr(default=0)


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    n: int

    @computed_field
    @property
    def twice(self) -> int:
        return 2 * self.n


@dataclasses.dataclass
class Remembers:
    n: int

    @functools.cached_property
    def square(self):
        return self.n**2


def codec_named(name):
    """Without the shape that stands beside it."""
    return read_stamp(name).codec


def returning(annotation):
    def function(): ...

    function.__annotations__["return"] = annotation
    return function


def open_model(secret=0, **extra):
    model = Open(n=1, **extra)
    model._secret = secret
    return model


def with_attribute(value):
    value.undeclared = 1
    return value


remembering = Remembers(3)
assert remembering.square == 9


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Mode, Mode.SLOW),
        (dict[str, Mode], {"a": Mode.FAST}),
        (Order, Order([Item(1.5, ["a"])], Mode.SLOW)),
        (list[Item], [Item(1.0), Item(-0.0)]),
        (Point, Point(1, 2.0)),
        (tuple[Point, ...], (Point(1, 2.0),)),
        (Model, Model(n=1, more={"b": 1, "a": 2})),
        (Model | None, Model(n=1)),
        (Open, open_model(extra=[1.5, {"a": None}])),
        (Computed, Computed(n=2)),
        (Remembers, remembering),
        (Awaitable[Model], Model(n=1)),
        (Coroutine[typing.Any, typing.Any, Model], Model(n=1)),
    ],
    ids=named,
)
def test_what_the_annotation_names_comes_back(annotation, value):
    codec = codec_for(returning(annotation))
    text, name = codec.encode(value)
    assert codec_named(name) == "annotated"
    assert difference(value, codec.decode(text, name)) is None


@dataclasses.dataclass
class Anything:
    x: typing.Any


@dataclasses.dataclass
class Streams:
    items: list[Iterable[int]]


@dataclasses.dataclass
class Moment:
    at: dt.datetime


@pytest.mark.parametrize(
    ("annotation", "value", "says"),
    [
        (Order, Order([Item(1)]), r"at \.items\[0\]\.price: a value of type int comes back as one of type float"),
        (Order, Order([Item(True)]), r"\.items\[0\]\.price"),
        (Order, Order([SpecialItem(1.0)]), r"\.items\[0\]: a value of type .*SpecialItem comes back as .*Item"),
        (list[Item], (Item(1.0),), "tuple comes back as one of type list|by the return annotation"),
        (list[Item], [Item(float("nan"))], "cannot be written"),
        (Anything, Anything((1, 2)), r"\.x: .*tuple"),
        (Anything, Anything({1: 2}), r"\.x: "),
        (Anything, Anything(Mode.FAST), r"\.x: .*Mode"),
        (Anything, Anything(np.float64(1.5)), r"annotation"),
        (Anything, Anything(b"x"), r"\.x: .*bytes"),
        (Item, with_attribute(Item(1.0)), r"\.undeclared"),
        (Open, open_model(secret=1), r"\._secret"),
        (Open, open_model(extra=(1,)), r"\.extra: .*tuple"),
        (Point, Point(1, 2), r"\.y: .*int"),
        (Moment, Moment(dt.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))), r"\.at"),
        (SecretStr, SecretStr("x"), "comes back"),
        (Model, Item(1.0), "annotation"),
    ],
    ids=named,
)
def test_what_the_annotation_would_change_is_refused_and_says_where(annotation, value, says):
    with pytest.raises(EncodingError, match=says):
        codec_for(returning(annotation)).encode(value)


def test_an_iterator_inside_is_not_used_up():
    numbers = iter([1, 2, 3])
    with pytest.raises(EncodingError, match=r"only once \(at \.items\[0\]\)"):
        codec_for(returning(Streams)).encode(Streams([numbers]))
    with pytest.raises(EncodingError, match="only once"):
        codec_for(returning(list[Item])).encode(numbers)
    assert list(numbers) == [1, 2, 3]


def test_a_fixed_offset_is_what_counts_not_its_class():
    codec = codec_for(returning(Moment))
    for zone in (dt.UTC, dt.timezone(dt.timedelta(hours=2)), None):
        value = Moment(dt.datetime(2024, 1, 1, tzinfo=zone))
        assert codec.decode(*codec.encode(value)) == value
    with pytest.raises(EncodingError):
        codec.encode(Moment(dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1), "CET"))))


def test_what_stands_in_annotated_is_used_where_the_type_alone_is_unknown():
    class Celsius:
        def __init__(self, degrees):
            self.degrees = degrees

    annotation = typing.Annotated[Celsius, PlainValidator(Celsius), PlainSerializer(lambda c: c.degrees)]
    codec = codec_for(returning(annotation))
    assert codec.decode(*codec.encode(Celsius(3))).degrees == 3


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (1, True, "int comes back as one of type bool"),
        (0.0, -0.0, "another"),
        (complex(1, 0.0), complex(1, -0.0), "another"),
        (Decimal("1.0"), Decimal("1.00"), "another"),
        ([1, [2]], [1, [2.0]], r"at \[1\]\[0\]"),
        ({"a": 1}, {"a": 1, "b": 2}, "1 items come back as 2"),
        ({1: "x"}, {True: "x"}, "int"),
        ({1, 2}, {1, 3}, "2 does not come back"),
        ({1}, {True}, "int"),
        (collections.deque([1], 3), collections.deque([1], 4), "length"),
        (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), "order"),
        (collections.defaultdict(list), collections.defaultdict(dict), "default_factory"),
        (slice(1), slice(True), "another"),
        (range(0), range(5, 5), "another"),
        (PureWindowsPath("A"), PureWindowsPath("a"), "another"),
        (dt.timezone(dt.timedelta(0), "a"), dt.timezone(dt.timedelta(0), "b"), "another"),
        (np.zeros(2), np.zeros((2, 1)), "another"),
        (np.array([1]), np.array([2]), "another"),
        (np.array([0.0]), np.array([-0.0]), "another"),
        (np.float64(1), np.float64(2), "another"),
        (Mode.FAST, Mode.SLOW, "another"),
        (remembering, Remembers(4), r"at \.n"),
        (with_attribute(Item(1.0)), Item(1.0), r"at \.undeclared"),
        (dt.time(1, fold=1), dt.time(1), "another"),
        (dt.datetime(1, 1, 1), dt.datetime(1, 1, 1, tzinfo=dt.UTC), "another"),
    ],
    ids=named,
)
def test_differences_are_found_and_said(a, b, says):
    import re

    assert re.search(says, difference(a, b))
    assert difference(b, a) is not None


def test_what_is_the_same():
    nan = float("nan")
    for a, b in (
        (nan, -nan),
        ([nan], [float("nan")]),
        ({nan}, {float("nan")}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.array([nan]), np.array([nan])),
        (remembering, Remembers(3)),
        (collections.defaultdict(list, a=[1]), collections.defaultdict(list, a=[1])),
        (Decimal("NaN"), Decimal("NaN")),
    ):
        assert difference(a, b) is None
    deep, other = [], []
    for _ in range(100_000):
        deep, other = [deep], [other]
    assert "nested" in difference(deep, other)


# ── A codec of the user's own ─────────────────────────────────────────────────────────────────────────────────────────


class Celsius:
    def __init__(self, degrees):
        self.degrees = degrees


class CelsiusCodec:
    name = "celsius"

    def encode(self, value):
        return json.dumps({"c": value.degrees})

    def decode(self, text):
        return Celsius(json.loads(text)["c"])


def test_a_codec_of_ones_own_is_used_alone():
    codec = codec_for(returning(int), CelsiusCodec())
    text, name = codec.encode(Celsius(3))
    assert (text, name) == ('{"c": 3}', "celsius")
    assert codec.decode(text, name).degrees == 3
    with pytest.raises(DecodingError, match="does not have"):
        codec.decode("1", "json")
    with pytest.raises(EncodingError, match="'celsius' raised AttributeError"):
        codec.encode(1)
    with pytest.raises(DecodingError, match="'celsius' raised KeyError"):
        codec.decode("{}", name)


def broken(encode=None, decode=None, name="mine"):
    own = CelsiusCodec()
    own.name = name
    own.encode = encode or own.encode
    own.decode = decode or own.decode
    return own


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (broken(encode=lambda v: b"1"), "gave a bytes"),
        (broken(encode=lambda v: "{"), "not JSON"),
        (broken(encode=lambda v: "NaN"), "not JSON"),
        (broken(encode=lambda v: '"\ud800"'), "not JSON"),
        (broken(encode=lambda v: "[" * 100_000), "not JSON"),
        (broken(encode=lambda v: 1 / 0), "ZeroDivisionError"),
        (broken(decode=lambda t: 1 / 0), "cannot read its own text.*ZeroDivisionError"),
        (broken(decode=lambda t: Celsius(3.0)), r"at \.degrees: a value of type int"),
        (broken(decode=lambda t: 3), "Celsius"),
        (broken(encode=lambda v, n=iter(range(99)): str(next(n)), decode=lambda t: Celsius(3)), "second time"),
    ],
)
def test_a_codec_that_does_not_keep_its_word_stores_nothing(own, says):
    with pytest.raises(EncodingError, match=says) as caught:
        codec_for(returning(int), own).encode(Celsius(3))
    assert "'mine'" in str(caught.value)


@pytest.mark.parametrize(
    ("own", "says"),
    [
        (CelsiusCodec, "is a class"),
        (broken(name=""), "needs a name"),
        (broken(name=3), "needs a name"),
        (broken(name="json"), "choose another name"),
        (broken(name="annotated"), "choose another name"),
        (collections.namedtuple("Half", "name encode")("half", len), "needs encode"),
        (7, "needs a name"),
    ],
)
def test_what_is_no_codec_is_a_wrong_configuration(own, says):
    with pytest.raises(ConfigurationError, match=says):
        codec_for(returning(int), own)


# ── Items of streams and batches ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "annotation",
    [
        Iterator[Item],
        Iterable[Item],
        Generator[Item, None, None],
        AsyncIterator[Item],
        AsyncGenerator[Item, None],
        list[Item],
        Sequence[Item],
        tuple[Item, ...],
        Awaitable[list[Item]],
        typing.Iterator[Item],
        typing.Annotated[Iterator[Item], "streamed"],
    ],
    ids=named,
)
def test_the_codec_of_one_item(annotation):
    codec = codec_for(returning(annotation), items=True)
    parts = [codec.encode(item) for item in (Item(1.0), Item(2.0))]
    text, name = codec.join(parts)
    assert (text, codec_named(name)) == ('[{"price":1.0,"tags":[]},{"price":2.0,"tags":[]}]', "annotated")
    assert codec.decode_items(text, name) == [Item(1.0), Item(2.0)]


@pytest.mark.parametrize("annotation", [list, Iterator, tuple[Item, int], dict[str, Item], Item, None], ids=named)
def test_what_does_not_say_its_item_is_typed(annotation):
    codec = codec_for(returning(annotation), items=True)
    assert codec.encode(1) == ("1", "json")
    with pytest.raises(EncodingError):
        codec.encode(Item(1.0))


@pytest.mark.parametrize(
    "items", [[], [""], ["a", None, 0], [(1, 2), {"$exp:tuple": [1]}, b"x"], [[1], [[]]]], ids=named
)
def test_a_stored_stream_reads_as_a_plain_list(items):
    codec = codec_for(returning(None), items=True)
    text, name = codec.join([codec.encode(item) for item in items])
    assert (text, name) == (dumps(items), "json")
    assert codec.decode_items(text, name) == loads(text) == items


def test_items_by_different_codecs_are_written_by_one():
    codec = codec_for(returning(Iterator[Item | str]), items=True)
    parts = [codec.encode("a"), codec.encode(Item(1.0))]
    assert [codec_named(name) for _, name in parts] == ["json", "annotated"]
    text, name = codec.join(parts)
    assert (text, codec_named(name)) == ('["a",{"price":1.0,"tags":[]}]', "annotated")
    assert codec.decode_items(text, name) == ["a", Item(1.0)]
    codec = codec_for(returning(Iterator[Item]), items=True)
    with pytest.raises(EncodingError, match="no codec can write all 2 items"):
        codec.join([codec.encode((1,)), codec.encode(Item(1.0))])
    with pytest.raises(EncodingError, match="cannot be read back"):
        codec.join([("{", "json"), codec.encode(Item(1.0))])


def test_lists_that_people_give_are_read_as_items():
    codec = codec_for(returning(Iterator[Item]), items=True)
    assert codec.decode_items(dumps((1, (2,))), "json") == [1, (2,)]
    assert codec.decode_items(' [ {"price": 1.0} ,\n{"price":2.0, "tags":["]"]} ] ', "annotated") == [
        Item(1.0),
        Item(2.0, ["]"]),
    ]
    assert codec.decode_items("[]", "annotated") == codec.decode_items(" [ ] ", "annotated") == []
    own = codec_for(returning(None), broken(decode=lambda text: text), items=True)
    assert own.decode_items('[1.0e5, "\\u00e9" ,{"a" : [2]}]', "mine") == ["1.0e5", '"\\u00e9"', '{"a" : [2]}']


@pytest.mark.parametrize(
    "text", ["", "{}", "1", "[", "[1", "[1 2]", "[1,]", "[,1]", "[1]]", '["a', "[NaN]", "[" * 10**5]
)
@pytest.mark.parametrize("name", ["json", "annotated", "nobody's"])
def test_what_is_no_list_of_items_cannot_be_read(text, name):
    with pytest.raises(DecodingError):
        codec_for(returning(Iterator[int | Item]), items=True).decode_items(text, name)


# ── Which annotation counts ───────────────────────────────────────────────────────────────────────────────────────────


def test_names_local_to_a_function_are_found_where_they_are_given():
    @dataclasses.dataclass
    class Local:
        x: int

    def function() -> "list[Local]": ...

    with pytest.raises(EncodingError):
        codec_for(function).encode([Local(1)])
    codec = codec_for(function, localns={"Local": Local})
    assert codec.decode(*codec.encode([Local(1)])) == [Local(1)]


def test_a_parameter_that_cannot_be_evaluated_does_not_matter():
    def function(x: "OnlyForTypeCheckers") -> "Item": ...  # noqa: F821

    @functools.wraps(function)
    def wrapper(*args): ...

    for f in (function, wrapper, staticmethod(function)):
        assert codec_named(codec_for(f).encode(Item(1.0))[1]) == "annotated"


async def coroutine() -> Item: ...


def test_a_coroutine_function_names_what_it_awaits():
    assert codec_named(codec_for(coroutine).encode(Item(1.0))[1]) == "annotated"


def test_the_check_is_made_by_every_codec(monkeypatch):
    from exp_pool.core.codecs import typed

    monkeypatch.setattr(typed, "loads", lambda text: [1.0])
    with pytest.raises(EncodingError, match=r"list comes back different: at \[0\]: a value of type int"):
        TypedCodec().encode([1])
    assert TypedCodec().encode(1) == "1", "there is nothing in it that could differ"
    adapted = AnnotatedCodec(list[Item])
    monkeypatch.setattr(adapted, "decode", lambda text: [Item(2.0)])
    with pytest.raises(EncodingError, match=r"at \[0\]\.price"):
        adapted.encode([Item(1.0)])


def test_a_lock_is_refused_with_both_reasons():
    with pytest.raises(EncodingError, match=r"return annotation.*register_type"):
        codec_for(returning(Anything)).encode(Anything(threading.Lock()))


class Tagged(BaseModel):
    tags: set[int]
    order: list[int] = []


def test_sets_of_a_model_may_be_written_in_another_order_the_second_time():
    """Which order a set has depends on how it came to be, and of texts on the hash seed of the process."""
    tags = set(range(1000))
    for number in set(range(1000)) - {1, 8}:
        tags.discard(number)
    assert [*tags] == [1, 8]
    assert [*{1, 8}] == [8, 1], "or this shows nothing"
    codec, value = AnnotatedCodec(Tagged), Tagged(tags=set(), order=[8, 1])
    value.tags = tags
    assert codec.decode(codec.encode(value)) == value
