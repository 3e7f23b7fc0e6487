"""Class statements of a module: the one that made a class, and what of it a method asks for. Nothing is called.

Which classes a class comes from its live bases tell: names in the text may stand for others, or for none.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from exp_pool.core.identity.source.bindings import bindings_of, targets_of, top
from exp_pool.core.identity.source.functions import inner
from exp_pool.core.identity.source.tree import definitions_in, names_in, walk_said

Line = list[ast.ClassDef]  # where attributes are looked up, in order
_ABSENT: Any = object()


class AskedOfSelf(NamedTuple):
    """The attributes that a method reads of its first parameter, those by ``super()``, and whether it may read any."""

    names: set[str]
    above: set[str]
    whole: bool


class _Statement(NamedTuple):
    node: ast.ClassDef
    qualname: str
    local: bool  # in a function, where no name leads to it


# ── Finding ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.lru_cache(maxsize=64)
def _classes(tree: ast.Module) -> dict[str, list[_Statement]]:
    """The class statements of a module by qualified name; those in functions without ``<locals>``."""
    found: dict[str, list[_Statement]] = {}
    pending: list[tuple[ast.AST, str, bool]] = [(tree, "", False)]
    while pending:
        node, prefix, local = pending.pop(0)
        for inside in definitions_in(node):
            path = f"{prefix}{inside.name}"
            if isinstance(inside, ast.ClassDef):
                found.setdefault(path, []).append(_Statement(inside, path, local))
            pending.append((inside, f"{path}.", local or not isinstance(inside, ast.ClassDef)))
    return found


def live_class(namespace: Mapping[str, Any], qualname: str) -> type | None:
    """The class of a module that its qualified name leads to."""
    first, *more = qualname.split(".")
    found: Any = namespace.get(first)
    for name in more:
        found = vars(found).get(name) if issubclass(type(found), type) else None
    if not issubclass(type(found), type) or found.__module__ != namespace.get("__name__"):
        return None
    return found if found.__qualname__ == qualname else None


def class_statement(trees: Iterable[ast.Module], cls: type) -> ast.ClassDef | None:
    """The statement that made a class: of several under conditions the one that ran."""
    path = cls.__qualname__.replace("<locals>.", "")
    for tree in trees:
        standing = _classes(tree).get(path)
        if standing:
            return _the_one([one.node for one in standing], cls)
    return None


def _the_one(candidates: list[ast.ClassDef], cls: type) -> ast.ClassDef:
    if len(candidates) == 1:
        return candidates[0]
    functions = [inner(m.fget if isinstance(m, property) else m) for m in vars(cls).values()]
    codes = [getattr(f, "__code__", None) for f in functions]
    lines = [code.co_firstlineno for code in codes if code and code.co_qualname.startswith(f"{cls.__qualname__}.")]
    ran = [one for one in candidates if any(one.lineno <= line <= (one.end_lineno or 0) for line in lines)]
    ran = ran or [one for one in candidates if all(_holds(cls, *each) for each in bindings_of(one).literals())]
    return (ran or candidates)[-1]  # a later one takes the name over


def _holds(cls: type, name: str, value: Any) -> bool:
    held = vars(cls).get(name, _ABSENT)
    return type(held) is type(value) and bool(held == value)


def lines_of(trees: Iterable[ast.Module], namespace: Mapping[str, Any], qualname: str) -> list[Line]:
    """The method resolution orders, as statements, of a class and of its subclasses in the same module.

    Args:
        trees: what its module is written in: its file, or a notebook's cells, the newest first.
        namespace: the globals of the module.
        qualname: the name of the class.
    """
    trees = [*trees]
    standing: dict[str, list[_Statement]] = {}
    for tree in trees:
        standing = _classes(tree) | standing
    path, live = qualname.replace("<locals>.", ""), live_class(namespace, qualname)
    if live is None and path not in standing:
        return []
    own = class_statement(trees, live) if live is not None else standing[path][-1].node
    if own is None:
        return []
    lines = [_line(trees, live, standing, path)]
    for other, places in standing.items():
        cls = None if places[-1].local else live_class(namespace, other)
        if other != path and (cls is None or live is None or live in cls.__mro__):
            line = _line(trees, cls, standing, other)
            lines += [line] if own in line else []
    return lines


def _line(trees: list[ast.Module], cls: type | None, standing: dict[str, list[_Statement]], path: str) -> Line:
    if cls is not None:
        bases = (class_statement(trees, base) for base in cls.__mro__ if base.__module__ == cls.__module__)
        return [node for node in bases if node is not None]
    line: Line = []
    pending = [standing[path][-1]]
    while pending:
        one = pending.pop(0)
        if one.node not in line:
            line.append(one.node)
            above = (_base(base, one.qualname, standing) for base in one.node.bases)
            pending = [*(found for found in above if found is not None), *pending]
    return line


def _base(base: ast.expr, qualname: str, standing: dict[str, list[_Statement]]) -> _Statement | None:
    """The class statement that a base names: beside the class, at the top of the module, or anywhere in it."""
    node = base.value if isinstance(base, ast.Subscript) else base  # ``Agent[str]``
    if not isinstance(node, ast.Name):
        return None
    beside = f"{qualname.rpartition('.')[0]}.{node.id}"
    found = standing.get(beside) or standing.get(node.id)
    anywhere = (places for path, places in standing.items() if path.endswith(f".{node.id}"))
    return (found or next(anywhere, [None]))[-1]


def members(node: ast.ClassDef) -> dict[str, list[ast.stmt]]:
    """The members of a class by name: methods and assignments, under conditions too; a property and its setter."""
    found: dict[str, list[ast.stmt]] = {}
    for definition in definitions_in(node):
        found.setdefault(definition.name, []).append(definition)
    for statement in top(node):
        for name in targets_of(statement):
            found.setdefault(name, []).append(statement)
    return found


# ── What is asked of it: ``self.prompt()``, ``super().prompt()``, ``str(self)`` ───────────────────────────────────────


def asked_of_self(node: ast.AST) -> AskedOfSelf:
    """The attributes that a method reads of its object or class."""
    wanted = AskedOfSelf(set(), set(), whole=False)
    name = _first_parameter(node)
    if name is None:
        return wanted
    plain: set[int] = set()  # where its use is seen through
    whole = False
    for each in walk_said(node):
        match each:
            case ast.Attribute(value=ast.Name(id=of) as value, attr=attr) if of == name:
                plain.add(id(value))
                wanted.names.add(attr)
                whole = whole or (attr == "__class__" and id(each) not in plain)
            case ast.Attribute(
                value=(
                    ast.Attribute(value=ast.Name(id=of), attr="__class__")
                    | ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=of)])
                ) as value,
                attr=attr,
            ) if of == name:  # ``type(self).TEMPLATE``
                plain |= {id(inside) for inside in ast.walk(value)}
                wanted.names.add(attr)
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr=attr):
                wanted.above.add(attr)
            case ast.Call(func=ast.Name(id="super" | "isinstance"), args=given):
                plain |= {id(one) for one in given}
            case ast.Name(id=of, ctx=ast.Load()) if of == name:
                whole = whole or id(each) not in plain
    return wanted._replace(whole=whole)


def _first_parameter(node: ast.AST) -> str | None:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node.args.args[0].arg if isinstance(node, ast.Lambda) and node.args.args else None
    if any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in node.decorator_list):
        return None
    parameters = [*node.args.posonlyargs, *node.args.args]
    return parameters[0].arg if parameters else None


def asked(lines: list[Line], wanted: AskedOfSelf) -> list[tuple[ast.ClassDef, str, list[ast.stmt]]]:
    """The members that are read, transitively, as the class has them, and as its subclasses in the module do."""
    tables = [[(one, members(one)) for one in line] for line in lines]
    every = {name for table in tables for _, held in table for name in held}
    found: dict[tuple[int, str], tuple[ast.ClassDef, str, list[ast.stmt]]] = {}
    names = wanted.names | (every if wanted.whole else set())
    pending: list[tuple[str, ast.ClassDef | None]] = [(name, None) for name in names]
    begun = set(pending)
    while pending:
        name, below = pending.pop()
        for table in tables:
            places = [one for one, _ in table]
            if below is not None and below not in places:
                continue
            first = 0 if below is None else places.index(below) + 1
            cls, statements = next(((one, held[name]) for one, held in table[first:] if name in held), (None, []))
            if cls is None or (id(cls), name) in found:
                continue
            found[id(cls), name] = (cls, name, statements)
            more: set[tuple[str, ast.ClassDef | None]] = set()
            for statement in statements:
                if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                    asks = asked_of_self(statement)
                    more |= {(one, None) for one in asks.names | (every if asks.whole else set())}
                    more |= {(one, cls) for one in asks.above}
                else:  # ``t = property(_t)``, ``title = P + "!"``
                    more |= {(one, None) for one in names_in(statement).read}
            pending += sorted(more - begun, key=lambda one: one[0])
            begun |= more
    return sorted(found.values(), key=lambda one: (one[0].lineno, one[1]))
