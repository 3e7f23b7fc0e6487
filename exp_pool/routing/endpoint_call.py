"""A call of one endpoint, with retries: a whole answer, or a stream that has begun."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict, TypeVar

from loguru import logger

from exp_pool.core.capture import record
from exp_pool.errors import EndpointError
from exp_pool.routing.adapters.contract import FILTERED, Json, Reply
from exp_pool.routing.endpoint import ModelEndpoint
from exp_pool.routing.limiter import LONGEST_WAIT_S, EndpointLimiter, Permit
from exp_pool.routing.request import RoutedRequest
from exp_pool.runtime.clock import monotonic

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from exp_pool.routing.transport import Transport

T = TypeVar("T")

_BACKOFF_S, _LONGEST_BACKOFF_S = 0.25, 4.0
_OK = 200
_MILLION = 1_000_000
_WHOLE = {"", "stop", "tool_calls"}


class Attempt(TypedDict):
    """What became of one try: `error` is None where it was answered, `status` is that of HTTP, None without one."""

    model: str
    status: int | None
    error: str | None
    latency_s: float


@dataclass(frozen=True, slots=True)
class EndpointCall:
    """One endpoint's part of a routed request.

    Attributes:
        limiter: of the endpoint.
        request: what is asked.
        transport: the router's.
        attempts: what became of each try is added here.
        until: when the time for the whole request is over, by the event loop's clock; None: never.
        patient: wait for the endpoint's rate.
    """

    limiter: EndpointLimiter
    request: RoutedRequest
    transport: Transport
    attempts: list[Attempt]
    until: float | None
    patient: bool

    @property
    def endpoint(self) -> ModelEndpoint:
        """The endpoint as it is now; discovery may change its settings."""
        return self.limiter.endpoint

    async def answer(self) -> tuple[Reply, Json, str]:
        """The endpoint's answer: as read by its adapter, as JSON, and the endpoint's name.

        Raises:
            EndpointError: it does not answer.
        """
        return await self._retried(self._answer_once)

    async def _answer_once(self) -> tuple[Reply, Json, str]:
        endpoint = self.endpoint
        with self._attempt():
            outgoing = self.request.to(endpoint, stream=False)
            async with self.limiter.admitted(
                self.request.tokens, patient=self.patient, pause=self.transport.pause
            ) as permit:
                raw = await self.transport.answer(endpoint, outgoing)
                reply = _read(endpoint, raw)
                if not reply.finished:
                    raise EndpointError(
                        f"{endpoint.name}: there is no answer in it: {endpoint.without_key(json.dumps(raw))[:200]}"
                    )
                permit.answered()
                permit.used(reply.tokens_in, reply.tokens_out)
                _record(endpoint, reply)
                return reply, raw, endpoint.name

    async def open_stream(self) -> OpenStream:
        """The endpoint's stream, as soon as that has given a text.

        Raises:
            EndpointError: it gave none.
        """
        return await self._retried(self._open_stream_once)

    async def _open_stream_once(self) -> OpenStream:
        endpoint = self.endpoint
        with self._attempt():
            outgoing = self.request.to(endpoint, stream=True)
            async with AsyncExitStack() as held:
                permit = await held.enter_async_context(
                    self.limiter.admitted(self.request.tokens, patient=self.patient, pause=self.transport.pause)
                )
                events = await held.enter_async_context(aclosing(self.transport.events(endpoint, outgoing)))
                replies = await held.enter_async_context(aclosing(_read_each(endpoint, events)))
                try:
                    async with asyncio.timeout(endpoint.first_token_timeout):
                        first = await _first(endpoint, replies)
                except TimeoutError:
                    limit = endpoint.first_token_timeout
                    raise EndpointError(f"{endpoint.name}: no first token in {limit:g} s") from None
                permit.answered()
                return OpenStream(endpoint, first, replies, permit, held.pop_all())

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        """Note what became of a try."""
        name, began = self.endpoint.name, monotonic()
        attempt = Attempt(model=name, status=None, error=None, latency_s=0.0)
        try:
            yield
            attempt["status"] = _OK
        except EndpointError as err:
            attempt["status"], attempt["error"] = err.status, str(err)
            raise
        except BaseException as err:
            attempt["error"] = f"{name}: given up before it answered ({type(err).__name__})"
            raise
        finally:
            attempt["latency_s"] = monotonic() - began
            self.attempts.append(attempt)
            logger.debug("{}: {} after {:.3f} s", name, attempt["error"] or "answered", attempt["latency_s"])

    async def _retried(self, once: Callable[[], Awaitable[T]]) -> T:
        """Try again, after a while, what failed in passing, as long as there is time to."""
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, stop_before_delay

        left = float("inf") if self.until is None else max(0.0, self.until - asyncio.get_running_loop().time())
        retrying = AsyncRetrying(
            stop=stop_after_attempt(1 + self.endpoint.retries) | stop_before_delay(left),
            wait=_wait_s,
            retry=retry_if_exception(_passes),
            sleep=self.transport.pause,
            reraise=True,
        )
        return await retrying(once)


@dataclass(slots=True)
class OpenStream:
    """A stream that has given a text, with all that it holds: a permit, a connection."""

    endpoint: ModelEndpoint
    first: Reply
    replies: AsyncGenerator[Reply, None]
    permit: Permit
    held: AsyncExitStack
    reason: str | None = None

    async def texts(self) -> AsyncGenerator[str, None]:
        """Text by text.

        Raises:
            EndpointError: the stream broke off.
        """
        so_far = self.first
        async with self.held:
            if self.first.text:
                yield self.first.text
            async for reply in self.replies:
                so_far = _together(so_far, reply)
                if reply.text:
                    yield reply.text
            if not so_far.finished:
                raise EndpointError(f"{self.endpoint.name}: the stream broke off")
            self.reason = so_far.reason
            self.permit.used(so_far.tokens_in, so_far.tokens_out)
            _record(self.endpoint, so_far)

    async def close(self) -> None:
        """Give back what the stream holds."""
        await self.held.aclose()


def _record(endpoint: ModelEndpoint, reply: Reply) -> None:
    """For the experience of the decorated function that asks, if one does."""
    prices = ((reply.tokens_in, endpoint.price_in), (reply.tokens_out, endpoint.price_out))
    costs = [tokens * price / _MILLION for tokens, price in prices if tokens is not None and price is not None]
    record(
        tokens_in=reply.tokens_in,
        tokens_out=reply.tokens_out,
        money_usd=sum(costs) if len(costs) == len(prices) else None,
        metadata={} if reply.reason in _WHOLE else {"finish_reason": reply.reason},
    )


def _together(before: Reply, event: Reply) -> Reply:
    """What a stream has said so far and its next event, with the text of the event only."""
    return replace(
        event,
        tokens_in=before.tokens_in if event.tokens_in is None else event.tokens_in,
        tokens_out=before.tokens_out if event.tokens_out is None else event.tokens_out,
        finished=before.finished or event.finished,
        reason=event.reason or before.reason,
    )


async def _first(endpoint: ModelEndpoint, replies: AsyncGenerator[Reply, None]) -> Reply:
    """The first event with a text, and what was said before; the last event where none has one, as a call of a tool."""
    so_far = Reply()
    async for reply in replies:
        so_far = _together(so_far, reply)
        if so_far.text or so_far.finished:
            return so_far
    raise EndpointError(f"{endpoint.name}: the stream ended before it said anything", passing=True)


async def _read_each(endpoint: ModelEndpoint, events: AsyncGenerator[Json, None]) -> AsyncGenerator[Reply, None]:
    async for event in events:
        yield _read(endpoint, event)


def _read(endpoint: ModelEndpoint, payload: Json) -> Reply:
    """What the adapter reads in a payload. An adapter of the user's may raise anything, and return anything."""
    try:
        reply = endpoint.adapter.read(payload)
        if not isinstance(reply, Reply) or not isinstance(reply.text, str):
            raise TypeError(f"its adapter read a {type(reply).__name__}")
    except Exception as err:
        why, shown = endpoint.without_key(str(err)), endpoint.without_key(json.dumps(payload))
        raise EndpointError(
            f"{endpoint.name}: this is no answer in the wire format {endpoint.adapter.name!r} "
            f"({type(err).__name__}: {why}): {shown[:200]}"
        ) from err
    if reply.error is not None:
        raise EndpointError(
            f"{endpoint.name} answers with an error: {endpoint.without_key(reply.error)[:300]}", status=_OK
        )
    if reply.reason == FILTERED:  # what is there of it, often nothing, is no answer
        raise EndpointError(f"{endpoint.name}: its content filter kept the answer back", status=_OK, blameless=True)
    return reply


def _passes(err: BaseException) -> bool:
    """One that wants a long time to itself is left, and the next one asked."""
    return isinstance(err, EndpointError) and err.passing and (err.retry_after or 0.0) <= LONGEST_WAIT_S


def _wait_s(state: RetryCallState) -> float:
    """What the server asks for and a little more, lest all come at once; else at random, longer each time."""
    from tenacity import wait_random_exponential

    err = state.outcome.exception() if state.outcome is not None else None
    if isinstance(err, EndpointError) and err.retry_after is not None:
        return err.retry_after + random.uniform(0.0, 0.1 + err.retry_after / 10)  # noqa: S311
    return float(wait_random_exponential(_BACKOFF_S, _LONGEST_BACKOFF_S)(state))
