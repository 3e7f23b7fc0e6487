"""Endpoints that say whether they are well are asked, so that no request has to find out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from loguru import logger

from exp_pool.errors import EndpointError

if TYPE_CHECKING:
    from exp_pool.routing.discovery import Gates
    from exp_pool.routing.gate import Gate
    from exp_pool.routing.transport import Transport


async def keep_checked(gates: Gates, transport: Transport, every_s: float) -> None:
    """Ask each that has a `health_url`, for ever. One that says it is not well gets no requests until it is again."""
    while True:
        checked = [gate for gate in gates.all if gate.endpoint.health_url]
        await asyncio.gather(*(_check(gate, transport) for gate in checked))
        await asyncio.sleep(every_s)


async def _check(gate: Gate, transport: Transport) -> None:
    before = gate.circuit.unwell
    try:
        await transport.check(gate.endpoint)
        gate.circuit.unwell = ""
    except EndpointError as err:
        gate.circuit.unwell = str(err)
    if bool(before) != bool(gate.circuit.unwell):
        logger.info("{}: {}", gate.endpoint.name, gate.circuit.unwell or "well again")
