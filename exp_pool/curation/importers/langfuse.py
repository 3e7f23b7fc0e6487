"""Langfuse exports: observations, or traces with their observations and scores, as JSON lines or an array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from exp_pool.core.experience import MISSING, Metric, Score
from exp_pool.curation.importers.openai import answer_in, answer_of
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
    """An observation of some type in a trace, or a trace with its observations."""
    value = peek.value
    if not isinstance(value, dict) or not {"input", "output"} <= value.keys():
        return False
    return bool({"observations", "traceId", "trace_id", "latency"} & value.keys())


def items(source: Source, options: Options) -> Items:  # noqa: ARG001
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
            yield where, (value, [each for each in scores if not _told(each, "observationId")])
            for number, observation in enumerate(value.get("observations") or [], 1):
                if isinstance(observation, dict):  # else its id, of an observation exported elsewhere
                    mine = [each for each in scores if _told(each, "observationId") == observation.get("id")]
                    yield f"{where} observation {number}", (observation, mine)


def experiences(item: Any, options: Options) -> Iterable[Made]:
    """The call of a trace or an observation; numeric scores of 0 to 1 are its scores."""
    value, scores = item
    if value.get("level") == "ERROR":
        raise LeftOutError("it failed")
    given, output = from_json(value.get("input")), from_json(value.get("output"))
    if given is None or output is None:
        raise LeftOutError("it has no input or no output")
    arguments = asked(given)
    model = value.get("model") or _told(value, "providedModelName")
    settings = from_json(_told(value, "modelParameters"))
    if model is not None:
        arguments = {**(settings if isinstance(settings, dict) else {}), "model": model, **arguments}
    used = from_json(_told(value, "usageDetails")) or value.get("usage") or {}
    start, end = _told(value, "startTime") or value.get("timestamp"), _told(value, "endTime")
    cost = _told(value, "totalCost", "calculatedTotalCost")
    yield call(
        options,
        "langfuse",
        value.get("name"),
        arguments,
        _answer(output),
        source_id=value.get("id"),
        created_at=moment(start),
        metadata={"trace": _told(value, "traceId") or value.get("id")},
        model=model,
        scores=_scores(scores),
        metric=Metric(
            time_s=seconds_between(start, end),
            money_usd=None if cost is None else float(cost),
            tokens_in=count(used.get("input")),
            tokens_out=count(used.get("output")),
        ),
    )


def _told(value: Mapping[str, Any], *names: str) -> Any:
    """What stands under one of these names, or its form with underscores, as some exports write it."""
    for name in names:
        under = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
        if (found := value.get(name, value.get(under))) is not None:
            return found
    return None


def _answer(output: Any) -> Any:
    if isinstance(output, Mapping):
        if (found := answer_in(output)) is not MISSING:
            return found
        if output.get("role") == "assistant":
            return answer_of(output)
    return output


def _scores(scores: Iterable[Mapping[str, Any]]) -> dict[str, Score]:
    found = {}
    for each in scores:
        value = each.get("value")
        if isinstance(value, int | float) and 0 <= value <= 1:
            name = str(each.get("name") or "langfuse")
            found[name] = Score(value=float(value), reason=str(each.get("comment") or ""), scorer=name)
    return found
