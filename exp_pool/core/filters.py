"""Filters: ``where=`` parsed into conditions over an allowlist of fields; no store sees a user's key or operator."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from operator import ge, gt, le, lt
from typing import Any

from exp_pool.errors import InvalidInputError
from exp_pool.runtime.clock import to_us

TEXT_FIELDS = frozenset(
    {
        "id",
        "function",
        "version",
        "key",
        "request",
        "codec",
        "kind",
        "origin",
        "trust",
        "model",
        "strategy",
        "principal",
        "source",
    }
)
NUMBER_FIELDS = frozenset({"score", "access_count", "size_bytes", "schema_version", "revision"})
TIME_FIELDS = frozenset({"created_at", "expires_at", "last_access"})
FLAG_FIELDS = frozenset({"annotated"})
OBJECT_FIELDS = ("arguments", "metadata", "metric", "scores")  # records keep these as JSON text; a dot names a member
OPERATORS = ("eq", "ne", "in", "not_in", "gt", "gte", "lt", "lte", "prefix", "contains", "exists")

_FIELDS = TEXT_FIELDS | NUMBER_FIELDS | TIME_FIELDS | FLAG_FIELDS
_MAX_CONDITIONS = 100  # SQLite allows a thousand nested terms; nobody writes a hundred
_MAX_CHOICES = 10_000

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. `path` is empty for a field of the record, else the member of the JSON object `field`."""

    field: str
    path: str
    operator: str
    value: Scalar | tuple[Scalar, ...]


def parse_where(where: Mapping[str, Any] | None) -> tuple[Condition, ...]:
    """The conditions, all of which must hold: ``{"function": f, "score": {"gte": 0.8}, "metadata.team": "backend"}``.

    ``ne``, ``not_in`` and ``exists: False`` hold where the field is absent; every other operator is false there.
    ``contains`` looks for a part of a text, or for an element of a list in metadata; ``prefix`` for how a text begins.
    ``eq`` and ``in`` tell ``1`` from ``True`` and ``"1"``. Times are aware datetimes or ISO 8601 text, which is
    UTC where it names no zone. ``arguments.model`` and ``metadata.team.lead`` name members, at any depth.

    Raises:
        InvalidInputError: an unknown field or operator (the message names the known ones), or a value that it cannot
        take.
    """
    if where is None:
        return ()
    if not isinstance(where, Mapping):
        raise InvalidInputError(f"where must be a dict such as {{'function': 'f'}}, got {where!r}")
    conditions = [condition for name, wanted in where.items() for condition in _parse_field(name, wanted)]
    if len(conditions) > _MAX_CONDITIONS:
        raise InvalidInputError(f"where has {len(conditions)} conditions; at most {_MAX_CONDITIONS} are allowed")
    return tuple(conditions)


def _parse_field(name: Any, wanted: Any) -> list[Condition]:
    if not isinstance(name, str):
        raise InvalidInputError(f"where: a field name must be text, got {name!r}")
    field, _, path = name.partition(".")
    if path:
        if field not in OBJECT_FIELDS:
            raise _unknown_field(name)
        # A quote would end the quoted label of a JSON path, and labels with control characters differ between engines.
        if '"' in path or "\\" in path or any(c < " " or "\ud800" <= c <= "\udfff" for c in path):
            raise InvalidInputError(
                f"where: {name!r} holds a quote, a backslash or a control character; rename the entry"
            )
    elif field not in _FIELDS:
        raise _unknown_field(name)
    operations = wanted if isinstance(wanted, Mapping) else {"eq": wanted}
    if not operations:
        raise InvalidInputError(f"where: {name!r} has no operator; give a value or one of {', '.join(OPERATORS)}")
    return [
        Condition(field, path, _operator(name, op), _value(name, field, path, op, value))
        for op, value in operations.items()
    ]


def _unknown_field(name: str) -> InvalidInputError:
    known = sorted(_FIELDS)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    dotted = ", ".join(f"{field}.<name>" for field in OBJECT_FIELDS)
    return InvalidInputError(f"where: unknown field {name!r}{hint} Known: {', '.join(known)}, {dotted}")


def _operator(name: str, operator: Any) -> str:
    if operator not in OPERATORS:
        raise InvalidInputError(f"where: unknown operator {operator!r} for {name!r}; known: {', '.join(OPERATORS)}")
    return str(operator)


def _value(name: str, field: str, path: str, operator: str, value: Any) -> Scalar | tuple[Scalar, ...]:
    if operator == "exists":
        if not isinstance(value, bool):
            raise InvalidInputError(f"where: {name!r} exists takes True or False, got {value!r}")
        return value
    if operator in ("in", "not_in"):
        if not isinstance(value, list | tuple | set | frozenset) or len(value) > _MAX_CHOICES:
            raise InvalidInputError(
                f"where: {name!r} {operator} takes a list of at most {_MAX_CHOICES} values, got {value!r:.80}"
            )
        return tuple(_scalar(name, field, path, item) for item in value)
    scalar = _scalar(name, field, path, value)
    if operator in _ORDERINGS and (isinstance(scalar, bool) or scalar is None):
        raise InvalidInputError(f"where: {name!r} {operator} takes a number, a text or a time, got {value!r}")
    if not isinstance(scalar, str) and (operator == "prefix" or (operator == "contains" and not path)):
        raise InvalidInputError(f"where: {name!r} {operator} takes text, got {value!r}")
    return scalar


def _scalar(name: str, field: str, path: str, value: Any) -> Scalar:
    if callable(value) and field == "function":
        value = getattr(value, "__exp_function__", value)
    if isinstance(value, Enum):
        value = value.value
    if field in TIME_FIELDS:
        moment = _read_time(value) if isinstance(value, str) else value
        if isinstance(moment, datetime) and moment.tzinfo is not None:
            return to_us(moment)
        raise InvalidInputError(
            f"where: {name!r} takes an aware datetime (datetime.now(timezone.utc)), or a time as ISO 8601 text such as "
            f"'2026-11-30' or '2026-11-30T08:00:00+01:00', got {value!r:.80}"
        )
    if value is None and path:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInputError(f"where: {name!r} takes finite numbers, got {value!r}")
    if path and isinstance(value, str | int | float):
        if isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
            raise InvalidInputError(
                f"where: {name!r} cannot look for NUL or a lone surrogate"
            )  # engines differ on these
        return _bounded(name, value)
    if field in TEXT_FIELDS and isinstance(value, str):
        return value
    if field in NUMBER_FIELDS and isinstance(value, int | float) and not isinstance(value, bool):
        return _bounded(name, value)
    if field in FLAG_FIELDS and isinstance(value, bool):
        return value
    wanted = "text" if field in TEXT_FIELDS else "True or False" if field in FLAG_FIELDS else "a number"
    raise InvalidInputError(
        f"where: {name!r} takes {wanted if not path else 'text, a number, a flag or None'}, got {value!r:.80}"
    )


def _read_time(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _bounded(name: str, value: Scalar) -> Scalar:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise InvalidInputError(f"where: {name!r} takes integers of at most 64 bits, got {value!r:.40}")
    return value


def holds(condition: Condition, record: object) -> bool:
    """Whether a record meets the condition: the meaning that every store must share."""
    found = getattr(record, condition.field)
    if condition.path:
        content = json.loads(found)
        found = _member(content, condition.path)
        present = found is not _ABSENT
    else:
        present = found is not None
    wanted = condition.value
    match condition.operator:
        case "exists":
            return present is wanted
        case "eq":
            return present and _same(found, wanted)
        case "ne":
            return not (present and _same(found, wanted))
        case "in":
            return present and any(_same(found, choice) for choice in wanted)  # type: ignore[union-attr]
        case "not_in":
            return not (present and any(_same(found, choice) for choice in wanted))  # type: ignore[union-attr]
        case "prefix":
            return isinstance(found, str) and isinstance(wanted, str) and found.startswith(wanted)
        case "contains":
            if isinstance(found, list):
                return any(_same(item, wanted) for item in found)
            return isinstance(found, str) and isinstance(wanted, str) and wanted in found
        case _:
            return _ordered(condition.operator, found, wanted)


def _member(content: Any, path: str) -> Any:
    """The member of an object: of this very name, or step by step, where its name has dots itself."""
    if not isinstance(content, dict):
        return _ABSENT
    if path in content:
        return content[path]
    for dot in (at for at, letter in enumerate(path) if letter == "."):
        if path[:dot] in content:
            found = _member(content[path[:dot]], path[dot + 1 :])
            if found is not _ABSENT:
                return found
    return _ABSENT


def _family(value: Any) -> str:
    if isinstance(value, bool):
        return "flag"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _same(found: Any, wanted: Any) -> bool:
    return _family(found) == _family(wanted) and bool(found == wanted)


def _ordered(operator: str, found: Any, wanted: Any) -> bool:
    if _family(found) != _family(wanted) or _family(found) not in ("number", "str"):
        return False
    return bool(_ORDERINGS[operator](found, wanted))


_ORDERINGS = {"gt": gt, "gte": ge, "lt": lt, "lte": le}
_ABSENT: Any = object()
