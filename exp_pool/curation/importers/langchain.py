"""LangChain's SQLite cache: what models were asked and what they generated.

Prompts and generations are LangChain's serialized objects. They are read as the JSON they are; no class is made of
them, as LangChain itself would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from exp_pool.core.experience import MISSING, Metric
from exp_pool.curation.importers import sqlite
from exp_pool.curation.importers.safe_files import ImportSource, Items
from exp_pool.curation.importers.types import (
    Imported,
    ImportOptions,
    LeftOutError,
    Peek,
    arguments_of,
    from_json,
    imported_call,
    token_count,
)

NEEDS_FUNCTION = True
_TABLE = "full_llm_cache"
_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool", "function": "function"}


def recognise(peek: Peek) -> bool:
    """SQLite with its table."""
    return peek.head.startswith(sqlite.MAGIC) and _TABLE.encode() in peek.head


def items(source: ImportSource, options: ImportOptions) -> Items:  # noqa: ARG001
    """One for each generation."""
    for file in source.files(".db", ".sqlite"):
        columns = ("prompt", "llm", "idx", "response")
        for number, row in enumerate(sqlite.rows(source, file, _TABLE, columns, "rowid"), 1):
            yield f"{source.name(file)} row {number}", row


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """The generation. The model with its settings (`llm`) is an argument: under other settings it is another call."""
    prompt, generation = from_json(item["prompt"]), from_json(item["response"])
    if isinstance(prompt, list):
        prompt = [_message(message) for message in prompt]
    if isinstance(generation, Mapping):
        kwargs = _kwargs(generation)
        message = _kwargs(kwargs["message"]) if isinstance(kwargs.get("message"), Mapping) else {}
        answer = _answer(kwargs, message)
    else:
        message, answer = {}, generation if isinstance(generation, str) and generation else MISSING
    used = message.get("usage_metadata") or {}
    told = message.get("response_metadata") or {}
    yield imported_call(
        options,
        "langchain",
        None,
        {**arguments_of(prompt), "llm": item["llm"]}
        if isinstance(prompt, list)
        else {"prompt": prompt, "llm": item["llm"]},
        answer,
        model=told.get("model_name"),
        metric=Metric(
            tokens_in=token_count(used.get("input_tokens")), tokens_out=token_count(used.get("output_tokens"))
        ),
    )


def _kwargs(serialized: Mapping[str, Any]) -> Mapping[str, Any]:
    kwargs = serialized.get("kwargs")
    if serialized.get("lc") != 1 or not isinstance(kwargs, Mapping):
        raise LeftOutError("it is not what LangChain serializes")
    return kwargs


def _answer(generation: Mapping[str, Any], message: Mapping[str, Any]) -> Any:
    """The text; where tools were called, the assistant's message with the calls."""
    calls = message.get("tool_calls")
    if calls:
        return {"role": "assistant", "content": message.get("content") or "", "tool_calls": calls}
    return generation.get("text", MISSING)


def _message(serialized: Any) -> dict[str, Any]:
    kwargs = _kwargs(serialized)
    role = str(kwargs.get("role") or kwargs.get("type"))
    told = {name: kwargs[name] for name in ("tool_calls", "tool_call_id", "name") if kwargs.get(name)}
    return {"role": _ROLES.get(role, role), "content": kwargs.get("content"), **told}
