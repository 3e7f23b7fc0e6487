"""Files modified since this process loaded them: whether the text of a file is what runs here.

A file that is older than the process is believed. One that was written later is believed where its functions are those
of the live module, and nothing has happened to it since it was first seen, or the module was loaded anew since. In a
notebook, where functions are patched in place, too, the rest of the text is compared with what stood there.
"""

from __future__ import annotations

import ast
import enum
import functools
import os
import sys
import time
import types
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from exp_pool.core.identity.classes import is_plain
from exp_pool.core.identity.names import in_library
from exp_pool.core.identity.source.bindings import bindings_of
from exp_pool.core.identity.source.functions import code_text, codes_in, inner
from exp_pool.core.identity.source.text import is_interactive, text_of, tree_of
from exp_pool.core.identity.source.tree import DEFINITIONS, canonical, written_data

_COARSE_S = 0.1  # how coarse a file system's clock may be
_ABSENT: Any = object()


class _Seen(NamedTuple):
    spec: Any  # another one after each reload
    stamp: tuple[int, ...] | None
    text: str | None


def _started() -> float:
    """When this process began: its program was read before anything of ours was imported."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return time.time() - max(age, 0.0)
    except (OSError, ValueError, IndexError, AttributeError):  # not on Linux
        return time.time()


_began_ns = int((_started() - _COARSE_S) * 1e9)
_seen: dict[str, _Seen] = {}
_looked_at: dict[str, tuple[set[str], list[str]]] = {}  # by package: the names of modules, and of its project's


def note_files(namespace: Mapping[str, Any]) -> None:
    """Note the state of a project's files: a function of it is being decorated, and what it names was just loaded."""
    package = str(namespace.get("__name__")).partition(".")[0]
    known, ours = _looked_at.setdefault(package, (set(), []))
    if len(known) != len(sys.modules):
        new = set(sys.modules) - known
        known |= new
        ours += [name for name in new if name.partition(".")[0] == package or not in_library(_file_of(name))]
    for name in ours:
        file = _file_of(name)
        seen = None if file is None else _seen.get(file)
        if file is not None and (seen is None or seen.spec is not vars(sys.modules[name]).get("__spec__")):
            _see(file, vars(sys.modules[name]), keep=is_interactive(namespace))


def _file_of(name: str) -> str | None:
    module = sys.modules.get(name)
    file = vars(module).get("__file__") if issubclass(type(module), types.ModuleType) else None
    return file if isinstance(file, str) else None


def _see(file: str, namespace: Mapping[str, Any], *, keep: bool) -> None:
    _seen[file] = _Seen(namespace.get("__spec__"), _stamp(file), text_of(file, namespace) if keep else None)


def _stamp(file: str) -> tuple[int, ...] | None:
    try:
        found = Path(file).stat()
    except (OSError, ValueError):
        return None
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def is_new(file: object) -> bool:
    """Whether a file was written after this process began."""
    stamp = _stamp(file) if isinstance(file, str) else None
    return stamp is not None and max(stamp[:2]) > _began_ns


def is_code_of(code: types.CodeType, text: str) -> bool:
    """Whether compiling a text gives this very code."""
    codes = _codes(text)
    return codes is not None and code_text(code) in codes.get(code.co_qualname, ())


def is_what_runs(namespace: Mapping[str, Any], text: str, *, kept: bool) -> bool:
    """Whether a text is what a module was loaded from.

    Args:
        namespace: the module's globals.
        text: what its file holds.
        kept: it was read when the module's function was decorated.
    """
    file, tree = namespace.get("__file__"), tree_of(text)
    if not isinstance(file, str) or tree is None or not is_new(file):
        return True
    if not _has_its_functions(namespace, text, tree):
        return False
    if kept:
        return True
    seen = _seen.get(file)
    if seen is None or seen.spec is not namespace.get("__spec__"):  # loaded since somebody looked
        _see(file, namespace, keep=False)
        return _has_its_literals(namespace, tree)
    if seen.stamp == _stamp(file):
        return True
    before = None if seen.text is None else tree_of(seen.text)
    return before is not None and _frame(before) == _frame(tree) and _has_its_literals(namespace, tree)


# ── What a text makes, and what is there ──────────────────────────────────────────────────────────────────────────────


@functools.lru_cache(maxsize=16)
def _codes(text: str) -> dict[str, set[str]] | None:
    """The code of all functions of a text, by qualified name."""
    found: dict[str, set[str]] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = compile(text, "<text>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    for code in codes_in(module):
        found.setdefault(code.co_qualname, set()).add(code_text(code))
    return found


def _has_its_functions(namespace: Mapping[str, Any], text: str, tree: ast.Module) -> bool:
    file = Path(str(namespace.get("__file__"))).name
    for function in _functions(namespace, str(namespace.get("__name__"))):
        ours = function.__globals__ is namespace and Path(function.__code__.co_filename).name == file
        if ours and not is_code_of(function.__code__, text):
            return False
    for statement in tree.body:  # what is new in the text
        if not isinstance(statement, DEFINITIONS):
            continue
        live = namespace.get(statement.name, _ABSENT)
        if live is _ABSENT:
            return False
        if isinstance(statement, ast.ClassDef) and issubclass(type(live), type):
            inside = (one.name for one in statement.body if isinstance(one, DEFINITIONS))
            if any(name not in vars(live) for name in inside if name[:2] != "__" or name[-2:] == "__"):
                return False
    return True


def _functions(namespace: Mapping[str, Any], module: str) -> Iterator[types.FunctionType]:
    """The functions that are live in a module and in its classes."""
    spaces, seen = [namespace], set[int]()
    while spaces:
        for value in [*spaces.pop().values()]:
            kind = type(value)  # never isinstance: a proxy may raise
            if issubclass(kind, type):
                if value.__module__ == module and id(value) not in seen:
                    seen.add(id(value))
                    spaces.append(vars(value))
                continue
            members = [value]
            if issubclass(kind, property):
                members = [value.fget, value.fset]
            elif issubclass(kind, functools.cached_property):
                members = [value.func]
            yield from (f for f in map(inner, members) if type(f) is types.FunctionType)


def _has_its_literals(namespace: Mapping[str, Any], tree: ast.Module) -> bool:
    """Whether the module still has the literals of a text; computed values cannot be compared."""
    bindings = bindings_of(tree)
    for name, value in bindings.literals():
        if is_plain(value) or not value or name in bindings.counted | bindings.rebound:
            continue  # they count by their value, or collect something
        if written_data(namespace.get(name, _ABSENT)) not in (written_data(value), None):
            return False
    classes = ((one, namespace.get(one.name)) for one in tree.body if isinstance(one, ast.ClassDef))
    for statement, cls in classes:
        own: Mapping[str, Any] = vars(cls) if isinstance(cls, type) else {}
        for name, value in bindings_of(statement).literals():
            live = own.get(name, _ABSENT)
            told = live._value_ if issubclass(type(live), enum.Enum) else live
            if written_data(told) not in (written_data(value), None):
                return False
    return True


def _frame(node: ast.Module | ast.ClassDef) -> list[str]:
    """The statements of a text without the bodies of its functions, in normal form."""
    found: list[str] = []
    for one in node.body:
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(f"{one.name} {canonical(one.args)} {canonical(one.decorator_list)}")
        elif isinstance(one, ast.ClassDef):
            found += [f"{one.name} {canonical([*one.bases, *one.keywords, *one.decorator_list])}", *_frame(one)]
        else:
            found.append(canonical(one))
    return found
