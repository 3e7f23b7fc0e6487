"""Several callers at once: one run for one call, and nobody harmed by another."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from peers.bench import RUNS, Lab, Wrong, case, in_threads, ran
from peers.things import Boom

_WORK = 0.15  # seconds: longer than it takes to start eight threads


def work(text: str) -> list[str]:
    """Takes its time."""
    ran()
    time.sleep(_WORK)
    return [text]


async def work_async(text: str) -> list[str]:
    """Takes its time."""
    ran()
    await asyncio.sleep(_WORK)
    return [text]


def threads_of(lab: Lab) -> Lab:
    """The library as it is best prepared for several threads."""
    lab.needs_threads()
    lab.peer.crowd = True
    return lab


def coroutines_of(lab: Lab) -> Lab:
    """The library as it is best prepared for several coroutines."""
    lab.peer.crowd = True
    return lab


@case("together", "eight threads, one cold call")
async def _(lab: Lab) -> None:
    f = threads_of(lab).cached(work)
    for got in in_threads(8, lambda _: f("x")):
        lab.check(got, ["x"])
    lab.must_run_at_most(1)


@case("together", "threads get copies of their own")
async def _(lab: Lab) -> None:
    f = threads_of(lab).cached(work)

    def ask(number: int) -> Any:
        got = f("x")
        time.sleep(_WORK)  # until all of them have theirs
        seen = list(got)
        time.sleep(_WORK)
        got.append(number)
        return seen

    for got in in_threads(4, ask):
        lab.check(got, ["x"])
    lab.check(f("x"), ["x"])


@case("together", "threads with another key do not wait")
async def _(lab: Lab) -> None:
    threads_of(lab)
    arrived = threading.Event()

    def wait_or_wake(text: str) -> str:
        ran()
        if text == "wait":
            return "woken" if arrived.wait(2) else "not woken"
        arrived.set()
        return text

    f = lab.cached(wait_or_wake)

    def ask(number: int) -> str:
        if number:
            while not RUNS:  # until the other one runs
                time.sleep(0.01)
        return f("wake" if number else "wait")

    lab.check(in_threads(2, ask), ["woken", "wake"])


@case("together", "an exception reaches every thread, then it runs again")
async def _(lab: Lab) -> None:
    threads_of(lab)
    broken = threading.Event()
    broken.set()

    def fail(text: str) -> str:
        ran()
        time.sleep(_WORK)
        if broken.is_set():
            raise Boom(text)
        return text

    f = lab.cached(fail)
    for got in in_threads(4, lambda _: f("x")):
        if not isinstance(got, Boom):
            raise Wrong(f"a thread got {got!r}")
    broken.clear()
    await lab.expect(f, "x", "x")


@case("together", "two threads whose calls cross")
async def _(lab: Lab) -> None:
    threads_of(lab)
    inside = threading.Barrier(2)
    first: set[str] = set()

    def cross(text: str) -> str:
        ran()
        if text in first:  # run again, by the other one
            return text
        first.add(text)
        inside.wait(2)
        return text + f("b" if text == "a" else "a")[0]

    f = lab.cached(cross)
    for number, got in enumerate(in_threads(2, lambda number: f("ab"[number]))):
        lab.check(got, ("ab", "ba")[number])


@case("together", "ten coroutines, one cold call")
async def _(lab: Lab) -> None:
    f = coroutines_of(lab).cached_async(work_async)
    for got in await asyncio.gather(*(f("x") for _ in range(10))):
        lab.check(got, ["x"])
    lab.must_run_at_most(1)


@case("together", "coroutines get copies of their own")
async def _(lab: Lab) -> None:
    f = coroutines_of(lab).cached_async(work_async)
    results = await asyncio.gather(*(f("x") for _ in range(4)))
    for number, got in enumerate(results):
        lab.check(got, ["x"])
        got.append(number)
    lab.check(await f("x"), ["x"])


@case("together", "coroutines with another key do not wait")
async def _(lab: Lab) -> None:
    coroutines_of(lab)
    arrived = asyncio.Event()

    async def wait_or_wake(text: str) -> str:
        if text == "wait":
            await asyncio.wait_for(arrived.wait(), 2)
            return "woken"
        arrived.set()
        return text

    f = lab.cached_async(wait_or_wake)
    lab.check(await asyncio.gather(f("wait"), f("wake")), ["woken", "wake"])


async def _crowd(f: Any, count: int) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(f("x")) for _ in range(count)]
    await asyncio.sleep(_WORK / 3)  # the first one runs, the others wait
    return tasks


def _others(lab: Lab, results: list[Any]) -> None:
    for got in results:
        if isinstance(got, BaseException):
            raise Wrong(f"another caller got {got!r}")
        lab.check(got, ["x"])


@case("together", "the first coroutine is cancelled, the others are not")
async def _(lab: Lab) -> None:
    tasks = await _crowd(coroutines_of(lab).cached_async(work_async), 4)
    tasks[0].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    _others(lab, results[1:])


@case("together", "a waiting coroutine is cancelled, the others are not")
async def _(lab: Lab) -> None:
    tasks = await _crowd(coroutines_of(lab).cached_async(work_async), 4)
    tasks[2].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    _others(lab, [*results[:2], results[3]])


@case("together", "a call that was cancelled runs again")
async def _(lab: Lab) -> None:
    f = coroutines_of(lab).cached_async(work_async)
    (task,) = await _crowd(f, 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled():
        raise Wrong("the cancellation was swallowed")
    await lab.expect(f, ["x"], "x")


@case("together", "an exception reaches every coroutine, then it runs again")
async def _(lab: Lab) -> None:
    coroutines_of(lab)
    broken = [True]

    async def fail(text: str) -> str:
        await asyncio.sleep(_WORK)
        if broken:
            raise Boom(text)
        return text

    f = lab.cached_async(fail)
    for got in await asyncio.gather(*(f("x") for _ in range(4)), return_exceptions=True):
        if not isinstance(got, Boom):
            raise Wrong(f"a coroutine got {got!r}")
    broken.clear()
    await lab.expect(f, "x", "x")


@case("together", "two coroutines whose calls cross")
async def _(lab: Lab) -> None:
    coroutines_of(lab)
    first: set[str] = set()

    async def cross(text: str) -> str:
        if text in first:
            return text
        first.add(text)
        await asyncio.sleep(_WORK)
        return text + (await f("b" if text == "a" else "a"))[0]

    f = lab.cached_async(cross)
    results = await asyncio.wait_for(asyncio.gather(f("a"), f("b")), 4)
    lab.check(results, ["ab", "ba"])
