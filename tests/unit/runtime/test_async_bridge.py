"""Awaitables are resolved for synchronous callers, inside a running loop too."""

import asyncio

import pytest

from exp_pool.runtime.async_bridge import resolve


def test_plain_results_and_awaitables_are_settled_inside_a_loop_too():
    async def later(x):
        await asyncio.sleep(0)
        return x

    async def main():
        return resolve(later(1)), resolve(2)

    assert asyncio.run(main()) == (1, 2)
    with pytest.raises(TimeoutError):
        resolve(asyncio.Event().wait(), 0.05)


def test_an_awaited_plug_may_settle_another_which_may_hang():
    async def inner():
        await asyncio.sleep(0)
        return 1

    async def outer():
        return resolve(inner()) + 1

    async def hanging():
        await asyncio.Event().wait()

    async def patient():
        return resolve(hanging(), 0.01)

    assert resolve(outer(), 10) == 2
    with pytest.raises(TimeoutError):
        resolve(patient(), 10)
    assert resolve(outer(), 10) == 2, "the loop is not held up"
