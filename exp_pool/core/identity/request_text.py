"""Request text and reuse scope: which argument holds the text, and where in a conversation it stands. Pure.

The text is what similarity compares. It is a text argument, or the last user turn of a message list, whatever the other
turns look like. Messages are dicts, or objects with fields (pydantic models, dataclasses): those of OpenAI (Chat
Completions and Responses), Anthropic, Gemini, Bedrock, LangChain, LlamaIndex and whoever writes a role and a content.
What is not recognised as a user's turn is never the text: it belongs to the reuse scope, as does everything but the
text.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import inspect
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from exp_pool.core.identity.arguments import BESIDE
from exp_pool.core.identity.keys import make_scope
from exp_pool.core.values.encoding import to_plain
from exp_pool.core.values.redaction import redacted
from exp_pool.errors import EncodingError

# The parameter whose value is the request text, where nobody said which: the first of these that holds text. The order
# of those that were there first is kept, or functions would change their text.
REQUEST_PARAMETERS = (
    *("request", "req", "prompt", "query", "question", "messages", "input", "text"),
    *("message", "contents", "conversation", "user_message", "user_prompt", "user_input", "user_query"),
    *("user_question", "q", "task", "instruction", "goal", "topic", "problem", "sentence", "content", "description"),
)
# Never the text merely because nothing else is text: two models, system prompts or ids that look alike are not alike.
_NO_TEXT = re.compile(
    r"(.*_)?(model|engine|deployment|provider)(_(name|id|version))?|(.*_)?(system|developer)(_.*)?|instructions|persona"
    r"|role|(.*_)?(id|ids|uuid)",
    re.IGNORECASE,
)
_USERS = frozenset({"user", "human", "usermessage", "humanmessage", "humanmessagechunk"})
_ROLES = ("role", "type", "from", "source", "_role")  # the first that is there says whose turn it is
_CONTENTS = ("content", "parts", "blocks", "value", "_content")
_TEXT_TYPES = (None, "text", "input_text")

_LEFT_OUT = ("text",)  # a tuple: message contents are strings and lists, so nothing that a user writes equals it
_Path: TypeAlias = tuple[Any, ...]  # keys, positions and fields, from an argument to a text in it


def request_text(arguments: Mapping[str, Any], parameter: str | None = None) -> tuple[str | None, str]:
    """The text for similarity, and the parameter that held it (None where it is the arguments as JSON).

    Of a message list the text is the last user turn. Where an argument has one of the names but holds no text (a
    conversation without a user's turn, an object), no other argument takes its place.
    """
    candidates = REQUEST_PARAMETERS if parameter is None else (parameter,)
    given = False
    for name in candidates:
        value = arguments.get(name)
        if (text := text_of(value)) is not None:
            return name, text
        given = given or value is not None
        if not isinstance(value, int | float | None):
            break
    if parameter is None and not given:
        strings = [name for name, value in arguments.items() if isinstance(value, str)]
        if len(strings) == 1 and may_be_text(strings[0]):
            return strings[0], str(arguments[strings[0]])
    return None, json_text({name: value for name, value in arguments.items() if name not in BESIDE})


def may_be_text(name: str) -> bool:
    """Whether a parameter is the request text where it is the only text: no model's name, system prompt or id is."""
    return _NO_TEXT.fullmatch(name) is None


def text_is_known(parameters: Iterable[inspect.Parameter]) -> bool:
    """Whether calls will have a request text, as far as the parameters show.

    One has a name of `REQUEST_PARAMETERS`, or only one can be a text by its annotation or default, and may be it.
    """
    parameters = list(parameters)
    if any(each.kind is each.VAR_KEYWORD or each.name in REQUEST_PARAMETERS for each in parameters):
        return True
    texts = [each.name for each in parameters if each.kind is not each.VAR_POSITIONAL and _may_hold_text(each)]
    return len(texts) == 1 and may_be_text(texts[0])


def _may_hold_text(parameter: inspect.Parameter) -> bool:
    given, default = parameter.annotation, parameter.default
    if given is parameter.empty:
        return default in (parameter.empty, None) or isinstance(default, str)
    said = given if isinstance(given, str) else given.__name__ if isinstance(given, type) else repr(given)
    if not re.match(r"(typing\.)?(Optional|Union|Annotated|Final|Literal)\[", said):
        said = said.partition("[")[0]
    return re.search(r"\b(str|Any|object|LiteralString|Literal|[A-Z])\b", said) is not None


def reuse_scope(
    function: str,
    version: str,
    arguments: Mapping[str, Any],
    parameter: str | None,
    secret: bytes | None = None,
) -> str:
    """Digest of everything in the call but the text of `parameter`; of everything, where no parameter held the text.

    So a call without a request parameter, whose text is all its arguments as JSON, is only ever answered exactly.

    Args:
        function: its stored name.
        version: the decorator's ``version=``.
        arguments: by name.
        parameter: the argument that holds the request text.
        secret: of the configuration's `key_secret`.
    """
    if parameter is not None:
        arguments = {**arguments, parameter: without_text(arguments[parameter])}
    return make_scope(function, version, arguments, secret)


def text_of(value: Any) -> str | None:
    """The request text in one argument: a string, or the last user turn of a message list; else None."""
    if isinstance(value, str):
        return value
    paths = _paths(value)
    return "\n".join(_at(value, path) for path in paths) if paths else None


def without_text(value: Any) -> Any:
    """The argument with its request text left out: what remains of it belongs to the reuse scope."""
    return _with(value, _LEFT_OUT, _LEFT_OUT)


def with_text(value: Any, text: str) -> Any:
    """The argument with another request text: a string, or the messages with another last user turn."""
    return _with(value, text, "")


def _with(value: Any, text: Any, further: Any) -> Any:
    """A copy with this text in place of the request text; where that has several parts, the others get `further`."""
    paths = () if isinstance(value, str) else _paths(value)
    if not paths:
        return text
    for path, part in zip(paths, itertools.chain([text], itertools.repeat(further)), strict=False):
        value = _put(value, path, part)
    return value


# ── Conversations ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _paths(value: Any) -> tuple[_Path, ...]:
    """Where the texts of the last user turn stand; none where there is no such turn.

    `value` is a list of messages, one message, or what holds such a list under the name ``messages``.
    """
    if isinstance(value, list | tuple) and not _is_pair(value):
        turns = ((at, value[at]) for at in range(len(value) - 1, -1, -1))
        found = (tuple((at, *path) for path in _texts_of_turn(turn)) for at, turn in turns)
        return next(filter(None, found), ())
    texts = tuple(_texts_of_turn(value))
    held = None if texts else _field(value, "messages")
    if isinstance(held, list | tuple):
        return tuple(("messages", *path) for path in _paths(held))
    return texts


def _texts_of_turn(message: Any) -> Iterator[_Path]:
    """Where the texts of a message stand; none where it is not a user's."""
    if _is_pair(message):
        if message[0].lower() in _USERS:
            yield (1,)
        return
    role = next((role for name in _ROLES if (role := _field(message, name)) is not None), None)
    if isinstance(role, enum.Enum):
        role = role.value
    if not isinstance(role, str) or role.lower() not in _USERS:
        return
    for name in _CONTENTS:
        content = _field(message, name)
        if isinstance(content, str):
            yield (name,)
        elif isinstance(content, list | tuple):
            yield from ((name, at, *rest) for at, part in enumerate(content) for rest in _texts_of_part(part))
        if content is not None:
            return


def _is_pair(message: Any) -> bool:
    """Whether it is ``("human", "hi")``."""
    return isinstance(message, tuple) and len(message) == 2 and all(isinstance(part, str) for part in message)  # noqa: PLR2004


def _texts_of_part(part: Any) -> Iterator[_Path]:
    """Where the text of a part stands; none for pictures, tool results, thoughts."""
    if isinstance(part, str):
        yield ()
        return
    kind = _field(part, "type") or _field(part, "block_type")
    if isinstance(_field(part, "text"), str) and kind in _TEXT_TYPES and not _field(part, "thought"):
        yield ("text",)


def _field(value: Any, name: str) -> Any:
    """A member of a mapping, or a field of a model or a dataclass; None where there is none.

    Other objects are not looked into: a property may do anything, and a mock has every attribute.
    """
    if isinstance(value, Mapping):
        return value.get(name)
    if name in getattr(type(value), "__pydantic_fields__", ()) or name in getattr(
        type(value), "__dataclass_fields__", ()
    ):
        return getattr(value, name, None)
    extra = getattr(value, "__pydantic_extra__", None) if hasattr(type(value), "__pydantic_fields__") else None
    return extra.get(name) if extra else None


def _at(value: Any, path: _Path) -> Any:
    for step in path:
        value = value[step] if isinstance(value, list | tuple) else _field(value, step)
    return value


def _put(value: Any, path: _Path, new: Any) -> Any:
    """A copy of what leads there, with something else there; all the rest is shared."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    changed = _put(value[step] if isinstance(value, list | tuple) else _field(value, step), rest, new)
    if isinstance(value, Mapping):
        return {**value, step: changed}
    if isinstance(value, list | tuple):
        return type(value)([*value[:step], changed, *value[step + 1 :]])
    if hasattr(type(value), "__pydantic_fields__"):
        return value.model_copy(update={step: changed})
    like = copy.copy(value)  # not `dataclasses.replace`, which runs its __init__
    object.__setattr__(like, step, changed)
    return like


# ── Arguments as JSON ─────────────────────────────────────────────────────────────────────────────────────────────────


def json_text(value: Any) -> str:
    """``json.dumps(value, ensure_ascii=False)``, with a readable form of what JSON does not know."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return json.dumps(to_plain(value), ensure_ascii=False)
    except EncodingError:
        pass
    try:
        return json.dumps(value, ensure_ascii=False, default=_readable)
    except (TypeError, ValueError, RecursionError):  # keys that are no text, a circle
        named = value.items() if isinstance(value, Mapping) else ()
        return json.dumps({str(name): _type_name(each) for name, each in named}, ensure_ascii=False)


def _readable(value: Any) -> Any:
    """What JSON does not know, as people read it: only a display, keys never depend on it.

    Fields by name, so that those named like secrets are seen, and left out: a ``repr`` would show them.
    """
    fields = getattr(type(value), "__pydantic_fields__", None)
    if fields is None and dataclasses.is_dataclass(value):
        fields = {each.name: each for each in dataclasses.fields(value)}
    if fields is not None:
        shown = {name: getattr(value, name, None) for name, about in fields.items() if about.repr}
        return redacted({**shown, **(getattr(value, "__pydantic_extra__", None) or {})})
    if isinstance(value, Mapping):
        return redacted(dict(value))
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    try:
        return to_plain(value)
    except EncodingError:
        return redacted(repr(value)[:200]) if isinstance(value, enum.Enum) else _type_name(value)


def _type_name(value: Any) -> str:
    return f"<{type(value).__module__}.{type(value).__qualname__}>"
