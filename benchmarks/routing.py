"""Routing under load: what 5,000 requests meet at four endpoints that fail, and what hedging is worth.

``python benchmarks/routing.py [--requests N]``. Real HTTP servers on loopback, in this process: times say how the
router behaves, not how quick it is. ``faults``: one try in five fails (500, 503, 429 with Retry-After, connections cut,
broken JSON), limits 5, 10, 20 and 50, all requests at once. ``slow``: one answer in twenty takes 0.4 s, the others
0.02 s; 8 requests at a time, without hedging and with it, which may ask a second endpoint for one request in ten.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.servers.models import FAULTS, ModelServer

from exp_pool.routing import ConcurrentRouter, ModelEndpoint

WIRES, LIMITS = ("openai", "openai-responses", "anthropic", "gemini"), (5, 10, 20, 50)
QUICK_S, SLOW_S, SLOW_SHARE = 0.02, 0.4, 0.05


def failing(server, seed):
    coin, lock = random.Random(seed), threading.Lock()

    def reply(body):
        with lock:
            fault = coin.choice(FAULTS) if coin.random() < 0.2 else None
        return fault or f"{server.name} says: {server.format.prompt(body)}"

    return reply


def slow_now_and_then(server, seed):
    coin, lock, never = random.Random(seed), threading.Lock(), threading.Event()

    def reply(body):
        with lock:
            seconds = SLOW_S if coin.random() < SLOW_SHARE else QUICK_S
        never.wait(seconds)
        return f"{server.name} says: {server.format.prompt(body)}"

    return reply


async def ask_all(endpoints, strategy, requests, at_once, **settings):
    """(answer, seconds) of each request."""
    places = asyncio.Semaphore(at_once)

    async def ask(router, number):
        async with places:
            began = time.perf_counter()
            answer = await router.route_request(f"request {number}")
            return answer, time.perf_counter() - began

    async with ConcurrentRouter(endpoints, strategy, deadline=300, **settings) as router:
        return await asyncio.gather(*(ask(router, number) for number in range(requests)))


def run(requests, reply, limits, strategy, at_once, **settings):
    """A column of the table."""
    servers = [ModelServer(wire, wire) for wire in WIRES]
    try:
        for seed, server in enumerate(servers):
            server.reply = reply(server, seed)
        endpoints = [
            ModelEndpoint(server.name, server.url, limit, retries=3, breaker_after=1000)
            for server, limit in zip(servers, limits, strict=True)
        ]
        before, began = psutil.Process().num_fds(), time.perf_counter()
        answers = asyncio.run(ask_all(endpoints, strategy, requests, at_once, **settings))
        took = time.perf_counter() - began
        tries = sum(len(server.requests) for server in servers)
        right = sum(a["response"] == f"{a['model']} says: request {n}" for n, (a, _) in enumerate(answers))
        twice = sum(count > 1 for count in Counter(prompt for server in servers for prompt in server.sent).values())
        attempts = [answer["attempts"] for answer, _ in answers]
        seconds = sorted(each for _, each in answers)
        over = sum(server.busiest > limit for server, limit in zip(servers, limits, strict=True))
        for _ in range(200):  # the servers' side of a connection ends a moment later
            if psutil.Process().num_fds() <= before:
                break
            time.sleep(0.01)
        return {
            "requests": f"{requests:,}",
            "tries": f"{tries:,}",
            "failed or given up": f"{sum(bool(each['error']) for tried in attempts for each in tried):,}",
            "answered by another": f"{sum(len({each['model'] for each in tried}) > 1 for tried in attempts):,}",
            "lost, or not what its server sent": str(requests - right),
            "sent by two servers": str(twice),
            "endpoints over their limit": str(over),
            "open files before / after": f"{before} / {psutil.Process().num_fds()}",
            "p50, ms": f"{statistics.median(seconds) * 1000:.0f}",
            "p95, ms": f"{seconds[int(len(seconds) * 0.95)] * 1000:.0f}",
            "p99, ms": f"{seconds[int(len(seconds) * 0.99)] * 1000:.0f}",
            "all, s": f"{took:.1f}",
        }
    finally:
        for server in servers:
            server.close()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--requests", type=int, default=5000)
    said = arguments.parse_args()
    few, many = max(200, said.requests // 5), (50,) * 4
    runs = {
        "faults": run(said.requests, failing, LIMITS, "least_busy", said.requests),
        "slow": run(few, slow_now_and_then, many, "round_robin", 8),
        "slow, hedged": run(few, slow_now_and_then, many, "round_robin", 8, hedge=True),
    }
    table = Table("four endpoints")
    for name in runs:
        table.add_column(name, justify="right")
    for measure in runs["faults"]:
        table.add_row(measure, *(row[measure] for row in runs.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
