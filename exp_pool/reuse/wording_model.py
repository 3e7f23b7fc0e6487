"""Model of words: which of them tell that a stored answer is wrong, learned from labelled pairs. Pure.

Logistic regression (scikit-learn's liblinear) on the words that two texts share and those that only one has. What it
says of a pair is one more number for the trees, which cannot learn from thousands of words themselves. On 20,198
labelled questions the two together answered 12.0%, 17.9% and 29% at 1, 2 and 5% wrong, trees alone 10.1, 15.8 and 27;
where no question of those that are judged, nor a chain of pairs to it, had been learned from, 10.5, 16.4 and 28
against 10.1, 15.4 and 27 (means of two halves). 4,096 buckets, single words and a `_C` of 0.05 to 0.3 were within 5%
of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from exp_pool.reuse.pair_features import BUCKETS

if TYPE_CHECKING:
    import numpy as np
    from scipy.sparse import csr_matrix

_C = 0.1
_FOLDS = 4


def learn(wordings: Sequence[Sequence[int]], wrong: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much each bucket speaks for a wrong answer, and what that says of each pair, learned without it.

    Args:
        wordings: of n pairs, `PairFeatures.wording`.
        wrong: (n,) 0 or 1.
        weights: (n,) how often each pair counts.

    Returns:
        (BUCKETS + 1,) log-odds, the last for any pair; (n,) log-odds.
    """
    import numpy as np
    from scipy.sparse import csr_matrix

    ends = np.cumsum([0, *map(len, wordings)])
    columns = np.fromiter((bucket for wording in wordings for bucket in wording), dtype=np.int32, count=ends[-1])
    rows = csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(wordings), BUCKETS))
    fold, unseen = np.arange(len(wrong)) % _FOLDS, np.empty(len(wrong))
    for number in range(_FOLDS):
        kept, left_out = fold != number, fold == number
        coefficients = _fitted(rows[kept], wrong[kept], weights[kept])
        unseen[left_out] = rows[left_out] @ coefficients[:-1] + coefficients[-1]
    return _fitted(rows, wrong, weights), unseen


def _fitted(rows: csr_matrix, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    if wrong.min() == wrong.max():
        return np.zeros(BUCKETS + 1)
    model = LogisticRegression(C=_C, solver="liblinear", random_state=0).fit(rows, wrong, weights)
    coefficients: np.ndarray = np.append(model.coef_[0], model.intercept_)
    return coefficients


def log_odds(coefficients: np.ndarray, wording: Sequence[int]) -> float:
    """What the words of a pair say by themselves."""
    return float(coefficients[[*wording, BUCKETS]].sum())
