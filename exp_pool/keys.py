"""What makes two calls the same call: an injective, typed encoding of values, and the digests made of it.

Every value becomes a type tag plus a length-prefixed payload, so no two different values share an encoding and no
separator can be forged by what a user passes. ``1``, ``True``, ``"1"`` and ``1.0`` differ; a list is not a tuple; dicts
and sets do not depend on order. ``-0.0`` differs from ``0.0`` (they print and divide differently); every NaN is one
value. The encoding never depends on the process, the hash seed, the platform or the Python version; changing it in any
way means a new ``_KEY_FORMAT``, because keys are stored.

What has no stable identity (a plain object, a generator, an open file, a lambda, a cycle) raises `UnkeyableError`.
A class of one's own settles it by ``__exp_key__()``, which returns anything that can be keyed.
"""

from __future__ import annotations

import array
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import hashlib
import hmac
import ipaddress
import pathlib
import re
import struct
import sys
import types
import uuid
import zoneinfo
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from exp_pool.errors import UnkeyableError

_KEY_FORMAT = b"exp_pool/key/1"
_SCOPE_FORMAT = b"exp_pool/scope/1"
# Deeper values are refused. A bound of our own, not the recursion limit, or the same call would have a key or none
# depending on how deep the caller's stack is.
MAX_DEPTH = 200

_NAN = struct.pack(">d", float("nan"))


def make_key(function: str, version: str, arguments: Mapping[str, Any], secret: bytes | None = None) -> str:
    """The key of a call: 64 hexadecimal digits of SHA-256, or of HMAC-SHA-256 where a secret is configured.

    Raises:
        UnkeyableError: an argument has no stable identity; ``path`` names it.
    """
    return _digest(_message(_KEY_FORMAT, function, version, arguments), secret)


def make_scope(function: str, version: str, arguments: Mapping[str, Any], secret: bytes | None = None) -> str:
    """The reuse scope: a digest of everything in the call but the request text (which the caller has left out)."""
    return _digest(_message(_SCOPE_FORMAT, function, version, arguments), secret)


def _digest(message: bytes, secret: bytes | None) -> str:
    if secret is None:
        return hashlib.sha256(message).hexdigest()
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


def _message(purpose: bytes, function: str, version: str, arguments: Mapping[str, Any]) -> bytes:
    encoded = []
    for name, value in arguments.items():
        try:
            encoded.append(_string(name, 0) + encode(value))
        except UnkeyableError as err:
            raise UnkeyableError(f"argument {name!r}: {err}", path=name) from err
    encoded.sort()
    return b"".join((_framed(b"k", purpose), _string(function, 0), _string(version, 0), _counted(b"m", encoded)))


def encode(value: Any, depth: int = 0) -> bytes:
    """The injective encoding of one value.

    Raises:
        UnkeyableError: the value, or one inside it, has no stable identity or is nested deeper than `MAX_DEPTH`.
    """
    if depth > MAX_DEPTH:
        raise UnkeyableError(f"a cycle, or nested deeper than {MAX_DEPTH} levels")
    encoder = _BY_TYPE.get(type(value))
    try:
        if encoder is not None:
            return encoder(value, depth)
        return _other(value, depth)
    except RecursionError as err:  # the caller's own stack was nearly used up
        raise UnkeyableError("nested too deeply for the stack that is left") from err


def _framed(tag: bytes, payload: bytes) -> bytes:
    return b"%b%x:%b" % (tag, len(payload), payload)


def _counted(tag: bytes, items: list[bytes]) -> bytes:
    return b"%b%x:%b" % (tag, len(items), b"".join(items))


def _string(value: str, _depth: int) -> bytes:
    return _framed(b"s", value.encode("utf-8", "surrogatepass"))


def _float(value: float, _depth: int) -> bytes:
    return b"d" + (_NAN if value != value else struct.pack(">d", value))  # noqa: PLR0124  (NaN is what differs from itself)


def _sequence(tag: bytes) -> Callable[[Any, int], bytes]:
    return lambda value, depth: _counted(tag, [encode(item, depth + 1) for item in value])


def _unordered(tag: bytes) -> Callable[[Any, int], bytes]:
    return lambda value, depth: _counted(tag, sorted(encode(item, depth + 1) for item in value))


def _dict(value: Mapping[Any, Any], depth: int) -> bytes:
    return _counted(b"m", sorted(encode(k, depth + 1) + encode(v, depth + 1) for k, v in value.items()))


def _named(name: str, *parts: bytes) -> bytes:
    """A value of a named type: name and parts, each framed by its own encoding."""
    return _counted(b"o", [_string(name, 0), *parts])


def _text_of(name: str, text: Callable[[Any], str] = str) -> Callable[[Any, int], bytes]:
    return lambda value, depth: _named(name, _string(text(value), depth))


def _parts_of(name: str, parts: Callable[[Any], Iterable[Any]]) -> Callable[[Any, int], bytes]:
    return lambda value, depth: _named(name, *(encode(part, depth + 1) for part in parts(value)))


def _zone(value: dt.tzinfo, depth: int) -> bytes:
    if isinstance(value, zoneinfo.ZoneInfo) and value.key:
        return _named("zoneinfo", _string(value.key, depth))
    if isinstance(value, dt.timezone):
        return _named("timezone", encode(value.utcoffset(None), depth + 1))
    raise UnkeyableError(f"a time zone of type {type(value).__qualname__} has no name")


def _moment(name: str) -> Callable[[Any, int], bytes]:
    def encoder(value: dt.datetime | dt.time, depth: int) -> bytes:
        zone = b"n" if value.tzinfo is None else encode(value.tzinfo, depth + 1)
        return _named(name, _string(value.replace(tzinfo=None, fold=0).isoformat(), depth), b"%d" % value.fold, zone)

    return encoder


_BY_TYPE: dict[type, Callable[[Any, int], bytes]] = {
    type(None): lambda _v, _d: b"n",
    bool: lambda v, _d: b"t" if v else b"f",
    int: lambda v, _d: _framed(b"i", b"%x" % v),  # hexadecimal: no digit limit, linear time
    float: _float,
    str: _string,
    bytes: lambda v, _d: _framed(b"b", v),
    bytearray: lambda v, _d: _framed(b"B", bytes(v)),
    list: _sequence(b"l"),
    tuple: _sequence(b"u"),
    set: _unordered(b"e"),
    frozenset: _unordered(b"z"),
    dict: _dict,
    complex: lambda v, d: _named("complex", _float(v.real, d), _float(v.imag, d)),
    decimal.Decimal: _text_of("decimal"),
    fractions.Fraction: _text_of("fraction"),
    uuid.UUID: _text_of("uuid"),
    dt.date: _text_of("date", dt.date.isoformat),
    dt.datetime: _moment("datetime"),
    dt.time: _moment("time"),
    dt.timedelta: _parts_of("timedelta", lambda v: (v.days, v.seconds, v.microseconds)),
    range: _parts_of("range", lambda v: (v.start, v.stop, v.step)),
    slice: _parts_of("slice", lambda v: (v.start, v.stop, v.step)),
    deque: _parts_of("deque", lambda v: (list(v), v.maxlen)),
    OrderedDict: _parts_of("ordered", lambda v: (list(v.items()),)),
    defaultdict: _parts_of("defaultdict", lambda v: (v.default_factory, dict(v))),
    types.MappingProxyType: _parts_of("mappingproxy", lambda v: (dict(v),)),
    array.array: _parts_of("array", lambda v: (v.typecode, list(v))),
    re.Pattern: _parts_of("pattern", lambda v: (v.pattern, v.flags)),
    ipaddress.IPv4Address: _text_of("ip4"),
    ipaddress.IPv6Address: _text_of("ip6"),
    ipaddress.IPv4Network: _text_of("net4"),
    ipaddress.IPv6Network: _text_of("net6"),
    functools.partial: _parts_of("partial", lambda v: (v.func, v.args, v.keywords)),
    types.EllipsisType: lambda _v, _d: b"E",
}


def qualified_name(obj: Any) -> str:
    """``module.qualname`` of a function or class; for ``__main__`` the script's file name instead of the module."""
    return f"{_module_name(obj.__module__)}.{obj.__qualname__}"


def _module_name(name: str) -> str:
    if name != "__main__":
        return name
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.module: its real name, the one under which others import it
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return pathlib.PurePath(file).stem if file else name


def _other(value: Any, depth: int) -> bytes:
    """Everything that is recognised by more than its exact type."""
    cls = type(value)
    by_hand = getattr(cls, "__exp_key__", None)
    if by_hand is not None and not isinstance(value, type):
        return _named("key:" + qualified_name(cls), encode(value.__exp_key__(), depth + 1), *_local(cls, depth))
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return _by_name(value, depth)
    if isinstance(value, enum.Enum):
        member = (_string(str(value.name), depth), encode(value.value, depth + 1))
        return _named("enum:" + qualified_name(cls), *member, *_local(cls, depth))
    if isinstance(value, pathlib.PurePath):  # by what it says, so that the key is the same on every platform
        return _named("path", _string(value.as_posix(), depth))
    if isinstance(value, dt.tzinfo):
        return _zone(value, depth)
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return _named("data:" + qualified_name(cls), _dict(_state(value) | fields, depth), *_local(cls, depth))
    if hasattr(cls, "__pydantic_fields__"):
        fields = {name: getattr(value, name) for name in cls.__pydantic_fields__}
        beyond = _state(value) | (value.__pydantic_extra__ or {}) | (value.__pydantic_private__ or {})
        return _named("data:" + qualified_name(cls), _dict(beyond | fields, depth), *_local(cls, depth))
    if cls.__module__ == "numpy":
        return _numpy(value)
    for base in (str, int, float, bytes, tuple, list, dict, set, frozenset):  # subclasses, namedtuples among them
        if isinstance(value, base) and not _state(value):
            return _named("sub:" + qualified_name(cls), _BY_TYPE[base](value, depth), *_local(cls, depth))
    raise UnkeyableError(f"{cls.__module__}.{cls.__qualname__} has no stable identity")


def _state(value: Any) -> dict[str, Any]:
    """What an object holds in attributes; not what a cached_property has put there, which follows from the rest."""
    cls = type(value)
    held = dict(getattr(value, "__dict__", None) or {})
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                held[name] = getattr(value, name)
    return {n: item for n, item in held.items() if not isinstance(getattr(cls, n, None), functools.cached_property)}


def _local(cls: type, depth: int) -> tuple[bytes, ...]:
    """For a class that is made anew by each call of a function, what tells it from its twins of other calls.

    These are its plain immutable attributes and those in the closures of its methods, as for functions.
    """
    if "<locals>" not in cls.__qualname__:
        return ()
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "<locals>" not in base.__qualname__:
            continue
        if issubclass(base, enum.Enum):
            found[base.__qualname__] = {name: member.value for name, member in base.__members__.items()}
            continue
        own: dict[str, Any] = {}
        for name, value in vars(base).items():
            function = getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType):
                own |= {f"{name}: {free}": item for free, item in closure_values(function).items()}
            elif not (name.startswith("__") and name.endswith("__")) and is_plain(value):
                own[name] = value
        found[base.__qualname__] = own
    return (_dict(found, depth + 1),)


def closure_values(function: Callable[..., Any]) -> dict[str, Any]:
    """Plain immutable values in a nested function's closure, by name; everything else there is left out."""
    cells = getattr(function, "__closure__", None)
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True) if cells else ():
        try:
            value = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if value is not None and is_plain(value):
            found[name] = value
    return found


def is_plain(value: Any) -> bool:
    """Whether the value is of Python's own immutable types all through."""
    if type(value) in (tuple, frozenset):
        return all(map(is_plain, value))
    return value is None or type(value) in _IMMUTABLE or isinstance(value, enum.Enum | pathlib.PurePath)


_IMMUTABLE = frozenset(
    {str, int, float, bool, bytes, complex, range, uuid.UUID, decimal.Decimal, fractions.Fraction}
    | {dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone}
)


def _by_name(value: Any, depth: int) -> bytes:
    owner = getattr(value, "__self__", None)
    if isinstance(value, types.BuiltinFunctionType) and owner is not None and not isinstance(owner, types.ModuleType):
        raise UnkeyableError(f"{value.__qualname__} is bound to an object")
    name = qualified_name(value)
    if isinstance(value, types.FunctionType) and ("<locals>" in name or "<lambda>" in name):
        raise UnkeyableError(f"the function {name} has no name that tells it from others")
    return _named("name", _string(name, 0), *(_local(value, depth) if isinstance(value, type) else ()))


def _numpy(value: Any) -> bytes:
    """By dtype, shape and bytes; so NaN and -0.0 inside count by their bits."""
    dtype, bases = getattr(value, "dtype", None), {base.__name__ for base in type(value).__mro__[1:]}
    if dtype is None or "ndarray" in bases:  # ufuncs and the like; matrices, records, whose operators differ
        raise UnkeyableError(f"{type(value).__module__}.{type(value).__qualname__} has no stable identity")
    if dtype.hasobject:
        raise UnkeyableError("a numpy array of objects has no stable identity")
    if dtype.char in "gG":  # longdouble: bytes that pad it are arbitrary, and each platform has its own
        raise UnkeyableError("a numpy value of extended precision has no stable identity")
    kind = "array" if type(value).__name__ == "ndarray" else "scalar"
    # The short form of a structured dtype is its size alone.
    described = dtype.str if dtype.names is None else repr((dtype.descr, dtype.itemsize))
    return _named("numpy:" + kind, _string(described, 0), encode(value.shape), _framed(b"b", value.tobytes()))
