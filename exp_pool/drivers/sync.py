"""Performs the story for a plain function: every step on the caller's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from exp_pool.awaiting import settled
from exp_pool.drivers import single_flight
from exp_pool.drivers.ports import Ports
from exp_pool.drivers.refining import refine_on_thread
from exp_pool.drivers.running import Running
from exp_pool.steps import Ask, Claim, Claimed, FlowStep, Improve, Once, Outcome, Renew, Run, Shared, Story

T = TypeVar("T")


def drive(telling: Story[T], ports: Ports, function: Callable[..., Any]) -> T:
    """The story's end. What the pool's parts raise is told to the story; what ends a process is not."""
    try:
        step = next(telling)
        while True:
            step = advance(telling, step, ports, function)
    except StopIteration as end:
        ending: T = end.value
        return ending
    finally:
        telling.close()


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
        case Once():
            return _once(step, ports, function)
        case Claim():
            return _claim(step, ports)
        case Improve(request):
            better, ended = refine_on_thread(step, lambda telling: drive(telling, ports, function))
            ports.background.refine(ended, f"refine {request.function}")
            return better
        case Renew():
            return ports.renewals.on_thread(step, lambda telling: drive(telling, ports, function))
        case Ask(question, arguments):
            return settled(question(*arguments))
        case _:
            return ports.perform(step)


def _run(function: Callable[..., Any], step: Run) -> Outcome:
    with Running() as run:
        run.value = function(*step.request.args, **step.request.kwargs)
    return run.outcome


def _once(step: Once, ports: Ports, function: Callable[..., Any]) -> Shared | None:
    while True:
        flight, leads = ports.flights.board(step)
        ending = None
        if leads:
            try:
                with single_flight.leading(flight):
                    ending = drive(step.part(), ports, function)
            finally:
                ports.land(step, flight, ending)
            return Shared(ending, led=True)
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
