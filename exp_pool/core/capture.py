"""Capture: what a running call records about itself by `record`, to be stored with its experience.

A context variable holds it, so calls in other threads and tasks do not see each other's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from exp_pool.core.experience import Step
from exp_pool.core.record import OWN_METADATA
from exp_pool.core.values.encoding import dumps
from exp_pool.errors import EncodingError, InvalidInputError


@dataclass(slots=True)
class Capture:
    """What `record` was told during one call."""

    model: str | None = None
    strategy: str | None = None
    money_usd: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    steps: list[Step] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)  # threads of one call may record at once


_capture: ContextVar[Capture | None] = ContextVar("exp_pool_capture", default=None)


def record(
    *,
    model: str | None = None,
    strategy: str | None = None,
    money_usd: float | None = None,
    tokens_in: int | None = None,
    tokens_out: int | None = None,
    step: Step | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Add to the experience being captured; outside a capture nothing happens.

    Money (US dollars) and tokens add up over several calls, steps and metadata are collected, of model and strategy the
    last one counts.

    Args:
        model: the model that answered.
        strategy: how it was asked, in words of the caller's own.
        money_usd: US dollars that this part of the call cost.
        tokens_in: tokens of the prompt.
        tokens_out: tokens of the answer.
        step: one step of the trajectory.
        metadata: entries for `Experience.metadata`.

    Raises:
        InvalidInputError: a negative amount, a step that is none, or metadata that JSON cannot hold or with an entry
            ``"exp_pool"``, which is the pool's own.
    """
    amounts = {"money_usd": money_usd, "tokens_in": tokens_in, "tokens_out": tokens_out}
    for name, amount in amounts.items():
        if amount is not None and not (isinstance(amount, int | float) and 0 <= amount < float("inf")):
            raise InvalidInputError(f"record({name}={amount!r}) must be a number, finite and not negative")
    if step is not None and not isinstance(step, Step):
        raise InvalidInputError(f"record(step={step!r}) must be a Step(plan=, action=, observation=, reward=)")
    try:
        dumps(dict(metadata or {}))
    except (EncodingError, TypeError, ValueError) as err:
        raise InvalidInputError(f"record(metadata={metadata!r:.80}) must be a dict that JSON can hold: {err}") from err
    if OWN_METADATA in (metadata or ()):
        raise InvalidInputError(
            f"record(metadata=): the entry {OWN_METADATA!r} is the pool's own; name yours otherwise"
        )
    capture = _capture.get()
    if capture is None:
        return
    with capture.lock:
        capture.model = str(model) if model is not None else capture.model
        capture.strategy = str(strategy) if strategy is not None else capture.strategy
        for name, amount in amounts.items():
            if amount is not None:
                setattr(capture, name, (getattr(capture, name) or 0) + (amount if name == "money_usd" else int(amount)))
        if step is not None:
            capture.steps.append(step)
        capture.metadata.update(metadata or {})


def begin_capture() -> tuple[Capture, Token[Capture | None]]:
    """A capture for the call about to run, and what ends it."""
    capture = Capture()
    return capture, _capture.set(capture)


def end_capture(token: Token[Capture | None]) -> None:
    """What is recorded from here on belongs to the call outside again."""
    _capture.reset(token)


def cost_of(capture: Capture, time_s: float) -> dict[str, float]:
    """What the call cost, by the names of `Metric`, without what is unknown."""
    # A dict: making a Metric takes as long as reading a row from SQLite.
    found = {
        "time_s": time_s,
        "money_usd": capture.money_usd,
        "tokens_in": capture.tokens_in,
        "tokens_out": capture.tokens_out,
    }
    return {name: amount for name, amount in found.items() if amount is not None}
