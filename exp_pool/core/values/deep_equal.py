"""Deep equality of what was given and what comes back: the same types and the same content at every depth. Pure.

Stricter than ``==``, which takes ``1`` for ``1.0`` and for ``True`` and knows nothing of undeclared attributes; and
milder in two places: NaN is NaN, and the order of a dict's names does not count.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import pathlib
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from exp_pool.core.values import arrays
from exp_pool.core.values.attributes import attributes_of
from exp_pool.core.values.registered_types import is_registered

# Where (".items[0].price", seen from the value) and what.
_Difference = tuple[str, str] | None

_ABSENT: Any = object()
_DEEPEST = 200  # as in encoding: what is nested deeper is refused there


def difference(given: Any, back: Any) -> str | None:
    """The first difference, in words that say where it is; None where there is none."""
    try:
        found = _compare(given, back)
    except RecursionError:
        return "it is nested too deeply to compare"
    if found is None:
        return None
    where, what = found
    return f"at {where}: {what}" if where else what


def iterator_in(value: Any) -> str | None:
    """Where a value holds an iterator, which a look would use up: "" where it is one itself, None where none is."""
    return _iterator_in(value, set(), 0)


def type_name(value: Any) -> str:
    """The type of a value, for people."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _compare(a: Any, b: Any) -> _Difference:
    kind = type(a)
    if type(b) is not kind:
        return "", f"a value of type {type_name(a)} comes back as one of type {type_name(b)}"
    if a is b:
        return None
    if kind in _EQUAL:
        return None if a == b else _changed(a, b)
    exactly = _EXACTLY.get(kind)
    if exactly is not None:
        return None if exactly(a, b) else _changed(a, b)
    if kind.__module__.partition(".")[0] == "numpy" and hasattr(a, "tobytes"):
        return None if arrays.same_bytes(a, b) else _changed(a, b)
    if is_registered(kind) and _equal(a, b) is True:
        return None  # whoever registered the class says by its __eq__ what makes up a value
    if isinstance(a, enum.Enum):
        return _changed(a, b)  # members are unique, and these are two
    if isinstance(a, Mapping | list | tuple | deque | set | frozenset):
        return _contents(a, b) or _attributes(a, b)
    if isinstance(a, dt.datetime | dt.time):
        return None if _same_moment(a, b) else _changed(a, b)
    if isinstance(a, str | bytes | int | float | complex):  # subclasses
        base: Any = next(base for base in kind.__mro__ if base in _EQUAL or base in _EXACTLY)
        return _attributes(a, b) if _EXACTLY.get(base, base.__eq__)(a, b) is True else _changed(a, b)
    if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__pydantic_fields__"):
        return _attributes(a, b)
    if isinstance(a, pathlib.PurePath):
        return None if str(a) == str(b) else _changed(a, b)  # == knows no case in Windows paths
    if _has_no_equality(kind):
        return _attributes(a, b)
    # Neither True nor False is what arrays and tables of other libraries answer: then the text is the evidence.
    return _changed(a, b) if _equal(a, b) is False else None


def _equal(a: Any, b: Any) -> Any:
    """What the class's own ``==`` says; None where it has none, or raises."""
    if _has_no_equality(type(a)):
        return None
    try:
        return a == b
    except Exception:  # a class's own code; without an answer other evidence decides
        return None


def _has_no_equality(kind: Any) -> bool:
    return kind.__eq__ is object.__eq__


def _changed(a: Any, b: Any) -> _Difference:
    return "", f"a value of type {type_name(a)} comes back as another: {a!r:.60} as {b!r:.60}"


# ── Values that are compared as one ───────────────────────────────────────────────────────────────────────────────────


def _same_float(a: float, b: float) -> bool:
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b and math.copysign(1, a) == math.copysign(1, b)


def _same_moment(a: Any, b: Any) -> bool:
    """The same time on the clock in the same zone: ``==`` calls two times equal that are so in different zones."""
    return bool(
        a.replace(tzinfo=None) == b.replace(tzinfo=None) and a.fold == b.fold and _same_zone(a.tzinfo, b.tzinfo)
    )


def _same_zone(a: dt.tzinfo | None, b: dt.tzinfo | None) -> bool:
    if a is None or b is None:
        return a is b
    if type(a) is type(b):
        return repr(a) == repr(b)  # with the name that a fixed offset was given
    # Pydantic reads "+01:00" as a fixed offset of a class of its own. It is the offset that counts: to insist on the
    # class would keep every model with an aware time out of the pool. A zone with rules, or a name, is more than that.
    offset = a.utcoffset(None)
    return (
        offset is not None
        and offset == b.utcoffset(None)
        and all(zone == dt.timezone(offset) for zone in (a, b))
        and all(zone.tzname(None) == dt.timezone(offset).tzname(None) for zone in (a, b) if type(zone) is dt.timezone)
    )


# The types whose == takes only equal content of the same types for equal, once both are of the type.
_EQUAL = frozenset((str, int, bool, bytes, bytearray, type(None), dt.date, dt.timedelta))
_EXACTLY: dict[type, Callable[..., bool]] = {
    float: _same_float,
    complex: lambda a, b: _same_float(a.real, b.real) and _same_float(a.imag, b.imag),
    decimal.Decimal: lambda a, b: str(a) == str(b),  # 1.0 and 1.00 are equal, and print differently
    slice: lambda a, b: _compare((a.start, a.stop, a.step), (b.start, b.stop, b.step)) is None,
    range: lambda a, b: (a.start, a.stop, a.step) == (b.start, b.stop, b.step),  # == compares what they give
    dt.timezone: lambda a, b: repr(a) == repr(b),  # == does not look at the name
    dt.datetime: _same_moment,
    dt.time: _same_moment,
}


# ── What holds other values ───────────────────────────────────────────────────────────────────────────────────────────


def _contents(a: Any, b: Any) -> _Difference:
    if len(a) != len(b):
        return "", f"{len(a)} items come back as {len(b)}"
    if isinstance(a, list | tuple | deque):
        if isinstance(a, deque) and a.maxlen != b.maxlen:
            return "", "a deque of another length comes back"
        names = getattr(type(a), "_fields", None) if isinstance(a, tuple) else None
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            found = _compare(x, y)
            if found is not None:
                return _within(f".{names[i]}" if names else f"[{i}]", found)
        return None
    found = _members(a, b)
    if found is not None or not isinstance(a, Mapping):
        return found
    if isinstance(a, OrderedDict) and list(a) != list(b):
        return "", "the order of an OrderedDict is lost"
    if isinstance(a, defaultdict) and a.default_factory is not b.default_factory:
        return "", "the default_factory of a defaultdict is lost"
    by_name = dict(b)  # no defaultdict, which would make up what is asked for
    for name, value in a.items():
        found = _compare(value, by_name.get(name, _ABSENT))
        if found is not None and name == name:  # noqa: PLR0124  (a NaN finds itself only by identity)
            return _within(f"[{name!r:.40}]", found)
    return None


def _members(a: Iterable[Any], b: Iterable[Any]) -> _Difference:
    """The members of sets, the names of dicts: each must be among the others, of the same type."""
    others = {member: member for member in b}
    alone = []
    for member in a:
        other = others.pop(member, _ABSENT)
        if other is _ABSENT:
            alone.append(member)
            continue
        found = _compare(member, other)
        if found is not None:
            return found
    # What does not equal even itself (a NaN) finds no partner by hash; there are few of those.
    rest = list(others)
    for member in alone:
        match = next((i for i, other in enumerate(rest) if _compare(member, other) is None), None)
        if match is None:
            return "", f"{member!r:.60} does not come back"
        del rest[match]
    return None


def _attributes(a: Any, b: Any) -> _Difference:
    """Fields, declared or not, private ones and extras of models, slots."""
    ours, theirs = _state(a), _state(b)
    for name in {**ours, **theirs}:
        one, other = ours.get(name, _ABSENT), theirs.get(name, _ABSENT)
        if one is _ABSENT or other is _ABSENT:
            return f".{name}", "an attribute that is set comes back unset, or the other way round"
        found = _compare(one, other)
        if found is not None:
            return _within(f".{name}", found)
    return None


def _state(value: Any) -> dict[str, Any]:
    kind, state = type(value), attributes_of(value)
    if hasattr(kind, "__pydantic_fields__"):
        for beside in ("__pydantic_extra__", "__pydantic_private__"):  # not of pydantic's dataclasses
            state |= getattr(value, beside, None) or {}
        # The JSON form of a model writes every field, so afterwards all are set. Only the SDKs' models, which tell
        # absent from null on the wire by this, are stored with what was set; extras they count or not.
        if kind.__module__.partition(".")[0] in _TELL_UNSET:
            state["model_fields_set"] = value.__pydantic_fields_set__ & kind.__pydantic_fields__.keys()
    return state


_TELL_UNSET = ("openai", "anthropic")


def _within(step: str, found: tuple[str, str]) -> tuple[str, str]:
    return step + found[0], found[1]


def _iterator_in(value: Any, seen: set[int], depth: int) -> str | None:
    if isinstance(value, Iterator):
        return ""
    if isinstance(value, str | bytes | int | float) or value is None or id(value) in seen or depth > _DEEPEST:
        return None
    seen.add(id(value))
    inside: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        inside = ((f"[{name!r:.40}]", item) for name, item in value.items())
    elif isinstance(value, list | tuple | set | frozenset | deque):
        inside = ((f"[{i}]", item) for i, item in enumerate(value))
    elif hasattr(type(value), "__dataclass_fields__") or hasattr(type(value), "__pydantic_fields__"):
        inside = ((f".{name}", item) for name, item in _state(value).items())
    for step, item in inside:
        found = _iterator_in(item, seen, depth + 1)
        if found is not None:
            return step + found
    return None
