"""What SQL stores share: columns, the text form that every engine keeps, and conditions as SQL with bound values."""

from __future__ import annotations

import operator
import re
import zlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from exp_pool.errors import StoreError
from exp_pool.filters import Condition
from exp_pool.protocols import RecordQuery
from exp_pool.records import Record, hash_text

COLUMNS = tuple(f.name for f in fields(Record))

# Engines refuse NUL (PostgreSQL) or lone surrogates (all of them) in text. Both, and the escape itself, are written as
# SUBSTITUTE and four digits; all other text is kept as it is, readable. JSON columns need none of it: see `json_dumps`.
_ESCAPE = "\x1a"
_UNKEEPABLE = re.compile("[\0\x1a\ud800-\udfff]")
_ESCAPED = re.compile("\x1a([0-9a-f]{4})")
_TEXT_COLUMNS = tuple(
    COLUMNS.index(name)
    for name in "id namespace function version key request codec model strategy principal superseded_by".split()
)


# Answers and arguments of a hundred kilobytes are documents, which compress to a third in a few milliseconds.
_LONG_COLUMNS = tuple(COLUMNS.index(name) for name in ("arguments", "response", "expected"))
_LEVEL = 6
_MAX_EXPANDED = 2**28  # a megabyte of zeros expands to a gigabyte

_columns_of = operator.attrgetter(*COLUMNS)


# What decides an answer, and what it answers: a row of which one of these has changed on the disk is no answer.
_CHECKED = tuple(
    COLUMNS.index(name)
    for name in "id key request arguments response expected codec kind trust metadata expires_at".split()
)
_of_checked = operator.itemgetter(*_CHECKED)


def checksum(row: Sequence[Any]) -> int:
    """CRC-32 of what matters in the values of `COLUMNS`, as stored: SQLite itself does not notice a wrong byte."""
    return zlib.crc32(repr(_of_checked(row)).encode("utf-8", "surrogatepass"))


def keep(text: str) -> str:
    """Text in a form that every engine keeps."""
    return _UNKEEPABLE.sub(lambda match: f"{_ESCAPE}{ord(match[0]):04x}", text)


def restore(text: str) -> str:
    """The text that `keep` was given."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text) if _ESCAPE in text else text


def to_row(record: Record, compress_above: int | None) -> list[Any]:
    """The values of `COLUMNS`; long texts, in bytes of UTF-8 above the limit, as compressed bytes."""
    row = list(_columns_of(record))
    if compress_above is not None and record.size_bytes > compress_above:
        for position in _LONG_COLUMNS:
            if row[position] is not None and len(row[position]) > compress_above:
                row[position] = zlib.compress(row[position].encode("utf-8", "surrogatepass"), _LEVEL)
    for position in _TEXT_COLUMNS:
        value = row[position]
        if value is not None and _UNKEEPABLE.search(value):
            row[position] = keep(value)
    return row


def from_row(row: Sequence[Any], check: int | None = None) -> Record:
    """The record of the values of `COLUMNS`.

    Raises:
        StoreError: the row is damaged: its checksum is another one.
    """
    if check is not None and check != checksum(row):
        raise StoreError("the row is damaged, so it answers nothing")
    record = Record(*row)
    record.is_current = bool(record.is_current)
    for position in _TEXT_COLUMNS:
        value = row[position]
        if value is not None and _ESCAPE in value:
            setattr(record, COLUMNS[position], restore(value))
    for position in _LONG_COLUMNS:
        if type(row[position]) is bytes:
            setattr(record, COLUMNS[position], _expand(row[position]))
    return record


def _expand(data: bytes) -> str:
    """A text that was compressed; what is none becomes text that no codec reads, so that the row is a miss."""
    expander = zlib.decompressobj()
    try:
        text = expander.decompress(data, _MAX_EXPANDED)
        return text.decode("utf-8", "surrogatepass") if expander.eof else "its compressed text is too long or cut off"
    except (zlib.error, UnicodeDecodeError) as err:
        return f"its compressed text cannot be read: {err}"


def select(query: RecordQuery, now: int) -> tuple[str, list[Any]]:
    """The WHERE clause of a query, in the dialect of SQLite, and its values. User input is only ever a value."""
    terms: list[str] = []
    values: list[Any] = []
    if query.namespace is not None:
        # The sign keeps SQLite from walking the namespace where a small index of what is owed answers at once.
        terms.append("+namespace = ?" if query.owed else "namespace = ?")
        values.append(keep(query.namespace))
    if not query.history:
        terms.append("is_current = 1")
    if not query.expired:
        terms.append("(expires_at IS NULL OR expires_at > ?)")
        values.append(now)
    if not query.quarantined:
        terms.append("trust = 'trusted'")
    if query.owed is not None:
        terms.append(f"is_current = 1 AND {query.owed.value}_due <= ?")
        values.append(now)
    for condition in query.where:
        term, bound = _member(condition) if condition.path else _column(condition)
        terms.append(term)
        values.extend(bound)
    return " AND ".join(terms) or "1", values


def _column(condition: Condition) -> tuple[str, list[Any]]:
    """A condition on a column. `field` and `operator` come from the allowlist of `filters`, never from a user."""
    field = "(expected IS NOT NULL)" if condition.field == "annotated" else condition.field
    wanted = condition.value
    match condition.operator:
        case "exists":
            return f"({field} IS NOT NULL) = ?", [bool(wanted)]
        case "eq" if field == "request":  # indexed by its hash: engines limit the length of what they index
            return "substr(request_hash, 1, 12) = ? AND request = ?", [hash_text(str(wanted))[:12], _value(wanted)]
        case "eq":
            return f"{field} = ?", [_value(wanted)]
        case "ne":
            return f"({field} IS NULL OR {field} <> ?)", [_value(wanted)]
        case "in":
            choices = [_value(choice) for choice in wanted]  # type: ignore[union-attr]
            return (f"{field} IN ({', '.join('?' * len(choices))})", choices) if choices else ("0", [])
        case "contains":
            return f"instr({field}, ?) > 0", [_value(wanted)]
        case operator:
            return f"{field} {'>=' if operator == 'gte' else '<='} ?", [_value(wanted)]


def _value(value: Any) -> Any:
    return keep(value) if isinstance(value, str) else value


def _member(condition: Condition) -> tuple[str, list[Any]]:
    """A condition on a member of a JSON column; types count, so every comparison names the JSON type it expects."""
    column, wanted = condition.field, condition.value
    path = f'$."{condition.path}"'
    kind, found = f"json_type({column}, ?)", f"json_extract({column}, ?)"
    match condition.operator:
        case "exists":
            return f"({kind} IS NOT NULL) = ?", [path, bool(wanted)]
        case "eq":
            return _equals(kind, found, [path], wanted)
        case "ne":
            term, values = _equals(kind, found, [path], wanted)
            return f"NOT coalesce(({term}), 0)", values
        case "in":
            terms = [_equals(kind, found, [path], choice) for choice in wanted]  # type: ignore[union-attr]
            joined = " OR ".join(f"({term})" for term, _ in terms)
            return f"({joined})" if terms else "0", [value for _, values in terms for value in values]
        case "contains":
            element, values = _equals("e.type", "e.atom", [], wanted)
            text = f"instr({found}, ?) > 0" if isinstance(wanted, str) else "0"
            return (
                f"CASE {kind} WHEN 'text' THEN {text} WHEN 'array' THEN "
                f"EXISTS (SELECT 1 FROM json_each({column}, ?) AS e WHERE {element}) ELSE 0 END",
                [path, *([path, wanted] if isinstance(wanted, str) else []), path, *values],
            )
        case operator:
            types = "('text')" if isinstance(wanted, str) else "('integer', 'real')"
            return f"({kind} IN {types} AND {found} {'>=' if operator == 'gte' else '<='} ?)", [path, path, wanted]


def _equals(kind: str, found: str, path: list[str], wanted: Any) -> tuple[str, list[Any]]:
    if wanted is None:
        return f"{kind} = 'null'", path
    if isinstance(wanted, bool):
        return f"{kind} = '{'true' if wanted else 'false'}'", path
    types = "('text')" if isinstance(wanted, str) else "('integer', 'real')"
    return f"{kind} IN {types} AND {found} = ?", [*path, *path, wanted]
