"""The router: a request goes to one of several model endpoints, and to the next one if that fails. READ THIS FIRST.

One request, from top to bottom:

1. `request` checks messages and options.
2. The strategy puts the endpoints in order (`strategies`); those that cannot take a request now stand behind.
3. The first one is asked, and when all its tries have failed the next (`hedge`: or a little earlier).
4. Each try waits for a permit of the endpoint's `limiter`: circuit, concurrency, rate.
5. The endpoint's adapter writes the request in its wire format and reads the answer; `transport` brings both.
6. What failed in passing is tried again there, after a while, before the next endpoint is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from loguru import logger

from exp_pool.core.capture import record
from exp_pool.errors import AllModelsFailed, ClosedError, ConfigurationError, EndpointError, InvalidInputError
from exp_pool.routing.adapters.contract import Message
from exp_pool.routing.discovery import Discover, EndpointLimiters
from exp_pool.routing.endpoint import ModelEndpoint
from exp_pool.routing.endpoint_call import Attempt, EndpointCall, OpenStream
from exp_pool.routing.health_checks import watch_health
from exp_pool.routing.hedge import first_success
from exp_pool.routing.limiter import EndpointLimiter
from exp_pool.routing.request import RoutedRequest
from exp_pool.routing.strategies import Strategy, by_hash, cost, priority, strategy_for
from exp_pool.routing.stream import RoutedStream
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.notices import Notices
from exp_pool.runtime.plugs import to_install

if TYPE_CHECKING:
    from exp_pool.routing.transport import Transport

FALLBACK = "fallback"
"""The strategy that is recorded where another endpoint answered than the one that should have."""

_MAX_BYTES = 32 * 2**20
_SETTLED = (by_hash, cost)  # strategies that want one endpoint, whatever the others do
_HEDGES_PER_REQUEST, _HEDGES_SAVED = 0.1, 10.0
_NEVER = float("inf")


class ConcurrentRouter:
    """Sends requests to model endpoints. It belongs to one event loop; close it, or use ``async with``.

    Args:
        endpoints: the endpoints; or an async function that says which there are, asked at the first request, then
            every `refresh_s` seconds; or the path of a file that lists them (`routing.endpoints_file`), looked at as
            often. Requests under way are not disturbed.
        strategy: in which order endpoints are asked: ``"priority"``, ``"round_robin"``, ``"least_busy"``,
            ``"latency"``, ``"cost"``, ``"weighted"``, ``"hash"``, or a callable (`routing.Strategy`).
        deadline: seconds for a request in all: every wait, try and endpoint. Of a stream, until it says something.
        hedge: when an endpoint takes longer than 95% of its answers did, ask the next one beside it, and take what
            comes first. At most one request in ten is hedged. Streams are not.
        refresh_s: see `endpoints`; also, how often those with a `health_url` are asked whether they are well.
        max_bytes: of one answer.

    Raises:
        ConfigurationError: no endpoints, two with one name, an unknown strategy, a number that cannot work; or httpx
            is not installed.
    """

    def __init__(
        self,
        endpoints: Iterable[ModelEndpoint] | Discover | str | Path,
        strategy: str | Strategy = "priority",
        *,
        deadline: float = 120.0,
        hedge: bool = False,
        refresh_s: float = 10.0,
        max_bytes: int = _MAX_BYTES,
    ) -> None:
        for name, value in (("deadline", deadline), ("refresh_s", refresh_s), ("max_bytes", max_bytes)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise ConfigurationError(f"ConcurrentRouter({name}={value!r}) must be a number above 0")
        self._strategy = strategy_for(strategy)
        self._called = strategy if isinstance(strategy, str) else getattr(strategy, "__name__", "strategy")
        self._limiters = EndpointLimiters(endpoints)
        self._deadline_s, self._refresh_s, self._max_bytes = deadline, refresh_s, max_bytes
        self._hedge, self._hedges = hedge, _HEDGES_SAVED
        self._transport: Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._discovering = asyncio.Lock()
        self._watching: list[asyncio.Task[None]] = []
        self._closed = False
        self._notices = Notices()
        try:
            import httpx  # noqa: F401
        except ImportError as err:
            raise ConfigurationError(f"routing needs httpx: {to_install('routing')} ({err})") from err

    async def route_request(
        self,
        prompt: str | Sequence[Message],
        preferred_model: str | None = None,
        *,
        route_key: str | None = None,
        deadline: float | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Ask until one answers.

        Args:
            prompt: a text, or messages in the form of OpenAI's chat completions, for any endpoint.
            preferred_model: the name of the endpoint that is asked first; the strategy orders the others.
            route_key: for the strategy ``"hash"``; by default the first message (instructions, as a rule).
            deadline: in place of the router's.
            **options: `max_tokens`, `temperature`, `top_p`, `stop`, `tools` and `tool_choice` as of OpenAI's chat
                completions, for any endpoint; any other goes into the request as it is.

        Returns:
            `model`: the name of the endpoint that answered. `response`: the text. `latency_s`. `attempts`: each with
            `model`, `status` (of HTTP, or None), `error` (None for the one that answered) and `latency_s`. Besides
            `tool_calls` (as of OpenAI's chat completions), `tokens_in`, `tokens_out` (None where it does not say),
            `finish_reason` (``"stop"``, ``"length"``: it was cut off, ``"tool_calls"``, ``"refusal"``, or what the
            endpoint says) and `raw` (the endpoint's own JSON). An answer that a content filter kept back is none: the
            next endpoint is asked.

        Raises:
            AllModelsFailed: no endpoint answered within the deadline.
            InvalidInputError: no messages, no such endpoint, or no deadline above 0.
            ClosedError: the router was closed.
        """
        request = RoutedRequest.of(prompt, options, route_key)
        began = monotonic()
        attempts: list[Attempt] = []
        async with self._calls(request, preferred_model, deadline, attempts) as calls:
            self._hedges = min(self._hedges + _HEDGES_PER_REQUEST, _HEDGES_SAVED)
            hedge_after_s = calls[0].limiter.slow_s() if self._hedge else None
            reply, raw, model = await first_success([call.answer for call in calls], hedge_after_s, self._may_hedge)
        self._record(model, calls, preferred_model)
        return {
            "model": model,
            "response": reply.text,
            "latency_s": monotonic() - began,
            "attempts": attempts,
            "tool_calls": list(reply.tool_calls),
            "tokens_in": reply.tokens_in,
            "tokens_out": reply.tokens_out,
            "finish_reason": reply.reason,
            "raw": raw,
        }

    def stream_request(
        self,
        prompt: str | Sequence[Message],
        preferred_model: str | None = None,
        *,
        route_key: str | None = None,
        deadline: float | None = None,
        **options: Any,
    ) -> RoutedStream:
        """Ask until one says something, and give what it says, text by text.

        The arguments are those of `route_request`. Before the first text the next endpoint may answer in place of one
        that fails; afterwards no other could go on where it stopped, and the error reaches the reader.

        Returns:
            An async iterator of texts with `model` and `attempts`. Who does not read to the end closes it
            (``aclose()``, or ``async with``): until then it has a place at its endpoint.

        Raises:
            InvalidInputError: no messages, or no such endpoint; the latter, and the others, while it is read.
            AllModelsFailed: no endpoint said anything within the deadline.
            EndpointError: the stream broke off.
            ClosedError: the router was closed.
        """
        request = RoutedRequest.of(prompt, options, route_key)
        attempts: list[Attempt] = []

        async def begin() -> OpenStream:
            stream = None
            try:
                async with self._calls(request, preferred_model, deadline, attempts) as calls:
                    for call in calls:
                        try:
                            stream = await call.open_stream()
                            break
                        except EndpointError:
                            if call is calls[-1]:
                                raise
                    assert stream is not None
                    self._record(stream.endpoint.name, calls, preferred_model)
                    return stream
            except BaseException:  # the time was over just then
                if stream is not None:
                    await stream.close()
                raise

        return RoutedStream(begin, attempts)

    @asynccontextmanager
    async def _calls(
        self, request: RoutedRequest, preferred_model: str | None, deadline: float | None, attempts: list[Attempt]
    ) -> AsyncIterator[Sequence[EndpointCall]]:
        """The calls that may be made for a request, in order; the block has until the deadline to make them."""
        with _all_failed(attempts):
            async with asyncio.timeout(self._seconds(deadline)) as limit:
                transport = await self._ready()
                limiters = self._order(request, preferred_model)
                patient = _patient(limiters, request.tokens)
                yield [
                    EndpointCall(each, request, transport, attempts, limit.when(), patient=each in patient)
                    for each in limiters
                ]

    def _seconds(self, deadline: float | None) -> float:
        """The router's deadline, or the caller's in its place."""
        if deadline is None:
            return self._deadline_s
        if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not deadline > 0:
            raise InvalidInputError(f"deadline={deadline!r} must be seconds above 0, or None for the router's")
        return deadline

    def _order(self, request: RoutedRequest, preferred_model: str | None) -> Sequence[EndpointLimiter]:
        """All endpoints: the preferred one, those that can take the request now, and the others, soonest first."""
        limiters = self._limiters.all
        preferred = [limiter for limiter in limiters if limiter.endpoint.name == preferred_model]
        if preferred_model is not None and not preferred:
            known = ", ".join(limiter.endpoint.name for limiter in limiters)
            raise InvalidInputError(f"preferred_model={preferred_model!r} is no endpoint; one of {known}")
        others = [limiter for limiter in limiters if limiter not in preferred]
        waits = {limiter: (bool(limiter.circuit.refusal()), limiter.wait_s(request.tokens)) for limiter in others}
        ready = [limiter for limiter in others if not any(waits[limiter])]
        behind = sorted((limiter for limiter in others if any(waits[limiter])), key=waits.__getitem__)
        return [*preferred, *self._in_order(ready, request), *behind]

    def _in_order(self, ready: Sequence[EndpointLimiter], request: RoutedRequest) -> Sequence[EndpointLimiter]:
        """By the strategy; by priority where that is a plug in trouble."""
        if not ready:
            return ready
        try:
            order = list(dict.fromkeys(self._strategy(ready, request.load)))
            if order and all(any(each is limiter for limiter in ready) for each in order):
                return cast("Sequence[EndpointLimiter]", order)
            trouble = "it gave no order of the candidates"
        except Exception as err:
            trouble = f"{type(err).__name__}: {err}"
        self._notices.warn_once("strategy", f"the strategy {self._strategy!r} failed, priority counts: {trouble}")
        return cast("Sequence[EndpointLimiter]", priority(ready, request.load))

    def _record(self, model: str, calls: Sequence[EndpointCall], preferred: str | None) -> None:
        """For the experience of the decorated function that asks, if one does."""
        first = calls[0].endpoint.name == model
        # Where the one that should have answered cannot be asked now, it stands behind. Other strategies have none.
        if preferred is None and self._strategy is priority:
            priorities = {call.endpoint.name: call.endpoint.priority for call in calls}
            first = priorities[model] == min(priorities.values())
        elif preferred is None and self._strategy in _SETTLED:
            order = self._in_order([call.limiter for call in calls], calls[0].request)
            first = order[0].endpoint.name == model
        record(model=model, strategy=self._called if first else FALLBACK)

    def _may_hedge(self) -> bool:
        """Where everything is slow, asking twice makes it slower."""
        may = self._hedges >= 1
        self._hedges -= may
        return may

    def _open(self) -> Transport:
        """The connections, made at the first request."""
        loop = asyncio.get_running_loop()
        if self._closed:
            raise ClosedError("the router was closed; make a new one")
        if self._transport is None:
            from exp_pool.routing.transport import Transport

            self._transport, self._loop = Transport(self._max_bytes), loop
        elif self._loop is not loop:
            raise InvalidInputError(
                "the router was first used in another event loop, to which its connections belong; make one for each "
                "asyncio.run(), and use `async with`"
            )
        return self._transport

    async def _ready(self) -> Transport:
        """The connections, once it is known which endpoints there are; both are watched from then on."""
        transport = self._open()
        if not self._watching:
            async with self._discovering:
                if not self._limiters.known:
                    await self._limiters.refresh()
                if not self._watching:
                    checking = watch_health(self._limiters, transport, self._refresh_s)
                    self._watching = [
                        asyncio.create_task(each) for each in (self._limiters.keep_fresh(self._refresh_s), checking)
                    ]
        return transport

    def health(self) -> dict[str, dict[str, Any]]:
        """Health by endpoint: `circuit` (closed, open, half-open), `running`, `latency_s` and `p95_s` (or None)."""
        return {limiter.endpoint.name: limiter.health() for limiter in self._limiters.all}

    async def close(self) -> None:
        """Cut every connection; who still waits gets `ClosedError`. May be called again."""
        self._closed = True
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        if self._transport is not None:
            await self._transport.close()

    async def __aenter__(self) -> Self:
        await self._ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _patient(limiters: Sequence[EndpointLimiter], tokens: int) -> Collection[EndpointLimiter]:
    """Where the request waits until the rate allows it: no endpoint is left that could take it, or none so soon."""
    waits = {
        limiter: wait
        for limiter in limiters
        if not limiter.circuit.refusal() and (wait := limiter.wait_s(tokens)) < _NEVER
    }
    soonest, patient = _NEVER, list[EndpointLimiter]()
    for limiter in reversed(waits):
        if soonest == _NEVER or 0 < waits[limiter] < soonest:
            patient.append(limiter)
        soonest = min(soonest, waits[limiter])
    return patient


@contextmanager
def _all_failed(attempts: Sequence[Attempt]) -> Iterator[None]:
    """What the last one says, and the end of the time, become an error that names them all."""
    try:
        yield
    except (EndpointError, TimeoutError) as err:
        last = {attempt["model"]: attempt["error"] for attempt in attempts}
        late = ["the time is over"] if isinstance(err, TimeoutError) else []
        reasons = "; ".join([*(f"{error}" for error in last.values()), *late])
        logger.debug("no model answered: {}", reasons)
        raise AllModelsFailed(f"no model answered: {reasons}", attempts) from None
