"""From a call's positional and keyword arguments to named arguments, and from these to the reuse scope."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from exp_pool.core.identity import closures
from exp_pool.core.identity.keys import make_scope, qualified_name
from exp_pool.core.identity.request_text import CLOSURE as CLOSURE  # noqa: PLC0414  (for those who bind)
from exp_pool.core.identity.request_text import without_text
from exp_pool.core.identity.signatures import BY_NAME, order_of
from exp_pool.errors import InvalidInputError

CLASS = "<class>"  # among the attributes of self that matter, where its class stands


def function_name(function: Callable[..., Any] | str) -> str:
    """The name under which a function's calls are stored: ``module.qualname``, or what a decorator was told.

    Raises:
        InvalidInputError: the name is empty, or the value is neither a name nor a function.
    """
    if isinstance(function, str):
        if not function.strip():
            raise InvalidInputError("a function name must not be empty; give the function itself or its stored name")
        return function
    while isinstance(function, functools.partial):
        function = function.func
    stored = getattr(function, "__exp_function__", None)
    if isinstance(stored, str):
        return stored
    if not callable(function):
        raise InvalidInputError(f"expected a function or its name, got {function!r}")
    if not hasattr(function, "__qualname__"):
        return qualified_name(type(function))
    return qualified_name(function)


def bind(
    signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any], exclude: Collection[str] = ()
) -> dict[str, Any]:
    """Named arguments with defaults filled in; ``**kwargs`` are merged in under their own names.

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


def reuse_scope(
    function: str,
    version: str,
    arguments: Mapping[str, Any],
    parameter: str | None,
    secret: bytes | None = None,
) -> str:
    """Digest of everything in the call but the text of `parameter`; of everything, where no parameter held the text.

    So a call without a request parameter, whose text is all its arguments as JSON, is only ever answered exactly.
    """
    if parameter is not None:
        arguments = {**arguments, parameter: without_text(arguments[parameter])}
    return make_scope(function, version, arguments, secret)


def closed_over(function: Callable[..., Any], exclude: Collection[str] = ()) -> dict[str, Any]:
    """What the function closes over, under one name among the arguments: it makes calls differ as these do.

    Raises:
        UnkeyableError: a value goes in a circle; `path` names the variable.
    """
    found = closures.closed_over(function, exclude)
    return {CLOSURE: found} if found else {}
