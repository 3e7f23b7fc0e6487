"""LangSmith runs: what ``client.list_runs`` gives and bulk exports hold, as JSON lines or an array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from exp_pool.core.experience import MISSING
from exp_pool.curation.importers.safe_files import values_of_files
from exp_pool.curation.importers.spans import SpanMapping, find, model_answer, scores_of
from exp_pool.curation.importers.types import Imported, ImportOptions, LeftOutError, Peek, from_json

NEEDS_FUNCTION = False
items = values_of_files(".json", ".jsonl", ".jsonl.gz")
_MAPPING = SpanMapping(
    source="langsmith",
    start="start_time",
    end="end_time",
    model="extra/metadata/ls_model_name",
    money_usd="total_cost",
    tokens_in="prompt_tokens",
    tokens_out="completion_tokens",
    metadata={"trace": "trace_id", "run_type": "run_type"},
)


def recognise(peek: Peek) -> bool:
    """A run type, inputs and outputs."""
    return isinstance(peek.value, dict) and {"run_type", "inputs"} <= peek.value.keys()


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """The call of a run, with feedback (0 to 1, averages) as scores."""
    if item.get("error"):
        raise LeftOutError("it failed")
    given = from_json(item.get("inputs"))
    stats = from_json(item.get("feedback_stats")) or {}
    scores = scores_of((name, find(each, "avg"), "") for name, each in stats.items())
    named = given if isinstance(given, Mapping) else None
    yield _MAPPING.experience(item, options, named, _answer(from_json(item.get("outputs"))), scores)


def _answer(outputs: Any) -> Any:
    """A model's answer in the form of OpenAI or LangChain; of one named output that; else all of them."""
    if outputs is None:
        return MISSING
    answer = model_answer(outputs)
    if answer is not outputs or not isinstance(outputs, Mapping):
        return answer
    generations = outputs.get("generations")
    if isinstance(generations, list) and generations:
        first = generations[0][0] if isinstance(generations[0], list) else generations[0]
        if isinstance(first.get("text"), str):
            return first["text"]
    return next(iter(outputs.values())) if len(outputs) == 1 else dict(outputs)
