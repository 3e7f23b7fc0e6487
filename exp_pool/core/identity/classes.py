"""Structural identity of classes whose names do not lead to them; and what objects hold as attributes.

A class statement in a function, ``namedtuple``, ``create_model`` and the like make a new class each time they run, and
all of them have one name. What tells them apart is what they were made of: bases, attributes, fields, and the plain
values that their functions close over or have as defaults. What a function does follows from where it stands in the
source, so it is never looked at; a function that does not stand in the class counts by its own name.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import pathlib
import types
import uuid
from collections.abc import Iterator
from typing import Any

from exp_pool.core.identity.names import HEAP_TYPE, is_known_by_name
from exp_pool.core.values.attributes import attributes_of

NOTHING: Any = object()

_IMMUTABLE_TYPE = 1 << 8  # of type.__flags__: written in C
_POINTER = object.__basicsize__ // 2
_MAKERS = ("abc", "collections", "dataclasses", "enum", "functools", "pydantic", "typing")  # they add methods of theirs
_NO_DEFAULT = ("PydanticUndefinedType", "_MISSING_TYPE")  # the types of what stands for "no default"
# What dataclasses write, each version of Python in its own way; the fields tell all that it depends on.
_GENERATED = frozenset(
    f"__{name}__" for name in "init repr eq lt le gt ge hash setattr delattr replace getstate setstate".split()
)
_IMMUTABLE = frozenset(
    {str, int, float, bool, bytes, complex, range, uuid.UUID, decimal.Decimal, fractions.Fraction}
    | {dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone}
)


def hides_content(cls: type, below: type) -> bool:
    """Whether instances may hold content that Python cannot see: a class written in C stands between class and base."""
    if getattr(cls, "n_fields", 0) != getattr(cls, "n_sequence_fields", 0):  # time.struct_time and the like
        return True
    own = cls.__mro__[: cls.__mro__.index(below)]
    return any(not base.__flags__ & HEAP_TYPE and base.__basicsize__ > object.__basicsize__ for base in own)


def may_hold_unseen(cls: type) -> bool:
    """Whether instances may have state that is neither in ``__dict__`` nor in slots.

    What a class written in C keeps in its own memory, and what attributes keep elsewhere that a descriptor of the
    class's own, or a property with a setter, stands in front of.
    """
    return any(_is_memory(base) or any(map(_keeps, vars(base).values())) for base in cls.__mro__ if base is not object)


def _is_memory(cls: type) -> bool:
    """Whether this class adds memory of its own to its instances, beside slots and the places of dict and weakrefs."""
    own = cls.__basicsize__ - (cls.__base__ or object).__basicsize__
    if _is_in_c(cls):
        return own > 0 or cls.__itemsize__ > 0
    slots = sum(isinstance(member, types.MemberDescriptorType) for member in vars(cls).values())
    return own > (slots + 2) * _POINTER


def _is_in_c(cls: type) -> bool:
    return not cls.__flags__ & HEAP_TYPE or bool(cls.__flags__ & _IMMUTABLE_TYPE)


def _keeps(member: Any) -> bool:
    """Whether a descriptor may keep something for each instance in a place of its own."""
    if isinstance(member, types.MemberDescriptorType | types.GetSetDescriptorType | functools.cached_property):
        return False
    if isinstance(member, property):
        return member.fset is not None
    return hasattr(type(member), "__set__")


def has_attributes(value: Any) -> bool:
    """Whether an object holds anything in ``__dict__`` or in slots, private ones too."""
    if getattr(value, "__dict__", None):
        return True
    slots = (member for base in type(value).__mro__ if not _is_in_c(base) for member in vars(base).values())
    return any(isinstance(slot, types.MemberDescriptorType) and _is_filled(slot, value) for slot in slots)


def _is_filled(slot: Any, value: Any) -> bool:
    try:
        slot.__get__(value)
    except AttributeError:
        return False
    return True


def cells_of(function: Any) -> Iterator[tuple[str, types.CellType, Any]]:
    """The variables that a function closes over: name, cell and content; `NOTHING` where nothing was assigned yet."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell, cell.cell_contents
        except ValueError:
            yield name, cell, NOTHING


def closure_values(function: Any) -> dict[str, Any]:
    """Plain immutable values in a nested function's closure, by name; everything else there is left out."""
    return {name: value for name, _, value in cells_of(function) if value is not None and is_plain(value)}


def is_plain(value: Any) -> bool:
    """Whether the value is of Python's own immutable types all through."""
    if type(value) in (tuple, frozenset):
        return all(map(is_plain, value))
    return value is None or type(value) in _IMMUTABLE or isinstance(value, enum.Enum | pathlib.PurePath)


def make_up(cls: type) -> tuple[Any, ...]:
    """What tells a class from others of its name: its bases, its members, its fields.

    Members are either plain values, nested classes, or the functions in them; which of these is said beside each.
    """
    members: dict[str, Any] = {}
    for name, member in _members(cls):
        if is_code(member):
            functions = _functions(cls, name, member)
            if functions:
                members[name] = ("code", functions)
        elif is_plain(member) or isinstance(member, type):
            # As in closures: what collects (a list of calls, a client) is not part of what was asked.
            members[name] = ("value", member)
    return tuple(base for base in cls.__bases__ if base is not object), members, _fields(cls)


def is_set_apart(cls: type) -> bool:
    """Whether the class may differ from others of its name: in bases, values, or closures of its functions."""
    if is_known_by_name(cls):
        return False
    bases, members, _ = make_up(cls)
    values = (kind == "value" or any(brought for _, brought in inside) for kind, inside in members.values())
    return bool(bases) or any(values)


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """What stands in the class's body, less what Python and the class's kind put there."""
    members = dict(vars(cls))
    if issubclass(cls, enum.Enum):
        given = {name: member.value for name, member in cls.__members__.items()}
        members = {name: item for name, item in members.items() if not name[:1] == name[-1:] == "_"} | given
    for name, member in members.items():
        dunder = name.startswith("__") and name.endswith("__")
        if not name.startswith("_abc_") and (is_code(member) or not dunder):
            yield name, member


def is_code(member: Any) -> bool:
    """Whether it is a function, or what a class's body has around one: a property, a classmethod, a wrapper."""
    if isinstance(member, types.FunctionType | property | functools.cached_property | functools.partialmethod):
        return True
    return hasattr(type(member), "__get__") and hasattr(member, "__wrapped__")


def _functions(cls: type, name: str, member: Any) -> list[Any]:
    """The functions in a member, each with the plain values it brings along; none if Python itself made them."""
    found: list[Any] = []
    for function, is_cached in _unwrapped(member):
        if dataclasses.is_dataclass(cls) and name in _GENERATED and function.__code__.co_filename == "<string>":
            continue
        brought = closure_values(function) | _defaults(function)
        # Of a cached function the pool sees to it that its name means this one.
        if is_cached or function.__qualname__.startswith((cls.__qualname__ + ".", cls.__name__ + ".")):
            if brought or not name.startswith("__"):
                found.append((function.__qualname__, brought))
        elif function.__module__.partition(".")[0] not in _MAKERS:
            found.append((function, brought))
    if isinstance(member, functools.partialmethod):
        found.append((member.args, member.keywords))
    return found


def _unwrapped(member: Any, *, is_cached: bool = False) -> Iterator[tuple[types.FunctionType, bool]]:
    """The functions in a member, and whether they are called through the pool."""
    is_cached = is_cached or hasattr(member, "__exp_function__")
    inside: tuple[str, ...] = ("fget", "fset", "fdel", "func", "__wrapped__")
    if isinstance(member, types.FunctionType):
        yield member, is_cached
        inside = ("__wrapped__",)
    for name in inside:
        within = getattr(member, name, None)
        if within is not None:
            yield from _unwrapped(within, is_cached=is_cached)


def _defaults(function: types.FunctionType) -> dict[str, Any]:
    given = {f"={place}": value for place, value in enumerate(function.__defaults__ or ())}
    given |= {f"={name}": value for name, value in (function.__kwdefaults__ or {}).items()}
    return {name: value for name, value in given.items() if is_plain(value)}


def _fields(cls: type) -> dict[str, dict[str, Any]]:
    """What is declared of each field: its type, its default and, of pydantic's, everything else that is said of it."""
    declared = {name: {"type": kind} for name, kind in cls.__annotations__.items()}
    if "__pydantic_fields__" in vars(cls):
        declared |= {name: attributes_of(field) for name, field in vars(cls)["__pydantic_fields__"].items()}
    elif dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            declared[field.name] = {"type": field.type, "default": field.default, "factory": field.default_factory}
    return {
        name: {
            key: _functions(cls, key, item) if is_code(item) else item
            for key, item in about.items()
            if not key.startswith("_") and item is not None and type(item).__name__ not in _NO_DEFAULT
        }
        for name, about in declared.items()
    }
