"""What a running call knows about itself: `record` adds to its experience, `bypass` and `in_namespace` surround calls.

All of it rests on context variables, so threads and tasks do not see each other's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Any

from exp_pool.encoding import dumps
from exp_pool.errors import EncodingError, InvalidInputError
from exp_pool.experience import Step
from exp_pool.records import OWN_METADATA


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


@dataclass(frozen=True, slots=True)
class Switches:
    """Whether the pool may be read and written."""

    read: bool = True
    write: bool = True


_capture: ContextVar[Capture | None] = ContextVar("exp_pool_capture", default=None)
_switches: ContextVar[Switches] = ContextVar("exp_pool_switches", default=Switches())  # noqa: B039  (frozen)
_namespace: ContextVar[str | None] = ContextVar("exp_pool_namespace", default=None)


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

    Raises:
        InvalidInputError: a negative amount, a step that is none, or metadata that JSON cannot hold or with an entry
            ``"exp_pool"``, which is the pool's own.
    """
    for name, amount in (("money_usd", money_usd), ("tokens_in", tokens_in), ("tokens_out", tokens_out)):
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
    capture.model = str(model) if model is not None else capture.model
    capture.strategy = str(strategy) if strategy is not None else capture.strategy
    if money_usd is not None:
        capture.money_usd = (capture.money_usd or 0) + money_usd
    if tokens_in is not None:
        capture.tokens_in = (capture.tokens_in or 0) + int(tokens_in)
    if tokens_out is not None:
        capture.tokens_out = (capture.tokens_out or 0) + int(tokens_out)
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


@contextmanager
def bypass(*, read: bool = True, write: bool = True) -> Iterator[None]:
    """Decorated calls inside skip the pool's reading, its writing, or both.

    ``bypass(write=False)`` runs the function and stores its answer; ``bypass(read=False)`` answers but stores nothing.
    """
    outer = _switches.get()
    token = _switches.set(Switches(outer.read and not read, outer.write and not write))
    try:
        yield
    finally:
        _switches.reset(token)


@contextmanager
def in_namespace(namespace: str) -> Iterator[None]:
    """Calls and queries inside belong to this namespace, whatever the decorator or the manager says.

    Raises:
        InvalidInputError: the name is empty or no text.
    """
    if not isinstance(namespace, str) or not namespace:
        raise InvalidInputError(f"in_namespace({namespace!r}): the name of a namespace is text, not empty")
    token = _namespace.set(namespace)
    try:
        yield
    finally:
        _namespace.reset(token)


def current_switches() -> Switches:
    """What surrounds this call."""
    return _switches.get()


def current_namespace() -> str | None:
    """The namespace that surrounds this call, if one does."""
    return _namespace.get()
