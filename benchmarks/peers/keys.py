"""Keys: different calls never share an answer, and one call has one, however it is written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from peers.bench import Arguments, Lab, case, of, ran, said
from peers.things import Feet, Metres, Mode, Plain, Unspeakable, Word


def asked(first: Any, second: Any = None) -> str:
    """Answers with what it was asked."""
    return said(first, second)


def array_of(array: np.ndarray) -> str:
    """Answers with all that an array is."""
    ran()
    return f"{array.dtype} {array.shape} {array.tobytes().hex()}"


def digits_of(number: int) -> str:
    """Answers with a number that may be too long to print."""
    ran()
    return hex(number)


def state_of(thing: Any) -> str:
    """Answers with what an object holds."""
    ran()
    return f"{thing.state}"


def sorted_of(values: Any) -> str:
    """Answers with what is in a set or dict, whatever its order."""
    return said(sorted(values))


def total(numbers: Any) -> int:
    """Answers with a sum; uses up what it is given."""
    ran()
    return sum(numbers)


def result_of(function: Callable[[], Any]) -> Any:
    """Answers with what another function gives."""
    ran()
    return function()


_UTC_TIME = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)
_PARIS = dt.timezone(dt.timedelta(hours=1))
_LONG = 5000  # an array of so many numbers is printed with dots in the middle
_COLLIDING = (0, 8, 16)  # in a small set they collide, so that they are shown in the order of insertion
_SEQUENCE = list(range(_LONG))

# Calls that must not share an answer.
_DIFFERENT: dict[str, tuple[Callable[..., Any], tuple[Arguments, ...]]] = {
    "a colon in the text": (asked, (lambda: of("1:b:2", "3"), lambda: of("1", "2:b:3"))),
    "a colon and the parameter's name": (asked, (lambda: of("1:second:2", "3"), lambda: of("1", "2:second:3"))),
    "a space in the text": (asked, (lambda: of("a b", "c"), lambda: of("a", "b c"))),
    "a quote and a comma in the text": (asked, (lambda: of("a', 'b", "c"), lambda: of("a", "b', 'c"))),
    "1, '1', True and 1.0": (asked, (lambda: of(1), lambda: of("1"), lambda: of(True), lambda: of(1.0))),
    "None and ''": (asked, (lambda: of(None), lambda: of(""))),
    "None and 'None'": (asked, (lambda: of(None), lambda: of("None"))),
    "b'a' and 'a'": (asked, (lambda: of(b"a"), lambda: of("a"))),
    "bytes and what prints them": (asked, (lambda: of(b"a"), lambda: of("b'a'"))),
    "bytes and a bytearray": (asked, (lambda: of(b"a"), lambda: of(bytearray(b"a")))),
    "a tuple and a list": (asked, (lambda: of((1, 2)), lambda: of([1, 2]))),
    "a set and a frozenset": (asked, (lambda: of({1}), lambda: of(frozenset({1})))),
    "{1: 2} and {'1': 2}": (asked, (lambda: of({1: 2}), lambda: of({"1": 2}))),
    "[[1], 2] and [[1, 2]]": (asked, (lambda: of([[1], 2]), lambda: of([[1, 2]]))),
    "['a:b'] and ['a', 'b']": (asked, (lambda: of(["a:b"]), lambda: of(["a", "b"]))),
    "[None] and ['']": (asked, (lambda: of([None]), lambda: of([""]))),
    "a dict and its items": (asked, (lambda: of({"a": 1}), lambda: of(["a", 1]), lambda: of([("a", 1)]))),
    "True inside a tuple": (asked, (lambda: of((1, 2)), lambda: of((True, 2)))),
    "True inside a list": (asked, (lambda: of([1, 2]), lambda: of([True, 2]))),
    "-0.0 and 0.0": (asked, (lambda: of(0.0), lambda: of(-0.0))),
    "2**64 and 2**64 + 1": (asked, (lambda: of(2**64), lambda: of(2**64 + 1))),
    "integers of 5000 digits": (digits_of, (lambda: of(10**5000), lambda: of(10**5000 + 1))),
    "lone surrogates": (asked, (lambda: of("\ud800"), lambda: of("\ud801"))),
    "a NUL in the text": (asked, (lambda: of("a\0b"), lambda: of("a"), lambda: of("a\0c"))),
    "naive and aware times": (
        asked,
        (lambda: of(_UTC_TIME.replace(tzinfo=None)), lambda: of(_UTC_TIME)),
    ),
    "one instant in two zones": (
        asked,
        (
            lambda: of(_UTC_TIME),
            lambda: of(_UTC_TIME.astimezone(_PARIS)),
        ),
    ),
    "a path and its text": (asked, (lambda: of(Path("a/b")), lambda: of("a/b"))),
    "an enum member and its value": (asked, (lambda: of(Mode.FAST), lambda: of("fast"), lambda: of("Mode.FAST"))),
    "a text enum member and its text": (asked, (lambda: of(Word.FAST), lambda: of("fast"))),
    "dataclasses with equal fields": (asked, (lambda: of(Metres(1)), lambda: of(Feet(1)))),
    "a dataclass and what prints it": (asked, (lambda: of(Metres(1)), lambda: of("Metres(amount=1)"))),
    "a class and what prints it": (asked, (lambda: of(int), lambda: of("<class 'int'>"))),
    "arrays with equal bytes, another dtype": (
        array_of,
        (lambda: of(np.arange(4, dtype=np.int32)), lambda: of(np.arange(4, dtype=np.int32).view(np.float32))),
    ),
    "arrays with equal bytes, another shape": (
        array_of,
        (lambda: of(np.arange(4)), lambda: of(np.arange(4).reshape(2, 2))),
    ),
    "long arrays that differ in the middle": (
        array_of,
        (lambda: of(np.array(_SEQUENCE)), lambda: of(np.array([*_SEQUENCE[:2500], -1, *_SEQUENCE[2501:]]))),
    ),
}

# Ways to write one call.
_ONE: dict[str, tuple[Callable[..., Any], tuple[Arguments, ...]]] = {
    "by position and by name": (asked, (lambda: of(1, 2), lambda: of(1, second=2), lambda: of(first=1, second=2))),
    "a default given and omitted": (asked, (lambda: of(1), lambda: of(1, None), lambda: of(1, second=None))),
    "keywords in another order": (asked, (lambda: of(first=1, second=2), lambda: of(second=2, first=1))),
    "a dict in another order": (
        sorted_of,
        (lambda: of({"a": 1, "b": 2}), lambda: of({"b": 2, "a": 1})),
    ),
    "a set in another order": (
        sorted_of,
        (lambda: of({*_COLLIDING}), lambda: of({*_COLLIDING[::-1]})),
    ),
    "NaN again": (asked, (lambda: of(float("nan")), lambda: of(float("nan")))),
    "an equal list again": (asked, (lambda: of([1, [2, "x"]]), lambda: of([1, [2, "x"]]))),
    "an equal dict again": (asked, (lambda: of({"a": [1]}), lambda: of({"a": [1]}))),
    "an equal array again": (array_of, (lambda: of(np.arange(3)), lambda: of(np.arange(3)))),
    "an equal dataclass again": (asked, (lambda: of(Metres(1)), lambda: of(Metres(1)))),
}


def _enter(way: str, name: str, function: Callable[..., Any], calls: tuple[Arguments, ...]) -> None:
    @case("keys", name)
    async def _(lab: Lab) -> None:
        await getattr(lab, way)(function, *calls)


for _name, (_function, _calls) in _DIFFERENT.items():
    _enter("apart", _name, _function, _calls)
for _name, (_function, _calls) in _ONE.items():
    _enter("one", _name, _function, _calls)


@case("keys", "objects without identity, one after the other")
async def _(lab: Lab) -> None:
    # Each is gone before the next one comes, so that the next one may stand at the same address.
    f = lab.cached(state_of)
    for number in range(50):
        await lab.expect(f, f"{number}", Plain(number))


@case("keys", "an object that cannot be printed")
async def _(lab: Lab) -> None:
    await lab.shares_nothing(state_of, lambda: of(Unspeakable(1)), lambda: of(Unspeakable(2)))


@case("keys", "an argument that changes between the calls")
async def _(lab: Lab) -> None:
    f, thing = lab.cached(state_of), Plain(1)
    await lab.expect(f, "1", thing)
    thing.state = 2
    await lab.expect(f, "2", thing)


@case("keys", "a list that changes between the calls")
async def _(lab: Lab) -> None:
    f, numbers = lab.cached(total), [1, 2]
    await lab.expect(f, 3, numbers)
    numbers.append(3)
    await lab.expect(f, 6, numbers)
    await lab.expect(f, 3, [1, 2])
    lab.ran_at_most(2)


@case("keys", "iterators as arguments")
async def _(lab: Lab) -> None:
    f = lab.cached(total)
    for number in range(20):
        await lab.expect(f, 1 + number, (n for n in (1, number)))


@case("keys", "functions as arguments")
async def _(lab: Lab) -> None:
    def make(number: int) -> Callable[[], int]:
        return lambda: number

    f = lab.cached(result_of)
    for number in range(20):
        await lab.expect(f, number, make(number))
