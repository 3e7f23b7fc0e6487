"""The driver of generator functions, which shares a running stream between its readers.

As with `itertools.tee`, whoever needs the next chunk pulls it, and the others read it from the buffer. The flow pauses
where the function runs and goes on when the stream has finished, whoever read it to its end. A stream that all readers
left before its end, or that one steered by ``send`` or ``throw``, is never stored.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from typing import Any

from exp_pool.calls.drivers import sync
from exp_pool.calls.drivers.services import CallServices
from exp_pool.calls.drivers.single_flight import Flight, lead_in, waiting_for
from exp_pool.calls.drivers.stream_buffer import CallStreamState, Reader, StreamBuffer
from exp_pool.calls.flow import own_exception
from exp_pool.calls.request import Request
from exp_pool.calls.steps import CallResult, Coalesced, Flow, NotFound, Run
from exp_pool.core.capture import begin_capture
from exp_pool.core.results import Answer
from exp_pool.runtime.call_context import copy_context
from exp_pool.runtime.clock import monotonic

_LOOK_S = 1.0  # how often a reader that waits for another one's chunk looks up


class FallBackToOwnRun(Exception):  # noqa: N818  (no error: it never leaves this package)
    """The reader cannot go on with the shared stream, and has to run the function itself."""


def stream(
    flow: Flow[CallResult],
    request: Request,
    services: CallServices,
    function: Callable[..., Any],
    new_buffer: Callable[[], StreamBuffer],
) -> Generator[Any, Any, Any]:
    """The chunks: of a stored answer, or of the function's own generator, perhaps shared with other readers.

    Args:
        flow: the flow of this call.
        request: the call.
        services: the parts of the pool.
        function: the generator function.
        new_buffer: makes the buffer of a new stream.
    """
    look = services.streams.look(request, Stream)
    joined = None
    try:
        while joined is None:
            run = _up_to_run(flow, services, function)
            joined = services.streams.join(look, functools.partial(Stream, flow, run, services, function, new_buffer()))
    except StopIteration as end:
        result: CallResult = end.value
        if result.error is not None:
            raise result.error from None
        return (yield from _replayed(result.answer.value, request, function))
    shared, reader = joined
    if reader.leads:
        services.perform(NotFound(request))
    else:
        flow.close()
        services.perform(Coalesced(request))
    return (yield from _read(shared, reader, request, function))


def _up_to_run(flow: Flow[CallResult], services: CallServices, function: Callable[..., Any]) -> Run:
    """Perform steps until the function is to run. It is no miss yet, because the call may join a running stream."""
    step = flow.send(None)
    while not isinstance(step, Run):
        step = flow.send(None) if isinstance(step, NotFound) else sync.advance(flow, step, services, function)
    return step


def _replayed(chunks: Iterable[Any], request: Request, function: Callable[..., Any]) -> Generator[Any, Any, Any]:
    for position, chunk in enumerate(chunks, 1):
        sent = yield chunk
        if sent is not None:  # what it would answer is not stored: the function itself has to say
            return (yield from _alone(request, function, position, sent))
    return None


def _alone(request: Request, function: Callable[..., Any], position: int, sent: Any = None) -> Generator[Any, Any, Any]:
    """The function's own generator, from this position on."""
    source = function(*request.args, **request.kwargs)
    try:
        for _ in range(position):
            next(source)
        while True:
            sent = yield source.send(sent)
    except StopIteration as end:
        return end.value
    finally:
        source.close()


def _read(shared: Stream, reader: Reader, request: Request, function: Callable[..., Any]) -> Generator[Any, Any, Any]:
    sent, thrown = None, None
    try:
        while shared.advance(reader, sent, thrown):
            sent = thrown = None
            chunk = shared.read(reader)
            try:
                sent = yield chunk
            except GeneratorExit:
                raise
            except BaseException as err:
                thrown = err
        return shared.buffer.returned
    except FallBackToOwnRun:
        if thrown is not None:
            raise thrown from None
    finally:
        shared.leave(reader)
    return (yield from _alone(request, function, reader.position, sent))


class RecordingFlow:
    """A flow whose result is remembered, to tell where the chunks came from."""

    def __init__(self, flow: Flow[CallResult]) -> None:
        self._flow = flow
        self._result: CallResult | None = None

    def recorded(self) -> Flow[CallResult]:
        """Drives the flow and remembers its result."""
        try:
            self._result = yield from self._flow
            return self._result
        finally:
            self._flow.close()

    def answer(self, chunks: list[Any]) -> Answer[list[Any]]:
        """The chunks with where they came from: where the flow has no result, this call joined another one's stream."""
        if self._result is None:
            return Answer(chunks, found_by="coalesced")
        return replace(self._result.answer, value=chunks)


class Stream:
    """One run of a generator function: on the thread of the reader who pulls, in the context of the one who began it.

    Args:
        flow: paused at `Run`.
        run: that step.
        services: the parts of the pool.
        function: the generator function.
        buffer: empty, of this stream.
        same: what streams of the same call share.
    """

    def __init__(
        self,
        flow: Flow[CallResult],
        run: Run,
        services: CallServices,
        function: Callable[..., Any],
        buffer: StreamBuffer,
        same: CallStreamState,
    ) -> None:
        self.buffer = buffer
        self._same = same
        self.flight = Flight(None)
        self._flow = flow
        self._services = services
        self._function = function
        self._turn = threading.Condition()
        self._pulling = False
        self._time_s = 0.0
        self._context = copy_context()
        self._context.run(lead_in, self.flight)
        self._capture, _ = self._context.run(begin_capture)
        self._source = function(*run.request.args, **run.request.kwargs)

    def join(self) -> Reader | None:
        """A reader at the beginning; None where the beginning is gone, or the caller is inside of it."""
        with self._turn, waiting_for(self.flight, blocking=True) as may_wait:
            if (self._pulling and not may_wait) or not self.buffer.whole or self.buffer.over:
                return None
            return self.buffer.join()

    @property
    def open(self) -> bool:
        """Whether anybody may still join."""
        return self.buffer.whole and not self.buffer.over

    def read(self, reader: Reader) -> Any:
        """The reader's next chunk, after `advance` said that there is one."""
        with self._turn:
            return self.buffer.read(reader)

    def leave(self, reader: Reader) -> None:
        """The reader reads no more; after the last one the function's generator is closed."""
        with self._turn:
            abandoned = self.buffer.leave(reader) and not self.buffer.over
            self.buffer.over = self.buffer.over or abandoned
        if abandoned:
            try:
                self._context.run(self._source.close)
            finally:
                self._flow.close()

    def advance(self, reader: Reader, sent: Any = None, thrown: BaseException | None = None) -> bool:
        """Wait for the reader's next chunk, or pull it; whether there is one.

        Args:
            reader: who wants the chunk.
            sent: what the reader's caller sent into the generator.
            thrown: what it threw.

        Raises:
            FallBackToOwnRun: the reader has to run the function itself, from its position.
        """
        with self._turn:
            if (sent is not None or thrown is not None) and not self.buffer.sole(reader):
                raise FallBackToOwnRun
            while True:
                if reader.position < self.buffer.length:
                    return True
                if self.buffer.over:
                    return self._end()
                if not self._pulling:
                    self._pulling, self.flight.thread = True, threading.current_thread()
                    break
                with waiting_for(self.flight, blocking=True) as may_wait:
                    if not may_wait:
                        raise FallBackToOwnRun
                    self._turn.wait(_LOOK_S)
        return self._pull(sent, thrown)

    def _end(self) -> bool:
        error = self.buffer.error
        if error is None:
            return False
        if isinstance(error, Exception):
            raise own_exception(error)
        raise FallBackToOwnRun  # whoever pulled was interrupted; that was not meant for this reader

    def _pull(self, sent: Any, thrown: BaseException | None) -> bool:
        """Read one chunk into the buffer; at the end store the answer, before readers see the end. Whether one came."""
        began, chunk, error, over = monotonic(), None, None, False
        try:
            step = self._source.send if thrown is None else self._source.throw
            chunk = self._context.run(step, sent if thrown is None else thrown)
        except StopIteration as end:
            self.buffer.returned, over = end.value, True
        except BaseException as err:
            error, over = err, True
        self._time_s += monotonic() - began
        try:
            if over:
                self._finish(error)
        finally:
            with self._turn:
                if over:
                    self.buffer.over, self.buffer.error = True, error
                else:
                    self.buffer.add(chunk)
                self._pulling = False
                self._turn.notify_all()
        if error is not None:
            raise error
        return not over

    def _finish(self, error: BaseException | None) -> None:
        """Drive the flow to its end."""
        outcome = self.buffer.outcome(error, self._capture, self._time_s)
        try:
            if outcome is not None:
                step = self._flow.send(outcome)
                while True:
                    step = sync.advance(self._flow, step, self._services, self._function)
        except StopIteration as end:
            self._same.finished(end.value)
        finally:
            self._flow.close()
