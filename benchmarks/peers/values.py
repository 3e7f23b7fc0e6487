"""Values: what comes back is what was returned, each time, whatever callers did with it."""

from __future__ import annotations

import datetime as dt
import decimal
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from peers.bench import RUNS, Lab, Wrong, case, ran
from peers.things import Boom, Draft, Farewell, Letter, Metres, Mode

# Name: what makes it. Functions take the name, so that nothing hangs on a closure.
_VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "0": lambda: 0,
    "''": str,
    "[]": list,
    "False": lambda: False,
    "{}": dict,
    "a tuple": lambda: (1, "a", (2, None)),
    "tuples in a list": lambda: [(1, 2), [(3,)]],
    "a set and a frozenset": lambda: ({1, 2}, frozenset({"a"})),
    "bytes": lambda: b"\x00\xff",
    "a time with its zone": lambda: dt.datetime(2024, 1, 1, 12, 30, tzinfo=dt.timezone(dt.timedelta(hours=5.5))),
    "a decimal": lambda: decimal.Decimal("1.10"),
    "a dict with integer keys": lambda: {1: "a", 2: {3: "b"}},
    "a dict with tuple keys": lambda: {(1, 2): "a"},
    "the order of a dict": lambda: {"z": 1, "a": 2, "m": 3},
    "NaN and infinity": lambda: [float("nan"), float("inf"), -0.0],
    "an integer of 5000 digits": lambda: 10**5000,
    "a lone surrogate": lambda: "\ud800",
    "a uuid and a path": lambda: (uuid.UUID(int=1), Path("a/b")),
    "an enum member": lambda: Mode.FAST,
    "an array": lambda: np.arange(6, dtype=np.int16).reshape(2, 3),
}


def give(name: str) -> Any:
    """The value of that name, made anew."""
    ran()
    return _VALUES[name]()


def give_enum(name: str) -> Mode:
    """A member, and the annotation says so."""
    ran()
    return Mode(name)


def give_dataclass(title: str) -> Draft:
    """A dataclass, and the annotation says so."""
    ran()
    return Draft(title, ["one", "two"])


def give_frozen(amount: int) -> list[Metres]:
    """Dataclasses in a list, and the annotation says so."""
    ran()
    return [Metres(amount), Metres(amount + 1)]


def give_model(to: str) -> Letter:
    """A model, and the annotation says so."""
    ran()
    return Letter(to=to, lines=["one", "two"])


def _enter_value(name: str, function: Callable[..., Any], argument: Any) -> None:
    @case("values", f"back comes {name}")
    async def _(lab: Lab) -> None:
        f, wanted = lab.cached(function), function(argument)
        RUNS.clear()
        for _ in range(3):
            await lab.expect(f, wanted, argument)
        lab.ran_at_most(1)


for _name in _VALUES:
    if _name != "an enum member":  # some libraries need the annotation for that one, so it gets it
        _enter_value(_name, give, _name)
_enter_value("an enum member", give_enum, "fast")
_enter_value("a dataclass", give_dataclass, "x")
_enter_value("a list of dataclasses", give_frozen, 1)
_enter_value("a model", give_model, "x")


def nested(title: str) -> dict[str, list[int]]:
    """Mutable all the way down."""
    ran()
    return {title: [1, 2]}


def _enter_change(name: str, function: Callable[..., Any], change: Callable[[Any], Any]) -> None:
    @case("values", name)
    async def _(lab: Lab) -> None:
        f, wanted = lab.cached(function), function("x")
        RUNS.clear()
        for _ in range(3):
            got = await lab.call(f, "x")
            lab.check(got, wanted)
            change(got)
        lab.ran_at_most(1)


_enter_change("the caller changes the returned dict", nested, lambda value: value.clear())
_enter_change("the caller changes a list inside it", nested, lambda value: value["x"].append(3))
_enter_change("the caller changes the returned dataclass", give_dataclass, lambda value: value.lines.clear())


def list_in_tuple(title: str) -> tuple[str, list[int]]:
    """Something mutable inside something that is not."""
    ran()
    return title, [1]


_enter_change("the caller changes a list inside a tuple", list_in_tuple, lambda value: value[1].append(2))


def grow(items: list[int]) -> int:
    """Changes its argument while it runs."""
    ran()
    items.append(1)
    return len(items)


@case("values", "the function changes its argument")
async def _(lab: Lab) -> None:
    f = lab.cached(grow)
    for _ in range(2):
        await lab.expect(f, 1, [])
        await lab.expect(f, 2, [1])
    lab.ran_at_most(2)


def echo(items: list[int]) -> list[int]:
    """Returns what it was given."""
    ran()
    return items


@case("values", "the returned argument changes later")
async def _(lab: Lab) -> None:
    f, items = lab.cached(echo), [1]
    await lab.expect(f, [1], items)
    items.append(2)
    await lab.expect(f, [1], [1])


_CANNOT_BE_STORED: dict[str, Callable[[], Any]] = {
    "a lock": threading.Lock,
    "a lambda": lambda: lambda: 7,
    "an object of a local class": type("Local", (), {"state": 7}),
}


def give_odd(name: str) -> Any:
    """What no disk can hold."""
    ran()
    return _CANNOT_BE_STORED[name]()


def _enter_odd(name: str) -> None:
    @case("values", f"{name} reaches the caller")
    async def _(lab: Lab) -> None:
        f = lab.cached(give_odd)
        for _ in range(2):
            got = await lab.call(f, name)
            wanted = _CANNOT_BE_STORED[name]()
            if type(got).__qualname__ != type(wanted).__qualname__:
                raise Wrong(f"gave a {type(got).__name__}")


for _name in _CANNOT_BE_STORED:
    _enter_odd(_name)

_RAISED: list[BaseException] = []


def fail_once(text: str) -> str:
    """Raises the first time only."""
    ran()
    if len(RUNS) == 1:
        _RAISED[:] = [Boom(text, code=7)]
        raise _RAISED[0]
    return text


@case("values", "an exception arrives as it is, and is not kept")
async def _(lab: Lab) -> None:
    f = lab.cached(fail_once)
    try:
        await lab.call(f, "x")
    except Boom as err:
        if err is not _RAISED[0] or err.code != 7:
            raise Wrong(f"another exception arrived: {err!r}") from err
    else:
        raise Wrong("nothing was raised")
    for _ in range(2):
        await lab.expect(f, "x", "x")
    lab.ran_at_most(2)


def stop(text: str) -> str:
    """Raises what ends an iteration."""
    raise StopIteration(text)


@case("values", "StopIteration arrives as it is")
async def _(lab: Lab) -> None:
    if not lab.peer.sync:  # a coroutine function may not raise it: Python makes a RuntimeError of it
        wanted: type[Exception] = RuntimeError
    else:
        wanted = StopIteration
    f = lab.cached(stop)
    for _ in range(2):
        try:
            await _guarded(lab, f, "x")
        except _Arrived as err:
            if type(err.args[0]) is not wanted:
                raise Wrong(f"{err.args[0]!r} arrived") from err
        else:
            raise Wrong("nothing was raised")


class _Arrived(Exception):  # noqa: N818  (a parcel)
    """What was raised, in a wrapping: a StopIteration would not get out of a coroutine function as it is."""


async def _guarded(lab: Lab, f: Any, *args: Any) -> None:
    try:
        answer = f(*args)
        if not lab.peer.sync:
            await answer
    except Exception as err:
        raise _Arrived(err) from err


def leave(text: str) -> str:
    """Raises what is not an Exception."""
    ran()
    raise Farewell(text)


@case("values", "a BaseException arrives as it is")
async def _(lab: Lab) -> None:
    f = lab.cached(leave)
    for _ in range(2):
        try:
            await lab.call(f, "x")
        except Farewell:
            continue
        raise Wrong("nothing was raised")
    if len(RUNS) != 2:
        raise Wrong("it was kept")
