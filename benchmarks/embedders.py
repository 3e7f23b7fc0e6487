"""The ONNX embedder beside the original on torch: the same model, texts and run.

``python benchmarks/embedders.py [--rounds N]``. Times are medians of rounds that take turns, so that what
disturbs the machine disturbs both. The model is exported first, to a folder that is removed. The texts are
the clone's questions, or those of EXP_POOL_TEST_DATA.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from exp_pool.api.registry import embedder_maker
from exp_pool.search.embedders._onnx_export import agreement

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from questions import generated_pairs, labelled_pairs, large_pairs

MODEL = "all-MiniLM-L6-v2"
KINDS = {"torch": f"sentence-transformers/{MODEL}", "onnx": f"onnx/{MODEL}"}
SINGLES, BATCH, COMPARED = 50, 256, 1000
BUDGET = 0.35  # of torch, for one short text
LOADING = """
import sys, time
began = time.perf_counter()
from exp_pool.api.registry import embedder_maker
embedder_maker(sys.argv[1])().embed(["a text"])
print(time.perf_counter() - began)
"""


def known_texts() -> list[str]:
    return list(dict.fromkeys(a for a, _, _ in large_pairs() or [*labelled_pairs(), *generated_pairs()]))


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def load_time(name: str) -> float:
    """Seconds from nothing to the first vector, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", LOADING, name], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    texts = known_texts()
    show = Console().print
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EXP_POOL_ONNX_CACHE"] = f"{folder}/onnx"
        embedders = {kind: embedder_maker(name)() for kind, name in KINDS.items()}
        times: dict[str, dict[str, list[float]]] = {
            "one text, p50, ms": {},
            f"{BATCH} texts, s": {},
        }
        one, many = times.values()
        for turn in range(arguments.rounds):
            short = texts[turn * SINGLES : (turn + 1) * SINGLES]
            for kind, embedder in embedders.items():
                embedder.embed(short[:3])  # the caches of the processor are the other one's
                single = [seconds(lambda e=embedder, t=text: e.embed([t])) for text in short]
                one.setdefault(kind, []).append(statistics.median(single) * 1e3)
                many.setdefault(kind, []).append(seconds(lambda e=embedder: e.embed(texts[:BATCH])))
        expected = embedders["torch"].embed(texts[:COMPARED])
        times["load, s"] = {kind: [load_time(name) for _ in range(3)] for kind, name in KINDS.items()}
        for title, measured in times.items():
            table = Table("embedder", "median", "min", "max", "/ torch", title=title)
            base = statistics.median(measured["torch"])
            for kind, values in measured.items():
                middle = statistics.median(values)
                row = (f"{value:.2f}" for value in (middle, min(values), max(values), middle / base))
                table.add_row(embedders[kind].identity, *row)
            show(table)
        show(f"texts a second in batches: { {kind: round(BATCH / statistics.median(many[kind])) for kind in many} }")
        for kind, embedder in embedders.items():
            found = agreement(expected, embedder.embed(texts[:COMPARED]))
            show(kind, {name: round(value, 4) for name, value in found.items()}, f"over {COMPARED} texts")
        ratio = statistics.median(one["onnx"]) / statistics.median(one["torch"])
        show(f"one text: {ratio:.2f} x torch; the budget is {BUDGET}: {'kept' if ratio <= BUDGET else 'MISSED'}")


if __name__ == "__main__":
    main()
