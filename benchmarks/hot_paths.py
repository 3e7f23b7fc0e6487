"""Times of the hot paths, as ratios to peers measured in the same run.

``python benchmarks/hot_paths.py [--rounds N]``. Each figure is the median of several rounds that take turns, so that
what disturbs the machine disturbs all of them. Microseconds; a function of one short string that returns a small dict.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import chromadb
import diskcache
import numpy as np
from rich.console import Console
from rich.table import Table

from exp_pool import Experience, ExpManager
from exp_pool.core.record import Vector, to_record
from exp_pool.protocols import Put, VectorQuery
from exp_pool.search.embedders.service import Embedded
from exp_pool.search.search import SearchQuery

CALLS, MISSES, ROWS, QUERIES, DIMENSION = 2000, 500, 10_000, 100, 384


def answer(req: str) -> dict[str, str]:
    return {"answer": req}


def per_call(work: Callable[[], Any], calls: int) -> float:
    """Microseconds for each of so many calls."""
    began = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - began) / calls * 1e6


def hits_and_misses(folder: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """By path and library, the time of each round."""
    cache = diskcache.Cache(str(folder / "diskcache"))
    cached = cache.memoize()(answer)
    managers = {
        "exp_pool on SQLite, hot": ExpManager(store=f"sqlite:///{folder}/hot.db", index="none://"),
        "exp_pool on SQLite, read": ExpManager(store=f"sqlite:///{folder}/cold.db", index="none://", hot_ttl=0),
        "exp_pool in memory, hot": ExpManager(store="memory://", index="none://"),
        "exp_pool in memory, read": ExpManager(store="memory://", index="none://", hot_entries=0),
    }
    functions: dict[str, Callable[[str], Any]] = {"diskcache": cached, "the function alone": answer}
    functions |= {name: manager.exp_cache(name="answer")(answer) for name, manager in managers.items()}
    with suppress(ImportError):
        import cachebox

        functions["cachebox"] = cachebox.cached(cachebox.LRUCache(100_000))(answer)
    numbers = itertools.count()
    times: dict[str, dict[str, list[float]]] = {"exact hit": {}, "miss": {}}
    for _ in range(rounds):
        for name, function in functions.items():
            function("the same question")
            times["exact hit"].setdefault(name, []).append(per_call(lambda f=function: f("the same question"), CALLS))
            times["miss"].setdefault(name, []).append(
                per_call(lambda f=function: f(f"question {next(numbers)}"), MISSES)
            )

    async def coroutine(req: str) -> dict[str, str]:
        return {"answer": req}

    async def timed(function: Callable[[str], Any], text: Callable[[], str], calls: int) -> float:
        began = time.perf_counter()
        for _ in range(calls):
            await function(text())
        return (time.perf_counter() - began) / calls * 1e6

    coroutines = {name: manager.exp_cache(name="coroutine")(coroutine) for name, manager in managers.items()}
    with suppress(ImportError):
        import cashews

        memory = cashews.Cache()
        memory.setup("mem://")
        coroutines["cashews"] = memory(ttl="1h")(coroutine)
    for _ in range(rounds):
        for name, wrapped in coroutines.items():

            async def measure(wrapped: Callable[[str], Any] = wrapped) -> tuple[float, float]:
                await wrapped("the same question"), await wrapped("the same question")
                hit = await timed(wrapped, lambda: "the same question", CALLS)
                return hit, await timed(wrapped, lambda: f"question {next(numbers)}", MISSES)

            hit, miss = asyncio.run(measure())
            times["exact hit"].setdefault(f"{name}, async", []).append(hit)
            times["miss"].setdefault(f"{name}, async", []).append(miss)
    for manager in managers.values():
        manager.sync.close()
    cache.close()
    return times


def semantic(folder: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Lookups of 5 among 10,000 vectors, without embedding: ours with the join to the store, Chroma's own beside it."""
    chance = np.random.default_rng(0)
    vectors = chance.normal(size=(ROWS, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[:QUERIES] + chance.normal(scale=0.02, size=(QUERIES, DIMENSION)).astype(np.float32)
    raw = chromadb.PersistentClient(str(folder / "raw")).create_collection(
        "raw", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
    )
    for start in range(0, ROWS, 1000):
        raw.add(ids=[str(i) for i in range(start, start + 1000)], embeddings=vectors[start : start + 1000])
    records = [to_record(Experience(function="f", request=f"r{i}", response=i), "default") for i in range(ROWS)]
    times: dict[str, list[float]] = {}
    managers = {}
    for kind, index in (("chroma", f"chroma:///{folder}/chroma"), ("exact scan", "exact://")):
        manager = ExpManager(
            store=f"sqlite:///{folder}/{kind}.db",
            index=index,
            embedder=lambda texts: vectors[: len(texts)],
            index_from=1,
        )
        pool = manager.sync
        pool._store.put_many([Put(r, vector=Vector("e", v.tobytes())) for r, v in zip(records, vectors, strict=True)])
        pool._index_sync.run(float("inf"))
        pool.services.search.nearest(SearchQuery("default", "", 5), Embedded(queries[:1], [True], "e"))
        managers[f"exp_pool, {kind}, with the join"] = pool
    for _ in range(rounds):
        turn = iter(itertools.cycle(range(QUERIES)))
        times.setdefault("raw Chroma query", []).append(
            per_call(
                lambda t=turn: raw.query(
                    query_embeddings=queries[(i := next(t)) : i + 1], n_results=5, include=["distances"]
                ),
                QUERIES,
            )
        )
        for name, pool in managers.items():
            times.setdefault(name, []).append(
                per_call(
                    lambda p=pool, t=turn: p.services.search.nearest(
                        SearchQuery("default", "", 5), Embedded(queries[(i := next(t)) : i + 1], [True], "e")
                    ),
                    QUERIES,
                )
            )
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    for name, pool in managers.items():
        query = VectorQuery("default", "e", queries, 10)
        found = [{n.id for n in near} for near in pool._index.search(query)]
        right = sum(len(f & {records[j].id for j in row}) for f, row in zip(found, truth, strict=True))
        Console().print(f"recall@10 of {name.split(',')[1].strip()}: {right / (10 * QUERIES):.3f}")
        pool.close()
    return {"semantic lookup, k=5 of 10,000": times}


def bulk(folder: Path) -> float:
    """Experiences a second, vectors given."""
    vector = Vector("e", np.ones(DIMENSION, dtype=np.float32).tobytes())
    records = [to_record(Experience(function="f", request=f"r{i}", response=i), "default") for i in range(ROWS)]
    with ExpManager(store=f"sqlite:///{folder}/bulk.db", index="none://") as manager:
        began = time.perf_counter()
        manager.sync._store.put_many([Put(record, vector=vector) for record in records])
        return ROWS / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = hits_and_misses(folder, rounds) | semantic(folder, rounds)
        rate = bulk(folder)
    for path, times in results.items():
        peer = next(name for name in times if name.startswith(("diskcache", "raw")))
        base = statistics.median(times[peer])
        table = Table("library", "median us", "min", "max", f"/ {peer}", title=path)
        for library, values in times.items():
            median = statistics.median(values)
            table.add_row(library, f"{median:.1f}", f"{min(values):.1f}", f"{max(values):.1f}", f"{median / base:.2f}")
        Console().print(table)
    Console().print(f"bulk write, vectors given: {rate:,.0f} experiences/s")


if __name__ == "__main__":
    main()
