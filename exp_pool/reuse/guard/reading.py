"""A text as the guard reads it: tokens in one spelling, with what is known of each. Pure, and linear in the text.

English words are compared by a light stem, Chinese by the longest known word, else by character.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any, NamedTuple

from exp_pool.reuse.guard import chinese, english
from exp_pool.reuse.guard.quantities import (
    CHINESE_UNITS,
    ONLY_BEHIND_NUMBERS,
    UNITS,
    Date,
    Number,
    Time,
    arabic,
    roman,
)

LONGEST = 20_000
"""Characters that are compared. Embedders read a tenth of that, so longer texts are hardly ever asked about."""

_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_LETTER = rf"[^\W\d_{_HAN}]"
_TOKENS = re.compile(
    rf"""\s*(?:
    (?P<plain>[A-Za-z]+(?=[\s,?!]|$))
    |(?P<iso>(?<!\d)\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}(?!\d)|(?<!\d)\d{{1,2}}/\d{{1,2}}/\d{{4}}(?!\d))
    |(?P<zhdate>(?<!\d)\d{{4}}年(?:\d{{1,2}}月(?:份|\d{{1,2}}[日号]?)?)?|(?<!\d)\d{{1,2}}月(?:份|\d{{1,2}}[日号])?)
    |(?P<time>(?<!\d)\d{{1,2}}:\d{{2}}(?::\d{{2}})?\s?(?:[aApP]\.?[mM]\b\.?)?|(?<![\d.])\d{{1,2}}\s?[aApP]\.?[mM]\b\.?|(?<![\d.])\d{{1,2}}\s?o'clock)
    |(?P<zhtime>(?:上午|下午|晚上|早上|凌晨|中午|傍晚)?\d{{1,2}}点(?:半|钟|整|\d{{1,2}}分)?)
    |(?P<call>[A-Za-z_]\w{{0,99}}(?:(?:\.|::|->)[A-Za-z_]\w{{0,99}}){{0,9}}\(\))
    |(?P<code>[A-Za-z_]\w{{0,99}}(?:(?:\.|::)[A-Za-z_]\w{{0,99}}){{1,9}}|--?[A-Za-z][\w-]{{0,99}}(?<=\w)|[A-Za-z]{{0,99}}_\w{{1,99}}
        |[A-Za-z]{{1,20}}\d[A-Za-z\d]{{0,40}})
    |(?P<num>[-\u2212]?(?<![\w.][-\u2212])(?:\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d{{1,300}})(?:\.\d{{1,300}})?)
    |(?P<word>{_LETTER}+(?:'{_LETTER}{{1,3}}(?!{_LETTER}))?(?:\+\+|\#)?)
    |(?P<han>[{_HAN}]+)
    |(?P<sign>->|→|[&/%$€£¥₹;、>])
    |(?P<end>[.?!。？！:])
    )""",
    re.VERBOSE,
)
_SIGNED_FLAG = re.compile(r"(?<![\w-])--?[A-Za-z]")
_QUOTED = re.compile(r"`([^`]{1,200})`|\"([^\"]{1,200})\"|“([^”]{1,200})”|《([^》]{1,80})》|「([^」]{1,80})」|(?<!\w)'([^']{2,100})'(?!\w)")
_CAMEL = re.compile(r"[a-z][A-Z]")
_TITLE_SHARE = 0.6  # of the words that carry content: from here on capitals are a matter of style
_DATE_PARTS = re.compile(r"\d+")


class Token(NamedTuple):
    """One word, number or sign."""

    key: str  # equal for what means the same
    kind: str  # w: content, f: function word, n: number, d: date, t: time, c: code, s: sign
    text: str  # as written
    value: Any = None
    capital: bool = False  # written with a capital where that says something


class Reading(NamedTuple):
    """A text as tokens."""

    original: str
    text: str  # of which the tokens were read
    tokens: tuple[Token, ...]
    quoted: tuple[str, ...]
    whole: bool = True


def read(text: str) -> Reading:
    """The text as tokens, at most its first `LONGEST` characters. Never raises."""
    original, whole = text, len(text) <= LONGEST
    text = text[:LONGEST]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)[:LONGEST].replace("\u2019", "'").replace("\u2018", "'")
        text = arabic(text.translate(chinese.SIMPLIFIED))
    quoted = tuple(next(filter(None, groups)).strip() for groups in _QUOTED.findall(text)) if _QUOTED_SIGN.search(text) else ()
    return Reading(original, text, tuple(_joined(_tokens(text))), quoted, whole)


_QUOTED_SIGN = re.compile("[`\"“《「']")


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    add = found.append
    starts, han = True, False
    capitals = words = 0
    for match in _TOKENS.finditer(text):
        kind = match.lastgroup or ""
        piece = match[kind]
        if kind in ("plain", "word"):
            if piece.islower() and "'" not in piece:
                key, kind = _lower(piece)
                words += kind == "w"
                add(Token(key, kind, piece))
                starts = False
                continue
            lower = piece.lower()
            if len(piece) == 1 and piece not in "IVX" and (not starts or not text[match.end() : match.end() + 1].isspace()):
                add(Token(ALIASES.get(lower, piece), "w", piece, None, True))
                starts = False
                continue
            if lower in english.FUNCTION and not (piece in ("US", "IT", "WHO") and not starts):
                add(Token(_ALIASES.get(lower, lower), "f", piece))
                starts = False
                continue
            value = roman(piece) if piece[0] in "IVX" and len(piece) > 1 else None
            if value is not None:
                add(Token(f"#{value}", "n", piece, Number(value)))
                continue
            if "'" in lower:
                _contracted(lower, piece, starts, add)
                starts = False
                continue
            capital = piece[0].isupper()
            words += 1
            capitals += capital
            inner = _CAMEL.search(piece) is not None
            add(Token(stem(lower), "c" if inner else "w", piece, None, capital and (not starts or (len(piece) > 1 and piece.isupper()))))
            if starts and capital:
                found[-1] = found[-1]._replace(value="starts")
            starts = False
        elif kind == "han":
            han = True
            _chinese(piece, add)
            starts = False
        elif kind == "num":
            value = float(piece.replace(",", "").replace("\u2212", "-"))
            whole = "." not in piece and "," not in piece
            if whole and len(piece) == 4 and 1800 <= value < 2100:
                add(Token(f"y{piece}", "d", piece, Date(int(value))))
            else:
                add(Token(f"#{value:.15g}", "n", piece, Number(value)))
        elif kind == "end":
            starts = True
        elif kind == "sign":
            add(Token(piece, "s", piece))
        else:
            _special(kind, piece, text, match.start(kind), add)
            starts = False
    if han:  # Latin words in a Chinese text are names
        return [t._replace(capital=True) if t.kind == "w" and t.text[:1].isascii() else t for t in found]
    if words and capitals > 2 and capitals >= _TITLE_SHARE * words:
        found = [t._replace(capital=len(t.text) > 1 and t.text.isupper() and capitals < words) if t.capital else t for t in found]
    return found


def _special(kind: str, piece: str, text: str, at: int, add: Any) -> None:
    """Dates, times, code."""
    if kind in ("iso", "zhdate"):
        numbers = [int(n) for n in _DATE_PARTS.findall(piece)]
        if kind == "iso":
            date = Date(*numbers) if len(_DATE_PARTS.match(piece)[0]) == 4 else Date(numbers[2], numbers[0], numbers[1], either=True)  # type: ignore[index]
        elif "年" in piece:
            date = Date(*numbers)
        else:
            date = Date(None, *numbers)
        add(Token(f"d{date.year}-{date.month}-{date.day}", "d", piece, date))
    elif kind in ("time", "zhtime"):
        time = _time(piece)
        add(Token(f"t{time.minutes}{time.half}", "t", piece, time))
    elif kind == "code":
        lower = piece.lower()
        if piece.startswith("-"):
            if at and (text[at - 1].isalnum() or text[at - 1] == "_"):  # a hyphen
                for part in lower.strip("-").split("-"):
                    add(Token(stem(part), "f" if part in english.FUNCTION else "w", part))
            else:
                add(Token(piece, "c", piece))
        elif "." in piece and piece.replace(".", "").isalpha() and max(map(len, piece.split("."))) == 1:
            add(Token(stem(lower.replace(".", "")), "w", piece, None, True))  # U.S.
        else:
            add(Token(lower.replace(".", ""), "c", piece))
    else:
        add(Token(piece.removesuffix("()").lower(), "c", piece))


def _time(piece: str) -> Time:
    numbers = [int(n) for n in _DATE_PARTS.findall(piece)]
    hour, minute = numbers[0], numbers[1] if len(numbers) > 1 else 30 if "半" in piece else 0
    lower = piece.lower()
    if "p" in lower or any(part in piece for part in ("下午", "晚上", "傍晚")):
        return Time((hour % 12 + 12) * 60 + minute)
    if "a" in lower or any(part in piece for part in ("上午", "早上", "凌晨", "中午")):
        return Time(hour % 12 * 60 + minute if "中午" not in piece else hour * 60 + minute)
    return Time(hour * 60 + minute, half=hour <= 12)


def _contracted(lower: str, piece: str, starts: bool, add: Any) -> None:
    word, _, rest = lower.partition("'")
    if lower.endswith("n't"):
        word = {"ca": "can", "wo": "will", "sha": "shall"}.get(word[:-1], word[:-1])
        add(Token(word, "f", word))
        add(Token("not", "w", piece, "starts" if starts else None))
        return
    if word in english.FUNCTION:
        add(Token(_ALIASES.get(word, word), "f", word))
    else:
        capital = piece[0].isupper()
        add(Token(stem(word), "w", piece[: len(word)], None, capital))
    if rest in ("ll", "ve", "re", "m", "d"):
        return
    if rest != "s":
        add(Token(stem(rest), "w", rest))


_ALIASES = {"whats": "what", "im": "i", "dont": "do"}


# ── Chinese ───────────────────────────────────────────────────────────────────────────────────────────────────────────

CLASS_OF: dict[str, str] = {}  # key to class
ALIASES: dict[str, str] = {}  # written to key


def _learn(classes: dict[str, str], stemmed: bool) -> None:
    for name, members in classes.items():
        for member in members.split():
            names = member.split("=")
            first = names[0] or names[1]
            key = f"{name}:{first}"
            CLASS_OF[key] = name
            for alias in names:
                if alias and not alias.endswith("_"):
                    ALIASES.setdefault(alias, key)


_learn(english.CLASSES, stemmed=True)
_learn(chinese.CLASSES, stemmed=False)
LANGUAGE_NAMES = frozenset(
    alias for members in (english.CLASSES["language"], english.CLASSES["programming language"]) for names in members.split() for alias in names.split("=")
)
MONTH_OF = {alias: number for number, names in enumerate(english.MONTHS, 1) for alias in names.split("=")}

for _name, (_first, _, _) in UNITS.items():
    if _name not in ONLY_BEHIND_NUMBERS and _name.isalpha():
        ALIASES.setdefault(_name, f"unit:{_first}")
_OPPOSITE_WORDS = {word for line in chinese.OPPOSITES.strip().splitlines() for word in line.replace("/", " ").split()}
_KNOWN = (
    {word for word in ALIASES if word > "\u2fff"}
    | chinese.FUNCTION
    | chinese.NEGATION
    | chinese.NEUTRAL
    | _OPPOSITE_WORDS
    | set(chinese.QUANTIFIERS)
    | set(chinese.BOUNDS)
    | CHINESE_UNITS
    | set(chinese.SYNONYMS)
    | {word for word in chinese.NAME_ENDINGS if len(word) > 1}
    | {word for word in chinese.SET_PHRASES if len(word) > 1}
    | chinese.ORDERING
    | chinese.SYMMETRIC
)
_LONGEST_WORD = max(map(len, _KNOWN))
_A_NOT_A = re.compile(r"([\u4e00-\u9fff])[不没]\1")


def _chinese(run: str, add: Any) -> None:
    at, end = 0, len(run)
    while at < end:
        for length in range(min(_LONGEST_WORD, end - at), 0, -1):
            word = run[at : at + length]
            if length == 1 or word in _KNOWN:
                break
        if length == 1 and at + 2 < end and run[at + 1] in "不没" and run[at + 2] == word:
            add(Token(word, "f" if word in chinese.FUNCTION else "w", word))  # 去不去: a question, no negation
            at += 3
            continue
        at += length
        word = chinese.SYNONYMS.get(word, word)
        if word in ALIASES:
            add(Token(ALIASES[word], "w", word))
        elif word in chinese.FUNCTION:
            add(Token(word, "f", word))
        elif word == "一":
            add(Token("#1", "n", word, Number(1, soft=True)))
        else:
            add(Token(word, "w", word))


@lru_cache(maxsize=8192)
def _lower(word: str) -> tuple[str, str]:
    """Key and kind of a word in lower case."""
    return (_ALIASES.get(word, word), "f") if word in english.FUNCTION else (stem(word), "w")


# ── English ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """A light stem of an English word in lower case, or the class and name of what it names."""
    found = _stem(word)
    return word if found in _SHORT_WORDS else found  # notes are no "not"


_SHORT_WORDS = english.FUNCTION | english.NEGATION


def _stem(word: str) -> str:
    if word in ALIASES:
        return ALIASES[word]
    word = english.IRREGULAR.get(word, word)
    if len(word) > 64:
        return word
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        if word.endswith("ies") and len(word) > 4:
            word = word[:-3] + "y"
        elif word.endswith(("sses", "xes", "ches", "shes", "zes")):
            word = word[:-2]
        else:
            word = word[:-1]
    if word in ALIASES:
        return ALIASES[word]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            base = word[: -len(ending)]
            if not any(c in "aeiouy" for c in base):
                break
            word = base[:-1] if len(base) > 3 and base[-1] == base[-2] and base[-1] not in "lsz" else base
            break
    if len(word) > 5 and word.endswith("ly"):
        word = word[:-2]
    if word.endswith("our") and len(word) > 4:
        word = word[:-3] + "or"
    if word.endswith("e") and len(word) > 3:
        word = word[:-1]
    if word.endswith("is") and len(word) > 5:  # organise, organize
        word = word[:-2] + "iz"
    if word.endswith("tr") and len(word) > 4:  # centre, center; metre, meter
        word = word[:-2] + "ter"
    return english.IRREGULAR.get(word, word)


# ── What belongs together ─────────────────────────────────────────────────────────────────────────────────────────────

_UNIT_BY_STEM = {stem(name): name for name in reversed(UNITS) if name.isascii()}
_CURRENCY = {"$": "$", "€": "€", "£": "£", "¥": "¥", "₹": "₹", "rs": "rs", "inr": "inr", "usd": "usd", "eur": "eur", "gbp": "gbp", "rmb": "rmb", "cny": "cny"}
_FIRST_WORDS = frozenset(words[0] for words in english.PHRASES)
_ORDINAL = ("st", "nd", "rd", "th")
_WORD_NUMBER = {stem(word): word for word in (*english.NUMBERS, *english.SCALES)}
_GLUED = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]+)")


def _joined(tokens: list[Token]) -> list[Token]:
    """Phrases, numbers with their units, and dates of several words become one token."""
    joined: list[Token] = []
    at, end = 0, len(tokens)
    while at < end:
        token = tokens[at]
        if token.text.lower() in _FIRST_WORDS:
            for length in (3, 2):
                words = tuple(t.text.lower() for t in tokens[at : at + length])
                phrase = english.PHRASES.get(words) if len(words) == length else None
                if phrase is not None:
                    if phrase:
                        joined.append(Token(stem(phrase), "f" if phrase in english.FUNCTION else "w", " ".join(words), None, False))
                    at += length
                    break
            else:
                phrase = None
            if phrase is not None:
                continue
        if token.kind == "w" and token.key in _WORD_NUMBER and (token.text.lower() in english.NUMBERS or token.text.lower() in english.SCALES):
            number, used = _in_words(tokens, at)
            at += used
            at = _with_unit(tokens, at, number, " ".join(t.text for t in tokens[at - used : at]), joined)
        elif token.kind == "f" and token.text.lower() == "one":
            number, used = _in_words(tokens, at)
            at += used
            at = _with_unit(tokens, at, number, " ".join(t.text for t in tokens[at - used : at]), joined)
        elif token.kind == "n":
            at = _with_unit(tokens, at + 1, token.value, token.text, joined)
        elif token.kind == "w" and token.text.lower() in MONTH_OF and (token.text.lower() not in ("may", "march", "mar", "jan", "sep", "dec") or token.capital or token.value == "starts"):
            at = _month(tokens, at, joined)
        elif token.key == "may" and token.kind == "f" and token.text == "May" and at and tokens[at - 1].key in ("in", "on", "of", "last_", "by", "since", "until"):
            at = _month(tokens, at, joined)
        else:
            joined.append(token)
            at += 1
    return joined


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
        elif word == "and" and used and not section % 100 and section + total >= 100 and at + used + 1 < len(tokens) and tokens[at + used + 1].text.lower() in english.NUMBERS:
            pass
        else:
            break
        used += 1
    return Number(total + section, soft=soft), max(used, 1)


def _with_unit(tokens: list[Token], at: int, number: Number, text: str, joined: list[Token]) -> int:
    """Append the number with the scale and unit that follow, or the currency before it. Where to go on."""
    if at < len(tokens):
        follows = tokens[at].text.lower()
        if follows in english.SCALES and tokens[at].kind == "w":
            number = Number(number.value * english.SCALES[follows])
            text += " " + tokens[at].text
            at += 1
        elif follows in _ORDINAL:
            at += 1
    unit = ""
    if at < len(tokens):
        token = tokens[at]
        follows = token.text.lower()
        if follows in UNITS and token.kind != "c":
            unit = follows
        elif token.kind == "w" and token.key in _UNIT_BY_STEM:
            unit = _UNIT_BY_STEM[token.key]
        if unit and not (unit in ("in", "a") and at + 1 < len(tokens)) and not (number.soft and unit in ("second",)):
            text += f" {token.text}" if follows > "a" else token.text
            at += 1
        else:
            unit = ""
    if not unit and joined and joined[-1].text.lower() in _CURRENCY:
        before = joined.pop()
        unit, text = _CURRENCY[before.text.lower()], before.text + text
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
        if at < len(tokens) and tokens[at].text.lower() in _ORDINAL:
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
