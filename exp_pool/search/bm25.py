"""BM25 (Robertson, Zaragoza: The Probabilistic Relevance Framework, 2009), with Lucene's inverse document frequency.

A word's part in the score of a text: ``rarity * count / (count + damping)``. Pure.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np

Lengths = TypeVar("Lengths", float, np.ndarray)

_SATURATION, _LENGTH = 1.2, 0.75  # k1 and b, as everybody has them


def rarity(texts: int, containing: int) -> float:
    """How much a word counts that stands in `containing` of so many texts. Never negative."""
    return math.log(1 + (texts - containing + 0.5) / (containing + 0.5))


def damping(lengths: Lengths, mean: float) -> Lengths:
    """How much the counts of words are held down in texts of these lengths; the mean length makes it k1."""
    damped: Lengths = _SATURATION * (1 - _LENGTH + _LENGTH * lengths / mean)
    return damped
