"""Features of a pair of requests: the words that they share, those that they do not, similarity. Pure: no model.

A corpus would say which words are rare. It would also have to be kept for each function, forgotten with what is deleted
and shared between processes, and on 20,198 labelled questions it answered 2% more: length stands in for it. Which words
matter is learned from the labels (`wording_model`).
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import regex

from exp_pool.core.tokenizer import words
from exp_pool.reuse.boilerplate import without_boilerplate

if TYPE_CHECKING:
    from exp_pool.reuse.guard import Difference

_STOP_WORDS = frozenset(
    "a an and are as at be been being but by can could did do does doing for from get got had has have having he her "
    "him his how i if in into is it its just like may me might more most my of on one or our out over shall she should "
    "so some such than that the their them then there these they this those to too under until up us very was we were "
    "what when where which while who whom whose why will with would you your s t re ve ll d m".split()
)
_KINDS = 13  # of differences: `guard.DifferenceKind`, which takes its word lists with it
_DIGITS = regex.compile(r"\p{N}+")
_LONGEST = 2000  # characters of each text that are looked at
_LIGHT, _UNSPACED, _LETTER, _LONG = 0.2, 1.5, 0.1, 12
BUCKETS = 2**15
_MOST = 256  # buckets of a pair that are kept: the lowest, so of two long texts the same words


class PairFeatures(NamedTuple):
    """What is known of a pair (request, stored).

    Attributes:
        numbers: 51, the cosine similarity first, what the guard found last.
        wording: which words, and which two words in a row, both texts have, and which only one has, as numbers below
            `BUCKETS`, rising. A vocabulary shares them (feature hashing: Weinberger and others, 2009), so they do not
            say which words these are.
    """

    numbers: Sequence[float]
    wording: Sequence[int] = ()


def pair_features(request: str, stored: str, similarity: float, differences: Sequence[Difference]) -> PairFeatures:
    """The features of a pair. About 0.2 ms for two questions.

    Args:
        request: the text that is asked.
        stored: the text of the stored request.
        similarity: their cosine, -1 to 1.
        differences: what the guard found in which they differ.
    """
    found = [0.0] * (2 * _KINDS)
    for difference in differences:
        found[2 * difference.kind.place + (not difference.vetoes)] += 1
    request, stored = without_boilerplate(request, stored) or (request, stored)
    request, stored = request[:_LONGEST], stored[:_LONGEST]
    left, right = words(request), words(stored)
    lefts, rights = set(left), set(right)
    both, only_left, only_right = lefts & rights, lefts - rights, rights - lefts
    shared = sum(map(_weight, both))
    first_left, second_left, sum_left = _heaviest(only_left)
    first_right, second_right, sum_right = _heaviest(only_right)
    numbers = (
        similarity,
        _share(lefts, rights),
        len(both) / max(1, len(lefts)),
        len(both) / max(1, len(rights)),
        shared / ((shared + sum_left + sum_right) or 1),
        len(only_left),
        len(only_right),
        first_left,
        second_left,
        sum_left,
        first_right,
        second_right,
        sum_right,
        min(first_left, first_right),
        max(first_left, first_right),
        _share(set(itertools.pairwise(left)), set(itertools.pairwise(right))),
        _share(_grams(request), _grams(stored)),
        left[:1] == right[:1],
        left[-1:] == right[-1:],
        len(left),
        len(right),
        abs(len(left) - len(right)),
        len(set(_DIGITS.findall(request)) ^ set(_DIGITS.findall(stored))),
        sum(word in _STOP_WORDS for word in only_left | only_right),
        max((difference.rest for difference in differences), default=-1),
        *found,
    )
    return PairFeatures(numbers, _wording(left, right))


def _wording(left: Sequence[str], right: Sequence[str]) -> tuple[int, ...]:
    lefts, rights = set(_phrases(left)), set(_phrases(right))
    found = {*_buckets(lefts & rights, 0), *_buckets(lefts ^ rights, 1)}
    return tuple(sorted(found)[:_MOST])


def _phrases(text: Sequence[str]) -> Iterator[str]:
    yield from text
    yield from map(" ".join, itertools.pairwise(text))


def _buckets(phrases: Iterable[str], kind: int) -> Iterator[int]:
    for phrase in phrases:
        yield zlib.crc32(phrase.encode("utf-8", "surrogatepass")) % (BUCKETS // 2) * 2 + kind


def _weight(word: str) -> float:
    """How much a word says: little where it is glue, more where it is long."""
    if word in _STOP_WORDS:
        return _LIGHT
    return 1 + _LETTER * min(len(word), _LONG) if word.isascii() else _UNSPACED


def _heaviest(found: Collection[str]) -> tuple[float, float, float]:
    weights = sorted(map(_weight, found), reverse=True)
    first, second, *_ = (*weights, 0.0, 0.0)
    return first, second, sum(weights)


def _share(left: Collection[object], right: Collection[object]) -> float:
    both = len(set(left) & set(right))
    return both / max(1, len(left) + len(right) - both)


def _grams(text: str) -> set[str]:
    padded = f" {text.casefold()} "
    return {padded[start : start + 3] for start in range(len(padded) - 2)}
