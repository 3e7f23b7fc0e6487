"""Python values as JSON and back, typed: what comes out is what went in, or nothing is stored.

Plain JSON values stand for themselves. Everything else is a *tag*: an object with exactly one member whose name starts
with ``$exp:``. A user's dict that has such a member is itself written as a tag (``$exp:dict``), so user data can never
pass for one. Types are matched exactly: a subclass would come back as its base, so it is refused.
Reading builds values of the types listed here and of no others; nothing is ever imported because stored text says so.
"""

from __future__ import annotations

import base64
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

from exp_pool.errors import DecodingError, EncodingError

MAX_DEPTH = 200  # as in keys: a bound of our own, so that it does not depend on the caller's stack
_TAG = "$exp:"
_BIG = 1 << 4096  # json reads and writes integers in decimal, which Python limits to 4300 digits
_SURROGATE = re.compile("[\ud800-\udfff]")
_JOINABLE = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")  # written as a tag; bare, it is somebody else's


# Made once: json.dumps and json.loads make a coder for every call that names an option.
_decode = json.JSONDecoder(parse_constant=_refuse).decode
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def dumps(value: Any) -> str:
    """The value as JSON text.

    Raises:
        EncodingError: the value has a type that could not be restored, or is nested deeper than `MAX_DEPTH`.
    """
    return json_dumps(to_plain(value))


def loads(text: str) -> Any:
    """The value of what `dumps` wrote.

    Raises:
        DecodingError: the text is not JSON, or holds a tag that this version does not know.
    """
    try:
        return from_plain(_decode(text))
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
        return value if _is_plain_text(value) else _tag("text", _to_base64(value.encode("utf-8", "surrogatepass")))
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
        name_and_write = _WRITERS.get(kind)
        if name_and_write is not None:
            name, write = name_and_write
            return _tag(name, to_plain(write(value), depth + 1))
    except RecursionError as err:
        raise EncodingError("nested too deeply for the stack that is left") from err
    raise EncodingError(f"a value of type {kind.__module__}.{kind.__qualname__} could not be restored from JSON")


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


def _to_base64(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode("ascii")


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
    except (ArithmeticError, LookupError, TypeError, ValueError) as err:
        raise DecodingError(f"the content of {_TAG + name!r} does not fit it: {err}") from err


def _sorted_items(value: set[Any] | frozenset[Any]) -> list[Any]:
    """Set items in a fixed order, so that equal sets are equal text."""
    return sorted(value, key=dumps)


def _zone(value: dt.tzinfo | None) -> Any:
    if value is None or type(value) is dt.timezone:
        return value and [value.utcoffset(None) // dt.timedelta(microseconds=1), value.tzname(None)]
    if type(value) is zoneinfo.ZoneInfo and value.key:
        return value.key
    raise EncodingError(f"a time zone of type {type(value).__qualname__} could not be restored")


def _read_zone(content: Any) -> dt.tzinfo | None:
    if content is None:
        return None
    if isinstance(content, str):
        return zoneinfo.ZoneInfo(content)
    zone = dt.timezone(dt.timedelta(microseconds=content[0]))
    return zone if zone.tzname(None) == content[1] else dt.timezone(zone.utcoffset(None), content[1])


def _write_moment(value: dt.datetime | dt.time) -> list[Any]:
    return [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, _zone(value.tzinfo)]


def _moment_reader(kind: type[dt.datetime | dt.time]) -> Callable[[Any], Any]:
    return lambda c: kind.fromisoformat(c[0]).replace(fold=c[1], tzinfo=_read_zone(c[2]))


_WRITERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    tuple: ("tuple", list),
    set: ("set", _sorted_items),
    frozenset: ("frozenset", _sorted_items),
    bytes: ("bytes", _to_base64),
    bytearray: ("bytearray", _to_base64),
    complex: ("complex", lambda v: [v.real, v.imag]),
    decimal.Decimal: ("decimal", str),
    fractions.Fraction: ("fraction", str),
    uuid.UUID: ("uuid", str),
    dt.date: ("date", dt.date.isoformat),
    dt.datetime: ("datetime", _write_moment),
    dt.time: ("time", _write_moment),
    dt.timedelta: ("timedelta", lambda v: [v.days, v.seconds, v.microseconds]),
    dt.timezone: ("zone", _zone),
    zoneinfo.ZoneInfo: ("zone", _zone),
    range: ("range", lambda v: [v.start, v.stop, v.step]),
    slice: ("slice", lambda v: [v.start, v.stop, v.step]),
    pathlib.PosixPath: ("path", str),
    pathlib.WindowsPath: ("path", str),
    pathlib.PurePosixPath: ("posixpath", str),
    pathlib.PureWindowsPath: ("windowspath", str),
}

_READERS: dict[str, Callable[[Any], Any]] = {
    "text": lambda c: base64.b64decode(c, validate=True).decode("utf-8", "surrogatepass"),
    "int": lambda c: int(c, 16),
    "float": float,
    "dict": dict,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": lambda c: base64.b64decode(c, validate=True),
    "bytearray": lambda c: bytearray(base64.b64decode(c, validate=True)),
    "complex": lambda c: complex(*c),
    "decimal": decimal.Decimal,
    "fraction": fractions.Fraction,
    "uuid": uuid.UUID,
    "date": dt.date.fromisoformat,
    "datetime": _moment_reader(dt.datetime),
    "time": _moment_reader(dt.time),
    "timedelta": lambda c: dt.timedelta(*c),
    "zone": _read_zone,
    "range": lambda c: range(*c),
    "slice": lambda c: slice(*c),
    "path": pathlib.Path,
    "posixpath": pathlib.PurePosixPath,
    "windowspath": pathlib.PureWindowsPath,
}
