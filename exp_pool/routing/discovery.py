"""Service discovery: the endpoints as they were given, or as a function or a file says again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from loguru import logger

from exp_pool.errors import ConfigurationError
from exp_pool.routing.endpoint import ModelEndpoint
from exp_pool.routing.endpoints_file import EndpointsFile
from exp_pool.routing.limiter import EndpointLimiter

Discover: TypeAlias = Callable[[], Awaitable[Iterable[ModelEndpoint]]]


class EndpointLimiters:
    """The endpoints as they are now, each with its limiter. What is under way at one that went goes on there.

    Args:
        endpoints: the endpoints, an async function that says which there are, or the path of a file that lists them.

    Raises:
        ConfigurationError: there are none, two have one name, one is something else, or the file cannot be read.
    """

    def __init__(self, endpoints: Iterable[ModelEndpoint] | Discover | str | Path) -> None:
        self._discover: Discover | None = None
        self._limiters: dict[str, EndpointLimiter] = {}
        if isinstance(endpoints, str | Path) and "://" not in str(endpoints):
            self._discover = file = EndpointsFile(endpoints)
            self._set(_checked(file.read()))
        elif callable(endpoints):
            self._discover = endpoints
        else:
            self._set(_checked(endpoints))

    @property
    def all(self) -> Sequence[EndpointLimiter]:
        """All limiters, in the order in which the endpoints were given."""
        return list(self._limiters.values())

    @property
    def known(self) -> bool:
        """Whether endpoints were found at least once."""
        return bool(self._limiters)

    async def refresh(self) -> None:
        """Discover the endpoints again.

        Raises:
            Exception: what the function raises; `ConfigurationError` where it gives no endpoints. The old ones stay.
        """
        if self._discover is not None:
            self._set(_checked(await self._discover()))

    async def keep_fresh(self, every_s: float) -> None:
        """Refresh for ever, where endpoints may change. Where that fails, the old ones stay."""
        while self._discover is not None:
            await asyncio.sleep(every_s)
            try:
                await self.refresh()
            except Exception as err:
                logger.warning(
                    "endpoints could not be found again, the last ones stay: {}: {}", type(err).__name__, err
                )

    def _set(self, endpoints: Sequence[ModelEndpoint]) -> None:
        """An endpoint of the same name and address keeps its limiter, so requests under way and its circuit count."""
        old, self._limiters = self._limiters, {}
        for each in endpoints:
            limiter = old.get(each.name)
            if limiter is None or limiter.endpoint.url != each.url:
                limiter = EndpointLimiter(each)
            else:
                limiter.adopt(each)
            self._limiters[each.name] = limiter


def _checked(endpoints: Iterable[ModelEndpoint] | str | Path) -> Sequence[ModelEndpoint]:
    if isinstance(endpoints, ModelEndpoint | str | Path) or not isinstance(endpoints, Iterable):
        raise ConfigurationError(
            f"endpoints={endpoints!r:.80} must be a list of ModelEndpoint, or the path of a file that lists them"
        )
    given = list(endpoints)
    if not given:
        raise ConfigurationError("there are no endpoints; give at least one ModelEndpoint(name, url)")
    names: set[str] = set()
    for each in given:
        if not isinstance(each, ModelEndpoint):
            raise ConfigurationError(f"endpoints has {each!r:.80}; it must be a ModelEndpoint")
        if each.name in names:
            raise ConfigurationError(
                f"two endpoints are called {each.name!r}; names must differ (model= may be the same)"
            )
        names.add(each.name)
    return given
