"""The canonical encoding of values: injective and typed, as bytes; keys and reuse scopes are digests of it.

Every value becomes a type tag plus a length-prefixed payload, so no two different values share an encoding and no
separator can be forged by what a user passes. ``1``, ``True``, ``"1"`` and ``1.0`` differ; a list is not a tuple; dicts
and sets do not depend on order. ``-0.0`` differs from ``0.0`` (they print and divide differently); every NaN is one
value. The encoding never depends on the process, the hash seed, the platform or the Python version; changing it in any
way means a new ``keys._KEY_FORMAT``, because keys are stored.

What has no stable identity (a plain object, a generator, an open file, a lambda, a cycle) raises `UnkeyableError`.
So does what others may change unseen, or what may hold more than can be seen: memoryviews, masked arrays and other
subclasses of numpy's array, subclasses written in C. A class of one's own settles it by ``__exp_key__()``, which
returns anything that can be keyed.

Functions and classes are known by name. A function that its name does not lead to is refused; a class that its name
does not lead to (made anew by each call of a function) is known by what it is made of (`classes.make_up`) as well.

A numpy array or scalar is its data type, byte order included, its shape and its values' bytes, so ``-0.0`` and the
payload of a NaN count; its layout in memory does not. Of a path only what it says counts.
"""

from __future__ import annotations

import array
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import ipaddress
import pathlib
import re
import struct
import sys
import types
import typing
import uuid
import zoneinfo
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from exp_pool.core.identity.classes import hides_content, make_up
from exp_pool.core.identity.names import is_known_by_name, qualified_name
from exp_pool.core.values import tensors
from exp_pool.core.values.attributes import attributes_of
from exp_pool.errors import EncodingError, UnkeyableError

# Deeper values are refused. A bound of our own, not the recursion limit, or the same call would have a key or none
# depending on how deep the caller's stack is.
MAX_DEPTH = 200

_NAN = struct.pack(">d", float("nan"))


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


def framed(tag: bytes, payload: bytes) -> bytes:
    """A payload of bytes behind its tag and length."""
    return b"%b%x:%b" % (tag, len(payload), payload)


def counted(tag: bytes, items: list[bytes]) -> bytes:
    """Encoded items behind a tag and their number."""
    return b"%b%x:%b" % (tag, len(items), b"".join(items))


def text(value: str, _depth: int = 0) -> bytes:
    """The encoding of a text."""
    return framed(b"s", value.encode("utf-8", "surrogatepass"))


def _float(value: float, _depth: int) -> bytes:
    return b"d" + (_NAN if value != value else struct.pack(">d", value))  # noqa: PLR0124  (NaN is what differs from itself)


def _sequence(tag: bytes) -> Callable[[Any, int], bytes]:
    return lambda value, depth: counted(tag, [encode(item, depth + 1) for item in value])


def _unordered(tag: bytes) -> Callable[[Any, int], bytes]:
    return lambda value, depth: counted(tag, sorted(encode(item, depth + 1) for item in value))


def _dict(value: Mapping[Any, Any], depth: int) -> bytes:
    return counted(b"m", sorted(encode(k, depth + 1) + encode(v, depth + 1) for k, v in value.items()))


def _named(name: str, *parts: bytes) -> bytes:
    """A value of a named type: name and parts, each framed by its own encoding."""
    return counted(b"o", [text(name), *parts])


def _text_of(name: str, written: Callable[[Any], str] = str) -> Callable[[Any, int], bytes]:
    return lambda value, _depth: _named(name, text(written(value)))


def _parts_of(name: str, parts: Callable[[Any], Iterable[Any]]) -> Callable[[Any, int], bytes]:
    return lambda value, depth: _named(name, *(encode(part, depth + 1) for part in parts(value)))


def _zone(value: dt.tzinfo, depth: int) -> bytes:
    if type(value) is zoneinfo.ZoneInfo and value.key:
        try:
            value.__reduce__()
        except Exception as err:
            raise UnkeyableError(f"the time zone {value.key} was read from a file of its own") from err
        return _named("zoneinfo", text(value.key))
    if isinstance(value, dt.timezone):
        offset, name = value.utcoffset(None), value.tzname(None)
        of_its_own = () if name == dt.timezone(offset).tzname(None) else (text(name),)
        return _named("timezone", encode(offset, depth + 1), *of_its_own)
    raise UnkeyableError(f"a time zone of type {type(value).__qualname__} has no name")


def _moment(name: str) -> Callable[[Any, int], bytes]:
    def encoder(value: dt.datetime | dt.time, depth: int) -> bytes:
        zone = b"n" if value.tzinfo is None else encode(value.tzinfo, depth + 1)
        return _named(name, text(value.replace(tzinfo=None, fold=0).isoformat()), b"%d" % value.fold, zone)

    return encoder


_BY_TYPE: dict[type, Callable[[Any, int], bytes]] = {
    type(None): lambda _v, _d: b"n",
    bool: lambda v, _d: b"t" if v else b"f",
    int: lambda v, _d: framed(b"i", b"%x" % v),  # hexadecimal: no digit limit, linear time
    float: _float,
    str: text,
    bytes: lambda v, _d: framed(b"b", v),
    bytearray: lambda v, _d: framed(b"B", bytes(v)),
    list: _sequence(b"l"),
    tuple: _sequence(b"u"),
    set: _unordered(b"e"),
    frozenset: _unordered(b"z"),
    dict: _dict,
    complex: lambda v, d: _named("complex", _float(v.real, d), _float(v.imag, d)),
    decimal.Decimal: _text_of("decimal", lambda v: str(v).replace("e", "E")),  # whatever the caller's context prefers
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
    types.SimpleNamespace: _parts_of("namespace", lambda v: (vars(v),)),
    functools.partial: _parts_of("partial", lambda v: (v.func, v.args, v.keywords, *([vars(v)] if vars(v) else []))),
    types.EllipsisType: lambda _v, _d: b"E",
}


def _other(value: Any, depth: int) -> bytes:
    """The encoding of values that are recognised by more than their exact type."""
    cls = type(value)  # never isinstance: proxies and mocks pass for what they stand for
    if issubclass(cls, type):
        return _class("name", value, depth)
    if issubclass(cls, types.FunctionType | types.BuiltinFunctionType):
        return _function(value)
    if getattr(cls, "__exp_key__", None) is not None:
        return _class("key:", cls, depth, encode(value.__exp_key__(), depth + 1))
    if issubclass(cls, enum.Enum):
        return _class("enum:", cls, depth, text(str(value.name)), encode(value.value, depth + 1))
    if issubclass(cls, pathlib.PurePath) and cls.__module__.partition(".")[0] == "pathlib":
        return _named("path", text(value.as_posix()))  # the same on every platform
    if issubclass(cls, dt.tzinfo):
        return _zone(value, depth)
    if dataclasses.is_dataclass(cls):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(cls)}
        base = BaseException if issubclass(cls, BaseException) else _built_in(cls)
        content = () if base is None else (encode(_CONTENT[base](value), depth + 1),)
        return _class("data:", cls, depth, _dict(attributes_of(value) | fields, depth), *content)
    if hasattr(cls, "__pydantic_fields__"):
        return _class("data:", cls, depth, *_model(value, depth))
    numpy = sys.modules.get("numpy")
    if numpy is not None and issubclass(cls, numpy.ndarray | numpy.generic | numpy.dtype):
        return _numpy(value, numpy)
    torch = sys.modules.get("torch")
    if torch is not None and cls is getattr(torch, "Tensor", None):
        return _tensor(value)
    base = _built_in(cls)
    if base is not None and not attributes_of(value):  # subclasses, namedtuples among them
        return _class("sub:", cls, depth, _BY_TYPE[base](_CONTENT[base](value), depth))
    if cls.__module__ in ("types", "typing", "collections.abc") and typing.get_origin(value) is not None:
        return _generic(value, depth)
    raise UnkeyableError(f"{cls.__module__}.{cls.__qualname__} has no stable identity")


def _class(kind: str, cls: type, depth: int, *parts: bytes) -> bytes:
    """A class, or a value of it with these parts: by the class's name, and by its make-up where that is not enough."""
    name = qualified_name(cls)
    if not is_known_by_name(cls):
        kind, parts = "local " + kind, (*parts, encode(make_up(cls), depth + 1))
    return _named(kind + name, *parts) if kind[-1] == ":" else _named(kind, text(name), *parts)


def _function(value: Any) -> bytes:
    if isinstance(value, types.BuiltinFunctionType):
        owner = getattr(value, "__self__", None)
        if owner is not None and not isinstance(owner, types.ModuleType):
            raise UnkeyableError(f"{value.__qualname__} is bound to an object")
    elif not is_known_by_name(value):  # a lambda, a nested function, one whose name a wrapper has taken
        raise UnkeyableError(f"the function {qualified_name(value)} has no name that tells it from others")
    return _named("name", text(qualified_name(value)))


def _model(value: Any, depth: int) -> tuple[bytes, ...]:
    """A pydantic model: fields, extras and private attributes together; also apart, where names may clash."""
    held = attributes_of(value)
    fields = {name: held.pop(name) for name in type(value).__pydantic_fields__ if name in held}
    extra, private = value.__pydantic_extra__ or {}, value.__pydantic_private__ or {}
    together = _dict(held | extra | private | fields, depth)
    odd = _oddly_set(value, fields)
    if odd:
        return together, _dict({"held": held, "extra": extra, "private": private, "set": odd}, depth)
    if not held and not any(name.startswith("_") or name in fields for name in extra):
        return (together,)
    return together, _dict({"held": held, "extra": extra, "private": private}, depth)


def _oddly_set(value: Any, fields: Mapping[str, Any]) -> list[str]:
    """Fields that were set to their default, and others that were not set: ``M(a=1)`` is not ``M()``.

    Of all others the values say whether they were set.
    """
    declared, were_set = type(value).__pydantic_fields__, value.__pydantic_fields_set__
    odd = []
    for name, item in fields.items():
        field = declared[name]
        by_default = not field.is_required() and _is_default(item, field)
        if (name in were_set) is by_default and (by_default or field.default_factory is None):
            odd.append(name)
    return sorted(odd)


def _is_default(item: Any, field: Any) -> bool:
    default = field.default_factory() if field.default_factory in _BUILT_IN_FACTORIES else field.default
    try:
        return item is default or (type(item) is type(default) and bool(item == default))
    except Exception:  # of arrays, and of whatever compares in its own way
        return False


_BUILT_IN_FACTORIES = (list, dict, set, tuple, str, int)

# What an instance of a subclass holds as its built-in base sees it, whatever the subclass makes of its own methods.
_CONTENT: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__pos__,
    float: float.__pos__,
    bytes: lambda v: bytes.__getitem__(v, slice(None)),
    tuple: lambda v: tuple(tuple.__iter__(v)),
    list: lambda v: list(list.__iter__(v)),
    set: lambda v: set(set.__iter__(v)),
    frozenset: lambda v: frozenset(frozenset.__iter__(v)),
    OrderedDict: lambda v: OrderedDict(OrderedDict.items(v)),
    defaultdict: lambda v: defaultdict(v.default_factory, dict.items(v)),
    dict: lambda v: dict(dict.items(v)),
    BaseException: lambda v: v.args,
}


def _built_in(cls: type) -> type | None:
    """The built-in class whose content its instances hold; None where they hold none."""
    base = next((base for base in cls.__mro__ if base in _CONTENT and base is not BaseException), None)
    if base is not None and hides_content(cls, base):
        raise UnkeyableError(f"{cls.__module__}.{cls.__qualname__} may hold more than can be seen")
    return base


def _generic(value: Any, depth: int) -> bytes:
    """``list[int]``, ``int | str`` and what else ``typing`` makes of types."""
    origin, arguments = typing.get_origin(value), encode(typing.get_args(value), depth + 1)
    if origin is types.UnionType or origin is typing.Union:
        return _named("union", arguments)
    # ``typing.Callable[..]`` and that of collections.abc are two things; so are ``tuple[int]`` and ``*tuple[int]``, and
    # ``typing.Tuple`` and ``typing.Tuple[()]``.
    module = {"types": "types", "collections.abc": "collections.abc"}.get(type(value).__module__, "typing")
    if getattr(value, "__unpacked__", False):
        module = f"*{module}"
    if module == "typing" and not typing.get_args(value) and type(value).__name__ == "_GenericAlias":
        module = "typing[()]"
    if getattr(origin, "__module__", None) == "typing":  # Literal and the like, which are classes or not by version
        return _named("form", text(origin.__name__), arguments)
    return _named("generic", text(module), encode(origin, depth + 1), arguments)


def _tensor(value: Any) -> bytes:
    """A tensor of torch on the CPU, as an array is: its dtype, shape and bytes."""
    try:
        dtype, shape, data = tensors.content(value)
    except EncodingError as err:
        raise UnkeyableError(str(err)) from err
    return _named("torch:tensor", text(dtype), encode(tuple(shape)), framed(b"b", data))


def _numpy(value: Any, numpy: Any) -> bytes:
    if isinstance(value, numpy.dtype):
        return _named("numpy:dtype", _dtype(value))
    cls, dtype = type(value), value.dtype
    if cls is not numpy.ndarray and cls is not dtype.type:
        raise UnkeyableError(f"{cls.__module__}.{cls.__qualname__} may hold more than an array; pass numpy.asarray(it)")
    described = _dtype(dtype)
    kind, values = ("array", value) if cls is numpy.ndarray else ("scalar", numpy.asarray(value))
    content = framed(b"b", value.tobytes()) if _is_packed(dtype) else _field_by_field(values)
    return _named("numpy:" + kind, described, encode(value.shape), content)


def _dtype(dtype: Any) -> bytes:
    """A data type, with what its short form leaves out where it has fields."""
    if dtype.metadata:
        raise UnkeyableError("a numpy data type with metadata has no stable identity")
    if dtype.hasobject:
        raise UnkeyableError("a numpy array of objects has no stable identity")
    if dtype.subdtype is not None:
        inner, shape = dtype.subdtype
        return _named("numpy:inner", _dtype(inner), encode(shape))
    if dtype.names is not None:
        fields = [(name, *dtype.fields[name]) for name in dtype.names]
        inside = [encode((name, offset, *title)) + _dtype(inner) for name, inner, offset, *title in fields]
        if _is_packed(dtype) and dtype.type.__name__ == "void":
            return text(repr((dtype.descr, dtype.itemsize)))
        return _named("numpy:fields", text(dtype.type.__name__), encode(dtype.itemsize), counted(b"l", inside))
    # Of longdouble some bytes mean nothing, and each platform has its own. Types that others add share their names.
    if dtype.char in "gG" or dtype.kind not in "biufcmMSUV" or dtype.isbuiltin == 2:  # noqa: PLR2004  (added by others)
        raise UnkeyableError(f"numpy's data type {dtype} has no stable form")
    return text(dtype.str)


def _is_packed(dtype: Any) -> bool:
    """Whether its fields follow each other with nothing in between."""
    if dtype.subdtype is not None:
        return _is_packed(dtype.subdtype[0])
    end = 0
    for inner, offset, *_ in (dtype.fields[name] for name in dtype.names or ()):
        if offset != end or not _is_packed(inner):
            return False
        end = offset + inner.itemsize
    return dtype.names is None or end == dtype.itemsize


def _field_by_field(values: Any) -> bytes:
    """The bytes of the fields: those in between mean nothing."""
    if values.dtype.names is None:
        return framed(b"b", values.tobytes())
    return counted(b"l", [_field_by_field(values[name]) for name in values.dtype.names])
