"""What two texts may differ in, and a difference in words for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exp_pool.reuse.guard.tokens import LONGEST


class Kind(StrEnum):
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


_PLACES = {kind: place for place, kind in enumerate(Kind)}

_WORDS = {
    Kind.NEGATION: "one of them is negated",
    Kind.NUMBER: "the numbers differ",
    Kind.UNIT: "the units differ",
    Kind.DATE: "the dates or times differ",
    Kind.ENTITY: "the names differ",
    Kind.IDENTIFIER: "the identifiers differ",
    Kind.ORDER: "the order differs",
    Kind.QUANTIFIER: "the quantities meant differ",
    Kind.OPPOSITE: "they say opposites",
    Kind.LANGUAGE: "the languages asked for differ",
    Kind.LENGTH: f"a text has more than {LONGEST:,} characters, which is too long to compare",
    Kind.SIGN: "the signs differ",
    Kind.CONNECTIVE: "a small word differs",
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

    kind: Kind
    request: str = ""
    stored: str = ""
    vetoes: bool = True
    rest: int = 0

    def __str__(self) -> str:
        """For people: "the numbers differ: 3 against 5"."""
        words = _WORDS[self.kind]
        if self.kind is Kind.LENGTH:
            return words
        if self.kind is Kind.ORDER:
            return f"{words}: {self.request}, then {self.stored}, against the reverse"
        if self.request and self.stored:
            return f"{words}: {self.request} against {self.stored}"
        if self.kind is Kind.NEGATION:
            return f"{words} ({self.request or self.stored})"
        return f"{words}: only one of them says {self.request or self.stored}"
