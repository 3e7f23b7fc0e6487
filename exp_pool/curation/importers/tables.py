"""Rows of foreign tables (CSV, Parquet, JSON lines): which column is which field of an experience."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exp_pool.core.experience import MISSING, Metric, Score
from exp_pool.curation.importers.types import (
    Imported,
    ImportOptions,
    LeftOutError,
    from_json,
    imported_call,
    parse_time,
)
from exp_pool.errors import InvalidInputError

_METRIC = ("time_s", "money_usd", "tokens_in", "tokens_out")
_PLAIN = ("version", "request", "model", "strategy", "kind")
_FIELDS = ("function", "response", "expected", "arguments", "metadata", "score", "created_at", "id", *_PLAIN, *_METRIC)
_MEMBERS = ("arguments.", "metadata.")
_ASKED = ("request", "arguments")
_SCORER = "imported"


def mapping(options: ImportOptions) -> Mapping[str, str]:
    """Column of each field; by default columns with the names of fields.

    Raises:
        InvalidInputError: a field is unknown.
    """
    for field in options.columns:
        if field not in _FIELDS and not field.startswith(_MEMBERS):
            known = ", ".join([*_FIELDS, "arguments.NAME", "metadata.NAME"])
            raise InvalidInputError(f"columns: {field!r:.60} is no field of an experience; known: {known}")
    return options.columns or {field: field for field in _FIELDS}


def experience(row: Mapping[str, Any], options: ImportOptions, source: str) -> Imported:
    """Experience of a row. Empty cells count as missing.

    Args:
        row: cells by column.
        options: of the import; `columns` maps fields to columns.
        source: the format, for the metadata.

    Raises:
        LeftOutError: it has no answer, its function is unknown, or it has nothing of the columns that were named
            for what was asked.
        ValueError: a cell does not fit its field.
    """
    cells = {field: row.get(column) for field, column in mapping(options).items()}
    told = {field: value for field, value in cells.items() if value is not None and value != ""}
    arguments = _members(told, "arguments")
    asked = [column for field, column in options.columns.items() if field.partition(".")[0] in _ASKED]
    if asked and not (arguments or "request" in told or "arguments" in told):
        # A call without arguments would be taken for one and the same, however many rows there are.
        raise LeftOutError(f"it has no {' and no '.join(map(repr, asked))}, which columns= names for what was asked")
    plain = {field: str(told[field]) for field in _PLAIN if field in told}
    metric = Metric(**{field: told[field] for field in _METRIC if field in told})
    score = None if "score" not in told else Score(value=float(told["score"]), scorer=_SCORER)
    return imported_call(
        options,
        source,
        str(told["function"]) if "function" in told else None,
        arguments or (None if "request" in plain else {}),
        told.get("response", MISSING),
        source_id=told.get("id"),
        created_at=parse_time(told.get("created_at")),
        metadata=_members(told, "metadata"),
        expected=told.get("expected", MISSING),
        metric=metric,
        scores=None if score is None else {_SCORER: score},
        **plain,
    )


def _members(told: Mapping[str, Any], field: str) -> dict[str, Any]:
    """Members of a JSON column, and of columns of single members."""
    whole = from_json(told.get(field, {}))
    if not isinstance(whole, Mapping):
        raise InvalidInputError(f"its {field} are {whole!r:.60}; a JSON object is needed")
    prefix = f"{field}."
    return {**whole, **{name.removeprefix(prefix): value for name, value in told.items() if name.startswith(prefix)}}
