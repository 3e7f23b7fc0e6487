"""Tokenizer of the guard: a text as tokens in one spelling, with what is known of each. Pure, and linear in the text.

English words are compared by a light stem, Chinese by the longest known word, else by character.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from exp_pool.reuse.guard import chinese, english, operators
from exp_pool.reuse.guard.lexicon import ALIASES, KNOWN, LONGEST_WORD, key_and_kind, stem
from exp_pool.reuse.guard.phrases import Token, joined_tokens
from exp_pool.reuse.guard.quantities import CASED, CASED_ALONE, Date, Number, Time, arabic, roman

LONGEST = 20_000
"""Characters that are compared. Embedders read a tenth of that, so longer texts are hardly ever asked about."""

_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_LETTER = rf"[^\W\d_{_HAN}]"
_TOKENS = re.compile(
    rf"""[ ]?(?:
    (?P<plain>[A-Za-z]+(?=[\s,?!]|$))
    |(?P<iso>(?<!\d)\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}(?!\d)|(?<!\d)\d{{1,2}}/\d{{1,2}}/\d{{4}}(?!\d))
    |(?P<zhdate>(?<!\d)\d{{4}}年(?:\d{{1,2}}月(?:份|\d{{1,2}}[日号]?)?)?|(?<!\d)\d{{1,2}}月(?:份|\d{{1,2}}[日号])?)
    |(?P<time>(?<!\d)\d{{1,2}}:\d{{2}}(?::\d{{2}})?\s?(?:[aApP]\.?[mM]\b\.?)?|(?<![\d.])\d{{1,2}}\s?[aApP]\.?[mM]\b\.?|(?<![\d.])\d{{1,2}}\s?o'clock)
    |(?P<zhtime>(?:上午|下午|晚上|早上|凌晨|中午|傍晚)?\d{{1,2}}点(?:半|钟|整|\d{{1,2}}分)?)
    |(?P<item>(?<![A-Za-z_])\((?:[A-Za-z]|[ivx]{{2,4}})\))
    |(?P<path>(?<!\S)[~.]{{0,2}}/[\w.-]{{1,60}}(?:/[\w.-]{{1,60}}){{1,9}})
    |(?P<minus>(?<=\s)[-\u2212](?=\s)|(?<![A-Za-z][A-Za-z])(?<=[A-Za-z])-(?=[A-Za-z](?![A-Za-z])))
    |(?P<bang>(?<![^\s(])!(?=[A-Za-z_(]))
    |(?P<call>[A-Za-z_]\w{{0,99}}(?:(?:\.|::|->)[A-Za-z_]\w{{0,99}}){{0,9}}\(\))
    |(?P<code>[A-Za-z_]\w{{0,99}}(?:(?:\.|::)[A-Za-z_]\w{{0,99}}){{1,9}}|--?[A-Za-z][\w-]{{0,99}}(?<=\w)|(?<!\S)\+[A-Za-z]\w{{0,40}}|[A-Za-z]{{0,99}}_\w{{1,99}}
        |[A-Za-z]{{1,20}}\d[A-Za-z\d]{{0,40}})
    |(?P<num>[-\u2212]?(?<![\w.][-\u2212])(?:\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d{{1,300}})(?:\.\d{{1,300}})?)
    |(?P<word>{_LETTER}+(?:'{_LETTER}{{1,3}}(?!{_LETTER}))?(?:(?<=[cC])\+\+|\#)?)
    |(?P<han>[{_HAN}]+)
    |(?P<open>(?<=\w)\()|(?P<close>\))|(?P<comma>,)
    |(?P<sign><=>|<=|>=|<>|<<|>>|===?|!==?|->|=>|&&|\|\||\+\+|--|\*\*|//|[-+*/%|&^:]=|[→≤≥≠×÷&/%$€£¥₹;、<>=+*^|~])
    |(?P<end>[.?!。？！:])
    )""",
    re.VERBOSE,
)
_QUOTED = re.compile(
    r"`([^`]{1,200})`|\"([^\"]{1,200})\"|“([^”]{1,200})”|《([^》]{1,80})》|「([^」]{1,80})」|(?<!\w)'([^']{2,100})'(?!\w)"
)
_CAMEL = re.compile(r"[a-z][A-Z]")
_TITLE_SHARE = 0.6  # of the words that carry content: from here on capitals are a matter of style
_DATE_PARTS = re.compile(r"\d+")


class TokenizedText(NamedTuple):
    """A text as tokens.

    Attributes:
        original: the text as given.
        text: what the tokens were read from: one line, normalized (NFKC), Chinese numbers as digits.
        tokens: in their order.
        quoted: what stands between quotation marks.
        whole: whether the text was short enough to be read to its end.
    """

    original: str
    text: str
    tokens: tuple[Token, ...]
    quoted: tuple[str, ...]
    whole: bool = True


def tokenize(text: str) -> TokenizedText:
    """The text as tokens, at most its first `LONGEST` characters. Never raises."""
    original, whole = text, len(text) <= LONGEST
    text = " ".join(text[:LONGEST].split())
    if not text.isascii():
        text = (
            unicodedata.normalize("NFKC", _RAISED.sub(_set_apart, text))[:LONGEST]
            .replace("\u2019", "'")
            .replace("\u2018", "'")
        )
        text = arabic(text.translate(chinese.SIMPLIFIED))
    quoted = (
        tuple(next(filter(None, groups)).strip() for groups in _QUOTED.findall(text))
        if _QUOTED_SIGN.search(text)
        else ()
    )
    return TokenizedText(original, text, tuple(joined_tokens(_tokens(text))), quoted, whole)


_RAISED = re.compile(
    "(?<=[0-9])(?:([\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+)|[\u00bc-\u00be\u2150-\u215e])"
)  # 10\u00b2, 2\u00bd


def _set_apart(found: re.Match[str]) -> str:
    """What NFKC would glue to the number before it: 10\u00b2 is not 102, nor is 2\u00bd 21/2."""
    return f"^{found[0]}" if found[1] else f" {found[0]}"


_QUOTED_SIGN = re.compile("[`\"“《「']")


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    add = found.append
    starts, han, calls = True, False, 0
    for match in _TOKENS.finditer(text):
        kind = match.lastgroup or ""
        piece = match[kind]
        if kind in ("plain", "word"):
            if piece.islower() and "'" not in piece:  # nearly every word
                add(Token(*key_and_kind(piece), piece))
            else:
                _word(piece, starts, text[match.end() : match.end() + 1].isspace(), add)
        elif kind == "num":
            if "." in piece and found and found[-1].text.lower() in english.VERSIONS:
                add(Token(f"version {piece}", "c", piece))
            else:
                _number(piece, add)
        elif kind == "han":
            han = True
            _chinese(piece, add)
        elif kind == "sign":
            add(Token(operators.SAME.get(piece, piece), "s", piece))
        elif kind == "minus":
            add(Token("-", "s", "-"))
        elif kind == "bang":  # !x
            add(Token("not", "w", "!"))
        elif kind == "open":
            calls += 1
        elif kind == "close":
            calls = max(0, calls - 1)
        elif kind == "comma":
            if calls:
                add(Token(ARGUMENTS, "s", ","))
        elif kind != "end":
            _special(kind, piece, text, match.start(kind), add)
        starts = kind == "end"
    return _with_capitals(_with_letters(found), han)


ARGUMENTS = ", of a call"
"""The key of a comma between the arguments of a call, where the order means something."""
DIVIDED = "divided by"
"""The key of a stroke between two numbers or two letters."""


def _with_letters(tokens: list[Token]) -> list[Token]:
    """The tokens with "a" as a letter where it is no article: a - b, from a to b."""
    for at, token in enumerate(tokens):
        if token.key == "a" and _is_letter(tokens, at):
            tokens[at] = Token("letter a", "w", token.text, None, True)
        elif token.key == "/" and 0 < at < len(tokens) - 1 and all(map(_is_operand, tokens[at - 1 : at + 2 : 2])):
            tokens[at] = token._replace(key=DIVIDED)
    return tokens


def _is_operand(token: Token) -> bool:
    return token.kind == "n" or (len(token.text) == 1 and token.text.isalpha())


def _is_letter(tokens: list[Token], at: int) -> bool:
    follows = tokens[at + 1] if at + 1 < len(tokens) else None
    if follows is None or follows.key in english.BEHIND_LETTERS:
        return True
    if follows.kind == "s":
        return follows.key != "/" or (at + 2 < len(tokens) and len(tokens[at + 2].text) == 1)
    before = tokens[at - 1] if at else None
    if before is None or before.kind != "s" or at < 2:
        return False
    return before.key == ARGUMENTS or len(tokens[at - 2].text) == 1 or tokens[at - 2].kind == "n"


def _with_capitals(tokens: list[Token], han: bool) -> list[Token]:
    """The tokens with a capital only where it says something."""
    if han:  # Latin words in a Chinese text are names
        return [t._replace(capital=True) if t.kind == "w" and t.text[:1].isascii() else t for t in tokens]
    capitals = sum(t.text[0].isupper() for t in tokens if t.kind in "wc")
    words = sum(t.kind in "wc" for t in tokens)
    if capitals < 3 or capitals < _TITLE_SHARE * words:
        return tokens
    shouted = all(t.text.isupper() for t in tokens if t.kind in "wc")
    return [
        t._replace(capital=not shouted and len(t.text) > 1 and t.text.isupper()) if t.capital else t for t in tokens
    ]


def _word(piece: str, starts: bool, spaced: bool, add: Callable[[Token], None]) -> None:
    """A word with a capital or an apostrophe; `starts`: it begins a sentence."""
    lower = piece.lower()
    if piece in CASED_ALONE:
        add(Token(f"unit:{CASED[piece]}", "w", piece))
    elif len(piece) == 1 and piece not in "IVX" and not (starts and spaced):  # vitamin C; A is bigger than B
        add(Token(ALIASES.get(lower, piece), "w", piece, None, True))
    elif lower in english.FUNCTION and (starts or piece not in english.NAMES_IN_CAPITALS):
        add(Token(english.CONTRACTED.get(lower, lower), "f", piece))
    elif "'" in lower:
        _contracted(lower, piece, starts, add)
    elif piece[0] in "IVX" and (value := roman(piece)) is not None:
        add(Token(f"#{value}", "n", piece, Number(value)))
    else:
        capital = piece[0].isupper()
        kind = "c" if _CAMEL.search(piece) else "w"
        says = capital and (not starts or (len(piece) > 1 and piece.isupper()))
        add(Token(stem(lower), kind, piece, "starts" if starts and capital else None, says))


def _number(piece: str, add: Callable[[Token], None]) -> None:
    value = float(piece.replace(",", "").replace("\u2212", "-"))
    if len(piece) == 4 and piece.isdigit() and 1800 <= value < 2100:
        add(Token(f"y{piece}", "d", piece, Date(int(value))))
    else:
        add(Token(f"#{value:.15g}", "n", piece, Number(value)))


def _special(kind: str, piece: str, text: str, at: int, add: Callable[[Token], None]) -> None:
    """Add the token of a date, a time, or a name of code."""
    if kind in ("iso", "zhdate"):
        date = _date(piece)
        add(Token(f"d{date.year}-{date.month}-{date.day}{date.either}", "d", piece, date))
    elif kind in ("time", "zhtime"):
        time = _time(piece)
        add(Token(f"t{time.minutes}{time.half}", "t", piece, time))
    elif kind == "path":
        add(Token(piece.rstrip("."), "c", piece))
    elif kind == "item":  # section (b)
        add(Token(piece.lower(), "w", piece, None, True))
    elif kind == "code":
        lower = piece.lower()
        if piece.startswith("+"):
            add(Token(piece, "c", piece))
        elif piece.startswith("-"):
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


def _date(piece: str) -> Date:
    first, *others = (int(n) for n in _DATE_PARTS.findall(piece))
    second, third = (*others, None, None)[:2]
    if "年" in piece or len(piece.split("-", maxsplit=1)[0].split(".", maxsplit=1)[0].split("/", maxsplit=1)[0]) == 4:
        return Date(first, second, third)
    if "月" in piece:
        return Date(None, first, second)
    return Date(third, first, second, either=True)


def _time(piece: str) -> Time:
    numbers = [int(n) for n in _DATE_PARTS.findall(piece)]
    hour, minute = numbers[0], numbers[1] if len(numbers) > 1 else 30 if "半" in piece else 0
    lower = piece.lower()
    if "p" in lower or any(part in piece for part in chinese.AFTERNOON):
        return Time((hour % 12 + 12) * 60 + minute)
    if "a" in lower or any(part in piece for part in chinese.FORENOON):
        return Time(hour % 12 * 60 + minute if chinese.NOON not in piece else hour * 60 + minute)
    return Time(hour * 60 + minute, half=hour <= 12)


def _contracted(lower: str, piece: str, starts: bool, add: Callable[[Token], None]) -> None:
    word, _, rest = lower.partition("'")
    if lower.endswith("n't"):
        word = english.BEFORE_NOT.get(word[:-1], word[:-1])
        add(Token(word, "f", word))
        add(Token("not", "w", piece, "starts" if starts else None))
        return
    if word in english.FUNCTION:
        add(Token(english.CONTRACTED.get(word, word), "f", word))
    else:
        capital = piece[0].isupper()
        add(Token(stem(word), "w", piece[: len(word)], None, capital))
    if rest not in english.BEHIND_APOSTROPHES:
        add(Token(stem(rest), "w", rest))


# ── Chinese ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _chinese(run: str, add: Callable[[Token], None]) -> None:
    at, end = 0, len(run)
    while at < end:
        for length in range(min(LONGEST_WORD, end - at), 0, -1):
            word = run[at : at + length]
            if length == 1 or word in KNOWN:
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
