"""Types that cases use: in a module, because some libraries must find them by name again."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from pydantic import BaseModel


class Mode(enum.Enum):
    """A plain enum."""

    FAST = "fast"


class Word(enum.StrEnum):
    """An enum whose members equal text."""

    FAST = "fast"


@dataclass(frozen=True)
class Metres:
    """A number of metres."""

    amount: int


@dataclass(frozen=True)
class Feet:
    """A number of feet: the same fields, another type."""

    amount: int


@dataclass
class Draft:
    """A dataclass that can be changed."""

    title: str
    lines: list[str] = field(default_factory=list)


class Letter(BaseModel):
    """A model."""

    to: str
    lines: list[str] = []


class Plain:
    """An object that has nothing but its state: no equality, no text that shows it."""

    def __init__(self, state: object) -> None:
        self.state = state


class Unspeakable:
    """An object that cannot be printed."""

    def __init__(self, state: object) -> None:
        self.state = state

    def __repr__(self) -> str:
        raise ValueError("nothing to say")


class Boom(Exception):  # noqa: N818  (not a fault of anybody)
    """An exception with something on it."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class Farewell(BaseException):
    """What is not an `Exception`, as KeyboardInterrupt is not."""
