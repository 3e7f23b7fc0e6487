"""Trap questions by other people: how many a judge answers that it should, and how many that it should not.

``python benchmarks/traps.py [--model NAME] [--ambiguous skip|different|same]``, or ``make bench-traps``. The pairs are
those of the package `fow-cache` (MIT; 600 questions: repeats and paraphrases, which one answer serves, and traps that
differ in a negation, a name, a number or the scope), read from where it is installed. Each goes through the real flow:
a pool that holds the first question is asked the second. Half of the traps were not looked at while the guard was
written; `unseen` is that half.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from exp_pool import ThresholdJudge
from exp_pool.evaluation import evaluate
from exp_pool.search.embedders.sentence_transformers import SentenceTransformerEmbedder

try:
    from fow_cache.data import load_questions
except ImportError as err:
    raise SystemExit("pip install fow-cache: it has the questions") from err


class Kept:
    """An embedder that embeds each text once."""

    def __init__(self, name: str) -> None:
        self.model = SentenceTransformerEmbedder(name)
        self.identity = self.model.identity
        self.vectors: dict[str, np.ndarray] = {}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(n, d)."""
        new = [text for text in dict.fromkeys(texts) if text not in self.vectors]
        if new:
            self.vectors.update(zip(new, self.model.embed(new), strict=True))
        return np.array([self.vectors[text] for text in texts])

    def fits(self, texts: Sequence[str]) -> list[bool]:
        """Whether each is read whole."""
        return list(self.model.fits(texts))


JUDGES = [ThresholdJudge(at, guard=guard) for at in (0.85, 0.9, 0.95) for guard in (False, True)]


def labelled(ambiguous: str) -> list[dict[str, Any]]:
    """The questions, those that are the same or not by a setting as it says."""
    items = [item for item in load_questions() if ambiguous != "skip" or not item.get("ambiguous")]
    return [item | {"same": ambiguous == "same" if item.get("ambiguous") else item["same_answer"]} for item in items]


def unseen(item: dict[str, Any]) -> bool:
    return hashlib.sha256(item["id"].encode()).digest()[0] % 2 == 0


def share(judge: ThresholdJudge, items: Sequence[dict[str, Any]], model: Kept) -> str:
    """How many of these pairs were answered, as a share and a count; all are same or all different."""
    pairs = [(item["a"], item["b"], item["same"]) for item in items]
    (run,) = evaluate(judge, pairs, embedder=model, orders=[range(len(pairs))])
    return f"{run.answered_share:.1%} ({run.answered} of {run.total})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--ambiguous", choices=["skip", "different", "same"], default="skip")
    options = parser.parse_args()
    items = labelled(options.ambiguous)
    right, traps = [item for item in items if item["same"]], [item for item in items if not item["same"]]
    table = Table("judge", "served", "traps answered", "unseen traps answered", title=options.model)
    model = Kept(options.model)
    for judge in JUDGES:
        name = f"ThresholdJudge({judge.min_similarity:g}{'' if judge.guard else ', guard=False'})"
        parts = (right, traps, [item for item in traps if unseen(item)])
        table.add_row(name, *(share(judge, part, model) for part in parts))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
