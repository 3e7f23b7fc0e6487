"""Dependencies: a function's source with the functions, classes and constants that it names, transitively."""

from __future__ import annotations

import ast
import functools
import sys
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from exp_pool.core.identity.classes import cells_of, is_plain
from exp_pool.core.identity.source.bindings import bindings_of, changed_attributes, is_loop
from exp_pool.core.identity.source.classes import AskedOfSelf, asked, asked_of_self, class_statement, lines_of, members
from exp_pool.core.identity.source.functions import (
    code_text,
    compiled,
    globals_used,
    inner,
    innermost,
    is_pools_own,
    names_used,
    normal_form,
)
from exp_pool.core.identity.source.modified_files import is_code_of, is_new
from exp_pool.core.identity.source.name_resolution import NameLookup
from exp_pool.core.identity.source.text import text_of, tree_of
from exp_pool.core.identity.source.tree import (
    below,
    canonical,
    find_function,
    is_literal,
    names_in,
    written_data,
    written_value,
)

Name = tuple[int, str]  # the id of a module's globals, and the name there
_ABSENT: Any = object()
_EMPTY = ("dict()", "list()", "set()")  # what is collected there changes nothing
# They say where a module is, not what it does.
_OF_PYTHON = frozenset(
    f"__{name}__" for name in "name file doc package spec loader path builtins cached annotations dict debug".split()
)


class DependencyCollector(NameLookup):
    """Collects the source of one function and of its dependencies.

    Args:
        function: where it begins; what is of its package, or of no library, is its own project's.
        texts: what the files held when it was decorated.
        held: the containers that were looked at before, and what was written of them.
        moved: the names that the function, or what it calls, binds anew itself: no settings, but where it has come to.
    """

    def __init__(
        self,
        function: types.FunctionType,
        texts: Mapping[str, str | None],
        held: dict[Name, tuple[Any, str | None]],
        moved: frozenset[Name] = frozenset(),
    ) -> None:
        super().__init__(function, texts)
        self._held, self._moved = held, moved
        self._seen: set[int] = set()
        self._statements: dict[int, ast.AST] = {}  # that were told
        self.moves: set[Name] = set()  # by what was read
        self.constants: set[Name] = set()

    def function(self, value: Any, label: str) -> None:
        """A function, what it wraps and closes over, and what it names."""
        function = inner(value)
        if type(function) is not types.FunctionType or id(function) in self._seen:
            return
        self._seen.add(id(function))  # not its code: what one decorator made of two functions has one
        if "__wrapped__" in function.__dict__:
            self.function(function.__dict__["__wrapped__"], f"{label}.wrapped")
            self._implementations(function, label)
            if not self.ours(function.__globals__):  # its name stands among the decorators; its code is a library's
                return
        namespace, code = function.__globals__, function.__code__
        text = self.texts[code.co_filename] if code.co_filename in self.texts else text_of(code.co_filename, namespace)
        tree = None if text is None else tree_of(text)
        node = None if tree is None else find_function(tree, code)
        if text is not None and is_new(code.co_filename):
            self.compare(namespace)
            self.edited = self.edited or (node is not None and not is_code_of(code, text))
        self.found.pieces[label] = compiled(function) if node is None else normal_form(node, namespace)
        self.moves |= {(id(namespace), name) for name in globals_used(code, "STORE_GLOBAL")}
        for name, _, held in cells_of(function):
            if issubclass(type(held), type):
                self.of_class(held, namespace)
            else:
                self.function(held, f"{label}.{name}")
        self._names(globals_used(code, "LOAD_GLOBAL", "LOAD_NAME"), namespace)
        if node is not None:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):  # the decorators below
                below_ours = below(node.decorator_list, lambda decorator: is_pools_own(decorator, namespace))
                for decorator in below_ours:
                    self._names(names_in(decorator).read, namespace)
            self._names(names_in(node.args).read, namespace)  # the defaults
            self._attributes_of_modules([node], namespace)
            owner = function.__qualname__.rpartition(".")[0]
            if owner and not owner.endswith("<locals>") and code.co_argcount:
                self._asked_of_class(owner, asked_of_self(node), namespace)
        else:
            self._asked_without_source(function)

    def _implementations(self, function: types.FunctionType, label: str) -> None:
        """What ``functools.singledispatch`` was given for other types, in the module of the function itself."""
        registry = function.__dict__.get("registry")
        if isinstance(registry, types.MappingProxyType) and function.__globals__ is vars(functools):
            home = innermost(function).__globals__
            for cls, one in sorted(registry.items(), key=lambda item: item[0].__qualname__):
                if getattr(inner(one), "__globals__", None) is home:
                    self.function(one, f"{label}[{cls.__qualname__}]")

    def _follow(
        self, nodes: Sequence[ast.AST], namespace: dict[str, Any], without: Collection[str] = (), *, moves: bool = True
    ) -> None:
        """Collect what nodes of a module name, and note what they bind anew.

        Args:
            nodes: expressions and statements.
            namespace: the globals of the module.
            without: names that are no dependencies: those that the nodes bind.
            moves: whether they are statements, which may bind names of the module anew.
        """
        if moves and any(bindings_of(tree).rebound for tree in self.trees(namespace)):
            self.moves |= {(id(namespace), name) for node in nodes for name in names_in(node).declared}
        self._attributes_of_modules(nodes, namespace)
        for node in nodes:
            self._names(names_in(node).read.difference(without), namespace)

    # ── What it asks of its class: ``self.prompt()``, ``cls.TEMPLATE`` ────────────────────────────────────────────────

    def _asked_without_source(self, function: types.FunctionType) -> None:
        """The members of its class that code may use: it does not tell which names are attributes of `self`."""
        owner: Any = function.__globals__
        for name in function.__qualname__.split(".")[:-1]:
            owner = owner.get(name) if owner is function.__globals__ else getattr(owner, name, None)
        if not isinstance(owner, type):
            return
        classes = [one for one in function.__globals__.values() if isinstance(one, type) and owner in one.__mro__]
        family = {
            base: None for one in (owner, *classes) for base in one.__mro__ if base.__module__ == owner.__module__
        }
        pending, asked = names_used(function.__code__), set[str]()
        while pending - asked:
            name = min(pending - asked)
            asked.add(name)
            for cls in family:
                member, label = vars(cls).get(name, _ABSENT), f"class {cls.__qualname__}.{name}"
                if member is not _ABSENT and is_plain(member):
                    self.found.pieces[label] = written_value(member)
                    continue
                method = inner(member.fget if isinstance(member, property) else member)
                if isinstance(method, types.FunctionType):
                    self.function(method, label)
                    pending |= names_used(method.__code__)

    def _asked_of_class(self, owner: str, wanted: AskedOfSelf, namespace: dict[str, Any]) -> None:
        """The members that a method reads of its class, and of the subclasses in the module."""
        lines = lines_of(self.trees(namespace), namespace, owner)
        for name in sorted({one.name for line in lines for one in line} & namespace.keys()):
            self.bound(namespace, name, namespace[name])
            self._changes_of_class(name, namespace)
        for cls, name, statements in asked(lines, wanted):
            if id(statements[0]) in self._statements:
                continue
            self._piece(f"{self.label(namespace, cls.name)}.{name}", statements, namespace)

    def _changes_of_class(self, name: str, namespace: dict[str, Any]) -> None:
        """Assignments to attributes of a class at the top of the module: ``Agent.run = better``."""
        for tree in self.trees(namespace):
            changes = [
                s for s in changed_attributes(tree, name) if not is_pools_own(getattr(s, "value", None), namespace)
            ]
            label = f"changed {self.label(namespace, name)}"
            if changes and label not in self.found.pieces:
                self._piece(label, changes, namespace)

    def _piece(self, label: str, statements: list[Any], namespace: dict[str, Any]) -> None:
        """Statements of a module, with what they name."""
        told = "".join(normal_form(statement, namespace) for statement in statements)
        while self.found.pieces.get(label, told) != told:  # classes of one name in two others
            label += "'"
        self.found.pieces[label] = told
        self._statements |= {id(statement): statement for statement in statements}
        self._follow(statements, namespace)

    # ── What it names ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _names(self, names: Iterable[str], namespace: dict[str, Any]) -> None:
        for name in sorted(names):
            value, label = namespace.get(name, _ABSENT), self.label(namespace, name)
            if value is _ABSENT or label in self.found.pieces or name in _OF_PYTHON:
                continue
            target, kind = inner(value), type(value)  # never isinstance: proxies pass for what they stand for, or raise
            self._named(name, namespace, label)
            if type(target) is types.FunctionType:
                self.bound(namespace, name, value, literal=True)
                if target.__qualname__ != name:  # of several functions that were looked at, which one it is
                    self.found.pieces[f"is {label}"] = target.__qualname__
                if target.__globals__ is namespace or innermost(target).__globals__ is namespace:
                    self.function(value, label)
                else:
                    self._defined_here(name, namespace, label)
            elif issubclass(kind, type):
                self.bound(namespace, name, value, literal=True)
                self.of_class(value, namespace)
            elif not issubclass(kind, types.ModuleType):
                self._constant(name, value, namespace, label)

    def _defined_here(self, name: str, namespace: dict[str, Any], label: str) -> None:
        """The definition of what another module's decorator made another function of, without ``functools.wraps``."""
        for tree in self.trees(namespace):
            bindings = bindings_of(tree)
            found = bindings.defined.get(name)
            if found and name not in bindings.imported:
                self._piece(label, found, namespace)
                return

    def _named(self, name: str, namespace: dict[str, Any], label: str) -> None:
        """How a name comes into its module: what it is imported as, or made by; a function or class says it itself."""
        for tree in self.trees(namespace):
            imported, made = bindings_of(tree).imported.get(name), bindings_of(tree).assigned.get(name)
            if imported is not None:
                self.found.pieces[f"import {label}"] = f"{imported[0]} {imported[2]}"
            if made and type(inner(namespace[name])) is types.FunctionType:  # a factory's, a partial
                self.found.pieces[f"made {label}"] = canonical(made)
                for statement in made:
                    self._names(names_in(statement).read - {name}, namespace)
            if imported is not None or made:
                return

    def of_class(self, cls: type, namespace: dict[str, Any]) -> None:
        """A class of the same module, by its statement, with what that names."""
        if cls.__module__ != namespace.get("__name__") or id(cls) in self._seen:
            return
        self._seen.add(id(cls))
        statement = class_statement(self.trees(namespace), cls)
        if statement is not None:
            self.found.pieces[f"class {self.label(namespace, cls.__qualname__)}"] = normal_form(statement, namespace)
            self._follow([statement], namespace)
            self._changes_of_class(cls.__qualname__, namespace)
            return
        for name, member in sorted(vars(cls).items()):  # no source: what its functions do, and its plain values
            function = inner(member)
            if type(function) is types.FunctionType:
                self.found.pieces[f"class {cls.__qualname__}.{name}"] = code_text(function.__code__)
            elif is_plain(member) and name[:2] != "__":
                self.found.pieces[f"class {cls.__qualname__}.{name}"] = written_value(member)

    def _attributes_of_modules(self, nodes: Iterable[ast.AST], namespace: dict[str, Any]) -> None:
        """``prompts.GREETING``, ``app.prompts.GREETING``, ``Settings.GREETING``, where the module is of the project."""
        for name, *steps in sorted({chain for node in nodes for chain in names_in(node).chains}):
            held: Any = namespace.get(name)
            label = self.label(namespace, name)
            for step in steps:
                label += f".{step}"
                if label in self.found.pieces:
                    break
                if issubclass(type(held), type):
                    self._attribute_of_class(held, step, label, namespace)
                    break
                if not issubclass(type(held), types.ModuleType) or not self.ours(vars(held)):
                    break
                module, held = held, vars(held).get(step, _ABSENT)
                kind = type(inner(held))
                if held is not _ABSENT and not issubclass(kind, type | types.FunctionType | types.ModuleType):
                    self._constant(step, held, vars(module), label)

    def _attribute_of_class(self, cls: type, name: str, label: str, namespace: dict[str, Any]) -> None:
        """An attribute by the statement of its class or base; a class of the same module counts as a whole."""
        for one in cls.__mro__:
            home = getattr(sys.modules.get(one.__module__), "__dict__", namespace)
            if not self.ours(home):
                continue
            statement = class_statement(self.trees(home), one)
            held = {} if statement is None else members(statement)
            found = held.get(name, [])
            if found and home is namespace:
                self.of_class(one, namespace)
            elif found and not any(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in found):
                self.found.pieces[label] = canonical(found)
                beside = {other for each in found for other in names_in(each).read} - {name}
                for other in sorted(beside & held.keys()):  # ``FULL = f"{NAME}!"`` in a class
                    its = f"{label.rpartition('.')[0]}.{other}"
                    if its not in self.found.pieces:
                        self._attribute_of_class(one, other, its, namespace)
                self._follow(found, home, {name, *held}, moves=False)
            if found:
                return

    def _constant(self, name: str, value: Any, namespace: dict[str, Any], label: str) -> None:
        """A literal by its value; what is computed by its text, so that a start time or a key changes nothing."""
        self.constants.add((id(namespace), name))
        home, statements, counted, rebound = self.bindings(name, namespace)
        counted = counted or (id(namespace), name) in self._moved
        literal = all(isinstance(s, ast.expr) and is_literal(s) for s in statements)
        unset = value is None and rebound  # what will be set later counts by its text, before and after
        if is_plain(value) and not counted and not unset and (literal or any(map(is_loop, statements))):
            self.found.pieces[label] = written_value(value)
            self.bound(namespace, name, value, literal=True)
            return
        told = "".join(normal_form(statement, home) for statement in statements)
        container = None if counted else _container(value, statements)
        if container is not None or (not statements and self.is_unexplained(name, namespace)):
            told = self._data(name, value, namespace, container, rebound=rebound and home is namespace) or told
        self.found.pieces[label] = told
        if not counted:
            self.bound(namespace, name, value, literal=unset or container is not None)
        self._follow(statements, home, {name}, moves=False)

    def _data(
        self, name: str, value: Any, namespace: dict[str, Any], literal: str | None, *, rebound: bool
    ) -> str | None:
        """A container's value where its text does not say it: there is no text, or another container was bound since.

        What one and the same container collects changes nothing: it counts as it was when it was first looked at.
        """
        key = (id(namespace), name)
        before = self._held.get(key)
        if before is not None and before[0] is value:
            return before[1]
        told = None
        if before is not None or literal is None or (rebound and literal not in _EMPTY):
            written = written_data(value)
            told = None if written == literal else written
        self._held[key] = (value, told)
        return told


def _container(value: Any, statements: list[ast.expr | ast.stmt]) -> str | None:
    """A container that is made by one literal, as text; None for everything else."""
    if len(statements) != 1 or not isinstance(statements[0], ast.expr) or not is_literal(statements[0]):
        return None
    literal = ast.literal_eval(statements[0])
    return None if is_plain(literal) and is_plain(value) else written_data(literal)
