"""Negation in languages besides English and Chinese. Pure; the words are in ``words/languages.toml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from os.path import commonprefix

import regex

from exp_pool.reuse.guard import english
from exp_pool.reuse.guard.phrases import Token
from exp_pool.reuse.guard.tokenizer import TokenizedText
from exp_pool.reuse.guard.word_lists import contraries, load

_SCRIPTS = {
    "kana": r"[\p{Hiragana}\p{Katakana}]",
    "hangul": r"\p{Hangul}",
    "cyrillic": r"\p{Cyrillic}",
    "arabic": r"\p{Arabic}",
    "greek": r"\p{Greek}",
    "hebrew": r"\p{Hebrew}",
}


@dataclass(frozen=True, slots=True)
class _Language:
    frequent: frozenset[str] = frozenset()
    negation: frozenset[str] = frozenset()
    beginning: tuple[str, ...] = ()  # of words that negate
    inside: regex.Pattern[str] | None = None  # of words that negate
    neutral: regex.Pattern[str] | None = None
    inflected: bool = False  # by what stands inside verbs
    letters: frozenset[str] = frozenset()  # that no other language has
    letters_alone: frozenset[str] = frozenset()  # that are enough where no word is known
    words: frozenset[str] = frozenset()


def _language(lists: dict[str, object]) -> _Language:
    def split(name: str) -> frozenset[str]:
        return frozenset(str(lists.get(name, "")).split())

    inside, neutral = lists.get("inside"), lists.get("neutral")
    return _Language(
        frequent=split("frequent"),
        negation=split("negation"),
        beginning=tuple(split("beginning")),
        inside=_any_of(inside) if isinstance(inside, list) else None,
        neutral=_any_of(neutral) if isinstance(neutral, list) and neutral else None,
        inflected=inside == "verb",
        letters=frozenset(str(lists.get("letters", ""))),
        letters_alone=frozenset(str(lists.get("letters_alone", ""))),
        words=split("frequent") | split("negation"),
    )


def _any_of(phrases: list[str]) -> regex.Pattern[str]:
    return regex.compile("|".join(map(regex.escape, sorted(phrases, key=len, reverse=True))))


_LISTS = load("languages")
_LANGUAGES = {name: _language(lists) for name, lists in _LISTS.items() if name != "in_place"}
_BY_SCRIPT = {
    lists["script"]: (regex.compile(_SCRIPTS[lists["script"]]), name)
    for name, lists in _LISTS.items()
    if "script" in lists
}
_BY_WORDS = {name: language for name, language in _LANGUAGES.items() if language.frequent}
IN_PLACE = tuple(contraries(_LISTS["in_place"]["lines"]))
"""Pairs of small words, of which the one in the other's place says something else."""
LISTING = frozenset(_LISTS["in_place"]["listing"].split())


def language_of(a: TokenizedText, b: TokenizedText) -> str:
    """The language of both texts, of those that are neither English nor Chinese; empty if it is none of these."""
    if not (a.text.isascii() and b.text.isascii()):
        for pattern, name in _BY_SCRIPT.values():
            if pattern.search(a.text) and pattern.search(b.text):
                return name
        for name, language in _BY_WORDS.items():
            if not language.letters.isdisjoint(a.text) and not language.letters.isdisjoint(b.text):
                return name
    words = [token.text.lower() for token in chain(a.tokens, b.tokens) if token.kind in "wf"]
    if all(word in english.FUNCTION or word in english.NEGATION for word in words[:2]) and a.text.isascii():
        return ""  # nearly every English question
    best = max(_BY_WORDS, key=lambda name: sum(word in _BY_WORDS[name].words for word in words))
    known = sum(word in _BY_WORDS[best].words for word in words if len(word) > 1)
    foreign = known - sum(word in english.FUNCTION for word in words)
    if foreign == 0 == known:
        guessed = (
            name for name, language in _BY_WORDS.items() if not language.letters_alone.isdisjoint(a.text + b.text)
        )
        return next(guessed, "")
    return best if foreign > 0 else ""


def negations_in(reading: TokenizedText, language: str) -> list[Token]:
    """The words that negate."""
    known = _LANGUAGES[language]
    if known.inside is not None:
        return _negated_inside(reading, known.inside, known.neutral)
    neutral: set[str] = set()
    if known.neutral is not None:
        lower = " ".join(token.text.lower() for token in reading.tokens)
        neutral.update(chain.from_iterable(found[0].split() for found in known.neutral.finditer(lower)))
    found = []
    for token in reading.tokens:
        word = token.text.lower()
        if (word in known.negation and word not in neutral) or (known.beginning and word.startswith(known.beginning)):
            found.append(token)
    return found


def _negated_inside(
    reading: TokenizedText, inside: regex.Pattern[str], neutral: regex.Pattern[str] | None
) -> list[Token]:
    """The tokens that have a part that negates; the last, where it is made of several tokens (禁止)."""

    def negates(text: str) -> bool:
        return bool(inside.search(neutral.sub("", text) if neutral is not None else text))

    if not negates(reading.text):
        return []
    return [token for token in reading.tokens if negates(token.text)] or list(reading.tokens[-1:])


def is_frequent(token: Token, language: str) -> bool:
    """Whether it is one of the language's words that carry no content."""
    return token.text.lower() in _LANGUAGES[language].frequent


def says_the_contrary(one: Token, other: Token, language: str) -> bool:
    """Whether one of two verb forms is the other one's negation: gelir, gelmez.

    Args:
        one: a token of one text.
        other: a token of the other text.
        language: of both, by its name in the lists; empty for none of these.
    """
    return bool(language) and _LANGUAGES[language].inflected and _inflected(one.text.lower(), other.text.lower())


_NEGATED = regex.compile(r"m[aeıiuü]z?y?")


@lru_cache(maxsize=1024)
def _inflected(one: str, other: str) -> bool:
    common = len(commonprefix((one, other)))  # noqa: RUF071  (of characters, as is meant)
    for start in (common, common - 1, common - 2):  # -mal-, -mamal-: the next suffix may begin alike
        if start < 2:  # letters of the shortest stem
            continue
        for plain, negated in ((one[start:], other[start:]), (other[start:], one[start:])):
            found = _NEGATED.match(negated)
            if found and not _NEGATED.match(plain) and _agree(plain, negated[found.end() :], negated):
                return True
    return False


def _agree(plain: str, rest: str, negated: str) -> bool:
    """Whether the endings behind the negation and without it are of one form: -iyor, -miyor; -ir, -mez; -ti, -medi."""
    if not rest or plain in (rest, negated[1:]) or plain.startswith("bil"):  # edebilir, edemez
        return True
    return len(plain) >= len(rest) - 1 and plain[-1:] == rest[-1:]
