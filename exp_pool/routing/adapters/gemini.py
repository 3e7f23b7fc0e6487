"""The wire format of Gemini's generateContent; the model is part of the URL.

https://ai.google.dev/api/generate-content
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from exp_pool.routing.adapters.contract import (
    FILTERED,
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

_WHOLE, _STREAM = ":generateContent", ":streamGenerateContent"
_CONFIG = {"max_tokens": "maxOutputTokens", "temperature": "temperature", "top_p": "topP"}
_REASONS = {"STOP": "stop", "MAX_TOKENS": "length"} | dict.fromkeys(
    ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"), FILTERED
)
_MODES = {"auto": "AUTO", "required": "ANY", "none": "NONE"}


def write(request: ModelRequest) -> Outgoing:
    """The request: roles are user and model; the options of sampling stand in a part of their own."""
    options = dict(request.options)
    names = {call["id"]: call["function"]["name"] for m in request.messages for call in m.get("tool_calls") or ()}
    contents = joined_turns(request.messages, lambda message: _content(message, names), "parts")
    body: Json = {"contents": contents}
    if instructions := instructions_of(request.messages):
        body["systemInstruction"] = {"parts": [{"text": instructions}]}
    config = {name: options.pop(option) for option, name in _CONFIG.items() if option in options}
    if "stop" in options:
        config["stopSequences"] = stops(options)
        del options["stop"]
    if config or "generationConfig" in options:
        body["generationConfig"] = config | options.pop("generationConfig", {})
    if "tools" in options:
        body["tools"] = _tools(options.pop("tools"))
    if "tool_choice" in options:
        body["toolConfig"] = {"functionCallingConfig": _choice(options.pop("tool_choice"))}
    headers = {"x-goog-api-key": request.api_key} if request.api_key else {}
    return Outgoing(_url(request.url, stream=request.stream), body | options, headers)


def _url(url: str, *, stream: bool) -> str:
    parts = urlsplit(url)
    path = parts.path.replace(_STREAM, _WHOLE)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "alt"]
    if stream:
        path, query = path.replace(_WHOLE, _STREAM), [*query, ("alt", "sse")]
    return parts._replace(path=path, query=urlencode(query)).geturl()


def _content(turn: Message, names: Mapping[str, str]) -> Json:
    text = text_of(turn.get("content"))
    if turn["role"] == "tool":
        response = {"name": names.get(turn["tool_call_id"], ""), "response": {"result": text}}
        return {"role": "user", "parts": [{"functionResponse": response}]}
    calls = [
        {
            "functionCall": {
                "name": call["function"]["name"],
                "args": json.loads(call["function"]["arguments"] or "{}"),
            }
        }
        for call in turn.get("tool_calls") or ()
    ]
    said = [{"text": text}] if text or not calls else []
    return {"role": "model" if turn["role"] == "assistant" else "user", "parts": [*said, *calls]}


def _tools(tools: Sequence[Mapping[str, Any]]) -> list[Json]:
    own = [dict(tool) for tool in tools if "function" not in tool]
    functions = [
        {name: tool["function"][name] for name in ("name", "description", "parameters") if name in tool["function"]}
        for tool in tools
        if "function" in tool
    ]
    return [*own, *([{"functionDeclarations": functions}] if functions else [])]


def _choice(choice: Any) -> Json:
    if isinstance(choice, str):
        return {"mode": _MODES.get(choice, choice)}
    return {"mode": "ANY", "allowedFunctionNames": [choice["function"]["name"]]}


def read(payload: Json) -> Reply:
    """An event has the form of an answer; only the last one says why it ended."""
    if error := payload.get("error"):
        return Reply(error=error_text(error))
    usage = payload.get("usageMetadata") or {}
    blocked = (payload.get("promptFeedback") or {}).get("blockReason")
    if blocked and not payload.get("candidates"):
        return Reply(error=f"the prompt was blocked: {blocked}")
    candidate = payload["candidates"][0] if "candidates" in payload or not usage else {}
    parts = (candidate.get("content") or {}).get("parts") or ()
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    return Reply(
        text="".join(part.get("text") or "" for part in parts if not part.get("thought")),
        tool_calls=tuple(
            tool_call(
                call.get("id") or f"call_{n}", call["name"], json.dumps(call.get("args") or {}, ensure_ascii=False)
            )
            for n, call in enumerate(calls)
        ),
        tokens_in=usage.get("promptTokenCount"),
        tokens_out=usage.get("candidatesTokenCount"),
        finished="finishReason" in candidate,
        reason=reason_of(candidate.get("finishReason"), _REASONS, calls=bool(calls)),
    )


ADAPTER = Adapter(
    "gemini",
    write,
    read,
    (_WHOLE, _STREAM),
    ("generativelanguage.googleapis.com", "generativeai.googleapis.com"),
    ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
)
