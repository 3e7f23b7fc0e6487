"""OpenAI requests and responses: logged pairs, output of the batch API, or chats for fine-tuning.

A line is ``{"request": {...}, "response": {...}}`` (chat completions or responses, also of the many services that
speak the same), a line of batch output (its request stands in another file: ``requests=``), or ``{"messages": [...]}``
with the answer last, as for fine-tuning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from exp_pool.core.experience import MISSING, Metric
from exp_pool.curation.importers.safe_files import ImportSource, Items
from exp_pool.curation.importers.types import (
    Imported,
    ImportOptions,
    LeftOutError,
    Peek,
    imported_call,
    parse_time,
    token_count,
)
from exp_pool.errors import InvalidInputError

NEEDS_FUNCTION = True
# What does not change what is asked: how the answer travels, whose call it is, where it is kept.
_BESIDE = frozenset(
    "stream stream_options user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention"
    " background include".split()
)


def recognise(peek: Peek) -> bool:
    """One of the three forms."""
    value = peek.value
    if not isinstance(value, dict):
        return False
    return {"request", "response"} <= value.keys() or {"custom_id", "response"} <= value.keys() or "messages" in value


def items(source: ImportSource, options: ImportOptions) -> Items:
    """One for each line, batch output with its request."""
    requests = None if options.requests is None else _requests(options.requests)
    for file in source.files(".jsonl", ".json", ".jsonl.gz"):
        for where, value in source.values(file):
            if isinstance(value, dict) and "custom_id" in value and "request" not in value:
                if requests is None:
                    raise InvalidInputError(
                        "batch output does not hold what was asked; say where that is with requests="
                    )
                value = {**value, "request": requests.get(str(value["custom_id"]))}  # noqa: PLW2901
            yield where, value


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """The pair, if there is an answer in it."""
    if not isinstance(item, dict):
        raise LeftOutError("it is no object")
    if "messages" in item and "response" not in item:
        *prompt, last = item["messages"]
        if not isinstance(last, Mapping) or last.get("role") != "assistant":
            raise LeftOutError("its last message is not the assistant's")
        rest = {name: value for name, value in item.items() if name != "messages"}
        yield imported_call(options, "openai", None, {"messages": prompt, **rest}, answer_of(last))
        return
    body, got = item.get("request"), item.get("response")
    if isinstance(got, Mapping) and "status_code" in got:
        if got["status_code"] != 200:  # noqa: PLR2004  (HTTP's OK)
            raise LeftOutError(f"it failed with status {got['status_code']}")
        got = got.get("body")
    if item.get("error"):
        raise LeftOutError("it failed")
    if not isinstance(body, Mapping) or not isinstance(got, Mapping):
        raise LeftOutError("its request or its response is not there")
    used = got.get("usage") or {}
    yield imported_call(
        options,
        "openai",
        None,
        {name: value for name, value in body.items() if name not in _BESIDE},
        answer_in(got),
        source_id=item.get("custom_id") or got.get("id"),
        created_at=parse_time(got.get("created") or got.get("created_at")),
        model=got.get("model"),
        metric=Metric(
            tokens_in=token_count(used.get("prompt_tokens", used.get("input_tokens"))),
            tokens_out=token_count(used.get("completion_tokens", used.get("output_tokens"))),
        ),
    )


def answer_in(response: Mapping[str, Any]) -> Any:
    """Answer in a chat completion, a response, or an old completion; MISSING if there is none."""
    if response.get("choices"):
        choice = response["choices"][0]
        return answer_of(choice["message"]) if "message" in choice else choice.get("text", MISSING)
    if isinstance(response.get("output"), list):
        parts = [part for each in response["output"] if each.get("type") == "message" for part in each["content"]]
        calls = [each for each in response["output"] if each.get("type") == "function_call"]
        text = "".join(part["text"] for part in parts if part.get("type") == "output_text")
        if calls:
            return {"role": "assistant", "content": text, "tool_calls": calls}
        return text if parts else MISSING
    return MISSING


def answer_of(message: Mapping[str, Any]) -> Any:
    """Text of an assistant's message; the message itself where it calls tools or holds more than text."""
    content = message.get("content")
    if message.get("tool_calls") or not isinstance(content, str):
        fields = {name: value for name, value in message.items() if value is not None}
        return fields if content is not None or message.get("tool_calls") else MISSING
    return content


def _requests(path: Path) -> dict[str, Any]:
    """The bodies of a batch's requests by their `custom_id`; OpenAI takes 200 MB of them at most."""
    source = ImportSource(path)
    values = (value for _, value in source.values(path) if isinstance(value, dict))
    return {value["custom_id"]: value.get("body") for value in values if isinstance(value.get("custom_id"), str)}
