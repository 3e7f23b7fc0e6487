"""The driver of coroutine functions: performs steps on the event loop, and those that may wait for I/O on a thread.

From the moment that the function runs, the rest of the flow is a task of its own: a caller who is cancelled takes
nothing from others who wait for the same call, and the last one cancels it.
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
from exp_pool.calls.drivers.run import FunctionRun
from exp_pool.calls.drivers.services import CallServices
from exp_pool.calls.drivers.single_flight import Flight
from exp_pool.calls.steps import (
    CallResult,
    CallUserCallback,
    Claimed,
    ClaimLease,
    Coalesce,
    FindSimilar,
    Flow,
    FlowStep,
    NotFound,
    Outcome,
    Renew,
    Run,
    Shared,
    StartRefinement,
)
from exp_pool.runtime.call_context import copy_context
from exp_pool.search.embedders.loader import done_or_late

T = TypeVar("T")

_UNSET = object()


@dataclass(frozen=True, slots=True)
class End:
    """The result of a flow that was driven to its end."""

    value: Any


class Driver:
    """Drives flows of one coroutine function.

    Args:
        services: the parts of the pool.
        function: what `Run` runs.
        threads: where blocking work is done.
    """

    def __init__(self, services: CallServices, function: Callable[..., Any], threads: Callable[[], Executor]) -> None:
        self.services = services
        self.function = function
        self.threads = threads

    async def drive(self, flow: Flow[T]) -> T:
        """The flow's result. A cancelled caller ends the flow; its thread finishes a write that is under way."""
        try:
            end = await self.advance(flow)
            assert isinstance(end, End)
            result: T = end.value
            return result
        finally:
            flow.close()

    async def advance(self, flow: Flow[Any], *, result: Any = None, until_run: bool = False) -> Any:
        """Drive the flow to its `End`; with `until_run` at most up to the step `Run`, which is returned then.

        Args:
            flow: the flow.
            result: of the step that the flow has yielded; None at its beginning.
            until_run: stop at `Run`, and do not say yet that the call is a miss.
        """
        try:
            step = flow.send(result)
            while not (until_run and isinstance(step, Run)):
                if until_run and isinstance(step, NotFound):
                    step = flow.send(None)
                    continue
                try:
                    result = await self.perform(step)
                except Exception as err:
                    step = flow.throw(err)
                else:
                    step = flow.send(result)
            return step
        except StopIteration as end:  # a coroutine must not raise it
            return End(end.value)

    async def perform(self, step: FlowStep) -> Any:
        """One step's result."""
        match step:
            case Run():
                return await self._run(step)
            case Coalesce():
                return await self._coalesce(step)
            case ClaimLease():
                return await self._claim(step)
            case StartRefinement(request):
                refinement, task = refine_as_task(step, self.drive)
                self.services.background.refine(task, f"refine {request.function}")
                return refinement
            case Renew():
                return self.services.renewals.as_task(step, self.drive)
            case CallUserCallback(question, arguments):
                answer = question(*arguments)
                return await answer if inspect.isawaitable(answer) else answer
            case FindSimilar():
                return await self._find_similar(step)
            case _:
                return await self._by_services(step)

    async def _by_services(self, step: FlowStep) -> Any:
        if self.services.quick(step):
            return self.services.perform(step)
        return await hop(self.threads, self.services.perform, step)

    async def _run(self, step: Run) -> Outcome:
        with FunctionRun() as run:
            running = self.function(*step.request.args, **step.request.kwargs)
            run.value = await (running if step.refinement is None else step.refinement.race_against(running))
        return run.outcome

    async def _find_similar(self, step: FindSimilar) -> Any:
        """Wait here for a model that is being loaded: on threads, a few such calls would leave none to other calls."""
        search = self.services.search
        if not search.ready and (made := await hop(self.threads, self.services.loading, step)) is not None:
            await done_or_late(made, search.patience())
        return await hop(self.threads, self.services.perform, step)

    async def _claim(self, step: ClaimLease) -> Claimed:
        claimed: Claimed = await self._by_services(step)
        if claimed.busy and step.wait:
            for seconds in self.services.leases.waits(nested=len(single_flight.inside()) > 1):
                await asyncio.sleep(seconds)
                claimed = await self._by_services(step)
                if not claimed.busy:
                    break
        return claimed

    # Single flight

    async def _coalesce(self, step: Coalesce) -> Shared | None:
        while True:
            flight, leads = self.services.flights.join(step, asyncio.get_running_loop())
            if leads:
                return Shared(await self._lead(step, flight), led=True)
            try:
                with single_flight.waiting_for(flight, blocking=False) as may_wait:
                    if not (may_wait and step.wait):
                        return None
                    result = await single_flight.wait_async(flight)
            finally:
                if self.services.flights.leave(step, flight):
                    single_flight.cancel(flight)
            if result is not None:
                return Shared(result, led=False)

    async def _lead(self, step: Coalesce, flight: Flight) -> CallResult:
        """Drive the part: up to the function as the caller, from there on as a task that others depend on, too."""
        flow, task = step.part(), None
        result: CallResult | None = None
        try:
            with single_flight.leading(flight):
                run = await self.advance(flow, until_run=True)
                if isinstance(run, End):
                    result = returned = run.value
                    assert isinstance(returned, CallResult)
                    return returned
                self.services.perform(NotFound(step.request))
                task = InOwnTask(self._fly(step, flight, flow, run), lambda: self.services.flights.leave(step, flight))
                # Also where it is cancelled before its first step, and so never runs at all.
                task.add_done_callback(lambda: self._over(step, flight, flow, None))
                flight.when_empty = task.cancel
        finally:
            if task is None:
                self._over(step, flight, flow, result)
        shared: CallResult = await task.result()
        return shared

    async def _fly(self, step: Coalesce, flight: Flight, flow: Flow[CallResult], run: Run) -> CallResult:
        result: CallResult | None = None
        try:
            result = returned = (await self.advance(flow, result=await self._run(run))).value
            assert isinstance(returned, CallResult)
            return returned
        finally:
            self._over(step, flight, flow, result)

    def _over(self, step: Coalesce, flight: Flight, flow: Flow[CallResult], result: CallResult | None) -> None:
        flow.close()
        self.services.complete(step, flight, result)


class InOwnTask:
    """Work that others depend on, too, in a task of its own, on behalf of one caller.

    Args:
        work: what is done, in a copy of the caller's context.
        leave: called when the caller is cancelled; returns whether no other caller depends on the work.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], leave: Callable[[], bool]) -> None:
        self._leave = leave
        self._before = copy_context()
        self._context = self._before.copy()
        self._task = asyncio.create_task(work, context=self._context)

    def cancel(self) -> None:
        """Cancel the work."""
        self._task.cancel()

    def add_done_callback(self, call: Callable[[], None]) -> None:
        """Call this when the work has ended, however it has."""
        self._task.add_done_callback(lambda _: call())

    async def result(self) -> Any:
        """The work's result. A cancelled caller leaves the work; the last one cancels it, and waits for its end.

        Context variables that the work has set are set for the caller, as if the work had run in the caller's own task.
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
    """The job's result. A thread does the job, with the caller's context variables.

    Args:
        threads: gives the executor.
        job: what the thread calls.
        args: the job's arguments.
    """
    context = copy_context()

    def work() -> T:
        try:
            return context.run(job, *args)
        except StopIteration as err:  # a future cannot carry it, and the caller would wait for ever
            raise RuntimeError(f"a plug raised {err!r}") from err

    return await asyncio.get_running_loop().run_in_executor(threads(), work)
