"""What a function says, with what it names: functions and classes of its module, and plain constants, transitively."""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
import sysconfig
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from exp_pool.classes import is_plain
from exp_pool.source.compiled import BY_CODE, code_text, compiled, names_used, read_globals
from exp_pool.source.reading import module_named, text_of, tree_of, trees_of
from exp_pool.source.tree import (
    assignments,
    attributes_on,
    below,
    canonical,
    chains,
    counts,
    definitions,
    find_class,
    find_function,
    imported_from,
    is_literal,
    is_loop,
    lines_of,
    loaded_names,
    members,
    star_imports,
    written_value,
)

_ABSENT: Any = object()
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_IMPORTS = 20  # from where it was imported from, and so on


class Binding(NamedTuple):
    """A name of a module, and what it was bound to when it was looked at. `literal`: it is part of the digest."""

    namespace: Mapping[str, Any]
    name: str
    value: Any
    literal: bool


@dataclass
class Found:
    """What was found of a function: pieces by names of their own, and the bindings that they depend on."""

    pieces: dict[str, str] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)

    def digest(self) -> str:
        """The digest of the pieces; empty where there are none."""
        if not self.pieces:
            return ""
        told = "\n".join(f"{name}\t{piece}" for name, piece in sorted(self.pieces.items()))
        mark = f"code{sys.version_info[0]}.{sys.version_info[1]}" if BY_CODE in told else "1"
        return f"{mark}:{hashlib.sha256(told.encode()).hexdigest()[:32]}"


class Reader:
    """Reads one function.

    Args:
        function: where it begins; what is of its package, or of no library, is its own project's.
        texts: what the files held when it was decorated.
    """

    def __init__(self, function: types.FunctionType, texts: Mapping[str, str | None]) -> None:
        self._texts = texts
        self._home = function.__globals__
        self._seen: set[int] = set()
        self.found = Found()

    def function(self, value: Any, label: str) -> None:
        """A function, what it wraps and closes over, and what it names."""
        function = inner(value)
        if type(function) is not types.FunctionType or id(function) in self._seen:
            return
        self._seen.add(id(function))  # not its code: what one decorator made of two functions has one
        if "__wrapped__" in function.__dict__:
            self.function(function.__dict__["__wrapped__"], f"{label}.wrapped")
            if not self._ours(function.__globals__):  # its name stands among the decorators; its code is a library's
                return
        namespace, code = function.__globals__, function.__code__
        text = (
            self._texts[code.co_filename] if code.co_filename in self._texts else text_of(code.co_filename, namespace)
        )
        tree = None if text is None else tree_of(text)
        node = None if tree is None else find_function(tree, code)
        self.found.pieces[label] = compiled(function) if node is None else _canonical(node, namespace)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            held = _held(cell)
            if issubclass(type(held), type):
                self._class(held, namespace)
            else:
                self.function(held, f"{label}.{name}")
        self._names(read_globals(code), namespace)
        if node is not None:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):  # the decorators below
                below_ours = below(node.decorator_list, lambda decorator: _is_pools_own(decorator, namespace))
                self._names(loaded_names(list(below_ours)), namespace)
            self._names(loaded_names(node.args), namespace)  # the defaults
            self._attributes_of_modules([node], namespace)
            owner = function.__qualname__.rpartition(".")[0]
            if owner and not owner.endswith("<locals>") and code.co_argcount:
                self._asked_of_class(owner, attributes_on(node, code.co_varnames[0]), namespace)
        else:
            self._asked_without_source(function)

    # ── What it asks of its class: ``self.prompt()``, ``cls.TEMPLATE`` ────────────────────────────────────────────────

    def _asked_without_source(self, function: types.FunctionType) -> None:
        """What its class has of the names that it uses: which of them are asked of `self`, code does not tell."""
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

    def _asked_of_class(self, owner: str, wanted: set[str], namespace: dict[str, Any]) -> None:
        trees = [*self._trees(namespace)]
        cls = next((found for found in (find_class(tree, owner) for tree in trees) if found is not None), None)
        if cls is not None:
            self._members(lines_of(trees, cls), wanted, namespace)

    def _members(self, lookups: list[list[ast.ClassDef]], wanted: set[str], namespace: dict[str, Any]) -> None:
        """What is asked of a class by name, as it has it, and as the classes of its module do that come from it."""
        lines = [[(members(one), one) for one in line] for line in lookups]
        for name in {one.name for line in lookups for one in line} & namespace.keys():
            self._bound(namespace, name, namespace[name])
        pending, asked = set(wanted), set[str]()
        while pending - asked:
            name = min(pending - asked)
            asked.add(name)
            for found in [next((one for one in line if name in one[0]), None) for line in lines]:
                if found is None:
                    continue
                statements, label = found[0][name], f"{self._label(namespace, found[1].name)}.{name}"
                if label not in self.found.pieces:
                    self.found.pieces[label] = "".join(_canonical(statement, namespace) for statement in statements)
                    self._attributes_of_modules(statements, namespace)
                    for statement in statements:
                        self._names(loaded_names(statement), namespace)
                for statement in statements:
                    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and statement.args.args:
                        pending |= attributes_on(statement, statement.args.args[0].arg)
                    else:
                        pending |= loaded_names(statement)  # ``t = property(_t)``, ``title = PREFIX + "!"``

    # ── What it names ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _names(self, names: Iterable[str], namespace: dict[str, Any]) -> None:
        for name in sorted(names):
            value, label = namespace.get(name, _ABSENT), self._label(namespace, name)
            if value is _ABSENT or label in self.found.pieces or (name[:2] == "__" == name[-2:]):
                continue  # __name__ and __file__ say where a module is, not what it does
            target, kind = inner(value), type(value)  # never isinstance: proxies pass for what they stand for, or raise
            self._named(name, namespace, label)
            if type(target) is types.FunctionType:
                self._bound(namespace, name, value, literal=True)
                if target.__qualname__ != name:  # of several functions that were looked at, which one it is
                    self.found.pieces[f"is {label}"] = target.__qualname__
                if target.__globals__ is namespace or innermost(target).__globals__ is namespace:
                    self.function(value, label)
            elif issubclass(kind, type):
                self._bound(namespace, name, value, literal=True)
                self._class(value, namespace)
            elif not issubclass(kind, types.ModuleType):
                self._constant(name, value, namespace, label)

    def _named(self, name: str, namespace: dict[str, Any], label: str) -> None:
        """How a name comes into its module: what it is imported as, or made by; a function or class says it itself."""
        for tree in self._trees(namespace):
            imported, made = imported_from(tree, name), assignments(tree, name)
            if imported is not None:
                self.found.pieces[f"import {label}"] = f"{imported[0]} {imported[2]}"
            if made and type(inner(namespace[name])) is types.FunctionType:  # a factory's, a partial
                self.found.pieces[f"made {label}"] = canonical(made)
                for statement in made:
                    self._names(loaded_names(statement) - {name}, namespace)
            if imported is not None or made:
                return

    def _class(self, cls: type, namespace: dict[str, Any]) -> None:
        """A class of the same module, by its statement, with what that names."""
        if cls.__module__ != namespace.get("__name__") or id(cls) in self._seen:
            return
        self._seen.add(id(cls))
        for tree in self._trees(namespace):
            statement = find_class(tree, cls.__qualname__)
            if statement is not None:
                self.found.pieces[f"class {self._label(namespace, cls.__qualname__)}"] = _canonical(
                    statement, namespace
                )
                self._names(loaded_names(statement), namespace)
                self._attributes_of_modules([statement], namespace)
                return
        for name, member in sorted(vars(cls).items()):  # no source: what its functions do, and its plain values
            function = inner(member)
            if type(function) is types.FunctionType:
                self.found.pieces[f"class {cls.__qualname__}.{name}"] = code_text(function.__code__)
            elif is_plain(member) and name[:2] != "__":
                self.found.pieces[f"class {cls.__qualname__}.{name}"] = written_value(member)

    def _attributes_of_modules(self, nodes: Iterable[ast.AST], namespace: dict[str, Any]) -> None:
        """``prompts.GREETING``, ``app.prompts.GREETING``, ``Settings.GREETING``, where the module is of the project."""
        for name, *steps in sorted({chain for node in nodes for chain in chains(node)}):
            held: Any = namespace.get(name)
            label = self._label(namespace, name)
            for step in steps:
                label += f".{step}"
                if label in self.found.pieces:
                    break
                if issubclass(type(held), type):
                    self._attribute_of_class(held, step, label, namespace)
                    break
                if not issubclass(type(held), types.ModuleType) or not self._ours(vars(held)):
                    break
                module, held = held, vars(held).get(step, _ABSENT)
                kind = type(inner(held))
                if held is not _ABSENT and not issubclass(kind, type | types.FunctionType | types.ModuleType):
                    self._constant(step, held, vars(module), label)

    def _attribute_of_class(self, cls: type, name: str, label: str, namespace: dict[str, Any]) -> None:
        """What is assigned to it in the class's statement; classes of the function's own module count whole."""
        home = getattr(sys.modules.get(cls.__module__), "__dict__", namespace)
        if home is namespace or not self._ours(home):
            return
        for tree in self._trees(home):
            statement = find_class(tree, cls.__qualname__)
            found = members(statement).get(name, []) if statement is not None else []
            if found and not any(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in found):
                self.found.pieces[label] = canonical(found)
                return

    def _constant(self, name: str, value: Any, namespace: dict[str, Any], label: str) -> None:
        """A literal by its value; what is computed by its text, so that a start time or a key changes nothing."""
        home, statements, counted = self._bindings(name, namespace)
        literal = all(isinstance(s, ast.expr) and is_literal(s) for s in statements)
        if is_plain(value) and not counted and (literal or any(map(is_loop, statements))):
            self.found.pieces[label] = written_value(value)
            self._bound(namespace, name, value, literal=True)
            return
        self.found.pieces[label] = "".join(_canonical(statement, home) for statement in statements)
        if not counted:
            self._bound(namespace, name, value)
        self._attributes_of_modules(statements, home)
        for statement in statements:
            self._names(loaded_names(statement) - {name}, home)

    def _bindings(self, name: str, namespace: dict[str, Any]) -> tuple[dict[str, Any], list[ast.expr | ast.stmt], bool]:
        """Where a name is bound, in this module or in that of the project from which it was imported.

        Returns:
            The globals of that module; the expressions, or statements, that bind it; whether functions bind it anew.
        """
        for _ in range(_IMPORTS):
            module: types.ModuleType | None = None
            for tree in self._trees(namespace):
                found = assignments(tree, name) + definitions(tree, name)  # a class, a function that became an object
                imported = imported_from(tree, name)
                if found and (imported is None or imported[2] == ""):
                    return namespace, found, counts(tree, name)
                if imported is not None and imported[2]:
                    module = module_named(imported[0], imported[1], namespace)
                    name = imported[2]
                    break
                stars = (module_named(of, level, namespace) for of, level in star_imports(tree))
                module = next((each for each in stars if each is not None and name in vars(each)), None)
                if module is not None:
                    break
            if module is None or not self._ours(vars(module)):
                break
            namespace = vars(module)
        return namespace, [], False

    def _trees(self, namespace: dict[str, Any]) -> Iterable[ast.Module]:
        return trees_of(namespace, self._texts.get(str(namespace.get("__file__"))))

    def _bound(self, namespace: dict[str, Any], name: str, value: Any, *, literal: bool = False) -> None:
        self.found.bindings.append(Binding(namespace, name, value, literal))

    def _label(self, namespace: Mapping[str, Any], name: str) -> str:
        """A name in its module; the function's own module has no name here, as it may run as a script."""
        return name if namespace is self._home else f"{namespace.get('__name__')}:{name}"

    def _ours(self, namespace: Mapping[str, Any]) -> bool:
        """Whether a module is of the function's project: of its package, or of no library."""
        if namespace is self._home:
            return True
        package = str(namespace.get("__name__")).partition(".")[0]
        if package == "exp_pool":
            return False
        file = namespace.get("__file__")
        in_package = package == str(self._home.get("__name__")).partition(".")[0]
        return in_package or (isinstance(file, str) and not file.startswith(_LIBRARIES))


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
            held = _own_dict(value)
            if issubclass(kind, type) or "__wrapped__" not in held:
                return value
            value = held["__wrapped__"]
    return value


def _own_dict(value: Any) -> Mapping[str, Any]:
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if isinstance(found, dict) else {}


def _canonical(node: ast.AST, namespace: Mapping[str, Any]) -> str:
    return canonical(node, lambda decorator: _is_pools_own(decorator, namespace))


def _is_pools_own(decorator: ast.expr, namespace: Mapping[str, Any]) -> bool:
    """Whether a decorator is ``@exp_cache``, under whatever name."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(called, ast.Attribute):
        return called.attr == "exp_cache"
    if not isinstance(called, ast.Name):
        return False
    return called.id == "exp_cache" or "__exp_decorator__" in _own_dict(namespace.get(called.id))


def _held(cell: types.CellType) -> Any:
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
