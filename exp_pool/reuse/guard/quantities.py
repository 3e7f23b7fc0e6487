"""Numbers with their units, dates and times of day: one value for what is written in many ways. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from exp_pool.reuse.guard import chinese
from exp_pool.reuse.guard.word_lists import load

_LISTS = load("units")
ONLY_BEHIND_NUMBERS = frozenset(_LISTS["only_behind_numbers"].split())
CASED: dict[str, str] = _LISTS["cased"]
CURRENCIES = frozenset(_LISTS["currencies"].split())
CASED_ALONE = frozenset(_LISTS["alone"].split())


def _table() -> tuple[dict[str, tuple[str, str, float]], frozenset[str]]:
    units: dict[str, tuple[str, str, float]] = {}
    for dimension, entries in _LISTS["units"].items():
        for entry in entries.split():
            names, _, factor = entry.rpartition(":")
            first = names.split("=")[0]
            for name in names.split("="):
                units[name] = (first, dimension, float(factor))
    for short, name in _LISTS["short"].items():
        units[short] = units[name]
    return units, frozenset(name for name in units if name > "\u2fff")


UNITS, CHINESE_UNITS = _table()


@dataclass(frozen=True, slots=True)
class Number:
    """A number, its unit if it has one, and how it is written."""

    value: float
    unit: str = ""
    soft: bool = False  # perhaps no number at all, such as "one"

    @property
    def base(self) -> tuple[str, float]:
        """Dimension and the value in its first unit."""
        _, dimension, factor = UNITS[self.unit]
        return dimension, self.value * factor

    def same(self, other: Number) -> bool:
        """Whether both may mean the same amount; a unit left out may be any."""
        if not self.unit or not other.unit:
            return math.isclose(self.value, other.value)
        if {self.unit, other.unit} == {"pound", "gbp"}:  # fifty pounds may be either
            return math.isclose(self.value, other.value)
        (mine, value), (theirs, their_value) = self.base, other.base
        return mine == theirs and math.isclose(value, their_value, rel_tol=1e-3)


@dataclass(frozen=True, slots=True)
class Date:
    """A day, month or year, as much as is said. `either`: day and month may be the other way round (1/5/2024)."""

    year: int | None
    month: int | None = None
    day: int | None = None
    either: bool = False

    def same(self, other: Date) -> bool:
        """Whether nothing that both say differs, and they say something of the same kind."""
        pairs = [(self.year, other.year), (self.month, other.month), (self.day, other.day)]
        if (self.either or other.either) and self.month is not None and other.month is not None:
            swapped = [(self.year, other.year), (self.day, other.month), (self.month, other.day)]
            if _agree(swapped):
                return True
        return _agree(pairs)


def _agree(pairs: list[tuple[int | None, int | None]]) -> bool:
    known = [(one, other) for one, other in pairs if one is not None and other is not None]
    return bool(known) and all(one == other for one, other in known)


@dataclass(frozen=True, slots=True)
class Time:
    """A time of day in minutes; `half` where morning or afternoon is not said."""

    minutes: int
    half: bool = False

    def same(self, other: Time) -> bool:
        """Whether both may be the same time."""
        if self.half or other.half:
            return self.minutes % 720 == other.minutes % 720
        return self.minutes == other.minutes


_CHINESE_DIGITS = "".join(chinese.DIGITS)
_CHINESE_NUMBER = re.compile(
    "(?P<phrase>"
    + "|".join(sorted((p for p in chinese.SET_PHRASES), key=len, reverse=True))
    + "|(?:周|星期|礼拜)[一二三四五六])"
    rf"|百分之(?P<percent>[{_CHINESE_DIGITS}十百点]+)"
    rf"|(?P<number>[{_CHINESE_DIGITS}十拾百佰千仟万亿]+(?:点[{_CHINESE_DIGITS}]+)?)|(?P<myriad>\d+(?:\.\d+)?)\s?(?P<scale>[万亿])"
)


def arabic(text: str) -> str:
    """Chinese numbers as digits: 一百二十 becomes 120, 3万 30000, 百分之十 10%."""
    return _CHINESE_NUMBER.sub(_in_digits, text)


def _in_digits(found: re.Match[str]) -> str:
    if found["phrase"]:
        return found[0]
    if found["myriad"]:
        return f"{float(found['myriad']) * chinese.MYRIADS[found['scale']]:.15g}"
    if found["percent"]:
        return f"{chinese_value(found['percent']):.15g}%"
    written = found["number"]
    if written in ("万", "亿", "千", "百"):
        return found[0]
    if written in ("一", "两"):  # "一" is soft: see `tokens`
        return "一" if written == "一" else "2"
    return f"{chinese_value(written):.15g}"


def chinese_value(written: str) -> float:
    """The value of a number in Chinese characters."""
    whole, _, fraction = written.partition("点")
    digits = chinese.DIGITS
    if len(whole) > 1 and all(c in digits for c in whole):
        total = float("".join(str(digits[c]) for c in whole)[:300])
    else:
        total = section = digit = 0.0
        for c in whole[:60]:
            if c in digits:
                digit = digits[c]
            elif c in chinese.SCALES:
                section += (digit or 1) * chinese.SCALES[c]
                digit = 0
            else:
                total = (total + section + digit or 1) * chinese.MYRIADS[c]
                section = digit = 0
        total += section + digit
    if fraction:
        total += float("0." + "".join(str(digits.get(c, 0)) for c in fraction[:30]))
    return total


_ROMAN = re.compile(r"(?=[IVX]{2,})X{0,3}(?:IX|IV|V?I{0,3})")


def roman(word: str) -> int | None:
    """The value of a Roman number of two letters or more (II, XIV); None for any other word."""
    if not _ROMAN.fullmatch(word):
        return None
    values = [{"I": 1, "V": 5, "X": 10}[c] for c in word]
    following = [*values[1:], 0]
    return sum(-value if value < after else value for value, after in zip(values, following, strict=True))
