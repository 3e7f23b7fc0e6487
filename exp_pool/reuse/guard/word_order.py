"""Rule on word order: the same words in exchanged places, "from A to B" against "from B to A". Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from exp_pool.reuse.guard import chinese, english

_LONGEST = 60  # tokens between the common beginning and end of two texts: longer ones are no single exchange
_ROLES, _ARTICLES, _PASSIVE, _ASKING = english.ROLES, english.ARTICLES, english.PASSIVE, english.ASKING
_SYMMETRIC = english.SYMMETRIC | chinese.SYMMETRIC
_ORDERING = english.ORDERING | chinese.ORDERING
_ORIGIN = english.ORIGIN | chinese.ORIGIN
_TARGET = english.TARGET | chinese.TARGET


def exchanged(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, str] | None:
    """The two parts that have changed places, where the order means something; None if none have.

    Either the texts are P X M Y S and P Y M X S, M being more than "and"; or X stands before and Y behind a word that
    sets an order ("to", "than", "before", "-") in one text, and the other way round in the other; or the one that does
    it in one text is the one to whom it is done in the other ("who hired Bob", "who did Bob hire", "was Bob hired by").
    """
    ours = [_ROLES.get(key, key) for key in ours if key not in _ARTICLES]
    theirs = [_ROLES.get(key, key) for key in theirs if key not in _ARTICLES]
    return (
        _swapped(ours, theirs)
        or _around(ours, theirs)
        or _roles(ours, theirs)
        or _asked(ours, theirs)
        or _done(ours, theirs)
    )


def _swapped(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, str] | None:
    if len(ours) != len(theirs):
        return None
    start, end = 0, len(ours)
    while start < end and ours[start] == theirs[start]:
        start += 1
    while end > start and ours[end - 1] == theirs[end - 1]:
        end -= 1
    mine, other = list(ours[start:end]), list(theirs[start:end])
    size = len(mine)
    if not 2 < size <= _LONGEST or sorted(mine) != sorted(other):
        return None
    for x in range(1, size - 1):
        if mine[:x] != other[size - x :]:
            continue
        for y in range(1, size - x):
            middle = mine[x : size - y]
            if mine[size - y :] != other[:y] or middle != other[y : size - x]:
                continue
            # "match fixing and spot fixing" is "spot fixing and match fixing"
            between = [key for key in middle if key not in _SYMMETRIC]
            listed = len(between) < len(middle) and list(ours[end : end + len(between)]) == between
            if between and not listed:
                return " ".join(mine[:x]), " ".join(mine[size - y :])
    return None


def _around(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, str] | None:
    mine = _pairs(ours)
    if not mine:
        return None
    for marker, before, after in _pairs(theirs):
        if before != after and (marker, after, before) in mine:
            return after, before
    return None


def _pairs(keys: Sequence[str]) -> set[tuple[str, str, str]]:
    return {
        (keys[at], keys[at - 1], keys[at + 1])
        for at in range(1, len(keys) - 1)
        if keys[at] in _ORDERING and not _PLAIN.intersection((keys[at - 1], keys[at + 1]))
    }


_PLAIN = english.FUNCTION | chinese.FUNCTION


def _roles(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, str] | None:
    """From X and to Y, in any place, against from Y and to X."""
    mine, other = _ends(ours), _ends(theirs)
    if mine and other and mine != other and mine == (other[1], other[0]):
        return mine
    return None


def _ends(keys: Sequence[str]) -> tuple[str, str] | None:
    if _ORIGIN.isdisjoint(keys):
        return None
    origin = target = None
    for marker, following in pairwise(keys):
        if following in _PLAIN:
            continue
        if marker in _ORIGIN and origin is None:
            origin = following
        elif marker in _TARGET and (target is None or (origin is not None and target == origin)):
            target = following
    return (origin, target) if origin and target and origin != target else None


def _asked(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, str] | None:
    """Who V X, against who did X V: "who hired Bob", "who did Bob hire"."""
    if abs(len(ours) - len(theirs)) != 1:
        return None
    longer, shorter = (ours, theirs) if len(ours) > len(theirs) else (theirs, ours)
    at = next((at for at in range(1, len(longer)) if longer[at] == "do" and longer[at - 1] in _ASKING), None)
    if at is None or list(longer[:at]) != list(shorter[:at]):
        return None
    question, statement = list(longer[at + 1 :]), list(shorter[at:])
    if not 1 < len(question) <= _LONGEST or sorted(question) != sorted(statement):
        return None
    for turn in range(1, len(question)):  # what stands before "do" in the one stands behind the verb in the other
        kept = len(question) - turn
        if question[turn : turn + kept] + question[:turn] == statement:
            return " ".join(statement), " ".join(question)
        if question[turn : turn + 1] + question[:turn] + question[turn + 1 :] == statement:
            return " ".join(statement[: turn + 1]), " ".join(question[: turn + 1])
    return None


def _done(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, str] | None:
    """X was V by Y, against X V Y: the passive of one text against the active of the other."""
    if ("by" in ours) == ("by" in theirs):
        return None
    passive, active = (ours, theirs) if "by" in ours else (theirs, ours)
    if _PASSIVE.isdisjoint(passive) or not _PASSIVE.isdisjoint(active):
        return None
    if [key for key in passive if key not in _PASSIVE and key != "by"] != [key for key in active if key != "do"]:
        return None
    at = passive.index("by")
    return (passive[at + 1], passive[at - 1]) if 0 < at < len(passive) - 1 else None
