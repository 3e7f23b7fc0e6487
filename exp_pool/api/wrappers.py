"""The kinds of decorated functions: plain, coroutine, generator, async generator. `batch_wrappers` has two more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from exp_pool.api.call_binder import MISS, BoundCall, UncachedCall
from exp_pool.api.function_api import AsyncFunctionApi, SyncFunctionApi
from exp_pool.calls.drivers import aio, aio_streams, streams, sync
from exp_pool.calls.drivers.stream_buffer import StreamBuffer, StreamCodec
from exp_pool.calls.request import Memo
from exp_pool.calls.steps import CallResult
from exp_pool.core.results import Answer

if TYPE_CHECKING:
    from typing import Self

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

# Below @classmethod the first parameter is filled in, from the class and from its objects. Pyright is told so; mypy,
# which takes this name for true, would then take it of static methods, too.
MYPY = False


def answer_of(result: CallResult) -> Answer[Any]:
    """The answer.

    Raises:
        Exception: the function's own.
    """
    if result.error is not None:
        raise result.error
    return result.answer


def _driver(call: BoundCall) -> aio.Driver:
    return aio.Driver(call.pool.services, call.function, call.pool.threads)


class CachedFunction(SyncFunctionApi[P, R]):
    """A plain function behind the pool."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's answer, from the pool where it has it."""
        local, memo = self._local, None
        if local is not None:
            memo, answer = local.local_answer(args, kwargs)
            if answer is not MISS:
                return answer  # type: ignore[no-any-return]
        value: R = self._answer(args, kwargs, memo=memo).value
        return value

    def _answer(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False, memo: Memo | None = None
    ) -> Answer[Any]:
        call = self._binder.bind(self._bound, args, kwargs, fresh=fresh, memo=memo)
        if isinstance(call, UncachedCall):
            return Answer(call.function(*call.args, **call.kwargs))
        return answer_of(sync.drive(call.flow, call.pool.services, call.function))

    if not MYPY:

        @overload
        def __get__(
            self: CachedFunction[Concatenate[type[S], Q], R], instance: Any, owner: type[S]
        ) -> CachedFunction[Q, R]: ...

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...
    @overload
    def __get__(self: CachedFunction[Concatenate[S, Q], R], instance: S, owner: Any = None) -> CachedFunction[Q, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else self._bind_to(instance)


class AsyncCachedFunction(AsyncFunctionApi[P, R]):
    """A coroutine function behind the pool; `R` is what awaiting it gives."""

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's answer, from the pool where it has it."""
        local, memo = self._local, None
        if local is not None:
            memo, answer = local.local_answer(args, kwargs)
            if answer is not MISS:
                return answer  # type: ignore[no-any-return]
        value: R = (await self._answer(args, kwargs, memo=memo)).value
        return value

    async def _answer(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False, memo: Memo | None = None
    ) -> Answer[Any]:
        call = self._binder.bind(self._bound, args, kwargs, fresh=fresh, memo=memo)
        if isinstance(call, UncachedCall):
            return Answer(await call.function(*call.args, **call.kwargs))
        return answer_of(await _driver(call).drive(call.flow))

    if not MYPY:

        @overload
        def __get__(
            self: AsyncCachedFunction[Concatenate[type[S], Q], R], instance: Any, owner: type[S]
        ) -> AsyncCachedFunction[Q, R]: ...

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...
    @overload
    def __get__(
        self: AsyncCachedFunction[Concatenate[S, Q], R], instance: S, owner: Any = None
    ) -> AsyncCachedFunction[Q, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else self._bind_to(instance)


# ── Streams ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _buffer(call: BoundCall) -> StreamBuffer:
    codec = call.policy.codec
    assert isinstance(codec, StreamCodec)
    return StreamBuffer(codec.items, call.pool.config.max_stream_bytes)


class CachedGenerator(SyncFunctionApi[P, R]):
    """A generator function behind the pool; `R` is one chunk."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Generator[R, Any, Any]:
        """The function's chunks, from the pool where it has them all. As ever, nothing happens before the first one."""
        call = self._binder.bind(self._bound, args, kwargs)
        if isinstance(call, UncachedCall):
            plain: Generator[R, Any, Any] = call.function(*call.args, **call.kwargs)
            return plain
        return streams.stream(call.flow, call.request, call.pool.services, call.function, lambda: _buffer(call))

    def _answer(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False) -> Answer[Any]:
        call = self._binder.bind(self._bound, args, kwargs, fresh=fresh)
        if isinstance(call, UncachedCall):
            return Answer(list(call.function(*call.args, **call.kwargs)))
        recording = streams.RecordingFlow(call.flow)
        reading = streams.stream(
            recording.recorded(), call.request, call.pool.services, call.function, lambda: _buffer(call)
        )
        return recording.answer(list(reading))

    if not MYPY:

        @overload
        def __get__(
            self: CachedGenerator[Concatenate[type[S], Q], R], instance: Any, owner: type[S]
        ) -> CachedGenerator[Q, R]: ...

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...
    @overload
    def __get__(
        self: CachedGenerator[Concatenate[S, Q], R], instance: S, owner: Any = None
    ) -> CachedGenerator[Q, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else self._bind_to(instance)


class AsyncCachedGenerator(AsyncFunctionApi[P, R]):
    """An async generator function behind the pool; `R` is one chunk."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[R, Any]:
        """The function's chunks, from the pool where it has them all. As ever, nothing happens before the first one."""
        call = self._binder.bind(self._bound, args, kwargs)
        if isinstance(call, UncachedCall):
            plain: AsyncGenerator[R, Any] = call.function(*call.args, **call.kwargs)
            return plain
        return aio_streams.stream(call.flow, call.request, _driver(call), lambda: _buffer(call))

    async def _answer(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False) -> Answer[Any]:
        call = self._binder.bind(self._bound, args, kwargs, fresh=fresh)
        if isinstance(call, UncachedCall):
            return Answer([chunk async for chunk in call.function(*call.args, **call.kwargs)])
        recording = streams.RecordingFlow(call.flow)
        reading = aio_streams.stream(recording.recorded(), call.request, _driver(call), lambda: _buffer(call))
        return recording.answer([chunk async for chunk in reading])

    if not MYPY:

        @overload
        def __get__(
            self: AsyncCachedGenerator[Concatenate[type[S], Q], R], instance: Any, owner: type[S]
        ) -> AsyncCachedGenerator[Q, R]: ...

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...
    @overload
    def __get__(
        self: AsyncCachedGenerator[Concatenate[S, Q], R], instance: S, owner: Any = None
    ) -> AsyncCachedGenerator[Q, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else self._bind_to(instance)
