"""Argument binding: positional and keyword arguments to named ones, by the signature that really counts.

`functools.wraps` gives a wrapper the signature of the function behind it, but what binds a call is the wrapper's own. A
wrapper with parameters of its own is bound by these. One that takes ``*args, **kwargs`` may do with them what it likes:
set a default, look only at what was given by name. So of those the call is what was given, as it was given, with
nothing filled in (`AsGiven`); only the names come from the function behind it, for redaction, `exclude=` and
`request=`.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

# What stands among the arguments and is none; no parameter has such a name.
CLOSURE = "<closure>"  # what the function closes over
BY_NAME = "<by name>"  # where it counts: which arguments were given by name, in their order
BESIDE = (CLOSURE, BY_NAME)
CLASS = "<class>"  # among the attributes of self that matter: its class

_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def called_signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature by which a call is bound: the wrapper's own, not the one that `functools.wraps` gave it."""
    found: Any = function
    while not isinstance(found, types.FunctionType):
        inner = getattr(found, "__wrapped__", None)
        if inner is None or inspect.ismethod(found) or getattr(found, "_bound", None):
            return inspect.signature(found)
        found = inner
    bare = types.FunctionType(found.__code__, found.__globals__, found.__name__, found.__defaults__, found.__closure__)
    bare.__kwdefaults__, bare.__annotations__ = found.__kwdefaults__, found.__annotations__
    return inspect.signature(bare)


def shown_signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of the wrapped function; the function's own where wrappers go in a circle."""
    try:
        return inspect.signature(function)
    except ValueError:
        return called_signature(function)


def is_open(called: inspect.Signature, shown: inspect.Signature) -> bool:
    """Whether a wrapper takes ``*args`` or ``**kwargs`` that it does not name: then a call is what was given."""
    return not agree(called, shown) and any(parameter.kind in _OPEN for parameter in called.parameters.values())


def agree(one: inspect.Signature, other: inspect.Signature) -> bool:
    """Whether two signatures bind every call alike."""

    def told(signature: inspect.Signature) -> list[tuple[Any, ...]]:
        return [(p.name, p.kind, id(p.default)) for p in signature.parameters.values()]

    return told(one) == told(other)


def order_of(names: Sequence[str]) -> list[str]:
    """The names where their order says something; none where they are in alphabetical order, which says nothing."""
    return [] if list(names) == sorted(names) else list(names)


def bind(
    signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any], exclude: Collection[str] = ()
) -> dict[str, Any]:
    """Named arguments with defaults filled in; ``**kwargs`` are merged in under their own names.

    Args:
        signature: of the function.
        args: positional arguments.
        kwargs: keyword arguments.
        exclude: parameters that are left out.

    Raises:
        TypeError: the call does not fit the signature, as calling the function itself would say.
    """
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = bound.arguments
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            rest = arguments.pop(parameter.name)
            # A name in it may equal a positional-only parameter's, or its own: then the mapping stays whole.
            clash = parameter.name in rest or rest.keys() & arguments.keys()
            arguments.update({parameter.name: rest} if clash else rest)
            break
    return {name: value for name, value in arguments.items() if name not in exclude}


class Binder:
    """`bind` for one signature. Plain calls of plain parameters take a fifth of the time that `inspect` takes.

    Whatever is not plain (var-args, positional-only, a call that does not fit) goes the long way, which also knows how
    to say what is wrong.
    """

    def __init__(self, signature: inspect.Signature, exclude: Collection[str] = ()) -> None:
        self._signature = signature
        self.excluded = frozenset(exclude)
        parameters = list(signature.parameters.values())
        plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self._plain = all(parameter.kind in plain for parameter in parameters)
        self._positional = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        self._by_name = {p.name for p in parameters if p.kind in plain}
        self._names = [parameter.name for parameter in parameters]
        self._defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The named arguments, without those excluded.

        Raises:
            TypeError: the call does not fit the signature.
        """
        if self._plain and len(args) <= len(self._positional):
            given = dict(zip(self._positional, args, strict=False))
            if given.keys().isdisjoint(kwargs):
                bound = {**self._defaults, **given, **kwargs}
                if len(bound) == len(self._names):
                    try:
                        return {name: bound[name] for name in self._names if name not in self.excluded}
                    except KeyError:  # an unknown name in place of a missing one
                        pass
        named = bind(self._signature, args, kwargs, self.excluded)
        others = [name for name in kwargs if name not in self._by_name and name not in self.excluded]
        if order_of(others):  # the function sees in which order its **kwargs came
            named[BY_NAME] = others
        return named


class AsGiven:
    """Binds the calls of a wrapper that takes ``*args`` or ``**kwargs``.

    Args:
        called: the wrapper's own signature.
        shown: that of the function behind it.
        exclude: names that do not count.
    """

    def __init__(self, called: inspect.Signature, shown: inspect.Signature, exclude: Collection[str] = ()) -> None:
        self._called, self._shown, self.excluded = called, shown, frozenset(exclude)
        self._own = [p for p in called.parameters.values() if p.kind not in _OPEN]

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The named arguments, without those excluded.

        Raises:
            TypeError: the call does not fit the wrapper.
        """
        bound = self._called.bind(*args, **kwargs)
        bound.apply_defaults()
        own = {p.name: bound.arguments[p.name] for p in self._own}
        rest = [name for name in kwargs if name not in own and name not in self.excluded]
        named = self._by_shown(args, kwargs, own)
        if named is None:  # the function behind it is called otherwise: its names say nothing
            extra = {p.name: bound.arguments[p.name] for p in self._called.parameters.values() if p.kind is _OPEN[0]}
            named = {**own, **extra, **{name: kwargs[name] for name in rest}, BY_NAME: {"of the wrapper": rest}}
        else:
            parameters = self._shown.parameters
            movable = any(name in parameters and parameters[name].kind in _BY_PLACE for name in rest)
            if movable or order_of(rest):
                named[BY_NAME] = rest
        return {name: value for name, value in named.items() if name not in self.excluded}

    def _by_shown(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], own: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """What was given by the names of the function behind the wrapper; None where it cannot be called so."""
        places = [p.name for p in self._shown.parameters.values() if p.kind in _BY_PLACE]
        of_wrapper = [p.name for p in self._own if p.kind in _BY_PLACE]
        if places[: min(len(args), len(of_wrapper))] != of_wrapper[: len(args)]:
            return None
        try:
            given = self._shown.bind_partial(*args, **kwargs).arguments
        except TypeError:
            return None
        for parameter in self._shown.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD and parameter.name in given:
                others = given.pop(parameter.name)
                if parameter.name in others or others.keys() & given.keys():
                    return None
                given |= others
        return {**given, **own}
