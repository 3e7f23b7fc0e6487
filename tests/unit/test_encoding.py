import datetime as dt
import json
import math
import pathlib
import uuid
import zoneinfo
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exp_pool.encoding import dumps, loads
from exp_pool.errors import DecodingError, EncodingError


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


@pytest.mark.parametrize("value", ROUND_TRIPS, ids=lambda v: repr(v)[:40] if type(v) is not int else "int")
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
    ids=repr,
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
    ],
)
def test_what_cannot_be_read_is_a_typed_error(text):
    with pytest.raises(DecodingError):
        loads(text)
