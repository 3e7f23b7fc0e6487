"""Functions: which one is asked, by which parameters, and what is left of its face."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from peers.bench import Lab, Wrong, case, of, ran, said


def with_self(self: Any) -> str:
    return said(self)


def with_f(f: Any) -> str:
    return said(f)


def with_func(func: Any) -> str:
    return said(func)


def with_key(key: Any) -> str:
    return said(key)


def with_args(args: Any) -> str:
    return said(args)


def with_kwargs(kwargs: Any) -> str:
    return said(kwargs)


def with_output(output: Any) -> str:
    return said(output)


def with_ttl(ttl: Any) -> str:
    return said(ttl)


def with_name(name: Any) -> str:
    return said(name)


def with_namespace(namespace: Any) -> str:
    return said(namespace)


def _enter_parameter(name: str, function: Callable[..., Any]) -> None:
    @case("parameters", f"a parameter called {name}")
    async def _(lab: Lab) -> None:
        await lab.apart(function, lambda: of(**{name: 1}), lambda: of(**{name: 2}))


for _function in (
    with_self,
    with_f,
    with_func,
    with_key,
    with_args,
    with_kwargs,
    with_output,
    with_ttl,
    with_name,
    with_namespace,
):
    _enter_parameter(_function.__name__.removeprefix("with_"), _function)


def many(*items: Any) -> str:
    """Takes any number."""
    return said(*items)


def options(**given: Any) -> str:
    """Takes any names."""
    return said(sorted(given.items()))


def anything(*items: Any, **given: Any) -> str:
    """Takes everything."""
    return said(items, sorted(given.items()))


def positional(first: Any, /, **given: Any) -> str:
    """A first parameter whose name callers may use for something else."""
    return said(first, sorted(given.items()))


@case("parameters", "*args and one tuple")
async def _(lab: Lab) -> None:
    await lab.apart(many, lambda: of(1, 2), lambda: of((1, 2)), of, lambda: of(()))


@case("parameters", "*args of one and of two texts")
async def _(lab: Lab) -> None:
    await lab.apart(many, lambda: of("a", "b"), lambda: of("a:b"), lambda: of("a b"))


@case("parameters", "**kwargs and a keyword of its name")
async def _(lab: Lab) -> None:
    await lab.apart(options, lambda: of(a=1), lambda: of(given={"a": 1}), lambda: of(kwargs={"a": 1}))


@case("parameters", "**kwargs with the names changed over")
async def _(lab: Lab) -> None:
    await lab.apart(options, lambda: of(a=1, b=2), lambda: of(a=2, b=1), lambda: of(b=1, c=2))


@case("parameters", "**kwargs in another order")
async def _(lab: Lab) -> None:
    await lab.one(options, lambda: of(a=1, b=2), lambda: of(b=2, a=1))


@case("parameters", "values that look like keywords")
async def _(lab: Lab) -> None:
    await lab.apart(anything, lambda: of("a", 1), lambda: of(a=1), lambda: of(("a", 1)))


@case("parameters", "a keyword named like a positional-only one")
async def _(lab: Lab) -> None:
    await lab.apart(positional, lambda: of(1), lambda: of(1, first=2), lambda: of(2, first=1))


@case("functions", "two functions of one name")
async def _(lab: Lab) -> None:
    def one() -> Callable[..., Any]:
        def answer(question: str) -> str:
            return said("one", question)

        return answer

    def two() -> Callable[..., Any]:
        def answer(question: str) -> str:
            return said("two", question)

        return answer

    first, second = lab.cached(one()), lab.cached(two())
    for _ in range(2):
        await lab.expect(first, "str 'one'; str 'x'", "x")
        await lab.expect(second, "str 'two'; str 'x'", "x")
    lab.ran_at_most(2)


@case("functions", "two functions of one qualified name")
async def _(lab: Lab) -> None:
    def make(*, polite: bool) -> Callable[..., Any]:
        if polite:

            def answer(question: str) -> str:
                return said("please", question)
        else:

            def answer(question: str) -> str:
                return said("now", question)

        return answer

    first, second = lab.cached(make(polite=True)), lab.cached(make(polite=False))
    for _ in range(2):
        await lab.expect(first, "str 'please'; str 'x'", "x")
        await lab.expect(second, "str 'now'; str 'x'", "x")


@case("functions", "closures from one factory")
async def _(lab: Lab) -> None:
    def make(factor: int) -> Callable[[int], int]:
        def times(number: int) -> int:
            ran()
            return number * factor

        return times

    double, triple = lab.cached(make(2)), lab.cached(make(3))
    for _ in range(2):
        await lab.expect(double, 20, 10)
        await lab.expect(triple, 30, 10)
    lab.ran_at_most(2)


@case("functions", "functions with other defaults from one factory")
async def _(lab: Lab) -> None:
    def make(factor: int) -> Callable[..., int]:
        def times_a_default(number: int, factor: int = factor) -> int:
            ran()
            return number * factor

        return times_a_default

    double, triple = lab.cached(make(2)), lab.cached(make(3))
    for _ in range(2):
        await lab.expect(double, 20, 10)
        await lab.expect(triple, 30, 10)
    lab.ran_at_most(2)


@case("functions", "two lambdas")
async def _(lab: Lab) -> None:
    double = lab.cached(lambda number: number * 2)
    triple = lab.cached(lambda number: number * 3)
    for _ in range(2):
        await lab.expect(double, 20, 10)
        await lab.expect(triple, 30, 10)


@case("functions", "two lambdas on one line")
async def _(lab: Lab) -> None:
    double, triple = lab.cached(lambda number: number * 2), lab.cached(lambda number: number * 3)
    for _ in range(2):
        await lab.expect(double, 20, 10)
        await lab.expect(triple, 30, 10)


def documented(first: int, /, second: str = "x", *, third: float = 0.5) -> str:
    """What it says of itself."""
    return said(first, second, third)


@case("functions", "name, doc and module survive")
async def _(lab: Lab) -> None:
    f = lab.cached(documented)
    for name in ("__name__", "__qualname__", "__doc__", "__module__"):
        if getattr(f, name, None) != getattr(documented, name):
            raise Wrong(f"{name} is {getattr(f, name, None)!r:.60}")


@case("functions", "the signature survives")
async def _(lab: Lab) -> None:
    got = inspect.signature(lab.cached(documented))
    if got != inspect.signature(documented):
        raise Wrong(f"is {got}")


@case("functions", "a wrong call fails as it does without")
async def _(lab: Lab) -> None:
    f = lab.cached(documented)
    for _ in range(2):
        try:
            await lab.call(f, 1, fourth=4)
        except TypeError:
            continue
        raise Wrong("was answered")


@case("functions", "recursion: fibonacci")
async def _(lab: Lab) -> None:
    def fibonacci(n: int) -> int:
        ran()
        return n if n < 2 else f(n - 1) + f(n - 2)

    async def fibonacci_async(n: int) -> int:
        ran()
        return n if n < 2 else await f(n - 1) + await f(n - 2)

    f = lab.cached(fibonacci) if lab.peer.sync else lab.cached_async(fibonacci_async)
    await lab.expect(f, 6765, 20)
    lab.ran_at_most(21)


@case("functions", "recursion through an equal call")
async def _(lab: Lab) -> None:
    deep: list[int] = []

    def again(n: int) -> int:
        deep.append(n)
        return n if len(deep) > 1 else f(n) + 1

    async def again_async(n: int) -> int:
        deep.append(n)
        return n if len(deep) > 1 else await f(n) + 1

    f = lab.cached(again) if lab.peer.sync else lab.cached_async(again_async)
    await lab.expect(f, 8, 7)
