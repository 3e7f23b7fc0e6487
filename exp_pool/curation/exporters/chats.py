"""Chat messages of an experience: the prompt, and the answer of the assistant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exp_pool.core.experience import Experience
from exp_pool.core.identity.request_text import REQUEST_PARAMETERS, json_text, text_of
from exp_pool.core.values.encoding import to_plain

_ROLES = {"human": "user", "ai": "assistant"}  # LangChain's words


def prompt_messages(experience: Experience) -> list[dict[str, Any]]:
    """Prompt: the messages of the call where it has some, else its request as a message of the user."""
    for name in REQUEST_PARAMETERS:
        value = experience.arguments.get(name)
        if isinstance(value, list | tuple) and _is_chat(value) and text_of(value) is not None:
            return [_message(message) for message in value]
    system = experience.arguments.get("system")
    first = [{"role": "system", "content": system}] if isinstance(system, str) and system else []
    return [*first, {"role": "user", "content": experience.request}]


def _is_chat(value: Any) -> bool:
    return all(isinstance(message, Mapping) and isinstance(message.get("role"), str) for message in value)


def answer_message(value: Any) -> dict[str, Any]:
    """Answer as the assistant's message: text and messages as they are, anything else as JSON."""
    if isinstance(value, Mapping) and value.get("role") == "assistant":
        return _message(value)
    return {"role": "assistant", "content": as_text(value)}


def as_text(value: Any) -> str:
    """Value as text; JSON where it is none."""
    return value if isinstance(value, str) else json_text(to_plain(value))


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list) and all(
        isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content
    ):
        content = "\n".join(part["text"] for part in content)
    plain: dict[str, Any] = to_plain(
        {**message, "role": _ROLES.get(message["role"], message["role"]), "content": content}
    )
    return plain
