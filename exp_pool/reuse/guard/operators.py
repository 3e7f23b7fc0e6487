"""Operators of comparison, arithmetic and logic. Data only."""

from __future__ import annotations

SAME = {"≤": "<=", "≥": ">=", "≠": "!=", "<>": "!=", "!==": "!=", "==": "=", "===": "=", "×": "*", "÷": "/", "→": "->"}
"""Signs that are written in several ways; what assigns is taken for what compares."""

_FAMILIES = (
    frozenset("< > <= >= = != <=>".split()),
    frozenset("+ - * / % ** // ^ << >>".split()),
    frozenset(("+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", ":=")),
    frozenset(("++", "--")),
    frozenset(("&&", "||", "^")),
    frozenset(("&", "|", "^")),
)
_ALIKE = frozenset(("-", "/"))  # between words: Paris - Rome, Paris / Rome

COUNTED = frozenset().union(*_FAMILIES)


def opposed(one: str, other: str) -> bool:
    """Whether the one in the other's place says something else."""
    return one != other and {one, other} != _ALIKE and any(one in family and other in family for family in _FAMILIES)
