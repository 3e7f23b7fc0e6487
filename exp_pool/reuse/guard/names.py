"""Rules on named entities: names, members of one class such as weekdays, identifiers of code. Pure, linear in the texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from exp_pool.reuse.guard import chinese, english
from exp_pool.reuse.guard.difference import DifferenceKind
from exp_pool.reuse.guard.lexicon import CLASS_OF
from exp_pool.reuse.guard.phrases import Token
from exp_pool.reuse.guard.token_diff import FIRST_HAN, Finding, TokenDiff
from exp_pool.reuse.guard.tokenizer import TokenizedText

_CLASS_KINDS = {"language": DifferenceKind.LANGUAGE, "programming language": DifferenceKind.LANGUAGE, "weekday": DifferenceKind.DATE, "day": DifferenceKind.DATE,
                "period": DifferenceKind.DATE, "season": DifferenceKind.DATE}  # fmt: skip
_LONGEST_NAME = 8  # characters
_MOST = 64  # words that are looked at for names: texts that differ in more are no near misses


def classes(diff: TokenDiff) -> Iterator[Finding]:
    """Members of one class, such as weekdays: one in the place of another."""
    mine = {name: token for token in reversed(diff.ours) if (name := CLASS_OF.get(token.key))}
    other = {name: token for token in reversed(diff.theirs) if (name := CLASS_OF.get(token.key))}
    for name, token in mine.items():
        if name in other:
            yield Finding(_CLASS_KINDS.get(name, DifferenceKind.ENTITY), [token], [other[name]])


def entities(diff: TokenDiff) -> Iterator[Finding]:
    """Names that only one of the texts has, or each another."""
    mine, other = _names(diff.ours, diff.a, diff.b), _names(diff.theirs, diff.b, diff.a)
    if not (mine and other):
        exchanged = _chinese_terms(diff)
        if exchanged is not None:
            yield Finding(DifferenceKind.ENTITY, *exchanged)
            return
    if mine or other:
        yield Finding(DifferenceKind.ENTITY, mine, other, sure=bool(mine and other))


def identifiers(diff: TokenDiff) -> Iterator[Finding]:
    """Names in code, and flags of commands; a flag that only one of them has is enough."""
    mine, other = ([token for token in side if token.kind == "c"] for side in (diff.ours, diff.theirs))
    if mine and other:
        yield Finding(DifferenceKind.IDENTIFIER, mine, other)
    elif mine or other:
        flagged = all(token.text[0] in "+-" for token in mine or other)
        yield Finding(DifferenceKind.IDENTIFIER, mine, other, sure=flagged, most=0)


def _names(unmatched: Sequence[Token], reading: TokenizedText, against: TokenizedText) -> list[Token]:
    looked = unmatched[:_MOST]
    squeezed = against.text.lower().replace(" ", "")
    initials = "".join(t.text[0] for t in against.tokens if t.text).lower()
    names = [token for token in looked if _is_name(token, reading) and not _stands_for(token, squeezed, initials)]
    if not names and reading.quoted and against.quoted:
        inside = " ".join(reading.quoted)
        names = [token for token in looked if token.kind == "w" and token.text in inside]
    return names


def _is_name(token: Token, reading: TokenizedText) -> bool:
    if token.capital:
        return True
    tokens = reading.tokens
    if token.value != "starts" or token is not tokens[0] or len(tokens) == 1:
        return False
    return tokens[1].capital or tokens[1].text.lower() in english.AFTER_SUBJECT


def _stands_for(token: Token, squeezed: str, initials: str) -> bool:
    """Whether it is an acronym of words of the other text, or one of its words written differently."""
    letters = token.text.lower()
    if len(letters) > 2 and letters[0] != "(" and letters in squeezed:
        return True
    return token.text.isupper() and 2 <= len(letters) <= 6 and letters in initials


def _chinese_terms(diff: TokenDiff) -> tuple[list[Token], list[Token]] | None:
    """The one run of characters that stands in the place of another, where that is a name or another thing.

    Chinese names have no capitals, so what they look like, and what stands around them, must do. And Chinese synonyms of
    two characters mostly share one: those that share none, in texts equal otherwise, are taken for different things.
    """
    if diff.a.text.isascii() or diff.b.text.isascii():
        return None
    mine, other = _run(diff.ours, diff.a.tokens), _run(diff.theirs, diff.b.tokens)
    if not mine or not other:
        return None
    x, y = ("".join(token.text for token in run) for run in (mine, other))
    if x[0] < FIRST_HAN or y[0] < FIRST_HAN or max(len(x), len(y)) > _LONGEST_NAME:
        return None
    if min(len(x), len(y)) > 1 and not set(x) & set(y):
        return mine, other
    if any(x.endswith(end) and y.endswith(end) for end in chinese.NAME_ENDINGS) or _before_ending(mine, diff.a.tokens):
        return (mine, other) if x != y and x not in y and y not in x else None
    if all(run[0] in chinese.SURNAMES and 1 < len(run) < 4 for run in (x, y)) and x[0] != y[0]:
        return mine, other
    return None


def _run(unmatched: Sequence[Token], tokens: Sequence[Token]) -> list[Token]:
    """The unmatched words of content, if they stand side by side; else none."""
    ids = {id(token) for token in unmatched}
    words = [at for at, token in enumerate(tokens) if id(token) in ids and token.kind == "w"]
    if not words:
        return []
    first, last = words[0], words[-1]
    return list(tokens[first : last + 1]) if all(id(tokens[at]) in ids for at in range(first, last + 1)) else []


def _before_ending(run: Sequence[Token], tokens: Sequence[Token]) -> bool:
    at = next(at for at, token in enumerate(tokens) if token is run[-1]) + 1
    return at < len(tokens) and tokens[at].text in chinese.NAME_ENDINGS
