"""Strategies: in which order endpoints are asked. The first one gets the request; the others are asked if it fails."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from exp_pool.errors import ConfigurationError
from exp_pool.routing.endpoint import ModelEndpoint


class Candidate(Protocol):
    """An endpoint as strategies see it."""

    @property
    def endpoint(self) -> ModelEndpoint:
        """What it was given as."""

    @property
    def running(self) -> int:
        """Requests that it has been given and that have not ended, those that wait for their turn included."""

    @property
    def latency_s(self) -> float | None:
        """Seconds to an answer, or to a stream's first text: a moving average; None before the first one.

        It halves with every 10 s in which nothing was measured: who was slow is asked again in time.
        """


@dataclass(frozen=True, slots=True)
class Load:
    """The request as strategies see it: its key, and how many tokens it will use, estimated."""

    key: str
    tokens_in: int
    tokens_out: int


Strategy: TypeAlias = Callable[[Sequence[Candidate], Load], Iterable[Candidate]]


def priority(candidates: Sequence[Candidate], load: Load) -> Sequence[Candidate]:  # noqa: ARG001
    """The lowest `priority` first; of equals, as they were given."""
    return sorted(candidates, key=lambda each: each.endpoint.priority)


class RoundRobin:
    """One after the other: with n endpoints, each gets every n-th request."""

    def __init__(self) -> None:
        self._turn = 0

    def __call__(self, candidates: Sequence[Candidate], load: Load) -> Sequence[Candidate]:  # noqa: ARG002
        """From the one whose turn it is."""
        start = self._turn % len(candidates)
        self._turn += 1
        return [*candidates[start:], *candidates[:start]]


def _least(measure: Callable[[Candidate], float]) -> Strategy:
    """Whoever has the least of something first; of equals, in turn."""
    in_turn = RoundRobin()
    return lambda candidates, load: sorted(in_turn(candidates, load), key=measure)


def least_busy() -> Strategy:
    """The smallest share of `max_concurrent` under way first; of equals, in turn."""
    return _least(lambda each: each.running / each.endpoint.max_concurrent)


def latency() -> Strategy:
    """The smallest latency times the requests that the endpoint would then have under way first; of equals, in turn.

    The number of requests is a factor lest all go to the quickest until it is the slowest (Finagle's peak EWMA). One
    that has not been measured comes first, and is measured by that.
    """
    return _least(lambda each: (each.latency_s or 0.0) * (each.running + 1))


def cost(candidates: Sequence[Candidate], load: Load) -> Sequence[Candidate]:
    """The cheapest for this request first; those without a price last; of equals, as `priority`."""

    def price(each: Candidate) -> tuple[bool, float, int]:
        of_in, of_out = each.endpoint.price_in, each.endpoint.price_out
        total = (of_in or 0.0) * load.tokens_in + (of_out or 0.0) * load.tokens_out
        return of_in is None and of_out is None, total, each.endpoint.priority

    return sorted(candidates, key=price)


class Weighted:
    """In proportion to `weight`, evenly mixed: 5, 1, 1 give A A B A C A A (nginx's smooth weighted round robin)."""

    def __init__(self) -> None:
        self._credit: dict[str, float] = {}

    def __call__(self, candidates: Sequence[Candidate], load: Load) -> Sequence[Candidate]:  # noqa: ARG002
        """Whom most is owed to first."""
        self._credit = {
            each.endpoint.name: self._credit.get(each.endpoint.name, 0.0) + each.endpoint.weight for each in candidates
        }
        order = sorted(candidates, key=lambda each: -self._credit[each.endpoint.name])
        self._credit[order[0].endpoint.name] -= sum(each.endpoint.weight for each in candidates)
        return order


def by_hash(candidates: Sequence[Candidate], load: Load) -> Sequence[Candidate]:
    """Send a key to the same endpoint each time, so that its prompt cache stays warm; if one goes, only its keys move.

    Rendezvous hashing (Thaler and Ravishankar 1998). A hash ring does the same with more state, and less evenly.
    """

    def rank(each: Candidate) -> bytes:
        text = f"{each.endpoint.name}\0{load.key}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=8).digest()

    return sorted(candidates, key=rank)


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "priority": lambda: priority,
    "round_robin": RoundRobin,
    "least_busy": least_busy,
    "latency": latency,
    "cost": lambda: cost,
    "weighted": Weighted,
    "hash": lambda: by_hash,
}


def strategy_for(strategy: str | Strategy) -> Strategy:
    """The strategy of that name, new; a callable is one already.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if isinstance(strategy, str) and strategy in STRATEGIES:
        return STRATEGIES[strategy]()
    if callable(strategy):
        return strategy
    raise ConfigurationError(f"strategy={strategy!r} is unknown; one of {', '.join(STRATEGIES)}, or a callable")
