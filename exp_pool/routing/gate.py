"""What stands in front of one endpoint: its turn, its rate, its circuit; and what was measured there."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from exp_pool.errors import EndpointError
from exp_pool.routing.circuit import Circuit
from exp_pool.routing.endpoint import ModelEndpoint
from exp_pool.routing.rate import Taken, adjusted
from exp_pool.routing.slots import Slots
from exp_pool.runtime.clock import monotonic

Pause: TypeAlias = Callable[[float], Awaitable[None]]

LONGEST_WAIT_S = 10.0  # that a request waits because a server asked for it; for longer, its circuit is open
_SMOOTHING = 0.2  # of the moving average: an answer counts for a fifth
_HALF_LIFE_S = 10.0
_REMEMBERED, _ENOUGH, _SLOW = 200, 20, 0.95  # latencies; for a 95th percentile; the percentile


class Visit:
    """One request that was let in."""

    def __init__(self, gate: Gate, taken: Taken | None, *, probe: bool) -> None:
        self._gate, self._taken, self.probe = gate, taken, probe
        self.began = monotonic()
        self.is_answered = False

    def answered(self) -> None:
        """There is an answer, or the beginning of one."""
        self._gate.measured(monotonic() - self.began)
        self._gate.circuit.succeeded()
        self.probe, self.is_answered = False, True

    def used(self, tokens_in: int | None, tokens_out: int | None) -> None:
        """So many tokens, in place of what was reckoned."""
        if self._taken is not None and self._gate.tokens is not None and None not in (tokens_in, tokens_out):
            self._gate.tokens.correct(self._taken, (tokens_in or 0) + (tokens_out or 0))


class Gate:
    """Belongs to one event loop."""

    def __init__(self, endpoint: ModelEndpoint) -> None:
        self.endpoint = endpoint
        self.circuit = Circuit(endpoint.breaker_after, endpoint.breaker_pause)
        self.running = 0
        self.tokens = adjusted(None, endpoint.tokens_per_minute)
        self._requests = adjusted(None, endpoint.requests_per_minute)
        self._slots = Slots(endpoint.max_concurrent)
        self._in_order = asyncio.Lock()  # or small requests would pass a large one for ever
        self._average_s: float | None = None
        self._measured_at = 0.0
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)

    def adopt(self, endpoint: ModelEndpoint) -> None:
        """The same endpoint with other settings: what is under way, and was, counts for its limits and its circuit."""
        self.endpoint = endpoint
        self.circuit.adjust(endpoint.breaker_after, endpoint.breaker_pause)
        self.tokens = adjusted(self.tokens, endpoint.tokens_per_minute)
        self._requests = adjusted(self._requests, endpoint.requests_per_minute)
        self._slots.resize(endpoint.max_concurrent)

    @asynccontextmanager
    async def admitted(self, tokens: int, *, patient: bool, pause: Pause = asyncio.sleep) -> AsyncIterator[Visit]:
        """One request, when it is its turn.

        Args:
            tokens: that it will use, reckoned.
            patient: wait for the rate, since there is no other endpoint.
            pause: waits so many seconds; raises where that makes no sense any more.

        Raises:
            EndpointError: it is not let in; the circuit does not hear of it. What is raised inside, it does.
        """
        self.running += 1
        try:
            self._look()
            async with self._slots:
                visit = await self._let_in(tokens, patient=patient, pause=pause)
                try:
                    yield visit
                except EndpointError as err:
                    self._failed(err, visit)
                    raise
                except BaseException:
                    self._given_up(visit)
                    raise
        finally:
            self.running -= 1

    def _look(self) -> None:
        if refusal := self.circuit.refusal():
            raise self._refused(refusal)

    def _refused(self, why: str) -> EndpointError:
        return EndpointError(f"{self.endpoint.name}: {why}")

    async def _let_in(self, tokens: int, *, patient: bool, pause: Pause) -> Visit:
        async with self._in_order:
            while wait := self.wait_s(tokens):
                if wait == float("inf"):
                    raise self._refused(
                        f"the request may take {tokens} tokens, and tokens_per_minute={self.endpoint.tokens_per_minute}"
                    )
                if not patient:
                    raise self._refused(f"its rate is used up for {wait:.1f} s")
                await pause(wait)
            self._look()  # others may have found out meanwhile
            if self._requests:
                self._requests.take(1)
            taken = self.tokens.take(tokens) if self.tokens else None
            return Visit(self, taken, probe=self.circuit.enter())

    def wait_s(self, tokens: int) -> float:
        """Seconds until its rates allow such a request."""
        waits = (
            self._requests.wait_s(1) if self._requests else 0.0,
            self.tokens.wait_s(tokens) if self.tokens else 0.0,
        )
        return max(waits)

    def _failed(self, err: EndpointError, visit: Visit) -> None:
        if err.blameless:
            self.circuit.succeeded()
        else:
            asked = err.retry_after or 0.0
            self.circuit.failed(str(err), probe=visit.probe, pause_s=asked if asked > LONGEST_WAIT_S else 0.0)

    def _given_up(self, visit: Visit) -> None:
        if visit.is_answered:
            return
        self.circuit.left(probe=visit.probe)
        # The loser of a hedge took at least that long. Without it the percentile would sink, and more be hedged.
        slow, took = self.slow_s(), monotonic() - visit.began
        if slow is not None and took > slow:
            self._recent.append(took)

    def measured(self, seconds: float) -> None:
        """An answer took so long."""
        before = self._average_s
        self._average_s = seconds if before is None else before + _SMOOTHING * (seconds - before)
        self._measured_at = monotonic()
        self._recent.append(seconds)

    @property
    def latency_s(self) -> float | None:
        """See `strategies.Candidate`."""
        if self._average_s is None:
            return None
        return float(self._average_s * 0.5 ** ((monotonic() - self._measured_at) / _HALF_LIFE_S))

    def slow_s(self) -> float | None:
        """The 95th percentile of the latest latencies; None while there are few."""
        if len(self._recent) < _ENOUGH:
            return None
        return sorted(self._recent)[int(len(self._recent) * _SLOW)]

    def health(self) -> dict[str, Any]:
        """For people and dashboards."""
        return {
            "circuit": self.circuit.state,
            "running": self.running,
            "latency_s": self.latency_s,
            "p95_s": self.slow_s(),
        }
