"""Stemmer and synonyms: the key by which a word is compared, its stem or the class and name of what it means. Pure."""

from __future__ import annotations

from functools import lru_cache

from exp_pool.reuse.guard import chinese, english
from exp_pool.reuse.guard.quantities import CHINESE_UNITS, ONLY_BEHIND_NUMBERS, UNITS

CLASS_OF: dict[str, str] = {}  # key to class
ALIASES: dict[str, str] = {}  # written to key


def _learn(classes: dict[str, str]) -> None:
    for name, members in classes.items():
        for member in members.split():
            names = member.split("=")
            first = names[0] or names[1]
            key = f"{name}:{first}"
            CLASS_OF[key] = name
            for alias in names:
                if alias and not alias.endswith("_"):
                    ALIASES.setdefault(alias, key)


_learn(english.CLASSES)
_learn(chinese.CLASSES)
MONTH_OF = {alias: number for number, names in enumerate(english.MONTHS, 1) for alias in names.split("=")}

for _name, (_first, _dimension, _factor) in UNITS.items():
    if _name not in ONLY_BEHIND_NUMBERS and _name.isalpha():
        ALIASES.setdefault(_name, f"unit:{_first}")
_OPPOSITE_WORDS = {word for pair in chinese.OPPOSITES for word in pair}
KNOWN = (
    {word for word in ALIASES if word > "\u2fff"}
    | chinese.FUNCTION
    | chinese.NEGATION
    | chinese.NEUTRAL
    | _OPPOSITE_WORDS
    | set(chinese.QUANTIFIERS)
    | set(chinese.BOUNDS)
    | CHINESE_UNITS
    | set(chinese.SYNONYMS)
    | {word for word in chinese.NAME_ENDINGS if len(word) > 1}
    | {word for word in chinese.SET_PHRASES if len(word) > 1}
    | chinese.ORDERING
    | chinese.SYMMETRIC
)
LONGEST_WORD = max(map(len, KNOWN))


@lru_cache(maxsize=8192)
def key_and_kind(word: str) -> tuple[str, str]:
    """Key and kind of a word in lower case."""
    return (english.CONTRACTED.get(word, word), "f") if word in english.FUNCTION else (stem(word), "w")


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """A light stem of an English word in lower case, or the class and name of what it names."""
    found = _stem(word)
    return word if found in _SHORT_WORDS else found  # notes are no "not"


_SHORT_WORDS = english.FUNCTION | english.NEGATION


def _stem(word: str) -> str:
    if word in ALIASES:
        return ALIASES[word]
    word = english.IRREGULAR.get(word, word)
    if len(word) > 64:
        return word
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        if word.endswith("ies") and len(word) > 4:
            word = word[:-3] + "y"
        elif word.endswith(("sses", "xes", "ches", "shes", "zes")):
            word = word[:-2]
        else:
            word = word[:-1]
    if word in ALIASES:
        return ALIASES[word]
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            base = word[: -len(ending)]
            if not any(c in "aeiouy" for c in base):
                break
            word = base[:-1] if len(base) > 3 and base[-1] == base[-2] and base[-1] not in "lsz" else base
            break
    if len(word) > 5 and word.endswith("ly"):
        word = word[:-2]
    if word.endswith("our") and len(word) > 4:
        word = word[:-3] + "or"
    if word.endswith("e") and len(word) > 3:
        word = word[:-1]
    if word.endswith("is") and len(word) > 5:  # organise, organize
        word = word[:-2] + "iz"
    if word.endswith("tr") and len(word) > 4:  # centre, center; metre, meter
        word = word[:-2] + "ter"
    return english.IRREGULAR.get(word, word)
