"""Comparison of two texts by rules, each of which reads only the tokens that the other text does not have. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from exp_pool.reuse.guard import english
from exp_pool.reuse.guard.difference import Difference, DifferenceKind
from exp_pool.reuse.guard.languages import is_frequent, negations_in, says_the_contrary
from exp_pool.reuse.guard.lexicon import stem
from exp_pool.reuse.guard.names import classes, entities, identifiers
from exp_pool.reuse.guard.number_rules import numbers, quantifiers, units
from exp_pool.reuse.guard.opposites import opposite_in
from exp_pool.reuse.guard.phrases import Token
from exp_pool.reuse.guard.substitutions import exchanged_signs, exchanged_words
from exp_pool.reuse.guard.token_diff import NEGATION, Finding, TokenDiff, token_diff, weight
from exp_pool.reuse.guard.tokenizer import TokenizedText, tokenize
from exp_pool.reuse.guard.word_order import exchanged

__all__ = ["Difference", "DifferenceKind", "differences", "guard", "objections"]


def differences(request: str | TokenizedText, stored: str | TokenizedText) -> tuple[Difference, ...]:
    """All differences between two requests that the guard sees; none for equal texts.

    Args:
        request: a text, or what `tokenize` made of it, where it is compared with several.
        stored: the other text. The verdict is the same the other way round.
    """
    a = tokenize(request) if isinstance(request, str) else request
    b = tokenize(stored) if isinstance(stored, str) else stored
    if a.original == b.original:
        return ()
    if not (a.whole and b.whole):
        return (Difference(DifferenceKind.LENGTH),)
    diff = token_diff(a, b)
    found = [finding for rule in _RULES for finding in rule(diff)]
    if not found:
        return ()
    parts = {id(token) for finding in found for token in (*finding.ours, *finding.theirs)}
    rest = max(weight(t for t in side if id(t) not in parts) for side in (diff.ours, diff.theirs))
    return tuple(
        Difference(kind, _text(ours), _text(theirs), sure and rest <= (_REST[kind] if most is None else most), rest)
        for kind, ours, theirs, sure, most in found
    )


def guard(request: str | TokenizedText, stored: str | TokenizedText) -> str | None:
    """Why an answer to the stored request must not answer this one, in words for people; None if nothing says so."""
    return next((str(found) for found in differences(request, stored) if found.vetoes), None)


def objections(
    request: str | TokenizedText, stored: Iterable[str]
) -> Iterator[tuple[tuple[Difference, ...], str | None]]:
    """What differs between a request and each of the stored ones, the nearest first, and why that one must not answer.

    What vetoes one tells what such requests are told apart by. From then on it counts wherever it differs, be it only a
    hint: of "flights on May 5" a nearer "flights on May 6" is vetoed; then "flights" alone, which says nothing of the
    day, must not answer in its place. So a request answers after a veto only if it agrees in what the veto was about.
    """
    reading = tokenize(request) if isinstance(request, str) else request
    told_apart_by: set[DifferenceKind] = set()
    for text in stored:
        found = differences(reading, text)
        veto = next((each for each in found if each.vetoes), None)
        if veto is not None:
            told_apart_by.update(each.kind for each in found if each.vetoes)
        else:
            veto = next((each for each in found if each.kind in told_apart_by), None)
        yield found, None if veto is None else str(veto)


# ── The rules that need no file of their own ──────────────────────────────────────────────────────────────────────────

_NEGATING = frozenset(stem(word) for word in english.NEGATING)
_NEGATIVE = frozenset(stem(word) for word in english.NEGATIVE)


def _opposites(diff: TokenDiff) -> Iterator[Finding]:
    ours, theirs = ({_word(token): token for token in side} for side in (diff.ours, diff.theirs))
    found = ((key, against) for key in ours if (against := opposite_in(key, theirs)) is not None)
    reverse = ((against, key) for key in theirs if (against := opposite_in(key, ours)) is not None)
    for mine, other in itertools.islice(itertools.chain(found, reverse), 1):
        yield Finding(DifferenceKind.OPPOSITE, [ours[mine]], [theirs[other]])


def _word(token: Token) -> str:
    """The key by which a token is compared with its contrary: "first" is a number, and the contrary of "last"."""
    return stem(token.text.lower()) if token.kind == "n" and token.value.soft else token.key


def _negation(diff: TokenDiff) -> Iterator[Finding]:
    mine, other = _negations(diff.a), _negations(diff.b)
    if len(mine) % 2 == len(other) % 2:
        ours, theirs = ([t for t in side if t.key in _NEGATING] for side in (diff.ours, diff.theirs))
        if bool(ours) != bool(theirs):
            yield Finding(DifferenceKind.NEGATION, ours, theirs, most=0)
        return
    negative = any(t.key in _NEGATIVE for t in (diff.theirs if mine else diff.ours))
    # "Why is it not?" and "Is it?" ask about the same thing.
    asked = _asks_why(diff.a) == _asks_why(diff.b)
    yield Finding(DifferenceKind.NEGATION, mine, other, sure=asked and not negative)


def _negations(reading: TokenizedText) -> list[Token]:
    """What negates, but for questions such as "Isn't it", which ask what "Is it" asks."""
    tokens = reading.tokens
    found = [token for token in tokens if token.key in NEGATION]
    if found and len(tokens) > 2 and tokens[1] is found[0] and found[0].value == "starts":
        plain = tokens[0].key in english.RHETORICAL or tokens[2].key in english.PRONOUNS
        return found[1:] if plain else found
    return found


def _asks_why(reading: TokenizedText) -> bool:
    return any(token.key in ("why", "为什么") for token in reading.tokens)


_INFLECTED = 2  # other words that may differ where negation changes the form of the verb, or the article


def _foreign_negation(diff: TokenDiff) -> Iterator[Finding]:
    """Negation in other languages: whether there is any, since "ne ... pas" is one of two words."""
    language = diff.language
    if not language:
        return
    mine, other = negations_in(diff.a, language), negations_in(diff.b, language)
    if bool(mine) == bool(other):
        verbs = _verbs(diff)
        if verbs is None:
            return
        mine, other = verbs
    ours = [token for token in diff.ours if is_frequent(token, language)]
    theirs = [token for token in diff.theirs if is_frequent(token, language)]
    yield Finding(DifferenceKind.NEGATION, mine or ours, other or theirs, most=_INFLECTED)


def _verbs(diff: TokenDiff) -> tuple[list[Token], list[Token]] | None:
    """A form of a verb, and in the other text its negation, where a language negates inside the verb."""
    for one in diff.ours[:_LOOKED_AT]:
        for other in diff.theirs[:_LOOKED_AT]:
            if says_the_contrary(one, other, diff.language):
                return [one], [other]
    return None


_LOOKED_AT = 16


def _signs(diff: TokenDiff) -> Iterator[Finding]:
    found = exchanged_signs(diff.a.tokens, diff.b.tokens)
    if found is not None:
        yield Finding(DifferenceKind.SIGN, [found[0]], [found[1]])


def _connectives(diff: TokenDiff) -> Iterator[Finding]:
    found = exchanged_words(diff.a.tokens, diff.b.tokens)
    if found is not None:
        yield Finding(DifferenceKind.CONNECTIVE, [found[0]], [found[1]])


def _order(diff: TokenDiff) -> Iterator[Finding]:
    found = exchanged([t.key for t in diff.a.tokens], [t.key for t in diff.b.tokens])
    if found is not None:
        one, other = (Token(part, "f", part) for part in found)
        yield Finding(DifferenceKind.ORDER, [one], [other])


def _text(tokens: Sequence[Token]) -> str:
    return " ".join(token.text for token in tokens)


_RULES: tuple[Callable[[TokenDiff], Iterator[Finding]], ...] = (
    numbers, units, classes, entities, identifiers, quantifiers, _opposites, _negation, _foreign_negation, _order,
    _signs, _connectives,
)  # fmt: skip
# How many other words of content the fuller text may have beyond the other: with more, real paraphrases go first.
_REST = dict.fromkeys(DifferenceKind, 0) | {
    DifferenceKind.NUMBER: 1,
    DifferenceKind.DATE: 1,
    DifferenceKind.LANGUAGE: 3,
    DifferenceKind.UNIT: 2,
    DifferenceKind.IDENTIFIER: 1,
    DifferenceKind.ORDER: 2,
    DifferenceKind.SIGN: 1,
}
