"""Bindings: what the top statements of a module or a class bind by name, and which of it functions bind anew. Pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from exp_pool.core.identity.source.tree import DEFINITIONS, definitions_in, is_literal, names_in

_BLOCKS = (ast.For, ast.AsyncFor, ast.With, ast.AsyncWith)


@dataclass
class Bindings:
    """What a module, or a class, binds at its top, by name."""

    # Expressions, or the statement that binds the name: with what changes it there by a statement of its own, such as
    # ``TABLE["a"] = 1``, ``TABLE.update(...)``, ``settings.x = 1``.
    assigned: dict[str, list[ast.expr | ast.stmt]] = field(default_factory=dict)
    defined: dict[str, list[ast.stmt]] = field(default_factory=dict)  # functions and classes
    imported: dict[str, tuple[str, int, str]] = field(default_factory=dict)  # module, level, name there ("": itself)
    stars: list[tuple[str, int]] = field(default_factory=list)  # modules, with levels, of which all is imported
    counted: set[str] = field(default_factory=set)  # a function counts it up, or fills it when it is first needed
    rebound: set[str] = field(default_factory=set)  # a function binds it anew

    def bound(self, name: str) -> list[ast.expr | ast.stmt]:
        """What is assigned to a name, in order, and its definitions: a class, a function that became an object."""
        return self.assigned.get(name, []) + self.defined.get(name, [])

    def literals(self) -> Iterator[tuple[str, Any]]:
        """What is bound once, to a literal."""
        for name, bound in self.assigned.items():
            if len(bound) == 1 and isinstance(bound[0], ast.expr) and is_literal(bound[0]) and name not in self.defined:
                yield name, ast.literal_eval(bound[0])


def bindings_of(tree: ast.AST) -> Bindings:
    """What a module or a class binds: a large one is walked once, not for each name."""
    known: Bindings | None = getattr(tree, "_exp_bindings", None)
    if known is not None:
        return known
    found = Bindings()
    for definition in definitions_in(tree):
        found.defined.setdefault(definition.name, []).append(definition)
    for statement in top(tree):
        value = getattr(statement, "value", None)
        plain = isinstance(statement, ast.Assign | ast.AnnAssign) and all(
            isinstance(target, ast.Name) for target in _targets(statement)
        )
        for name in targets_of(statement):
            bound = value if plain and isinstance(value, ast.expr) else statement
            found.assigned.setdefault(name, []).append(bound)
        for name in _changed(statement):
            found.assigned.setdefault(name, []).append(statement)
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if alias.name == "*":
                    found.stars.append((statement.module or "", statement.level))
                found.imported[alias.asname or alias.name] = (statement.module or "", statement.level, alias.name)
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                found.imported[alias.asname or alias.name.partition(".")[0]] = (alias.name, 0, "")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            declared = names_in(node).declared
            if declared:
                found.rebound |= declared
                found.counted |= declared.intersection(_counted(node, found))
    tree._exp_bindings = found  # type: ignore[attr-defined]  # noqa: SLF001  (it lives as long as the tree)
    return found


def _counted(node: ast.AST, bindings: Bindings) -> Iterator[str]:
    """The names that code counts up, or fills where they are empty.

    ``n += 1``, ``n = n + 1``; ``if not ready``, ``if it is None``, ``it = it or load()``.
    """
    for each in ast.walk(node):
        asked: list[ast.expr] = []
        match each:
            case ast.AugAssign(target=ast.Name(id=name)):
                yield name
            case ast.Assign(targets=targets, value=ast.BinOp() as value):
                of = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
                yield from of & {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
                asked = [test]
            case ast.BoolOp(values=asked):
                pass
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                asked = [operand]
            case ast.Compare(left=left, ops=ops) if all(isinstance(op, ast.Is | ast.IsNot) for op in ops):
                asked = [left]
        yield from (one.id for one in asked if isinstance(one, ast.Name) and _is_empty(bindings, one.id))


def _is_empty(bindings: Bindings, name: str) -> bool:
    """Whether a name begins as nothing: what fills it later is no other setting."""
    return all(
        isinstance(bound, ast.expr) and not (is_literal(bound) and ast.literal_eval(bound))
        for bound in bindings.assigned.get(name, [])
    )


def _targets(statement: ast.stmt) -> list[ast.AST]:
    match statement:
        case ast.Assign(targets=targets) | ast.Delete(targets=targets):
            return [*targets]
        case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
            return [target]
        case ast.For(target=target) | ast.AsyncFor(target=target):
            return [target]
        case ast.With(items=items) | ast.AsyncWith(items=items):
            return [item.optional_vars for item in items if item.optional_vars is not None]
    return []


def _changed(statement: ast.stmt) -> Iterator[str]:
    """The names of what a statement changes without binding them."""
    targets = [] if isinstance(statement, _BLOCKS) else _targets(statement)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        targets = [statement.value.func]
    for target in targets:
        inside = target
        while isinstance(inside, ast.Attribute | ast.Subscript):
            inside = inside.value
        if inside is not target and isinstance(inside, ast.Name):
            yield inside.id


def top(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*DEFINITIONS, ast.Lambda)):
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from top(child)


def targets_of(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement binds."""
    for target in _targets(statement):
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
    if isinstance(statement, ast.Expr | ast.If | ast.While):  # NAME := value
        for node in ast.walk(statement.value if isinstance(statement, ast.Expr) else statement.test):
            if isinstance(node, ast.NamedExpr):
                yield node.target.id


def changed_attributes(tree: ast.AST, name: str) -> list[ast.stmt]:
    """The assignments to attributes of a name at the top of a module: ``Agent.run = better``."""
    changes = (
        s for s in bindings_of(tree).assigned.get(name, []) if isinstance(s, ast.Assign | ast.AnnAssign | ast.AugAssign)
    )
    return [s for s in changes if name not in targets_of(s)]


def is_loop(statement: ast.expr | ast.stmt) -> bool:
    """Whether a statement binds a name again and again, or to what it was and more."""
    return isinstance(statement, (*_BLOCKS, ast.AugAssign, ast.While))
