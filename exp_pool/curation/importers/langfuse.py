"""Langfuse exports: observations, or traces with their observations and scores, as JSON lines or an array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from exp_pool.core.experience import MISSING
from exp_pool.curation.importers.openai import answer_of
from exp_pool.curation.importers.safe_files import ImportSource, Items
from exp_pool.curation.importers.spans import SpanMapping, find, model_answer, scores_of
from exp_pool.curation.importers.types import Imported, ImportOptions, Peek, arguments_of, from_json

NEEDS_FUNCTION = False
_MAPPING = SpanMapping(  # some exports write names with underscores
    source="langfuse",
    start="startTime|start_time|timestamp",
    end="endTime|end_time",
    model="model|providedModelName|provided_model_name",
    money_usd="totalCost|total_cost|calculatedTotalCost|calculated_total_cost",
    tokens_in="usageDetails/input|usage_details/input|usage/input",
    tokens_out="usageDetails/output|usage_details/output|usage/output",
    metadata={"trace": "traceId|trace_id|id"},
    failed="level",
    failures=("ERROR",),
)


def recognise(peek: Peek) -> bool:
    """An observation of some type in a trace, or a trace with its observations."""
    value = peek.value
    if not isinstance(value, dict) or not {"input", "output"} <= value.keys():
        return False
    return bool({"observations", "traceId", "trace_id", "latency"} & value.keys())


def items(source: ImportSource, options: ImportOptions) -> Items:  # noqa: ARG001
    """One for each trace and observation, with the scores that are its own."""
    for file in source.files(".json", ".jsonl", ".jsonl.gz"):
        for where, value in source.values(file):
            if not isinstance(value, dict):
                source.damaged(where, "it is no observation and no trace")
                continue
            scores = value.get("scores") or []
            if "observations" not in value:
                yield where, (value, scores)
                continue
            yield where, (value, [each for each in scores if not _observation_of(each)])
            for number, observation in enumerate(value.get("observations") or [], 1):
                if isinstance(observation, dict):  # else its id, of an observation exported elsewhere
                    mine = [each for each in scores if _observation_of(each) == observation.get("id")]
                    yield f"{where} observation {number}", (observation, mine)


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """The call of a trace or an observation; numeric scores of 0 to 1 are its scores."""
    value, scores = item
    given, output = from_json(value.get("input")), from_json(value.get("output"))
    model, settings = find(value, _MAPPING.model), from_json(find(value, "modelParameters|model_parameters"))
    if model is not None and given is not None:
        given = {**(settings if isinstance(settings, dict) else {}), "model": model, **arguments_of(given)}
    message = isinstance(output, Mapping) and output.get("role") == "assistant"
    answer = answer_of(output) if message else model_answer(output)
    rated = ((each.get("name"), each.get("value"), each.get("comment")) for each in scores)
    answer = MISSING if output is None else answer
    yield _MAPPING.experience(value, options, given, answer, scores_of(rated, "langfuse"))


def _observation_of(score: Any) -> Any:
    return find(score, "observationId|observation_id")
