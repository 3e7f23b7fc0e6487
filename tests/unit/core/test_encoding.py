import datetime as dt
import json
import math
import pathlib
import uuid
import zoneinfo
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ids import named

from exp_pool import register_type
from exp_pool.core.values import encoding, registered_types
from exp_pool.core.values.encoding import dumps, loads
from exp_pool.errors import ConfigurationError, DecodingError, EncodingError


def same(a, b):
    """Equal in value and type, at every depth."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a.items(), b.items(), strict=True))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        both_nan = a != a and b != b  # one value, whatever its sign bit
        return both_nan or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return a == b


ROUND_TRIPS = [
    None, True, 1, -0.0, float("nan"), float("-inf"), "text", "\0\x1a\ud800", "\ud83d\ude00", {"\ud83d\ude00": 1}, "日本", 10**5000, b"\xff", bytearray(b"x"), (1, (2,)), [()], {1, 2}, frozenset("ab"), {1: "a", (1,): 2},
    1 + 2j, Decimal("1.00"), Decimal("NaN").copy_abs() and Decimal("-0"), Fraction(1, 3), uuid.UUID(int=7), dt.date(2024, 2, 29), dt.datetime(1, 1, 1), dt.datetime(2024, 1, 1, 1, fold=1),
    dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.time(1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(hours=1), "x")),
    dt.timedelta(-1, 5, 7), dt.timezone(dt.timedelta(minutes=5)), range(1, 9, 2), slice(None, 3), pathlib.Path("/a"), pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("c:\\a"),
    {"$exp:tuple": [1]}, {"$exp:": 1, "b": 2}, [{"$exp:dict": {"$exp:set": []}}], {"a": {"$exp:int": "ff"}}, {"": 0},
]  # fmt: skip


@pytest.mark.parametrize("value", ROUND_TRIPS, ids=named)
def test_what_goes_in_comes_out(value):
    back = loads(dumps(value))
    assert same(back, value)
    if isinstance(value, dt.datetime | dt.time):
        assert (back.fold, back.tzname()) == (value.fold, value.tzname())


atoms = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)) | st.binary() | st.decimals(allow_nan=False) | st.fractions() | st.dates() | st.times() | st.timedeltas() | st.uuids() | st.complex_numbers(allow_nan=False)  # fmt: skip
names = st.text() | st.sampled_from(["$exp:tuple", "$exp:dict", "$exp:"]) | st.integers() | st.tuples(st.text())
values = st.recursive(
    atoms,
    lambda v: st.lists(v) | st.tuples(v, v) | st.dictionaries(names, v) | st.frozensets(st.integers() | st.text()),
    max_leaves=15,
)


@given(values)
def test_everything_listed_nested_comes_back_the_same(value):
    text = dumps(value)
    back = loads(text)
    assert same(back, value)
    text.encode()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text().filter(lambda k: not k.startswith("$exp:")), v),
    )
)
def test_plain_json_stands_for_itself(value):
    if "\\ud" not in json.dumps(value):
        assert json.loads(dumps(value)) == value


class Text(str):
    pass


@pytest.mark.parametrize(
    "value",
    [object(), Text("x"), int, len, [object()], {"a": {1: object()}}, (i for i in ()), True.__class__],
    ids=named,
)
def test_what_could_not_be_restored_is_refused(value):
    with pytest.raises(EncodingError, match="could not be restored"):
        dumps(value)


def test_cycles_and_depth_are_refused():
    cycle = {}
    cycle["a"] = [cycle]
    deep = ()
    for _ in range(10_000):
        deep = (deep,)
    for value in (cycle, deep):
        with pytest.raises(EncodingError, match="nested deeper than 200"):
            dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "[" * 100_000,
        '{"$exp:what": 1}',
        '{"$exp:date": "soon"}',
        '{"$exp:set": [[]]}',
        '{"$exp:bytes": "?"}',
        '{"$exp:zone": "../x"}',
        '{"$exp:fraction": "1e999999999"}',
        '{"$exp:tuple":[' * 500 + "]}" * 500,
        '{"$exp:tuple":' * 100_000,
    ],
)
def test_what_cannot_be_read_is_a_typed_error(text):
    with pytest.raises(DecodingError):
        loads(text)


# ── Numpy ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


ARRAYS = [
    np.arange(6, dtype=">i4").reshape(2, 3), np.array(1.5), np.zeros((0, 3)), np.array([True, False]), np.array(["a", "日本"]), np.array([b"a\0b"]), np.array(["2024-01-01", "NaT"], dtype="M8[ns]"),
    np.array([np.nan, -0.0, np.inf], dtype="f2"), np.array([1 + 2j], dtype="c8"), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(10)[::3], np.array([1, 2], dtype=np.longlong),
    np.array([(1, 2.5, [b"x", b"y"])], dtype=[("a", "<i4"), ("b", ">f8"), ("c", "S1", (2,))]), np.array([((1,),)], dtype=[("outer", [("inner", "i2")])]), np.array([b"ab"], dtype="V2"), np.zeros(1, dtype=[(("title", "a"), "i4")]),
    np.float64(1.5), np.float16("nan"), np.int8(-1), np.longlong(3), np.bool_(True), np.str_("é"), np.str_(""), np.bytes_(b"x"), np.datetime64("2024-01-01T00:00", "m"), np.timedelta64(5, "s"), np.complex64(1j),
]  # fmt: skip


@pytest.mark.parametrize("value", ARRAYS, ids=named)
def test_arrays_and_scalars_come_back(value):
    for nested in (value, [value], {"a": (value,)}):
        text = dumps(nested)
        assert dumps(loads(text)) == text
    back = loads(dumps(value))
    assert type(back) is type(value) and back.dtype == value.dtype and back.dtype.char == value.dtype.char
    assert back.shape == value.shape and back.tobytes() == value.tobytes()
    if isinstance(value, np.ndarray):
        assert back.flags.writeable and back.flags.owndata and back.flags.fnc == value.flags.fnc
        assert type(loads(dumps([value]))[0]) is np.ndarray, "a 0-d array is no scalar"


class Sub(np.ndarray):
    pass


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]),
        np.zeros(2).view(Sub),
        np.ma.array([1, 2], mask=[0, 1]),
        np.rec.array([(1,)], dtype=[("a", "i4")]),
        np.zeros(1, dtype=np.dtype("i4", metadata={"a": 1})),
        np.zeros(1, dtype=np.dtype([("a", "i1"), ("b", "i4")], align=True)),
        np.zeros(1, dtype="g"),
        np.zeros(1, dtype=[("a", "G")]),
        np.longdouble(1),
        np.str_("a\0"),
        np.ndarray((3,), "V0"),
        np.float64,
    ],
    ids=named,
)
def test_what_the_bytes_of_an_array_do_not_tell_is_refused(value):
    with pytest.raises(EncodingError, match="could not be restored"):
        dumps([value])


def test_memory_maps_are_refused(tmp_path):
    mapped = np.memmap(tmp_path / "m", dtype="i4", mode="w+", shape=(2,))
    with pytest.raises(EncodingError):
        dumps(mapped)


@pytest.mark.parametrize(
    "content",
    [
        '["|V0", [-1], ""]', '["<U0", [1099511627776], ""]', '["|O", [1], "AAAAAAAAAAA="]', '["<f8", [2], "AAAAAAAAAAA="]', '["<f8", [true], "AAAAAAAAAAA="]', '["<f8", {}, "AAAAAAAAAAA="]', '["<f8", [1.0], "AAAAAAAAAAA="]',
        '["f8", [1], "AAAAAAAAAAA="]', '["float64", [1], "AAAAAAAAAAA="]', '["i4,i4", [1], "AAAAAAAAAAA="]', '["<f8", [1], "AAAAAAAAAAA=", "G"]', '["<f8", [1], "AAAAAAAAAAA=", "F"]', '["(9,)<f8", [1], ""]', '[", ((", [1], ""]', '[[["a"]], [1], ""]',
        '[[["a", "|O"]], [1], "AAAAAAAAAAA="]', '["<f8", [1], "?"]', '["<f8", [1]]', "[]", "{}", "null", "3", '"<f8"', '[null, [1], "AAAAAAAAAAA="]', '[{"names": ["a"], "formats": ["O"]}, [1], "AAAAAAAAAAA="]', '["<f8", [' + "1," * 99 + '1], "AAAAAAAAAAA="]',
    ],
)  # fmt: skip
@pytest.mark.parametrize("tag", ["array", "scalar"])
def test_hostile_arrays_are_typed_errors(content, tag):
    if content == '["<f8", [1], "AAAAAAAAAAA=", "F"]' and tag == "array":
        return  # a Fortran-ordered array of one dimension is an array like any other
    with pytest.raises(DecodingError):
        loads(f'{{"$exp:{tag}": {content}}}')


# ── Types of one's own ────────────────────────────────────────────────────────────────────────────────────────────────


class Money:
    def __init__(self, amount, currency="EUR"):
        self.amount, self.currency = amount, currency

    def __eq__(self, other):
        return (self.amount, self.currency) == (other.amount, other.currency)

    def __hash__(self):
        return hash((self.amount, self.currency))


class Discount(Money):
    pass


class Bag:
    def __init__(self, *things):
        self.things = things


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(registered_types, "REGISTERED", {})


def register_money(**options):
    register_type(Money, lambda m: [m.amount, m.currency], lambda c: Money(*c), **options)


def test_a_registered_type_comes_back(registry):
    register_money()
    register_type(Bag, lambda bag: bag.things, lambda things: Bag(*things), name="bag")
    assert dumps(Money(Decimal(1))) == f'{{"$exp:type":["{__name__}.Money",[{{"$exp:decimal":"1"}},"EUR"]]}}'
    for value in (Money(1), [Money(1)], {"a": (Money(Decimal(2)),)}, {Money(1): {Money(2)}}, {"$exp:type": Money(3)}):
        assert loads(dumps(value)) == value
    bag = loads(dumps(Bag(Money(1), Bag(2))))
    assert bag.things[0] == Money(1) and bag.things[1].things == (2,)


def test_a_subclass_is_another_type(registry):
    register_money()
    with pytest.raises(EncodingError, match=r"Discount could not be restored.*register_type.*\(at \['a'\]\[0\]\)"):
        dumps({"a": [Discount(1)]})
    register_type(Discount, lambda m: m.amount, Discount)
    assert type(loads(dumps([Discount(1), Money(1)]))[0]) is Discount


def test_a_type_that_nobody_registered_cannot_be_read(registry, monkeypatch):
    register_money()
    text = dumps([Money(1)])
    monkeypatch.setattr(registered_types, "REGISTERED", {})
    with pytest.raises(DecodingError, match=r"Money', which this process has not registered: call .*register_type"):
        loads(text)


@pytest.mark.parametrize("content", ["[]", "{}", "null", '"x"', '["os.system"]', '["os.system", "touch x"]', '[["a"], 1]', '[{"$exp:type": 1}, 1]'])  # fmt: skip
@pytest.mark.parametrize("tag", ["type", "sdk"])
def test_hostile_types_are_typed_errors(registry, content, tag):
    register_money()
    with pytest.raises(DecodingError):
        loads(f'{{"$exp:{tag}": {content}}}')


def test_registering_again_replaces(registry):
    def cell():
        class Cell:
            def __init__(self, x):
                self.x = x

        return Cell

    first, second = cell(), cell()
    register_type(first, lambda v: v.x, first)
    register_type(first, lambda v: v.x, first, name="cell")
    text = dumps(first(1))
    assert "cell" in text
    register_type(second, lambda v: v.x, second, name="cell")
    assert type(loads(text)) is second
    with pytest.raises(EncodingError):
        dumps(first(1))


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((3, str, str), {}, "3.*takes a class"),
        ((dict[str, int], str, str), {}, "takes a class"),
        ((dict, str, str), {}, "dict is known already"),
        ((Decimal, str, str), {}, "Decimal is known already"),
        ((Bag, 1, str), {}, "encode=1 cannot be called"),
        ((Bag, str, None), {}, "decode=None cannot be called"),
        ((Bag, str, str), {"name": ""}, "name='' must be text"),
        ((Bag, str, str), {"name": 5}, "name=5 must be text"),
        ((Bag, str, str), {"name": "money"}, "name='money' belongs to .*Money; choose another"),
    ],
)
def test_what_cannot_be_registered_says_so(registry, arguments, options, says):
    register_money(name="money")
    with pytest.raises(ConfigurationError, match=says):
        register_type(*arguments, **options)


def fails(*_):
    raise KeyboardError("no")


class KeyboardError(Exception):
    pass


def test_whatever_their_functions_raise_is_a_typed_error(registry):
    register_type(Bag, fails, fails)
    with pytest.raises(EncodingError, match=r"encode registered for .*Bag' raised KeyboardError: no \(at \[0\]\)"):
        dumps([Bag()])
    with pytest.raises(DecodingError, match=r"decode registered for .*Bag' raised KeyboardError: no"):
        loads(f'{{"$exp:type": ["{__name__}.Bag", 1]}}')
    register_type(Bag, lambda b: 1, lambda c: 2)
    with pytest.raises(DecodingError, match="gave a int"):
        loads(dumps(Bag()))
    register_type(Bag, lambda b: b, lambda c: c)  # says that a bag is made of itself
    with pytest.raises(EncodingError, match="nested deeper"):
        dumps(Bag())
    register_type(Bag, lambda b: object(), lambda c: c)
    with pytest.raises(EncodingError, match="builtins.object could not be restored"):
        dumps([Bag()])


# ── Where it stands, and what nobody can change ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, (object(),)]}, "['a'][1][0]"),
        ({1: {object()}}, "[1]"),
        ([{object(): 1}], "[0]a key"),
        ([[Fraction(10**5000)]], "[0][0]"),
        (object(), ""),
    ],
)
def test_the_refusal_says_where(value, where):
    with pytest.raises(EncodingError) as caught:
        dumps(value)
    assert str(caught.value).endswith(f"(at {where})" if where else "return annotation of its function")
    assert type(caught.value) is EncodingError


@pytest.mark.parametrize("zone", ["Europe", "", "x" * 5000, "a\0b", ".", "../x"])
def test_zones_that_are_none_are_typed_errors(zone):
    with pytest.raises(DecodingError):
        loads(json.dumps({"$exp:zone": zone}))


class MyZone(dt.tzinfo):
    pass


def test_immutable():
    tz = zoneinfo.ZoneInfo("Europe/Berlin")
    for value in (None, True, 1, 1.5, 1j, "a", b"a", range(3), Decimal(1), Fraction(1), uuid.UUID(int=1), dt.date(1, 1, 1), dt.datetime(1, 1, 1, tzinfo=tz), dt.time(1), dt.timedelta(1), dt.UTC, pathlib.PurePosixPath("a"), (), (1, ("a", frozenset([2])))):  # fmt: skip
        assert encoding.immutable(value), value
    deep = ()
    for _ in range(100_000):
        deep = (deep,)
    for value in ([], {}, set(), bytearray(), ([],), (1, (2, [3])), Text("x"), slice(1), np.float64(1), np.zeros(1), Money(1), object(), deep, dt.datetime(1, 1, 1, tzinfo=MyZone())):  # fmt: skip
        assert not encoding.immutable(value)


tag_names = st.sampled_from(sorted(encoding._READERS) + ["", "what"]).map("$exp:".__add__)
stored = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.sampled_from(["", "a", "<f8", "AAAAAAAAAAA=", "1/2", "2024-01-01", "UTC", f"{__name__}.Money", "openai.types.Model"]),
    lambda v: st.lists(v, max_size=4) | st.dictionaries(tag_names | st.just("a"), v, max_size=2),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=500)
@given(stored)
def test_whatever_is_stored_gives_a_value_or_a_typed_error(plain):
    try:
        value = loads(json.dumps(plain, allow_nan=True))
    except DecodingError:
        return
    try:
        dumps(value)
    except EncodingError:
        pass


def test_a_row_of_random_characters_in_a_tag_gives_a_value_or_a_typed_error():
    import random

    chance = random.Random(7)
    for name in encoding._READERS:
        for _ in range(200):
            text = "".join(chance.choices('0123456789abcdef/<>|fiUVSOM8,()[]{}:-+.eT "', k=chance.randrange(12)))
            for content in (text, [text], [text, [1], "AAAAAAAA"]):
                try:
                    loads(json.dumps({f"$exp:{name}": content}))
                except DecodingError:
                    pass
