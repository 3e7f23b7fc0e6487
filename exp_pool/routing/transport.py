"""HTTP transport: JSON and server-sent events. Whatever goes wrong is an `EndpointError` without any key in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from email.utils import parsedate_to_datetime
from types import MappingProxyType, TracebackType
from typing import Any, cast

import httpx

from exp_pool.errors import ClosedError, EndpointError
from exp_pool.routing.adapters.contract import Json, Outgoing
from exp_pool.routing.endpoint import ModelEndpoint
from exp_pool.runtime.clock import monotonic, now

_REDIRECT, _SERVER = 300, 500
_PASSING = frozenset({408, 409, 425, 429})  # and from 500 on: the same request may do a moment later
_BLAMELESS = frozenset({400, 405, 411, 413, 414, 415, 422, 431})  # of the request; others concern every request
_OUT_OF_MONEY = "insufficient_quota"  # a 429 that no waiting mends
_SHOWN, _ERROR_BYTES = 300, 65_536
_DONE = "[DONE]"
_LINGER_S = 0.2
_NONE: Mapping[str, str] = MappingProxyType({})


class Transport:
    """One HTTP client for all endpoints: connections are kept and shared.

    Args:
        max_bytes: of one answer.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # Limiters bound connections. Redirects are not followed: they would take the key elsewhere.
        self._closing = asyncio.Event()
        self._client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None, max_keepalive_connections=100))

    async def close(self) -> None:
        """Cut every connection, and end every pause."""
        self._closing.set()
        await self._client.aclose()

    async def pause(self, seconds: float) -> None:
        """Wait for so many seconds.

        Raises:
            ClosedError: the router was closed meanwhile.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
                raise ClosedError("the router was closed; make a new one")

    async def answer(self, endpoint: ModelEndpoint, outgoing: Outgoing) -> Json:
        """The JSON that the endpoint answers.

        Raises:
            EndpointError: it answers none.
            ClosedError: the router was closed.
        """
        with _translated(endpoint, self._client):
            async with asyncio.timeout(endpoint.timeout):
                response = await self._post(endpoint, outgoing)
                try:
                    return await self._whole(endpoint, response)
                finally:
                    await response.aclose()

    async def check(self, endpoint: ModelEndpoint) -> None:
        """Ask an endpoint with a `health_url` whether it is well.

        Raises:
            EndpointError: it is not well, or did not say so in time.
            ClosedError: the router was closed.
        """
        with _translated(endpoint, self._client):
            async with asyncio.timeout(endpoint.timeout):
                response = await self._send(endpoint, "GET", str(endpoint.health_url))
                await response.aclose()

    async def events(self, endpoint: ModelEndpoint, outgoing: Outgoing) -> AsyncGenerator[Json, None]:
        """The JSON of each event; of a server that does not stream, its answer.

        Only the waiting counts against the endpoint's `timeout`, not what the reader does between events.

        Raises:
            EndpointError: there is no answer, or it breaks off.
            ClosedError: the router was closed.
        """
        patience = _Patience(endpoint.timeout)
        with _translated(endpoint, self._client):
            async with patience:
                response = await self._post(endpoint, outgoing)
            try:
                if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                    async with patience:
                        answer = await self._whole(endpoint, response)
                    yield answer
                    return
                parser = EventParser()
                size = 0
                async with aclosing(_body(response)) as chunks:
                    while True:
                        async with patience:
                            chunk = await anext(chunks, None)
                        if chunk is None:
                            return
                        size += len(chunk)
                        self._limit(endpoint, size)
                        for text in parser.feed(chunk):
                            if text == _DONE:
                                await _drained(chunks)
                                return
                            yield _parsed(endpoint, text)
            finally:
                await response.aclose()

    async def _post(self, endpoint: ModelEndpoint, outgoing: Outgoing) -> httpx.Response:
        return await self._send(endpoint, "POST", outgoing.url, json=outgoing.body, headers=outgoing.headers)

    async def _send(
        self, endpoint: ModelEndpoint, method: str, url: str, *, json: Any = None, headers: Mapping[str, str] = _NONE
    ) -> httpx.Response:
        """The response, its body not yet read; the caller closes it."""
        request = self._client.build_request(
            method,
            url,
            json=json,
            headers={"Accept-Encoding": "identity", **endpoint.headers, **headers},
            timeout=httpx.Timeout(endpoint.timeout, connect=endpoint.connect_timeout, pool=None),
        )
        response = await self._client.send(request, stream=True)
        try:
            await self._check(endpoint, response)
        except BaseException:
            await response.aclose()
            raise
        return response

    async def _check(self, endpoint: ModelEndpoint, response: httpx.Response) -> None:
        """Any status but 2xx is an error."""
        status = response.status_code
        # httpx unpacks what came at once without a limit: 64 kB may become 64 MB. Answers of models are short enough.
        if (packed := response.headers.get("content-encoding", "identity")) != "identity":
            raise EndpointError(
                _shown(endpoint, f"HTTP {status}, compressed ({packed}), which was not asked for"), status=status
            )
        if status < _REDIRECT:
            return
        body = b""
        async with aclosing(_body(response)) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > _ERROR_BYTES:
                    break
        text = body[:_ERROR_BYTES].decode("utf-8", "replace")
        raise EndpointError(
            _shown(endpoint, f"HTTP {status}: {_message(text)}"),
            status=status,
            passing=(status in _PASSING and _OUT_OF_MONEY not in text) or status >= _SERVER,
            retry_after=_retry_after(response),
            blameless=status in _BLAMELESS,
        )

    async def _whole(self, endpoint: ModelEndpoint, response: httpx.Response) -> Json:
        body = bytearray()
        async with aclosing(_body(response)) as chunks:
            async for chunk in chunks:
                body += chunk
                self._limit(endpoint, len(body))
        return _parsed(endpoint, bytes(body), response.headers.get("content-type", ""))

    def _limit(self, endpoint: ModelEndpoint, size: int) -> None:
        if size > self._max_bytes:
            raise EndpointError(_shown(endpoint, f"the answer is longer than max_bytes={self._max_bytes:,}"))


class EventParser:
    """Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): only their `data` matter."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The data of each event that this completes. Chunks may end anywhere, also within a character."""
        searched = len(self._rest)
        self._rest += chunk
        if b"\n" not in self._rest[searched:]:
            return
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            text = line.decode("utf-8", "replace").rstrip("\r")
            if text.startswith("data:"):
                self._data.append(text.removeprefix("data:").removeprefix(" "))
            elif not text and self._data:
                event = "\n".join(self._data)
                self._data.clear()
                yield event


def _body(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body, unpacked. It is a generator, whatever its type says, and has to be closed."""
    return cast("AsyncGenerator[bytes, None]", response.aiter_bytes())


async def _drained(chunks: AsyncGenerator[bytes, None]) -> None:
    """Read to the end, so that the connection can be used again; nothing more is to come."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            async for _ in chunks:
                pass


class _Patience:
    """A time limit over any number of waits together, in seconds."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    async def __aenter__(self) -> None:
        self._began = monotonic()
        self._timeout = asyncio.timeout(self._left)
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left -= monotonic() - self._began
        await self._timeout.__aexit__(kind, err, trace)


@contextmanager
def _translated(endpoint: ModelEndpoint, client: httpx.AsyncClient) -> Iterator[None]:
    """Give the client's errors as `EndpointError`, without a cause: they hold the request with its headers."""
    if client.is_closed:
        raise ClosedError("the router was closed; make a new one")
    try:
        yield
    except (EndpointError, ClosedError):
        raise
    except (TimeoutError, httpx.TimeoutException) as err:
        connecting = isinstance(err, httpx.ConnectTimeout)
        what = (
            f"no connection in {endpoint.connect_timeout:g} s" if connecting else f"no answer in {endpoint.timeout:g} s"
        )
        # An endpoint that was waited for in vain is not tried again: the next endpoint is quicker.
        raise EndpointError(_shown(endpoint, what), passing=connecting) from None
    except Exception as err:
        if client.is_closed:
            raise ClosedError("the router was closed while it was asked") from None
        passing = isinstance(err, httpx.NetworkError | httpx.RemoteProtocolError)
        raise EndpointError(_shown(endpoint, f"{type(err).__name__}: {err}"), passing=passing) from None


def _shown(endpoint: ModelEndpoint, what: str) -> str:
    return f"{endpoint.name} at {endpoint.shown_url}: {endpoint.without_key(what)[:_SHOWN]}"


def _message(text: str) -> str:
    """The message of an error as providers write it, else the whole text."""
    with suppress(ValueError, TypeError, KeyError):
        error = json.loads(text)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    return text


def _parsed(endpoint: ModelEndpoint, text: str | bytes, kind: str = "") -> Json:
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        of_kind = f" ({kind})" if kind else ""
        raise EndpointError(_shown(endpoint, f"the answer is no JSON object{of_kind}: {str(text[:80])!s}"))
    return payload


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, from a number or a date."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = response.headers.get(name)
        if value is None:
            continue
        with suppress(ValueError):
            seconds = float(value) * unit
            if 0 <= seconds < float("inf"):
                return seconds
        with suppress(ValueError, TypeError):
            return max(0.0, (parsedate_to_datetime(value) - now()).total_seconds())
    return None
