"""The part of a closed-over value that goes into the key: not what the function itself changes, nor locks.

What is written and read counts as it was at first (`initial_contents`): of a list that grows, of a memo, of an item. So
do attributes that hold numbers or containers. Attributes that hold anything else count as they are before the call:
they are settings, which others set, too.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import numbers
import types
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from inspect import getattr_static
from typing import Any, TypeAlias

from exp_pool.core.identity.argument_source import CONTAINERS, Known, source_of_class
from exp_pool.core.identity.classes import NOTHING, has_attributes, is_plain, may_hold_unseen
from exp_pool.core.identity.closure_changes import (
    ANY,
    COLLECTING,
    CONSUMED,
    READ,
    REBOUND,
    SUMMED,
    TAKEN,
    Use,
    uses_of_self,
)
from exp_pool.core.identity.initial_contents import WHOLE, initial_contents_of
from exp_pool.core.values.attributes import attributes_of

Keyed: TypeAlias = Callable[[Any], Any]  # a value as it can be keyed

_WRITTEN = frozenset({REBOUND, SUMMED})
_READING = ("read", "got", "taken", "consumed")

# Types that coordinate, with all below them. By name: none of them is imported for the question.
_COORDINATING = frozenset(
    """
    builtins.module _thread.lock _thread.RLock threading._RLock _thread._local threading.Event threading.Condition
    threading.Semaphore threading.Barrier asyncio.locks.Lock asyncio.locks.Event asyncio.locks.Condition
    asyncio.locks.Semaphore asyncio.locks.Barrier asyncio.queues.Queue asyncio.events.AbstractEventLoop
    asyncio.taskgroups.TaskGroup queue.Queue _queue.SimpleQueue queue._PySimpleQueue multiprocessing.synchronize.SemLock
    multiprocessing.synchronize.Condition multiprocessing.synchronize.Event multiprocessing.synchronize.Barrier
    multiprocessing.queues.Queue multiprocessing.queues.SimpleQueue concurrent.futures._base.Executor
    _contextvars.ContextVar _contextvars.Context logging.Filterer logging.LoggerAdapter loguru._logger.Logger
    structlog._config.BoundLoggerLazyProxy structlog._base.BoundLoggerBase tenacity.BaseRetrying anyio.Lock anyio.Event
    anyio.Semaphore anyio.Condition anyio.CapacityLimiter anyio._core._synchronization.Lock
    anyio._core._synchronization.Event anyio._core._synchronization.Semaphore anyio._core._synchronization.Condition
    anyio._core._synchronization.CapacityLimiter trio._sync.Lock trio._sync.Event trio._sync.Semaphore
    trio._sync.Condition trio._sync.CapacityLimiter aiolimiter.leakybucket.AsyncLimiter opentelemetry.trace.Tracer
    opentelemetry.metrics._internal.Meter tqdm.std.tqdm random.Random numpy.random._generator.Generator
    exp_pool.api.manager.ExpManager exp_pool.api.pool.Pool exp_pool.routing.router.ConcurrentRouter
    """.split()
)  # fmt: skip


def left_of_variable(cell: types.CellType, value: Any, uses: frozenset[Use], known: Keyed) -> Any:
    """What counts of a variable; `NOTHING` where nothing of it does, or nothing was assigned yet.

    Args:
        cell: the variable.
        value: its content; `NOTHING` where nothing was assigned yet.
        uses: what functions do with it.
        known: gives a value as it can be keyed.
    """
    written = uses & _WRITTEN
    if written:
        initial = initial_contents_of(cell, None, value, known)
        if not initial.was_there or not _is_read(uses) or isinstance(value, numbers.Number):
            return NOTHING
        if initial.content is not NOTHING:
            return initial.content
    return value if value is NOTHING else left_of(value, uses - written, known)


def left_of(value: Any, uses: frozenset[Use], known: Keyed) -> Any:
    """The value without what the function changes of it; `NOTHING` where nothing of it counts.

    Args:
        value: any object.
        uses: what functions do with it.
        known: gives a value as it can be keyed.
    """
    cls = type(value)
    if (coordinates(cls) and not _is_of_threads(cls)) or _collects(value):  # type: ignore[arg-type]
        return NOTHING
    if CONSUMED in uses and hasattr(value, "__next__"):
        return NOTHING
    if isinstance(value, list | dict | set | bytearray | io.IOBase) or _is_collection(cls):
        return _left_of_container(value, cls, uses, known)
    return value if isinstance(value, types.FunctionType | type) or is_plain(value) else _parts(value, cls, uses, known)


def _left_of_container(value: Any, cls: type, uses: frozenset[Use], known: Keyed) -> Any:
    items = _written(uses, "item")
    called = {about for kind, about in uses if kind == "call of items"}
    for _, names in called if cls is dict else ():
        for name in names:
            items[name].add(REBOUND)
    grows = any(kind == "call" for kind, _ in uses) or ANY in items or bool((items or called) and cls is not dict)
    if grows:
        is_content = _is_read(uses) and not isinstance(value, io.IOBase)
        return initial_contents_of(value, WHOLE, value, known).content if is_content else NOTHING
    if not items:
        return value
    is_read = any(kind in ("read", "taken") for kind, _ in uses)
    left = dict(value)
    for name, within in items.items():
        reading = {READ} if is_read or ("got", name) in uses else set()
        left[name] = _part(value, name, value.get(name, NOTHING), within | reading, known)
    return {name: item for name, item in left.items() if item is not NOTHING}


def _part(holder: Any, name: Any, item: Any, uses: Collection[Use], known: Keyed, *, is_current: bool = False) -> Any:
    """What counts of an item or an attribute that the function writes, or changes something of.

    Args:
        holder: what has it.
        name: its name there.
        item: what it holds; `NOTHING` for none.
        uses: what is done with it.
        known: gives a value as it can be keyed.
        is_current: it counts as it is now, unless it holds numbers or a container, or was empty at first.
    """
    is_container = isinstance(item, CONTAINERS) or _is_collection(type(item))
    if item is not NOTHING and not _WRITTEN.intersection(uses):  # only what is in it
        if not _is_read(uses) and (is_container or not any(kind.startswith("call") for kind, _ in uses)):
            return NOTHING
        left = left_of(item, frozenset(uses), known)
        return NOTHING if type(left) is dict and not left else left
    initial = initial_contents_of(holder, name, item, known)
    is_number = isinstance(item, numbers.Number)
    is_counter = is_number and SUMMED in uses and REBOUND not in uses
    if item is NOTHING or not initial.was_there or not _is_read(uses) or is_counter:
        return NOTHING
    return item if is_current and not is_number and not is_container else initial.content


def _parts(value: Any, cls: type, uses: frozenset[Use], known: Keyed) -> Any:
    """An object: as a whole, less what is changed of it; or, if it cannot be keyed as a whole, what is read of it."""
    held = attributes_of(value)
    # Only built-in containers are known to collect by `add` or `update`; of others such a method may ask anything, and
    # so may that of an object which stands in an attribute.
    made_up = _answers_to_all(cls)
    named = _written(uses, "attr")
    of_threads = _is_of_threads(cls)
    writes = {n: u for n, u in named.items() if (of_threads or _is_content(held[n]) if n in held else not made_up)}
    read = {name for kind, name in uses if kind in ("read", "call")} | named.keys()
    read = {name for name in read if name is not None and (name not in writes or ("read", name) in uses)}
    read |= {about[0] for kind, about in uses if kind == "call of items"}
    reads = _Reads(cls, held, writes)
    whole = READ in uses or any(kind == "got" for kind, _ in uses)

    def kept(found: Mapping[str, Any], *, is_read: bool) -> dict[str, Any]:
        """What counts of these attributes. Those that are written are looked at also where they are missing yet."""
        left = dict(found)
        for name, within in reads.writes.items():
            reading = {READ} if is_read or name in reads.found or ("read", name) in uses else set()
            item = left.get(name, held.get(name, NOTHING))
            left[name] = _part(value, name, item, within | reading, known, is_current=True)
        return {n: item for n, item in left.items() if item is not NOTHING and not coordinates(type(item))}  # type: ignore[arg-type]

    if writes and not read and not whole:
        kept({}, is_read=False)
        return NOTHING
    is_model = hasattr(cls, "__pydantic_fields__")
    is_whole = dataclasses.is_dataclass(cls) or is_model or cls is types.SimpleNamespace
    unseen = may_hold_unseen(cls) and not is_whole and not of_threads
    if hasattr(cls, "__exp_key__") or (is_whole and not writes) or unseen:
        return value
    if is_model:
        held |= (value.__pydantic_extra__ or {}) | (value.__pydantic_private__ or {})
    if is_whole or (not has_attributes(value) and cls is not object and not of_threads):
        if not is_whole:
            all(map(reads.add, read))  # what methods write is missing yet
        left = kept(held, is_read=whole)
    else:
        if (whole and not of_threads) or not all(map(reads.add, read)):
            return value
        left = kept(held if whole else reads.found, is_read=whole)
        if not left and (of_threads or (writes and not reads.found.keys() - writes)):
            return NOTHING
    return Known({"object of": cls, "source": source_of_class(cls), "attributes": left})


def _written(uses: Collection[Use], kind: str) -> defaultdict[Any, set[Use]]:
    """What is done with each item, or each attribute, that is written or changed."""
    found: defaultdict[Any, set[Use]] = defaultdict(set)
    for use, about in uses:
        if use == kind:
            found[about].add(REBOUND)
        elif use == "within" and about[0][0] == kind:
            found[about[0][1]].add(about[1])
    return found


def _is_read(uses: Collection[Use]) -> bool:
    return any(kind in _READING for kind, _ in uses)


class _Reads:
    """The attributes that are read of an object, through its methods too, and those that its methods change.

    Args:
        cls: its class.
        attributes: what it holds.
        writes: what is written of which attributes; what methods write is added.
    """

    def __init__(self, cls: type, attributes: Mapping[str, Any], writes: Mapping[str, set[Use]]) -> None:
        self._cls, self._attributes = cls, attributes
        self.writes = {name: set(uses) for name, uses in writes.items()}
        self.found: dict[str, Any] = {}
        self._asked: set[str] = set()

    def add(self, name: Any) -> bool:
        """Follow one attribute or method; false where that leads to more than can be seen."""
        if name in self._asked:
            return True
        self._asked.add(name)
        if name in self._attributes:
            self.found[name] = self._attributes[name]
            return True
        member = getattr_static(self._cls, name, NOTHING)
        if member is NOTHING and _answers_to_all(self._cls):
            return False
        if isinstance(member, staticmethod | classmethod):
            return True
        method = member.fget if isinstance(member, property) else member
        if isinstance(method, types.FunctionType) and not hasattr(method, "__wrapped__"):
            return all(self._follow(use) for use in uses_of_self(method.__code__))
        if member is not NOTHING and hasattr(type(member), "__get__"):
            return False
        if member is not NOTHING:
            self.found[name] = member
        return True

    def _follow(self, use: Use) -> bool:
        kind, name = use
        written = _written([use], "attr")
        for attribute, uses in written.items():
            self.writes.setdefault(attribute, set()).update(uses)
        if written or use == TAKEN:  # the method that gives it away is followed
            return True
        if kind == "call of items":
            kind, name = "call", name[0]
        return kind in ("read", "call") and name is not None and self.add(name)


def _is_content(value: Any) -> bool:
    return is_plain(value) or isinstance(value, CONTAINERS) or _is_collection(type(value))


def _answers_to_all(cls: type) -> bool:
    """Whether attributes are made up when they are asked for: a proxy, a client."""
    own: Any = cls.__getattribute__
    return hasattr(cls, "__getattr__") or (own is not object.__getattribute__ and not _is_of_threads(cls))


def _is_of_threads(cls: type) -> bool:
    """Whether each thread sees attributes of its own: what this one reads counts, as an argument would."""
    return any(base.__module__ == "_thread" and base.__name__ == "_local" for base in cls.__mro__)


def _is_collection(cls: type) -> bool:
    return any(base.__module__ in ("collections", "_collections") for base in cls.__mro__)


def _collects(value: Any) -> bool:
    """Whether it is a bound method such as ``calls.append``."""
    return (
        type(value) is types.BuiltinMethodType
        and value.__name__ in COLLECTING
        and not isinstance(value.__self__, types.ModuleType | None)
    )


@functools.lru_cache(maxsize=1024)
def coordinates(cls: type) -> bool:
    """Whether instances only coordinate: what they hold tells nothing apart."""
    return any(f"{base.__module__}.{base.__qualname__}" in _COORDINATING for base in cls.__mro__)
