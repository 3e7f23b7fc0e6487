"""Keyword options stated once, as a `TypedDict`: completed, unknown ones refused, and listed in signatures.

A function takes them as ``**options: Unpack[Options]``: type checkers and editors see each one with its type. `inspect`
and `help` would show ``**options`` only, so `lists` gives the function a signature that names them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])
O = TypeVar("O", bound=Mapping[str, Any])  # noqa: E741


def complete(function: str, kind: type[O], defaults: O, given: Mapping[str, Any]) -> O:
    """All options of a call, with their defaults.

    Args:
        function: what is called, for the error.
        kind: the `TypedDict` that states them.
        defaults: of those whose default is not None.
        given: those of the call.

    Raises:
        TypeError: one is unknown; the message names the known ones.
    """
    unknown = [name for name in given if name not in kind.__annotations__]
    if unknown:
        known = ", ".join(kind.__annotations__)
        raise TypeError(f"{function}() got an unexpected keyword argument {unknown[0]!r}; its options: {known}")
    return cast("O", {**dict.fromkeys(kind.__annotations__), **defaults, **given})


def lists(kind: type[O], defaults: O) -> Callable[[F], F]:
    """Decorates a function that ends in ``**options``: its signature names each option with its default.

    Args:
        kind: the `TypedDict` that states them.
        defaults: of those whose default is not None.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        options = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(name),
                annotation=getattr(annotation, "__forward_arg__", annotation),
            )
            for name, annotation in kind.__annotations__.items()
        ]
        function.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
        return function

    return decorate
