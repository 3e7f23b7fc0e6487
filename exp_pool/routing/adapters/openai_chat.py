"""The wire format of OpenAI's chat completions, and of the many servers that imitate them.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from exp_pool.routing.adapters.contract import Adapter, Json, ModelRequest, Outgoing, Reply, error_text, text_of


def write(request: ModelRequest) -> Outgoing:
    """The request: messages and options have this form already."""
    body = {"model": request.model, "messages": list(request.messages), **request.options}
    if request.stream:
        body["stream"] = True
    return Outgoing(request.url, body, {"Authorization": f"Bearer {request.api_key}"} if request.api_key else {})


def read(payload: Json) -> Reply:
    """An answer has a `message`, an event a `delta`; the last event may have neither, and count tokens."""
    if error := payload.get("error"):
        return Reply(error=error_text(error))
    usage = payload.get("usage") or {}
    choice = payload["choices"][0] if payload["choices"] else {}
    message = choice["message"] if "message" in choice else choice.get("delta") or {}
    return Reply(
        text=text_of(message.get("content")) or message.get("refusal") or "",
        tool_calls=tuple(message.get("tool_calls") or ()) if "message" in choice else (),
        tokens_in=usage.get("prompt_tokens"),
        tokens_out=usage.get("completion_tokens"),
        finished="message" in choice or choice.get("finish_reason") is not None,
        reason="refusal" if message.get("refusal") else choice.get("finish_reason") or "",
    )


ADAPTER = Adapter("openai", write, read, ("/chat/completions",), ("api.openai.com",), ("OPENAI_API_KEY",))
