"""The wire format of OpenAI's responses.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    reason_of,
    text_of,
    tool_call,
    turns_of,
)

_REASONS = {"completed": "stop", "max_output_tokens": "length"}
_ENDED = {"response.completed", "response.incomplete"}


def write(request: ModelRequest) -> Outgoing:
    """The request: turns become items, and options get their names of this format."""
    options = dict(request.options)
    body: Json = {
        "model": request.model,
        "input": [item for turn in turns_of(request.messages) for item in _items(turn)],
    }
    if instructions := instructions_of(request.messages):
        body["instructions"] = instructions
    if "max_tokens" in options:
        body["max_output_tokens"] = options.pop("max_tokens")
    if "tools" in options:
        body["tools"] = [_tool(tool) for tool in options.pop("tools")]
    if isinstance(choice := options.get("tool_choice"), Mapping) and "function" in choice:
        options["tool_choice"] = {"type": "function", "name": choice["function"]["name"]}
    body |= options
    if request.stream:
        body["stream"] = True
    return Outgoing(request.url, body, {"Authorization": f"Bearer {request.api_key}"} if request.api_key else {})


def _items(turn: Message) -> Iterator[Json]:
    if turn["role"] == "tool":
        yield {
            "type": "function_call_output",
            "call_id": turn["tool_call_id"],
            "output": text_of(turn.get("content")),
        }
        return
    if text := text_of(turn.get("content")):
        yield {"role": turn["role"], "content": text}
    for call in turn.get("tool_calls") or ():
        function = call["function"]
        yield {
            "type": "function_call",
            "call_id": call["id"],
            "name": function["name"],
            "arguments": function["arguments"],
        }


def _tool(tool: Mapping[str, Any]) -> Json:
    return {"type": "function", **tool["function"]} if "function" in tool else dict(tool)


def read(payload: Json) -> Reply:
    """Events have a `type`, the answer an `output`."""
    kind = payload.get("type")
    if kind is None or payload.get("object") == "response":
        return _whole(payload)
    match kind:
        case "response.output_text.delta" | "response.refusal.delta":
            return Reply(text=payload["delta"])
        case "error":
            return Reply(error=str(payload.get("message") or payload.get("error")))
        case "response.failed":
            return Reply(error=error_text(payload["response"].get("error") or "it failed"))
        case _ if kind in _ENDED:
            whole = _whole(payload["response"])
            return Reply(tokens_in=whole.tokens_in, tokens_out=whole.tokens_out, finished=True, reason=whole.reason)
        case _:
            return Reply()


def _whole(response: Json) -> Reply:
    if error := response.get("error"):
        return Reply(error=error_text(error))
    items = response["output"]
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    usage = response.get("usage") or {}
    calls = [item for item in items if item["type"] == "function_call"]
    cut = (response.get("incomplete_details") or {}).get("reason") or response.get("status")
    refused = any(part.get("refusal") for part in parts)
    return Reply(
        text="".join(part.get("text") or part.get("refusal") or "" for part in parts),
        tool_calls=tuple(tool_call(item["call_id"], item["name"], item["arguments"]) for item in calls),
        tokens_in=usage.get("input_tokens"),
        tokens_out=usage.get("output_tokens"),
        finished=True,
        reason="refusal" if refused else reason_of(cut, _REASONS, calls=bool(calls)),
    )


ADAPTER = Adapter("openai-responses", write, read, ("/responses",), ("api.openai.com",), ("OPENAI_API_KEY",))
