"""Rules on amounts: numbers, dates, times, units and quantifiers that differ. Pure, and linear in the texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from exp_pool.reuse.guard import chinese, english
from exp_pool.reuse.guard.difference import DifferenceKind
from exp_pool.reuse.guard.lexicon import key_and_kind
from exp_pool.reuse.guard.phrases import Token
from exp_pool.reuse.guard.quantities import UNITS, Number
from exp_pool.reuse.guard.token_diff import Finding, TokenDiff

_PAIRED = 2_000  # pairs of amounts that are looked at for equal ones written differently; the rest counts as different


def _keys(names: Mapping[str, str]) -> dict[str, str]:
    return {key_and_kind(word)[0]: name for word, name in names.items()}


_QUANTIFIERS = _keys(english.QUANTIFIERS) | chinese.QUANTIFIERS
_BOUNDS = _keys(english.BOUNDS) | chinese.BOUNDS


def numbers(diff: TokenDiff) -> Iterator[Finding]:
    """Numbers, dates and times of one text that mean something else in the other."""
    ours, theirs = _amounts(diff)
    if not ours and not theirs:
        return
    kind = (
        DifferenceKind.DATE if all(side[0].kind in "dt" for side in (ours, theirs) if side) else DifferenceKind.NUMBER
    )
    if ours and theirs and ours[0].kind == theirs[0].kind == "n":
        one, other = ours[0].value, theirs[0].value
        if one.unit and other.unit and one.value == other.value:
            kind = DifferenceKind.UNIT
    yield Finding(kind, ours, theirs, sure=bool(ours and theirs))


def _amounts(diff: TokenDiff) -> tuple[list[Token], list[Token]]:
    """The numbers, dates and times that mean something else in the other text."""
    mine, other = ([token for token in side if token.kind in "ndt"] for side in (diff.ours, diff.theirs))
    if mine and other:
        mine, other = _without_equal(mine, other)
    if bool(mine) != bool(other):
        mine, other = (_with_roman_one(side, against, diff) for side, against in ((mine, other), (other, mine)))
    if not mine or not other:
        return _sure(mine, {}, set()), _sure(other, {}, set())
    ours, theirs = _followers(mine, diff.a.tokens), _followers(other, diff.b.tokens)
    places = set(ours.values()) & set(theirs.values())
    return _sure(mine, ours, places), _sure(other, theirs, places)


def _without_equal(mine: list[Token], other: list[Token]) -> tuple[list[Token], list[Token]]:
    kept, left, budget = [], list(other), _PAIRED
    for token in mine:
        twin = None
        if budget > 0:
            budget -= len(left)
            twin = next((at for at, t in enumerate(left) if _same(t, token)), None)
        if twin is None:
            kept.append(token)
        else:
            del left[twin]
    return kept, left


def _same(one: Token, other: Token) -> bool:
    """Whether both may mean the same; "at seven" may be seven o'clock."""
    if one.kind == other.kind:
        return bool(one.value.same(other.value))
    number, time = (one, other) if one.kind == "n" else (other, one)
    return (
        number.kind == "n"
        and time.kind == "t"
        and not number.value.unit
        and time.value.minutes % 720 == number.value.value * 60 % 720
    )


def _with_roman_one(numbers: list[Token], against: list[Token], diff: TokenDiff) -> list[Token]:
    """World War I against World War II: where the other text has a Roman number, "I" is one in the same place."""
    if numbers or not any(token.text.isalpha() and token.text.isupper() for token in against):
        return numbers
    ones, others = (diff.a, diff.b) if against and against[0] in diff.theirs else (diff.b, diff.a)
    wanted = {id(token) for token in against}
    places = {before.key for before, token in pairwise(others.tokens) if id(token) in wanted}
    found = (token for before, token in pairwise(ones.tokens) if token.text == "I" and before.key in places)
    return [Token("#1", "n", token.text, Number(1)) for token in found][:1]


def _sure(numbers: list[Token], followers: Mapping[int, str], places: set[str]) -> list[Token]:
    """Without "one" and its like, unless the other text has another number in its place."""
    return [n for n in numbers if n.kind != "n" or not n.value.soft or followers.get(id(n)) in places]


def _followers(numbers: Sequence[Token], tokens: Sequence[Token]) -> dict[int, str]:
    """The key of the token behind each number, by the `id` of the number's token."""
    ids = set(map(id, numbers))
    return {id(token): after.key for token, after in pairwise(tokens) if id(token) in ids}


def units(diff: TokenDiff) -> Iterator[Finding]:
    """Units without a number: one in the place of another of the same dimension."""
    units_of_theirs = [token for token in reversed(diff.theirs) if token.key.startswith("unit:")]
    theirs = {dimension: token for token in units_of_theirs for dimension in _dimensions(token)}
    for token in diff.ours:
        if not token.key.startswith("unit:"):
            continue
        twin = next((theirs[dimension] for dimension in _dimensions(token) if dimension in theirs), None)
        if twin is not None:
            yield Finding(DifferenceKind.UNIT, [token], [twin])
            return


def _dimensions(token: Token) -> tuple[str, ...]:
    name = token.key[5:]
    if name == "pound":
        return "mass", "money"
    dimension = UNITS[name][1]
    return ("time",) if dimension == "span" else (dimension,)


def quantifiers(diff: TokenDiff) -> Iterator[Finding]:
    """All against some, at least against at most, only."""
    mine, other = _of(diff.ours, _QUANTIFIERS), _of(diff.theirs, _QUANTIFIERS)
    for name, token in mine.items():
        twin = next((against for theirs, against in other.items() if theirs != name), None)
        if twin is not None:
            yield Finding(DifferenceKind.QUANTIFIER, [token], [twin])
            return
    if ("only" in mine) != ("only" in other):
        only, against = ([side["only"]] if "only" in side else [] for side in (mine, other))
        yield Finding(DifferenceKind.QUANTIFIER, only, against)
    ours, theirs = _of(diff.ours, _BOUNDS), _of(diff.theirs, _BOUNDS)
    if ours and theirs and next(iter(ours)) != next(iter(theirs)):
        yield Finding(DifferenceKind.QUANTIFIER, [next(iter(ours.values()))], [next(iter(theirs.values()))])


def _of(tokens: Iterable[Token], table: Mapping[str, str]) -> dict[str, Token]:
    """The first token of each name in the table."""
    found: dict[str, Token] = {}
    for token in tokens:
        if token.key in table:
            found.setdefault(table[token.key], token)
    return found
