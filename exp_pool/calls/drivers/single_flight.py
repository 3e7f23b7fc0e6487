"""Of identical calls that run at once in this process one does the work (the leader), the others wait for its result.

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
from exp_pool.calls.steps import Ending, Once
from exp_pool.runtime.forks import reinit_after_fork

_LOOK_S = 1.0  # how often those who wait look whether the leader is still there

Ref: TypeAlias = tuple[tuple[str, str, str], bool]  # the run (`Request.run`), and whether the call may write


class Flight:
    """A call that is being computed, and who waits for it. Lands on an `Ending`, or on None: it came to none."""

    # Every call makes one, most of them for nobody else: what only those who wait need is made when one does.
    __slots__ = ("_heard", "_lock", "aboard", "ending", "landed", "loop", "thread", "waits_for", "when_empty")

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.landed = False
        self.ending: Ending | None = None
        self.loop = loop  # of the task that leads; None where a thread does
        self.thread = threading.current_thread()
        self.when_empty: Callable[[], object] | None = None  # on the loop: nobody is interested any more
        self.aboard = 1  # callers who are still interested, the leader's among them
        self.waits_for: dict[Flight, int] = {}
        self._lock = threading.Lock()
        self._heard: list[Callable[[], None]] = []

    @property
    def lost(self) -> bool:
        """Whether the leader can no longer land."""
        return not self.thread.is_alive() or (self.loop is not None and self.loop.is_closed())

    def land(self, ending: Ending | None) -> None:
        """Tell everybody; the second time nothing happens."""
        with self._lock:
            if self.landed:
                return
            self.ending, self.landed = ending, True
            heard, self._heard = self._heard, []
        for tell in heard:
            tell()

    def when_landed(self, tell: Callable[[], None]) -> None:
        """Call this when it has landed; at once if it has."""
        with self._lock:
            if not self.landed:
                self._heard.append(tell)
                return
        tell()


# The flights that this context is inside of, outermost first: what runs there must not wait for them.
_inside: ContextVar[tuple[Flight, ...]] = ContextVar("exp_pool_inside", default=())


def inside() -> tuple[Flight, ...]:
    """The flights that the caller is inside of."""
    return _inside.get()


def lead_in(flight: Flight) -> None:
    """What runs in this context from now on is inside of the flight."""
    _inside.set((*_inside.get(), flight))


class leading:  # noqa: N801  (used as one writes a function; a generator would cost every call 2 us)
    """What runs here is inside of the flight."""

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

    def board(self, step: Once, loop: asyncio.AbstractEventLoop | None = None) -> tuple[Flight, bool]:
        """The flight of this call, and whether the caller leads it. Who follows has to `leave` it in the end."""
        ref = (step.request.run, step.write)
        with self._lock:
            flight = self._flights.get(ref)
            if flight is None or flight.lost:
                flight = self._flights[ref] = Flight(loop)
                return flight, True
            flight.aboard += 1
            return flight, False

    def awaited(self, request: Request) -> bool:
        """Whether somebody besides its leader is aboard of the flight of a call that may write."""
        with self._lock:
            flight = self._flights.get((request.run, True))
            return flight is not None and flight.aboard > 1

    def leave(self, step: Once, flight: Flight) -> bool:
        """The caller is no longer interested; whether it was the last one. Nobody boards after the last."""
        ref = (step.request.run, step.write)
        with self._lock:
            flight.aboard -= 1
            last = flight.aboard == 0
            if last and self._flights.get(ref) is flight:
                del self._flights[ref]
        return last

    def land(self, step: Once, flight: Flight, ending: Ending | None) -> None:
        """Everybody aboard gets the ending; None: they are to see for themselves."""
        ref = (step.request.run, step.write)
        with self._lock:
            if self._flights.get(ref) is flight:
                del self._flights[ref]
        flight.land(ending)


_graph = threading.Lock()  # over all managers: calls of one may be made inside calls of another


@contextmanager
def waiting_for(flight: Flight, *, blocking: bool) -> Iterator[bool]:
    """Note that the caller waits for a flight; comes to False where it must not.

    `blocking`: the caller's thread waits, with everything else that runs on it.
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


def wait(flight: Flight) -> Ending | None:
    """Where the flight landed; None: it came to nothing, or its leader is gone. Blocks the thread."""
    landed = threading.Event()
    flight.when_landed(landed.set)
    while not landed.wait(_LOOK_S):
        if flight.lost:
            return None
    return flight.ending


async def wait_async(flight: Flight) -> Ending | None:
    """The same for a coroutine, on any loop."""
    loop = asyncio.get_running_loop()
    landed = asyncio.Event()
    flight.when_landed(lambda: soon(loop, landed.set))
    while not flight.landed:
        try:
            async with asyncio.timeout(_LOOK_S):
                await landed.wait()
        except TimeoutError:
            if flight.lost:
                return None
    return flight.ending


def cancel(flight: Flight) -> None:
    """Nobody waits any more: the function is cancelled."""
    if flight.when_empty is not None and flight.loop is not None:
        soon(flight.loop, flight.when_empty)


def soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Let a loop, of this thread or of another one, make a call; nothing happens where it was closed."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # the loop was closed meanwhile: nobody there waits any more
        return
