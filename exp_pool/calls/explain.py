"""Why a call missed: how it differs from the nearest one that is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from difflib import SequenceMatcher
from typing import Any

from exp_pool.calls.request import Request
from exp_pool.core.record import Record
from exp_pool.reuse.judges import good_enough
from exp_pool.runtime.clock import now_us, to_datetime

_ABSENT = object()
_SHORT = 80  # characters of a value
_COMPARED = 500  # characters of two texts, when it is asked how much alike they are


def explain(
    request: Request,
    current: Record | None,
    others: Iterable[Record],
    min_score: float | None = None,
    misfit: Callable[[Record], str] | None = None,
) -> str:
    """One sentence for people.

    Args:
        request: the call.
        current: the row of its key, if there is one.
        others: rows of the same function, in any version.
        min_score: what the function wants of an answer.
        misfit: says why the function as it is now would not return the answer of a row; "" where it would.
    """
    if current is not None:
        return f"{request.function}: {_state(current, request.source, min_score, misfit)}"
    arguments = json.loads(request.stored_arguments)
    nearest = max(others, key=lambda row: _likeness(row, request, arguments), default=None)
    if nearest is None:
        return f"{request.function}: nothing is stored for it in namespace {request.namespace!r}"
    if nearest.version != request.version:
        return (
            f"{request.function}: the nearest stored call is of version {nearest.version!r}, this one of "
            f"{request.version!r}"
        )
    differences = _differences(arguments, json.loads(nearest.arguments))
    if not differences:
        return (
            f"{request.function}: a call with these arguments is stored, but they differ in what is not shown: "
            "a redacted value, an object's state, or what key= looks at"
        )
    return f"{request.function}: the nearest stored call differs in {'; '.join(differences)}"


def _state(record: Record, source: str, min_score: float | None, misfit: Callable[[Record], str] | None) -> str:
    """Why a row of just this call does not answer it, or that it does."""
    if record.expired(now_us()):
        assert record.expires_at is not None
        return f"this call is stored, but expired at {to_datetime(record.expires_at):%Y-%m-%d %H:%M:%S} UTC"
    if record.trust != "trusted":
        return "this call is stored, but quarantined until a person sets trust to trusted"
    if not record.made_by(source):
        return (
            "this call is stored, but other source of the function gave its answer: .adopt() gives it to the source "
            "as it is now"
        )
    if record.answer is None:
        return "this call is stored without an answer"
    if misfit is not None and (why := misfit(record)):
        return f"this call is stored, but its answer is not what the function returns now: {why}"
    if not good_enough(record.score, min_score):
        return f"this call is stored, but min_score={min_score} refuses it (its score: {record.score})"
    return f"this call is stored and answers, unless a judge refuses it (its score: {record.score})"


def _likeness(record: Record, request: Request, arguments: dict[str, Any]) -> tuple[bool, int, float]:
    """Same version first, then how many arguments are equal, then how alike the texts are."""
    stored = json.loads(record.arguments)
    equal = sum(name in stored and stored[name] == value for name, value in arguments.items())
    alike = SequenceMatcher(None, record.request[:_COMPARED], request.text[:_COMPARED]).quick_ratio()
    return record.version == request.version, equal, alike


def _differences(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    differences = []
    for name in dict.fromkeys((*mine, *theirs)):
        here, there = mine.get(name, _ABSENT), theirs.get(name, _ABSENT)
        if here != there or type(here) is not type(there):
            differences.append(f"{name}: {_short(here, there)} here, {_short(there, here)} there")
    return differences


def _short(value: Any, other: Any) -> str:
    """The value as JSON text; where that is long, the part around the place where it differs from the other."""
    if value is _ABSENT:
        return "absent"
    text, beside = (json.dumps(each, ensure_ascii=False, default=repr) for each in (value, other))
    if len(text) <= _SHORT:
        return text
    differ = (at for at, (a, b) in enumerate(zip(text, beside, strict=False)) if a != b)
    same = next(differ, min(len(text), len(beside)))
    start = max(0, min(same - _SHORT // 3, len(text) - _SHORT))
    return f"{'…' * (start > 0)}{text[start : start + _SHORT]}{'…' * (start + _SHORT < len(text))}"
