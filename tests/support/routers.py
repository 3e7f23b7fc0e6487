"""Routers on test servers, which leave nothing behind."""

import asyncio

import psutil
from support.servers import until

from exp_pool.routing import ConcurrentRouter, ModelEndpoint

KEY = "correct-horse-battery-staple"  # in the shape of no known token


def endpoint(server, name=None, **settings):
    return ModelEndpoint(name or server.name, server.url, **{"api_key": KEY, **settings})


def open_files():
    return psutil.Process().num_fds()


def use(endpoints, do, strategy="priority", release=None, **settings):
    """What `do` returns of a router. Nothing of it is left: no task, no connection, no file.

    `release` is an event for which servers wait; it is set when the router is closed.
    """

    async def main():
        async with ConcurrentRouter(endpoints, strategy, **settings) as router:
            value = await do(router)
        for _ in range(5):  # httpx leaves generators to the loop, which closes them at its next turns
            await asyncio.sleep(0)
        return value, asyncio.all_tasks() - {asyncio.current_task()}

    before = open_files()
    try:
        value, tasks = asyncio.run(main())
    finally:
        if release:
            release.set()
    assert tasks == set()
    until(lambda: open_files() <= before, "every connection is closed, on the servers' side, too")
    return value


def route(endpoints, prompt="hello", strategy="priority", router=None, **options):
    return use(endpoints, lambda r: r.route_request(prompt, **options), strategy, **(router or {}))
