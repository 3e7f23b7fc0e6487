"""The drivers of batches: each item is a call with a flow of its own, and the function runs once for all that miss.

`Batch.flow` is one generator for plain and for coroutine functions. It yields the steps of its items' flows, and steps
of its own (`RunAll`, `WaitFor`, `RunAlone`); `drive` and `drive_async` perform them.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias

from exp_pool.calls.drivers import single_flight, sync
from exp_pool.calls.drivers.aio import Driver, InOwnTask
from exp_pool.calls.drivers.run import FunctionRun
from exp_pool.calls.drivers.services import CallServices
from exp_pool.calls.drivers.single_flight import Flight
from exp_pool.calls.steps import CallResult, Coalesce, Flow, FlowStep, Outcome, Run, Shared
from exp_pool.core.capture import Capture
from exp_pool.core.results import Answer
from exp_pool.core.values.batch_values import ApartError, Part, Split, parts_of


@dataclass(slots=True)
class Item:
    """One distinct item: its first position in the batch, and its flow; no flow where the item cannot be keyed."""

    position: int
    key: str = ""
    flow: Flow[CallResult] | None = None
    outer: Flow[CallResult] | None = None  # while `flow` is a part of it that is driven once
    once: Coalesce | None = None
    flight: Flight | None = None
    waits: bool = False
    result: CallResult | None = None


@dataclass(frozen=True, slots=True)
class RunAll:
    """Run the function on this part of its batch. Result: one `Outcome`, whose value is what the function returned."""

    passed: Any
    flights: list[Flight]


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Wait for a flight that another call leads. Result: its `CallResult`, or None."""

    flight: Flight


@dataclass(frozen=True, slots=True)
class RunAlone:
    """Drive one item's flow by itself, because the call that computed it has no result. Result: its `CallResult`."""

    item: Item


BatchFlow: TypeAlias = Generator[FlowStep | RunAll | WaitFor | RunAlone, Any, None]


@dataclass(slots=True)
class Batch:
    """The distinct items of one call, in order.

    `apart`: what the function returned was taken apart; otherwise no item has an answer. `result` is what it returned,
    for the whole batch if `covered`, and `word` says what that is (`wholes`); None where it did not run.
    """

    items: list[Item]
    split: Split
    services: CallServices
    again: Callable[[Item], Flow[CallResult]]  # a new flow of an item
    loop: asyncio.AbstractEventLoop | None = None
    missing: list[Item] = field(default_factory=list)
    when_empty: Callable[[], object] | None = None
    apart: bool = True
    covered: bool = False
    result: Any = None
    word: str | None = None

    @property
    def led(self) -> list[tuple[Coalesce, Flight]]:
        """The flights that this batch leads and that have not completed."""
        return [
            (i.once, i.flight) for i in self.items if i.once and i.flight and not i.waits and not i.flight.completed
        ]

    def flow(self) -> BatchFlow:
        """Every item's flow, as far as the function; the function; the rest of the flows."""
        try:
            # By key, so that two batches that claim the same keys never wait for each other in a circle.
            for item in sorted(self.items, key=lambda item: item.key):
                yield from self._look(item)
            self.missing = [item for item in self.items if item.result is None and not item.waits]
            if self.missing:
                yield from self._run()
            if not self.apart:
                return
            for item in self.items:
                if item.waits:
                    yield from self._wait(item)
        finally:
            for item in self.items:
                self._close(item)

    def _look(self, item: Item) -> BatchFlow:
        """Drive the flow until the function is to run, or another call runs it, or the end."""
        if item.flow is None:
            return
        step = next(item.flow)
        while not isinstance(step, Run):
            if isinstance(step, Coalesce):
                flight, leads = self.services.flights.join(step, self.loop)
                if not leads:
                    item.once, item.flight, item.waits = step, flight, True
                    return
                item.once, item.flight, item.outer, item.flow = step, flight, item.flow, step.part()
                flight.when_empty = self.when_empty
                step = next(item.flow)
                continue
            following = yield from self._advance(item, step)
            if following is None:
                return
            step = following

    def _advance(self, item: Item, step: FlowStep) -> Generator[FlowStep, Any, FlowStep | None]:
        """Have one step performed and give the next one; None at the end, which the item then has."""
        assert item.flow is not None
        try:
            try:
                result = yield step
            except Exception as err:
                return item.flow.throw(err)
            return item.flow.send(result)
        except StopIteration as end:
            return self._ended(item, end.value)

    def _ended(self, item: Item, result: CallResult) -> FlowStep | None:
        if item.outer is None:
            item.result = result
            return None
        assert item.once is not None
        assert item.flight is not None
        self.services.complete(item.once, item.flight, result)
        self._close(item)
        item.result = result
        return None

    def _run(self) -> BatchFlow:
        flights = [item.flight for item in self.missing if item.flight is not None]
        passed, positions = self.split.some([item.position for item in self.missing])
        outcome: Outcome = yield RunAll(passed, flights)
        outcomes = self._one_each(outcome, passed, positions)
        self.covered = len(positions) == len(self.split.items)
        for item in self.missing:
            own = outcomes.get(item.position)
            if own is None:  # its flow has no result; calls that wait for it see for themselves
                continue
            if item.flow is None:
                item.result = CallResult(Answer(own.value), own.error)
                continue
            try:
                step: FlowStep | None = item.flow.send(own)
            except StopIteration as end:
                step = self._ended(item, end.value)
            while step is not None:
                step = yield from self._advance(item, step)

    def _one_each(self, outcome: Outcome, passed: Any, positions: list[int]) -> dict[int, Outcome]:
        """The outcome for each position; empty where the result cannot be taken apart."""
        if outcome.error is not None:
            return dict.fromkeys(positions, replace(outcome, value=None))
        parts, word, self.result = parts_of(outcome.value, len(positions), passed)
        if parts is None:
            self.apart = False
            return {}
        self.word = word
        shares = _shares(outcome.capture, len(self.missing))
        time_s = outcome.time_s / len(self.missing)
        wanted = {item.position for item in self.missing}
        return {
            position: Outcome(part, None, next(shares), time_s, whole=word)
            for position, part in zip(positions, parts, strict=True)
            if position in wanted
        }

    def single(self, item: Item) -> tuple[Any, Callable[[Any], Any]]:
        """What the function is given for one item by itself, and what takes its answer out of what it returns."""
        passed, positions = self.split.some([item.position])

        def taken(result: Any) -> Any:
            parts, word, _ = parts_of(result, len(positions), passed)
            if parts is None:
                raise ApartError("what the function returned for one item cannot be taken apart")
            self.word = word
            return Part(parts[positions.index(item.position)], word)

        return passed, taken

    def _wait(self, item: Item) -> BatchFlow:
        assert item.flow is not None
        assert item.flight is not None
        result = yield WaitFor(item.flight)
        if result is None:
            item.flow.close()
            item.result = yield RunAlone(replace(item, flow=self.again(item)))
            return
        try:
            step: FlowStep | None = item.flow.send(Shared(result, led=False))
        except StopIteration as end:
            item.result = end.value
            return
        while step is not None and not isinstance(step, Coalesce | Run):
            step = yield from self._advance(item, step)
        if step is not None:  # there is no copy to be had
            item.flow.close()
            item.result = yield RunAlone(replace(item, flow=self.again(item)))

    def _close(self, item: Item) -> None:
        """End the item's flow and flight, whatever happened."""
        for flow in (item.flow, item.outer):
            if flow is not None:
                flow.close()
        if item.flight is None or item.once is None:
            return
        if item.waits:
            if self.services.flights.leave(item.once, item.flight):
                single_flight.cancel(item.flight)
        else:
            self.services.complete(item.once, item.flight, None)
        item.flight = None


def _shares(whole: Capture, count: int) -> Iterator[Capture]:
    """What the batch cost, divided evenly."""
    tokens = [(whole.tokens_in, "tokens_in"), (whole.tokens_out, "tokens_out")]
    for position in range(count):
        capture = Capture(
            model=whole.model,
            strategy=whole.strategy,
            money_usd=None if whole.money_usd is None else whole.money_usd / count,
            steps=whole.steps,
            metadata=whole.metadata,
        )
        for amount, name in tokens:
            if amount is not None:
                setattr(capture, name, amount // count + (position < amount % count))
        yield capture


@contextmanager
def _leading(flights: list[Flight]) -> Iterator[None]:
    """What runs here is inside of all these flights."""
    with ExitStack() as stack:
        for flight in flights:
            stack.enter_context(single_flight.leading(flight))
        yield


class _Exchange:
    """Iterates over a flow's steps. What a ``with`` block sets as `result`, or raises, is sent back for the step."""

    def __init__(self, flow: BatchFlow) -> None:
        self._flow = flow
        self._error: Exception | None = None
        self.result: Any = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FlowStep | RunAll | WaitFor | RunAlone:
        result, error, self.result, self._error = self.result, self._error, None, None
        return self._flow.send(result) if error is None else self._flow.throw(error)

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, err: BaseException | None, __: object) -> bool:
        self._error = err if isinstance(err, Exception) else None
        return self._error is not None


def drive(batch: Batch, function: Callable[[Any], Any]) -> None:
    """Drive the batch on the caller's thread. `function` takes a part of the batch."""

    def run_one(item: Item, *_: Any, **__: Any) -> Any:
        passed, taken = batch.single(item)
        return taken(function(passed))

    with closing(batch.flow()) as flow:
        for step in (steps := _Exchange(flow)):
            with steps:
                match step:
                    case RunAll(passed, flights):
                        with FunctionRun() as run, _leading(flights):
                            run.value = function(passed)
                        steps.result = run.outcome
                    case WaitFor(flight):
                        with single_flight.waiting_for(flight, blocking=True) as may_wait:
                            steps.result = single_flight.wait(flight) if may_wait else None
                    case RunAlone(item):
                        assert item.flow is not None
                        steps.result = sync.drive(item.flow, batch.services, functools.partial(run_one, item))
                    case _:
                        steps.result = sync.perform(step, batch.services, function)


async def drive_async(batch: Batch, function: Callable[[Any], Any], driver: Driver) -> None:
    """Drive the batch in the caller's task.

    Args:
        batch: the items.
        function: takes a part of the batch.
        driver: performs the steps of the items' flows.
    """

    async def run_one(item: Item, *_: Any, **__: Any) -> Any:
        passed, taken = batch.single(item)
        return taken(await function(passed))

    with closing(batch.flow()) as flow:
        for step in (steps := _Exchange(flow)):
            with steps:
                match step:
                    case RunAll(passed, flights):
                        with FunctionRun() as run, _leading(flights):
                            run.value = await function(passed)
                        steps.result = run.outcome
                    case WaitFor(flight):
                        with single_flight.waiting_for(flight, blocking=False) as may_wait:
                            steps.result = await single_flight.wait_async(flight) if may_wait else None
                    case RunAlone(item):
                        assert item.flow is not None
                        alone = Driver(driver.services, functools.partial(run_one, item), driver.threads)
                        steps.result = await alone.drive(item.flow)
                    case _:
                        steps.result = await driver.perform(step)


async def drive_in_own_task(batch: Batch, function: Callable[[Any], Any], driver: Driver) -> None:
    """Drive the batch in a task of its own, so that a cancelled caller takes no item from others who wait for it.

    Args:
        batch: the items.
        function: takes a part of the batch.
        driver: performs the steps of the items' flows.
    """

    def leave() -> bool:
        return all([batch.services.flights.leave(once, flight) for once, flight in batch.led])  # noqa: C419  (each one)

    def cancel_if_empty() -> None:
        if not any(flight.waiters for _, flight in batch.led):
            task.cancel()

    batch.when_empty = cancel_if_empty
    task = InOwnTask(drive_async(batch, function, driver), leave)
    await task.result()
