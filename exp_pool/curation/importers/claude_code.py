"""Claude Code's transcripts (``~/.claude/projects/*/*.jsonl``): each turn of a person is an experience.

The request is what the person wrote, the answer the last text before the next turn, and the trajectory what was done in
between: each call of a tool with the plan before it and what came back. Side chains (subagents) and messages that the
program itself wrote are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from exp_pool.curation.importers.safe_files import ImportSource, Items
from exp_pool.curation.importers.turns import Turn, turn_call
from exp_pool.curation.importers.types import Imported, ImportOptions, Peek

NEEDS_FUNCTION = False
_FUNCTION = "claude-code"
_OF_THE_PROGRAM = ("<command-", "<local-command-", "<system-reminder>", "Caveat: ")


def recognise(peek: Peek) -> bool:
    """Lines of a session; the first may be a summary."""
    value = peek.value
    if not isinstance(value, dict):
        return False
    return (
        {"sessionId", "uuid", "type"} <= value.keys()
        or value.keys() == {"type", "summary", "leafUuid"}
        or (b'"sessionId"' in peek.head and b'"parentUuid"' in peek.head)
    )


def items(source: ImportSource, options: ImportOptions) -> Items:  # noqa: ARG001
    """One for each turn."""
    for file in source.files(".jsonl", ".jsonl.gz"):
        turn = None
        for where, line in source.values(file):
            message = line.get("message") if isinstance(line, dict) else None
            if not isinstance(message, Mapping) or line.get("isSidechain") or line.get("isMeta"):
                continue
            if line.get("type") == "user" and (text := _user_text(message)) is not None:
                if turn is not None:
                    yield turn.where, turn
                turn = Turn(where, text, line.get("uuid"), line.get("timestamp"), line.get("sessionId"))
            elif turn is not None:
                _add_to_turn(turn, line, message)
        if turn is not None:
            yield turn.where, turn


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """The turn, if it was answered."""
    yield turn_call(item, options, "claude-code", _FUNCTION)


def _user_text(message: Mapping[str, Any]) -> str | None:
    """Text that the person wrote; None for results of tools and messages of the program."""
    content = message.get("content")
    if isinstance(content, list):
        if any(part.get("type") == "tool_result" for part in content):
            return None
        content = "\n".join(part["text"] for part in content if part.get("type") == "text")
    if not isinstance(content, str) or not content.strip() or content.startswith(_OF_THE_PROGRAM):
        return None
    return content


def _add_to_turn(turn: Turn, line: Mapping[str, Any], message: Mapping[str, Any]) -> None:
    """Add to the turn what the agent did and said."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    if line.get("type") == "assistant":
        turn.model = message.get("model") or turn.model
        turn.ended_at = line.get("timestamp") or turn.ended_at
        turn.use(message.get("id"), message.get("usage") or {})
    for part in parts:
        match part.get("type"):
            case "text" if line.get("type") == "assistant":
                turn.say(part.get("text"))
            case "tool_use":
                turn.act(part.get("id"), part.get("name"), part.get("input"))
            case "tool_result":
                turn.observe(part.get("tool_use_id"), part.get("content"))
