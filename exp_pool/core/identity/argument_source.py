"""Source digests of the code that values bring along: functions, classes and objects, as arguments or closed over.

A key has names and contents only. A schema with another field, an edited formatter, a settings object whose method says
something else now: the key is the same, the answer would not be. So the digest of a row's source names the code in its
arguments, behind the function's own (`with_arguments`); what is closed over has it in the key (`with_source`).
Code of installed packages is left out: its name says which it is.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from exp_pool.core.identity.classes import is_plain
from exp_pool.core.identity.names import LIBRARIES, is_known_by_name, is_of_library, qualified_name
from exp_pool.core.identity.source import SourceDigest, digest_of_class
from exp_pool.core.values.attributes import attributes_of

AND_ARGUMENTS = "+"  # between the digest of the function and that of what its arguments do
CONTAINERS = (list, tuple, dict, set, frozenset)
_DATA = frozenset({str, int, float, bool, type(None), bytes, complex})  # has no methods of the project's
_MOST = 10_000  # objects of one call that are looked at: longer lists are data

_sources: WeakKeyDictionary[types.FunctionType, SourceDigest] = WeakKeyDictionary()
_digests: WeakKeyDictionary[type, str] = WeakKeyDictionary()


class Known(dict[str, Any]):
    """Stands in a key for a function, a method, or an object whose attributes are partly left out."""


def with_arguments(source: str, values: Iterable[Any]) -> str:
    """The digest of a function's source, with that of the project's functions and classes among these arguments."""
    pending = [value for value in values if type(value) not in _DATA]
    found: dict[str, None] = {}
    for value in _within(pending, most=_MOST, calls=True) if pending else ():
        cls = type(value)
        if cls is types.FunctionType:
            if digest := source_of(value):
                found[f"{qualified_name(value)} {digest}"] = None
        elif digest := _statements_of(value if issubclass(cls, type) else cls):
            found[digest] = None
    if not found:
        return source
    told = "\n".join(sorted(found))
    return f"{source}{AND_ARGUMENTS}{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def with_source(value: Any) -> Any:
    """A value that is what it holds, with the source of the project's methods in it."""
    classes = dict.fromkeys(type(each) for each in _within([value]) if _is_data_with_methods(each))
    lines = [line for cls in classes for line in source_of_class(cls, brought=False)]
    return Known(value=value, source=lines) if lines else value


def _is_data_with_methods(value: Any) -> bool:
    cls = type(value)
    if is_plain(value) or hasattr(cls, "__exp_key__"):
        return False
    return _has_fields(cls) or isinstance(value, (*CONTAINERS, str, bytes, int, float))


def _within(values: Iterable[Any], *, most: int = sys.maxsize, calls: bool = False) -> Iterator[Any]:
    """What stands in values, in containers and fields, at any depth: each object once, in order.

    Args:
        values: where to begin.
        most: so many objects are looked at; containers count, and are not given.
        calls: look into partials and bound methods, too; not so in closures, or keys that are stored would change.
    """
    pending = [*values]
    pending.reverse()
    seen = set[int]()
    for _ in range(most):
        if not pending:
            return
        value = pending.pop()
        cls = type(value)
        if cls is dict:
            found = [item for item in value.values() if type(item) not in _DATA]
        elif cls in CONTAINERS:
            found = [item for item in value if type(item) not in _DATA]
        elif id(value) in seen:
            continue
        else:
            yield value
            found = [item for item in _held_by(value, cls, calls=calls) if type(item) not in _DATA]
            if not found:
                seen.add(id(value))
        if found and id(value) not in seen:  # so a list of plain messages takes no longer than its items
            seen.add(id(value))
            found.reverse()
            pending += found


def _held_by(value: Any, cls: type, *, calls: bool) -> Iterable[Any]:
    if calls and cls is functools.partial:
        return value.func, value.args, value.keywords
    if calls and cls is types.MethodType:
        return value.__func__, value.__self__
    return attributes_of(value).values() if _has_fields(cls) and not hasattr(cls, "__exp_key__") else ()


def _has_fields(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) or hasattr(cls, "__pydantic_fields__")


def _statements_of(cls: type) -> str:
    """The digests of the statements of a class and its bases in the project; "" where all are a library's."""
    if cls not in _digests:
        ours = [base for base in cls.__mro__ if not is_of_library(base)]
        told = [f"{qualified_name(base)} {digest}" for base in ours if (digest := digest_of_class(base))]
        _digests[cls] = "\n".join(told)
    return _digests[cls]


def source_of(function: types.FunctionType) -> str:
    """The digest of a function's source; "" of a library's."""
    if function.__code__.co_filename.startswith(LIBRARIES) and is_known_by_name(function):
        return ""
    known = _sources.get(function)
    if known is None:
        known = _sources[function] = SourceDigest(function)
    return known.current()


def source_of_class(cls: type, *, brought: bool = True) -> list[str]:
    """The digests of the methods of a class, with those of its bases, as far as these are of the project.

    Args:
        cls: the class.
        brought: those count, too, that a library put into it (``_replace`` of a named tuple).
    """
    found: dict[str, types.FunctionType] = {}
    for base in reversed(cls.__mro__):
        for name, member in () if is_of_library(base) else vars(base).items():
            function = getattr(member, "fget", None) or getattr(member, "__func__", member)
            # What dataclasses and the like write follows from the class's fields, which count by themselves.
            is_own = isinstance(function, types.FunctionType) and not function.__code__.co_filename.startswith(
                "<" if brought else ("<", *LIBRARIES)
            )
            if is_own:
                found[name] = function
    return [f"{name} {digest}" for name, function in sorted(found.items()) if (digest := source_of(function))]
