"""The columns of a row, its checksum, and the text form that every engine keeps: shared by the SQL stores and Redis."""

from __future__ import annotations

import operator
import re
import zlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from exp_pool.core.record import Record
from exp_pool.errors import StoreError

COLUMNS = tuple(f.name for f in fields(Record))
NAMES = ", ".join(f'"{name}"' for name in COLUMNS)  # quoted: `key` and `function` are reserved words of MySQL

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

_IS_CURRENT = COLUMNS.index("is_current")
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
    """The values of `COLUMNS`; arguments and answers of more characters than `compress_above` as compressed bytes."""
    row = list(_columns_of(record))
    row[_IS_CURRENT] = int(record.is_current)  # a small integer everywhere, so that one condition fits all engines
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


def expanded(value: Any) -> Any:
    """The value of a column, decompressed where it was compressed."""
    return _expand(value) if type(value) is bytes else value


def _expand(data: bytes) -> str:
    """A text that was compressed; what is none becomes text that no codec reads, so that the row is a miss."""
    expander = zlib.decompressobj()
    try:
        text = expander.decompress(data, _MAX_EXPANDED)
        return text.decode("utf-8", "surrogatepass") if expander.eof else "its compressed text is too long or cut off"
    except (zlib.error, UnicodeDecodeError) as err:
        return f"its compressed text cannot be read: {err}"
