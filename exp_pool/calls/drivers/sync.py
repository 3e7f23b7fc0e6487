"""Performs the story for a plain function: every step on the caller's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from exp_pool.calls.drivers import single_flight
from exp_pool.calls.drivers.refinement import refine_on_thread
from exp_pool.calls.drivers.run import Running
from exp_pool.calls.drivers.services import Ports
from exp_pool.calls.steps import Ask, Claim, Claimed, FlowStep, Improve, Once, Outcome, Renew, Run, Shared, Story
from exp_pool.runtime.async_bridge import resolve

T = TypeVar("T")


def drive(telling: Story[T], ports: Ports, function: Callable[..., Any]) -> T:
    """The story's end. What the pool's parts raise is told to the story; what ends a process is not.

    The function is run from here, and what it is told once for all who ask the same is told here, too: a function that
    calls itself pays for each frame that stands in between. With one for each of these things it came 82 calls deep.
    """
    now: Story[Any] = telling  # the story, or the part of it that is being told
    parts: list[_Part] = []  # the innermost last
    came_of_it: Any = None
    raised: Exception | None = None
    try:
        while True:
            ended: StopIteration | Exception | None = None
            try:
                step = now.send(came_of_it) if raised is None else now.throw(raised)
            except StopIteration as end:
                if not parts:
                    ending: T = end.value
                    return ending
                ended = end
            except Exception as err:
                if not parts:
                    raise
                ended = err
            came_of_it, raised = None, None
            try:
                if ended is not None:
                    now = parts[-1].around
                    came_of_it = parts.pop().end(ports, ended)
                elif type(step) is Run:
                    with Running() as run:
                        run.value = function(*step.request.args, **step.request.kwargs)
                    came_of_it = run.outcome
                elif type(step) is Once:
                    came_of_it = _board(step, ports)
                    if isinstance(came_of_it, single_flight.Flight):
                        parts.append(_Part(now, step, came_of_it))
                        now, came_of_it = step.part(), None
                else:
                    came_of_it = perform(step, ports, function)
            except Exception as err:
                raised = err
    finally:
        raised = ended = None  # or they would be in a circle with this frame
        while parts:
            now.close()
            now = parts[-1].around
            parts.pop().end(ports, None)
        now.close()


class _Part:
    """A part of a story that is told once for all who ask the same; `around` is the story that waits for its end."""

    __slots__ = ("_flight", "_leading", "_step", "around")

    def __init__(self, around: Story[Any], step: Once, flight: single_flight.Flight) -> None:
        self.around, self._step, self._flight = around, step, flight
        self._leading = single_flight.leading(flight)
        self._leading.__enter__()

    def end(self, ports: Ports, ended: StopIteration | Exception | None) -> Shared:
        """Tell those who wait what it came to.

        Raises:
            Exception: what it ended with.
        """
        self._leading.__exit__()
        ending: Any = ended.value if isinstance(ended, StopIteration) else None
        ports.land(self._step, self._flight, ending)
        if ended is not None and not isinstance(ended, StopIteration):
            raise ended
        return Shared(ending, led=True)


def advance(telling: Story[Any], step: FlowStep, ports: Ports, function: Callable[..., Any]) -> FlowStep:
    """Perform one step and give the next one. Raises StopIteration at the story's end."""
    try:
        came_of_it = perform(step, ports, function)
    except Exception as err:
        return telling.throw(err)
    return telling.send(came_of_it)


def perform(step: FlowStep, ports: Ports, function: Callable[..., Any]) -> Any:
    """What one step comes to."""
    match step:
        case Run():
            return _run(function, step)
        case Claim():
            return _claim(step, ports)
        case Improve(request):
            better, ended = refine_on_thread(step, lambda telling: drive(telling, ports, function))
            ports.background.refine(ended, f"refine {request.function}")
            return better
        case Renew():
            return ports.renewals.on_thread(step, lambda telling: drive(telling, ports, function))
        case Ask(question, arguments):
            return resolve(question(*arguments))
        case _:
            return ports.perform(step)


def _run(function: Callable[..., Any], step: Run) -> Outcome:
    with Running() as run:
        run.value = function(*step.request.args, **step.request.kwargs)
    return run.outcome


def _board(step: Once, ports: Ports) -> single_flight.Flight | Shared | None:
    """The flight that this call leads; else how the same call ended elsewhere, None where it must not wait."""
    while True:
        flight, leads = ports.flights.board(step)
        if leads:
            return flight
        ending = None
        try:
            with single_flight.waiting_for(flight, blocking=True) as may_wait:
                if not (may_wait and step.wait):
                    return None
                ending = single_flight.wait(flight)
        finally:
            if ports.flights.leave(step, flight):
                single_flight.cancel(flight)
        if ending is not None:
            return Shared(ending, led=False)


def _claim(step: Claim, ports: Ports) -> Claimed:
    claimed: Claimed = ports.perform(step)
    if claimed.busy and step.wait:
        for seconds in ports.leases.waits(nested=len(single_flight.inside()) > 1):
            time.sleep(seconds)
            claimed = ports.perform(step)
            if not claimed.busy:
                break
    return claimed
