"""MLflow traces, as ``Trace.to_json()`` writes them: each span with inputs and outputs is a call of a function."""

from __future__ import annotations

from collections.abc import Iterable
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
_MODELS = ("LLM", "CHAT_MODEL")


def recognise(peek: Peek) -> bool:
    """Info, and data with spans."""
    return (
        isinstance(peek.value, dict) and {"info", "data"} <= peek.value.keys() and "spans" in (peek.value["data"] or ())
    )


def items(source: Source, options: Options) -> Items:  # noqa: ARG001
    """One for each span, with what people said of its trace."""
    for file in source.files(".json", ".jsonl", ".jsonl.gz"):
        for where, trace in source.values(file):
            info = trace.get("info") or {}
            for number, span in enumerate((trace.get("data") or {}).get("spans", []), 1):
                yield f"{where} span {number}", (info, span)


def experiences(item: Any, options: Options) -> Iterable[Made]:
    """The call of a span. Feedback on a trace (0 to 1, or yes and no) is a score of its first span, the whole of it."""
    info, span = item
    told = {name: from_json(value) for name, value in span.get("attributes", {}).items()}
    if (span.get("status") or {}).get("code") == "STATUS_CODE_ERROR":
        raise LeftOutError("it failed")
    given, answer = told.get("mlflow.spanInputs"), told.get("mlflow.spanOutputs", MISSING)
    if given is None or answer is MISSING:
        raise LeftOutError("it has no inputs or no outputs")
    if told.get("mlflow.spanType") in _MODELS and isinstance(answer, dict):
        answer = answer_in(answer) if answer_in(answer) is not MISSING else answer
    used = told.get("mlflow.chat.tokenUsage") or {}
    start, end = span.get("start_time_unix_nano"), span.get("end_time_unix_nano")
    yield call(
        options,
        "mlflow",
        told.get("mlflow.spanFunctionName") or span.get("name"),
        asked(given),
        answer,
        source_id=span.get("span_id"),
        created_at=moment(start),
        metadata={"trace": info.get("trace_id") or info.get("request_id")},
        model=told.get("mlflow.llm.model"),
        scores=None if span.get("parent_span_id") else _scores(info),
        metric=Metric(
            time_s=seconds_between(start, end),
            tokens_in=count(used.get("input_tokens")),
            tokens_out=count(used.get("output_tokens")),
        ),
    )


def _scores(info: dict[str, Any]) -> dict[str, Score]:
    found = {}
    for each in info.get("assessments") or []:
        value = (each.get("feedback") or {}).get("value")
        if isinstance(value, bool | int | float) and 0 <= value <= 1:
            name = str(each.get("assessment_name") or each.get("name") or "mlflow")
            found[name] = Score(value=float(value), reason=str(each.get("rationale") or ""), scorer=name)
    return found
