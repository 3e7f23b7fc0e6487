"""Routed streams: the texts of the endpoint that answers, as the caller iterates over them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Self

from exp_pool.routing.endpoint_call import Attempt, OpenStream


class RoutedStream:
    """An async iterator of texts. Nothing is asked before the first one is wanted.

    Attributes:
        model: the name of the endpoint that answers; None before the first text.
        attempts: what was tried, as of `ConcurrentRouter.route_request`.
        finish_reason: why it ended, as there; None before.
    """

    def __init__(self, begin: Callable[[], Awaitable[OpenStream]], attempts: Sequence[Attempt]) -> None:
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.attempts = attempts
        self._texts = self._from(begin)

    async def _from(self, begin: Callable[[], Awaitable[OpenStream]]) -> AsyncGenerator[str, None]:
        stream = await begin()
        self.model = stream.endpoint.name
        async with aclosing(stream.texts()) as texts:
            async for text in texts:
                yield text
        self.finish_reason = stream.reason

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        return await anext(self._texts)

    async def aclose(self) -> None:
        """Read no further: the connection is closed, the place at the endpoint given back."""
        await self._texts.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
