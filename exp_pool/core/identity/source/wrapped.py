"""Finds the function inside of its wrappers, and recognises the pool's own decorator. Nothing here is called."""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Mapping
from typing import Any

from exp_pool.core.identity.source.tree import canonical


def inner(value: Any) -> Any:
    """The function in a decorated one, a partial, a bound, static or class method; what is none of these as it is."""
    for _ in range(100):  # of what wraps itself
        kind = type(value)  # never isinstance: a proxy may raise
        if issubclass(kind, functools.partial):
            value = value.func
        elif issubclass(kind, staticmethod | classmethod | types.MethodType):
            value = value.__func__
        elif kind is types.FunctionType and "__exp_function__" not in value.__dict__:
            return value
        else:  # a decorated function of ours, one of functools.lru_cache
            held = own_dict(value)
            if issubclass(kind, type) or "__wrapped__" not in held:
                return value
            value = held["__wrapped__"]
    return value


def own_dict(value: Any) -> Mapping[str, Any]:
    """The attributes of an object itself, whatever it pretends to have."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if isinstance(found, dict) else {}


def said(node: ast.AST, namespace: Mapping[str, Any]) -> str:
    """What a node of a module says, without ``@exp_cache`` and what stands above it."""
    return canonical(node, lambda decorator: is_pools_own(decorator, namespace))


def is_pools_own(decorator: ast.expr | None, namespace: Mapping[str, Any]) -> bool:
    """Whether a decorator is ``@exp_cache``, under whatever name."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(called, ast.Attribute):
        return called.attr == "exp_cache"
    if not isinstance(called, ast.Name):
        return False
    return called.id == "exp_cache" or "__exp_decorator__" in own_dict(namespace.get(called.id))


def held_in(cell: types.CellType) -> Any:
    """What a cell of a closure holds."""
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def innermost(function: types.FunctionType) -> types.FunctionType:
    """The function that wrappers made with ``functools.wraps`` stand around."""
    for _ in range(100):
        wrapped = inner(function.__dict__.get("__wrapped__"))
        if type(wrapped) is not types.FunctionType or wrapped is function:
            return function
        function = wrapped
    return function
