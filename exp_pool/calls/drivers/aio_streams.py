"""The driver of async generator functions; what `streams` is for plain ones.

The function's generator lives in a task of its own from its first chunk to its end, because what it opens (time-outs,
connections) belongs to a task. The task reads a chunk when a reader wants it, on the loop of the reader who began.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from exp_pool.calls.drivers.aio import Driver, End
from exp_pool.calls.drivers.single_flight import Flight, lead_in, soon, waiting_for
from exp_pool.calls.drivers.stream_buffer import CallStreamState, Reader, StreamBuffer
from exp_pool.calls.drivers.streams import FallBackToOwnRun
from exp_pool.calls.flow import own_exception
from exp_pool.calls.request import Request
from exp_pool.calls.steps import CallResult, Coalesced, Flow, NotFound, Run
from exp_pool.core.capture import begin_capture
from exp_pool.runtime.call_context import copy_context
from exp_pool.runtime.clock import monotonic

_LOOK_S = 1.0  # how often a reader looks whether the loop that its stream runs on is still there


async def stream(
    flow: Flow[CallResult], request: Request, driver: Driver, new_buffer: Callable[[], StreamBuffer]
) -> AsyncGenerator[Any, Any]:
    """The chunks: of a stored answer, or of the function's own generator, perhaps shared with other readers.

    Args:
        flow: the flow of this call.
        request: the call.
        driver: performs steps for the function.
        new_buffer: makes the buffer of a new stream.
    """
    services, joined = driver.services, None
    look = services.streams.look(request, AsyncStream)
    while joined is None:
        reached = await driver.advance(flow, until_run=True)
        if isinstance(reached, End):
            break
        joined = services.streams.join(look, functools.partial(AsyncStream, flow, reached, driver, new_buffer()))
    if joined is None:
        result: CallResult = reached.value
        if result.error is not None:
            raise result.error
        chunks = _replayed(result.answer.value, request, driver.function)
    else:
        shared, reader = joined
        if reader.leads:
            services.perform(NotFound(request))
        else:
            flow.close()
            services.perform(Coalesced(request))
        chunks = _read(shared, reader, request, driver.function)
    # What `yield from` does for plain generators.
    try:
        chunk = await anext(chunks)
        while True:
            try:
                sent = yield chunk
            except GeneratorExit:
                raise
            except BaseException as err:
                chunk = await chunks.athrow(err)
            else:
                chunk = await chunks.asend(sent)
    except StopAsyncIteration:
        return
    finally:
        await chunks.aclose()


async def _replayed(chunks: Iterable[Any], request: Request, function: Callable[..., Any]) -> AsyncGenerator[Any, Any]:
    for position, chunk in enumerate(chunks, 1):
        sent = yield chunk
        if sent is not None:  # what it would answer is not stored: the function itself has to say
            async for own in _alone(request, function, position, sent):
                yield own
            return


async def _alone(
    request: Request, function: Callable[..., Any], position: int, sent: Any = None
) -> AsyncGenerator[Any, Any]:
    """The function's own generator, from this position on."""
    source = function(*request.args, **request.kwargs)
    try:
        for _ in range(position):
            await anext(source)
        while True:
            sent = yield await source.asend(sent)
    except StopAsyncIteration:
        return
    finally:
        await source.aclose()


async def _read(
    shared: AsyncStream, reader: Reader, request: Request, function: Callable[..., Any]
) -> AsyncGenerator[Any, Any]:
    sent: Any = None
    thrown: BaseException | None = None
    try:
        while await shared.advance(reader, sent, thrown):
            sent = thrown = None
            chunk = shared.read(reader)
            try:
                sent = yield chunk
            except GeneratorExit:
                raise
            except BaseException as err:
                thrown = err
        return
    except FallBackToOwnRun:
        if thrown is not None:
            raise thrown from None
    finally:
        await shared.leave(reader)
    async for chunk in _alone(request, function, reader.position, sent):
        yield chunk


class AsyncStream:
    """One run of an async generator function, in its own task, in the context of the reader who began it.

    Args:
        flow: paused at `Run`.
        run: that step.
        driver: performs steps for the generator function.
        buffer: empty, of this stream.
        same: what streams of the same call share.
    """

    def __init__(
        self, flow: Flow[CallResult], run: Run, driver: Driver, buffer: StreamBuffer, same: CallStreamState
    ) -> None:
        self.buffer = buffer
        self._same = same
        self._loop = asyncio.get_running_loop()
        self.flight = Flight(self._loop)
        self._flow = flow
        self._driver = driver
        self._lock = threading.Lock()  # readers come from any loop
        self._wanted = 0  # chunks that somebody wants to have come
        self._want = asyncio.Event()
        self._news: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._sent: Any = None
        self._thrown: BaseException | None = None
        context = copy_context()
        context.run(lead_in, self.flight)
        self._capture, _ = context.run(begin_capture)
        self._task = self._loop.create_task(self._work(run), context=context)

    @property
    def open(self) -> bool:
        """Whether anybody may still join."""
        return self.buffer.whole and not self.buffer.over and not self.flight.lost

    def join(self) -> Reader | None:
        """A reader at the beginning; None where the beginning is gone, or the caller is inside of it."""
        with self._lock, waiting_for(self.flight, blocking=False) as may_wait:
            return self.buffer.join() if may_wait and self.open else None

    def read(self, reader: Reader) -> Any:
        """The reader's next chunk, after `advance` said that there is one."""
        with self._lock:
            return self.buffer.read(reader)

    async def leave(self, reader: Reader) -> None:
        """The reader reads no more; after the last one the task is cancelled, and seen out."""
        with self._lock:
            abandoned = self.buffer.leave(reader) and not self.buffer.over
            self.buffer.over = self.buffer.over or abandoned
        if not abandoned:
            return
        if asyncio.get_running_loop() is not self._loop:
            soon(self._loop, self._task.cancel)
            return
        self._task.cancel()
        while not self._task.done():
            await asyncio.wait({self._task})

    async def advance(self, reader: Reader, sent: Any = None, thrown: BaseException | None = None) -> bool:
        """Wait for the reader's next chunk; whether there is one.

        Args:
            reader: who wants the chunk.
            sent: what the reader's caller sent into the generator.
            thrown: what it threw.

        Raises:
            FallBackToOwnRun: the reader has to run the function itself, from its position.
        """
        news = asyncio.Event()
        with waiting_for(self.flight, blocking=False) as may_wait:
            while True:
                with self._lock:
                    if sent is not None or thrown is not None:
                        if not self.buffer.sole(reader):
                            raise FallBackToOwnRun
                        self._sent, self._thrown, sent, thrown = sent, thrown, None, None
                    if reader.position < self.buffer.length:
                        return True
                    if self.buffer.over:
                        return self._end(reader)
                    if not may_wait or self.flight.lost:
                        raise FallBackToOwnRun
                    self._wanted = max(self._wanted, reader.position + 1)
                    news.clear()
                    self._news.append((asyncio.get_running_loop(), news))
                soon(self._loop, self._want.set)
                try:
                    async with asyncio.timeout(_LOOK_S):
                        await news.wait()
                except TimeoutError:
                    continue

    def _end(self, reader: Reader) -> bool:
        error = self.buffer.error
        if error is None:
            return False
        if reader.leads:
            raise error
        if isinstance(error, Exception):
            raise own_exception(error)
        raise FallBackToOwnRun  # a cancellation that was not meant for this reader

    def _publish_news(self) -> None:
        news, self._news = self._news, []
        for loop, event in news:
            soon(loop, event.set)

    # The task

    async def _work(self, run: Run) -> None:
        source = self._driver.function(*run.request.args, **run.request.kwargs)
        error: BaseException | None = None
        try:
            time_s = 0.0
            try:
                while True:
                    await self._want.wait()
                    self._want.clear()
                    while self.buffer.length < self._wanted:
                        began = monotonic()
                        chunk = await self._next(source)
                        time_s += monotonic() - began
                        with self._lock:
                            self.buffer.add(chunk)
                            self._publish_news()
            except StopAsyncIteration:
                pass
            except BaseException as err:
                error = err
            outcome = self.buffer.outcome(error, self._capture, time_s) if self.buffer.readers else None
            if outcome is not None:
                self._same.finished((await self._driver.advance(self._flow, result=outcome)).value)
        finally:
            self._flow.close()
            with self._lock:
                self.buffer.over, self.buffer.error = True, error
                self._publish_news()
            await source.aclose()
        if error is not None and not isinstance(error, Exception):
            raise error

    async def _next(self, source: AsyncGenerator[Any, Any]) -> Any:
        sent, thrown, self._sent, self._thrown = self._sent, self._thrown, None, None
        return await (source.asend(sent) if thrown is None else source.athrow(thrown))
