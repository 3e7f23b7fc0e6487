"""Antonyms: from the lists, and by how words are formed (safe, unsafe; login, logout). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from exp_pool.reuse.guard import chinese, english
from exp_pool.reuse.guard.lexicon import key_and_kind


def _key(word: str) -> str:
    return key_and_kind(word)[0]


def _listed() -> dict[str, frozenset[str]]:
    found = english.opposites(_key)
    for pair in chinese.OPPOSITES:
        one, other = (chinese.SYNONYMS.get(word, word) for word in pair)
        found[one] = found.get(one, frozenset()) | {other}
        found[other] = found.get(other, frozenset()) | {one}
    return found


_LISTED = _listed()
_SHORTEST = 3  # letters behind a prefix that makes the contrary
_PREFIXES = english.PREFIXES
_EXCHANGED = english.EXCHANGED_PREFIXES
_ENDINGS = english.EXCHANGED_ENDINGS
_STARTS = tuple(dict.fromkeys((*_PREFIXES, *(part for pair in _EXCHANGED for part in pair))))
_ENDS = tuple(dict.fromkeys(part for pair in _ENDINGS for part in pair))


def opposite_in(key: str, others: Collection[str]) -> str | None:
    """One of the other words that says the contrary of this one, if there is one."""
    listed = _LISTED.get(key)
    if listed and (found := sorted(other for other in listed if other in others)):
        return found[0]
    return next((word for word in _formed(key) if word in others), None)


def are_opposites(one: str, other: str) -> bool:
    """Whether they say the contrary of each other."""
    return opposite_in(one, (other,)) is not None or opposite_in(other, (one,)) is not None


def _formed(key: str) -> Iterator[str]:
    """Words that would say the contrary, where this one has a prefix or an ending that another stands against."""
    if key.startswith(_STARTS):
        for prefix, shortest in _PREFIXES.items():
            if key.startswith(prefix) and len(key) >= len(prefix) + shortest:
                yield key[len(prefix) :]
        for one, other in _EXCHANGED:
            if key.startswith(one) and len(key) >= len(one) + _SHORTEST:
                yield other + key[len(one) :]
    if key.endswith(_ENDS):
        for one, other in _ENDINGS:
            if key.endswith(one) and len(key) >= len(one) + _SHORTEST:
                yield key[: -len(one)] + other
