"""Gradient-boosted trees: the chance that a stored answer is wrong, learned from the features of labelled pairs. Pure.

They are scikit-learn's (scikit-learn, which sentence-transformers brings): on 20,198 labelled questions they answered
1.2 times as many as the best threshold of the similarity, at the same rate of wrong answers; logistic regression 1.05.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Each label is predicted by trees that have not seen it; a new pair by trees that have seen all. The mean of the four
# would be as good, but less sure of itself than each: a limit set by what one says would let fewer pass than was meant.
_FOLDS = 4
_FEWEST = 8  # of each kind, or the trees would learn names by heart
_SETTINGS = {
    "max_iter": 100,
    "learning_rate": 0.06,
    "max_leaf_nodes": 12,
    "min_samples_leaf": 15,
    "l2_regularization": 1.0,
    "early_stopping": False,
}


@dataclass(frozen=True, slots=True)
class _FlatTrees:
    """The nodes of all trees in one array each: one pair goes down all trees at once, which takes 0.1 ms, not 3."""

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    depth: int
    base: float

    def log_odds(self, rows: np.ndarray) -> np.ndarray:
        """Log-odds (n,) of rows (n, features)."""
        import numpy as np

        at = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
        which = np.arange(len(rows))[:, None]
        for _ in range(self.depth):
            at = np.where(rows[which, self.feature[at]] <= self.threshold[at], self.left[at], self.right[at])
        odds: np.ndarray = self.value[at].sum(axis=1) + self.base
        return odds


@dataclass(frozen=True, slots=True)
class TreeModel:
    """Fitted trees.

    Attributes:
        constant: the chance of every pair, where there were too few labels to fit trees.
        flat: the trees, quick; None: see the others.
        slow: scikit-learn's own model, where its trees cannot be read.
    """

    constant: float
    flat: _FlatTrees | None = None
    slow: Any = None

    def chances(self, rows: Sequence[Sequence[float]] | np.ndarray) -> list[float]:
        """The chance, 0 to 1, that the stored answer is wrong, for each pair (a row of its features)."""
        import numpy as np

        if self.flat is not None:
            odds = self.flat.log_odds(np.asarray(rows, dtype=float))
            return [float(chance) for chance in 1 / (1 + np.exp(-odds))]
        if self.slow is not None:
            given = np.asarray(rows, dtype=float)
            return [float(chance) for chance in self.slow.predict_proba(given)[:, 1]]
        return [self.constant] * len(rows)


def fit(rows: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> tuple[TreeModel, np.ndarray]:
    """Trees fitted to labelled pairs, and the chance of each pair by trees fitted without it (cross-validation).

    Args:
        rows: (n, features).
        wrong: (n,) 0 or 1.
        weights: (n,) one over the chance that the pair was labelled.
    """
    import numpy as np

    few = min(wrong.sum(), len(wrong) - wrong.sum()) < _FEWEST
    if few:
        constant = (float((wrong * weights).sum()) + 1) / (float(weights.sum()) + 2)
        return TreeModel(constant), np.full(len(wrong), constant)
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    fold = np.arange(len(wrong)) % _FOLDS
    # Repeated, not weighted: with weights, scikit-learn spends three quarters of the time on percentiles.
    times = np.rint(weights).astype(int)
    unseen = np.empty(len(wrong))

    def fitted(chosen: np.ndarray) -> Any:
        places = np.repeat(chosen, times[chosen])
        return HistGradientBoostingClassifier(random_state=0, **_SETTINGS).fit(rows[places], wrong[places])

    with threadpool_limits(limits=1):  # beside the calls of an application: one core, no threads that a fork would lose
        for number in range(_FOLDS):
            left_out = fold == number
            unseen[left_out] = fitted(np.flatnonzero(~left_out)).predict_proba(rows[left_out])[:, 1]
        return _flattened(fitted(np.arange(len(wrong))), rows[:: max(1, len(rows) // 200)]), unseen


def _flattened(model: Any, probe: np.ndarray) -> TreeModel:
    """The model in flat arrays; scikit-learn's own if that keeps its trees in another way than from 1.0 to 1.9."""
    import numpy as np

    slow = TreeModel(0.5, None, model)
    try:
        nodes, roots, offset = [], [], 0
        for (predictor,) in model._predictors:  # noqa: SLF001  (checked below against what it predicts itself)
            nodes.append(predictor.nodes)
            roots.append(offset)
            offset += len(predictor.nodes)
        shift = np.repeat(roots, [len(tree) for tree in nodes])
        every = np.concatenate(nodes)
        leaf, itself = every["is_leaf"].astype(bool), np.arange(offset)
        flat = _FlatTrees(
            roots=np.array(roots),
            feature=np.where(leaf, 0, every["feature_idx"]),
            threshold=np.where(leaf, np.inf, every["num_threshold"]),
            left=np.where(leaf, itself, every["left"] + shift),
            right=np.where(leaf, itself, every["right"] + shift),
            value=np.where(leaf, every["value"], 0.0),
            depth=int(every["depth"].max()),
            base=float(np.ravel(model._baseline_prediction)[0]),  # noqa: SLF001
        )
        quick = TreeModel(0.5, flat)
        if np.allclose(quick.chances(probe), slow.chances(probe), atol=1e-6):
            return quick
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        pass
    return slow
