"""How many wrong answers there can have been, known from the few that were looked into. Pure.

Of the requests that a stored answer would answer, some are answered live all the same, by the toss of a coin whose odds
are known (`chance`). What the coin found out bounds what it did not look at:

Let ``e`` be the chance that a request is looked into, ``a > 0`` with ``(1 - e) exp(a) <= 1``, and
``w(e) = -ln((1 - (1 - e) exp(a)) / e)``. If the stored answer is wrong, the request adds 1 to S, the wrong answers
given, with probability ``1 - e``, else ``w(e)`` to W. So ``exp(a S - W)`` is a non-negative supermartingale that begins
at 1, whatever the requests are and in whatever order they come: only the coin is random. By Ville's inequality
(J. Ville, Étude critique de la notion de collectif, 1939) it ever reaches ``1 / alpha`` with probability at most
``alpha``: with confidence ``1 - alpha``, at all times at once, ``S < (W + ln(1 / alpha)) / a``. The bets are those of
Waudby-Smith and Ramdas (Estimating means of bounded random variables by betting, 2024) for a coin; several ``a`` are
mixed, since none is best for every length (H. Robbins, Statistical methods related to the law of the iterated
logarithm, 1970).

Nothing is assumed about the requests. What is assumed: the coin's odds are as stated, the labels are right, and the
requests that are looked into fail as often as the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class _Bet:
    """One ``a``, its share of the mixture, and the least chance of being looked into for which it is valid."""

    a: float
    share: float

    @property
    def least_chance(self) -> float:
        return -math.expm1(-self.a)

    def weight(self, chance: float) -> float:
        """W of one wrong answer that was looked into with this chance."""
        return -math.log(max(-math.expm1(self.a + math.log1p(-chance)), 1e-300) / chance) if chance < 1 else 0.0


# From careless to careful: the first allow answers after few requests, at the price of looking into every second one,
# the last waste little once there are tens of thousands.
_BETS = (_Bet(0.4, 0.2), _Bet(0.15, 0.2), _Bet(0.08, 0.25), _Bet(0.04, 0.2), _Bet(0.02, 0.15))
STAGES = (0.5, 0.25, 0.1)
"""The least chances of being looked into, one stage after the other. A stage gives up the bets it makes invalid."""


@dataclass(slots=True)
class Bound:
    """What is known of one stream of requests.

    Attributes:
        requests: how many were decided on.
        estimate: about how many wrong answers were given: what was looked into, for those that were not (unbiased).
        stage: position in `STAGES`; it only grows.
    """

    requests: int = 0
    estimate: float = 0.0
    stage: int = 0
    weights: list[float] = field(default_factory=lambda: [0.0] * len(_BETS))
    least_chance: float = 1.0  # with which any of them was looked into: bets that need more are not valid
    _most: dict[tuple[float, float], float] = field(default_factory=dict)

    def answered(self, count: int, least_chance: float) -> None:
        """So many were answered; each could have been looked into with at least this chance."""
        self.requests += count
        self.least_chance = min(self.least_chance, least_chance)

    def looked_into(self, chance: float, *, wrong: bool) -> None:
        """A request that would have been answered was looked into, with this chance."""
        self.requests += 1
        self.least_chance = min(self.least_chance, chance)
        if wrong and chance < 1:
            self.estimate += (1 - chance) / chance
            self.weights = [
                weight + bet.weight(max(chance, bet.least_chance))
                for weight, bet in zip(self.weights, _BETS, strict=True)
            ]
            self._most.clear()

    def most_wrong(self, confidence: float, stage: int | None = None) -> float:
        """The wrong answers given so far are fewer than this, with this confidence, at all times at once."""
        least = min(self.least_chance, STAGES[self.stage if stage is None else stage])
        if (confidence, least) not in self._most:
            self._most[confidence, least] = self._solved(-math.log1p(-confidence), least)
        return self._most[confidence, least]

    def _solved(self, limit: float, least: float) -> float:
        """The largest S for which the mixture of the valid bets, ``sum(share * exp(a S - W))``, is below the limit."""
        bets = [(bet, w) for bet, w in zip(_BETS, self.weights, strict=True) if bet.least_chance <= least]
        if not bets:
            return math.inf
        low, high = 0.0, min((limit - math.log(bet.share) + weight) / bet.a for bet, weight in bets)
        for _ in range(40):
            middle = (low + high) / 2
            terms = [math.log(bet.share) + bet.a * middle - weight for bet, weight in bets]
            largest = max(terms)
            reached = largest + math.log(sum(math.exp(term - largest) for term in terms))
            low, high = (middle, high) if reached < limit else (low, middle)
        return high

    def advance(self, rate: float, confidence: float) -> None:
        """Look into fewer requests where what is known allows it."""
        while self.stage + 1 < len(STAGES) and self.room(rate, confidence, self.stage + 1) > 0:
            self.stage += 1

    def room(self, rate: float, confidence: float, stage: int | None = None) -> float:
        """How many more answers may all be wrong before wrong answers could be more than `rate` of all requests."""
        return rate * (self.requests + 1) - 1 - self.most_wrong(confidence, stage)
