"""Importing and exporting 10,000 and 100,000 lines: seconds, and the peak of memory, which stays flat.

Nothing is embedded. Each measurement is a process of its own, on SQLite, so that its peak is its own. The budget:
100,000 lines within 120 s, and a peak that does not grow with the number of lines.

    python benchmarks/importing.py [COUNT ...]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from exp_pool import ExpManager
from exp_pool.curation import exporters, importers

COUNTS = (10_000, 100_000)
FORMATS = ("jsonl", "parquet", "sft")


def write_log(path: Path, count: int) -> None:
    """A log of MetaGPT's: requests of a page, answers of half a page."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            asked = f"Write function {number} of the game. " + "Follow the design, answer with a plan. " * 30
            answer = {"plan": [f"step {step} of {number}: write and test it" for step in range(15)]}
            record = {"req": [{"role": "user", "content": asked}], "resp": json.dumps(answer), "tag": "Engineer.plan"}
            file.write(json.dumps({**record, "metric": {"score": {"val": number % 10 + 1}}}) + "\n")


def measure(what: str, source: str, target: str) -> None:
    """One import or export; prints its seconds, those of the processor, rows, and the peaks of memory around it, MB."""
    store = f"sqlite:///{target if what == 'import' else source}"
    with ExpManager(store=store, index="none://", embedder="none") as manager:
        manager.sync.get_exps_count()
        before, started, worked = peak_mb(), time.perf_counter(), time.process_time()
        if what == "import":
            report = importers.load(manager, source)
            rows = report.stored + report.known
        else:
            rows = exporters.save(manager, target, what, include=["quarantined"]).rows
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
        print(json.dumps([seconds, cpu, rows, before, peak_mb()]))


def peak_mb() -> float:
    """The most memory that this process has used so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_a_process(what: str, source: Path, target: Path) -> list[float]:
    """What `measure` printed."""
    program = [sys.executable, __file__, "measure", what, str(source), str(target)]
    return list(json.loads(subprocess.run(program, check=True, capture_output=True, text=True).stdout))


def main(counts: list[int]) -> None:
    """The table."""
    print(f"{'':34} {'seconds':>8} {'of CPU':>8} {'rows/s':>8} {'peak before, MB':>16} {'peak after, MB':>15}")
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_log(folder / "log.jsonl", count)
            size = (folder / "log.jsonl").stat().st_size / 2**20
            runs = {f"import {count:,} lines, {size:,.0f} MB": ("import", "log.jsonl", "pool.db")}
            runs[f"import {count:,} lines again"] = ("import", "log.jsonl", "pool.db")
            runs |= {f"export {count:,} rows as {kind}": (kind, "pool.db", kind) for kind in FORMATS}
            runs[f"import {count:,} lines of a pool"] = ("import", "jsonl", "second.db")
            for label, (what, source, target) in runs.items():
                seconds, cpu, rows, before, after = in_a_process(what, folder / source, folder / target)
                print(
                    f"{label:34} {seconds:8.1f} {cpu:8.1f} {rows / seconds:8,.0f} {before:16.0f} {after:15.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(*sys.argv[2:])
    else:
        main([int(each) for each in sys.argv[1:]] or list(COUNTS))
