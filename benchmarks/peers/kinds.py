"""Kinds of functions: coroutine functions, generators, methods."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from peers.bench import RUNS, Lab, Wrong, case, ran, said
from peers.things import Boom


async def greet(name: str) -> str:
    """A coroutine function."""
    ran()
    await asyncio.sleep(0)
    return f"hello {name}"


@case("coroutines", "an async function")
async def _(lab: Lab) -> None:
    f = lab.cached_async(greet)
    for _ in range(3):
        await lab.expect(f, "hello x", "x")
        await lab.expect(f, "hello y", "y")
    lab.ran_at_most(2)


@case("coroutines", "iscoroutinefunction survives")
async def _(lab: Lab) -> None:
    if not inspect.iscoroutinefunction(lab.cached_async(greet)):
        raise Wrong("it is not")


async def fail_first(text: str) -> str:
    """Raises the first time only."""
    ran()
    await asyncio.sleep(0)
    if len(RUNS) == 1:
        raise Boom(text, code=7)
    return text


@case("coroutines", "an exception is not kept")
async def _(lab: Lab) -> None:
    f = lab.cached_async(fail_first)
    try:
        await f("x")
    except Boom as err:
        lab.check(err.code, 7)
    else:
        raise Wrong("nothing was raised")
    await lab.expect(f, "x", "x")


@case("coroutines", "found again in another event loop")
async def _(lab: Lab) -> None:
    f = lab.cached_async(greet)
    await lab.expect(f, "hello x", "x")
    lab.check(await asyncio.to_thread(lambda: asyncio.run(f("x"))), "hello x")
    lab.ran_at_most(1)


_STREAMS: dict[str, list[Any]] = {"numbers": [1, 2, 3], "falsy": [1, 0, None, "", [], 3], "empty": []}


def stream(name: str) -> Iterator[Any]:
    """A generator."""
    ran()
    yield from _STREAMS[name]


async def stream_async(name: str) -> AsyncIterator[Any]:
    """An async generator."""
    ran()
    for item in _STREAMS[name]:
        await asyncio.sleep(0)
        yield item


async def read(decorated: Callable[..., Any], *args: Any) -> list[Any]:
    """All that a stream gives, of either kind."""
    items = decorated(*args)
    return [item async for item in items] if hasattr(items, "__aiter__") else list(items)


def _both(name: str) -> Callable[[Any], Any]:
    """Enter a case for generators and for async generators."""

    def enter(run: Callable[[Lab, Callable[..., Any], Any], Any]) -> Any:
        @case("streams", f"generator: {name}")
        async def _(lab: Lab) -> None:
            await run(lab, lab.generator, _PLAIN)

        @case("streams", f"async generator: {name}")
        async def _(lab: Lab) -> None:
            await run(lab, lab.async_generator, _ASYNC)

        return run

    return enter


async def replay(lab: Lab, f: Any) -> None:
    """It gives the same three times."""
    for _ in range(3):
        lab.check(await read(f, "numbers"), _STREAMS["numbers"])
    lab.ran_at_most(1)


@case("streams", "generator: replays in full, twice")
async def _(lab: Lab) -> None:
    await replay(lab, lab.generator(stream, claimed=False))


@case("streams", "async generator: replays in full, twice")
async def _(lab: Lab) -> None:
    await replay(lab, lab.async_generator(stream_async))


@_both("falsy items")
async def _(lab: Lab, decorate: Any, functions: dict[str, Any]) -> None:
    f = decorate(functions["stream"])
    for _ in range(3):
        lab.check(await read(f, "falsy"), _STREAMS["falsy"])
    lab.ran_at_most(1)


@_both("nothing at all")
async def _(lab: Lab, decorate: Any, functions: dict[str, Any]) -> None:
    f = decorate(functions["stream"])
    for _ in range(3):
        lab.check(await read(f, "empty"), [])
    lab.ran_at_most(1)


@_both("an abandoned one is not kept")
async def _(lab: Lab, decorate: Any, functions: dict[str, Any]) -> None:
    f = decorate(functions["stream"])
    items = f("numbers")
    if hasattr(items, "__aiter__"):
        lab.check(await anext(items), 1)
        await items.aclose()
    else:
        lab.check(next(items), 1)
        items.close()
    for _ in range(2):
        lab.check(await read(f, "numbers"), _STREAMS["numbers"])
    lab.ran_at_most(2)


@_both("items arrive while it runs")
async def _(lab: Lab, decorate: Any, functions: dict[str, Any]) -> None:
    items = decorate(functions["slow"])("x")
    first = await anext(items) if hasattr(items, "__aiter__") else next(items)
    lab.check(first, 0)
    if len(RUNS) != 1:
        raise Wrong("the whole stream was made before its first item arrived")
    await items.aclose() if hasattr(items, "__aiter__") else items.close()


@_both("one that fails midway is not kept")
async def _(lab: Lab, decorate: Any, functions: dict[str, Any]) -> None:
    f = decorate(functions["failing"])
    try:
        await read(f, "x")
    except Boom:
        pass
    else:
        raise Wrong("nothing was raised")
    for _ in range(2):
        lab.check(await read(f, "x"), [1, 2])
    lab.ran_at_most(2)


@_both("two readers at once")
async def _(lab: Lab, decorate: Any, functions: dict[str, Any]) -> None:
    f = decorate(functions["stream"])
    one, two = f("numbers"), f("numbers")
    got: tuple[list[Any], list[Any]] = ([], [])
    for _ in range(3):
        for items, seen in zip((one, two), got, strict=True):
            step = anext(items, None) if hasattr(items, "__aiter__") else next(items, None)
            seen.append(await step if inspect.isawaitable(step) else step)
    for seen in got:
        lab.check(seen, [1, 2, 3])


@_both("its kind survives")
async def _(lab: Lab, decorate: Any, functions: dict[str, Any]) -> None:
    f = decorate(functions["stream"])
    if not functions["is_one"](f):
        raise Wrong("inspect takes it for another kind of function")


def slow(_name: str) -> Iterator[int]:
    """Says each step."""
    for number in range(3):
        ran()
        yield number


async def slow_async(_name: str) -> AsyncIterator[int]:
    """Says each step."""
    for number in range(3):
        ran()
        yield number


def failing(_name: str) -> Iterator[int]:
    """Fails midway, the first time."""
    ran()
    first = len(RUNS) == 1
    yield 1
    if first:
        raise Boom("midway")
    yield 2


async def failing_async(_name: str) -> AsyncIterator[int]:
    """Fails midway, the first time."""
    ran()
    first = len(RUNS) == 1
    yield 1
    if first:
        raise Boom("midway")
    yield 2


_PLAIN = {"stream": stream, "slow": slow, "failing": failing, "is_one": inspect.isgeneratorfunction}
_ASYNC = {
    "stream": stream_async,
    "slow": slow_async,
    "failing": failing_async,
    "is_one": inspect.isasyncgenfunction,
}


def summing(_name: str) -> Iterator[int]:
    """Yields the sum of what it is sent; returns it."""
    total = 0
    while total < 10:
        total += (yield total) or 5
    return total


@case("streams", "generator: driven by send")
async def _(lab: Lab) -> None:
    f = lab.generator(summing)
    for _ in range(2):
        items = f("x")
        lab.check([next(items), items.send(3), items.send(4)], [0, 3, 7])
        items.close()


@case("streams", "generator: its return value")
async def _(lab: Lab) -> None:
    f = lab.generator(summing)

    def outer() -> Iterator[int]:
        lab.check((yield from f("x")), 10)

    for _ in range(2):
        lab.check(list(outer()), [0, 5])


def publish(kind: type) -> type:
    """Let a class be found by its name: libraries that pickle arguments need it."""
    kind.__qualname__ = kind.__name__
    setattr(sys.modules[__name__], kind.__name__, kind)
    return kind


def readers(lab: Lab) -> Any:
    """A class with a cached method, and objects that differ in one attribute."""

    class Reader:
        def __init__(self, prefix: str) -> None:
            self.prefix = prefix
            self.cache = lab.peer.per_instance()

        @lab.method("prefix")
        def read(self, text: str) -> str:
            return said(self.prefix, text)

    return publish(Reader)


@case("methods", "found again on the same object")
async def _(lab: Lab) -> None:
    reader = readers(lab)("a")
    for _ in range(3):
        await lab.expect(reader.read, "str 'a'; str 'x'", "x")
    lab.ran_at_most(1)


@case("methods", "objects of one class with different state")
async def _(lab: Lab) -> None:
    kind = readers(lab)
    a, b = kind("a"), kind("b")
    for _ in range(2):
        await lab.expect(a.read, "str 'a'; str 'x'", "x")
        await lab.expect(b.read, "str 'b'; str 'x'", "x")
    lab.ran_at_most(2)


@case("methods", "an object that changes between the calls")
async def _(lab: Lab) -> None:
    reader = readers(lab)("a")
    await lab.expect(reader.read, "str 'a'; str 'x'", "x")
    reader.prefix = "b"
    await lab.expect(reader.read, "str 'b'; str 'x'", "x")


@case("methods", "methods of objects that come and go")
async def _(lab: Lab) -> None:
    kind = readers(lab)
    for number in range(30):
        await lab.expect(kind(f"{number}").read, f"str '{number}'; str 'x'", "x")


@case("methods", "objects of which the state is a text or a tuple")
async def _(lab: Lab) -> None:
    class Voice(str):
        __slots__ = ()

        @lab.cached
        def say(self, text: str) -> str:
            return said(str(self), text)

    class Pair(tuple):  # noqa: SLOT001
        @lab.cached
        def say(self, text: str) -> str:
            return said(*self, text)

    for _ in range(2):
        for state in ("a", "b"):
            await lab.expect(publish(Voice)(state).say, f"str '{state}'; str 'x'", "x")
            await lab.expect(publish(Pair)([state]).say, f"str '{state}'; str 'x'", "x")


@case("methods", "a classmethod of two classes")
async def _(lab: Lab) -> None:
    class Base:
        @classmethod
        @lab.cached
        def make(cls, text: str) -> str:
            return said(cls.__name__, text)

    class Derived(Base):
        pass

    for _ in range(2):
        await lab.expect(publish(Base).make, "str 'Base'; str 'x'", "x")
        await lab.expect(publish(Derived).make, "str 'Derived'; str 'x'", "x")
    lab.ran_at_most(2)


@case("methods", "a staticmethod")
async def _(lab: Lab) -> None:
    class Tools:
        @staticmethod
        @lab.cached
        def make(text: str) -> str:
            return said(text)

    for _ in range(2):
        await lab.expect(Tools.make, "str 'x'", "x")
        await lab.expect(Tools().make, "str 'x'", "x")
    lab.ran_at_most(1)


@case("methods", "an async method")
async def _(lab: Lab) -> None:
    class AsyncReader:
        def __init__(self, prefix: str) -> None:
            self.prefix = prefix
            self.cache = lab.peer.per_instance()

        @lab.method("prefix")
        async def read(self, text: str) -> str:
            return said(self.prefix, text)

    kind = publish(AsyncReader)
    a, b = kind("a"), kind("b")
    for _ in range(2):
        lab.check(await a.read("x"), "str 'a'; str 'x'")
        lab.check(await b.read("x"), "str 'b'; str 'x'")
    lab.ran_at_most(2)
