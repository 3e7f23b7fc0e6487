"""Questions to try the pool on, written for it: what the examples, notebooks, benchmarks and tests of a clone need.

`pairs.jsonl`: labelled pairs, in English and Chinese: paraphrases, and near misses of each `kind` (what makes the two
differ), follow-ups among them. `prompts.jsonl`: what a chat model is asked, many times with the same instructions.
`generated` makes 20,000 pairs. They stand beside the examples, which read them, and in no wheel: they are for trying.

Who has more questions, labelled in the same way, names their folder in EXP_POOL_TEST_DATA: benchmarks take these then,
and tests take them, too.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

from questions.generated import generated_pairs, generated_texts

__all__ = ["chat_prompts", "generated_pairs", "generated_texts", "labelled_pairs", "large_pairs", "rows"]

FOLDER = Path(__file__).parent
LARGE = "question_pairs.jsonl.gz"

Pairs = list[tuple[str, str, bool]]


def labelled_pairs() -> Pairs:
    """(a, b, same): does the answer to one answer the other, too?"""
    return [(row["a"], row["b"], row["same"]) for row in rows("pairs")]


def chat_prompts() -> list[str]:
    return [row["prompt"] for row in rows("prompts")]


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of `pairs` or `prompts`, each with its `kind` and `language`."""
    with (FOLDER / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def large_pairs() -> Pairs | None:
    """Those of the folder that EXP_POOL_TEST_DATA names; None where it names none."""
    folder = os.environ.get("EXP_POOL_TEST_DATA")
    if not folder:
        return None
    with gzip.open(Path(folder) / LARGE, "rt", encoding="utf-8") as lines:
        return [(row["a"], row["b"], bool(row["same"])) for row in map(json.loads, lines)]
