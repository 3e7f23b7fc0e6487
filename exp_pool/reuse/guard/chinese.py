"""Chinese words that the guard knows: negation, opposites, quantifiers, names of places; and simplified for traditional."""

from __future__ import annotations

from exp_pool.reuse.guard.word_lists import by_word, contraries, load, numbered

_LISTS = load("chinese")

FUNCTION = frozenset(_LISTS["function"].split())
SYNONYMS = by_word(_LISTS["synonyms"])
NEGATION = frozenset(_LISTS["negation"].split())
NEUTRAL = frozenset(_LISTS["neutral"].split())
OPPOSITES = tuple(contraries(_LISTS["opposites"]))
QUANTIFIERS = by_word(_LISTS["quantifiers"])
BOUNDS = by_word(_LISTS["bounds"])
CLASSES: dict[str, str] = _LISTS["classes"]
SURNAMES = frozenset(_LISTS["surnames"])
NAME_ENDINGS = tuple(_LISTS["name_endings"].split())
DIGITS = numbered(_LISTS["digits"])
SCALES = numbered(_LISTS["scales"])
MYRIADS = numbered(_LISTS["myriads"])
SET_PHRASES = frozenset(_LISTS["set_phrases"].split())
ORDERING = frozenset(_LISTS["ordering"].split())
SYMMETRIC = frozenset(_LISTS["symmetric"].split())
IN_PLACE = tuple(contraries(_LISTS["in_place"]))
ORIGIN = frozenset(_LISTS["origin"].split())
TARGET = frozenset(_LISTS["target"].split())
FORENOON = tuple(_LISTS["forenoon"].split())
NOON: str = _LISTS["noon"]
AFTERNOON = tuple(_LISTS["afternoon"].split())
SIMPLIFIED = str.maketrans(_LISTS["simplified"]["from"], _LISTS["simplified"]["to"])
