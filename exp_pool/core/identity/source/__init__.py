"""Source digests: the digest of a function changes when what the function does changes, and only then.

Counted are the function's own code, the functions and classes of its module that this names, and the plain constants
that it reads, transitively. Left out are comments, docstrings, annotations, formatting, ``@exp_cache`` and what stands
above it. The digest is the same on every version of Python, in a wheel, an editable install and a notebook cell. Where
no source can be read it is made of the code object, and marked with the version of Python. Where a text was saved after
it was loaded, the digest is one that no other process has. `dependencies` collects a function and all that it uses.
"""

from __future__ import annotations

import ast
import inspect
import secrets
import sys
import types
from collections.abc import Callable
from typing import Any

from exp_pool.core.identity.source.dependencies import DependencyCollector, Name
from exp_pool.core.identity.source.functions import code_text, inner, innermost
from exp_pool.core.identity.source.modified_files import note_files
from exp_pool.core.identity.source.name_resolution import Binding, CollectedSource
from exp_pool.core.identity.source.text import is_cell, is_interactive, text_of, tree_of
from exp_pool.core.identity.source.tree import find_function, is_literal

_NOTHING: Any = object()
_edited_classes = secrets.token_hex(16)  # of this process


class SourceDigest:
    """The source digest of one function, and of what answers in its place (``refine=``).

    Args:
        functions: the functions; what was not written in Python has no source.
    """

    def __init__(self, *functions: Callable[..., Any]) -> None:
        self._functions = [function for function in map(_written_in_python, functions) if function is not None]
        self._texts = {file: text_of(file, space) for f in self._functions for file, space in _files(f)}
        self._live = any(is_cell(f.__code__.co_filename) or is_interactive(f.__globals__) for f in self._functions)
        self._bindings: list[Binding] | None = None
        for function in self._functions:
            note_files(function.__globals__)
        self._edited = secrets.token_hex(16)
        self._held: dict[Name, tuple[Any, str | None]] = {}
        self._digest = ""
        self._token = object()

    def current(self) -> str:
        """The digest, made when first asked for and again where a name was bound anew; "" where there is none."""
        if self._bindings is None or not _hold(self._bindings):
            self._make()
        return self._digest

    def token(self) -> object:
        """An object that is replaced whenever the digest changes: memos of calls are made invalid by it."""
        bindings = self._bindings
        if bindings is None or (bindings and not _hold(bindings)):
            self._make()
        return self._token

    def __reduce__(self) -> Any:
        """In another process, where the source may not be at hand, it has the digest that it has here."""
        return _as_it_was, (self.current(),)

    def _make(self) -> None:
        before = self._digest
        try:
            found = self._found()
        except Exception:  # a module that does odd things when it is looked at, a stack that is nearly used up
            found = CollectedSource({f"{n} code": code_text(f.__code__) for n, f in enumerate(self._functions)})
        self._digest = found.digest()
        # Of a module's names only literals are looked at again: whoever binds a function anew there does it by
        # importing the module again, which decorates it anew.
        self._bindings = [binding for binding in found.bindings if self._live or binding.literal]
        if self._digest != before:
            self._token = object()

    def _found(self) -> CollectedSource:
        every = CollectedSource()
        for number, function in enumerate(self._functions):
            reader = DependencyCollector(innermost(function), self._texts, self._held)
            reader.function(function, "()")
            if reader.moves & reader.constants:  # what it sets itself is no setting
                reader = DependencyCollector(innermost(function), self._texts, self._held, frozenset(reader.moves))
                reader.function(function, "()")
            every.pieces |= {f"{number} {name}": piece for name, piece in reader.found.pieces.items()}
            every.bindings += reader.found.bindings
            if reader.edited:  # what answers now is of a text that nobody has any more
                every.pieces["edited"] = self._edited
        return every


def _as_it_was(digest: str) -> SourceDigest:
    sent = SourceDigest()
    sent._digest, sent._bindings = digest, []  # noqa: SLF001
    return sent


def digest_of(function: Callable[..., Any]) -> str:
    """The digest of a function's source as it is now; "" for what was not written in Python."""
    return SourceDigest(function).current()


def digest_of_class(cls: type) -> str:
    """The digest of a class by its statement, with what that names in its module; "" where nothing is known."""
    namespace = getattr(sys.modules.get(cls.__module__), "__dict__", None)
    if namespace is None:
        return ""
    nothing: Any = lambda: None  # noqa: E731  (a reader begins at a function of the module)
    reader = DependencyCollector(types.FunctionType(nothing.__code__, namespace), {}, {})
    reader.of_class(cls, namespace)
    if reader.edited:  # as with a function's: no other process has this digest
        reader.found.pieces["edited"] = _edited_classes
    return reader.found.digest()


def computed_defaults(function: types.FunctionType) -> frozenset[str]:
    """The parameters whose defaults are computed (``name=name`` in a loop): the source does not tell them.

    ``seen=dict()`` is no such: it begins as the same each time, and what a function collects there is not what it is.
    """
    text = text_of(function.__code__.co_filename, function.__globals__)
    tree = None if text is None else tree_of(text)
    node = None if tree is None else find_function(tree, function.__code__)
    if node is None:
        return frozenset()
    by_place = [*node.args.posonlyargs, *node.args.args]
    given = [*zip(reversed(by_place), reversed(node.args.defaults), strict=False)]
    given += [(one, value) for one, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if value]
    return frozenset(one.arg for one, value in given if not is_literal(value) and not _is_made_of_nothing(value))


def _is_made_of_nothing(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and not node.args and not node.keywords


def _written_in_python(function: Any) -> types.FunctionType | None:
    found = inner(function)
    if not isinstance(found, types.FunctionType | type):  # a callable object
        found = inner(inspect.getattr_static(type(found), "__call__", None))
    return found if isinstance(found, types.FunctionType) else None


def _files(function: types.FunctionType) -> list[tuple[str, dict[str, Any]]]:
    """The files whose text is to be kept: where the function, and what it wraps, stands."""
    return [(f.__code__.co_filename, f.__globals__) for f in {function, innermost(function)}]


def _hold(bindings: list[Binding]) -> bool:
    for namespace, name, value, _ in bindings:  # noqa: SIM110  (each hot hit comes here, and `all` takes twice as long)
        if namespace.get(name, _NOTHING) is not value:
            return False
    return True
