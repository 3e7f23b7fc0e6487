"""What a code object says: which names it uses, and, where no source can be read, what it does. Pure."""

from __future__ import annotations

import dis
import types

from exp_pool.core.identity.classes import is_plain
from exp_pool.core.identity.source.tree import written_value

BY_CODE = "(code "  # begins what was made of a code object
_READ_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})


def read_globals(code: types.CodeType) -> set[str]:
    """The names of its module that a function reads, also in functions inside of it."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname in _READ_GLOBAL and isinstance(i.argval, str)}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= read_globals(constant)
    return found


def bound_globals(code: types.CodeType) -> set[str]:
    """The names of its module that a function binds anew, also in functions inside of it."""
    inside = [bound_globals(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_GLOBAL"}.union(*inside)


def names_used(code: types.CodeType) -> set[str]:
    """The names that code uses, but for attributes that it changes; with the functions inside of it."""
    inside = [names_used(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    changed = {i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_ATTR", "DELETE_ATTR")}
    return {*code.co_names}.union(*inside) - changed


def compiled(function: types.FunctionType) -> str:
    """What a function does, where no source can be read; its defaults are not part of its code."""
    given = {f"{place}": value for place, value in enumerate(function.__defaults__ or ())}
    given |= function.__kwdefaults__ or {}
    told = [f" {name}={written_value(value)}" for name, value in given.items() if is_plain(value)]
    return code_text(function.__code__) + "".join(told)


def code_text(code: types.CodeType) -> str:
    """What a code object does, where no source can be read: the same for one version of Python only."""
    constants = [code_text(c) if isinstance(c, types.CodeType) else written_value(c) for c in code.co_consts]
    names = (code.co_names, code.co_varnames, code.co_freevars)
    return f"{BY_CODE}{code.co_code.hex()} {code.co_exceptiontable.hex()} {names} {constants})"
