"""Function API: the methods of decorated functions (`lookup`, `call`, `refresh` ...), blocking and awaited."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from exp_pool.api.cached_function import Decorated
from exp_pool.api.prefill import prefill, prefill_async
from exp_pool.calls.drivers import aio, sync
from exp_pool.core.record import Match, to_experience
from exp_pool.core.results import Answer, Hit
from exp_pool.runtime.counters import CacheInfo

P = ParamSpec("P")
R = TypeVar("R")


def hit_of(match: Match | None) -> Hit | None:
    """The match as people see it."""
    return None if match is None else Hit(to_experience(match.record), match.similarity, match.found_by)


class SyncFunctionApi(Decorated[P, R]):
    """What can be asked of functions that are called without ``await``."""

    def lookup(self, /, *args: P.args, **kwargs: P.kwargs) -> Hit | None:
        """What would answer this call now, or None. Runs nothing, counts nothing; the pool's troubles are raised."""
        pool, looking = self._looking(args, kwargs)
        return hit_of(sync.drive(looking, pool.services, self._function))

    def invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> int:
        """Delete what is stored for this call, its history and its failures too. Returns the number of rows."""
        return self._invalidate(args, kwargs)

    def explain(self, /, *args: P.args, **kwargs: P.kwargs) -> str:
        """Why this call is not answered from the pool: which argument differs from the nearest stored call."""
        return self._explanation(args, kwargs)

    def cache_info(self) -> CacheInfo:
        """Hits, misses and coalesced calls in this process, and how many answers are stored."""
        return self._info()

    def cache_clear(self) -> int:
        """Delete everything that is stored for this function, its history too. Returns the number of rows."""
        return self._clear()

    def adopt(self, *, progress: bool = True) -> int:
        """Let answers of the function's earlier source answer again, after a change that makes no difference.

        Returns how many answers.

        Raises:
            InvalidInputError: the function does not look at its source.
        """
        return self.adopt_in(progress=progress)

    def _answer(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False) -> Answer[Any]:
        """The answer, and where it came from."""
        raise NotImplementedError

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> Answer[R]:
        """Call the function; the answer and where it came from. A generator's value is the list of its chunks."""
        return self._answer(args, kwargs)

    def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> Answer[R]:
        """Run the function whatever is stored, and store its answer; what people annotated stays."""
        return self._answer(args, kwargs, fresh=True)

    def prefill(self, items: Iterable[Any], *, concurrency: int = 1, progress: bool = True) -> int:
        """Run these calls where the pool has no answer yet. Returns how many ran. Interrupted, the same call goes on.

        Args:
            items: a tuple of positional arguments, a dict of named ones, or the only argument.
            concurrency: how many at a time; on threads, if more than one.
            progress: show a bar, in a terminal or a notebook.

        Raises:
            InvalidInputError: no concurrency of at least 1.
            ExceptionGroup: what the function raised, after all other calls were made; of very many the first ones.
        """
        return prefill(self._spec.name, self._answer, items, concurrency, progress=progress)


class AsyncFunctionApi(Decorated[P, R]):
    """What can be asked of functions that are awaited."""

    async def lookup(self, /, *args: P.args, **kwargs: P.kwargs) -> Hit | None:
        """What would answer this call now, or None. Runs nothing, counts nothing; the pool's troubles are raised."""
        pool, looking = self._looking(args, kwargs)
        return hit_of(await aio.Driver(pool.services, self._function, pool.threads).drive(looking))

    async def invalidate(self, /, *args: P.args, **kwargs: P.kwargs) -> int:
        """Delete what is stored for this call, its history and its failures too. Returns the number of rows."""
        return await aio.hop(self._binder.pool().threads, self._invalidate, args, kwargs)

    async def explain(self, /, *args: P.args, **kwargs: P.kwargs) -> str:
        """Why this call is not answered from the pool: which argument differs from the nearest stored call."""
        return await aio.hop(self._binder.pool().threads, self._explanation, args, kwargs)

    async def cache_info(self) -> CacheInfo:
        """Hits, misses and coalesced calls in this process, and how many answers are stored."""
        return await aio.hop(self._binder.pool().threads, self._info)

    async def cache_clear(self) -> int:
        """Delete everything that is stored for this function, its history too. Returns the number of rows."""
        return await aio.hop(self._binder.pool().threads, self._clear)

    async def adopt(self, *, progress: bool = True) -> int:
        """Let answers of the function's earlier source answer again, after a change that makes no difference.

        Returns how many answers.

        Raises:
            InvalidInputError: the function does not look at its source.
        """
        return await aio.hop(self._binder.pool().threads, functools.partial(self.adopt_in, progress=progress))

    async def _answer(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fresh: bool = False) -> Answer[Any]:
        """The answer, and where it came from."""
        raise NotImplementedError

    async def call(self, /, *args: P.args, **kwargs: P.kwargs) -> Answer[R]:
        """Call the function; the answer and where it came from. A generator's value is the list of its chunks."""
        return await self._answer(args, kwargs)

    async def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> Answer[R]:
        """Run the function whatever is stored, and store its answer; what people annotated stays."""
        return await self._answer(args, kwargs, fresh=True)

    async def prefill(self, items: Iterable[Any], *, concurrency: int = 1, progress: bool = True) -> int:
        """Run these calls where the pool has no answer yet. Returns how many ran. Interrupted, the same call goes on.

        Args:
            items: a tuple of positional arguments, a dict of named ones, or the only argument.
            concurrency: how many at a time.
            progress: show a bar, in a terminal or a notebook.

        Raises:
            InvalidInputError: no concurrency of at least 1.
            ExceptionGroup: what the function raised, after all other calls were made; of very many the first ones.
        """
        return await prefill_async(self._spec.name, self._answer, items, concurrency, progress=progress)
