"""What a piece of source says, whatever it looks like. Pure.

Comments, formatting, docstrings and annotations say nothing about what a function does. What is left is written in a
form of our own, since `ast.dump` and `ast.unparse` write the same code in other words from one Python to the next.
"""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# Fields that differ between versions of Python, or say nothing about what is computed.
_SILENT = frozenset({"annotation", "returns", "type_comment", "type_params", "ctx", "kind", "type_ignores"})


def canonical(node: ast.AST | Iterable[ast.AST], is_ours: Callable[[ast.expr], bool] | None = None) -> str:
    """The node as text: two nodes have one text exactly if they say the same.

    Args:
        node: what to write.
        is_ours: whether a decorator is the pool's own; it and what stands above it is left out.
    """
    return "".join(_written(node, is_ours, in_class=False))


def _written(node: object, is_ours: Callable[[ast.expr], bool] | None, *, in_class: bool) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        node = _joined(node)
    if isinstance(node, ast.Constant):
        yield f"({type(node.value).__name__} {_constant(node.value)})"
    elif isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == [] or (name in _SILENT and not (in_class and name == "annotation")):
                continue
            if isinstance(node, _DEFINITIONS) and name == "decorator_list":
                value = below(value, is_ours)
            if isinstance(node, _DEFINITIONS) and name == "body":
                value = _without_docstring(value)
            yield f" {name}="
            yield from _written(value, is_ours, in_class=isinstance(node, ast.ClassDef))
        yield ")"
    elif isinstance(node, list | tuple):
        yield "["
        for item in node:
            yield from _written(item, is_ours, in_class=in_class)
        yield "]"
    else:
        yield ascii(node)


def below(decorators: list[ast.expr], is_ours: Callable[[ast.expr], bool] | None) -> list[ast.expr]:
    """The decorators below the pool's own; all of them, where it is not among them."""
    for position in range(len(decorators) - 1, -1, -1):
        if is_ours is not None and is_ours(decorators[position]):
            return decorators[position + 1 :]
    return decorators


def _without_docstring(body: list[Any]) -> list[Any]:
    first = body[0] if body else None
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return body[1:] if text else body


def _joined(node: ast.JoinedStr) -> ast.JoinedStr:
    """An f-string whose neighbouring pieces of text are one: versions of Python part them, and 3.12 adds empty ones."""
    pieces: list[ast.expr] = []
    for piece in node.values:
        last = pieces[-1] if pieces else None
        if isinstance(piece, ast.Constant) and piece.value == "":
            continue
        if isinstance(piece, ast.Constant) and isinstance(last, ast.Constant):
            pieces[-1] = ast.Constant(str(last.value) + str(piece.value))
        else:
            pieces.append(piece)
    return ast.JoinedStr(values=pieces)


def _constant(value: object) -> str:
    """A constant of the source; ASCII, since what is printable differs between versions of Unicode."""
    if isinstance(value, frozenset):
        return "{" + ",".join(sorted(map(_constant, value))) + "}"
    if isinstance(value, tuple):
        return "(" + ",".join(map(_constant, value)) + ")"
    return ascii(value)


def written_value(value: object) -> str:
    """A plain immutable value as text, with its types at every depth."""
    if isinstance(value, tuple | frozenset):
        items = [written_value(item) for item in value]
        return f"{type(value).__name__}({','.join(sorted(items) if isinstance(value, frozenset) else items)})"
    return f"{type(value).__name__}:{value!a}"


def is_literal(node: ast.expr) -> bool:
    """Whether an expression is a value as it stands there, such as ``"text"``, ``-1`` or ``("a", 2)``."""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


# ── Finding ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def find_function(tree: ast.AST, code: types.CodeType) -> Function | None:
    """The definition that a code object was compiled from; None where the text is not that of the code."""
    line = code.co_firstlineno
    if code.co_name == "<lambda>":
        found = [n for n in ast.walk(tree) if isinstance(n, ast.Lambda) and n.lineno == line]
        return found[0] if len(found) == 1 else _around(found, code)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            first = min((decorator.lineno for decorator in node.decorator_list), default=node.lineno)
            if line in (first, node.lineno):
                return node
    return None


def _around(candidates: list[ast.Lambda], code: types.CodeType) -> ast.Lambda | None:
    """Of several lambdas in one line the one whose body holds the positions of the code."""
    places = {(at[0], at[2]) for at in code.co_positions() if at[0] is not None and at[2] is not None}
    places.discard((code.co_firstlineno, 0))  # what the compiler put in front
    holding = [
        node
        for node in candidates
        if places and all((node.body.lineno, node.body.col_offset) <= at <= _end(node.body) for at in places)
    ]
    return max(holding, key=lambda node: (node.body.lineno, node.body.col_offset), default=None)  # the innermost


def _end(node: ast.expr) -> tuple[int, int]:
    return (node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)


def find_class(tree: ast.AST, qualname: str) -> ast.ClassDef | None:
    """The class statement of this qualified name: the last one, as a later one takes the name over."""
    found: ast.AST | None = tree
    for name in qualname.split("."):
        if name == "<locals>":
            continue
        inside = [n for n in _definitions(found) if n.name == name] if found is not None else []
        found = inside[-1] if inside else None
    return found if isinstance(found, ast.ClassDef) else None


def lines_of(trees: Iterable[ast.Module], cls: ast.ClassDef) -> list[list[ast.ClassDef]]:
    """For a class, and for each one of its module that comes from it, where its attributes are looked up, in order.

    Args:
        trees: what its module is written in: its file, or a notebook's cells, the newest first.
        cls: the class.
    """
    by_name: dict[str, ast.ClassDef] = {}
    for tree in trees:
        by_name = _classes(tree) | by_name
    lines = [_line(cls, by_name)]
    lines += [line for line in (_line(one, by_name) for one in by_name.values() if one is not cls) if cls in line]
    return lines


@functools.lru_cache(maxsize=64)
def _classes(tree: ast.Module) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _line(cls: ast.ClassDef, by_name: dict[str, ast.ClassDef]) -> list[ast.ClassDef]:
    line, pending = [], [cls]
    while pending:
        one = pending.pop(0)
        if one not in line:
            line.append(one)
            bases = [base.value if isinstance(base, ast.Subscript) else base for base in one.bases]  # ``Agent[str]``
            above = [by_name.get(base.id) for base in bases if isinstance(base, ast.Name)]
            pending = [*(found for found in above if found is not None), *pending]
    return line


def _definitions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """The functions and classes that stand in a block, under conditions too, but not inside of one another."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _DEFINITIONS):
            yield child
        else:
            yield from _definitions(child)


def members(node: ast.ClassDef) -> dict[str, list[ast.stmt]]:
    """What stands in a class by name: methods and assignments, under conditions too; a property and its setter."""
    found: dict[str, list[ast.stmt]] = {}
    for definition in _definitions(node):
        found.setdefault(definition.name, []).append(definition)
    for statement in _top(node):
        for name in _targets(statement):
            found.setdefault(name, []).append(statement)
    return found


def assignments(tree: ast.AST, name: str) -> list[ast.expr | ast.stmt]:
    """What is assigned to a name at the top of a module, in order: expressions, or the statement that binds it.

    With what changes it there by its own statement: ``TABLE["a"] = 1``, ``TABLE.update(...)``, ``settings.x = 1``.
    """
    return _index(tree).assigned.get(name, [])


def definitions(tree: ast.AST, name: str) -> list[ast.stmt]:
    """The functions and classes of this name at the top of a module."""
    return _index(tree).defined.get(name, [])


@dataclass
class _Index:
    """What a module binds, by name: a large one is walked once, not for each name."""

    assigned: dict[str, list[ast.expr | ast.stmt]] = field(default_factory=dict)
    defined: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imported: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    stars: list[tuple[str, int]] = field(default_factory=list)
    counted: set[str] = field(default_factory=set)


def _index(tree: ast.AST) -> _Index:
    known: _Index | None = getattr(tree, "_exp_index", None)
    if known is not None:
        return known
    index = _Index()
    for definition in _definitions(tree):
        index.defined.setdefault(definition.name, []).append(definition)
    for statement in _top(tree):
        value = getattr(statement, "value", None)
        plain = isinstance(statement, ast.Assign | ast.AnnAssign) and _names_alone(statement)
        for name in _targets(statement):
            bound = value if plain and isinstance(value, ast.expr) else statement
            index.assigned.setdefault(name, []).append(bound)
        for name in _changed(statement):
            index.assigned.setdefault(name, []).append(statement)
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if alias.name == "*":
                    index.stars.append((statement.module or "", statement.level))
                index.imported[alias.asname or alias.name] = (statement.module or "", statement.level, alias.name)
        elif isinstance(statement, ast.Import):
            for alias in statement.names:
                index.imported[alias.asname or alias.name.partition(".")[0]] = (alias.name, 0, "")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            declared = {name for each in ast.walk(node) if isinstance(each, ast.Global) for name in each.names}
            if declared:  # who only sets it is no counter: the next call is to see it
                read = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
                sums = (n.target for n in ast.walk(node) if isinstance(n, ast.AugAssign))
                index.counted |= declared & (read | {n.id for n in sums if isinstance(n, ast.Name)})
    tree._exp_index = index  # type: ignore[attr-defined]  # noqa: SLF001  (it lives as long as the tree)
    return index


def _changed(statement: ast.stmt) -> Iterator[str]:
    """The names of what a statement changes without binding them."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = list(statement.targets)
    elif isinstance(statement, ast.AugAssign | ast.AnnAssign):
        targets = [statement.target]
    elif isinstance(statement, ast.Delete):
        targets = list(statement.targets)
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        targets = [statement.value.func]
    for target in targets:
        inside: ast.AST = target
        while isinstance(inside, ast.Attribute | ast.Subscript):
            inside = inside.value
        if inside is not target and isinstance(inside, ast.Name):
            yield inside.id


def _names_alone(statement: ast.Assign | ast.AnnAssign) -> bool:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return all(isinstance(target, ast.Name) for target in targets)


def _top(node: ast.AST) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*_DEFINITIONS, ast.Lambda)):
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from _top(child)


def _targets(statement: ast.stmt) -> Iterator[str]:
    targets: list[ast.AST] = []
    if isinstance(statement, ast.Assign):
        targets = list(statement.targets)
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign | ast.For | ast.AsyncFor):
        targets = [statement.target]
    elif isinstance(statement, ast.With | ast.AsyncWith):
        targets = [item.optional_vars for item in statement.items if item.optional_vars is not None]
    for target in targets:
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
    if isinstance(statement, ast.Expr | ast.If | ast.While):  # NAME := value
        for node in ast.walk(statement.value if isinstance(statement, ast.Expr) else statement.test):
            if isinstance(node, ast.NamedExpr):
                yield node.target.id


def imported_from(tree: ast.AST, name: str) -> tuple[str, int, str] | None:
    """Module, level and name there ("" for the module itself), where a module imports this name."""
    return _index(tree).imported.get(name)


def star_imports(tree: ast.AST) -> list[tuple[str, int]]:
    """The modules, with their levels, of which all names are imported."""
    return _index(tree).stars


def counts(tree: ast.AST, name: str) -> bool:
    """Whether a function of the module reads a name of the module and binds it anew: a counter, a cache built later."""
    return name in _index(tree).counted


def is_loop(statement: ast.expr | ast.stmt) -> bool:
    """Whether a statement binds a name again and again, or to what it was and more."""
    return isinstance(statement, ast.For | ast.AsyncFor | ast.With | ast.AsyncWith | ast.AugAssign | ast.While)


def loaded_names(node: ast.AST | list[ast.AST]) -> set[str]:
    """The names that are read in it; annotations are not."""
    return {each.id for each in walk_said(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}


def attributes_on(node: ast.AST, name: str) -> set[str]:
    """The attributes that are asked of a name: ``self.model``."""
    return {
        each.attr
        for each in walk_said(node)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == name
    }


def chains(node: ast.AST) -> set[tuple[str, ...]]:
    """What is asked of names, step by step: ``iso.other.WORD`` as three names, and as two what it begins with."""
    found: set[tuple[str, ...]] = set()
    for each in walk_said(node):
        steps: list[str] = []
        while isinstance(each, ast.Attribute):
            steps.append(each.attr)
            each = each.value  # noqa: PLW2901  (down to the name)
        if steps and isinstance(each, ast.Name):
            found.add((each.id, *reversed(steps)))
    return found


def walk_said(node: object, *, in_class: bool = False) -> Iterator[ast.AST]:
    """Every node in it but those in annotations."""
    if isinstance(node, list):
        for item in node:
            yield from walk_said(item, in_class=in_class)
    elif isinstance(node, ast.AST):
        yield node
        for name in node._fields:
            if name not in _SILENT or (in_class and name == "annotation"):
                yield from walk_said(getattr(node, name, None), in_class=isinstance(node, ast.ClassDef))
