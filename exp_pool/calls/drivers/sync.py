"""The driver of plain functions: performs every step on the caller's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from exp_pool.calls.drivers import single_flight
from exp_pool.calls.drivers.refinement import refine_on_thread
from exp_pool.calls.drivers.run import FunctionRun
from exp_pool.calls.drivers.services import CallServices
from exp_pool.calls.steps import (
    CallUserCallback,
    Claimed,
    ClaimLease,
    Coalesce,
    Flow,
    FlowStep,
    Renew,
    Run,
    Shared,
    StartRefinement,
)
from exp_pool.runtime.async_bridge import resolve

T = TypeVar("T")

_PERFORMED_HERE = frozenset({ClaimLease, StartRefinement, Renew, CallUserCallback})


def drive(flow: Flow[T], services: CallServices, function: Callable[..., Any]) -> T:
    """The flow's result. What a step raises is thrown into the flow, unless it ends the process.

    `Run` and the parts of `Coalesce` are performed in this frame, not by functions of their own: a function that calls
    itself pays for each frame that stands in between. With one frame for each of them, recursion came 82 calls deep.

    Args:
        flow: the flow, not begun yet.
        services: the parts of the pool.
        function: what `Run` runs.
    """
    now: Flow[Any] = flow  # the flow, or the part of it that is being driven
    parts: list[_Part] = []  # the innermost last
    result: Any = None
    raised: Exception | None = None
    try:
        while True:
            ended: StopIteration | Exception | None = None
            try:
                step = now.send(result) if raised is None else now.throw(raised)
            except StopIteration as end:
                if not parts:
                    returned: T = end.value
                    return returned
                ended = end
            except Exception as err:
                if not parts:
                    raise
                ended = err
            result, raised = None, None
            try:
                if ended is not None:
                    now = parts[-1].around
                    result = parts.pop().end(services, ended)
                elif type(step) is Run:
                    with FunctionRun() as run:
                        run.value = function(*step.request.args, **step.request.kwargs)
                    result = run.outcome
                elif type(step) is Coalesce:
                    result = _join(step, services)
                    if isinstance(result, single_flight.Flight):
                        parts.append(_Part(now, step, result))
                        now, result = step.part(), None
                elif type(step) in _PERFORMED_HERE:
                    result = perform(step, services, function)
                else:
                    result = services.perform(step)
            except Exception as err:
                raised = err
    finally:
        raised = ended = None  # or they would be in a circle with this frame
        while parts:
            now.close()
            now = parts[-1].around
            parts.pop().end(services, None)
        now.close()


class _Part:
    """A part of a flow that this call drives for all identical ones; `around` is the flow that waits for its result."""

    __slots__ = ("_flight", "_leading", "_step", "around")

    def __init__(self, around: Flow[Any], step: Coalesce, flight: single_flight.Flight) -> None:
        self.around, self._step, self._flight = around, step, flight
        self._leading = single_flight.leading(flight)
        self._leading.__enter__()

    def end(self, services: CallServices, ended: StopIteration | Exception | None) -> Shared:
        """Give the result to those who wait.

        Raises:
            Exception: what the part ended with.
        """
        self._leading.__exit__()
        result: Any = ended.value if isinstance(ended, StopIteration) else None
        services.complete(self._step, self._flight, result)
        if ended is not None and not isinstance(ended, StopIteration):
            raise ended
        return Shared(result, led=True)


def advance(flow: Flow[Any], step: FlowStep, services: CallServices, function: Callable[..., Any]) -> FlowStep:
    """Perform one step and return the next one. Raises StopIteration at the flow's end.

    Args:
        flow: the flow that has yielded the step.
        step: what is performed; neither `Run` nor `Coalesce`.
        services: the parts of the pool.
        function: what the flow of a refinement or renewal runs.
    """
    try:
        result = perform(step, services, function)
    except Exception as err:
        return flow.throw(err)
    return flow.send(result)


def perform(step: FlowStep, services: CallServices, function: Callable[..., Any]) -> Any:
    """One step's result.

    Args:
        step: what is performed; neither `Run` nor `Coalesce`.
        services: the parts of the pool.
        function: what the flow of a refinement or renewal runs.
    """
    match step:
        case ClaimLease():
            return _claim(step, services)
        case StartRefinement(request):
            refinement, ended = refine_on_thread(step, lambda flow: drive(flow, services, function))
            services.background.refine(ended, f"refine {request.function}")
            return refinement
        case Renew():
            return services.renewals.on_thread(step, lambda flow: drive(flow, services, function))
        case CallUserCallback(question, arguments):
            return resolve(question(*arguments))
        case _:
            return services.perform(step)


def _join(step: Coalesce, services: CallServices) -> single_flight.Flight | Shared | None:
    """The flight that this call leads; else the result of the identical call, or None where it must not wait."""
    while True:
        flight, leads = services.flights.join(step)
        if leads:
            return flight
        result = None
        try:
            with single_flight.waiting_for(flight, blocking=True) as may_wait:
                if not (may_wait and step.wait):
                    return None
                result = single_flight.wait(flight)
        finally:
            if services.flights.leave(step, flight):
                single_flight.cancel(flight)
        if result is not None:
            return Shared(result, led=False)


def _claim(step: ClaimLease, services: CallServices) -> Claimed:
    claimed: Claimed = services.perform(step)
    if claimed.busy and step.wait:
        for seconds in services.leases.waits(nested=len(single_flight.inside()) > 1):
            time.sleep(seconds)
            claimed = services.perform(step)
            if not claimed.busy:
                break
    return claimed
