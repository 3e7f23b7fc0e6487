"""An upper confidence bound on the number of wrong answers, from the few requests that were explored. Pure.

Of the requests that a stored answer would answer, some are explored: they are answered live all the same, by the toss
of a coin whose odds are known. What was found there bounds what was not explored:

A request is explored with chance ``e``; ``u`` was predicted as its chance of being wrong. Let ``a > 0`` with
``(1 - e) exp(a) <= 1``. If it is answered, add 1 to S if the answer is wrong (nobody sees that), and ``a u`` to W.
If it is explored, add ``-ln((1 - (1 - e) exp(a (y - u))) / e)`` to W, where ``y`` is 1 if the stored answer was
wrong, else 0. Either way, whatever ``y`` is, ``exp(a S - W)`` stays the same on average over the coin: it is a
non-negative martingale that begins at 1, whatever the requests are and in whatever order they come. By Ville's
inequality (J. Ville, Étude critique de la notion de collectif, 1939) it ever reaches ``1 / alpha`` with probability at
most ``alpha``: with confidence ``1 - alpha``, at all times at once, ``S < (W + ln(1 / alpha)) / a``. Such martingales
are the bets of Waudby-Smith and Ramdas (Estimating means of bounded random variables by betting, 2024); several ``a``
are mixed, since none is best for every length (H. Robbins, Statistical methods related to the law of the iterated
logarithm, 1970). A good prediction makes the bound tighter, a bad one makes it wider, and neither makes it wrong.

Nothing is assumed about the requests. What is assumed: the coin's odds are as stated, the labels are right, and the
requests whose label is missing (their function raised) are no worse than the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class _Bet:
    """One ``a``, and its share of the mixture."""

    a: float
    share: float

    @property
    def least_chance(self) -> float:
        """The least chance of exploring for which the bet is valid, and a little: one label does not ruin it yet."""
        return -1.1 * math.expm1(-self.a)

    def valid(self, chance: float) -> bool:
        """Whether requests are explored often enough. Where not, those that are answered all count as wrong.

        That is no gain for anybody, either, and happens only with what another version of this module decided.
        """
        return self.least_chance <= chance * (1 + 1e-3)  # of rounding

    def weight(self, chance: float, predicted: float, *, wrong: bool) -> float:
        """What a request that was explored adds to W."""
        if not self.valid(chance):
            return 0.0
        return -math.log(-math.expm1(self.a * (wrong - predicted) + math.log1p(-chance)) / chance)


# From hasty to patient: the first allows answers after few requests, at the price of looking into many, the last wastes
# little once there are a hundred thousand. One is given up once it says no more than those behind it.
_BETS = (_Bet(0.4, 0.15), _Bet(0.14, 0.35), _Bet(0.07, 0.35), _Bet(0.03, 0.15))


@dataclass(slots=True)
class Bound:
    """What is known of the wrong answers in one stream of requests.

    Attributes:
        requests: how many were decided on.
        estimate: about how many wrong answers were given (unbiased).
        given_up: so many of the bets are not used any more; requests may be explored less often than these need.
        weights: W of each bet.
    """

    requests: int = 0
    estimate: float = 0.0
    given_up: int = 0
    weights: list[float] = field(default_factory=lambda: [0.0] * len(_BETS))
    _most: dict[tuple[float, int], float] = field(default_factory=dict)

    @property
    def least_chance(self) -> float:
        """The least chance with which a request that would be answered must be explored."""
        return _BETS[self.given_up].least_chance

    def abstained(self) -> None:
        """A request was not to be answered, so it counts among all requests only."""
        self.requests += 1

    def answered(self, count: int, predicted: float, least_chance: float) -> None:
        """Requests were answered and not explored.

        Args:
            count: how many.
            predicted: the sum of their predicted chances of being wrong.
            least_chance: each could have been explored with at least this chance.
        """
        self.requests += count
        self.estimate += predicted
        self._give_up(least_chance)
        self.weights = [
            weight + bet.a * (predicted if bet.valid(least_chance) else count)
            for weight, bet in zip(self.weights, _BETS, strict=True)
        ]
        self._most = {}  # a new one: a caller may be about to write into the old one what it worked out before

    def explored(self, chance: float, predicted: float, *, wrong: bool) -> None:
        """A request that would have been answered was explored.

        Args:
            chance: with which it was.
            predicted: its predicted chance of being wrong.
            wrong: whether the stored answer was wrong.
        """
        self.requests += 1
        self.estimate += (wrong - predicted) * (1 - chance) / chance
        self._give_up(chance)
        for place in range(self.given_up, len(_BETS)):
            self.weights[place] += _BETS[place].weight(chance, predicted, wrong=wrong)
        self._most = {}

    def _give_up(self, chance: float) -> None:
        while self.given_up < len(_BETS) - 1 and not _BETS[self.given_up].valid(chance):
            self.given_up += 1

    def most_wrong(self, confidence: float) -> float:
        """The bound: with this confidence fewer wrong answers were given so far, at all times at once."""
        return self._most_from(self.given_up, confidence)

    def _most_from(self, place: int, confidence: float) -> float:
        """With the bets from this one on: the largest S for which the mixture of them is below one over alpha."""
        worked_out = self._most
        if (confidence, place) in worked_out:
            return worked_out[confidence, place]
        limit = -math.log1p(-confidence)
        bets = [(bet.a, math.log(bet.share) - w) for bet, w in zip(_BETS[place:], self.weights[place:], strict=True)]
        low, high = 0.0, max(0.0, min((limit - known) / a for a, known in bets))
        for _ in range(30):
            middle = (low + high) / 2
            terms = [known + a * middle for a, known in bets]
            largest = max(terms)
            reached = largest + math.log(sum(math.exp(term - largest) for term in terms))
            low, high = (middle, high) if reached < limit else (low, middle)
        worked_out[confidence, place] = high
        return high

    def settle(self, confidence: float) -> float:
        """Give up what is not needed any more; ``a`` of the bet that says most now."""
        while self.given_up < len(_BETS) - 1:
            if self._most_from(self.given_up + 1, confidence) > self._most_from(self.given_up, confidence):
                break
            self.given_up += 1
        limit = -math.log1p(-confidence)
        valid = zip(_BETS[self.given_up :], self.weights[self.given_up :], strict=True)
        return min(valid, key=lambda each: (limit - math.log(each[0].share) + each[1]) / each[0].a)[0].a

    def room(self, rate: float, confidence: float) -> float:
        """How many more answers may all be wrong before wrong answers could be more than `rate` of all requests."""
        return rate * (self.requests + 1) - 1 - self.most_wrong(confidence)
