"""Thousands of requests over endpoints that fail now and then: none lost, none twice, no limit exceeded, nothing left.

``EXP_POOL_FULL=1`` sends 5,000 instead of 800, and ``-s`` shows the figures.
"""

import asyncio
import os
import random
import threading
import time
from collections import Counter

import psutil
from support.servers import until
from support.servers.models import FAULTS

from exp_pool.routing import ConcurrentRouter, ModelEndpoint

REQUESTS = 5000 if os.environ.get("EXP_POOL_FULL") == "1" else 800
WIRES = ["openai", "openai-responses", "anthropic", "gemini"]
LIMITS = [5, 10, 20, 50]


def faulty(name, prompt, seed, limit):
    """One try in five fails. The first ones wait for each other, so that as many are there at once as may be."""
    rng, lock, full = random.Random(seed), threading.Lock(), threading.Barrier(limit)
    first = iter(range(limit))

    def reply(body):
        with lock:
            fault = rng.choice(FAULTS) if rng.random() < 0.2 else None
            waits = next(first, None) is not None
        if waits:
            full.wait(30)
            threading.Event().wait(0.1)  # more would come now
        return fault or f"{name} says: {prompt(body)}"

    return reply


def test_many_requests(model_server):
    servers = [model_server(wire, wire) for wire in WIRES]
    for seed, server in enumerate(servers):
        server.reply = faulty(server.name, server.format.prompt, seed, LIMITS[seed])
    endpoints = [
        ModelEndpoint(server.name, server.url, limit, retries=3, breaker_after=1000)
        for server, limit in zip(servers, LIMITS, strict=True)
    ]

    async def main():
        async with ConcurrentRouter(endpoints, "least_busy", deadline=240) as router:
            answers = await asyncio.gather(*(router.route_request(f"request {n}") for n in range(REQUESTS)))
            running = [each["running"] for each in router.health().values()]
        return answers, running

    before, began = psutil.Process().num_fds(), time.monotonic()
    answers, running = asyncio.run(main())
    took = time.monotonic() - began
    assert [answer["response"] for answer in answers] == [
        f"{answer['model']} says: request {n}" for n, answer in enumerate(answers)
    ]
    sent = Counter(prompt for server in servers for prompt in server.sent)
    assert sent == {f"request {n}": 1 for n in range(REQUESTS)}  # none lost, none answered twice
    assert all(server.busiest <= limit for server, limit in zip(servers, LIMITS, strict=True))
    assert [server.busiest for server in servers] == LIMITS  # and they were all used
    assert running == [0, 0, 0, 0]
    until(lambda: psutil.Process().num_fds() <= before, "no connection is left")
    failures = sum(bool(attempt["error"]) for answer in answers for attempt in answer["attempts"])
    fallbacks = sum(len({attempt["model"] for attempt in answer["attempts"]}) > 1 for answer in answers)
    assert failures > REQUESTS * 0.15
    print(  # noqa: T201  (with -s)
        f"\n{REQUESTS} requests in {took:.1f} s: {failures} faults, {fallbacks} fallbacks, 0 lost; "
        f"busiest {[server.busiest for server in servers]} of {LIMITS}; "
        f"files {before} before, {psutil.Process().num_fds()} after; {dict(Counter(a['model'] for a in answers))}"
    )
