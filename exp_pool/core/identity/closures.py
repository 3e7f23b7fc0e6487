"""Closures: the closed-over values on which a function's answers depend. As arguments do, they make calls differ.

What the function changes itself (`closure_changes`), and what only coordinates (locks, loggers, the pool), is left out:
a function that counts calls or takes turns asks nothing else by it. `closure_objects` says what is left of a value.

A function is known by its name, its source, its defaults and what it closes over itself. The function behind a wrapper
that tells of it (`functools.wraps`) adds only what it closes over: its name is the wrapper's, and its source belongs to
the source of the decorated function.
"""

from __future__ import annotations

import functools
import types
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from exp_pool.core.identity.argument_source import CONTAINERS, Known, source_of, source_of_class, with_source
from exp_pool.core.identity.arguments import CLOSURE
from exp_pool.core.identity.classes import NOTHING, cells_of, has_attributes, is_plain, may_hold_unseen
from exp_pool.core.identity.closure_changes import REBOUND, SUMMED, Use, uses_of
from exp_pool.core.identity.closure_objects import coordinates, left_of_variable
from exp_pool.core.identity.names import function_name
from exp_pool.core.identity.source import computed_defaults
from exp_pool.errors import UnkeyableError

_MAX_DEPTH = 50
_OF_ONE_FUNCTION = ("read", "got", "taken", "rebound", "summed")  # uses that say nothing of the value to others

_computed: WeakKeyDictionary[types.FunctionType, frozenset[str]] = WeakKeyDictionary()


def closed_over(function: Any, exclude: Collection[str] = ()) -> dict[str, Any]:
    """What the function, and the functions behind it, close over and answers depend on.

    By name, as it can be keyed, under `CLOSURE`: so it makes calls differ as arguments do. Empty where nothing counts.

    Args:
        function: the function, with its wrappers.
        exclude: names of variables that do not count.

    Raises:
        UnkeyableError: a value goes in a circle; `path` names the variable.
    """
    found = _ClosedValues(frozenset(exclude)).behind(function)
    return {CLOSURE: found} if found else {}


def names_of(function: Any) -> set[str]:
    """The names of all variables that the function, and the functions behind it, close over."""
    return {name for one in _chain(function) for name, _, _ in _cells(one)}


class _ClosedValues:
    """The values in one function's closure. `_seen` are the functions on the way to a value, the outermost first."""

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
        """Note what these functions, and those that they close over, change: that counts for none of them."""
        for function in functions:
            if function in noted:
                continue
            noted.add(function)
            uses = uses_of(function.__code__)
            for name, cell, value in _cells(function):
                if value is NOTHING:
                    continue
                self._changed[id(cell)] |= uses[name] & {REBOUND, SUMMED}
                self._changed[id(value)] |= {use for use in uses[name] if use[0] not in _OF_ONE_FUNCTION}
                within = value.values() if type(value) is dict else value if type(value) in (list, tuple) else (value,)
                for item in within:
                    self._note_changes(_chain(_function_of(item)), noted)

    def _cells_of(self, function: Any, behind: Collection[Any] = ()) -> dict[str, Any]:
        found: dict[str, Any] = {}
        uses = uses_of(function.__code__)
        for name, cell, value in _cells(function):
            is_of_chain = any(value is other for other in behind) or _function_of(value) in self._seen
            if name in self._exclude or is_of_chain:
                continue
            changed = uses[name] | self._changed[id(cell)]
            if value is not NOTHING:
                changed |= self._changed[id(value)]
            left = left_of_variable(cell, value, changed, functools.partial(self._known, name=name, depth=0))
            if type(left) is Known:
                found[name] = Known(left, attributes=self._known(left["attributes"], name, 1))
            elif left is not NOTHING:
                found[name] = self._known(left, name, 0)
        return found

    def _known(self, value: Any, name: str, depth: int) -> Any:
        """The value in a form that can be keyed: functions in it, also in containers, by name, source and closure."""
        if is_plain(value) or type(value) is Known:
            return value
        if depth > _MAX_DEPTH:
            raise UnkeyableError(
                f"{name!r}, which the function closes over, is nested too deeply or in a circle. Leave it out with "
                f"exclude=[{name!r}], or say with key= what identifies a call",
                name,
            )
        kind = type(value)
        if kind in CONTAINERS:
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
            return Known({"class": value, "source": source_of_class(value)})
        function = _function_of(value)
        if function is None:
            return with_source(value)
        if function in self._seen:
            return Known(again=self._seen.index(function))
        return self._function(value, function, name, depth)

    def _contained(self, value: Any, name: str, depth: int) -> Any:
        if type(value) is dict:
            counted = {key: item for key, item in value.items() if not coordinates(type(item))}  # type: ignore[arg-type]
            known = {key: self._known(item, name, depth + 1) for key, item in counted.items()}
            same = len(known) == len(value) and all(known[key] is value[key] for key in value)
            return value if same else known
        if type(value) in (set, frozenset):  # the order of what is known is not theirs
            return value if all(map(is_plain, value)) else Known(set=[self._known(i, name, depth + 1) for i in value])
        items = [None if coordinates(type(i)) else self._known(i, name, depth + 1) for i in value]  # type: ignore[arg-type]
        same = all(one is other for one, other in zip(items, value, strict=True))
        return value if same else type(value)(items)

    def _function(self, value: Any, function: Any, name: str, depth: int) -> Known:
        chain = _chain(function)
        known = Known(function=function_name(value), source=[source_of(one) for one in chain])
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
        """The object of a bound method in a form that can be keyed: by its class alone where it has no state."""
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


def _cells(function: Any) -> Iterator[tuple[str, types.CellType, Any]]:
    """The variables that a function closes over, less `__class__`: the class of self counts by itself."""
    return (cell for cell in cells_of(function) if cell[0] != "__class__")


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
