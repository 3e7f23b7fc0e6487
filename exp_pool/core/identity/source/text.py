"""Source texts and their syntax trees: of a file, of a notebook's cells, or of nothing.

The text is read when a function is decorated, not when it is first called: a file that is edited while an old process
runs must not pass for what that process executes.
"""

from __future__ import annotations

import ast
import functools
import linecache
import sys
import types
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

_shared: dict[str, str] = {}  # by file: a hundred decorated functions of a module hold one text


def text_of(file: str, namespace: Mapping[str, Any]) -> str | None:
    """The text of a file or cell as it is now; None where there is none (``-c``, standard input, a lone .pyc)."""
    try:
        linecache.checkcache(file)
        lines = linecache.getlines(file, dict(namespace) if "__loader__" in namespace else None)
    except Exception:  # of a loader: whoever imports from a place of his own decides what it does
        return None
    text = "".join(lines)
    if not text:
        return None
    if _shared.get(file) != text:
        _shared[file] = text
    return _shared[file]


@functools.lru_cache(maxsize=64)
def tree_of(text: str) -> ast.Module | None:
    """The text as a tree; None where it is no Python that this version can read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes: importing it has said so
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def is_cell(file: str) -> bool:
    """Whether it is a cell of a notebook, or was typed: other cells belong to the same module, and may be run again."""
    return file.startswith("<") or "ipykernel" in file


def trees_of(namespace: Mapping[str, Any], text: str | None = None) -> Iterator[ast.Module]:
    """The trees in which a module's names may be bound: its file; of a notebook all cells, the newest first.

    Args:
        namespace: the module's globals.
        text: its text, where that was read earlier.
    """
    file = namespace.get("__file__")
    if text is None and isinstance(file, str):
        text = text_of(file, namespace)
    tree = None if text is None else tree_of(text)
    if tree is not None:
        yield tree
    if is_interactive(namespace):
        for cell in reversed([name for name in linecache.cache if is_cell(name)]):
            entry = linecache.cache[cell]
            of_cell = tree_of("".join(entry[2])) if len(entry) > 1 else None
            if of_cell is not None and of_cell is not tree:
                yield of_cell


def is_interactive(namespace: Mapping[str, Any]) -> bool:
    """Whether the module is what somebody types: a notebook, a prompt."""
    return namespace.get("__name__") == "__main__" and not isinstance(namespace.get("__file__"), str)


def module_named(name: str, level: int, namespace: Mapping[str, Any]) -> types.ModuleType | None:
    """The module that ``from .name import`` means in a module; None where it was not imported.

    Args:
        name: what stands behind the dots.
        level: how many dots.
        namespace: the globals of the importing module.
    """
    if level:
        parts = str(namespace.get("__package__") or "").split(".")
        base = ".".join(parts[: len(parts) - level + 1])
        name = f"{base}.{name}" if name else base
    return sys.modules.get(name)
