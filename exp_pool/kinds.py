"""The six kinds of decorated functions: plain, coroutine, generator, async generator, and batches of the first two."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from exp_pool.drivers import aio, aio_streams, streams, sync
from exp_pool.drivers.batch import Batch, Item, drive, drive_in_own_task
from exp_pool.drivers.tape import StreamCodec, Tape
from exp_pool.errors import UnkeyableError
from exp_pool.experience import Answer, Hit
from exp_pool.flow import look, story
from exp_pool.functions import MISS, Awaitable, Begun, Blocking, Decorated, hit_of
from exp_pool.pool import Pool
from exp_pool.request import Memo, Request
from exp_pool.steps import Ending, Mode, Policy, Story

if TYPE_CHECKING:
    from typing import Self

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")


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
        memo = self._memo(args, kwargs)
        if memo is not None and (hot := self._from_hot(memo)) is not MISS:
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
        memo = self._memo(args, kwargs)
        if memo is not None and (hot := self._from_hot(memo)) is not MISS:
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

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...
    @overload
    def __get__(
        self: AsyncCachedGenerator[Concatenate[S, Q], R], instance: S, owner: Any = None
    ) -> AsyncCachedGenerator[Q, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else self._bind_to(instance)


# ── Batches ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Batched(Decorated[P, R]):
    """How a call with a list becomes a call for each item."""

    def _split(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[list[Any], Any] | None:
        """The items, and what makes the arguments of a call for some of them; None where they are no list."""
        bound = self._spec.signature.bind(*args, **kwargs)
        items = bound.arguments.get(self._setup.batch)
        if not isinstance(items, list | tuple):
            return None

        def with_items(value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
            bound.arguments[self._setup.batch] = value
            return bound.args, bound.kwargs

        return list(items), with_items

    def _begin_batch(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool
    ) -> tuple[Pool, list[Item], Batch, Any] | None:
        """The pool, the item of each position, the batch of distinct ones; None where it is to run without."""
        pool: Pool | None = None
        try:
            pool = self._pool()
            mode = self._mode(pool, fresh=fresh)
            split = self._split(args, kwargs)
            if mode is None or split is None:
                return None
            if self._setup.refusal:
                raise UnkeyableError(self._setup.refusal)
            values, with_items = split
            policy = self._policy_in(pool)
            requests = [self._item_request(pool, with_items(value)) for value in values]
            return self._items(pool, mode, policy, values, requests, with_items)
        except Exception as err:
            self._without(pool, args, kwargs, err)
            return None

    def _item_request(self, pool: Pool, call: tuple[Any, Any]) -> Request | None:
        try:
            return self._request(pool, *call)
        except UnkeyableError as err:
            self._without(pool, *call, err)
            return None

    def _items(
        self,
        pool: Pool,
        mode: Mode,
        policy: Policy,
        values: Sequence[Any],
        requests: Sequence[Request | None],
        with_items: Any,
    ) -> tuple[Pool, list[Item], Batch, Any]:
        by_key: dict[str, Item] = {}
        request_of: dict[str, Request] = {}
        positions: list[Item] = []
        distinct: list[Item] = []
        for value, request in zip(values, requests, strict=True):
            item = by_key.get(request.key) if request is not None else None
            if item is None:
                item = Item(value)
                distinct.append(item)
                if request is not None:
                    item.key, item.telling = request.key, story(request, policy, mode)
                    by_key[request.key], request_of[request.key] = item, request
            positions.append(item)

        def again(item: Item) -> Story[Ending]:
            return story(request_of[item.key], policy, mode)

        return pool, positions, Batch(distinct, pool.ports, again), with_items

    def _join(self, positions: Sequence[Item]) -> Answer[Any]:
        """The answers in order; an item that stood twice gets an object of its own each time."""
        seen: set[int] = set()
        values, found = [], set()
        for item in positions:
            ending = item.ending
            assert ending is not None
            answer = answer_of(ending)
            copied = id(item) in seen and ending.encoded is not None
            values.append(self._policy.codec.decode(*ending.encoded) if copied and ending.encoded else answer.value)
            seen.add(id(item))
            found.add(answer.found_by)
        return Answer(values, found_by=found.pop() if len(found) == 1 else None)

    def _item_requests(self, pool: Pool, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Request]:
        split = self._split(*self._full(args, kwargs))
        if split is None:
            return [self._request(pool, *self._full(args, kwargs))]
        values, with_items = split
        return [self._request(pool, *with_items(value)) for value in values]

    def _invalidate(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
        pool = self._pool()
        return sum(pool.invalidate(each.namespace, each.key) for each in self._item_requests(pool, args, kwargs))

    def _explanation(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        pool = self._pool()
        if (unanswered := pool.why_unanswered()) is not None:
            return f"this call is not answered from the pool: {unanswered}"
        return "\n".join(pool.explain(request) for request in self._item_requests(pool, args, kwargs))


class CachedBatch(_Batched[P, R], CachedFunction[P, R]):
    """A plain function that takes a list and returns one of the same length: cached item by item."""

    def _answer(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False, memo: Memo | None = None
    ) -> Answer[Any]:
        del memo  # of items there is none
        args, kwargs = self._full(args, kwargs)
        begun = self._begin_batch(args, kwargs, fresh=fresh)
        if begun is None:
            return Answer(self._function(*args, **kwargs))
        _, positions, batch, with_items = begun

        def run(values: list[Any]) -> Any:
            call_args, call_kwargs = with_items(values)
            return self._function(*call_args, **call_kwargs)

        drive(batch, run)
        return self._join(positions)

    def lookup(self, /, *args: P.args, **kwargs: P.kwargs) -> list[Hit | None]:  # type: ignore[override]
        """For each item what would answer it now, or None."""
        pool = self._pool()
        pool.check_open()
        found = [look(request, self._policy_in(pool)) for request in self._item_requests(pool, args, kwargs)]
        return [hit_of(sync.drive(looking, pool.ports, self._function)) for looking in found]


class AsyncCachedBatch(_Batched[P, R], AsyncCachedFunction[P, R]):
    """The same for a coroutine function."""

    async def _answer(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False, memo: Memo | None = None
    ) -> Answer[Any]:
        del memo  # of items there is none
        args, kwargs = self._full(args, kwargs)
        begun = self._begin_batch(args, kwargs, fresh=fresh)
        if begun is None:
            return Answer(await self._function(*args, **kwargs))
        pool, positions, batch, with_items = begun

        async def run(values: list[Any]) -> Any:
            call_args, call_kwargs = with_items(values)
            return await self._function(*call_args, **call_kwargs)

        await drive_in_own_task(
            replace(batch, loop=asyncio.get_running_loop()), run, aio.Driver(pool.ports, self._function, pool.threads)
        )
        return self._join(positions)

    async def lookup(self, /, *args: P.args, **kwargs: P.kwargs) -> list[Hit | None]:  # type: ignore[override]
        """For each item what would answer it now, or None."""
        pool = self._pool()
        pool.check_open()
        driver = aio.Driver(pool.ports, self._function, pool.threads)
        found = [look(request, self._policy_in(pool)) for request in self._item_requests(pool, args, kwargs)]
        return [hit_of(await driver.drive(looking)) for looking in found]
