"""Typed JSON encoding of Python values: what comes out is what went in, or nothing is stored.

Plain JSON values stand for themselves. Everything else is a *tag*: an object with exactly one member whose name starts
with ``$exp:``. A user's dict that has such a member is itself written as a tag (``$exp:dict``), so user data can never
pass for one. Types are matched exactly: a subclass would come back as its base, so it is refused.
Reading builds values of the types in `tagged_types`, of those that this process registered (`registered_types`), of
numpy (`arrays`) and of a fixed list of SDK classes (`sdk_types`), and of no others; no other module is ever imported
because stored text says so.
"""

from __future__ import annotations

import datetime as dt
import decimal
import fractions
import json
import math
import pathlib
import re
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

from exp_pool.core.values import registered_types
from exp_pool.core.values.tagged_types import READERS, WRITERS, WRITERS_BY_PACKAGE, to_base64
from exp_pool.errors import DecodingError, EncodingError

MAX_DEPTH = 200  # as in keys: a bound of our own, so that it does not depend on the caller's stack
_TAG = "$exp:"
_BIG = 1 << 4096  # json reads and writes integers in decimal, which Python limits to 4300 digits
_SURROGATE = re.compile("[\ud800-\udfff]")
_JOINABLE = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")  # written as a tag; bare, it is somebody else's


# Made once: json.dumps and json.loads make a coder for every call that names an option.
strict_decoder = json.JSONDecoder(parse_constant=_refuse)
"""No NaN, no infinity."""
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def dumps(value: Any) -> str:
    """The value as JSON text.

    Raises:
        EncodingError: the value has a type that could not be restored, or is nested deeper than `MAX_DEPTH`.
    """
    try:
        return json_dumps(to_plain(value))
    except _RefusedError as err:
        raise EncodingError(str(err)) from err.__cause__
    except RecursionError as err:
        raise EncodingError("nested too deeply for the stack that is left") from err


def loads(text: str) -> Any:
    """The value of what `dumps` wrote.

    Raises:
        DecodingError: the text is not JSON, holds a tag that this version does not know, or a type that is not
            registered in this process.
    """
    try:
        return from_plain(strict_decoder.decode(text))
    except RecursionError as err:
        raise DecodingError("stored text is nested too deeply") from err
    except ValueError as err:
        raise DecodingError(f"stored text cannot be read: {err}") from err


def json_dumps(plain: Any) -> str:
    """Compact JSON text that every engine can keep: lone surrogates are written as escapes, which JSON allows."""
    text = _compact(plain)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text) if not text.isascii() else text


def to_plain(value: Any, depth: int = 0) -> Any:
    """The value in JSON's own types, with tags for the rest."""
    kind = type(value)
    if kind is str:
        return value if _is_plain_text(value) else _tag("text", to_base64(value.encode("utf-8", "surrogatepass")))
    if kind is bool or value is None:
        return value
    if kind is int:
        return value if -_BIG < value < _BIG else _tag("int", f"{value:x}")
    if kind is float:
        return value if math.isfinite(value) else _tag("float", repr(value))
    if depth > MAX_DEPTH:
        raise EncodingError(f"a cycle, or nested deeper than {MAX_DEPTH} levels")
    try:
        if kind is list:
            return [to_plain(item, depth + 1) for item in value]
        if kind is dict:
            return _dict_to_plain(value, depth)
        name, content = _written(kind, value)
        return _tag(name, to_plain(content, depth + 1))
    except RecursionError as err:
        raise EncodingError("nested too deeply for the stack that is left") from err
    except _RefusedError as err:
        err.step_out(value)
        raise


def _written(kind: type, value: Any) -> tuple[str, Any]:
    """The tag that stands for a value, and what is in it."""
    try:
        name_and_write = _WRITERS.get(kind)
        if name_and_write is not None:
            return name_and_write[0], name_and_write[1](value)
        registered = registered_types.REGISTERED.get(kind)
        if registered is not None:
            return "type", [registered.name, registered.write(value)]
        write = WRITERS_BY_PACKAGE.get(str(kind.__module__).partition(".")[0])
        if write is not None:
            return write(value)
    except _RefusedError:
        raise
    except (EncodingError, ValueError) as err:  # ValueError: a Fraction of more digits than Python writes
        raise _RefusedError(str(err), value) from err
    raise _RefusedError(
        f"a value of type {kind.__module__}.{kind.__qualname__} could not be restored from JSON; "
        "exp_pool.register_type teaches a type, and so does naming it in the return annotation of its function",
        value,
    )


class _RefusedError(EncodingError):
    """A value that cannot be written; on its way out it gathers where that stands."""

    def __init__(self, what: str, at: Any) -> None:
        super().__init__(what)
        self._at = at
        self._path = ""

    def __str__(self) -> str:
        return f"{self.args[0]} (at {self._path})" if self._path else str(self.args[0])

    def step_out(self, value: Any) -> None:
        """The error leaves this value, which may hold what was refused."""
        if isinstance(value, dict):
            if any(name is self._at for name in value):
                self._path = "a key" + self._path
            else:
                self._path = next((f"[{name!r:.40}]" for name, v in value.items() if v is self._at), "") + self._path
        elif isinstance(value, list | tuple):
            self._path = next((f"[{i}]" for i, v in enumerate(value) if v is self._at), "") + self._path
        self._at = value


def from_plain(plain: Any) -> Any:
    """The value that `to_plain` was given.

    Raises:
        DecodingError: a tag that this version does not know, or one whose content does not fit it.
    """
    if isinstance(plain, list):
        return [from_plain(item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if len(plain) == 1:
        (name,) = plain
        if name.startswith(_TAG):
            return _read_tag(name[len(_TAG) :], plain[name])
    return {name: from_plain(item) for name, item in plain.items()}


def _dict_to_plain(value: dict[Any, Any], depth: int) -> Any:
    if all(type(name) is str and not name.startswith(_TAG) and _is_plain_text(name) for name in value):
        return {name: to_plain(item, depth + 1) for name, item in value.items()}
    return _tag("dict", [[to_plain(name, depth + 1), to_plain(item, depth + 1)] for name, item in value.items()])


def _is_plain_text(text: str) -> bool:
    """Whether JSON gives the text back: two lone halves of a surrogate pair side by side it would join to one."""
    return text.isascii() or _JOINABLE.search(text) is None


def _tag(name: str, content: Any) -> dict[str, Any]:
    return {_TAG + name: content}


def _read_tag(name: str, content: Any) -> Any:
    read = _READERS.get(name)
    if read is None:
        raise DecodingError(f"unknown tag {_TAG + name!r}: written by a newer version, or not by this package")
    try:
        return read(from_plain(content))
    except DecodingError:
        raise
    except (ArithmeticError, AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError) as err:
        # OSError: a time zone named "Europe", which is a folder. SyntaxError: numpy on a dtype that is none.
        raise DecodingError(f"the content of {_TAG + name!r} does not fit it: {err}") from err


def _sorted_items(value: set[Any] | frozenset[Any]) -> list[Any]:
    """Set items in a fixed order, so that equal sets are equal text."""
    return sorted(value, key=lambda item: json_dumps(to_plain(item)))


_WRITERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    **WRITERS,
    set: ("set", _sorted_items),
    frozenset: ("frozenset", _sorted_items),
}
_READERS = {**READERS, "type": registered_types.read_registered}

_IMMUTABLE = frozenset(
    (
        *(type(None), bool, int, float, complex, str, bytes, range),
        *(decimal.Decimal, fractions.Fraction, uuid.UUID, dt.date, dt.timedelta, dt.timezone, zoneinfo.ZoneInfo),
        *(pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath),
    )
)
_IMMUTABLE_DEPTH = 20  # deeper ones are rare, and a copy of them is right as well


def immutable(value: Any, depth: int = 0) -> bool:
    """Whether nobody can change the value, so that it needs no copy: immutable built-in types all through."""
    kind = type(value)
    if kind in _IMMUTABLE:
        return True
    if kind is tuple or kind is frozenset:
        return depth < _IMMUTABLE_DEPTH and all(immutable(item, depth + 1) for item in value)
    if kind is dt.datetime or kind is dt.time:
        return value.tzinfo is None or type(value.tzinfo) in _IMMUTABLE
    return False
