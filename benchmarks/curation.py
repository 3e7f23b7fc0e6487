"""What curating costs: frames of a whole pool, their diff, edits applied and undone; time, and memory at its highest.

python benchmarks/curation.py [--sizes 10000 100000] [--edits 1000] [--store sqlite]

Each size runs in a process of its own, so that its highest memory is its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exp_pool import Experience, ExpManager, Score, curation


def fill(manager: ExpManager, count: int) -> None:
    texts = "How do I reset the password of my account if I no longer have the phone that I registered with? "
    for start in range(0, count, 5000):
        manager.sync.create_exps(
            [
                Experience(
                    function=f"agent.step_{i % 20}",
                    request=f"{i}: {texts}",
                    response={"answer": texts * 4, "steps": [i, i + 1]} if i % 3 else texts * 5,
                    scores={"exact": Score(value=i % 10 / 10)},
                    metadata={"team": f"t{i % 7}", "n": i, "tags": ["a", "b"]},
                )
                for i in range(start, min(start + 5000, count))
            ]
        )


def measure(what: str, work: Callable[[], Any]) -> Any:
    before = time.perf_counter()
    result = work()
    took = time.perf_counter() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"  {what:<34} {took:8.2f} s   {peak:8.0f} MB", flush=True)
    return result


def run(count: int, edits: int, store: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = {"sqlite": f"sqlite:///{folder}/pool.db", "memory": "memory://", "json": f"json:///{folder}/pool"}[store]
        manager = ExpManager(store=url, index="none://", embedder="none")
        print(f"{count:,} experiences, {store}")
        measure("stored", lambda: fill(manager, count))
        measure("import pandas, pyarrow", lambda: (__import__("pandas"), __import__("pyarrow")))
        measure("iter_frames, 10,000 at a time", lambda: sum(len(piece) for piece in curation.iter_frames(manager)))
        measure("to_arrow", lambda: curation.to_arrow(manager).num_rows)
        frame = measure("to_frame", lambda: curation.to_frame(manager))
        assert not measure("diff, nothing edited", lambda: curation.diff(manager, frame))
        some = frame.index[:: max(1, count // edits)]
        frame.loc[some, "expected"] = "said by a person"
        measure(f"diff, {len(some):,} edited", lambda: curation.diff(manager, frame))
        change = measure(f"apply_frame, {len(some):,} edited", lambda: curation.apply_frame(manager, frame, False))
        measure(f"undo, {len(some):,}", lambda: curation.undo(manager, change.id))
        manager.sync.close()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000])
    options.add_argument("--edits", type=int, default=1000)
    options.add_argument("--store", default="sqlite", choices=["sqlite", "memory", "json"])
    given = options.parse_args()
    if len(given.sizes) == 1:
        run(given.sizes[0], given.edits, given.store)
    else:
        for size in given.sizes:
            one = ["--sizes", str(size), "--edits", str(given.edits), "--store", given.store]
            subprocess.run([sys.executable, str(Path(__file__)), *one], check=True)
