"""Portable row in the columns of a table, for Parquet that other tools read.

Texts, times and numbers have columns of their own; what has members is JSON text. UTF-8, which Parquet wants, has no
form for lone surrogates: a row that holds some has the exact texts in `exact`, and a sign in their place elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from exp_pool.core.values.encoding import json_dumps

TEXTS = ("id", "function", "version", "request", "codec", "kind", "origin", "trust", "model", "strategy")
JSON = ("arguments", "response", "expected", "scores", "metric", "trajectory", "parents", "metadata", "exp_pool")
TIMES = ("created_at", "expires_at", "last_access")
NUMBERS = ("access_count",)
OWN = frozenset({"id", "function", "arguments", "request", "exp_pool"})
"""What tells such a table from others."""


def to_columns(line: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a line of `portable.to_line`; `score` and `is_current` are added for queries."""
    columns: dict[str, Any] = {name: line.get(name) for name in (*TEXTS, *NUMBERS)}
    columns |= {name: json_dumps(line[name]) if name in line else None for name in JSON}
    columns |= {name: datetime.fromisoformat(line[name]) if name in line else None for name in TIMES}
    scores = list(line.get("scores", {}).values())
    columns["score"] = float(scores[-1]["value"]) if scores else None
    columns["is_current"] = line["exp_pool"].get("is_current", True)
    strange = {name: columns[name] for name in TEXTS if columns[name] and not _is_utf8(columns[name])}
    columns |= {name: text.encode("utf-8", "replace").decode() for name, text in strange.items()}
    columns["exact"] = json_dumps(strange) if strange else None
    return columns


def from_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Line for `portable.from_line`.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: they are not what `to_columns` gave.
    """
    line = {name: columns[name] for name in (*TEXTS, *NUMBERS) if columns.get(name) is not None}
    line |= {name: json.loads(columns[name]) for name in JSON if columns.get(name) is not None}
    line |= {name: columns[name].isoformat() for name in TIMES if columns.get(name) is not None}
    return line | (json.loads(columns["exact"]) if columns.get("exact") is not None else {})


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
