"""What has been read of a running stream: for its readers, and for the store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from exp_pool.calls.request import Request
from exp_pool.calls.steps import CallResult, Outcome
from exp_pool.core.capture import Capture
from exp_pool.core.codecs.typed import ResponseCodec
from exp_pool.errors import EncodingError
from exp_pool.runtime.forks import reinit_after_fork


class Shareable(Protocol):
    """A running stream."""

    buffer: StreamBuffer

    @property
    def open(self) -> bool:
        """Whether anybody may still join."""
        ...

    def join(self) -> Reader | None:
        """A reader at the beginning; None where the beginning is gone, or the caller is inside of it."""
        ...


_S = TypeVar("_S", bound=Shareable)
_Ref: TypeAlias = tuple[tuple[str, str, str], type]  # the run (`Request.run`), and the kind of stream


@dataclass(slots=True)
class _Chunk:
    """One chunk: the object itself until it is taken, and its JSON text, from which everybody else gets a copy."""

    live: Any
    encoded: tuple[str, str] | None
    taken: bool = False


@dataclass(slots=True)
class Reader:
    """One reader's position in the buffer. `leads`: this reader began the stream."""

    position: int = 0
    leads: bool = False


class StreamBuffer:
    """The chunks of one stream, encoded as they come: what a reader does to its chunk changes nothing here.

    It holds the whole stream until that outgrows `max_bytes` (of JSON text), or a chunk cannot be encoded, or a reader
    steers the stream by ``send``. From then on it holds what its readers have not read yet, no reader may join, and
    nothing will be stored. Not thread-safe: the stream's lock is held.
    """

    def __init__(self, codec: ResponseCodec, max_bytes: int) -> None:
        self._codec = codec
        self._max_bytes = max_bytes
        self._chunks: list[_Chunk] = []
        self._dropped = 0
        self._bytes = 0
        self.readers: list[Reader] = []
        self.whole = True
        self.refusal: EncodingError | None = None  # why it is no longer whole
        self._steered = False
        self.over = False
        self.error: BaseException | None = None
        self.returned: Any = None

    @property
    def length(self) -> int:
        """How many chunks have come."""
        return self._dropped + len(self._chunks)

    def join(self, *, leads: bool = False) -> Reader:
        """A reader at the beginning."""
        reader = Reader(leads=leads)
        self.readers.append(reader)
        return reader

    def leave(self, reader: Reader) -> bool:
        """The reader reads no more; whether it was the last."""
        self.readers = [other for other in self.readers if other is not reader]
        self._drop_what_is_read()
        return not self.readers

    def add(self, chunk: Any) -> None:
        """A chunk has come."""
        encoded = None
        try:
            encoded = self._codec.encode(chunk)
            self._bytes += len(encoded[0])
        except EncodingError as err:
            self.give_up(err)
        self._chunks.append(_Chunk(chunk, encoded))
        if self.whole and self._bytes > self._max_bytes:
            self.give_up(EncodingError(f"a stream of more than max_stream_bytes={self._max_bytes} is not stored"))

    def give_up(self, why: EncodingError) -> None:
        """Hold the whole stream no longer."""
        if self.whole:
            self.whole, self.refusal = False, why
            self._drop_what_is_read()

    def read(self, reader: Reader) -> Any:
        """The reader's next chunk, which has come: its own object."""
        chunk = self._chunks[reader.position - self._dropped]
        if chunk.taken and chunk.encoded is not None:
            value = self._codec.decode(*chunk.encoded)
        else:  # what cannot be encoded is shared, as `itertools.tee` shares it
            value, chunk.taken = chunk.live, True
            if chunk.encoded is not None:
                chunk.live = None
        reader.position += 1
        self._drop_what_is_read()
        return value

    def _drop_what_is_read(self) -> None:
        if not self.whole:
            least = min((reader.position for reader in self.readers), default=self.length)
            del self._chunks[: least - self._dropped]
            self._dropped = max(self._dropped, least)

    def sole(self, reader: Reader) -> bool:
        """Whether the reader may steer the stream: it is the only one, and from now on it stays so."""
        if len(self.readers) != 1 or self.readers[0] is not reader or reader.position != self.length:
            return False
        self.whole, self._steered = False, True
        self._drop_what_is_read()
        return True

    def outcome(self, error: BaseException | None, capture: Capture, time_s: float) -> Outcome | None:
        """The outcome of the stream, for the flow; None where the stream was steered or interrupted.

        Args:
            error: what ended the stream, if anything did.
            capture: what was recorded while it ran.
            time_s: how long the function ran (seconds).
        """
        if self._steered or not (error is None or isinstance(error, Exception)):
            return None
        if self.returned is not None:
            self.give_up(EncodingError("what a generator returns (not yields) could not be restored"))
        parts = [chunk.encoded for chunk in self._chunks if chunk.encoded is not None] if self.whole else []
        return Outcome(CompletedStream(self._codec, parts, self.refusal), error, capture, time_s)


class CompletedStream:
    """A stream that has finished. `chunks` are its own copies, for those who decide about storing it."""

    def __init__(self, codec: ResponseCodec, parts: list[tuple[str, str]], refusal: EncodingError | None) -> None:
        self._codec = codec
        self._parts = parts
        self._refusal = refusal

    def encode(self) -> tuple[str, str]:
        """The JSON text of the list of its chunks, and the codec's name.

        Raises:
            EncodingError: it is not to be stored; the message says why.
        """
        if self._refusal is not None:
            raise self._refusal
        return self._codec.join(self._parts)

    @property
    def chunks(self) -> list[Any]:
        """The chunks, decoded."""
        return [self._codec.decode(*part) for part in self._parts]


class StreamCodec(ResponseCodec):
    """The codec of a generator function: `encode` takes a `CompletedStream`, `decode` gives the list of chunks."""

    def __init__(self, items: ResponseCodec) -> None:
        self.items = items

    def encode(self, value: CompletedStream) -> tuple[str, str]:
        """What `CompletedStream.encode` gives."""
        return value.encode()

    def decode(self, text: str, name: str) -> list[Any]:
        """The chunks."""
        return self.items.decode_items(text, name)

    def read(self, text: str, name: str, *, given: bool = False) -> list[Any]:
        """The chunks, if the function as it is now would give them."""
        return self.items.read_items(text, name, given=given)

    def gives(self, name: str) -> bool:
        """Whether what was written under this name may answer at all."""
        return self.items.gives(name)

    @property
    def problem(self) -> str:
        """Why it cannot be known what the function declares; "" where it can, or it declares nothing."""
        return self.items.problem


class CallStreamState:
    """What the streams of one call share with those who look for its answer: whether one was `stored` meanwhile."""

    __slots__ = ("__weakref__", "stored")

    def __init__(self) -> None:
        self.stored: object = None  # another object after each stream that was stored

    def finished(self, result: CallResult) -> None:
        """The flow of one of the streams has this result; called before that stream is over."""
        if result.answer.id is not None:
            self.stored = object()


@dataclass(slots=True)
class PendingLookup:
    """Somebody looks for the answer of a call, and knows of the streams that were stored up to `seen`."""

    ref: _Ref
    same: CallStreamState
    seen: object


@reinit_after_fork()
class Streams:
    """The running streams of one manager, by call and kind of function."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[_Ref, Any] = {}
        self._same: WeakValueDictionary[_Ref, CallStreamState] = WeakValueDictionary()

    def look(self, request: Request, kind: type[Shareable]) -> PendingLookup:
        """To be asked for before the answer is looked up."""
        ref = (request.run, kind)
        with self._lock:
            same = self._same.setdefault(ref, CallStreamState())
            return PendingLookup(ref, same, same.stored)

    def join(self, look: PendingLookup, begin: Callable[[CallStreamState], _S]) -> tuple[_S, Reader] | None:
        """The stream of this call and a reader of it; a new stream where none can be joined.

        None where one was stored since the look: then the answer is to be looked up once more.
        """
        ref = look.ref
        with self._lock:
            for ended in [other for other, stream in self._running.items() if not stream.open]:
                del self._running[ended]
            running = self._running.get(ref)
            reader = running.join() if running is not None else None
            if running is not None and reader is not None:
                return running, reader
            # Only now: one that is over by the time that it is asked for a reader has said before that it was stored.
            if look.same.stored is not look.seen:
                look.seen = look.same.stored
                return None
            stream = begin(look.same)
            self._running.setdefault(ref, stream)  # a stream that calls itself: the outer one stays
            return stream, stream.buffer.join(leads=True)
