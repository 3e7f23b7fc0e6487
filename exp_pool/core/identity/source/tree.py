"""Normal form of syntax trees: equal where only comments, formatting, docstrings or annotations differ. Pure.

Comments, formatting, docstrings and annotations say nothing about what a function does. What is left is written in a
form of our own, since `ast.dump` and `ast.unparse` write the same code in other words from one Python to the next.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from exp_pool.core.identity.classes import is_plain

_LARGE = 10_000
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
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
            if isinstance(node, DEFINITIONS) and name == "decorator_list":
                value = below(value, is_ours)
            if isinstance(node, DEFINITIONS) and name == "body":
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


def written_data(value: object, depth: int = 20) -> str | None:
    """Plain data as text, containers too; None for what is none, or too large to be looked at."""
    if is_plain(value):
        return written_value(value)
    kind = type(value)
    if depth == 0 or kind not in (dict, list, tuple, set, frozenset) or len(value) > _LARGE:  # type: ignore[arg-type]
        return None
    items: Any = value.items() if isinstance(value, dict) else value
    written = [written_data(item, depth - 1) for item in items]
    if None in written:
        return None
    told = [str(item) for item in written]
    return f"{kind.__name__}({','.join(sorted(told) if kind in (set, frozenset) else told)})"


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
    """The lambda, of several in one line, whose body holds the positions of the code."""
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


def definitions_in(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """The functions and classes that stand in a block, under conditions too, but not inside of one another."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, DEFINITIONS):
            yield child
        else:
            yield from definitions_in(child)


class NamesIn(NamedTuple):
    """The names in a node; those in annotations do not count."""

    read: set[str]
    chains: set[tuple[str, ...]]  # of ``iso.other.WORD`` three names, and two for the chain that it begins with
    declared: set[str]  # ``global NAME``


def names_in(node: ast.AST) -> NamesIn:
    """The names in a node. It is walked once: the functions of a module share what they name."""
    known: NamesIn | None = getattr(node, "_exp_names", None)
    if known is not None:
        return known
    found = NamesIn(set(), set(), set())
    for each in walk_said(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load):
            found.read.add(each.id)
        elif isinstance(each, ast.Global):
            found.declared.update(each.names)
        elif isinstance(each, ast.Attribute):
            steps: list[str] = []
            inside: ast.expr = each
            while isinstance(inside, ast.Attribute):
                steps.append(inside.attr)
                inside = inside.value
            if isinstance(inside, ast.Name):
                found.chains.add((inside.id, *reversed(steps)))
    node._exp_names = found  # type: ignore[attr-defined]  # noqa: SLF001  (it lives as long as the tree)
    return found


def walk_said(node: object, *, in_class: bool = False) -> Iterator[ast.AST]:
    """Every node below a node, but those in annotations."""
    if isinstance(node, list):
        for item in node:
            yield from walk_said(item, in_class=in_class)
    elif isinstance(node, ast.AST):
        yield node
        for name in node._fields:
            if name not in _SILENT or (in_class and name == "annotation"):
                yield from walk_said(getattr(node, name, None), in_class=isinstance(node, ast.ClassDef))
