"""How each library is asked: its own public decorator, with the options that its documentation offers for being right.

One configuration for all ordinary cases, and where the documentation offers another one against stampedes, that one
for the cases where several callers come at once (`crowd`). Options that only make a library look better in one case and
worse in another were chosen by trying both and keeping the one with more right answers.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import platform
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.bench import Unsupported


class Peer:
    """A library. Subclasses say what it is for."""

    name = ""
    package = ""  # as pip calls it, where that is another name
    sync = True  # plain functions
    asynchronous = False  # coroutine functions
    generators = False  # claims to replay what generator functions yield
    durable = False  # keeps answers on a disk, for another process
    not_for: dict[str, str] = {}  # noqa: RUF012  (case: what the documentation says)
    refuses: tuple[tuple[type[BaseException], str, str], ...] = ()  # exception, part of its text, the documentation

    def __init__(self, folder: Path, *, keep: bool = False) -> None:
        self.folder = folder
        self.keep = keep  # on the disk, where there is a choice
        self.crowd = False  # several callers will come at once
        self.open()

    @classmethod
    def version(cls) -> str | None:
        """Which one is installed, if any: verdicts are about versions."""
        try:
            return importlib.metadata.version(cls.package or cls.name)
        except importlib.metadata.PackageNotFoundError:
            return None

    @classmethod
    def excuse(cls, group: str, name: str) -> str | None:
        """What the documentation says about this case."""
        return cls.not_for.get(name)

    def open(self) -> None:
        """Make the cache."""

    async def close(self) -> None:
        """Let go of what it holds."""

    def documented(self, error: BaseException) -> str | None:
        """What the documentation says about this exception."""
        return next((why for kind, text, why in self.refuses if isinstance(error, kind) and text in str(error)), None)

    def cached(self, function: Callable[..., Any]) -> Any:
        """A plain function, decorated."""
        raise NotImplementedError

    def cached_async(self, function: Callable[..., Any]) -> Any:
        """A coroutine function, decorated."""
        return self.cached(function)

    def cached_async_generator(self, function: Callable[..., Any]) -> Any:
        """An async generator function, decorated."""
        raise Unsupported("not made for async generators")

    def method(self, function: Callable[..., Any], attributes: tuple[str, ...]) -> Any:
        """A method, decorated."""
        return self.cached(function) if self.sync else self.cached_async(function)

    def per_instance(self) -> Any:
        """What each object holds, where the documentation puts a cache there."""
        return None


class ExpPool(Peer):
    """`exp_cache` with a store in memory and no index. `self_key` names the attributes that matter, as README says."""

    name = "exp_pool"
    asynchronous = generators = durable = True

    def open(self) -> None:
        from exp_pool import ExpManager

        store = f"sqlite:///{self.folder}/pool.db" if self.keep else "memory://"
        self.manager = ExpManager(store=store, index="none://")

    async def close(self) -> None:
        await self.manager.close()

    def cached(self, function: Callable[..., Any]) -> Any:
        return self.manager.exp_cache(function)

    def cached_async_generator(self, function: Callable[..., Any]) -> Any:
        return self.manager.exp_cache(function)

    def method(self, function: Callable[..., Any], attributes: tuple[str, ...]) -> Any:
        return self.manager.exp_cache(self_key=attributes)(function)


class Cashews(Peer):
    """`@cache(ttl=)` on ``mem://`` with `pickle_type`, so that callers do not change what is stored.

    Where a crowd comes: `lock=True`, which is documented for that. `@cache.iterator(ttl=)` for async generators. On a
    disk: ``disk://``.
    """

    name = "cashews"
    sync = False
    asynchronous = durable = True

    def open(self) -> None:
        from cashews import Cache

        self.cache = Cache()
        if self.keep:
            self.cache.setup("disk://", directory=str(self.folder), shards=0)
        else:
            self.cache.setup("mem://", size=10_000, pickle_type="default")

    async def close(self) -> None:
        await self.cache.close()

    def cached_async(self, function: Callable[..., Any]) -> Any:
        return self.cache(ttl="1h", lock=self.crowd)(function)

    def cached_async_generator(self, function: Callable[..., Any]) -> Any:
        return self.cache.iterator(ttl="1h")(function)


_HASHABLE = "keys are made of hashable arguments only"


class Cachebox(Peer):
    """`make_typed_key` tells 1 from 1.0, `postprocess_deepcopy` keeps callers from changing what is stored.

    Protection against stampedes is on by default; a re-entrant lock, which `lock` allows, lets a function call itself.
    A cache for each object, as its documentation has it for methods.
    """

    name = "cachebox"
    asynchronous = True
    refuses = ((TypeError, "unhashable", _HASHABLE),)

    def _decorate(self, function: Any, cache: Any) -> Any:
        import cachebox

        return cachebox.cached(
            cache,
            key_maker=cachebox.make_typed_key,
            postprocess=cachebox.postprocess_deepcopy,
            lock=True if inspect.iscoroutinefunction(function) else threading.RLock,
        )(function)

    def cached(self, function: Callable[..., Any]) -> Any:
        import cachebox

        return self._decorate(function, cachebox.LRUCache(0))

    def method(self, function: Callable[..., Any], attributes: tuple[str, ...]) -> Any:
        return self._decorate(function, lambda self: self.cache)

    def per_instance(self) -> Any:
        import cachebox

        return cachebox.LRUCache(0)


class Cachetools(Peer):
    """`cached` with a dict for each function and `typedkey`; `cachedmethod` with `typedmethodkey` for methods.

    Where a crowd comes: `condition`, which is documented for that.
    """

    name = "cachetools"
    refuses = ((TypeError, "unhashable", _HASHABLE),)

    def cached(self, function: Callable[..., Any]) -> Any:
        import cachetools.keys

        condition = threading.Condition() if self.crowd else None
        return cachetools.cached({}, key=cachetools.keys.typedkey, condition=condition)(function)

    def method(self, function: Callable[..., Any], attributes: tuple[str, ...]) -> Any:
        import cachetools.keys

        return cachetools.cachedmethod(lambda self: self.cache, key=cachetools.keys.typedmethodkey)(function)

    def per_instance(self) -> Any:
        return {}


_LEAVES_SELF_OUT = "its documentation: a first parameter called self or cls is not part of the key"
_NAMESPACE = "its documentation: functions of one name need a namespace= each, which only their author can give"


class Dogpile(Peer):
    """`cache_on_arguments` on ``memory_pickle``, which its documentation has against changed values.

    `to_str=repr`, since `str` (the default) takes None for "None" and 1 for "1"; `namespace=` the qualified name, which
    is documented against functions of one name; `kwarg_function_key_generator` for arguments by name, and the default
    one where there are `*args`, which the other cannot take. On a disk: ``dbm``.
    """

    name, package = "dogpile", "dogpile.cache"
    durable = True
    not_for = {  # noqa: RUF012
        "objects of one class with different state": _LEAVES_SELF_OUT,
        "an object that changes between the calls": _LEAVES_SELF_OUT,
        "methods of objects that come and go": _LEAVES_SELF_OUT,
        "objects of which the state is a text or a tuple": _LEAVES_SELF_OUT,
        "a classmethod of two classes": _LEAVES_SELF_OUT,
        "a parameter called self": _LEAVES_SELF_OUT,
        "two functions of one qualified name": _NAMESPACE,
        "closures from one factory": _NAMESPACE,
        "two lambdas": _NAMESPACE,
        "two lambdas on one line": _NAMESPACE,
    }
    refuses = ((ValueError, "does not accept keyword arguments", "no key generator of its own for *args and keywords"),)

    def open(self) -> None:
        from dogpile.cache import make_region

        if self.keep:
            self.region = make_region().configure("dogpile.cache.dbm", arguments={"filename": f"{self.folder}/dbm"})
        else:
            self.region = make_region().configure("dogpile.cache.memory_pickle")

    def cached(self, function: Callable[..., Any]) -> Any:
        from dogpile.cache.util import function_key_generator, kwarg_function_key_generator

        many = inspect.getfullargspec(function).varargs is not None
        return self.region.cache_on_arguments(
            namespace=function.__qualname__,
            to_str=repr,
            function_key_generator=function_key_generator if many else kwarg_function_key_generator,
        )(function)


_BARRIER = "its documentation: the barrier lets in one call of the function at a time, whatever its arguments"


class Diskcache(Peer):
    """`Cache.memoize(typed=True)`.

    Where a crowd comes: a barrier between two of them, which its documentation has against stampedes.
    """

    name = "diskcache"
    durable = True
    not_for = {  # noqa: RUF012
        "threads with another key do not wait": _BARRIER,
        "two threads whose calls cross": _BARRIER,
    }

    def open(self) -> None:
        import diskcache

        self.cache = diskcache.Cache(str(self.folder / "diskcache"))

    async def close(self) -> None:
        self.cache.close()

    def cached(self, function: Callable[..., Any]) -> Any:
        import diskcache

        memoized = self.cache.memoize(typed=True)(function)
        if not self.crowd:
            return memoized
        return self.cache.memoize(expire=0, typed=True)(diskcache.barrier(self.cache, diskcache.RLock)(memoized))


_PURE = "its documentation advises against methods"
_LAMBDAS = "it says, by a warning of its own, that it cannot tell lambdas apart"


class Joblib(Peer):
    """`Memory.cache`, which has no option about keys. Its documentation excludes methods and lambdas."""

    name = "joblib"
    asynchronous = durable = True
    not_for = {  # noqa: RUF012
        "found again on the same object": _PURE,
        "objects of one class with different state": _PURE,
        "an object that changes between the calls": _PURE,
        "methods of objects that come and go": _PURE,
        "objects of which the state is a text or a tuple": _PURE,
        "an async method": _PURE,
        "two lambdas": _LAMBDAS,
        "two lambdas on one line": _LAMBDAS,
    }

    def open(self) -> None:
        import joblib

        self.memory = joblib.Memory(str(self.folder / "joblib"), verbose=0)

    def cached(self, function: Callable[..., Any]) -> Any:
        return self.memory.cache(function)


class Aiocache(Peer):
    """`cached` on its memory, with `PickleSerializer`, so that callers do not change what is stored.

    Where a crowd comes: `cached_stampede`, which is documented for that.
    """

    name = "aiocache"
    sync = False
    asynchronous = True

    def cached_async(self, function: Callable[..., Any]) -> Any:
        import aiocache
        from aiocache.serializers import PickleSerializer

        decorator = aiocache.cached_stampede if self.crowd else aiocache.cached
        return decorator(serializer=PickleSerializer())(function)


_BY_COMPUTE = "its documentation gives single flight for get_or_compute, not for the decorator"


class MemoryReuse(Peer):
    """`cached_tool`, the decorator for functions of any framework; it always gives a coroutine function."""

    name = "memory-reuse"
    sync = False
    asynchronous = True
    not_for = {  # noqa: RUF012
        "ten coroutines, one cold call": _BY_COMPUTE,
    }

    def open(self) -> None:
        from memory_reuse import CacheConfig, MemoryCache

        self.cache = MemoryCache(CacheConfig(single_flight=True))

    def cached_async(self, function: Callable[..., Any]) -> Any:
        from memory_reuse.integrations import cached_tool

        return cached_tool(self.cache, scope="global", ttl=3600)(function)


_DISTINCT = "its documentation: not for functions that must give distinct mutable objects, such as generators"
_ENTRIES = "its documentation: an object whose attributes change must define equality and a hash of its own"


class LruCache(Peer):
    """`lru_cache(typed=True)` without a bound."""

    name = "functools"
    refuses = ((TypeError, "unhashable", _HASHABLE),)
    not_for = {  # noqa: RUF012
        "True inside a tuple": "its documentation: types count for the arguments themselves, not for what is in them",
        "an argument that changes between the calls": _ENTRIES,
        "an object that changes between the calls": _ENTRIES,
        "eight threads, one cold call": "its documentation: the function may run more than once before it is cached",
    }

    @classmethod
    def version(cls) -> str | None:
        return f"Python {platform.python_version()}"

    @classmethod
    def excuse(cls, group: str, name: str) -> str | None:
        if group == "streams" or "copies of their own" in name or name.startswith("the caller changes"):
            return _DISTINCT
        return super().excuse(group, name)

    def cached(self, function: Callable[..., Any]) -> Any:
        return functools.lru_cache(maxsize=None, typed=True)(function)


PEERS: tuple[type[Peer], ...] = (
    ExpPool,
    Cashews,
    Cachebox,
    Cachetools,
    Dogpile,
    Diskcache,
    Joblib,
    Aiocache,
    MemoryReuse,
    LruCache,
)
