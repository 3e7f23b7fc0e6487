"""Performs the story for a coroutine function.

What may wait for I/O is done by a thread. From the moment that the function runs, the rest of the story is a task of
its own: a caller who is cancelled takes nothing from others who wait for the same call, and the last one cancels it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from exp_pool.calls.drivers import single_flight
from exp_pool.calls.drivers.refinement import refine_as_task
from exp_pool.calls.drivers.run import Running
from exp_pool.calls.drivers.services import Ports
from exp_pool.calls.drivers.single_flight import Flight
from exp_pool.calls.steps import (
    Ask,
    Claim,
    Claimed,
    Ending,
    FindSimilar,
    FlowStep,
    Improve,
    NotFound,
    Once,
    Outcome,
    Renew,
    Run,
    Shared,
    Story,
)
from exp_pool.runtime.call_context import carried
from exp_pool.search.embedders.loader import done_or_late

T = TypeVar("T")

_UNSET = object()


@dataclass(frozen=True, slots=True)
class End:
    """The end of a story."""

    value: Any


class Driver:
    """Performs stories of one coroutine function.

    Args:
        ports: the parts of the pool.
        function: what `Run` runs.
        threads: where blocking work is done.
    """

    def __init__(self, ports: Ports, function: Callable[..., Any], threads: Callable[[], Executor]) -> None:
        self.ports = ports
        self.function = function
        self.threads = threads

    async def drive(self, telling: Story[T]) -> T:
        """The story's end. A cancelled caller ends the story; a write already under way is finished by its thread."""
        try:
            end = await self.tell(telling)
            assert isinstance(end, End)
            ending: T = end.value
            return ending
        finally:
            telling.close()

    async def tell(self, telling: Story[Any], *, came_of_it: Any = None, until_run: bool = False) -> Any:
        """Tell the story from what the last step came to (None at its beginning) to its `End`.

        With `until_run` up to the step `Run`, which is returned, and silent about the call being a miss.
        """
        try:
            step = telling.send(came_of_it)
            while not (until_run and isinstance(step, Run)):
                if until_run and isinstance(step, NotFound):
                    step = telling.send(None)
                    continue
                try:
                    came_of_it = await self.perform(step)
                except Exception as err:
                    step = telling.throw(err)
                else:
                    step = telling.send(came_of_it)
            return step
        except StopIteration as end:  # a coroutine must not raise it
            return End(end.value)

    async def perform(self, step: FlowStep) -> Any:
        """What one step comes to."""
        match step:
            case Run():
                return await self._run(step)
            case Once():
                return await self._once(step)
            case Claim():
                return await self._claim(step)
            case Improve(request):
                better, task = refine_as_task(step, self.drive)
                self.ports.background.refine(task, f"refine {request.function}")
                return better
            case Renew():
                return self.ports.renewals.as_task(step, self.drive)
            case Ask(question, arguments):
                answer = question(*arguments)
                return await answer if inspect.isawaitable(answer) else answer
            case FindSimilar():
                return await self._find_similar(step)
            case _ if self.ports.quick(step):
                return self.ports.perform(step)
            case _:
                return await hop(self.threads, self.ports.perform, step)

    async def _run(self, step: Run) -> Outcome:
        with Running() as run:
            running = self.function(*step.request.args, **step.request.kwargs)
            run.value = await (running if step.better is None else step.better.overtaking(running))
        return run.outcome

    async def _find_similar(self, step: FindSimilar) -> Any:
        """A model on its way is waited for here: on a thread, a few such calls would keep all others from theirs."""
        search = self.ports.search
        if not search.ready and (made := await hop(self.threads, self.ports.loading, step)) is not None:
            await done_or_late(made, search.patience())
        return await hop(self.threads, self.ports.perform, step)

    async def _claim(self, step: Claim) -> Claimed:
        claimed = await self._look(step)
        if claimed.busy and step.wait:
            for seconds in self.ports.leases.waits(nested=len(single_flight.inside()) > 1):
                await asyncio.sleep(seconds)
                claimed = await self._look(step)
                if not claimed.busy:
                    break
        return claimed

    async def _look(self, step: Claim) -> Claimed:
        if self.ports.quick(step):
            quick: Claimed = self.ports.perform(step)
            return quick
        return await hop(self.threads, self.ports.perform, step)

    # One call, once

    async def _once(self, step: Once) -> Shared | None:
        while True:
            flight, leads = self.ports.flights.board(step, asyncio.get_running_loop())
            if leads:
                return Shared(await self._lead(step, flight), led=True)
            try:
                with single_flight.waiting_for(flight, blocking=False) as may_wait:
                    if not (may_wait and step.wait):
                        return None
                    ending = await single_flight.wait_async(flight)
            finally:
                if self.ports.flights.leave(step, flight):
                    single_flight.cancel(flight)
            if ending is not None:
                return Shared(ending, led=False)

    async def _lead(self, step: Once, flight: Flight) -> Ending:
        """Tell the part: up to the function as the caller, from there on as a task that others depend on, too."""
        telling, task = step.part(), None
        ending: Ending | None = None
        try:
            with single_flight.leading(flight):
                run = await self.tell(telling, until_run=True)
                if isinstance(run, End):
                    ending = told = run.value
                    assert isinstance(told, Ending)
                    return told
                self.ports.perform(NotFound(step.request))
                task = InOwnTask(self._fly(step, flight, telling, run), lambda: self.ports.flights.leave(step, flight))
                # Also where it is cancelled before its first step, and so never runs at all.
                task.add_done_callback(lambda: self._over(step, flight, telling, None))
                flight.when_empty = task.cancel
        finally:
            if task is None:
                self._over(step, flight, telling, ending)
        landed: Ending = await task.result()
        return landed

    async def _fly(self, step: Once, flight: Flight, telling: Story[Ending], run: Run) -> Ending:
        ending: Ending | None = None
        try:
            ending = told = (await self.tell(telling, came_of_it=await self._run(run))).value
            assert isinstance(told, Ending)
            return told
        finally:
            self._over(step, flight, telling, ending)

    def _over(self, step: Once, flight: Flight, telling: Story[Ending], ending: Ending | None) -> None:
        telling.close()
        self.ports.land(step, flight, ending)


class InOwnTask:
    """Work that others depend on, too, in a task of its own, on behalf of one caller.

    Args:
        work: what is done, in a copy of the caller's context.
        leave: called when the caller is cancelled; whether nobody else depends on the work.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], leave: Callable[[], bool]) -> None:
        self._leave = leave
        self._before = carried()
        self._context = self._before.copy()
        self._task = asyncio.create_task(work, context=self._context)

    def cancel(self) -> None:
        """Cancel it."""
        self._task.cancel()

    def add_done_callback(self, call: Callable[[], None]) -> None:
        """Call this when it has ended, however it has."""
        self._task.add_done_callback(lambda _: call())

    async def result(self) -> Any:
        """What it comes to. Cancelled: leave it; the last one takes it down, and sees it out.

        What it set in context variables is set for the caller, as if it had been done in the caller's own task.
        """
        task = self._task
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            if not self._leave():
                raise
            task.cancel()
            while not task.done():
                try:
                    await asyncio.wait({task})
                except asyncio.CancelledError:
                    task.cancel()
            if task.cancelled() or not isinstance(task.exception(), Exception | None):  # the loop has raised it itself
                raise
        for variable, value in self._context.items():
            if value is not self._before.get(variable, _UNSET):
                variable.set(value)
        return task.result()


async def hop(threads: Callable[[], Executor], job: Callable[..., T], *args: Any) -> T:
    """The job's result, done by a thread, with the caller's context variables."""
    context = carried()

    def work() -> T:
        try:
            return context.run(job, *args)
        except StopIteration as err:  # a future cannot carry it, and the caller would wait for ever
            raise RuntimeError(f"a plug raised {err!r}") from err

    return await asyncio.get_running_loop().run_in_executor(threads(), work)
