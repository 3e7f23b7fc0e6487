"""What a wire format must offer: a pair of functions, one that writes a request and one that reads what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from exp_pool.errors import InvalidInputError

Message: TypeAlias = Mapping[str, Any]  # as of OpenAI's chat completions: role, content; tool_calls, tool_call_id
Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """A request to a model, before it is put in a wire format.

    Attributes:
        url: the endpoint's, as it was given.
        model: the model's name there.
        messages: in the form of OpenAI's chat completions.
        options: `max_tokens`, `temperature`, `top_p`, `stop`, `tools` and `tool_choice` have the form of OpenAI's chat
            completions and are translated; any other belongs into the body as it is.
        stream: server-sent events are wanted.
        api_key: None where there is none.
    """

    url: str
    model: str
    messages: Sequence[Message]
    options: Mapping[str, Any]
    stream: bool = False
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An HTTP POST."""

    url: str
    body: Json
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, or one event of a stream, as read from a wire format.

    Attributes:
        text: all of it, or what the event adds.
        tool_calls: in the form of OpenAI's chat completions. A whole answer only.
        tokens_in: that were read, None where it does not say.
        tokens_out: that were written, None where it does not say.
        finished: nothing is missing. A stream that ends before was cut off.
        reason: why it ended, in the words of OpenAI's chat completions: ``"stop"``, ``"length"``, ``"tool_calls"``,
            ``"content_filter"``; ``"refusal"`` where the model says so; else what it says. ``""`` where it does not.
        error: the model's trouble, told in place of an answer.
    """

    text: str = ""
    tool_calls: Sequence[Json] = ()
    tokens_in: int | None = None
    tokens_out: int | None = None
    finished: bool = False
    reason: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Adapter:
    """A wire format.

    Args:
        name: for errors and logs.
        write: makes the HTTP request.
        read: understands a whole answer, and each event of a stream; which of them it is, the JSON itself shows. What
            it raises means that this is no answer.
        endings: of URL paths that show the format.
        hosts: that are the provider's own. Only they get the key that the environment has for the provider.
        keys: environment variables that hold the key, the first that is set counts.
    """

    name: str
    write: Callable[[ModelRequest], Outgoing]
    read: Callable[[Json], Reply]
    endings: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


def text_of(content: Any) -> str:
    """The text of a message's content: a text, None, or a list of parts that are texts.

    Raises:
        InvalidInputError: a part is something else, such as an image.
    """
    if content is None or isinstance(content, str):
        return content or ""
    parts = [part if isinstance(part, str) else part.get("text") for part in content]
    for part, text in zip(content, parts, strict=True):
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
            raise InvalidInputError(f"a part of the message is {kind!r}; only text is translated to this wire format")
    return "".join(parts)


def instructions_of(messages: Sequence[Message]) -> str:
    """What the system and developer messages say, for formats that want it apart."""
    return "\n\n".join(text_of(m.get("content")) for m in messages if m["role"] in {"system", "developer"})


def joined_turns(messages: Sequence[Message], write: Callable[[Message], Json], parts: str) -> list[Json]:
    """Messages, but for instructions, as turns; the results of tools that were called together belong into one turn.

    Args:
        messages: of a request.
        write: makes a turn of a message.
        parts: the name of the field of a turn that lists what it consists of.
    """
    turns: list[Json] = []
    after_tool = False
    for message in turns_of(messages):
        turn = write(message)
        if message["role"] == "tool" and after_tool:
            turns[-1][parts] += turn[parts]
        else:
            turns.append(turn)
        after_tool = message["role"] == "tool"
    return turns


def error_text(error: Any) -> str:
    """The text of an error as providers write them: an object with a message, or a text."""
    return str((error.get("message") or error) if isinstance(error, dict) else error)


def turns_of(messages: Sequence[Message]) -> Iterator[Message]:
    """The messages that are neither system nor developer messages."""
    return (message for message in messages if message["role"] not in {"system", "developer"})


def tool_call(id_: str, name: str, arguments: str) -> Json:
    """A tool call in the form of OpenAI's chat completions.

    Args:
        id_: of the call.
        name: of the function.
        arguments: as JSON.
    """
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


FILTERED = "content_filter"


def reason_of(own: str | None, words: Mapping[str, str], *, calls: bool = False) -> str:
    """Why an answer ended, in the words of OpenAI's chat completions; ``""`` where that is not known.

    Args:
        own: the format's own word.
        words: own words -> words of chat completions; others stay, in lower case.
        calls: whether the answer calls tools.
    """
    reason = words.get(own, own.lower()) if own else ""
    return "tool_calls" if calls and reason in {"", "stop"} else reason


def stops(options: Mapping[str, Any]) -> list[str]:
    """The option ``stop`` as a list."""
    stop = options["stop"]
    return [stop] if isinstance(stop, str) else list(stop)
