"""One random program of 2,000 operations gives the same visible results on every store as in memory.

What differs is shortened to the operations that make it differ. 2,000 operations of three seeds with EXP_POOL_FULL=1, 150 of one
otherwise.
"""

import itertools
import os
import random
import time

import pytest
from programs import Program, Session
from support.pools import SERVERS, new_store

from exp_pool.runtime import clock as _clock
from exp_pool.stores.memory import MemoryStore

FULL = os.environ.get("EXP_POOL_FULL") == "1"
LENGTH, SEEDS = (2000, (1, 2, 3)) if FULL else (150, (1,))
SHORTEST = 60  # tries at shortening a program


class Clock:
    """Begins now, since servers have clocks of their own, and moves on by a microsecond with each operation."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self):
        self.ns = time.time_ns()

    def time_ns(self):
        return self.ns


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(_clock, "time", Clock())
    return _clock.time


def results(store, operations, clock, started):
    """What is seen of each operation, and then of everything."""
    session = Session(store)
    for number, operation in enumerate(operations):
        clock.ns = started + 1000 * number
        yield session.do(operation)
    yield from session.everything()


def difference(store, operations, clock):
    """The number of the first operation of which a store lets something else be seen, and what; None where none does."""
    started = clock.ns
    expected = list(results(MemoryStore(), operations, clock, started))
    for number, (wanted, got) in enumerate(zip(expected, results(store, operations, clock, started), strict=True)):
        if got != wanted:
            return number, f"in memory {wanted!r}\nhere      {got!r}"
    return None


def shortened(operations, number, differs):
    """Fewer operations that still differ: first what comes after is left out, then halves, quarters, ..."""
    operations, tries = operations[: number + 1], itertools.count()
    size = len(operations) // 2
    while size and next(tries) < SHORTEST:
        for start in range(0, len(operations), size):
            fewer = operations[:start] + operations[start + size :]
            if next(tries) < SHORTEST and differs(fewer) is not None:
                operations = fewer
                break
        else:
            size //= 2
    return operations


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["sqlite", "json", *SERVERS])
def test_a_program_shows_the_same_as_in_memory(kind, seed, request, tmp_path_factory, clock):
    def differs(operations):
        with new_store(kind, request, tmp_path_factory.mktemp("store")) as store:
            return difference(store, operations, clock)

    operations = Program(random.Random(seed), LENGTH).operations
    found = differs(operations)
    if found is not None:
        fewer = shortened(operations, found[0], differs)
        number, what = differs(fewer) or (None, "it did not differ again")
        done = "\n".join(f"{i}: {operation}" for i, operation in enumerate(fewer))
        pytest.fail(f"{kind}, operation {found[0]}, shortened:\n{done}\n{number} differs:\n{what}", pytrace=False)
