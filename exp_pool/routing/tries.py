"""One endpoint is asked, and asked again while that may help."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict

from loguru import logger

from exp_pool.core.capture import record
from exp_pool.errors import EndpointError
from exp_pool.routing.adapters.contract import FILTERED, Json, Outgoing, Said
from exp_pool.routing.endpoint import ModelEndpoint
from exp_pool.routing.gate import LONGEST_WAIT_S, Gate, Visit
from exp_pool.routing.request import RoutedRequest
from exp_pool.runtime.clock import monotonic

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

    from exp_pool.routing.transport import Transport

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
class Try:
    """One endpoint's part of a request.

    Attributes:
        gate: in front of the endpoint.
        request: what is asked.
        transport: the router's.
        attempts: what became of each try is added here.
        until: when the time for the whole request is over, by the event loop's clock; None: never.
        patient: wait for the endpoint's rate.
    """

    gate: Gate
    request: RoutedRequest
    transport: Transport
    attempts: list[Attempt]
    until: float | None
    patient: bool


async def answer(each: Try) -> tuple[Said, Json, str]:
    """What it says, its JSON and its name.

    Raises:
        EndpointError: it does not answer.
    """

    async def once() -> tuple[Said, Json, str]:
        endpoint = each.gate.endpoint
        with _noted(each):
            outgoing = each.request.to(endpoint, stream=False)
            async with each.gate.admitted(
                each.request.tokens, patient=each.patient, pause=each.transport.pause
            ) as visit:
                raw = await each.transport.answer(endpoint, outgoing)
                said = _understood(endpoint, raw)
                if not said.finished:
                    raise EndpointError(
                        f"{endpoint.name}: there is no answer in it: {endpoint.without_key(json.dumps(raw))[:200]}"
                    )
                visit.answered()
                visit.used(said.tokens_in, said.tokens_out)
                _record(endpoint, said)
                return said, raw, endpoint.name

    return await _retrying(each)(once)


@dataclass(slots=True)
class Begun:
    """A stream that has said something, with all that it holds: a place at the gate, a connection."""

    endpoint: ModelEndpoint
    first: Said
    said: AsyncGenerator[Said, None]
    visit: Visit
    held: AsyncExitStack
    reason: str | None = None

    async def texts(self) -> AsyncGenerator[str, None]:
        """Text by text.

        Raises:
            EndpointError: it broke off.
        """
        told = self.first
        async with self.held:
            if self.first.text:
                yield self.first.text
            async for said in self.said:
                told = _together(told, said)
                if said.text:
                    yield said.text
            if not told.finished:
                raise EndpointError(f"{self.endpoint.name}: the stream broke off")
            self.reason = told.reason
            self.visit.used(told.tokens_in, told.tokens_out)
            _record(self.endpoint, told)

    async def close(self) -> None:
        """Give back what it holds."""
        await self.held.aclose()


async def beginning(each: Try) -> Begun:
    """Its stream, as soon as that has said something.

    Raises:
        EndpointError: it has not.
    """

    async def once() -> Begun:
        endpoint = each.gate.endpoint
        with _noted(each):
            outgoing = each.request.to(endpoint, stream=True)
            async with AsyncExitStack() as held:
                visit = await held.enter_async_context(
                    each.gate.admitted(each.request.tokens, patient=each.patient, pause=each.transport.pause)
                )
                said = await held.enter_async_context(aclosing(_said(each, outgoing)))
                try:
                    async with asyncio.timeout(endpoint.first_token_timeout):
                        first = await _first(endpoint, said)
                except TimeoutError:
                    limit = endpoint.first_token_timeout
                    raise EndpointError(f"{endpoint.name}: no first token in {limit:g} s") from None
                visit.answered()
                return Begun(endpoint, first, said, visit, held.pop_all())

    return await _retrying(each)(once)


def _record(endpoint: ModelEndpoint, said: Said) -> None:
    """For the experience of the decorated function that asks, if one does."""
    prices = ((said.tokens_in, endpoint.price_in), (said.tokens_out, endpoint.price_out))
    costs = [tokens * price / _MILLION for tokens, price in prices if tokens is not None and price is not None]
    record(
        tokens_in=said.tokens_in,
        tokens_out=said.tokens_out,
        money_usd=sum(costs) if len(costs) == len(prices) else None,
        metadata={} if said.reason in _WHOLE else {"finish_reason": said.reason},
    )


def _together(told: Said, more: Said) -> Said:
    """What two events of a stream say, but for their texts."""
    return replace(
        more,
        tokens_in=told.tokens_in if more.tokens_in is None else more.tokens_in,
        tokens_out=told.tokens_out if more.tokens_out is None else more.tokens_out,
        finished=told.finished or more.finished,
        reason=more.reason or told.reason,
    )


async def _said(each: Try, outgoing: Outgoing) -> AsyncGenerator[Said, None]:
    async with aclosing(each.transport.events(each.gate.endpoint, outgoing)) as events:
        async for event in events:
            yield _understood(each.gate.endpoint, event)


async def _first(endpoint: ModelEndpoint, said: AsyncGenerator[Said, None]) -> Said:
    """The first that has a text, with what was told before; the last one where none has, as a call of a tool."""
    told = Said()
    async for each in said:
        told = _together(told, each)
        if told.text or told.finished:
            return told
    raise EndpointError(f"{endpoint.name}: the stream ended before it said anything", passing=True)


def _understood(endpoint: ModelEndpoint, payload: Json) -> Said:
    """What the adapter reads in it. A stranger's adapter may raise anything, and return anything."""
    try:
        said = endpoint.adapter.read(payload)
        if not isinstance(said, Said) or not isinstance(said.text, str):
            raise TypeError(f"its adapter read a {type(said).__name__}")
    except Exception as err:
        why, said_text = endpoint.without_key(str(err)), endpoint.without_key(json.dumps(payload))
        raise EndpointError(
            f"{endpoint.name}: this is no answer in the wire format {endpoint.adapter.name!r} "
            f"({type(err).__name__}: {why}): {said_text[:200]}"
        ) from err
    if said.error is not None:
        raise EndpointError(
            f"{endpoint.name} answers with an error: {endpoint.without_key(said.error)[:300]}", status=_OK
        )
    if said.reason == FILTERED:  # what is there of it, often nothing, is no answer
        raise EndpointError(f"{endpoint.name}: its content filter kept the answer back", status=_OK, blameless=True)
    return said


@contextmanager
def _noted(each: Try) -> Iterator[None]:
    """Tell what became of it."""
    name, began = each.gate.endpoint.name, monotonic()
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
        each.attempts.append(attempt)
        logger.debug("{}: {} after {:.3f} s", name, attempt["error"] or "answered", attempt["latency_s"])


def _retrying(each: Try) -> AsyncRetrying:
    """Again, after a while, what failed in passing, as long as there is time to."""
    from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, stop_before_delay

    stop = stop_after_attempt(1 + each.gate.endpoint.retries)
    if each.until is not None:
        left = max(0.0, each.until - asyncio.get_running_loop().time())
        return AsyncRetrying(
            stop=stop | stop_before_delay(left),
            wait=_wait_s,
            retry=retry_if_exception(_passes),
            sleep=each.transport.pause,
            reraise=True,
        )
    return AsyncRetrying(
        stop=stop, wait=_wait_s, retry=retry_if_exception(_passes), sleep=each.transport.pause, reraise=True
    )


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
