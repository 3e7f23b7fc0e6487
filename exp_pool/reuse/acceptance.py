"""Acceptance rule of a judge that learns, and how the rule is chosen. Pure.

The rule has the largest predicted chance of error at which the judge may answer, and gives the probability that a pair
is explored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exp_pool.reuse.training_examples import Label

if TYPE_CHECKING:
    import numpy as np

_SEEN = 0.5  # of a wrong answer counts as seen, the rest as predicted
_AIM = 0.95  # of the allowed rate: what is aimed at over any longer stretch, since the aim is missed by a tenth or so
_MARGIN = 1.05  # at the price itself a pair would be worth nothing, and its chance without limit
_COARSE_STEPS = 200


@dataclass(frozen=True, slots=True)
class AcceptanceRule:
    """Which pairs are answered: those whose predicted chance of being wrong is at most `limit`.

    Attributes:
        limit: 0 to 1; below 0: no pair is answered.
        price: the chance at which answering gains nothing: the limit, unless all pairs are within it.
        a: of the bet that says most now, see `bound`.
    """

    limit: float = -1.0
    price: float = 1.0
    a: float = 0.0

    def chances(self, predicted: np.ndarray, least: float) -> np.ndarray:
        """The chance of exploring each pair that would be answered.

        What is not explored costs the bound ``a / 2 * predicted / chance`` for the guess, on average; answering is
        worth ``1 - predicted / price``. The sum over all pairs is least for this chance (Neyman's allocation).
        """
        import numpy as np

        worth = 1 - predicted / (_MARGIN * self.price)
        chances: np.ndarray = np.clip(np.sqrt(self.a / (2 * self.price) * predicted / worth), least, 1.0)
        return chances


NOTHING = AcceptanceRule()
"""The rule by which no pair is answered."""


def chosen(
    predictions: np.ndarray, labels: Sequence[Label], *, rate: float, spend: float, a: float, least_chance: float
) -> AcceptanceRule:
    """The rule that answers most pairs like the labelled ones, within the rate and what may be spent of the bound.

    Args:
        predictions: (n,) of each label its chance of being wrong, as predicted without it.
        labels: n.
        rate: wrong answers per request that are allowed.
        spend: of the bound's room, per request.
        a: of the bet that says most now, see `bound`.
        least_chance: with which a pair that is answered must be explored.
    """
    import numpy as np

    order = np.argsort(predictions)
    predicted = predictions[order]
    weights = np.array([1 / labels[place].example.chance for place in order])
    wrong = np.array([labels[place].wrong for place in order], dtype=float)
    # What was seen is right on average, but hangs on few wrong answers of great weight; predictions are smooth.
    wrong = _SEEN * wrong + (1 - _SEEN) * predicted
    total = weights.sum()

    def rule_for(count: int) -> AcceptanceRule:
        limit = float(predicted[count - 1])
        return AcceptanceRule(limit, 1.0 if count == len(predicted) else limit, a)

    def within(count: int) -> bool:
        explored = rule_for(count).chances(predicted[:count], least_chance)
        answered = weights[:count] * (1 - explored)
        given = float((answered * wrong[:count]).sum() / total)
        guessed = float((answered * predicted[:count] / explored).sum() / total)  # see `AcceptanceRule.chances`
        return given <= _AIM * rate and given + a / 2 * guessed <= spend

    # Not quite rising, so searched from the most careful on: coarsely, then between two steps.
    few, many = 0, len(predicted)
    for count in np.unique(np.linspace(1, len(predicted), _COARSE_STEPS, dtype=int)):
        if not within(int(count)):
            many = int(count) - 1
            break
        few = int(count)
    while few < many:
        middle = (few + many + 1) // 2
        few, many = (middle, many) if within(middle) else (few, middle - 1)
    return rule_for(few) if few else NOTHING
