"""Diff of two tokenized texts: the tokens of each that the other has not. Pure, and linear in the texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import NamedTuple

from exp_pool.reuse.guard import chinese, english
from exp_pool.reuse.guard.difference import DifferenceKind
from exp_pool.reuse.guard.languages import language_of, says_the_contrary
from exp_pool.reuse.guard.lexicon import CLASS_OF
from exp_pool.reuse.guard.opposites import are_opposites
from exp_pool.reuse.guard.phrases import Token
from exp_pool.reuse.guard.tokenizer import TokenizedText

NEGATION = frozenset(english.NEGATION | chinese.NEGATION)
FIRST_HAN = "\u3400"
_NOT_SPELLED = ("unit:", "(", "/", "~", ".", "version ")
_LATIN = 4  # letters from which words may be spellings of each other
_COMPARED = 900  # pairs of words that are looked at for spellings of each other


class Finding(NamedTuple):
    """What a rule found to differ, and the tokens that say it.

    `sure`: it is enough for a veto if the rest of the texts is the same. `most`: how many other words of content the
    fuller text may have then; by default what its kind allows.
    """

    kind: DifferenceKind
    ours: Sequence[Token]
    theirs: Sequence[Token]
    sure: bool = True
    most: int | None = None


@dataclass(slots=True)
class TokenDiff:
    """Two texts, and the tokens of each that the other has not."""

    ours: list[Token]
    theirs: list[Token]
    a: TokenizedText
    b: TokenizedText
    language: str  # of both, as far as it is neither English nor Chinese; else empty


def token_diff(a: TokenizedText, b: TokenizedText) -> TokenDiff:
    """What is left of both without the tokens that they share, in whatever order."""
    counts = Counter(token.key for token in a.tokens)
    counts.subtract(Counter(token.key for token in b.tokens))
    language = language_of(a, b)
    ours, theirs = _unmatched(a.tokens, counts, 1), _unmatched(b.tokens, counts, -1)
    return TokenDiff(*_without_spellings(ours, theirs, language), a, b, language)


def carries(token: Token) -> bool:
    """Whether the token is a word of content: no function word, sign or negation."""
    return token.kind not in "fs" and token.key not in NEGATION


def weight(tokens: Iterable[Token]) -> int:
    """How many words of content these are; a Chinese character is about half a word."""
    return int(sum(0.5 if t.text[:1] >= FIRST_HAN and len(t.text) == 1 else 1.0 for t in tokens if carries(t)))


def _unmatched(tokens: Sequence[Token], counts: Counter[str], sign: int) -> list[Token]:
    left = {key: sign * count for key, count in counts.items() if sign * count > 0}
    unmatched = []
    for token in tokens:
        if left.get(token.key, 0):
            left[token.key] -= 1
            unmatched.append(token)
    return unmatched


def _without_spellings(ours: list[Token], theirs: list[Token], language: str) -> tuple[list[Token], list[Token]]:
    """Without words that are other forms or misspellings of each other: India, Indian; recieve, receive."""
    if not ours or not theirs or len(ours) * len(theirs) > _COMPARED:
        return ours, theirs
    kept, left = [], list(theirs)
    for token in ours:
        twin = next((other for other in left if _akin(token, other, language)), None) if token.kind in "wc" else None
        if twin is None:
            kept.append(token)
        else:
            left.remove(twin)
    return kept, left


def _akin(one: Token, other: Token, language: str) -> bool:
    x, y = one.key, other.key
    if x == y:
        return True
    if (
        other.kind not in "wc"
        or x in CLASS_OF
        or y in CLASS_OF
        or x.startswith(_NOT_SPELLED)
        or y.startswith(_NOT_SPELLED)
    ):
        return False
    if min(len(x), len(y)) < _LATIN or not x[0].isascii() or x[0] != y[0]:
        return False
    if any(c.isdigit() for c in x + y) or len(x) > 40 or len(y) > 40:
        return False
    if are_opposites(x, y) or says_the_contrary(one, other, language):
        return False
    common = len(commonprefix((x, y)))  # noqa: RUF071  (of characters, as is meant)
    shorter = min(len(x), len(y))
    if common == shorter:
        return True
    if one.kind == other.kind == "w" and common >= max(_LATIN, shorter - 2) and abs(len(x) - len(y)) <= 4:
        return not (one.capital and other.capital) or shorter >= 7
    return _one_slip(x, y, common)


def _one_slip(x: str, y: str, common: int) -> bool:
    """One letter too many, missing, another, or two exchanged."""
    if min(len(x), len(y)) < 5 or abs(len(x) - len(y)) > 1:
        return False
    if x[common + 1 :] == y[common:] or x[common:] == y[common + 1 :] or x[common + 1 :] == y[common + 1 :]:
        return True
    return x[common : common + 2] == y[common : common + 2][::-1] and x[common + 2 :] == y[common + 2 :]
