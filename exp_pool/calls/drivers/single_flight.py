"""Single flight: of identical calls that run at once in this process, one computes the result and the others wait.

Calls come from threads and from any number of event loops. Nobody waits for a leader that is gone (its thread ended,
its loop closed), nor where waiting would close a circle: for a call that it is itself inside of, or for one that, over
any number of others, waits for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

from exp_pool.calls.request import Request
from exp_pool.calls.steps import CallResult, Coalesce
from exp_pool.runtime.forks import reinit_after_fork

_LOOK_S = 1.0  # how often those who wait look whether the leader is still there

Ref: TypeAlias = tuple[tuple[str, str, str], bool]  # the run (`Request.run`), and whether the call may write


class Flight:
    """A call that is being computed by its leader, and the callers who want its result.

    It completes with a `CallResult`, or with None where it has no result.
    """

    # Every call makes one, and most have no waiters: what only waiters need is made when one comes.
    __slots__ = (
        "_lock",
        "_to_call",
        "completed",
        "loop",
        "result",
        "thread",
        "waiters",
        "waits_for",
        "when_empty",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.completed = False
        self.result: CallResult | None = None
        self.loop = loop  # of the task that leads; None where a thread does
        self.thread = threading.current_thread()
        self.when_empty: Callable[[], object] | None = (
            None  # called on the loop when no caller wants the result any more
        )
        self.waiters = 1  # callers who want the result, the leader's among them
        self.waits_for: dict[Flight, int] = {}
        self._lock = threading.Lock()
        self._to_call: list[Callable[[], None]] = []

    @property
    def lost(self) -> bool:
        """Whether the leader is gone and can no longer complete it."""
        return not self.thread.is_alive() or (self.loop is not None and self.loop.is_closed())

    def complete(self, result: CallResult | None) -> None:
        """Give the result to all waiters. Idempotent."""
        with self._lock:
            if self.completed:
                return
            self.result, self.completed = result, True
            calls, self._to_call = self._to_call, []
        for call in calls:
            call()

    def when_completed(self, call: Callable[[], None]) -> None:
        """Call this when it has completed; at once if it has."""
        with self._lock:
            if not self.completed:
                self._to_call.append(call)
                return
        call()


# The flights that this context is inside of, outermost first: what runs there must not wait for them.
_inside: ContextVar[tuple[Flight, ...]] = ContextVar("exp_pool_inside", default=())


def inside() -> tuple[Flight, ...]:
    """The flights that the caller is inside of."""
    return _inside.get()


def lead_in(flight: Flight) -> None:
    """What runs in this context from now on is inside of the flight."""
    _inside.set((*_inside.get(), flight))


class leading:  # noqa: N801  (used like a function; a generator would cost every call 2 us)
    """Context manager: its body runs inside of the flight."""

    __slots__ = ("_flight", "_token")

    def __init__(self, flight: Flight) -> None:
        self._flight = flight

    def __enter__(self) -> None:
        self._token = _inside.set((*_inside.get(), self._flight))

    def __exit__(self, *_: object) -> None:
        _inside.reset(self._token)


@reinit_after_fork()
class Flights:
    """The flights of one manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Ref, Flight] = {}

    def join(self, step: Coalesce, loop: asyncio.AbstractEventLoop | None = None) -> tuple[Flight, bool]:
        """The flight of this call, and whether the caller leads it. Whoever does not has to `leave` it in the end."""
        ref = (step.request.run, step.write)
        with self._lock:
            flight = self._flights.get(ref)
            if flight is None or flight.lost:
                flight = self._flights[ref] = Flight(loop)
                return flight, True
            flight.waiters += 1
            return flight, False

    def has_waiters(self, request: Request) -> bool:
        """Whether anybody besides its leader waits for the flight of a call that may write."""
        with self._lock:
            flight = self._flights.get((request.run, True))
            return flight is not None and flight.waiters > 1

    def leave(self, step: Coalesce, flight: Flight) -> bool:
        """The caller no longer wants the result; whether it was the last one. Nobody joins after the last."""
        ref = (step.request.run, step.write)
        with self._lock:
            flight.waiters -= 1
            last = flight.waiters == 0
            if last and self._flights.get(ref) is flight:
                del self._flights[ref]
        return last

    def complete(self, step: Coalesce, flight: Flight, result: CallResult | None) -> None:
        """End a flight and give its result to all waiters.

        Args:
            step: the section that the flight has driven.
            flight: the flight, led by the caller.
            result: None where it has none, and waiters have to see for themselves.
        """
        ref = (step.request.run, step.write)
        with self._lock:
            if self._flights.get(ref) is flight:
                del self._flights[ref]
        flight.complete(result)


_graph = threading.Lock()  # over all managers: calls of one may be made inside calls of another


@contextmanager
def waiting_for(flight: Flight, *, blocking: bool) -> Iterator[bool]:
    """Register that the caller waits for a flight; gives False where that would be a deadlock.

    Args:
        flight: what is waited for.
        blocking: whether the caller's thread waits, with everything else that runs on it.
    """
    around = _inside.get()
    here = threading.current_thread() is flight.thread
    with _graph:
        circle = (here and (blocking or flight.loop is None)) or _reaches(flight, set(around))
        if not circle:
            for outer in around:
                outer.waits_for[flight] = outer.waits_for.get(flight, 0) + 1
    try:
        yield not circle
    finally:
        if not circle:
            with _graph:
                for outer in around:
                    outer.waits_for[flight] -= 1
                    if not outer.waits_for[flight]:
                        del outer.waits_for[flight]


def _reaches(start: Flight, targets: set[Flight]) -> bool:
    """Whether `start`, or something that it waits for, over any number of steps, is among the targets."""
    seen, left = {start}, [start]
    while left:
        flight = left.pop()
        if flight in targets:
            return True
        left += flight.waits_for.keys() - seen
        seen |= flight.waits_for.keys()
    return False


def wait(flight: Flight) -> CallResult | None:
    """The flight's result; None where it has none, or its leader is gone. Blocks the thread."""
    completed = threading.Event()
    flight.when_completed(completed.set)
    while not completed.wait(_LOOK_S):
        if flight.lost:
            return None
    return flight.result


async def wait_async(flight: Flight) -> CallResult | None:
    """The flight's result, as `wait` gives it, for a coroutine on any loop."""
    loop = asyncio.get_running_loop()
    completed = asyncio.Event()
    flight.when_completed(lambda: soon(loop, completed.set))
    while not flight.completed:
        try:
            async with asyncio.timeout(_LOOK_S):
                await completed.wait()
        except TimeoutError:
            if flight.lost:
                return None
    return flight.result


def cancel(flight: Flight) -> None:
    """Cancel the function, because no caller wants its result any more."""
    if flight.when_empty is not None and flight.loop is not None:
        soon(flight.loop, flight.when_empty)


def soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Have a loop, of this thread or of another one, make a call; nothing happens where the loop was closed."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # the loop was closed meanwhile, and its waiters with it
        return
