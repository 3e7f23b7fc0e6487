"""Performs the stories of a batch: each item is a call of its own, and the function runs once for all that is missing.

`Batch.tell` is one generator for both kinds of drivers. It yields steps, `RunAll` and `WaitFor`; the drivers at the end
of this file perform them.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from exp_pool.calls.drivers import single_flight, sync
from exp_pool.calls.drivers.aio import Driver, InOwnTask
from exp_pool.calls.drivers.run import Running
from exp_pool.calls.drivers.services import Ports
from exp_pool.calls.drivers.single_flight import Flight
from exp_pool.calls.steps import Ending, FlowStep, Once, Outcome, Run, Shared, Story
from exp_pool.core.capture import Capture
from exp_pool.core.results import Answer
from exp_pool.core.values.batch_values import ApartError, Part, Split, parts_of


@dataclass(slots=True)
class Item:
    """One distinct item: where it first stands, and its story; no story where it cannot be told from others."""

    position: int
    key: str = ""
    telling: Story[Ending] | None = None
    outer: Story[Ending] | None = None  # while `wording_model` is the part that is told once
    once: Once | None = None
    flight: Flight | None = None
    waits: bool = False
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class RunAll:
    """Run the function on this part of its batch. Comes to one `Outcome`, whose value is what the function returned."""

    passed: Any
    flights: list[Flight]


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Wait for somebody else's flight. Comes to its `Ending`, or to None."""

    flight: Flight


@dataclass(frozen=True, slots=True)
class Straggler:
    """Tell one item's story by itself: whoever computed it came to nothing. Comes to its `Ending`."""

    item: Item


Telling: TypeAlias = Generator[FlowStep | RunAll | WaitFor | Straggler, Any, None]


@dataclass(slots=True)
class Batch:
    """The distinct items of one call, in order.

    `apart`: what the function returned was taken apart; otherwise no item has an answer. `result` is what it returned,
    for the whole batch if `covered`, and `word` says what that is (`wholes`); None where it did not run.
    """

    items: list[Item]
    split: Split
    ports: Ports
    again: Callable[[Item], Story[Ending]]  # an item's story from its beginning
    loop: asyncio.AbstractEventLoop | None = None
    missing: list[Item] = field(default_factory=list)
    when_empty: Callable[[], object] | None = None
    apart: bool = True
    covered: bool = False
    result: Any = None
    word: str | None = None

    @property
    def led(self) -> list[tuple[Once, Flight]]:
        """The flights that this batch leads and that have not landed."""
        return [(i.once, i.flight) for i in self.items if i.once and i.flight and not i.waits and not i.flight.landed]

    def tell(self) -> Telling:
        """Every item's story, as far as the function; the function; the rest."""
        try:
            # By key, so that two batches that claim the same keys never wait for each other in a circle.
            for item in sorted(self.items, key=lambda item: item.key):
                yield from self._look(item)
            self.missing = [item for item in self.items if item.ending is None and not item.waits]
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

    def _look(self, item: Item) -> Telling:
        """Tell the story until the function is to run, or somebody else runs it, or the end."""
        if item.telling is None:
            return
        step = next(item.telling)
        while not isinstance(step, Run):
            if isinstance(step, Once):
                flight, leads = self.ports.flights.board(step, self.loop)
                if not leads:
                    item.once, item.flight, item.waits = step, flight, True
                    return
                item.once, item.flight, item.outer, item.telling = step, flight, item.telling, step.part()
                flight.when_empty = self.when_empty
                step = next(item.telling)
                continue
            following = yield from self._advance(item, step)
            if following is None:
                return
            step = following

    def _advance(self, item: Item, step: FlowStep) -> Generator[FlowStep, Any, FlowStep | None]:
        """Have one step performed and give the next one; None at the end, which the item then has."""
        assert item.telling is not None
        try:
            try:
                came_of_it = yield step
            except Exception as err:
                return item.telling.throw(err)
            return item.telling.send(came_of_it)
        except StopIteration as end:
            return self._ended(item, end.value)

    def _ended(self, item: Item, ending: Ending) -> FlowStep | None:
        if item.outer is None:
            item.ending = ending
            return None
        assert item.once is not None
        assert item.flight is not None
        self.ports.land(item.once, item.flight, ending)
        self._close(item)
        item.ending = ending
        return None

    def _run(self) -> Telling:
        flights = [item.flight for item in self.missing if item.flight is not None]
        passed, positions = self.split.some([item.position for item in self.missing])
        outcome: Outcome = yield RunAll(passed, flights)
        outcomes = self._one_each(outcome, passed, positions)
        self.covered = len(positions) == len(self.split.items)
        for item in self.missing:
            own = outcomes.get(item.position)
            if own is None:  # its story has no end; whoever waits for it sees for himself
                continue
            if item.telling is None:
                item.ending = Ending(Answer(own.value), own.error)
                continue
            try:
                step: FlowStep | None = item.telling.send(own)
            except StopIteration as end:
                step = self._ended(item, end.value)
            while step is not None:
                step = yield from self._advance(item, step)

    def _one_each(self, outcome: Outcome, passed: Any, positions: list[int]) -> dict[int, Outcome]:
        """What it came to for each position; nothing where the result cannot be taken apart."""
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

    def _wait(self, item: Item) -> Telling:
        assert item.telling is not None
        assert item.flight is not None
        ending = yield WaitFor(item.flight)
        if ending is None:
            item.telling.close()
            item.ending = yield Straggler(replace(item, telling=self.again(item)))
            return
        try:
            step: FlowStep | None = item.telling.send(Shared(ending, led=False))
        except StopIteration as end:
            item.ending = end.value
            return
        while step is not None and not isinstance(step, Once | Run):
            step = yield from self._advance(item, step)
        if step is not None:  # there is no copy to be had
            item.telling.close()
            item.ending = yield Straggler(replace(item, telling=self.again(item)))

    def _close(self, item: Item) -> None:
        """Whatever happened: nobody waits for this item any more."""
        for telling in (item.telling, item.outer):
            if telling is not None:
                telling.close()
        if item.flight is None or item.once is None:
            return
        if item.waits:
            if self.ports.flights.leave(item.once, item.flight):
                single_flight.cancel(item.flight)
        else:
            self.ports.land(item.once, item.flight, None)
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


def drive(batch: Batch, function: Callable[[Any], Any]) -> None:
    """Perform it on the caller's thread. `function` takes a part of the batch."""
    telling = batch.tell()
    came_of_it: Any = None
    error: Exception | None = None
    try:
        while True:
            step = telling.send(came_of_it) if error is None else telling.throw(error)
            came_of_it, error = None, None
            try:
                match step:
                    case RunAll(passed, flights):
                        with Running() as run, _leading(flights):
                            run.value = function(passed)
                        came_of_it = run.outcome
                    case WaitFor(flight):
                        with single_flight.waiting_for(flight, blocking=True) as may_wait:
                            came_of_it = single_flight.wait(flight) if may_wait else None
                    case Straggler(item):
                        assert item.telling is not None
                        alone = functools.partial(_single, batch, function, item)
                        came_of_it = sync.drive(item.telling, batch.ports, alone)
                    case _:
                        came_of_it = sync.perform(step, batch.ports, function)
            except Exception as err:
                error = err
    except StopIteration:
        return
    finally:
        telling.close()


def _single(batch: Batch, function: Callable[[Any], Any], item: Item, *_: Any, **__: Any) -> Any:
    passed, taken = batch.single(item)
    return taken(function(passed))


async def drive_async(batch: Batch, function: Callable[[Any], Any], driver: Driver) -> None:
    """The same for a coroutine function."""
    telling = batch.tell()
    came_of_it: Any = None
    error: Exception | None = None

    async def single(item: Item, *_: Any, **__: Any) -> Any:
        passed, taken = batch.single(item)
        return taken(await function(passed))

    try:
        while True:
            step = telling.send(came_of_it) if error is None else telling.throw(error)
            came_of_it, error = None, None
            try:
                match step:
                    case RunAll(passed, flights):
                        with Running() as run, _leading(flights):
                            run.value = await function(passed)
                        came_of_it = run.outcome
                    case WaitFor(flight):
                        with single_flight.waiting_for(flight, blocking=False) as may_wait:
                            came_of_it = await single_flight.wait_async(flight) if may_wait else None
                    case Straggler(item):
                        assert item.telling is not None
                        alone = functools.partial(single, item)
                        came_of_it = await Driver(driver.ports, alone, driver.threads).drive(item.telling)
                    case _:
                        came_of_it = await driver.perform(step)
            except Exception as err:
                error = err
    except StopIteration:
        return
    finally:
        telling.close()


async def drive_in_own_task(batch: Batch, function: Callable[[Any], Any], driver: Driver) -> None:
    """The same in a task of its own: a cancelled caller takes no item from others who wait for it."""

    def leave() -> bool:
        return all([batch.ports.flights.leave(once, flight) for once, flight in batch.led])  # noqa: C419  (each one)

    def cancel_if_empty() -> None:
        if not any(flight.aboard for _, flight in batch.led):
            task.cancel()

    batch.when_empty = cancel_if_empty
    task = InOwnTask(drive_async(batch, function, driver), leave)
    await task.result()
