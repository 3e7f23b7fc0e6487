"""LangSmith runs: what ``client.list_runs`` gives and bulk exports hold, as JSON lines or an array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from exp_pool.core.experience import MISSING, Metric, Score
from exp_pool.curation.importers.openai import answer_in
from exp_pool.curation.importers.safe_files import Items, Source
from exp_pool.curation.importers.types import (
    LeftOutError,
    Made,
    Options,
    Peek,
    asked,
    call,
    count,
    from_json,
    moment,
    seconds_between,
)

NEEDS_FUNCTION = False


def recognise(peek: Peek) -> bool:
    """A run type, inputs and outputs."""
    return isinstance(peek.value, dict) and {"run_type", "inputs"} <= peek.value.keys()


def items(source: Source, options: Options) -> Items:  # noqa: ARG001
    """One for each run."""
    for file in source.files(".json", ".jsonl", ".jsonl.gz"):
        yield from source.values(file)


def experiences(item: Any, options: Options) -> Iterable[Made]:
    """The call of a run, with feedback (0 to 1, averages) as scores."""
    if item.get("error"):
        raise LeftOutError("it failed")
    given, outputs = from_json(item.get("inputs")), from_json(item.get("outputs"))
    if not isinstance(given, Mapping) or outputs is None:
        raise LeftOutError("it has no inputs or no outputs")
    extra = from_json(item.get("extra")) or {}
    metadata = extra.get("metadata") or {}
    start, end = item.get("start_time"), item.get("end_time")
    yield call(
        options,
        "langsmith",
        item.get("name"),
        asked(given),
        _answer(outputs),
        source_id=item.get("id"),
        created_at=moment(start),
        metadata={"trace": item.get("trace_id"), "run_type": item.get("run_type")},
        model=metadata.get("ls_model_name"),
        scores=_scores(from_json(item.get("feedback_stats")) or {}),
        metric=Metric(
            time_s=seconds_between(start, end),
            money_usd=None if item.get("total_cost") is None else float(item["total_cost"]),
            tokens_in=count(item.get("prompt_tokens")),
            tokens_out=count(item.get("completion_tokens")),
        ),
    )


def _answer(outputs: Any) -> Any:
    """A model's answer in the form of OpenAI or LangChain; of one named output that; else all of them."""
    if not isinstance(outputs, Mapping):
        return outputs
    if (found := answer_in(outputs)) is not MISSING:
        return found
    generations = outputs.get("generations")
    if isinstance(generations, list) and generations:
        first = generations[0][0] if isinstance(generations[0], list) else generations[0]
        if isinstance(first.get("text"), str):
            return first["text"]
    return next(iter(outputs.values())) if len(outputs) == 1 else dict(outputs)


def _scores(stats: Mapping[str, Any]) -> dict[str, Score]:
    found = {}
    for name, each in stats.items():
        value = each.get("avg") if isinstance(each, Mapping) else None
        if isinstance(value, int | float) and 0 <= value <= 1:
            found[name] = Score(value=float(value), scorer=name)
    return found
