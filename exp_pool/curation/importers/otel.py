"""OpenTelemetry spans in OTLP JSON, as collectors write them to files: GenAI conventions and OpenInference.

Of GenAI spans (``gen_ai.*``; also the flattened form of OpenLLMetry) those that hold messages, of OpenInference spans
all that hold an input and an output: models, chains, tools, agents. Other spans, such as of HTTP and databases, are
passed by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from exp_pool.core.experience import MISSING
from exp_pool.curation.importers.openai import answer_of
from exp_pool.curation.importers.safe_files import ImportSource, Items
from exp_pool.curation.importers.spans import SpanMapping
from exp_pool.curation.importers.types import Imported, ImportOptions, LeftOutError, Peek, arguments_of, from_json

NEEDS_FUNCTION = False
_RESOURCES = ("resourceSpans", "resource_spans")
_VALUES = ("stringValue", "intValue", "doubleValue", "boolValue", "bytesValue")
_SETTINGS = "gen_ai.request."
_DEEPEST = 32
_GENAI = SpanMapping(
    source="otel",
    id="spanId",
    start="startTimeUnixNano",
    end="endTimeUnixNano",
    model="attributes/gen_ai.response.model|attributes/gen_ai.request.model",
    tokens_in="attributes/gen_ai.usage.input_tokens",
    tokens_out="attributes/gen_ai.usage.output_tokens",
    metadata={"trace": "traceId"},
    failed="status/code",
    failures=(2, "STATUS_CODE_ERROR"),
)
_OPENINFERENCE = replace(
    _GENAI,
    model="attributes/llm.model_name",
    tokens_in="attributes/llm.token_count.prompt",
    tokens_out="attributes/llm.token_count.completion",
)


def recognise(peek: Peek) -> bool:
    """Resource spans, of which a value is too long to be seen at once."""
    begins = any(name.encode() in peek.head[:200] for name in _RESOURCES)
    return begins or (isinstance(peek.value, dict) and any(name in peek.value for name in _RESOURCES))


def items(source: ImportSource, options: ImportOptions) -> Items:  # noqa: ARG001
    """One for each span."""
    for file in source.files(".json", ".jsonl", ".jsonl.gz", ".json.gz"):
        for where, export in source.values(file):
            for number, span in enumerate(_spans(export), 1):
                yield f"{where} span {number}", span


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """The call of a span, if it is one of a kind that holds what was asked and answered."""
    attributes = {each["key"]: _value(each.get("value", {})) for each in item.get("attributes", [])}
    if "openinference.span.kind" in attributes:
        mapping, (arguments, answer) = _OPENINFERENCE, _openinference(attributes)
    elif any(name.startswith("gen_ai.") for name in attributes):
        mapping, (arguments, answer) = _GENAI, _genai(attributes)
    else:
        return
    yield mapping.experience({**item, "attributes": attributes}, options, arguments, answer)


def _spans(export: Any) -> Iterable[Any]:
    for name in _RESOURCES:
        for resource in export.get(name, []) if isinstance(export, dict) else []:
            for scope in resource.get("scopeSpans") or resource.get("scope_spans") or []:
                yield from scope.get("spans", [])


def _value(value: Any, depth: int = 0) -> Any:
    """Value of an attribute; OTLP names its type."""
    if depth > _DEEPEST:
        raise LeftOutError(f"an attribute is nested deeper than {_DEEPEST} levels")
    if "arrayValue" in value:
        return [_value(each, depth + 1) for each in value["arrayValue"].get("values", [])]
    if "kvlistValue" in value:
        return {each["key"]: _value(each["value"], depth + 1) for each in value["kvlistValue"].get("values", [])}
    found = next((value[name] for name in _VALUES if name in value), None)
    return int(str(found)) if "intValue" in value else found  # a text in JSON, because it has 64 bits


# ── GenAI semantic conventions ────────────────────────────────────────────────────────────────────────────────────────


def _genai(attributes: Mapping[str, Any]) -> tuple[dict[str, Any] | None, Any]:
    """Arguments with settings, and the answer, of a GenAI span."""
    messages = from_json(attributes.get("gen_ai.input.messages")) or _unflattened(attributes, "gen_ai.prompt")
    answers = from_json(attributes.get("gen_ai.output.messages")) or _unflattened(attributes, "gen_ai.completion")
    if not isinstance(messages, list) or not isinstance(answers, list) or not messages or not answers:
        return None, MISSING
    system = from_json(attributes.get("gen_ai.system_instructions"))
    prompt = [{"role": "system", "parts": system}, *messages] if system else messages
    settings = {name.removeprefix(_SETTINGS): value for name, value in attributes.items() if name.startswith(_SETTINGS)}
    return {"messages": [_message(each) for each in prompt], **settings}, answer_of(_message(answers[0]))


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Message of parts as a chat message."""
    if "parts" not in message:
        return {"role": message.get("role", "assistant"), "content": message.get("content")}
    parts = message["parts"]
    texts = [part.get("content") for part in parts if part.get("type") == "text"]
    calls = [
        {"id": part.get("id"), "function": {"name": part.get("name"), "arguments": part.get("arguments")}}
        for part in parts
        if part.get("type") == "tool_call"
    ]
    got = [part for part in parts if part.get("type") == "tool_call_response"]
    content = "\n".join(text for text in texts if isinstance(text, str))
    if got:
        content = got[0].get("response", got[0].get("result"))
    return {
        "role": message["role"],
        "content": content,
        **({"tool_calls": calls} if calls else {}),
        **({"tool_call_id": got[0].get("id")} if got else {}),
    }


# ── OpenInference ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _openinference(attributes: Mapping[str, Any]) -> tuple[dict[str, Any] | None, Any]:
    """Arguments and answer of an OpenInference span: messages of a model, else values."""
    messages = [each.get("message", {}) for each in _unflattened(attributes, "llm.input_messages")]
    answers = [each.get("message", {}) for each in _unflattened(attributes, "llm.output_messages")]
    if messages and answers:
        settings = from_json(attributes.get("llm.invocation_parameters"))
        return {**(settings if isinstance(settings, dict) else {}), "messages": messages}, answer_of(answers[0])
    if "input.value" not in attributes or "output.value" not in attributes:
        return None, MISSING
    return arguments_of(from_json(attributes["input.value"])), from_json(attributes["output.value"])


def _unflattened(attributes: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
    """List of objects that stand under ``PREFIX.0.a.b``, in the order of the numbers."""
    found: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        number, _, path = name.removeprefix(f"{prefix}.").partition(".")
        if not name.startswith(f"{prefix}.") or not number.isdecimal() or not path:
            continue
        into = found.setdefault(int(number), {})
        *steps, last = path.split(".")
        for step in steps:
            into = into.setdefault(step, {})
        into[last] = value
    return [found[number] for number in sorted(found)]
