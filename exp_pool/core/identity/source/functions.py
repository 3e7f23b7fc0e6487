"""Live functions: what stands inside of wrappers, which globals code uses, and code as text. Nothing is called.

Code as text stands in for source where none can be read.
"""

from __future__ import annotations

import ast
import dis
import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any

from exp_pool.core.identity.classes import is_plain
from exp_pool.core.identity.source.tree import canonical, written_value

BY_CODE = "(code "  # begins what was made of a code object


def inner(value: Any) -> Any:
    """The function inside of a decorated one, a partial, a bound, static or class method; other objects as they are."""
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


def normal_form(node: ast.AST, namespace: Mapping[str, Any]) -> str:
    """A node of a module in normal form, without ``@exp_cache`` and the decorators above it."""
    return canonical(node, lambda decorator: is_pools_own(decorator, namespace))


def is_pools_own(decorator: ast.expr | None, namespace: Mapping[str, Any]) -> bool:
    """Whether a decorator is ``@exp_cache``, under whatever name."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(called, ast.Attribute):
        return called.attr == "exp_cache"
    if not isinstance(called, ast.Name):
        return False
    return called.id == "exp_cache" or "__exp_decorator__" in own_dict(namespace.get(called.id))


def innermost(function: types.FunctionType) -> types.FunctionType:
    """The function that wrappers made with ``functools.wraps`` stand around."""
    for _ in range(100):
        wrapped = inner(function.__dict__.get("__wrapped__"))
        if type(wrapped) is not types.FunctionType or wrapped is function:
            return function
        function = wrapped
    return function


def codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and those of the functions inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_in(constant)


def globals_used(code: types.CodeType, *operations: str) -> set[str]:
    """The names of its module on which a function does this (``LOAD_GLOBAL``), also in functions inside of it."""
    used = ((i.opname, i.argval) for one in codes_in(code) for i in dis.get_instructions(one))
    return {name for operation, name in used if operation in operations and isinstance(name, str)}


def names_used(code: types.CodeType) -> set[str]:
    """The names that code uses, but for attributes that it changes; with the functions inside of it."""
    inside = [names_used(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    changed = {i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_ATTR", "DELETE_ATTR")}
    return {*code.co_names}.union(*inside) - changed


def compiled(function: types.FunctionType) -> str:
    """A function without source as text: its code, and its defaults, which are no part of that."""
    given = {f"{place}": value for place, value in enumerate(function.__defaults__ or ())}
    given |= function.__kwdefaults__ or {}
    told = [f" {name}={written_value(value)}" for name, value in given.items() if is_plain(value)]
    return code_text(function.__code__) + "".join(told)


def code_text(code: types.CodeType) -> str:
    """A code object as text: the same for one version of Python only."""
    constants = [code_text(c) if isinstance(c, types.CodeType) else written_value(c) for c in code.co_consts]
    names = (code.co_names, code.co_varnames, code.co_freevars)
    return f"{BY_CODE}{code.co_code.hex()} {code.co_exceptiontable.hex()} {names} {constants})"
