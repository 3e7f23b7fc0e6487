"""MLflow traces, as ``Trace.to_json()`` writes them: each span with inputs and outputs is a call of a function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from exp_pool.core.experience import MISSING
from exp_pool.curation.importers.safe_files import ImportSource, Items
from exp_pool.curation.importers.spans import SpanMapping, find, model_answer, scores_of
from exp_pool.curation.importers.types import Imported, ImportOptions, Peek, from_json

NEEDS_FUNCTION = False
_MODELS = ("LLM", "CHAT_MODEL")
_MAPPING = SpanMapping(
    source="mlflow",
    function="attributes/mlflow.spanFunctionName|name",
    id="span_id",
    start="start_time_unix_nano",
    end="end_time_unix_nano",
    model="attributes/mlflow.llm.model",
    tokens_in="attributes/mlflow.chat.tokenUsage/input_tokens",
    tokens_out="attributes/mlflow.chat.tokenUsage/output_tokens",
    metadata={"trace": "info/trace_id|info/request_id"},
    failed="status/code",
    failures=("STATUS_CODE_ERROR",),
)


def recognise(peek: Peek) -> bool:
    """Info, and data with spans."""
    return (
        isinstance(peek.value, dict) and {"info", "data"} <= peek.value.keys() and "spans" in (peek.value["data"] or ())
    )


def items(source: ImportSource, options: ImportOptions) -> Items:  # noqa: ARG001
    """One for each span, with what people said of its trace."""
    for file in source.files(".json", ".jsonl", ".jsonl.gz"):
        for where, trace in source.values(file):
            if not isinstance(trace, dict):
                source.damaged(where, "it is no trace")
                continue
            for number, span in enumerate(find(trace, "data/spans") or [], 1):
                yield f"{where} span {number}", (find(trace, "info") or {}, span)


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """The call of a span. Feedback on a trace (0 to 1, or yes and no) is a score of its first span, the whole of it."""
    info, span = item
    attributes = {name: from_json(value) for name, value in span.get("attributes", {}).items()}
    span = {**span, "attributes": attributes, "info": info}
    answer = attributes.get("mlflow.spanOutputs", MISSING)
    if attributes.get("mlflow.spanType") in _MODELS:
        answer = model_answer(answer)
    told = [] if span.get("parent_span_id") else find(info, "assessments") or []
    feedback = ((find(a, "assessment_name|name"), find(a, "feedback/value"), find(a, "rationale")) for a in told)
    yield _MAPPING.experience(span, options, attributes.get("mlflow.spanInputs"), answer, scores_of(feedback, "mlflow"))
