"""What size costs: writing, opening, disk, memory, and from where on an index is worth having.

    python benchmarks/sizes.py                      1,000, 10,000 and 100,000 experiences
    python benchmarks/sizes.py --largest 1000000    with a million for writing and exact scan (5 GB of disk, minutes)

Synthetic vectors of 384 dimensions in 300 clusters. Times are medians in one run on one machine; compare columns, not
machines.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from exp_pool import Experience, ExpManager
from exp_pool.core.record import Record, Vector, to_record
from exp_pool.protocols import Put, VectorQuery
from exp_pool.search.embedders.service import Embedded
from exp_pool.search.search import SearchQuery

DIMENSION, CLUSTERS, QUERIES, BATCH, NEAR = 384, 300, 100, 1000, 10
INDEXED = 100_000  # beyond, building Chroma's graph takes a quarter of an hour


def vectors_of(seed: int, count: int) -> np.ndarray:
    centres = np.random.default_rng(0).normal(size=(CLUSTERS, DIMENSION))
    chance = np.random.default_rng(seed)
    found = centres[chance.integers(0, CLUSTERS, count)] + 0.8 * chance.normal(size=(count, DIMENSION))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def record_of(number: int) -> Record:
    experience = Experience(function="f", request=f"request {number} of the benchmark", response={"answer": number})
    return replace(to_record(experience, "default"), embed_due=None)  # its vector is given


def fill(manager: ExpManager, start: int, stop: int) -> list[float]:
    """Seconds for each batch of a thousand, vectors given."""
    taken = []
    for first in track(
        range(start, stop, BATCH), f"writing up to {stop:,}", console=Console(stderr=True), transient=True
    ):
        vectors = vectors_of(first + 1, BATCH)
        records = [record_of(number) for number in range(first, first + BATCH)]
        puts = [
            Put(record, vector=Vector("e", vector.tobytes())) for record, vector in zip(records, vectors, strict=True)
        ]
        began = time.perf_counter()
        manager.sync.store.put_many(puts)
        taken.append(time.perf_counter() - began)
        manager.sync.store.tidy(0)  # as the worker does, off the writer's path
    return taken


def median_ms(job: Callable[[int], Any], count: int) -> float:
    taken = []
    for number in range(count):
        began = time.perf_counter()
        job(number)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3


def lookups(
    manager: ExpManager, queries: np.ndarray, truth: list[set[str]] | None
) -> tuple[float, float, list[set[str]]]:
    """Milliseconds for the five nearest with the join, recall of the ten nearest, and these ten."""
    pool = manager.sync
    find = pool.services.search.nearest
    find(SearchQuery("default", "", 5), Embedded(queries[:1], [True], "e"))
    taken = median_ms(lambda n: find(SearchQuery("default", "", 5), Embedded(queries[n : n + 1], [True], "e")), QUERIES)
    near = pool.services.search._neighbours.find
    found = [set(near(VectorQuery("default", "e", queries[n : n + 1], NEAR)).ids[:NEAR]) for n in range(QUERIES)]
    right = sum(len(ours & true) for ours, true in zip(found, truth or found, strict=True))
    return taken, right / (NEAR * QUERIES), found


def measure(folder: Path, sizes: list[int]) -> list[list[str]]:
    rows, done = [], 0
    store = f"sqlite:///{folder}/pool.db"
    queries = vectors_of(0, QUERIES)
    for size in sizes:
        with ExpManager(store=store, index="none://", embedder="none") as manager:
            batches = fill(manager, done, size)
            done = size
        rate = BATCH / statistics.median(batches[-20:])
        on_disk = sum(path.stat().st_size for path in folder.glob("pool.db*")) / size
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        manager = ExpManager(
            store=store, index="exact://", embedder=lambda texts: queries[: len(texts)], scan_bytes="8GiB"
        )
        manager.sync.get_exp("nobody")
        opened = time.perf_counter() - began
        manager.sync.services.search.nearest(SearchQuery("default", "", 5), Embedded(queries[:1], [True], "e"))
        loaded = time.perf_counter() - began
        table = next(iter(manager.sync._index._tables.values()))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (
            1 if sys.platform == "darwin" else 1024
        )
        scan, _, truth = lookups(manager, queries, None)
        manager.sync.close()
        indexed, recall, built = "", "", ""
        if size <= INDEXED:
            with ExpManager(
                store=store,
                index=f"chroma:///{folder}/chroma-{size}",
                embedder=lambda texts: queries[: len(texts)],
                index_from=1,
                store_timeout=60,
            ) as manager:
                began = time.perf_counter()
                manager.sync._index_sync.rebuild()
                built = f"{time.perf_counter() - began:.1f}"
                chroma, right, _ = lookups(manager, queries, truth)
                indexed, recall = f"{chroma:.2f}", f"{right:.3f}"
        rows.append(
            [
                f"{size:,}",
                f"{rate:,.0f}",
                f"{on_disk:,.0f}",
                f"{opened * 1e3:.1f}",
                f"{loaded:.2f}",
                f"{table.nbytes / 2**20:.0f}",
                f"{grown / 2**20:.0f}",
                f"{scan:.2f}",
                indexed,
                recall,
                built,
            ]
        )
        show(rows)
    return rows


def show(rows: list[list[str]]) -> None:
    table = Table(title="sizes")
    for name in (
        "experiences",
        "writes/s",
        "bytes each on disk",
        "open, ms",
        "first search, s",
        "vectors, MB",
        "process grew, MB",
        "scan, ms",
        "Chroma, ms",
        "its recall@10",
        "built in, s",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    Console(width=160).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=100_000)
    largest = parser.parse_args().largest
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), [size for size in (1000, 10_000, 100_000, 1_000_000) if size <= largest])


if __name__ == "__main__":
    main()
