"""From a call's positional and keyword arguments to named arguments, and from these to the text people search by."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from exp_pool.encoding import to_plain
from exp_pool.errors import EncodingError, InvalidInputError
from exp_pool.keys import closure_values, make_scope, qualified_name

# The parameter whose value is the request text, where nobody said which: the first of these that holds text.
REQUEST_PARAMETERS = ("request", "req", "prompt", "query", "question", "messages", "input", "text")

CLOSURE = "<closure>"  # among the arguments, where closures' values stand: no parameter has this name
CLASS = "<class>"  # among the attributes of self that matter, where its class stands
_LEFT_OUT = ("text",)  # a tuple: message contents are strings and lists, so nothing that a user writes equals it


def function_name(function: Callable[..., Any] | str) -> str:
    """The name under which a function's calls are stored: ``module.qualname``, or what a decorator was told.

    Raises:
        InvalidInputError: the name is empty, or the value is neither a name nor a function.
    """
    if isinstance(function, str):
        if not function.strip():
            raise InvalidInputError("a function name must not be empty; give the function itself or its stored name")
        return function
    while isinstance(function, functools.partial):
        function = function.func
    stored = getattr(function, "__exp_function__", None)
    if isinstance(stored, str):
        return stored
    if not callable(function):
        raise InvalidInputError(f"expected a function or its name, got {function!r}")
    if not hasattr(function, "__qualname__"):
        return qualified_name(type(function))
    return qualified_name(function)


def bind(
    signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any], exclude: Collection[str] = ()
) -> dict[str, Any]:
    """Named arguments with defaults filled in; ``**kwargs`` are merged in under their own names.

    Raises:
        TypeError: the call does not fit the signature, as calling the function itself would say.
    """
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    arguments = bound.arguments
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            rest = arguments.pop(parameter.name)
            # A name in it may equal a positional-only parameter's, or its own: then the mapping stays whole.
            clash = parameter.name in rest or rest.keys() & arguments.keys()
            arguments.update({parameter.name: rest} if clash else rest)
            break
    return {name: value for name, value in arguments.items() if name not in exclude}


class Binder:
    """`bind` for one signature. Plain calls of plain parameters take a fifth of the time that `inspect` takes.

    Whatever is not plain (var-args, positional-only, a call that does not fit) goes the long way, which also knows how
    to say what is wrong.
    """

    def __init__(self, signature: inspect.Signature, exclude: Collection[str] = ()) -> None:
        self._signature = signature
        self._exclude = frozenset(exclude)
        parameters = list(signature.parameters.values())
        plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self._plain = all(parameter.kind in plain for parameter in parameters)
        self._positional = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        self._names = [parameter.name for parameter in parameters]
        self._defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The named arguments, without those excluded.

        Raises:
            TypeError: the call does not fit the signature.
        """
        if self._plain and len(args) <= len(self._positional):
            given = dict(zip(self._positional, args, strict=False))
            if given.keys().isdisjoint(kwargs):
                bound = {**self._defaults, **given, **kwargs}
                if len(bound) == len(self._names):
                    try:
                        return {name: bound[name] for name in self._names if name not in self._exclude}
                    except KeyError:  # an unknown name in place of a missing one
                        pass
        return bind(self._signature, args, kwargs, self._exclude)


def request_text(arguments: Mapping[str, Any], parameter: str | None = None) -> tuple[str | None, str]:
    """The text for similarity, and the parameter that held it (None where it is the arguments as JSON).

    Of a message list the text is the last user turn.
    """
    candidates = REQUEST_PARAMETERS if parameter is None else (parameter,)
    for name in candidates:
        if name in arguments and (text := text_of(arguments[name])) is not None:
            return name, text
    if parameter is None:
        strings = [name for name, value in arguments.items() if isinstance(value, str)]
        if len(strings) == 1:
            return strings[0], str(arguments[strings[0]])
    return None, json_text({name: value for name, value in arguments.items() if name != CLOSURE})


def json_text(value: Any) -> str:
    """``json.dumps(value, ensure_ascii=False)``, with a readable form of what JSON does not know."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return json.dumps(to_plain(value), ensure_ascii=False)
    except EncodingError:
        return json.dumps(_readable(value), ensure_ascii=False)


def _readable(value: Any) -> Any:
    """One level of names with what follows as ``repr``: only a display, keys never depend on it."""
    if isinstance(value, dict):
        return {
            str(name): item if isinstance(item, str | int | float) else repr(item)[:200] for name, item in value.items()
        }
    return repr(value)[:200]


def text_of(value: Any) -> str | None:
    """The request text in one argument: a string, or the last user turn of a message list; else None."""
    if isinstance(value, str):
        return value
    turn = _last_user_turn(value)
    if turn is None:
        return None
    content = value[turn]["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if _is_text_part(part))


def without_text(value: Any) -> Any:
    """The argument with its request text left out: what remains of it belongs to the reuse scope."""
    return _with_turn(value, _LEFT_OUT, _LEFT_OUT)


def with_text(value: Any, text: str) -> Any:
    """The argument with another request text: a string, or the messages with another last user turn."""
    return _with_turn(value, text, "")


def _with_turn(value: Any, text: Any, further: Any) -> Any:
    """A copy with this text in place of the request text; where that has several parts, the others get `further`."""
    turn = _last_user_turn(value)
    if turn is None:
        return text
    message = dict(value[turn])
    content = message["content"]
    if isinstance(content, str):
        message["content"] = text
    else:
        texts = itertools.chain([text], itertools.repeat(further))
        message["content"] = [{**part, "text": next(texts)} if _is_text_part(part) else part for part in content]
    return [*value[:turn], message, *value[turn + 1 :]]


def reuse_scope(
    function: str,
    version: str,
    arguments: Mapping[str, Any],
    parameter: str | None,
    secret: bytes | None = None,
) -> str:
    """Digest of everything in the call but the text of `parameter`; of everything, where no parameter held the text.

    So a call without a request parameter, whose text is all its arguments as JSON, is only ever answered exactly.
    """
    if parameter is not None:
        arguments = {**arguments, parameter: without_text(arguments[parameter])}
    return make_scope(function, version, arguments, secret)


def _last_user_turn(value: Any) -> int | None:
    """Position of the last message of a user in a list of ``{"role":, "content":}``; None if it is no such list."""
    if not isinstance(value, list | tuple) or not value:
        return None
    if not all(isinstance(message, Mapping) and {"role", "content"} <= message.keys() for message in value):
        return None
    for position in range(len(value) - 1, -1, -1):
        content = value[position]["content"]
        if value[position]["role"] in ("user", "human") and (
            isinstance(content, str) or (isinstance(content, list) and any(map(_is_text_part, content)))
        ):
            return position
    return None


def _is_text_part(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("text"), str)


def closed_over(function: Callable[..., Any]) -> dict[str, Any]:
    """Plain immutable values in a nested function's closure: they make its calls differ, as arguments do.

    Everything else there (other functions, lists that collect, clients) is left out: it is not part of what was asked.
    """
    found = closure_values(function)
    return {CLOSURE: found} if found else {}
