"""What a function closes over, as far as its answers depend on it: as arguments would, these values make calls differ.

What the function changes itself (`changes`), and what only coordinates (locks, loggers, the pool), is left out: who
counts calls or takes turns asks nothing else by it. Rejected: what such a list held when the function was decorated
counts. A list of calls that two functions share, or one function made again, would make each of them miss.

A function is known by its name, its source, its defaults and what it closes over itself. The function behind a wrapper
that tells of it (`functools.wraps`) adds only what it closes over: its name is the wrapper's, and its source belongs to
the source of the decorated function.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import sys
import sysconfig
import types
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from inspect import getattr_static
from typing import Any
from weakref import WeakKeyDictionary

from exp_pool.changes import ANY, COLLECTING, CONSUMED, READ, REBOUND, Use, uses_of, uses_of_self
from exp_pool.classes import attributes_of, has_attributes, is_known_by_name, is_plain, may_hold_unseen
from exp_pool.errors import UnkeyableError
from exp_pool.keys import qualified_name
from exp_pool.source import Source, computed_defaults

_NOTHING: Any = object()
_MAX_DEPTH = 50

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_sources: WeakKeyDictionary[types.FunctionType, Source] = WeakKeyDictionary()
_computed: WeakKeyDictionary[types.FunctionType, frozenset[str]] = WeakKeyDictionary()

_CONTAINERS = (list, tuple, dict, set, frozenset)

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
    exp_pool.manager.ExpManager exp_pool.pool.Pool exp_pool.routing.router.ConcurrentRouter
    """.split()
)  # fmt: skip


class Known(dict[str, Any]):
    """What a function, a method or an object whose attributes are partly left out is known by."""


def closed_over(function: Any, exclude: Collection[str] = ()) -> dict[str, Any]:
    """What the function, and the functions behind it, close over and answers depend on: by name, as it can be keyed.

    Args:
        function: the function, with its wrappers.
        exclude: names of variables that do not count.

    Raises:
        UnkeyableError: a value goes in a circle; `path` names the variable.
    """
    return _Closing(frozenset(exclude)).behind(function)


def names_of(function: Any) -> set[str]:
    """The names of all variables that the function, and the functions behind it, close over."""
    return {name for one in _chain(function) for name, _ in _cells(one)}


class _Closing:
    """One look at a function's closure. `seen` are the functions that are being looked at, the outermost first."""

    def __init__(self, exclude: frozenset[str]) -> None:
        self._exclude = exclude
        self._seen: list[Any] = []
        self._changed: defaultdict[int, set[Use]] = defaultdict(set)  # by the id of a value, or of a variable

    def behind(self, function: Any) -> dict[str, Any]:
        """What a wrapper and the function behind it close over."""
        chain = _chain(function)
        self._note_changes(chain, set())
        self._seen += chain
        found: dict[str, Any] = {}
        for place, one in enumerate(chain):
            counted = self._cells_of(one, chain)
            if place:  # as in the cells of the wrapper, where it stands there
                counted |= self._known(_defaults_of(one), "<defaults>", 0)
            # A name in two functions of the chain is two variables.
            found |= {(name if name not in found else f"{name}<{place}>"): value for name, value in counted.items()}
        return found

    def _note_changes(self, functions: Collection[Any], noted: set[Any]) -> None:
        """What these functions, and those that they close over, change: it does not count for any of them."""
        for function in functions:
            if function in noted:
                continue
            noted.add(function)
            uses = uses_of(function.__code__)
            for name, cell in _cells(function):
                try:
                    value = cell.cell_contents
                except ValueError:
                    continue
                if REBOUND in uses[name]:
                    self._changed[id(cell)].add(REBOUND)
                self._changed[id(value)] |= {use for use in uses[name] if use[0] not in ("read", "rebound")}
                within = value.values() if type(value) is dict else value if type(value) in (list, tuple) else (value,)
                for item in within:
                    self._note_changes(_chain(_function_of(item)), noted)

    def _cells_of(self, function: Any, behind: Collection[Any] = ()) -> dict[str, Any]:
        found: dict[str, Any] = {}
        uses = uses_of(function.__code__)
        for name, cell in _cells(function):
            if name in self._exclude:
                continue
            try:
                value = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if any(value is other for other in behind) or _function_of(value) in self._seen:
                continue
            value = _left_of(value, uses[name] | self._changed[id(cell)] | self._changed[id(value)])
            if type(value) is Known:
                found[name] = Known(value, attributes=self._known(value["attributes"], name, 1))
            elif value is not _NOTHING:
                found[name] = self._known(value, name, 0)
        return found

    def _known(self, value: Any, name: str, depth: int) -> Any:
        """The value as it can be keyed: functions in it, at any depth of built-in containers, by what they are."""
        if is_plain(value):
            return value
        if depth > _MAX_DEPTH:
            raise UnkeyableError(
                f"{name!r}, which the function closes over, is nested too deeply or in a circle. Leave it out with "
                f"exclude=[{name!r}], or say with key= what identifies a call",
                name,
            )
        kind = type(value)
        if kind in _CONTAINERS:
            return self._contained(value, name, depth)
        if kind is functools.partial:
            inner = [self._known(part, name, depth + 1) for part in (value.func, value.args, value.keywords)]
            return Known(partial=inner, attributes=dict(vars(value)))
        if kind is types.MethodType:
            return Known(
                method=self._known(value.__func__, name, depth + 1), self=self._receiver(value.__self__, name, depth)
            )
        if kind is types.BuiltinMethodType:
            owner = value.__self__
            if owner is None or isinstance(owner, types.ModuleType | type):
                return value
            return Known(method=value.__name__, self=self._known(owner, name, depth + 1))
        if isinstance(value, type):
            return Known({"class": value, "source": _source_of_class(value)})
        function = _function_of(value)
        if function is None:
            return value
        if function in self._seen:
            return Known(again=self._seen.index(function))
        return self._function(value, function, name, depth)

    def _contained(self, value: Any, name: str, depth: int) -> Any:
        if type(value) is dict:
            counted = {key: item for key, item in value.items() if not _coordinates(type(item))}  # type: ignore[arg-type]
            known = {key: self._known(item, name, depth + 1) for key, item in counted.items()}
            same = len(known) == len(value) and all(known[key] is value[key] for key in value)
            return value if same else known
        if type(value) in (set, frozenset):  # the order of what is known is not theirs
            return value if all(map(is_plain, value)) else Known(set=[self._known(i, name, depth + 1) for i in value])
        items = [None if _coordinates(type(i)) else self._known(i, name, depth + 1) for i in value]  # type: ignore[arg-type]
        same = all(one is other for one, other in zip(items, value, strict=True))
        return value if same else type(value)(items)

    def _function(self, value: Any, function: Any, name: str, depth: int) -> Known:
        chain = _chain(function)
        known = Known(function=_name_of(value), source=[source_of(one) for one in chain])
        self._seen += chain
        for place, one in enumerate(chain):
            inside = self._cells_of(one, chain) | self._known(_defaults_of(one), name, depth)
            if inside:
                known[f"closure {place}"] = inside
        del self._seen[-len(chain) :]
        bound = getattr(value, "_bound", ())  # of a cached method
        if bound:
            known["self"] = [self._receiver(one, name, depth) for one in bound]
        return known

    def _receiver(self, receiver: Any, name: str, depth: int) -> Any:
        """What an object whose method is called is known by: without state by its class, as for a cached method."""
        if isinstance(receiver, type) or has_attributes(receiver) or may_hold_unseen(type(receiver)):
            return self._known(receiver, name, depth + 1)
        return Known({"object of": type(receiver)})


def _chain(function: Any) -> list[Any]:
    """The function and those behind it, as far as wrappers tell, that were written in Python."""
    found: list[Any] = []
    for _ in range(_MAX_DEPTH):  # some answer to every name, this one too, with another one that does
        if function is None or any(function is other for other in found):
            break
        if isinstance(function, types.FunctionType):
            found.append(function)
        function = getattr(function, "__wrapped__", None)
    return found


def _function_of(value: Any) -> Any:
    """The function that a value is, or that stands behind it (a cached function); None where it is none."""
    if isinstance(value, types.FunctionType):
        return value
    # Its type is asked: there are clients that answer to every name.
    if hasattr(type(value), "__exp_call__") or type(value).__name__ == "_lru_cache_wrapper":
        return next(iter(_chain(value)), None)
    return None


def _name_of(value: Any) -> str:
    stored = getattr(value, "__exp_function__", None)
    return stored if isinstance(stored, str) else qualified_name(value)


def _cells(function: Any) -> Iterator[tuple[str, types.CellType]]:
    """The variables that a function closes over, less `__class__`: the class of self counts by itself."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name != "__class__":
            yield name, cell


def _defaults_of(function: Any) -> dict[str, Any]:
    """Defaults that the source does not tell: ``def ask(q, name=name)`` in a loop is as many functions.

    Of a function that is made anew by another one all count. Of others those do that the source computes of
    something, but for what has nothing to tell it from others, such as a sentinel.
    """
    code = function.__code__
    places = code.co_varnames[: code.co_argcount]
    given = dict(zip(reversed(places), reversed(function.__defaults__ or ()), strict=False))
    given |= function.__kwdefaults__ or {}
    if given and "<" not in function.__qualname__:
        if function not in _computed:
            _computed[function] = computed_defaults(function)
        given = {name: given[name] for name in given.keys() & _computed[function] if _tells(given[name])}
    return {"<defaults>": given} if given else {}


def _tells(value: Any) -> bool:
    return is_plain(value) or has_attributes(value) or may_hold_unseen(type(value)) or isinstance(value, type)


def _left_of(value: Any, uses: frozenset[Use]) -> Any:
    """The value without what the function changes of it; `_NOTHING` where nothing of it counts."""
    cls = type(value)
    if REBOUND in uses or _coordinates(cls) or _collects(value):  # type: ignore[arg-type]
        return _NOTHING
    if CONSUMED in uses and hasattr(value, "__next__"):
        return _NOTHING
    if isinstance(value, list | dict | set | bytearray | io.IOBase) or _is_collection(cls):
        items = {item for kind, item in uses if kind == "item"}
        if any(kind == "call" for kind, _ in uses) or ANY in items or (items and cls is not dict):
            return _NOTHING
        return {name: item for name, item in value.items() if name not in items} if items else value
    return value if isinstance(value, types.FunctionType | type) or is_plain(value) else _parts(value, cls, uses)


def _parts(value: Any, cls: type, uses: frozenset[Use]) -> Any:
    """An object: as a whole, less what is changed of it; or, if it cannot be keyed as a whole, what is read of it."""
    held = attributes_of(value)
    # Only built-in containers are known to collect by `add` or `update`; of others such a method may ask anything, and
    # so may that of an object which stands in an attribute.
    made_up = _answers_to_all(cls)
    changed = {n for kind, n in uses if kind == "attr" and (_is_content(held[n]) if n in held else not made_up)}
    read = {name for kind, name in uses if kind in ("read", "call", "attr")} - changed
    if changed and not read:
        return _NOTHING
    is_model = hasattr(cls, "__pydantic_fields__")
    is_whole = dataclasses.is_dataclass(cls) or is_model or cls is types.SimpleNamespace
    if hasattr(cls, "__exp_key__") or (is_whole and not changed) or (may_hold_unseen(cls) and not is_whole):
        return value
    attributes = attributes_of(value)
    if is_model:
        attributes |= (value.__pydantic_extra__ or {}) | (value.__pydantic_private__ or {})
    if is_whole or (not has_attributes(value) and cls is not object):
        left = {name: item for name, item in attributes.items() if name not in changed}
    else:
        reads = _Reads(cls, attributes, changed)
        if READ in uses or not all(map(reads.add, read)):
            return value
        left = {name: item for name, item in reads.found.items() if name not in reads.changed}
    left = {name: item for name, item in left.items() if not _coordinates(type(item))}  # type: ignore[arg-type]
    return Known({"object of": cls, "source": _source_of_class(cls), "attributes": left})


class _Reads:
    """What is read of an object by the attributes and methods that are asked of it, and what its methods change.

    Args:
        cls: its class.
        attributes: what it holds.
        changed: the names of attributes that are changed; those that methods change are added.
    """

    def __init__(self, cls: type, attributes: Mapping[str, Any], changed: set[Any]) -> None:
        self._cls, self._attributes, self.changed = cls, attributes, changed
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
        member = getattr_static(self._cls, name, _NOTHING)
        if member is _NOTHING and _answers_to_all(self._cls):
            return False
        if isinstance(member, staticmethod | classmethod):
            return True
        method = member.fget if isinstance(member, property) else member
        if isinstance(method, types.FunctionType) and not hasattr(method, "__wrapped__"):
            return all(self._follow(use) for use in uses_of_self(method.__code__))
        if member is not _NOTHING and hasattr(type(member), "__get__"):
            return False
        if member is not _NOTHING:
            self.found[name] = member
        return True

    def _follow(self, use: Use) -> bool:
        kind, name = use
        if kind == "attr":
            self.changed.add(name)
            return True
        return kind in ("read", "call") and name is not None and self.add(name)


def _is_content(value: Any) -> bool:
    return is_plain(value) or isinstance(value, _CONTAINERS) or _is_collection(type(value))


def _answers_to_all(cls: type) -> bool:
    """Whether attributes are made up when they are asked for: a proxy, a client."""
    own: Any = cls.__getattribute__
    return hasattr(cls, "__getattr__") or own is not object.__getattribute__


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
def _coordinates(cls: type) -> bool:
    return any(f"{base.__module__}.{base.__qualname__}" in _COORDINATING for base in cls.__mro__)


def source_of(function: types.FunctionType) -> str:
    """The digest of a function's source; of a library's, whose name says which it is, none is needed."""
    if function.__code__.co_filename.startswith(_LIBRARIES) and is_known_by_name(function):
        return ""
    known = _sources.get(function)
    if known is None:
        known = _sources[function] = Source(function)
    return known.current()


def _of_a_library(cls: type) -> bool:
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return cls.__module__ != "__main__" and (not isinstance(file, str) or file.startswith(_LIBRARIES))


def _source_of_class(cls: type) -> list[str]:
    found: dict[str, types.FunctionType] = {}
    for base in reversed(cls.__mro__):
        if _of_a_library(base):  # its name says which it is
            continue
        for name, member in vars(base).items():
            function = getattr(member, "fget", None) or getattr(member, "__func__", member)
            # What dataclasses and the like write follows from the class's fields, which count by themselves.
            if isinstance(function, types.FunctionType) and not function.__code__.co_filename.startswith("<"):
                found[name] = function
    return [f"{name} {digest}" for name, function in sorted(found.items()) if (digest := source_of(function))]
