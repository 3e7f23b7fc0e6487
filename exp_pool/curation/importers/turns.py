"""Turn of a coding agent: the request, the tool calls with their results, and the last text as the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from exp_pool.core.experience import Metric, Step
from exp_pool.core.identity.request_text import json_text
from exp_pool.curation.importers.types import (
    Imported,
    ImportOptions,
    LeftOutError,
    imported_call,
    parse_time,
    seconds_between,
    token_count,
)

_LONGEST = 10_000  # letters of what a tool was given or gave; a file that was read is no experience
_MOST = 1_000  # steps


@dataclass(slots=True)
class Turn:
    """Turn of a coding agent while its lines are read."""

    where: str
    request: str
    id: str | None
    started_at: Any
    session: str | None
    model: str | None = None
    ended_at: Any = None
    answer: str | None = None
    steps: list[dict[str, str]] = field(default_factory=list)
    _by_call: dict[str, dict[str, str]] = field(default_factory=dict)
    _used: dict[str, tuple[int, int]] = field(default_factory=dict)

    def say(self, text: Any) -> None:
        """The agent says something: the answer, until it says or does something else."""
        if isinstance(text, str) and text.strip():
            self.answer = text

    def act(self, id_: Any, name: Any, given: Any) -> None:
        """The agent calls a tool. What it said before is the plan.

        Args:
            id_: of the call, which its result names.
            name: of the tool.
            given: its arguments.
        """
        step = {"plan": self.answer or "", "action": _cut(f"{name}({_as_text(given)})"), "observation": ""}
        self.answer = None
        if len(self.steps) < _MOST:
            self.steps.append(step)
            self._by_call[str(id_)] = step

    def observe(self, id_: Any, result: Any) -> None:
        """A tool returns its result."""
        step = self._by_call.pop(str(id_), None)
        if step is not None:
            step["observation"] = _cut(_as_text(result))

    def use(self, message: Any, used: dict[str, Any]) -> None:
        """Count tokens. A message that is written in several lines repeats the same numbers in each."""
        read = sum(token_count(used.get(name)) or 0 for name in _READ)
        self._used[str(message) if message else f"#{len(self._used)}"] = (
            read,
            token_count(used.get("output_tokens")) or 0,
        )

    def tokens(self) -> tuple[int | None, int | None]:
        """Tokens read and written in all; None where nothing is known."""
        read, written = (sum(numbers) for numbers in zip(*self._used.values(), strict=True)) if self._used else (0, 0)
        return read or None, written or None


_READ = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def turn_call(turn: Turn, options: ImportOptions, source: str, function: str) -> Imported:
    """Experience of a turn.

    Args:
        turn: all of it.
        options: of the import.
        source: the format, for the metadata.
        function: the name under which it is stored by default.

    Raises:
        LeftOutError: it ended without an answer.
    """
    if turn.answer is None:
        raise LeftOutError("it ended without an answer")
    read, written = turn.tokens()
    time_s = seconds_between(turn.started_at, turn.ended_at)
    return imported_call(
        options,
        source,
        function,
        None,
        turn.answer,
        request=turn.request,
        source_id=turn.id,
        created_at=parse_time(turn.started_at),
        metadata={} if turn.session is None else {"session": turn.session},
        model=turn.model,
        trajectory=[Step.model_validate(step) for step in turn.steps],
        metric=Metric(time_s=time_s, tokens_in=read, tokens_out=written),
    )


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value):
        return "\n".join(part["text"] for part in value)
    return json_text(value)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text) - _LONGEST:,} letters more)"
