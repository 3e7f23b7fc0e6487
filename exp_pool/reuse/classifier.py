"""Classifier of pairs: the chance that a stored answer is wrong for a request. Trees on a model of words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exp_pool.reuse import boosted_trees, wording_model
from exp_pool.reuse.pair_features import PairFeatures

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class PairClassifier:
    """A fitted classifier: the model of words, and the trees that read its log-odds and all other features."""

    coefficients: np.ndarray
    trees: boosted_trees.TreeModel

    def chances(self, pairs: Sequence[PairFeatures]) -> list[float]:
        """The chance, 0 to 1, that the stored answer is wrong, for each pair."""
        return self.trees.chances(
            [(*pair.numbers, wording_model.log_odds(self.coefficients, pair.wording)) for pair in pairs]
        )


def fit(pairs: Sequence[PairFeatures], wrong: np.ndarray, weights: np.ndarray) -> tuple[PairClassifier, np.ndarray]:
    """A classifier fitted to labelled pairs, and the chance of each pair by one fitted without it (cross-validation).

    The trees learn from log-odds of the words that were fitted without the pair, or they would trust them too much
    (stacked generalization: Wolpert, 1992).

    Args:
        pairs: n.
        wrong: (n,) 0 or 1.
        weights: (n,) one over the chance that the pair was labelled.
    """
    import numpy as np

    coefficients, unseen = wording_model.learn([pair.wording for pair in pairs], wrong, weights)
    rows = np.column_stack([np.array([pair.numbers for pair in pairs]), unseen])
    grown, chances = boosted_trees.fit(rows, wrong, weights)
    return PairClassifier(coefficients, grown), chances
