"""`Difference`: one thing in which two texts differ, of which kind, and in words for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exp_pool.reuse.guard.tokenizer import LONGEST


class DifferenceKind(StrEnum):
    """What texts may differ in."""

    NEGATION = "negation"
    NUMBER = "number"
    UNIT = "unit"
    DATE = "date"
    ENTITY = "entity"
    IDENTIFIER = "identifier"
    ORDER = "order"
    QUANTIFIER = "quantifier"
    OPPOSITE = "opposite"
    LANGUAGE = "language"
    LENGTH = "length"
    SIGN = "sign"
    CONNECTIVE = "connective"

    @property
    def place(self) -> int:
        """Its number among the kinds, from 0 on. What was learned from them counts on it: new kinds come last."""
        return _PLACES[self]


_PLACES = {kind: place for place, kind in enumerate(DifferenceKind)}

_WORDS = {
    DifferenceKind.NEGATION: "one of them is negated",
    DifferenceKind.NUMBER: "the numbers differ",
    DifferenceKind.UNIT: "the units differ",
    DifferenceKind.DATE: "the dates or times differ",
    DifferenceKind.ENTITY: "the names differ",
    DifferenceKind.IDENTIFIER: "the identifiers differ",
    DifferenceKind.ORDER: "the order differs",
    DifferenceKind.QUANTIFIER: "the quantities meant differ",
    DifferenceKind.OPPOSITE: "they say opposites",
    DifferenceKind.LANGUAGE: "the languages asked for differ",
    DifferenceKind.LENGTH: f"a text has more than {LONGEST:,} characters, which is too long to compare",
    DifferenceKind.SIGN: "the signs differ",
    DifferenceKind.CONNECTIVE: "a small word differs",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between a request and a stored request.

    Attributes:
        kind: what differs.
        request: what the request says there; empty where it says nothing.
        stored: what the stored request says there.
        vetoes: whether it is enough to refuse reuse; else it is a hint.
        rest: how many other words of content one of them has and the other has not.
    """

    kind: DifferenceKind
    request: str = ""
    stored: str = ""
    vetoes: bool = True
    rest: int = 0

    def __str__(self) -> str:
        """For people: "the numbers differ: 3 against 5"."""
        words = _WORDS[self.kind]
        if self.kind is DifferenceKind.LENGTH:
            return words
        if self.kind is DifferenceKind.ORDER:
            return f"{words}: {self.request}, then {self.stored}, against the reverse"
        if self.request and self.stored:
            return f"{words}: {self.request} against {self.stored}"
        if self.kind is DifferenceKind.NEGATION:
            return f"{words} ({self.request or self.stored})"
        return f"{words}: only one of them says {self.request or self.stored}"
