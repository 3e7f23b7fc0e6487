"""What each engine costs a call: exact hit, miss and semantic lookup at 10,000 experiences, as ratios to SQLite.

``python benchmarks/engines.py [--rounds N] [NAME=STORE[+INDEX] ...]``. Without names: SQLite, and the servers that the
tests use, where they run (`tests/support/servers`); PostgreSQL with pgvector and a Chroma server are started. Rounds
take turns; medians in microseconds. All servers are on this machine: add your network's round trips, one for a hit that
is read, two to five for a miss. The hot tier is off (`hot_ttl=0`), the vectors are random, nothing is embedded.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from exp_pool import Experience, ExpManager
from exp_pool.core.record import Vector, to_record
from exp_pool.core.values.vectors import to_unit
from exp_pool.protocols import Put
from exp_pool.search.embedders.service import Embedded
from exp_pool.search.search import SearchQuery

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

HITS, MISSES, LOOKUPS, ROWS, DIMENSION = 300, 100, 60, 10_000, 384


def engines(stack: ExitStack, folder: Path) -> dict[str, dict[str, Any]]:
    """Settings by name, of what there is on this machine."""
    from support.servers import MYSQL_URL, POSTGRES_URL, REDIS_URL
    from support.servers.chroma import Chroma
    from support.servers.databases import new_database
    from support.servers.postgres import Postgres, pgvector_binaries

    found: dict[str, dict[str, Any]] = {
        "sqlite, scan": {"store": f"sqlite:///{folder}/scan.db", "index": "exact://"},
        "sqlite, chroma": {"store": f"sqlite:///{folder}/chroma.db", "index": f"chroma:///{folder}/chroma"},
        "sqlite, milvus lite": {"store": f"sqlite:///{folder}/milvus.db", "index": f"milvus:///{folder}/lite.db"},
    }

    def add(name: str, settings: Callable[[], dict[str, Any]]) -> None:
        try:
            found[name] = settings()
        except Exception as err:
            print(f"left out: {name}: {err}")

    add("postgresql, scan", lambda: {"store": stack.enter_context(new_database(POSTGRES_URL)), "index": "exact://"})
    add("mariadb, scan", lambda: {"store": stack.enter_context(new_database(MYSQL_URL)), "index": "exact://"})
    add("redis, scan", lambda: {"store": f"{REDIS_URL}?prefix=bench{time.time_ns()}", "index": "exact://"})
    add(
        "postgresql 18, pgvector",
        lambda: {"store": stack.enter_context(Postgres(pgvector_binaries())).url, "index": "pgvector://"},
    )
    add(
        "sqlite, chroma server",
        lambda: {
            "store": f"sqlite:///{folder}/server.db",
            "index": stack.enter_context(Chroma()).url,
        },
    )
    return found


def filled(settings: dict[str, Any], vectors: np.ndarray) -> ExpManager:
    """A manager with 10,000 experiences and their vectors, indexed where there is an index."""
    manager = ExpManager(embedder=lambda texts: np.ones((len(texts), DIMENSION)), index_from=1, hot_ttl=0, **settings)
    store = manager.sync.store
    identity = manager.sync._embeddings.embed(["x"], 60).embedder
    rows = [
        to_record(Experience(function="answer", request=f"question {i}", response=i), "default") for i in range(ROWS)
    ]
    puts = [Put(row, vector=Vector(identity, vector.tobytes())) for row, vector in zip(rows, vectors, strict=True)]
    for start in range(0, ROWS, 500):
        store.put_many(puts[start : start + 500])
    manager.sync.flush()
    return manager


def per_call(work: Callable[[], Any], calls: int) -> float:
    """Microseconds for each of so many calls."""
    began = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - began) / calls * 1e6


def measure(managers: dict[str, ExpManager], rounds: int, queries: np.ndarray) -> dict[str, dict[str, list[float]]]:
    """By path and engine, the time of each round."""
    times: dict[str, dict[str, list[float]]] = {"exact hit": {}, "miss": {}, "semantic lookup": {}}
    numbers, turns = itertools.count(), itertools.cycle(queries)
    functions = {}
    for name, manager in managers.items():

        @manager.exp_cache(name="answer")
        def answer(question: str) -> str:
            return question

        functions[name] = answer
        answer("the same question")
    for _ in range(rounds):
        for name, manager in managers.items():
            function, pool = functions[name], manager.sync
            search, identity = pool.services.search, pool._embeddings.embed(["x"], 60).embedder

            def lookup() -> Any:
                embedded = Embedded(next(turns)[None], [True], identity)  # noqa: B023  (called before the next round)
                return search.nearest(SearchQuery("default", "x", 5, function="answer"), embedded)  # noqa: B023

            times["exact hit"].setdefault(name, []).append(per_call(lambda f=function: f("the same question"), HITS))
            times["miss"].setdefault(name, []).append(
                per_call(lambda f=function: f(f"new question {next(numbers)}"), MISSES)
            )
            lookup()
            times["semantic lookup"].setdefault(name, []).append(per_call(lookup, LOOKUPS))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("names", nargs="*", metavar="NAME=STORE[+INDEX]", help="instead of those that are found")
    arguments = parser.parse_args()
    vectors = to_unit(np.random.default_rng(0).normal(size=(ROWS, DIMENSION)), ROWS)
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="exp_pool_engines_", ignore_cleanup_errors=True))
        )
        chosen = dict(name.split("=", 1) for name in arguments.names)
        wanted = {
            name: {"store": place.partition("+")[0], "index": place.partition("+")[2] or "exact://"}
            for name, place in chosen.items()
        } or engines(stack, folder)
        managers: dict[str, ExpManager] = {}
        for name, settings in wanted.items():
            began = time.perf_counter()
            managers[name] = filled(settings, vectors)
            print(f"{name}: filled in {time.perf_counter() - began:.1f} s")
        times = measure(managers, arguments.rounds, vectors[::50])
        for manager in managers.values():
            manager.sync.delete_all_exps()
            manager.sync.close()
    console = Console()
    base = next(iter(managers))
    for path, by_name in times.items():
        table = Table("engine", "median us", f"ratio to {base}", title=f"{path} at {ROWS:,} experiences")
        reference = statistics.median(by_name[base])
        for name, measured in by_name.items():
            median = statistics.median(measured)
            table.add_row(name, f"{median:,.0f}", f"{median / reference:.2f}")
        console.print(table)


if __name__ == "__main__":
    main()
