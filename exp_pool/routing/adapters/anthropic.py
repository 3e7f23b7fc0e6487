"""The wire format of Anthropic's messages.

https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from exp_pool.routing.adapters.contract import (
    Adapter,
    Json,
    Message,
    ModelRequest,
    Outgoing,
    Reply,
    error_text,
    instructions_of,
    joined_turns,
    reason_of,
    stops,
    text_of,
    tool_call,
)

_VERSION = "2023-06-01"
_MAX_TOKENS = 4096  # the format wants a number; every model of it can do that many
_REASONS = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls"}
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def write(request: ModelRequest) -> Outgoing:
    """The request: instructions stand apart; calls and results of tools are blocks."""
    options = dict(request.options)
    body: Json = {
        "model": request.model,
        "max_tokens": _MAX_TOKENS,
        "messages": joined_turns(request.messages, _turn, "content"),
    }
    if instructions := instructions_of(request.messages):
        body["system"] = instructions
    if "stop" in options:
        body["stop_sequences"] = stops(options)
        del options["stop"]
    if "tools" in options:
        body["tools"] = [_tool(tool) for tool in options.pop("tools")]
    if "tool_choice" in options:
        body["tool_choice"] = _choice(options.pop("tool_choice"))
    body |= options
    if request.stream:
        body["stream"] = True
    headers = {"anthropic-version": _VERSION}
    return Outgoing(request.url, body, headers | ({"x-api-key": request.api_key} if request.api_key else {}))


def _turn(message: Message) -> Json:
    text = text_of(message.get("content"))
    if message["role"] == "tool":
        return {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": text}],
        }
    calls = message.get("tool_calls") or ()
    if not calls:
        return {"role": message["role"], "content": text}
    used = [
        {
            "type": "tool_use",
            "id": call["id"],
            "name": call["function"]["name"],
            "input": json.loads(call["function"]["arguments"] or "{}"),
        }
        for call in calls
    ]
    return {"role": "assistant", "content": [*([{"type": "text", "text": text}] if text else []), *used]}


def _tool(tool: Mapping[str, Any]) -> Json:
    if "function" not in tool:
        return dict(tool)
    function = tool["function"]
    described = {"description": function["description"]} if "description" in function else {}
    return {"name": function["name"], **described, "input_schema": function.get("parameters") or {"type": "object"}}


def _choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return {"type": _CHOICES.get(choice, choice)}
    return {"type": "tool", "name": choice["function"]["name"]} if "function" in choice else choice


def read(payload: Json) -> Reply:
    """An answer, and each event of a stream, has a `type`."""
    match payload["type"]:
        case "message":
            return _whole(payload)
        case "content_block_delta":
            return Reply(text=payload["delta"].get("text") or "")
        case "message_start":
            return Reply(tokens_in=(payload["message"].get("usage") or {}).get("input_tokens"))
        case "message_delta":
            reason = reason_of((payload.get("delta") or {}).get("stop_reason"), _REASONS)
            return Reply(tokens_out=(payload.get("usage") or {}).get("output_tokens"), reason=reason)
        case "message_stop":
            return Reply(finished=True)
        case "error":
            return Reply(error=error_text(payload["error"]))
        case _:
            return Reply()


def _whole(message: Json) -> Reply:
    blocks = message["content"]
    usage = message.get("usage") or {}
    return Reply(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        tool_calls=tuple(
            tool_call(block["id"], block["name"], json.dumps(block["input"], ensure_ascii=False))
            for block in blocks
            if block["type"] == "tool_use"
        ),
        tokens_in=usage.get("input_tokens"),
        tokens_out=usage.get("output_tokens"),
        finished=True,
        reason=reason_of(message.get("stop_reason"), _REASONS),
    )


ADAPTER = Adapter("anthropic", write, read, ("/messages",), ("api.anthropic.com",), ("ANTHROPIC_API_KEY",))
