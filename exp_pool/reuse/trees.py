"""The chance that a stored answer is wrong for a request, learned from labelled pairs. Pure.

Gradient-boosted trees (scikit-learn, which sentence-transformers brings): on 20,198 labelled questions they answered
1.2 times as many as the best threshold of the similarity, at the same rate of wrong answers; logistic regression 1.05.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_FOLDS = 4  # each label is predicted by trees that have not seen it; a new pair by the mean of all
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
class _Flat:
    """The nodes of all trees behind each other: one pair goes down all trees at once, which takes 0.1 ms, not 12."""

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    depth: int
    bases: np.ndarray  # (folds,)

    def log_odds(self, rows: np.ndarray) -> np.ndarray:
        """(n, folds) from (n, features)."""
        import numpy as np

        at = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
        which = np.arange(len(rows))[:, None]
        for _ in range(self.depth):
            at = np.where(rows[which, self.feature[at]] <= self.threshold[at], self.left[at], self.right[at])
        odds: np.ndarray = self.value[at].reshape(len(rows), len(self.bases), -1).sum(axis=2) + self.bases
        return odds


@dataclass(frozen=True, slots=True)
class Model:
    """What was learned. `flat` None: every pair has the same chance, `constant`."""

    constant: float
    flat: _Flat | None = None
    slow: tuple[Any, ...] = ()

    def chances(self, rows: Sequence[Sequence[float]] | np.ndarray) -> list[float]:
        """Of each pair (its `features`) the chance, 0 to 1, that its stored answer is wrong."""
        import numpy as np

        if self.flat is not None:
            odds = self.flat.log_odds(np.asarray(rows, dtype=float))
            return [float(chance) for chance in (1 / (1 + np.exp(-odds))).mean(axis=1)]
        if self.slow:
            given = np.asarray(rows, dtype=float)
            return [float(c) for c in np.mean([m.predict_proba(given)[:, 1] for m in self.slow], axis=0)]
        return [self.constant] * len(rows)


def fit(rows: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> tuple[Model, np.ndarray]:
    """What these labelled pairs teach, and the chance of each as predicted by what was learned without it.

    Args:
        rows: (n, features).
        wrong: (n,) 0 or 1.
        weights: (n,) one over the chance that the pair was labelled.
    """
    import numpy as np

    few = min(wrong.sum(), len(wrong) - wrong.sum()) < _FEWEST
    if few:
        constant = (float((wrong * weights).sum()) + 1) / (float(weights.sum()) + 2)
        return Model(constant), np.full(len(wrong), constant)
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    fold = np.arange(len(wrong)) % _FOLDS
    unseen = np.empty(len(wrong))
    models = []
    with threadpool_limits(limits=1):  # beside the calls of an application: one core, no threads that a fork would lose
        for number in range(_FOLDS):
            # Repeated, not weighted: with weights, scikit-learn spends three quarters of the time on percentiles.
            others = np.repeat(np.flatnonzero(fold != number), np.rint(weights[fold != number]).astype(int))
            model = HistGradientBoostingClassifier(random_state=0, **_SETTINGS)
            model.fit(rows[others], wrong[others])
            unseen[fold == number] = model.predict_proba(rows[fold == number])[:, 1]
            models.append(model)
        return _flattened(models, rows[:: max(1, len(rows) // 200)]), unseen


def _flattened(models: list[Any], probe: np.ndarray) -> Model:
    """The models as one; slow, if scikit-learn keeps its trees in another way than it did from 1.0 to 1.9."""
    import numpy as np

    slow = Model(0.5, None, tuple(models))
    try:
        nodes, roots, offset = [], [], 0
        for model in models:
            for (predictor,) in model._predictors:  # noqa: SLF001  (checked below against what it predicts itself)
                nodes.append(predictor.nodes)
                roots.append(offset)
                offset += len(predictor.nodes)
        shift = np.repeat(roots, [len(tree) for tree in nodes])
        every = np.concatenate(nodes)
        leaf, itself = every["is_leaf"].astype(bool), np.arange(offset)
        flat = _Flat(
            roots=np.array(roots),
            feature=np.where(leaf, 0, every["feature_idx"]),
            threshold=np.where(leaf, np.inf, every["num_threshold"]),
            left=np.where(leaf, itself, every["left"] + shift),
            right=np.where(leaf, itself, every["right"] + shift),
            value=np.where(leaf, every["value"], 0.0),
            depth=int(every["depth"].max()),
            bases=np.array([float(np.ravel(model._baseline_prediction)[0]) for model in models]),  # noqa: SLF001
        )
        quick = Model(0.5, flat)
        if np.allclose(quick.chances(probe), slow.chances(probe), atol=1e-6):
            return quick
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        pass
    return slow
