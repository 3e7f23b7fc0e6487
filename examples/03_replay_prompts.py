"""Replays chat prompts from a file of JSON lines through a decorated function, and says what the pool made of them.

``python examples/03_replay_prompts.py FILE [--limit N]``: each line is an object with a ``prompt`` (plain or gzip).
Without a file it takes those of examples/questions, three times over. The function is a local stand-in for a model: it
summarises by word statistics.
"""

import argparse
import gzip
import json
import re
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

from questions import chat_prompts
from rich.console import Console
from rich.progress import track

from exp_pool import ExpManager

console = Console()


def read_prompts(path: Path, limit: int | None) -> list[str]:
    """The prompts of a file of JSON lines; a line without one is reported and skipped."""
    opener = gzip.open if path.suffix == ".gz" else open
    prompts = []
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                prompts.append(str(json.loads(line)["prompt"]))
            except (ValueError, KeyError, TypeError) as err:
                console.print(f"line {number} skipped: {err!r}")
            if limit is not None and len(prompts) >= limit:
                break
    return prompts


def main() -> None:
    """Replay, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="JSON lines with a prompt each, .gz or plain")
    parser.add_argument("--limit", type=int, help="how many prompts at most")
    parser.add_argument("--query", default="Is this review a friendly one?", help="what to look for afterwards")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="exp_pool_"))
    if options.file and not options.file.exists():
        parser.error(f"{options.file} does not exist")
    prompts = read_prompts(options.file, options.limit) if options.file else chat_prompts()[: options.limit] * 3

    with ExpManager(store=f"sqlite:///{folder}/pool.db", index=f"chroma:///{folder}/chroma") as manager:

        @manager.exp_cache(name="summarise")
        def summarise(prompt: str) -> dict[str, int]:
            return dict(Counter(re.findall(r"\w{4,}", prompt.lower())).most_common(5))

        times: dict[str | None, list[float]] = {None: [], "exact": []}
        for prompt in track(prompts, "replaying", console=console):
            began = time.perf_counter()
            found_by = summarise.call(prompt).found_by
            times[found_by].append((time.perf_counter() - began) * 1e3)
        for label, key in (("miss", None), ("hit", "exact")):
            if times[key]:
                console.print(f"{label:5} {len(times[key]):6}  p50 {statistics.median(times[key]):.3f} ms")

        with console.status("embedding what is owed"):
            manager.sync.flush()
        began = time.perf_counter()
        hits = manager.sync.search(options.query, top_k=3)
        console.print(f"\nsimilar to {options.query!r} ({(time.perf_counter() - began) * 1e3:.1f} ms):")
        for hit in hits:
            console.print(f"  {hit.similarity:.2f}  {hit.experience.request[:90]!r}", markup=False)
        console.print(f"\n{manager.stats()}\n{folder}/pool.db", markup=False)


if __name__ == "__main__":
    main()
