"""Codex's transcripts (``~/.codex/sessions/**/rollout-*.jsonl``): each turn of a person is an experience.

As for Claude Code: the request, the last text of the assistant, and as trajectory the calls of tools.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from exp_pool.curation.importers.safe_files import ImportSource, Items
from exp_pool.curation.importers.turns import Turn, turn_call
from exp_pool.curation.importers.types import Imported, ImportOptions, Peek

NEEDS_FUNCTION = False
_FUNCTION = "codex"
_OF_THE_PROGRAM = ("<environment_context>", "<user_instructions>", "<permissions", "# AGENTS.md instructions")


def recognise(peek: Peek) -> bool:
    """The first line is about the session."""
    value = peek.value
    return isinstance(value, dict) and value.get("type") == "session_meta" and "payload" in value


def items(source: ImportSource, options: ImportOptions) -> Items:  # noqa: ARG001
    """One for each turn."""
    for file in source.files(".jsonl", ".jsonl.gz"):
        turn = session = model = None
        for where, line in source.values(file):
            payload = line.get("payload") if isinstance(line, dict) else None
            if not isinstance(payload, Mapping):
                continue
            kind, at = line.get("type"), line.get("timestamp")
            if kind == "session_meta":
                session = payload.get("id") or session
            elif kind == "turn_context":
                model = payload.get("model") or model
                if turn is not None:
                    turn.model = model
            elif kind == "response_item" and (text := _user_text(payload)) is not None:
                if turn is not None:
                    yield turn.where, turn
                turn = Turn(where, text, None, at, session, model=model)
            elif turn is not None:
                _add_to_turn(turn, kind, payload)
                turn.ended_at = at or turn.ended_at
        if turn is not None:
            yield turn.where, turn


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """The turn, if it was answered."""
    yield turn_call(item, options, "codex", _FUNCTION)


def _user_text(payload: Mapping[str, Any]) -> str | None:
    """Text that the person wrote; None for anything else, also for messages of the program in the person's name."""
    if payload.get("type") != "message" or payload.get("role") != "user":
        return None
    text = _text(payload.get("content"))
    return None if not text.strip() or text.lstrip().startswith(_OF_THE_PROGRAM) else text


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _add_to_turn(turn: Turn, kind: Any, payload: Mapping[str, Any]) -> None:
    """Add to the turn what the agent did and said."""
    match kind, payload.get("type"):
        case "response_item", "message" if payload.get("role") == "assistant":
            turn.say(_text(payload.get("content")))
        case "response_item", "function_call" | "custom_tool_call" | "local_shell_call":
            asked = next((payload[name] for name in ("arguments", "input", "action") if name in payload), None)
            turn.act(payload.get("call_id"), payload.get("name") or "shell", asked)
        case "response_item", "function_call_output" | "custom_tool_call_output":
            turn.observe(payload.get("call_id"), payload.get("output"))
        case "event_msg", "token_count":
            last = (payload.get("info") or {}).get("last_token_usage") or {}
            turn.use(None, last)
