"""Functions with ``batch=``: what they are given is taken apart, cached item by item, and put together again."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeAlias, TypeVar

from exp_pool.api.cached_function import Decorated
from exp_pool.api.function_api import hit_of
from exp_pool.api.pool import Pool
from exp_pool.api.wrappers import AsyncCachedFunction, CachedFunction, answer_of
from exp_pool.calls.drivers import aio, sync
from exp_pool.calls.drivers.batch import Batch, Item, drive, drive_in_own_task
from exp_pool.calls.flow import flow
from exp_pool.calls.lookup import lookup
from exp_pool.calls.policy import Mode, Policy
from exp_pool.calls.request import Memo, Request
from exp_pool.calls.steps import CallResult, Flow
from exp_pool.core.record import Match
from exp_pool.core.results import Answer, Hit
from exp_pool.core.values.batch_values import ApartError, Split, put_together, split
from exp_pool.core.values.codec_stamp import read_stamp
from exp_pool.core.values.deep_equal import type_name
from exp_pool.errors import ReplayMissError, UnkeyableError

P = ParamSpec("P")
R = TypeVar("R")

_Call: TypeAlias = tuple[tuple[Any, ...], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _BoundBatch:
    """A bound batch: the item of each position, the distinct ones, and what makes calls for some of them."""

    pool: Pool
    positions: list[Item]
    batch: Batch
    with_items: Callable[[Any], _Call]

    def whole(self) -> _Call:
        """The call as it was made."""
        return self.with_items(self.batch.split.again())


class _Batched(Decorated[P, R]):
    """What both kinds of batch functions have in common: a call with many items becomes a call for each of them."""

    def _split(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Split | None, Any, _Call]:
        """The items, what makes the arguments of a call for some of them, and the call, once it was looked at."""
        bound = self._spec.signature.bind(*args, **kwargs)
        name = self._setup.batch

        def with_items(value: Any) -> _Call:
            bound.arguments[name] = value
            return bound.args, bound.kwargs

        if name not in bound.arguments:
            return None, with_items, (args, kwargs)
        found, instead = split(bound.arguments[name])
        return found, with_items, with_items(instead)

    def _one(self, with_items: Callable[[Any], _Call], item: Any) -> _Call:
        """The call that one item stands for."""
        kind = self._spec.signature.parameters[self._setup.batch].kind
        return with_items((item,) if kind is inspect.Parameter.VAR_POSITIONAL else item)

    def _begin_batch(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool) -> _BoundBatch | _Call:
        """The batch; the call, where it is to run without the pool."""
        pool: Pool | None = None
        call: _Call = args, kwargs
        try:
            pool = self._binder.pool()
            mode = self._binder.mode(pool, fresh=fresh)
            if mode is None:
                return call
            found, with_items, call = self._split(args, kwargs)
            if found is None:
                self._say_whole(pool, (args, kwargs))
            if found is None or not found.items:  # what is made of nothing only the function knows
                return call
            if self._setup.refusal:
                raise UnkeyableError(self._setup.refusal)
            policy = self._binder.policy_in(pool)
            requests = [self._item_request(pool, self._one(with_items, item)) for item in found.items]
            return self._begun(pool, mode, policy, found, requests, with_items)
        except Exception as err:
            self._binder.say_uncached(pool, *call, err)
            return call

    def _say_whole(self, pool: Pool, call: _Call) -> None:
        given = self._spec.signature.bind(*call[0], **call[1]).arguments.get(self._setup.batch)
        if given is not None:
            self._say(
                pool,
                f"it was given a {type_name(given)} as {self._setup.batch}=, which cannot be taken apart item by item, "
                "so it runs uncached: give a list, a tuple, a set, an array or a Series",
            )

    def _say(self, pool: Pool, what: str) -> None:
        pool.notices.warn_once(f"batch:{self._spec.name}:{what[:40]}", f"{self._spec.name}: {what}", self._function)

    def _item_request(self, pool: Pool, call: _Call) -> Request | None:
        try:
            return self._binder.request(pool, *call)
        except UnkeyableError as err:
            self._binder.say_uncached(pool, *call, err)
            return None

    def _begun(
        self,
        pool: Pool,
        mode: Mode,
        policy: Policy,
        found: Split,
        requests: Sequence[Request | None],
        with_items: Callable[[Any], _Call],
    ) -> _BoundBatch:
        by_key: dict[str, Item] = {}
        request_of: dict[str, Request] = {}
        positions: list[Item] = []
        distinct: list[Item] = []
        for position, request in enumerate(requests):
            item = by_key.get(request.key) if request is not None else None
            if item is None:
                item = Item(position)
                distinct.append(item)
                if request is not None:
                    item.key, item.flow = request.key, flow(request, policy, mode)
                    by_key[request.key], request_of[request.key] = item, request
            positions.append(item)

        def again(item: Item) -> Flow[CallResult]:
            return flow(request_of[item.key], policy, mode)

        return _BoundBatch(pool, positions, Batch(distinct, found, pool.services, again), with_items)

    def _done(self, begun: _BoundBatch) -> Answer[Any] | None:
        """What the batch came to; None where the function has to run for all of it."""
        batch = begun.batch
        if batch.apart:
            try:
                return self._together(begun)
            except ApartError as err:
                self._say(
                    begun.pool,
                    f"the answers of its items cannot be put together ({err}), so it ran for all of them: return one "
                    "answer for each item, that does not depend on the other items",
                )
                return None
        self._say(
            begun.pool,
            f"what it returned, a {type_name(batch.result)}, cannot be taken apart item by item, so it is handed "
            "through and nothing is stored: return a list, a tuple, an array or a Series with one answer for each item",
        )
        return Answer(batch.result) if batch.covered else None

    def _together(self, begun: _BoundBatch) -> Answer[Any]:
        """The answers in order; an item that stood twice gets an object of its own each time.

        Raises:
            ApartError: they cannot be put together to what the function returns.
        """
        batch = begun.batch
        seen: set[int] = set()
        values, found = [], set()
        words: set[str] = set()
        for item in begun.positions:
            result = item.result
            assert result is not None
            answer = answer_of(result)
            copied = id(item) in seen and result.encoded is not None
            values.append(self._policy.codec.decode(*result.encoded) if copied and result.encoded else answer.value)
            seen.add(id(item))
            found.add(answer.found_by)
            if result.encoded is not None and answer.found_by is not None:
                words.add(read_stamp(result.encoded[1]).whole)
        found_by = found.pop() if len(found) == 1 else None
        if batch.covered and batch.word is not None:
            return Answer(batch.result, found_by=found_by)
        words.discard("")  # of a list, or of nothing that anybody said
        if batch.word is not None:  # what it returns now counts
            kind = batch.word.partition(" ")[0]
            words = {word for word in words if word.partition(" ")[0] == kind} | {batch.word}
        return Answer(put_together(values, words, batch.split.given), found_by=found_by)

    def _steps(self, call: _Call, *, fresh: bool) -> Generator[_BoundBatch | _Call, Any, Answer[Any]]:
        """The call of a batch, as steps: a batch is to be driven, or the function to be run for a call.

        Raises:
            ReplayMissError: the function would have to run for all items, and replay is on.
        """
        begun = self._begin_batch(*call, fresh=fresh)
        if not isinstance(begun, _BoundBatch):
            return Answer((yield begun))
        yield begun
        answer = self._done(begun)
        if answer is not None:
            return answer
        if begun.pool.replay and begun.pool.access().read:
            raise ReplayMissError(
                f"{self._spec.name}: the stored answers of these items cannot be put together. Replay is on, so it "
                "does not run: record it first"
            )
        if begun.batch.apart and not fresh:  # stored anew, it goes together
            return (yield from self._steps(begun.whole(), fresh=True))
        return Answer((yield begun.whole()))

    def _run_items(self, begun: _BoundBatch, items: Any) -> Any:
        """What the function gives for some of the items."""
        args, kwargs = begun.with_items(items)
        return self._function(*args, **kwargs)

    def _looking_for_items(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Pool, list[Flow[Match | None]]]:
        pool = self._binder.pool()
        pool.check_open()
        policy = self._binder.policy_in(pool)
        return pool, [lookup(request, policy) for request in self._item_requests(pool, args, kwargs)]

    def _item_requests(self, pool: Pool, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Request]:
        found, with_items, call = self._split(*self._binder.full(self._bound, args, kwargs))
        if found is None:
            return [self._binder.request(pool, *call)]
        return [self._binder.request(pool, *self._one(with_items, item)) for item in found.items]

    def _invalidate(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
        pool = self._binder.pool()
        return sum(
            pool.deleter.delete_call(each.namespace, each.key) for each in self._item_requests(pool, args, kwargs)
        )

    def _explanation(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        pool = self._binder.pool()
        if (unanswered := pool.why_unanswered()) is not None:
            return f"this call is not answered from the pool: {unanswered}"
        requests, misfit = self._item_requests(pool, args, kwargs), self._policy.misfit
        return "\n".join(pool.functions.explain(request, misfit=misfit) for request in requests)


class CachedBatch(_Batched[P, R], CachedFunction[P, R]):
    """A plain function that takes many items and returns as many answers: cached item by item."""

    def _answer(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False, memo: Memo | None = None
    ) -> Answer[Any]:
        del memo  # of items there is none
        steps = self._steps(self._binder.full(self._bound, args, kwargs), fresh=fresh)
        value: Any = None
        while True:
            try:
                step = steps.send(value)
            except StopIteration as end:
                answer: Answer[Any] = end.value
                return answer
            if isinstance(step, _BoundBatch):
                drive(step.batch, functools.partial(self._run_items, step))
            else:
                value = self._function(*step[0], **step[1])

    def lookup(self, /, *args: P.args, **kwargs: P.kwargs) -> list[Hit | None]:  # type: ignore[override]
        """For each item what would answer it now, or None."""
        pool, found = self._looking_for_items(args, kwargs)
        return [hit_of(sync.drive(looking, pool.services, self._function)) for looking in found]


class AsyncCachedBatch(_Batched[P, R], AsyncCachedFunction[P, R]):
    """A coroutine function that takes many items and returns as many answers: cached item by item."""

    async def _answer(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False, memo: Memo | None = None
    ) -> Answer[Any]:
        del memo  # of items there is none
        steps = self._steps(self._binder.full(self._bound, args, kwargs), fresh=fresh)
        value: Any = None
        while True:
            try:
                step = steps.send(value)
            except StopIteration as end:
                answer: Answer[Any] = end.value
                return answer
            if isinstance(step, _BoundBatch):
                step.batch.loop = asyncio.get_running_loop()
                driver = aio.Driver(step.pool.services, self._function, step.pool.threads)
                run = functools.partial(self._run_items, step)  # gives a coroutine
                await drive_in_own_task(step.batch, run, driver)
            else:
                value = await self._function(*step[0], **step[1])

    async def lookup(self, /, *args: P.args, **kwargs: P.kwargs) -> list[Hit | None]:  # type: ignore[override]
        """For each item what would answer it now, or None."""
        pool, found = self._looking_for_items(args, kwargs)
        driver = aio.Driver(pool.services, self._function, pool.threads)
        return [hit_of(await driver.drive(looking)) for looking in found]
