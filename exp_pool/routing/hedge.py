"""Hedged requests: one try after the other, or the next one a little early; the first success counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from exp_pool.errors import EndpointError

T = TypeVar("T")


async def first_success(
    tries: Sequence[Callable[[], Awaitable[T]]],
    hedge_after_s: float | None = None,
    may_hedge: Callable[[], bool] = lambda: True,
) -> T:
    """What the first of `tries` to succeed returns.

    The next one begins when all before it have failed; or once, if `may_hedge` then, when the first has not ended after
    `hedge_after_s` seconds (the hedged requests of Dean and Barroso, The Tail at Scale, 2013). Losers are cancelled,
    and have ended when this returns.

    Args:
        tries: in the order in which they begin.
        hedge_after_s: seconds; None: no hedging.
        may_hedge: asked just then.

    Raises:
        EndpointError: all have failed; the last one's.
    """
    coming = list(reversed(tries))
    running: set[asyncio.Future[T]] = set()
    ended: set[asyncio.Future[T]] = set()  # also those that end together with the first to succeed, and fail
    try:
        while True:
            if not running:
                running.add(asyncio.ensure_future(coming.pop()()))
            done, running = await asyncio.wait(
                running, timeout=hedge_after_s if coming else None, return_when=asyncio.FIRST_COMPLETED
            )
            hedge_after_s = None
            if not done and may_hedge():
                running.add(asyncio.ensure_future(coming.pop()()))
            ended.update(done)
            failures: list[EndpointError] = []
            for task in done:
                try:
                    return task.result()
                except EndpointError as err:
                    failures.append(err)
            if failures and not running and not coming:
                raise failures[-1]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, *ended, return_exceptions=True)
