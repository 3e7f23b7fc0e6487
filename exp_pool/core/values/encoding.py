"""Python values as JSON and back, typed: what comes out is what went in, or nothing is stored.

Plain JSON values stand for themselves. Everything else is a *tag*: an object with exactly one member whose name starts
with ``$exp:``. A user's dict that has such a member is itself written as a tag (``$exp:dict``), so user data can never
pass for one. Types are matched exactly: a subclass would come back as its base, so it is refused.
Reading builds values of the types listed here, of those that this process registered (`register_type`), of numpy
(`arrays`) and of a fixed list of SDK classes (`sdk_types`), and of no others; no other module is ever imported because
stored text says so.
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
from dataclasses import dataclass
from typing import Any, TypeVar

from exp_pool.core.values import arrays, sdk_types, tensors
from exp_pool.errors import ConfigurationError, DecodingError, EncodingError

T = TypeVar("T")

MAX_DEPTH = 200  # as in keys: a bound of our own, so that it does not depend on the caller's stack
_TAG = "$exp:"
_BIG = 1 << 4096  # json reads and writes integers in decimal, which Python limits to 4300 digits
_SURROGATE = re.compile("[\ud800-\udfff]")
_FRACTION = re.compile("-?[0-9]+(/[0-9]+)?")
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
        registered = _REGISTERED.get(kind)
        if registered is not None:
            return "type", [registered.name, registered.write(value)]
        write = _WRITERS_BY_PACKAGE.get(str(kind.__module__).partition(".")[0])
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
    except (ArithmeticError, AttributeError, LookupError, OSError, SyntaxError, TypeError, ValueError) as err:
        # OSError: a time zone named "Europe", which is a folder. SyntaxError: numpy on a dtype that is none.
        raise DecodingError(f"the content of {_TAG + name!r} does not fit it: {err}") from err


def _sorted_items(value: set[Any] | frozenset[Any]) -> list[Any]:
    """Set items in a fixed order, so that equal sets are equal text."""
    return sorted(value, key=lambda item: json_dumps(to_plain(item)))


def _zone(value: dt.tzinfo | None) -> Any:
    if value is None or type(value) is dt.timezone:
        return value and [value.utcoffset(None) // dt.timedelta(microseconds=1), value.tzname(None)]
    if type(value) is zoneinfo.ZoneInfo and value.key:
        return value.key
    raise _RefusedError(f"a time zone of type {type(value).__qualname__} could not be restored", value)


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


def _read_registered(content: Any) -> Any:
    name, plain = content
    registered = next((known for known in tuple(_REGISTERED.values()) if known.name == name), None)
    if registered is None:
        raise DecodingError(
            f"a value of the type registered as {name!r}, which this process has not registered: call "
            "exp_pool.register_type for it before its values are read"
        )
    return registered.read(plain)


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
    "fraction": _read_fraction,
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
    "array": arrays.read_array,
    "scalar": arrays.read_scalar,
    "sdk": sdk_types.read,
    "tensor": tensors.read,
    "type": _read_registered,
}

# By the package that the type comes from, so that the package is not imported before there is such a value.
_WRITERS_BY_PACKAGE: dict[str, Callable[[Any], tuple[str, Any]]] = {
    "numpy": arrays.write,
    "torch": tensors.write,
    "openai": sdk_types.write,
    "anthropic": sdk_types.write,
}


# ── Types that the process registers ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Registered:
    cls: type
    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]

    def write(self, value: Any) -> Any:
        try:
            return self.encode(value)
        except Exception as err:  # the user's code: whatever it raises, the value cannot be stored
            raise EncodingError(f"the encode registered for {self.name!r} raised {type(err).__name__}: {err}") from err

    def read(self, plain: Any) -> Any:
        try:
            value = self.decode(plain)
        except Exception as err:  # the user's code: whatever it raises, the text cannot be read
            raise DecodingError(f"the decode registered for {self.name!r} raised {type(err).__name__}: {err}") from err
        if type(value) is not self.cls:
            raise DecodingError(f"the decode registered for {self.name!r} gave a {type(value).__qualname__}")
        return value


_REGISTERED: dict[type, _Registered] = {}


def register_type(
    cls: type[T], encode: Callable[[T], Any], decode: Callable[[Any], T], *, name: str | None = None
) -> None:
    """Teach the pool a type of your own, for the whole process: responses and arguments may hold its values.

    Values come back as instances of exactly this class; a subclass is refused until it is registered itself.
    Registering again replaces what was registered: for the class, or for one of the same qualified name (a notebook
    cell run again). A process that reads such values must have registered the type as well; without, they count as not
    stored.

    Args:
        cls: The class.
        encode: Gives what makes up a value: anything the pool can store, other registered types included.
        decode: Makes the value of what `encode` gave.
        name: What stored data calls the type; by default ``module.qualname``. A class that moves keeps its old name.

    Raises:
        ConfigurationError: `cls` is no class or one that the pool knows by itself, `encode` or `decode` cannot be
            called, or `name` is not text, is empty, or belongs to another class.
    """
    if not isinstance(cls, type):
        raise ConfigurationError(f"register_type({cls!r}, ...) takes a class; give the class of the values")
    if cls in _WRITERS or cls in _JSON:
        raise ConfigurationError(f"{cls.__qualname__} is known already and cannot be registered; wrap it in a class")
    for what, function in (("encode", encode), ("decode", decode)):
        if not callable(function):
            raise ConfigurationError(f"{what}={function!r} cannot be called; give a function of one value")
    own = f"{cls.__module__}.{cls.__qualname__}"
    label = own if name is None else name
    if not isinstance(label, str) or not label:
        raise ConfigurationError(f"name={name!r} must be text that is not empty, or left out")
    mine = [known for known in _REGISTERED if known is cls or f"{known.__module__}.{known.__qualname__}" == own]
    for known in _REGISTERED.values():
        if known.name == label and known.cls not in mine:
            raise ConfigurationError(
                f"name={label!r} belongs to {known.cls.__module__}.{known.cls.__qualname__}; choose another name"
            )
    for known_cls in mine:
        del _REGISTERED[known_cls]
    _REGISTERED[cls] = _Registered(cls, label, encode, decode)


def is_registered(cls: type) -> bool:
    """Whether `register_type` taught this class."""
    return cls in _REGISTERED


# ── What nobody can change ────────────────────────────────────────────────────────────────────────────────────────────

_JSON = (type(None), bool, int, float, str, list, dict)
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
