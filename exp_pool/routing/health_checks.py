"""Health checks: endpoints with a `health_url` are asked, so that no request has to find out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from loguru import logger

from exp_pool.errors import EndpointError

if TYPE_CHECKING:
    from exp_pool.routing.discovery import EndpointLimiters
    from exp_pool.routing.limiter import EndpointLimiter
    from exp_pool.routing.transport import Transport


async def watch_health(limiters: EndpointLimiters, transport: Transport, every_s: float) -> None:
    """Check each endpoint that has a `health_url`, for ever. One that is not well gets no requests until it is again.

    Args:
        limiters: of all endpoints.
        transport: the router's.
        every_s: seconds between two rounds.
    """
    while True:
        checked = [limiter for limiter in limiters.all if limiter.endpoint.health_url]
        await asyncio.gather(*(_check(limiter, transport) for limiter in checked))
        await asyncio.sleep(every_s)


async def _check(limiter: EndpointLimiter, transport: Transport) -> None:
    before = limiter.circuit.unwell
    try:
        await transport.check(limiter.endpoint)
        limiter.circuit.unwell = ""
    except EndpointError as err:
        limiter.circuit.unwell = str(err)
    if bool(before) != bool(limiter.circuit.unwell):
        logger.info("{}: {}", limiter.endpoint.name, limiter.circuit.unwell or "well again")
