"""The kinds of decorated functions: plain, coroutine, generator, async generator; `batches` are of the first two."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from exp_pool.api.cached_function import Begun
from exp_pool.api.function_api import Awaitable, Blocking
from exp_pool.api.shortcut import MISS
from exp_pool.calls.drivers import aio, aio_streams, streams, sync
from exp_pool.calls.drivers.stream_buffer import StreamCodec, Tape
from exp_pool.calls.request import Memo
from exp_pool.calls.steps import Ending
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


def answer_of(ending: Ending) -> Answer[Any]:
    """The answer.

    Raises:
        Exception: the function's own.
    """
    if ending.error is not None:
        raise ending.error
    return ending.answer


class CachedFunction(Blocking[P, R]):
    """A plain function behind the pool."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's answer, from the pool where it has it."""
        shortcut, memo = self._shortcut, None
        if shortcut is not None:
            memo = shortcut.memo(args, kwargs)
            if memo is not None and (hot := shortcut.answer(memo)) is not MISS:
                return hot  # type: ignore[no-any-return]
        value: R = self._answer(args, kwargs, memo=memo).value
        return value

    def _answer(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False, memo: Memo | None = None
    ) -> Answer[Any]:
        args, kwargs = self._full(args, kwargs)
        begun = self._begin(args, kwargs, fresh=fresh, memo=memo)
        if begun is None:
            return Answer(self._function(*args, **self._spec.complete(args, kwargs)))
        return answer_of(sync.drive(begun.telling, begun.pool.ports, self._function))

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


class AsyncCachedFunction(Awaitable[P, R]):
    """A coroutine function behind the pool; `R` is what awaiting it gives."""

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's answer, from the pool where it has it."""
        shortcut, memo = self._shortcut, None
        if shortcut is not None:
            memo = shortcut.memo(args, kwargs)
            if memo is not None and (hot := shortcut.answer(memo)) is not MISS:
                return hot  # type: ignore[no-any-return]
        value: R = (await self._answer(args, kwargs, memo=memo)).value
        return value

    async def _answer(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False, memo: Memo | None = None
    ) -> Answer[Any]:
        args, kwargs = self._full(args, kwargs)
        begun = self._begin(args, kwargs, fresh=fresh, memo=memo)
        if begun is None:
            return Answer(await self._function(*args, **self._spec.complete(args, kwargs)))
        driver = aio.Driver(begun.pool.ports, self._function, begun.pool.threads)
        return answer_of(await driver.drive(begun.telling))

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


def _tape(begun: Begun) -> Tape:
    codec = begun.policy.codec
    assert isinstance(codec, StreamCodec)
    return Tape(codec.items, begun.pool.config.max_stream_bytes)


class CachedGenerator(Blocking[P, R]):
    """A generator function behind the pool; `R` is one chunk."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Generator[R, Any, Any]:
        """The function's chunks, from the pool where it has them all. As ever, nothing happens before the first one."""
        return self._stream(args, kwargs)

    def _stream(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False
    ) -> Generator[Any, Any, Any]:
        args, kwargs = self._full(args, kwargs)
        begun = self._begin(args, kwargs, fresh=fresh)
        if begun is None:
            plain: Generator[Any, Any, Any] = self._function(*args, **self._spec.complete(args, kwargs))
            return plain
        return streams.stream(begun.telling, begun.request, begun.pool.ports, self._function, lambda: _tape(begun))

    def _answer(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False) -> Answer[Any]:
        full, by_name = self._full(args, kwargs)
        begun = self._begin(full, by_name, fresh=fresh)
        if begun is None:
            return Answer(list(self._function(*full, **self._spec.complete(full, by_name))))
        watched = streams.Watched(begun.telling)
        chunks = list(
            streams.stream(watched.story(), begun.request, begun.pool.ports, self._function, lambda: _tape(begun))
        )
        return watched.answer(chunks)

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


class AsyncCachedGenerator(Awaitable[P, R]):
    """An async generator function behind the pool; `R` is one chunk."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[R, Any]:
        """The function's chunks, from the pool where it has them all. As ever, nothing happens before the first one."""
        args_, kwargs_ = self._full(args, kwargs)
        begun = self._begin(args_, kwargs_)
        if begun is None:
            plain: AsyncGenerator[R, Any] = self._function(*args_, **self._spec.complete(args_, kwargs_))
            return plain
        return aio_streams.stream(begun.telling, begun.request, self._driver(begun), lambda: _tape(begun))

    def _driver(self, begun: Begun) -> aio.Driver:
        return aio.Driver(begun.pool.ports, self._function, begun.pool.threads)

    async def _answer(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False) -> Answer[Any]:
        full, by_name = self._full(args, kwargs)
        begun = self._begin(full, by_name, fresh=fresh)
        if begun is None:
            return Answer([chunk async for chunk in self._function(*full, **self._spec.complete(full, by_name))])
        watched = streams.Watched(begun.telling)
        reading = aio_streams.stream(watched.story(), begun.request, self._driver(begun), lambda: _tape(begun))
        return watched.answer([chunk async for chunk in reading])

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
