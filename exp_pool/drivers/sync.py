"""Performs the story for a plain function: every step on the caller's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from exp_pool._clock import monotonic
from exp_pool.capture import begin_capture, end_capture
from exp_pool.drivers.ports import Ports
from exp_pool.flow import Outcome, Run, Story

T = TypeVar("T")


def drive(telling: Story[T], ports: Ports, function: Callable[..., Any]) -> T:
    """The story's end. What the pool's parts raise is told to the story; what ends a process is not."""
    try:
        step = next(telling)
        while True:
            try:
                came_of_it = _run(function, step) if isinstance(step, Run) else ports.perform(step)
            except Exception as err:
                step = telling.throw(err)
            else:
                step = telling.send(came_of_it)
    except StopIteration as end:
        ending: T = end.value
        return ending
    finally:
        telling.close()


def _run(function: Callable[..., Any], step: Run) -> Outcome:
    capture, token = begin_capture()
    began = monotonic()
    try:
        value = function(*step.request.args, **step.request.kwargs)
    except Exception as err:
        return Outcome(error=err, capture=capture, time_s=monotonic() - began)
    finally:
        end_capture(token)
    return Outcome(value, None, capture, monotonic() - began)
