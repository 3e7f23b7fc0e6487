"""English words that the guard knows: those that carry no content, opposites, quantifiers, classes of names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from exp_pool.reuse.guard.word_lists import by_word, contraries, exchanged, load, numbered

_LISTS = load("english")

FUNCTION = frozenset(_LISTS["function"].split())
NEGATION = frozenset(_LISTS["negation"].split())
NEGATIVE = frozenset(_LISTS["negative"].split())
NEGATING = frozenset(_LISTS["negating"].split())
RHETORICAL = frozenset(_LISTS["rhetorical"].split())
PRONOUNS = frozenset(_LISTS["pronouns"].split())
IRREGULAR = by_word(_LISTS["irregular"])
QUANTIFIERS = by_word(_LISTS["quantifiers"])
PHRASES = {tuple(words.split()): word for words, word in _LISTS["phrases"].items()}
BOUNDS = by_word(_LISTS["bounds"])
CLASSES: dict[str, str] = _LISTS["classes"]
VERSIONS = frozenset(_LISTS["versions"].split())
MONTHS = _LISTS["months"].split()
NUMBERS = numbered(_LISTS["numbers"])
HARDLY_NUMBERS = frozenset(_LISTS["hardly_numbers"].split())
SCALES = numbered(_LISTS["scales"])
AFTER_SUBJECT = frozenset(_LISTS["after_subject"].split())
ORDERING = frozenset(_LISTS["ordering"].split())
BEHIND_LETTERS = frozenset(_LISTS["behind_letters"].split())
SYMMETRIC = frozenset(_LISTS["symmetric"].split())
PREFIXES = numbered(_LISTS["prefixes"])
EXCHANGED_PREFIXES = exchanged(_LISTS["exchanged_prefixes"])
EXCHANGED_ENDINGS = exchanged(_LISTS["exchanged_endings"])
IN_PLACE = tuple(contraries(_LISTS["in_place"]))
DETERMINERS = frozenset(_LISTS["determiners"].split())
ARTICLES = frozenset(_LISTS["articles"].split())
ORIGIN = frozenset(_LISTS["origin"].split())
TARGET = frozenset(_LISTS["target"].split())
ASKING = frozenset(_LISTS["asking"].split())
PASSIVE = frozenset(_LISTS["passive"].split())
BEFORE_MONTHS = frozenset(_LISTS["before_months"].split())
LIKE_MONTHS = frozenset(_LISTS["like_months"].split())
ORDINALS = frozenset(_LISTS["ordinals"].split())
NAMES_IN_CAPITALS = frozenset(_LISTS["names_in_capitals"].split())
BEFORE_NOT = dict(pair.split("=") for pair in _LISTS["before_not"].split())
BEHIND_APOSTROPHES = frozenset(_LISTS["behind_apostrophes"].split())
CONTRACTED = by_word(_LISTS["contracted"])
ROLES = by_word(_LISTS["roles"])
LISTING = frozenset(_LISTS["listing"].split())
_GRADED = frozenset(_LISTS["graded"].split())


def opposites(stem: Callable[[str], str]) -> dict[str, frozenset[str]]:
    """The opposites of each word that has some; all words by their stems."""
    found: dict[str, set[str]] = {}
    for one, other in contraries(_LISTS["opposites"]):
        for first in _degrees(one):
            for second in _degrees(other):
                found.setdefault(stem(first), set()).add(stem(second))
                found.setdefault(stem(second), set()).add(stem(first))
    return {word: frozenset(others - {word}) for word, others in found.items()}


def _degrees(word: str) -> Iterable[str]:
    """The word, and where it can be compared its comparative and superlative."""
    yield word
    if word in _GRADED:
        base = word.removesuffix("e") if not word.endswith("y") else word[:-1] + "i"
        doubled = base + base[-1] if word in {"big", "hot", "thin"} else base
        yield from (doubled + "er", doubled + "est")
