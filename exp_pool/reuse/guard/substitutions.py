"""Rules on operators and small words in one place: ``a > b`` against ``a < b``, from Bob against to Bob. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from exp_pool.reuse.guard import chinese, english, languages, operators
from exp_pool.reuse.guard.lexicon import key_and_kind
from exp_pool.reuse.guard.phrases import Token


def _opposed() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    stemmed = ((key_and_kind(one)[0], key_and_kind(other)[0]) for one, other in english.IN_PLACE)
    for one, other in (*stemmed, *chinese.IN_PLACE, *languages.IN_PLACE):
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in found.items()}


_OPPOSED = _opposed()
_DETERMINERS = english.DETERMINERS
_LISTING = english.LISTING | languages.LISTING  # and, or: what stands before and behind may change places
_Places = Mapping[tuple[str, ...], Sequence[Token]]


def exchanged_signs(ours: Sequence[Token], theirs: Sequence[Token]) -> tuple[Token, Token] | None:
    """A sign, and the one that stands for it between the same things in the other text."""
    return _first(_signs(ours), _signs(theirs), operators.opposed)


def exchanged_words(ours: Sequence[Token], theirs: Sequence[Token]) -> tuple[Token, Token] | None:
    """A small word, and the one that stands for it in the same place in the other text."""
    return _first(_words(ours), _words(theirs), lambda one, other: other in _OPPOSED[one])


def _first(mine: _Places, other: _Places, opposed: Callable[[str, str], bool]) -> tuple[Token, Token] | None:
    for place, found in mine.items():
        against = other.get(place, ())
        if not against or {token.key for token in found} & {token.key for token in against}:
            continue
        for one in found:
            for another in against:
                if opposed(one.key, another.key):
                    return one, another
    return None


_MOST = 4  # different signs or words that are looked at in one place


def _signs(tokens: Sequence[Token]) -> _Places:
    """The signs between each two neighbours."""
    found: dict[tuple[str, ...], list[Token]] = {}
    for at in range(len(tokens)):
        if tokens[at].key in operators.COUNTED and tokens[at].kind == "s":
            before = tokens[at - 1].key if at else ""
            _add(found, (before, tokens[at + 1].key if at + 1 < len(tokens) else ""), tokens[at])
    return found


def _words(tokens: Sequence[Token]) -> _Places:
    """The small words before each word; for "and" and "or" the place is both their neighbours."""
    found: dict[tuple[str, ...], list[Token]] = {}
    kept = [token for token in tokens if token.key not in _DETERMINERS]
    for at in range(len(kept) - 1):
        if kept[at].key in _OPPOSED:
            after = kept[at + 1].key
            before = kept[at - 1].key if at else ""
            _add(found, tuple(sorted((before, after))) if kept[at].key in _LISTING else (after,), kept[at])
    return found


def _add(found: dict[tuple[str, ...], list[Token]], place: tuple[str, ...], token: Token) -> None:
    there = found.setdefault(place, [])
    if len(there) < _MOST and all(token.key != other.key for other in there):
        there.append(token)
