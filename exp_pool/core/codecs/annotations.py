"""Return annotations: the evaluated type that a function declares, and a check of values against it. Pure.

`fits` looks at values of built-in types, and of classes that the pool knows by themselves; it never converts anything.
"""

from __future__ import annotations

import collections.abc as cabc
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ForwardRef, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

NOTHING: Any = object()
"""Nothing is declared."""

_DEPTH = 50


def returned(function: Callable[..., Any], localns: Mapping[str, Any] | None, *, extras: bool) -> Any:
    """The evaluated annotation of what a call comes to; `NOTHING` where there is none, or it is None.

    Only this one: a parameter's may be unknown at run time.

    Args:
        function: the function, which may be wrapped.
        localns: names that string annotations may use besides the function's globals.
        extras: whether what stands in ``Annotated`` is kept.

    Raises:
        Exception: it cannot be evaluated.
    """
    try:
        plain = inspect.unwrap(function)
    except ValueError:  # wrappers that go in a circle
        plain = function
    written = types.SimpleNamespace(__annotations__={"return": getattr(function, "__annotations__", {}).get("return")})
    names = dict(localns) if localns else None
    hints = get_type_hints(written, getattr(plain, "__globals__", {}), names, include_extras=extras)
    annotation = hints["return"]
    if get_origin(annotation) in (cabc.Awaitable, cabc.Coroutine) and not inspect.iscoroutinefunction(plain):
        annotation = get_args(annotation)[-1]
    return NOTHING if annotation is type(None) or says_nothing(annotation) else annotation


def says_nothing(annotation: Any) -> bool:
    """Whether every value is of it."""
    return annotation is Any or annotation is object or isinstance(annotation, TypeVar)


def item_of(annotation: Any) -> Any:
    """What a stream or list of this annotation gives; `NOTHING` where it does not say."""
    annotation = bare(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        item = arguments[0] if arguments[1:] == (Ellipsis,) else NOTHING
    else:
        item = arguments[0] if origin in _OF_ITEMS and arguments else NOTHING
    return NOTHING if says_nothing(item) else item


def bare(annotation: Any) -> Any:
    """The type below aliases, new names and what stands beside it in ``Annotated`` and the like."""
    for _ in range(_DEPTH):
        origin = get_origin(annotation)
        if origin is Annotated or getattr(origin, "__name__", getattr(origin, "_name", None)) in _QUALIFIERS:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            break
    return annotation


def is_union(annotation: Any) -> bool:
    """Whether it is ``X | Y``."""
    return get_origin(annotation) in (Union, types.UnionType)


def exact_types(annotation: Any) -> frozenset[type]:
    """The built-in types whose values, whatever they hold, are of it: they need no second look."""
    annotation = bare(annotation)
    if is_union(annotation):
        return frozenset[type]().union(*map(exact_types, get_args(annotation)))
    return frozenset((annotation,)) if annotation in _BUILT_IN else frozenset()


def fits(value: Any, annotation: Any, depth: int = 0) -> bool:
    """Whether the value is of the type as it is. An int passes for a float, as type checkers have it; a bool for none.

    What cannot be told is no: then the function is asked once more.

    Args:
        value: a value of a built-in type, or of a class that the pool knows by itself.
        annotation: the type, evaluated.
        depth: how many containers it stands in.
    """
    annotation = bare(annotation)
    if says_nothing(annotation):
        return True
    if depth > _DEPTH or isinstance(annotation, str | ForwardRef):
        return False
    if annotation is None or annotation is type(None):
        return value is None
    origin, arguments = get_origin(annotation), get_args(annotation)
    if is_union(annotation):
        return any(fits(value, arm, depth + 1) for arm in arguments)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if typing.is_typeddict(origin or annotation) or hasattr(origin or annotation, "__required_keys__"):
        return _fits_keys(value, origin or annotation, depth)
    if getattr(annotation, "__name__", "") == "LiteralString":
        return type(value) is str
    kind = origin or annotation
    if not isinstance(kind, type) or not _is_a(value, kind):
        return False
    return _fits_inside(value, kind, arguments, depth) if arguments else True


def _is_a(value: Any, kind: type) -> bool:
    if kind is float:
        return type(value) in (float, int) or isinstance(value, float)
    if kind is int:
        return isinstance(value, int) and type(value) is not bool
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol
        return False


def _fits_inside(value: Any, kind: type, arguments: tuple[Any, ...], depth: int) -> bool:
    if isinstance(value, tuple) and kind is tuple:
        if arguments[1:] != (Ellipsis,):
            return len(value) == len(arguments) and all(
                fits(item, of, depth + 1) for item, of in zip(value, arguments, strict=True)
            )
        return all(fits(item, arguments[0], depth + 1) for item in value)
    if isinstance(value, cabc.Mapping):
        if len(arguments) == 1:
            return all(fits(name, arguments[0], depth + 1) for name in value)
        of_names, of_values = arguments[:2]
        return all(fits(n, of_names, depth + 1) and fits(v, of_values, depth + 1) for n, v in value.items())
    if isinstance(value, list | tuple | set | frozenset) and len(arguments) == 1:
        return all(fits(item, arguments[0], depth + 1) for item in value)
    return True  # of classes that are generic in their own way only the class counts


def _fits_keys(value: Any, kind: Any, depth: int) -> bool:
    if not isinstance(value, dict):
        return False
    try:
        hints = get_type_hints(kind)
    except Exception:  # a name that is not there at run time
        return False
    needed: frozenset[str] = getattr(kind, "__required_keys__", frozenset(hints))
    return needed <= value.keys() <= hints.keys() and all(fits(value[n], hints[n], depth + 1) for n in value)


_BUILT_IN = frozenset((str, int, float, bool, bytes, bytearray, complex, type(None), list, dict, tuple, set, frozenset))
_QUALIFIERS = ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar")
_OF_ITEMS = (
    *(cabc.Iterator, cabc.Iterable, cabc.Generator, cabc.AsyncIterator, cabc.AsyncIterable, cabc.AsyncGenerator),
    *(list, cabc.Sequence, cabc.MutableSequence, cabc.Collection),
)
