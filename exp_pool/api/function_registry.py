"""Registry of decorated functions: two in different places of the source never share an automatic name.

A function that is defined again (a module reloaded, a notebook cell run again, a factory called again) is the same
function. That its source changed meanwhile is worth a word, because what the old source answered is still given.
"""

from __future__ import annotations

import ast
import linecache
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a function stands in the source, and what it does."""

    file: str
    line: int
    name: str
    interactive: bool
    code: bytes
    wrappers: tuple[tuple[str, str], ...]  # file and name of each, the outermost first
    decorated: weakref.ref[Any]
    innermost: weakref.ref[Any]


_DEEPEST = 100  # wrappers around one function; a chain that runs in a circle ends there
_known: dict[str, _Place] = {}


@dataclass(frozen=True, slots=True)
class NameConflict:
    """What is wrong with a name, if anything: another function has it (`refusal`), or its source changed (`notice`)."""

    refusal: str = ""
    notice: str = ""


def register(name: str, function: Callable[..., Any]) -> NameConflict:
    """Take an automatic name for a function; the message says what to do where it is taken."""
    new = _place_of(function)
    if new is None:
        return NameConflict()
    old = _known.get(name)
    if old is not None and not _same(old, new):
        return NameConflict(
            refusal=f"another function of the name {name} is at {old.file}:{old.line}, and calls of the two could not "
            f"be told apart; give this one ({new.file}:{new.line}) its own with name="
        )
    _known[name] = new
    if old is not None and old.code != new.code:
        return NameConflict(
            notice=f"the source of {name} has changed; what the old source answered is still given, unless you change "
            "version= or delete it"
        )
    return NameConflict()


def _place_of(function: Callable[..., Any]) -> _Place | None:
    """None for what was not written in Python: its name is unique."""
    *around, innermost = _chain(function)
    code = getattr(innermost, "__code__", None)
    if not isinstance(code, types.CodeType):
        return None
    file = code.co_filename
    interactive = file.startswith("<") or "ipykernel" in file
    wrappers = [getattr(one, "__code__", None) for one in around]
    return _Place(
        file,
        code.co_firstlineno,
        code.co_name,
        interactive,
        _what_it_does(code),
        tuple((wrapper.co_filename, wrapper.co_qualname) for wrapper in wrappers if wrapper is not None),
        weakref.ref(function),
        weakref.ref(innermost),
    )


def _chain(function: Any) -> list[Any]:
    """The function with those behind it, the outermost first."""
    found = [function]
    while (behind := getattr(found[-1], "__wrapped__", None)) is not None and len(found) < _DEEPEST:
        found.append(behind)
    return found


def _what_it_does(code: types.CodeType) -> bytes:
    """Byte code, names and constants, nested functions' too: comments, line numbers and files do not matter."""
    constants = [_what_it_does(c) if isinstance(c, types.CodeType) else repr(c).encode() for c in code.co_consts]
    return b"\0".join((code.co_code, repr(code.co_names).encode(), *constants))


def _same(old: _Place, new: _Place) -> bool:
    if old.wrappers != new.wrappers and old.decorated() is not None:
        # Both are there, and each would answer what the other one's wrapper made of it. A cell that is run again with
        # another decorator has another function behind it.
        return new.interactive and old.innermost() is not new.innermost()
    if new.name == "<lambda>":  # several may stand in one line, and nothing but what they do tells them apart
        return old.code == new.code
    if (old.file, old.line) == (new.file, new.line):
        return True
    if old.file != new.file:  # a later cell of a notebook takes a name over; a module of the same name does not
        return old.interactive and new.interactive
    # Where the old line is still one of its definitions, there are two. Otherwise the source was edited, and reloaded.
    return old.line not in _lines_of(new.file, new.name)


def _lines_of(file: str, name: str) -> set[int]:
    """The lines where functions of this name begin, with their first decorator, in the file as it is now."""
    linecache.checkcache(file)
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return set()
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == name]
    return {min((decorator.lineno for decorator in node.decorator_list), default=node.lineno) for node in found}
