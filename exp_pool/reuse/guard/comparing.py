"""What two texts differ in. Pure; each rule looks only at the tokens that the other text does not have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from exp_pool.reuse.guard import chinese, english
from exp_pool.reuse.guard.joining import Token
from exp_pool.reuse.guard.lexicon import CLASS_OF, key_and_kind, stem
from exp_pool.reuse.guard.order import exchanged
from exp_pool.reuse.guard.quantities import UNITS
from exp_pool.reuse.guard.reading import LONGEST, Reading, read


class Kind(StrEnum):
    """What texts may differ in."""

    NEGATION = "negation"
    NUMBER = "number"
    UNIT = "unit"
    DATE = "date"
    ENTITY = "entity"
    IDENTIFIER = "identifier"
    ORDER = "order"
    QUANTIFIER = "quantifier"
    OPPOSITE = "opposite"
    LANGUAGE = "language"
    LENGTH = "length"

    @property
    def place(self) -> int:
        """Its number among the kinds, from 0 on. What was learned from them counts on it: new kinds come last."""
        return _PLACES[self]


_PLACES = {kind: place for place, kind in enumerate(Kind)}

_WORDS = {
    Kind.NEGATION: "one of them is negated",
    Kind.NUMBER: "the numbers differ",
    Kind.UNIT: "the units differ",
    Kind.DATE: "the dates or times differ",
    Kind.ENTITY: "the names differ",
    Kind.IDENTIFIER: "the identifiers differ",
    Kind.ORDER: "the order differs",
    Kind.QUANTIFIER: "the quantities meant differ",
    Kind.OPPOSITE: "they say opposites",
    Kind.LANGUAGE: "the languages asked for differ",
    Kind.LENGTH: f"a text has more than {LONGEST:,} characters, which is too long to compare",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between a request and a stored request.

    Attributes:
        kind: what differs.
        request: what the request says there; empty where it says nothing.
        stored: what the stored request says there.
        vetoes: whether it is enough to refuse reuse; else it is a hint.
    """

    kind: Kind
    request: str = ""
    stored: str = ""
    vetoes: bool = True
    rest: int = 0

    def __str__(self) -> str:
        """For people: "the numbers differ: 3 against 5"."""
        words = _WORDS[self.kind]
        if self.kind is Kind.LENGTH:
            return words
        if self.kind is Kind.ORDER:
            return f"{words}: {self.request}, then {self.stored}, against the reverse"
        if self.request and self.stored:
            return f"{words}: {self.request} against {self.stored}"
        if self.kind is Kind.NEGATION:
            return f"{words} ({self.request or self.stored})"
        return f"{words}: only one of them says {self.request or self.stored}"


@dataclass(slots=True)
class _Sides:
    """What each text has that the other has not, and how close the rest is."""

    ours: list[Token]
    theirs: list[Token]
    shared: int  # content tokens that both have
    a: Reading
    b: Reading

    @property
    def left(self) -> tuple[int, int]:
        return sum(map(_carries, self.ours)), sum(map(_carries, self.theirs))


def _carries(token: Token) -> bool:
    return token.kind not in "fs" and token.key not in _NEGATION


def differences(request: str | Reading, stored: str | Reading) -> tuple[Difference, ...]:
    """Everything that the guard sees in which two requests differ; none for equal texts.

    Args:
        request: a text, or what `read` made of it, where it is compared with several.
        stored: the other text. The verdict is the same the other way round.
    """
    a = read(request) if isinstance(request, str) else request
    b = read(stored) if isinstance(stored, str) else stored
    if a.original == b.original:
        return ()
    if not (a.whole and b.whole):
        return (Difference(Kind.LENGTH),)
    sides = _sides(a, b)
    found = [finding for rule in _RULES for finding in rule(sides)]
    if not found:
        return ()
    parts = {id(token) for finding in found for token in (*finding.ours, *finding.theirs)}
    rest = max(_weight(t for t in side if id(t) not in parts) for side in (sides.ours, sides.theirs))
    return tuple(
        Difference(kind, _text(ours), _text(theirs), sure and rest <= _REST[kind], rest)
        for kind, ours, theirs, sure in found
    )


def _weight(tokens: Iterable[Token]) -> int:
    """How many words of content; a Chinese character is about half a word."""
    return int(sum(0.5 if t.text[:1] >= _FIRST_HAN and len(t.text) == 1 else 1.0 for t in tokens if _carries(t)))


def guard(request: str | Reading, stored: str | Reading) -> str | None:
    """Why an answer to the stored request must not answer this one, in words for people; None if nothing says so."""
    return next((str(found) for found in differences(request, stored) if found.vetoes), None)


def _sides(a: Reading, b: Reading) -> _Sides:
    counts = Counter(token.key for token in a.tokens)
    counts.subtract(Counter(token.key for token in b.tokens))
    ours = _unmatched(a.tokens, counts, 1)
    theirs = _unmatched(b.tokens, counts, -1)
    ours, theirs = _without_spellings(ours, theirs)
    content = sum(map(_carries, a.tokens))
    return _Sides(ours, theirs, content - sum(map(_carries, ours)), a, b)


def _unmatched(tokens: Sequence[Token], counts: Counter[str], sign: int) -> list[Token]:
    left = {key: sign * count for key, count in counts.items() if sign * count > 0}
    unmatched = []
    for token in tokens:
        if left.get(token.key, 0):
            left[token.key] -= 1
            unmatched.append(token)
    return unmatched


_LATIN = 4  # letters from which words may be spellings of each other


def _without_spellings(ours: list[Token], theirs: list[Token]) -> tuple[list[Token], list[Token]]:
    """Without words that are other forms or misspellings of each other: India, Indian; recieve, receive."""
    if not ours or not theirs or len(ours) * len(theirs) > 900:
        return ours, theirs
    kept, left = [], list(theirs)
    for token in ours:
        twin = next((other for other in left if _akin(token, other)), None) if token.kind in "wc" else None
        if twin is None:
            kept.append(token)
        else:
            left.remove(twin)
    return kept, left


def _akin(one: Token, other: Token) -> bool:
    if other.kind not in "wc" or one.key in CLASS_OF or other.key in CLASS_OF:
        return False
    x, y = one.key, other.key
    if x == y:
        return True
    if min(len(x), len(y)) < _LATIN or not x[0].isascii() or x[0] != y[0]:
        return False
    if x in OPPOSITES.get(y, ()) or any(c.isdigit() for c in x + y) or len(x) > 40 or len(y) > 40:
        return False
    common = 0
    for p, q in zip(x, y, strict=False):
        if p != q:
            break
        common += 1
    shorter = min(len(x), len(y))
    if common == shorter:
        return True
    if one.kind == other.kind == "w" and common >= max(_LATIN, shorter - 2) and abs(len(x) - len(y)) <= 4:
        return not (one.capital and other.capital) or shorter >= 7
    return _one_slip(x, y, common)


def _one_slip(x: str, y: str, common: int) -> bool:
    """One letter too many, missing, another, or two exchanged."""
    if len(x) < 5 or abs(len(x) - len(y)) > 1:
        return False
    if x[common + 1 :] == y[common:] or x[common:] == y[common + 1 :] or x[common + 1 :] == y[common + 1 :]:
        return True
    return x[common : common + 2] == y[common : common + 2][::-1] and x[common + 2 :] == y[common + 2 :]


def _key(word: str) -> str:
    return key_and_kind(word)[0]


OPPOSITES = english.opposites(_key)
for _one, _other in chinese.OPPOSITES:
    _x, _y = (chinese.SYNONYMS.get(word, word) for word in (_one, _other))
    OPPOSITES[_x] = OPPOSITES.get(_x, frozenset()) | {_y}
    OPPOSITES[_y] = OPPOSITES.get(_y, frozenset()) | {_x}
_QUANTIFIERS = {_key(word): name for word, name in english.QUANTIFIERS.items()} | chinese.QUANTIFIERS
_BOUNDS = {_key(word): name for word, name in english.BOUNDS.items()} | chinese.BOUNDS
_NEGATION = frozenset(english.NEGATION | chinese.NEGATION)
_NEGATIVE = frozenset(stem(word) for word in english.NEGATIVE)


# ── The rules ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Finding(NamedTuple):
    kind: Kind
    ours: Sequence[Token]
    theirs: Sequence[Token]
    sure: bool = True


def _numbers(sides: _Sides) -> Iterator[_Finding]:
    ours, theirs = _amounts(sides)
    if not ours and not theirs:
        return
    kind = Kind.DATE if all(side[0].kind in "dt" for side in (ours, theirs) if side) else Kind.NUMBER
    if ours and theirs and ours[0].kind == theirs[0].kind == "n":
        one, other = ours[0].value, theirs[0].value
        if one.unit and other.unit and one.value == other.value:
            kind = Kind.UNIT
    yield _Finding(kind, ours, theirs, sure=bool(ours and theirs))


def _amounts(sides: _Sides) -> tuple[list[Token], list[Token]]:
    """The numbers, dates and times that mean something else in the other text."""
    mine = [token for token in sides.ours if token.kind in "ndt"]
    other = [token for token in sides.theirs if token.kind in "ndt"]
    for token in list(mine):
        twin = next((t for t in other if t.kind == token.kind and t.value.same(token.value)), None)
        if twin is not None:
            mine.remove(token)
            other.remove(twin)
    if not mine or not other:
        return _sure(mine, set()), _sure(other, set())
    ours, theirs = _followers(mine, sides.a.tokens), _followers(other, sides.b.tokens)
    return _sure(mine, ours & theirs, sides.a.tokens), _sure(other, ours & theirs, sides.b.tokens)


def _sure(numbers: list[Token], places: set[str], tokens: Sequence[Token] = ()) -> list[Token]:
    """Without "one" and its like, unless the other text has another number in its place."""
    return [n for n in numbers if n.kind != "n" or not n.value.soft or (places and _followers([n], tokens) & places)]


def _followers(numbers: Sequence[Token], tokens: Sequence[Token]) -> set[str]:
    """What stands behind them."""
    ids = set(map(id, numbers))
    return {after.key for token, after in pairwise(tokens) if id(token) in ids}


def _units(sides: _Sides) -> Iterator[_Finding]:
    mine, other = ([(t, t.key[5:]) for t in side if t.key.startswith("unit:")] for side in (sides.ours, sides.theirs))
    for token, name in mine:
        for twin, their_name in other:
            dimensions = {UNITS[name][1], UNITS[their_name][1]}
            if len(dimensions) == 1 or dimensions == {"time", "span"}:
                yield _Finding(Kind.UNIT, [token], [twin])
                return


_CLASS_KINDS = {"language": Kind.LANGUAGE, "programming language": Kind.LANGUAGE, "weekday": Kind.DATE, "day": Kind.DATE,
                "period": Kind.DATE, "season": Kind.DATE}  # fmt: skip


def _classes(sides: _Sides) -> Iterator[_Finding]:
    mine = {name: token for token in reversed(sides.ours) if (name := CLASS_OF.get(token.key))}
    other = {name: token for token in reversed(sides.theirs) if (name := CLASS_OF.get(token.key))}
    for name, token in mine.items():
        if name in other:
            yield _Finding(_CLASS_KINDS.get(name, Kind.ENTITY), [token], [other[name]])


def _entities(sides: _Sides) -> Iterator[_Finding]:
    mine, other = _names(sides.ours, sides.a, sides.b), _names(sides.theirs, sides.b, sides.a)
    if not (mine and other):
        exchanged_parts = _chinese_terms(sides)
        if exchanged_parts is not None:
            yield _Finding(Kind.ENTITY, *exchanged_parts)
            return
    if mine or other:
        yield _Finding(Kind.ENTITY, mine, other, sure=bool(mine and other))


def _names(unmatched: Iterable[Token], reading: Reading, against: Reading) -> list[Token]:
    names = [token for token in unmatched if _is_name(token, reading) and not _stands_for(token, against)]
    if not names and reading.quoted and against.quoted:
        inside = " ".join(reading.quoted)
        names = [token for token in unmatched if token.kind == "w" and token.text in inside]
    return names


def _is_name(token: Token, reading: Reading) -> bool:
    if token.capital:
        return True
    tokens = reading.tokens
    if token.value != "starts" or token is not tokens[0] or len(tokens) == 1:
        return False
    return tokens[1].capital or tokens[1].text.lower() in english.AFTER_SUBJECT


def _chinese_terms(sides: _Sides) -> tuple[list[Token], list[Token]] | None:
    """The one run of characters that stands in the place of another, where that is a name or another thing.

    Chinese names have no capitals, so what they look like, and what stands around them, must do. And Chinese synonyms of
    two characters mostly share one: those that share none, in texts equal otherwise, are taken for different things.
    """
    if sides.a.text.isascii() or sides.b.text.isascii():
        return None
    mine, other = _run(sides.ours, sides.a.tokens), _run(sides.theirs, sides.b.tokens)
    if not mine or not other:
        return None
    x, y = ("".join(token.text for token in run) for run in (mine, other))
    if x[0] < _FIRST_HAN or y[0] < _FIRST_HAN or max(len(x), len(y)) > _LONGEST_NAME:
        return None
    if min(len(x), len(y)) > 1 and not set(x) & set(y):
        return mine, other
    if any(x.endswith(end) and y.endswith(end) for end in chinese.NAME_ENDINGS) or _before_ending(mine, sides.a.tokens):
        return (mine, other) if x != y and x not in y and y not in x else None
    if all(run[0] in chinese.SURNAMES and 1 < len(run) < 4 for run in (x, y)) and x[0] != y[0]:
        return mine, other
    return None


_FIRST_HAN = "\u3400"
_LONGEST_NAME = 8


def _run(unmatched: Sequence[Token], tokens: Sequence[Token]) -> list[Token]:
    """The unmatched words of content, if they stand side by side; else none."""
    ids = {id(token) for token in unmatched}
    places = [at for at, token in enumerate(tokens) if id(token) in ids]
    while places and tokens[places[0]].kind != "w":
        del places[0]
    while places and tokens[places[-1]].kind != "w":
        del places[-1]
    if not places or places[-1] - places[0] + 1 != len(places):
        return []
    return [tokens[at] for at in places]


def _before_ending(run: Sequence[Token], tokens: Sequence[Token]) -> bool:
    at = next(at for at, token in enumerate(tokens) if token is run[-1]) + 1
    return at < len(tokens) and tokens[at].text in chinese.NAME_ENDINGS


def _stands_for(token: Token, reading: Reading) -> bool:
    """Whether it is an acronym of words of the other text, or one of its words written differently."""
    letters = token.text.lower()
    if len(letters) > 2 and letters in reading.text.lower().replace(" ", ""):
        return True
    if not token.text.isupper() or not 2 <= len(letters) <= 6:
        return False
    initials = "".join(t.text[0] for t in reading.tokens if t.text).lower()
    return letters in initials


def _identifiers(sides: _Sides) -> Iterator[_Finding]:
    mine = [token for token in sides.ours if token.kind == "c"]
    other = [token for token in sides.theirs if token.kind == "c"]
    if mine or other:
        yield _Finding(Kind.IDENTIFIER, mine, other, sure=bool(mine and other))


def _opposites(sides: _Sides) -> Iterator[_Finding]:
    ours, theirs = ({token.key: token for token in side} for side in (sides.ours, sides.theirs))
    for key, token in ours.items():
        against = OPPOSITES.get(key)
        if against and (found := against & theirs.keys()):
            yield _Finding(Kind.OPPOSITE, [token], [theirs[min(found)]])
            return
    for these, others, turned in ((ours, theirs, False), (theirs, ours, True)):
        for key in these:
            if key.startswith(_PREFIXES) or key.endswith("less"):
                for word in _unprefixed(key):
                    if word in others:
                        pair = [these[key]], [others[word]]
                        yield _Finding(Kind.OPPOSITE, *(pair[::-1] if turned else pair))
                        return


_PREFIXES = ("un", "in", "im", "il", "ir", "dis", "non", "de", "anti")


def _unprefixed(key: str) -> Iterator[str]:
    for prefix in _PREFIXES:
        if key.startswith(prefix) and len(key) > len(prefix) + 3:
            yield key[len(prefix) :]
    if key.endswith("less"):
        yield key[:-4] + "ful"
        yield key[:-4]


def _negation(sides: _Sides) -> Iterator[_Finding]:
    mine, other = _negations(sides.a), _negations(sides.b)
    if len(mine) % 2 == len(other) % 2:
        return
    negative = any(t.key in _NEGATIVE for t in (sides.theirs if mine else sides.ours))
    # "Why is it not?" and "Is it?" ask about the same thing.
    asked = _asks_why(sides.a) == _asks_why(sides.b)
    yield _Finding(Kind.NEGATION, mine, other, sure=asked and not negative)


def _negations(reading: Reading) -> list[Token]:
    """What negates, but for questions such as "Isn't it", which ask what "Is it" asks."""
    tokens = reading.tokens
    found = [token for token in tokens if token.key in _NEGATION]
    if found and len(tokens) > 2 and tokens[1] is found[0] and found[0].value == "starts":
        plain = tokens[0].key in english.RHETORICAL or tokens[2].key in english.PRONOUNS
        return found[1:] if plain else found
    return found


def _asks_why(reading: Reading) -> bool:
    return any(token.key in ("why", "为什么") for token in reading.tokens)


def _quantifiers(sides: _Sides) -> Iterator[_Finding]:
    mine, other = _of(sides.ours, _QUANTIFIERS), _of(sides.theirs, _QUANTIFIERS)
    for token, name in mine:
        for twin, their_name in other:
            if name != their_name:
                yield _Finding(Kind.QUANTIFIER, [token], [twin])
                return
    only = [[token for token, name in side if name == "only"] for side in (mine, other)]
    if bool(only[0]) != bool(only[1]):
        yield _Finding(Kind.QUANTIFIER, only[0][:1], only[1][:1])
    ours, theirs = _of(sides.ours, _BOUNDS), _of(sides.theirs, _BOUNDS)
    if ours and theirs and ours[0][1] != theirs[0][1]:
        yield _Finding(Kind.QUANTIFIER, [ours[0][0]], [theirs[0][0]])


def _of(tokens: Iterable[Token], table: dict[str, str]) -> list[tuple[Token, str]]:
    return [(token, table[token.key]) for token in tokens if token.key in table]


def _order(sides: _Sides) -> Iterator[_Finding]:
    found = exchanged([t.key for t in sides.a.tokens], [t.key for t in sides.b.tokens])
    if found is not None:
        one, other = (Token(part, "f", part) for part in found)
        yield _Finding(Kind.ORDER, [one], [other])


def _text(tokens: Sequence[Token]) -> str:
    return " ".join(token.text for token in tokens)


_RULES = (_numbers, _units, _classes, _entities, _identifiers, _quantifiers, _opposites, _negation, _order)
# How many other words of content the fuller text may have beyond the other: with more, real paraphrases go first.
_REST = dict.fromkeys(Kind, 0) | {
    Kind.NUMBER: 1,
    Kind.DATE: 1,
    Kind.LANGUAGE: 3,
    Kind.UNIT: 2,
    Kind.IDENTIFIER: 1,
    Kind.ORDER: 2,
}
