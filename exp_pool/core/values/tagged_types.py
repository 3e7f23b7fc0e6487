"""Serializers of the types that JSON does not know, each with its tag: one table for writing and reading. Pure.

What a serializer writes may hold tagged values itself. Sets, and dicts whose names are no plain text, are written by
`encoding`, which knows the order of what they hold.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import fractions
import pathlib
import re
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

from exp_pool.core.values import arrays, sdk_types, tensors
from exp_pool.errors import EncodingError

_FRACTION = re.compile("-?[0-9]+(/[0-9]+)?")


def to_base64(value: bytes | bytearray) -> str:
    """Bytes as text."""
    return base64.b64encode(value).decode("ascii")


def from_base64(text: str) -> bytes:
    """The bytes that `to_base64` wrote."""
    return base64.b64decode(text, validate=True)


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


def _read_fraction(content: Any) -> fractions.Fraction:
    if not _FRACTION.fullmatch(content):  # of "1e999999999" Python would write out every digit
        raise ValueError("no fraction")
    return fractions.Fraction(content)


# By exact type: the tag, what writes a value, what reads it.
_TYPES: dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    tuple: ("tuple", list, tuple),
    bytes: ("bytes", to_base64, from_base64),
    bytearray: ("bytearray", to_base64, lambda c: bytearray(from_base64(c))),
    complex: ("complex", lambda v: [v.real, v.imag], lambda c: complex(*c)),
    decimal.Decimal: ("decimal", str, decimal.Decimal),
    fractions.Fraction: ("fraction", str, _read_fraction),
    uuid.UUID: ("uuid", str, uuid.UUID),
    dt.date: ("date", dt.date.isoformat, dt.date.fromisoformat),
    dt.datetime: ("datetime", _write_moment, _moment_reader(dt.datetime)),
    dt.time: ("time", _write_moment, _moment_reader(dt.time)),
    dt.timedelta: ("timedelta", lambda v: [v.days, v.seconds, v.microseconds], lambda c: dt.timedelta(*c)),
    dt.timezone: ("zone", _zone, _read_zone),
    zoneinfo.ZoneInfo: ("zone", _zone, _read_zone),
    range: ("range", lambda v: [v.start, v.stop, v.step], lambda c: range(*c)),
    slice: ("slice", lambda v: [v.start, v.stop, v.step], lambda c: slice(*c)),
    pathlib.PosixPath: ("path", str, pathlib.Path),
    pathlib.WindowsPath: ("path", str, pathlib.Path),
    pathlib.PurePosixPath: ("posixpath", str, pathlib.PurePosixPath),
    pathlib.PureWindowsPath: ("windowspath", str, pathlib.PureWindowsPath),
}

WRITERS = {cls: (tag, write) for cls, (tag, write, _) in _TYPES.items()}
READERS: dict[str, Callable[[Any], Any]] = {
    **{tag: read for tag, _, read in _TYPES.values()},
    "text": lambda c: from_base64(c).decode("utf-8", "surrogatepass"),
    "int": lambda c: int(c, 16),
    "float": float,
    "dict": dict,
    "set": set,
    "frozenset": frozenset,
    "array": arrays.read_array,
    "scalar": arrays.read_scalar,
    "sdk": sdk_types.read,
    "tensor": tensors.read,
}

# By the package that the type comes from, so that the package is not imported before there is such a value.
WRITERS_BY_PACKAGE: dict[str, Callable[[Any], tuple[str, Any]]] = {
    "numpy": arrays.write,
    "torch": tensors.write,
    "openai": sdk_types.write,
    "anthropic": sdk_types.write,
}
