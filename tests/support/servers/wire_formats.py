"""How four providers put an answer: whole, and as the events of a stream. Written after their references, by hand."""

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class ToolCall:
    """In place of a text: the model wants a tool called."""

    name: str
    arguments: dict


def _pieces(text):
    """Text as it comes: word by word."""
    return [word + " " for word in text.split(" ")[:-1]] + [text.split(" ")[-1]]


def _event(data, name=None):
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


class Chat:
    path = "/v1/chat/completions"

    @staticmethod
    def streams(path, body):
        return body.get("stream", False)

    @staticmethod
    def prompt(body):
        return body["messages"][-1]["content"]

    @staticmethod
    def whole(model, said):
        if isinstance(said, ToolCall):
            function = {"name": said.name, "arguments": json.dumps(said.arguments)}
            call = {"id": "call_a", "type": "function", "function": function}
            message, why = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
        else:
            message, why = {"role": "assistant", "content": said}, "stop"
        return {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": why, "logprobs": None}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }

    @staticmethod
    def events(model, said):
        def chunk(delta, why=None):
            choice = {"index": 0, "delta": delta, "finish_reason": why}
            return _event(
                {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
            )

        yield chunk({"role": "assistant", "content": ""})
        for piece in _pieces(said):
            yield chunk({"content": piece})
        yield chunk({}, "stop")
        yield b"data: [DONE]\n\n"


class Responses:
    path = "/v1/responses"
    streams = staticmethod(Chat.streams)

    @staticmethod
    def prompt(body):
        return body["input"] if isinstance(body["input"], str) else body["input"][-1]["content"]

    @staticmethod
    def whole(model, said):
        if isinstance(said, ToolCall):
            arguments = json.dumps(said.arguments)
            item = {"type": "function_call", "id": "f", "call_id": "call_a", "name": said.name, "arguments": arguments}
        else:
            part = {"type": "output_text", "text": said, "annotations": []}
            item = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}
        return {
            "id": "r",
            "object": "response",
            "created_at": 1,
            "status": "completed",
            "model": model,
            "error": None,
            "output": [{"type": "reasoning", "id": "t", "summary": []}, item],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": 10,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": 110,
            },
        }

    @staticmethod
    def events(model, said):
        whole = Responses.whole(model, said)
        at = {"item_id": "m", "output_index": 1, "content_index": 0, "logprobs": []}
        started = {
            "type": "response.created",
            "response": {**whole, "output": [], "usage": None, "status": "in_progress"},
        }
        item = {**whole["output"][-1], "content": [], "status": "in_progress"}
        part = {"type": "output_text", "text": "", "annotations": []}
        added = [
            {"type": "response.output_item.added", "output_index": 0, "item": whole["output"][0]},
            {"type": "response.output_item.added", "output_index": 1, "item": item},
            {"type": "response.content_part.added", **at, "part": part},
        ]
        deltas = [{"type": "response.output_text.delta", **at, "delta": piece} for piece in _pieces(said)]
        done = {"type": "response.output_text.done", **at, "text": said}
        ended = {"type": "response.completed", "response": whole}
        for number, event in enumerate([started, *added, *deltas, done, ended]):
            yield _event({**event, "sequence_number": number}, event["type"])


class Messages:
    path = "/v1/messages"
    streams = staticmethod(Chat.streams)
    prompt = staticmethod(Chat.prompt)

    @staticmethod
    def whole(model, said):
        if isinstance(said, ToolCall):
            blocks, why = [{"type": "tool_use", "id": "call_a", "name": said.name, "input": said.arguments}], "tool_use"
        else:
            blocks, why = [{"type": "text", "text": said}], "end_turn"
        return {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": blocks,
            "stop_reason": why,
            "stop_sequence": None,
            "usage": {"input_tokens": 100, "output_tokens": 10},
        }

    @staticmethod
    def events(model, said):
        message = {**Messages.whole(model, said), "content": [], "stop_reason": None}
        block = {"type": "text", "text": ""}
        yield _event({"type": "message_start", "message": message}, "message_start")
        yield _event({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start")
        yield _event({"type": "ping"}, "ping")
        for piece in _pieces(said):
            delta = {"type": "text_delta", "text": piece}
            yield _event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")
        yield _event({"type": "content_block_stop", "index": 0}, "content_block_stop")
        ended = {"stop_reason": "end_turn", "stop_sequence": None}
        yield _event({"type": "message_delta", "delta": ended, "usage": {"output_tokens": 10}}, "message_delta")
        yield _event({"type": "message_stop"}, "message_stop")


class Gemini:
    path = "/v1beta/models/gemini-pro:generateContent"

    @staticmethod
    def streams(path, body):
        return ":streamGenerateContent?" in path and "alt=sse" in path

    @staticmethod
    def prompt(body):
        return body["contents"][-1]["parts"][0]["text"]

    @staticmethod
    def whole(model, said, last=True):
        if isinstance(said, ToolCall):
            part = {"functionCall": {"name": said.name, "args": said.arguments}}
        else:
            part = {"text": said}
        candidate = {"index": 0, "content": {"role": "model", "parts": [part]}}
        if last:
            candidate["finishReason"] = "STOP"
        usage = {"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "r"}

    @staticmethod
    def events(model, said):
        *pieces, last = _pieces(said)
        for piece in pieces:
            yield _event(Gemini.whole(model, piece, last=False)).replace(b"\n\n", b"\r\n\r\n")
        yield _event(Gemini.whole(model, last)).replace(b"\n\n", b"\r\n\r\n")


FORMATS = {"openai": Chat, "openai-responses": Responses, "anthropic": Messages, "gemini": Gemini}
