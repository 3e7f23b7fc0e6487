"""A function body that waits until it is let go, for tests of calls at once."""

import asyncio
import threading


class Gate:
    """A function body that waits until it is let go, on a thread or on a loop, and counts its runs."""

    def __init__(self):
        self.runs, self.entered, self.open = 0, threading.Event(), threading.Event()

    def run(self):
        self.runs += 1
        self.entered.set()
        assert self.open.wait(30)
        return {"run": self.runs}

    async def arun(self):
        self.runs += 1
        self.entered.set()
        while not self.open.is_set():
            await asyncio.sleep(0.001)
        return {"run": self.runs}


def until(condition):
    """Spin until it holds; fails after long."""
    waited = threading.Event()
    for _ in range(20_000):
        if condition():
            return
        waited.wait(0.001)
    raise AssertionError("it never came to that")


def aboard(manager):
    return sum(flight.waiters for flight in list(manager.sync.services.flights._flights.values()))
