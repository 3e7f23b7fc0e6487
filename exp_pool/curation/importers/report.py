"""Report of an import: counts, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from exp_pool.runtime.display import counted

_KEPT = 1000  # of what was left out, with where it stood; the rest is only counted
_OTHER = "other reasons"
_SHOWN = 5  # reasons, the commonest first


class Skipped(NamedTuple):
    """Item that was not imported, or not as the current answer of its call."""

    where: str
    why: str


@dataclass(slots=True)
class ImportReport:
    """Report of an import; its text says it in words.

    Attributes:
        path: the source.
        format: of the source.
        read: items of the source that were looked at.
        stored: experiences that were written, and are current.
        history: those that were written as history.
        known: those that were there already, or stood in the source before.
        skipped: the first of what was left out, each with where it stood and why.
        reasons: how often something was left out, by reason.
        behind: the first of those that were written as history because of an answer of the pool, and why that stays.
        seconds: how long it took.
    """

    path: str = ""
    format: str = ""
    read: int = 0
    stored: int = 0
    history: int = 0
    known: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    behind: list[Skipped] = field(default_factory=list)
    seconds: float = 0.0

    def skip(self, where: str, why: str) -> None:
        """Count an item that was left out."""
        self.reasons[why if why in self.reasons or len(self.reasons) < _KEPT else _OTHER] += 1
        if len(self.skipped) < _KEPT:
            self.skipped.append(Skipped(where, why))

    def put_behind(self, where: str, why: str) -> None:
        """Count an item that became history because of an answer of the pool."""
        if len(self.behind) < _KEPT:
            self.behind.append(Skipped(where, why))

    def __str__(self) -> str:
        stored, read = counted(self.stored, "experience"), counted(self.read, "item")
        said = [f"{stored} of {read} imported from {self.path} ({self.format})"]
        if self.history:
            said.append(f"{self.history:,} as history")
        if self.known:
            said.append(f"{self.known:,} were there already")
        said += [f"{count:,} left out: {why}" for why, count in self.reasons.most_common(_SHOWN)]
        if len(self.reasons) > _SHOWN:
            said.append(f"{sum(self.reasons.values()):,} left out in all")
        return "; ".join(said)
