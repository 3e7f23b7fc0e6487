"""Performs the story for generator functions, and shares a running stream between its readers.

As with `itertools.tee`, whoever needs the next chunk pulls it, and the others read it from the tape. The story pauses
where the function runs and goes on when the stream has finished, whoever read it to its end. A stream that everybody
left before its end, or that somebody drove by ``send`` or ``throw``, is never stored.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from typing import Any

from exp_pool.calls.drivers import sync
from exp_pool.calls.drivers.services import Ports
from exp_pool.calls.drivers.single_flight import Flight, lead_in, waiting_for
from exp_pool.calls.drivers.stream_buffer import Reader, SameCall, Tape
from exp_pool.calls.flow import own_exception
from exp_pool.calls.request import Request
from exp_pool.calls.steps import Coalesced, Ending, NotFound, Run, Story
from exp_pool.core.capture import begin_capture
from exp_pool.core.results import Answer
from exp_pool.runtime.call_context import carried
from exp_pool.runtime.clock import monotonic

_LOOK_S = 1.0  # how often a reader that waits for another one's chunk looks up


class GoAlone(Exception):  # noqa: N818  (no error: it never leaves this package)
    """This reader cannot go on with the others."""


def stream(
    telling: Story[Ending], request: Request, ports: Ports, function: Callable[..., Any], tape: Callable[[], Tape]
) -> Generator[Any, Any, Any]:
    """The chunks: replayed, or of the function's own generator, perhaps together with others."""
    look = ports.streams.look(request, Stream)
    joined = None
    try:
        while joined is None:
            run = _up_to_run(telling, ports, function)
            joined = ports.streams.join(look, functools.partial(Stream, telling, run, ports, function, tape()))
    except StopIteration as end:
        ending: Ending = end.value
        if ending.error is not None:
            raise ending.error from None
        return (yield from _replayed(ending.answer.value, request, function))
    shared, reader = joined
    if reader.leads:
        ports.perform(NotFound(request))
    else:
        telling.close()
        ports.perform(Coalesced(request))
    return (yield from _read(shared, reader, request, function))


def _up_to_run(telling: Story[Ending], ports: Ports, function: Callable[..., Any]) -> Run:
    """Perform steps until the function is to run; whether that is a miss is said later, for it may join others."""
    step = telling.send(None)
    while not isinstance(step, Run):
        step = telling.send(None) if isinstance(step, NotFound) else sync.advance(telling, step, ports, function)
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
        return shared.tape.returned
    except GoAlone:
        if thrown is not None:
            raise thrown from None
    finally:
        shared.leave(reader)
    return (yield from _alone(request, function, reader.position, sent))


class Watched:
    """A story whose end is kept, for those who ask where the chunks came from."""

    def __init__(self, telling: Story[Ending]) -> None:
        self._telling = telling
        self._ending: Ending | None = None

    def story(self) -> Story[Ending]:
        """The same story."""
        try:
            self._ending = yield from self._telling
            return self._ending
        finally:
            self._telling.close()

    def answer(self, chunks: list[Any]) -> Answer[list[Any]]:
        """The chunks with where they came from; a story that was not told to its end left them to another's."""
        if self._ending is None:
            return Answer(chunks, found_by="coalesced")
        return replace(self._ending.answer, value=chunks)


class Stream:
    """One run of a generator function. It runs on the thread of whoever pulls, in the context of who began it."""

    def __init__(
        self,
        telling: Story[Ending],
        run: Run,
        ports: Ports,
        function: Callable[..., Any],
        tape: Tape,
        same: SameCall,
    ) -> None:
        self.tape = tape
        self._same = same
        self.flight = Flight(None)
        self._telling = telling
        self._ports = ports
        self._function = function
        self._turn = threading.Condition()
        self._pulling = False
        self._time_s = 0.0
        self._context = carried()
        self._context.run(lead_in, self.flight)
        self._capture, _ = self._context.run(begin_capture)
        self._source = function(*run.request.args, **run.request.kwargs)

    def join(self) -> Reader | None:
        """A reader at the beginning; None where the beginning is gone, or the caller is inside of it."""
        with self._turn, waiting_for(self.flight, blocking=True) as may_wait:
            if (self._pulling and not may_wait) or not self.tape.whole or self.tape.over:
                return None
            return self.tape.join()

    @property
    def open(self) -> bool:
        """Whether anybody may still join."""
        return self.tape.whole and not self.tape.over

    def read(self, reader: Reader) -> Any:
        """The reader's next chunk, after `advance` said that there is one."""
        with self._turn:
            return self.tape.read(reader)

    def leave(self, reader: Reader) -> None:
        """The reader reads no more; after the last one the function's generator is closed."""
        with self._turn:
            abandoned = self.tape.leave(reader) and not self.tape.over
            self.tape.over = self.tape.over or abandoned
        if abandoned:
            try:
                self._context.run(self._source.close)
            finally:
                self._telling.close()

    def advance(self, reader: Reader, sent: Any = None, thrown: BaseException | None = None) -> bool:
        """Wait for the reader's next chunk, or pull it; whether there is one.

        Raises:
            GoAlone: the reader has to run the function itself, from its position.
        """
        with self._turn:
            if (sent is not None or thrown is not None) and not self.tape.sole(reader):
                raise GoAlone
            while True:
                if reader.position < self.tape.length:
                    return True
                if self.tape.over:
                    return self._end()
                if not self._pulling:
                    self._pulling, self.flight.thread = True, threading.current_thread()
                    break
                with waiting_for(self.flight, blocking=True) as may_wait:
                    if not may_wait:
                        raise GoAlone
                    self._turn.wait(_LOOK_S)
        return self._pull(sent, thrown)

    def _end(self) -> bool:
        error = self.tape.error
        if error is None:
            return False
        if isinstance(error, Exception):
            raise own_exception(error)
        raise GoAlone  # whoever pulled was interrupted; that was not meant for this reader

    def _pull(self, sent: Any, thrown: BaseException | None) -> bool:
        """One chunk onto the tape; or the end, after what is to be stored is stored."""
        began, chunk, error, over = monotonic(), None, None, False
        try:
            step = self._source.send if thrown is None else self._source.throw
            chunk = self._context.run(step, sent if thrown is None else thrown)
        except StopIteration as end:
            self.tape.returned, over = end.value, True
        except BaseException as err:
            error, over = err, True
        self._time_s += monotonic() - began
        try:
            if over:
                self._finish(error)
        finally:
            with self._turn:
                if over:
                    self.tape.over, self.tape.error = True, error
                else:
                    self.tape.add(chunk)
                self._pulling = False
                self._turn.notify_all()
        if error is not None:
            raise error
        return not over

    def _finish(self, error: BaseException | None) -> None:
        """Tell the story to its end."""
        outcome = self.tape.outcome(error, self._capture, self._time_s)
        try:
            if outcome is not None:
                step = self._telling.send(outcome)
                while True:
                    step = sync.advance(self._telling, step, self._ports, self._function)
        except StopIteration as end:
            self._same.tell(end.value)
        finally:
            self._telling.close()
