"""Phrases, numbers with their units, and dates of several words, each as one token. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from exp_pool.reuse.guard import english
from exp_pool.reuse.guard.lexicon import MONTH_OF, key_and_kind, stem
from exp_pool.reuse.guard.quantities import CASED, CURRENCIES, UNITS, Date, Number


class Token(NamedTuple):
    """One word, number or sign."""

    key: str  # equal for what means the same
    kind: str  # w: content, f: function word, n: number, d: date, t: time, c: code, s: sign
    text: str  # as written
    value: Any = None
    capital: bool = False  # written with a capital where that says something


_UNIT_BY_STEM = {stem(name): name for name in reversed(UNITS) if name.isascii()}
_FIRST_WORDS = frozenset(words[0] for words in english.PHRASES)
_BEGINNINGS = _FIRST_WORDS | english.NUMBERS.keys() | english.SCALES.keys() | MONTH_OF.keys()


def joined_tokens(tokens: list[Token]) -> list[Token]:
    """Phrases, numbers with their units, and dates of several words become one token."""
    joined: list[Token] = []
    at, end = 0, len(tokens)
    while at < end:
        token = tokens[at]
        lower = token.text.lower()
        if token.kind != "n" and lower not in _BEGINNINGS:
            joined.append(token)
            at += 1
            continue
        if lower in _FIRST_WORDS:
            used = _phrase(tokens, at, joined)
            if used:
                at += used
                continue
        if token.kind == "n":
            at = _with_unit(tokens, at + 1, token.value, token.text, joined)
        elif lower in english.NUMBERS or lower in english.SCALES:
            number, used = _in_words(tokens, at)
            at = _with_unit(tokens, at + used, number, " ".join(t.text for t in tokens[at : at + used]), joined)
        elif lower in MONTH_OF and _is_month(tokens, at):
            at = _month(tokens, at, joined)
        else:
            joined.append(token)
            at += 1
    return joined


def _phrase(tokens: list[Token], at: int, joined: list[Token]) -> int:
    """Append the phrase that begins here, if one does; how many words it has."""
    for length in (3, 2):
        words = tuple(t.text.lower() for t in tokens[at : at + length])
        phrase = english.PHRASES.get(words)
        if phrase is not None:
            if phrase:
                joined.append(Token(*key_and_kind(phrase), " ".join(words)))
            return len(words)
    return 0


def _is_month(tokens: list[Token], at: int) -> bool:
    """Whether it is a month, and not the verb "may" or "march"."""
    token = tokens[at]
    lower = token.text.lower()
    if lower == "may":
        return token.text == "May" and at > 0 and tokens[at - 1].text.lower() in english.BEFORE_MONTHS
    return lower not in english.LIKE_MONTHS or token.capital or token.value == "starts"


def _in_words(tokens: list[Token], at: int) -> tuple[Number, int]:
    """The number of words such as "two hundred and five" from here, and how many words it has."""
    total = section = 0.0
    used = 0
    soft = True
    while at + used < len(tokens):
        word = tokens[at + used].text.lower()
        if word in english.NUMBERS:
            value = english.NUMBERS[word]
            if used and (section % 10 or (value >= 10 and section % 100)) and word in english.NUMBERS:
                break
            section += value
            soft = soft and word in english.HARDLY_NUMBERS
        elif word in english.SCALES and len(word) > 2:
            scale = english.SCALES[word]
            soft = False
            if scale == 100:
                section = (section or 1) * 100
            else:
                total += (section or 1) * scale
                section = 0
        elif (
            word == "and"
            and used
            and not section % 100
            and section + total >= 100
            and at + used + 1 < len(tokens)
            and tokens[at + used + 1].text.lower() in english.NUMBERS
        ):
            pass
        else:
            break
        used += 1
    return Number(total + section, soft=soft), max(used, 1)


def _with_unit(tokens: list[Token], at: int, number: Number, text: str, joined: list[Token]) -> int:
    """Append the number with the scale and unit that follow, or the currency before it. Where to go on."""
    if at < len(tokens):
        follows = tokens[at].text.lower()
        if tokens[at].text == "M":  # 10M are millions, 10 m are metres
            number = Number(number.value * 1e6)
            text += tokens[at].text
            at += 1
        elif follows in english.SCALES and tokens[at].kind == "w":
            number = Number(number.value * english.SCALES[follows])
            text += " " + tokens[at].text
            at += 1
        elif follows in english.ORDINALS:
            at += 1
    unit = ""
    if at < len(tokens):
        token = tokens[at]
        follows = CASED.get(token.text, token.text.lower())
        if follows in UNITS:
            unit = follows
        elif token.kind == "w" and token.key in _UNIT_BY_STEM:
            unit = _UNIT_BY_STEM[token.key]
        if unit and not (unit in ("in", "a") and at + 1 < len(tokens)) and not (number.soft and unit == "second"):
            text += f" {token.text}" if follows > "a" else token.text
            at += 1
        else:
            unit = ""
    if not unit and joined and joined[-1].text.lower() in CURRENCIES:
        before = joined.pop()
        unit, text = before.text.lower(), before.text + text
    number = Number(number.value, UNITS[unit][0] if unit else "", number.soft and not unit)
    key = f"#{number.value:.15g}{number.unit}"
    joined.append(Token(key, "n", text, number))
    return at


def _month(tokens: list[Token], at: int, joined: list[Token]) -> int:
    """Append the date that a month's name belongs to. Where to go on."""
    month = MONTH_OF[tokens[at].text.lower()]
    text, day, year = tokens[at].text, None, None
    at += 1
    before = joined[-1] if joined else None
    if before is not None and before.key == "of" and len(joined) > 1:
        before = joined[-2]
    if before is not None and before.kind == "n" and _is_day(before):
        day = int(before.value.value)
        del joined[joined.index(before, -2) :]
        text = f"{before.text} {text}"
    if at < len(tokens) and tokens[at].kind == "n" and day is None and _is_day(tokens[at]):
        day = int(tokens[at].value.value)
        text += " " + tokens[at].text
        at += 1
        if at < len(tokens) and tokens[at].text.lower() in english.ORDINALS:
            at += 1
    if at < len(tokens) and tokens[at].kind == "d" and tokens[at].value.month is None:
        year = tokens[at].value.year
        text += " " + tokens[at].text
        at += 1
    joined.append(Token(f"d{year}-{month}-{day}", "d", text, Date(year, month, day)))
    return at


def _is_day(token: Token) -> bool:
    number = token.value
    return isinstance(number, Number) and not number.unit and number.value in range(1, 32)
