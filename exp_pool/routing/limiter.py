"""What limits requests to one endpoint: concurrency, rate and circuit; and what was measured there."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from exp_pool.errors import EndpointError
from exp_pool.routing.circuit import Circuit
from exp_pool.routing.endpoint import ModelEndpoint
from exp_pool.routing.semaphore import ResizableSemaphore
from exp_pool.routing.sliding_window import WindowEntry, with_limit
from exp_pool.runtime.clock import monotonic

Pause: TypeAlias = Callable[[float], Awaitable[None]]

LONGEST_WAIT_S = 10.0  # that a request waits because a server asked for it; for longer, its circuit is open
_SMOOTHING = 0.2  # of the moving average: an answer counts for a fifth
_HALF_LIFE_S = 10.0
_REMEMBERED, _ENOUGH, _SLOW = 200, 20, 0.95  # latencies; for a 95th percentile; the percentile


class Permit:
    """The permit of one request, from when it is let in until it ends."""

    def __init__(self, limiter: EndpointLimiter, taken: WindowEntry | None, *, probe: bool) -> None:
        self._limiter, self._taken, self.probe = limiter, taken, probe
        self.began = monotonic()
        self.is_answered = False

    def answered(self) -> None:
        """Note an answer, or the beginning of one."""
        self._limiter.measured(monotonic() - self.began)
        self._limiter.circuit.succeeded()
        self.probe, self.is_answered = False, True

    def used(self, tokens_in: int | None, tokens_out: int | None) -> None:
        """Count so many tokens, in place of what was estimated."""
        if self._taken is not None and self._limiter.tokens is not None and None not in (tokens_in, tokens_out):
            self._limiter.tokens.correct(self._taken, (tokens_in or 0) + (tokens_out or 0))


class EndpointLimiter:
    """Lets requests to one endpoint in. It belongs to one event loop."""

    def __init__(self, endpoint: ModelEndpoint) -> None:
        self.endpoint = endpoint
        self.circuit = Circuit(endpoint.breaker_after, endpoint.breaker_pause)
        self.running = 0
        self.tokens = with_limit(None, endpoint.tokens_per_minute)
        self._requests = with_limit(None, endpoint.requests_per_minute)
        self._semaphore = ResizableSemaphore(endpoint.max_concurrent)
        self._in_order = asyncio.Lock()  # or small requests would pass a large one for ever
        self._average_s: float | None = None
        self._measured_at = 0.0
        self._recent: deque[float] = deque(maxlen=_REMEMBERED)

    def adopt(self, endpoint: ModelEndpoint) -> None:
        """Take other settings of the endpoint; what was sent before still counts for its limits and its circuit."""
        self.endpoint = endpoint
        self.circuit.adjust(endpoint.breaker_after, endpoint.breaker_pause)
        self.tokens = with_limit(self.tokens, endpoint.tokens_per_minute)
        self._requests = with_limit(self._requests, endpoint.requests_per_minute)
        self._semaphore.resize(endpoint.max_concurrent)

    @asynccontextmanager
    async def admitted(self, tokens: int, *, patient: bool, pause: Pause = asyncio.sleep) -> AsyncIterator[Permit]:
        """Wait for the turn of one request, and hold its permit while the block runs.

        Args:
            tokens: that the request will use, estimated.
            patient: wait for the rate, since there is no other endpoint.
            pause: waits so many seconds; raises where the router was closed.

        Raises:
            EndpointError: the request is not let in, which does not count for the circuit; what the block raises does.
        """
        self.running += 1
        try:
            self._check_circuit()
            async with self._semaphore:
                permit = await self._let_in(tokens, patient=patient, pause=pause)
                try:
                    yield permit
                except EndpointError as err:
                    self._failed(err, permit)
                    raise
                except BaseException:
                    self._given_up(permit)
                    raise
        finally:
            self.running -= 1

    def _check_circuit(self) -> None:
        if refusal := self.circuit.refusal():
            raise self._refused(refusal)

    def _refused(self, why: str) -> EndpointError:
        return EndpointError(f"{self.endpoint.name}: {why}")

    async def _let_in(self, tokens: int, *, patient: bool, pause: Pause) -> Permit:
        async with self._in_order:
            while wait := self.wait_s(tokens):
                if wait == float("inf"):
                    raise self._refused(
                        f"the request may take {tokens} tokens, and tokens_per_minute={self.endpoint.tokens_per_minute}"
                    )
                if not patient:
                    raise self._refused(f"its rate is used up for {wait:.1f} s")
                await pause(wait)
            self._check_circuit()  # others may have failed meanwhile
            if self._requests:
                self._requests.take(1)
            taken = self.tokens.take(tokens) if self.tokens else None
            return Permit(self, taken, probe=self.circuit.enter())

    def wait_s(self, tokens: int) -> float:
        """Seconds until the rates allow a request of so many tokens."""
        waits = (
            self._requests.wait_s(1) if self._requests else 0.0,
            self.tokens.wait_s(tokens) if self.tokens else 0.0,
        )
        return max(waits)

    def _failed(self, err: EndpointError, permit: Permit) -> None:
        if err.blameless:
            self.circuit.succeeded()
        else:
            asked = err.retry_after or 0.0
            self.circuit.failed(str(err), probe=permit.probe, pause_s=asked if asked > LONGEST_WAIT_S else 0.0)

    def _given_up(self, permit: Permit) -> None:
        if permit.is_answered:
            return
        self.circuit.left(probe=permit.probe)
        # The loser of a hedge took at least that long. Without it the percentile would sink, and more be hedged.
        slow, took = self.slow_s(), monotonic() - permit.began
        if slow is not None and took > slow:
            self._recent.append(took)

    def measured(self, seconds: float) -> None:
        """Note how long an answer took."""
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
        """The state for people and dashboards; see `ConcurrentRouter.health`."""
        return {
            "circuit": self.circuit.state,
            "running": self.running,
            "latency_s": self.latency_s,
            "p95_s": self.slow_s(),
        }
