"""Cases, verdicts, and the laboratory in which a case meets a library."""

from __future__ import annotations

import asyncio
import functools
import inspect
import tempfile
import threading
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERDICTS = ("right", "wrong", "crashed", "recomputed", "unsupported", "not installed")


class Wrong(Exception):  # noqa: N818  (a verdict)
    """An answer of another call, of another type, a stale one, or a function run more often than the case allows."""


class Recomputed(Exception):  # noqa: N818  (a verdict)
    """The function ran again although the library had the answer: harmless, but no cache."""


class Unsupported(Exception):  # noqa: N818  (a verdict)
    """The library's documentation says that it is not made for this, or speaks of another kind of function only."""


@dataclass(frozen=True)
class Case:
    """One thing that a cache can get wrong."""

    group: str
    name: str
    run: Callable[[Lab], Awaitable[None]]
    timeout: float | None = None  # seconds, where the case needs more than the others


@dataclass(frozen=True)
class Result:
    """What became of a case with one library."""

    case: str
    library: str
    verdict: str
    why: str = ""


CASES: list[Case] = []

# What ran in this case. A global, because a counter in a closure would be part of the function's identity for some
# libraries, and an argument would be part of the key for all.
RUNS: list[Any] = []


def case(group: str, name: str, timeout: float | None = None) -> Callable[[Any], Any]:
    """Enter a coroutine function into the list of cases."""

    def enter(run: Any) -> Any:
        CASES.append(Case(group, name, run, timeout))
        return run

    return enter


def ran(what: Any = None) -> None:
    """The function says that it runs."""
    RUNS.append(what)


def said(*values: Any) -> str:
    """An answer that shows what the function was asked: types and values, to the last bit."""
    ran()
    return "; ".join(f"{type(value).__name__} {value!r}" for value in values)


def of(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call."""
    return args, kwargs


Arguments = Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]  # made anew for each call, so that no object is reused


class Lab:
    """One library, fresh, for one case."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer

    def cached(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function behind the library; a coroutine function of the same face where it knows only these."""
        return self.peer.cached(function) if self.peer.sync else self.peer.cached_async(twin(function))

    def cached_async(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A coroutine function behind the library."""
        if not self.peer.asynchronous:
            raise Unsupported("not made for coroutine functions")
        return self.peer.cached_async(function)

    def generator(self, function: Callable[..., Any], *, claimed: bool = True) -> Callable[..., Any]:
        """A generator function behind the library.

        Libraries that do not speak of generators take them without a word, so one case (`claimed=False`) asks all of
        them; the others would only count the same fault again.
        """
        if not self.peer.sync:
            raise Unsupported("not made for functions without await")
        if claimed and not self.peer.generators:
            raise Unsupported("does not speak of generators; see the first case about them")
        return self.peer.cached(function)

    def async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """An async generator function behind the library."""
        return self.peer.cached_async_generator(function)

    def method(self, *attributes: str) -> Callable[[Any], Any]:
        """The decorator for a method of a class whose objects differ in these attributes."""

        def decorate(function: Any) -> Any:
            waits = inspect.iscoroutinefunction(function)
            if waits and not self.peer.asynchronous:
                raise Unsupported("not made for coroutine functions")
            return self.peer.method(function if waits or self.peer.sync else twin(function), attributes)

        return decorate

    def needs_threads(self) -> None:
        """Several threads call at once."""
        if not self.peer.sync:
            raise Unsupported("not made for threads")

    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call it, await it where it is to be awaited."""
        answer = function(*args, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    async def expect(self, function: Callable[..., Any], wanted: Any, /, *args: Any, **kwargs: Any) -> None:
        """The call gives this."""
        self.check(await self.call(function, *args, **kwargs), wanted)

    def check(self, got: Any, wanted: Any) -> None:
        """This is that, to the type."""
        if not same(got, wanted):
            raise Wrong(f"gave {shown(got)}, not {shown(wanted)}")

    def ran_at_most(self, times: int) -> None:
        """More is harmless, but no cache."""
        if len(RUNS) > times:
            raise Recomputed(f"ran {len(RUNS)} times instead of {times}")

    def must_run_at_most(self, times: int) -> None:
        """More is what the library is there to prevent."""
        if len(RUNS) > times:
            raise Wrong(f"ran {len(RUNS)} times instead of {times}")

    async def apart(self, function: Callable[..., Any], *calls: Arguments) -> None:
        """Each call has an answer of its own, and finds it again."""
        await self._ask(function, calls, rounds=2)
        self.ran_at_most(len(calls))

    async def one(self, function: Callable[..., Any], *calls: Arguments) -> None:
        """They are ways to write one call: right answers, from one run."""
        await self._ask(function, calls, rounds=1)
        self.ran_at_most(1)

    async def shares_nothing(self, function: Callable[..., Any], *calls: Arguments) -> None:
        """Each call has an answer of its own; it need not be found again."""
        await self._ask(function, calls, rounds=2)

    async def _ask(self, function: Callable[..., Any], calls: tuple[Arguments, ...], rounds: int) -> None:
        decorated = self.cached(function)
        for _ in range(rounds):
            for make in calls:
                args, kwargs = make()
                wanted = function(*args, **kwargs)
                RUNS.pop()  # that was not the library
                await self.expect(decorated, wanted, *args, **kwargs)


def twin(function: Callable[..., Any]) -> Callable[..., Any]:
    """The coroutine function of the same name, signature and answers."""

    @functools.wraps(function)
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return coroutine


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What so many threads got that began together: a value, or the exception."""
    barrier = threading.Barrier(count)
    got: list[Any] = [None] * count

    def one(number: int) -> None:
        barrier.wait()
        try:
            got[number] = work(number)
        except BaseException as err:
            got[number] = err

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def same(got: Any, wanted: Any) -> bool:
    """Equal, of one type all the way down; a NaN is a NaN, and -0.0 is not 0.0."""
    if type(got) is not type(wanted):
        return False
    if isinstance(wanted, float):
        return repr(got) == repr(wanted)
    if isinstance(wanted, list | tuple):
        return len(got) == len(wanted) and all(map(same, got, wanted))
    if isinstance(wanted, dict):
        return same(list(got.items()), list(wanted.items()))
    if isinstance(wanted, set | frozenset):
        return same(sorted(got, key=repr), sorted(wanted, key=repr))
    if type(wanted).__module__ == "numpy":
        return (got.dtype, got.shape, got.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())
    return bool(got == wanted)


def shown(value: Any) -> str:
    """Short enough for a table's foot."""
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) < 100 else text[:97] + "..."


def run(one: Case, peer_type: Any, timeout: float) -> Result:
    """Run a case with a library, in a thread of its own that is left behind where it hangs."""
    done = threading.Event()
    outcome: list[Result] = []

    def result(verdict: str, why: object = "") -> Result:
        return Result(one.name, peer_type.name, verdict, str(why))

    async def story(folder: Path) -> None:
        peer = peer_type(folder)
        try:
            await one.run(Lab(peer))
            outcome.append(result("right"))
        except Wrong as err:
            outcome.append(result("wrong", err))
        except Recomputed as err:
            outcome.append(result("recomputed", err))
        except Unsupported as err:
            outcome.append(result("unsupported", err))
        except BaseException as err:
            reason = peer.documented(err)
            outcome.append(
                result("unsupported", reason)
                if reason
                else result("crashed", f"{type(err).__name__}: {' '.join(str(err).split()):.160}")
            )
        done.set()
        await peer.close()

    def work() -> None:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            try:
                asyncio.run(story(Path(name)))
            except BaseException as err:
                outcome.append(result("crashed", f"{type(err).__name__}: {err}"))
                done.set()

    excused = peer_type.excuse(one.group, one.name)
    if excused:
        return result("unsupported", excused)
    RUNS.clear()
    seconds = max(timeout, one.timeout or 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        if not done.wait(seconds):
            return result("crashed", f"no answer within {seconds:g} s")
        thread.join(2)  # tidying up; it may hang for all we care
    return outcome[0]
