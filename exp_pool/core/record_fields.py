"""Field codec of rows: what each column holds, and whether a JSON value that somebody sent fits it.

Three formats write rows as JSON: the files of `stores.json`, snapshots, and exported lines. They differ in how a column
looks (a person reads the first and the last), not in what it may hold: that is said here once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from enum import Enum, auto
from typing import Any

from exp_pool.core.record import Record
from exp_pool.core.values.encoding import from_plain


class FieldKind(Enum):
    """What the values of a column are; of the first three the column holds the JSON text."""

    OBJECT = auto()
    LIST = auto()
    ANSWER = auto()  # any JSON value; ``null`` is one, so the column is None where there is no answer
    TEXT = auto()
    TIME = auto()  # microseconds since 1970 UTC
    COUNT = auto()
    NUMBER = auto()
    FLAG = auto()


_KINDS = {
    FieldKind.OBJECT: "arguments scores metric metadata",
    FieldKind.LIST: "trajectory parents",
    FieldKind.ANSWER: "response expected",
    FieldKind.TIME: "created_at expires_at last_access embed_due score_due",
}
_BY_NAME = {name: kind for kind, names in _KINDS.items() for name in names.split()}
_BY_TYPE = {"str": FieldKind.TEXT, "int": FieldKind.COUNT, "float": FieldKind.NUMBER, "bool": FieldKind.FLAG}
_TYPES: dict[FieldKind, tuple[type, ...]] = {
    FieldKind.TIME: (int,),
    FieldKind.COUNT: (int,),
    FieldKind.NUMBER: (int, float),
    FieldKind.FLAG: (bool,),
}

FIELD_KINDS = {f.name: _BY_NAME.get(f.name) or _BY_TYPE[str(f.type).partition(" ")[0]] for f in fields(Record)}
_NULLABLE = frozenset(f.name for f in fields(Record) if "None" in str(f.type))


def fits_field(name: str, value: Any) -> bool:
    """Whether a column of a row may hold a value: JSON columns hold text, True is no number, integers have 64 bits."""
    if type(value) is int and not -(2**63) <= value < 2**63:
        return False
    return type(value) in _TYPES.get(FIELD_KINDS[name], (str,)) or (value is None and name in _NULLABLE)


def audit_texts(entries: Any, check: Callable[[dict[str, Any], datetime], None] | None = None) -> tuple[str, ...]:
    """Entries of an audit log (`contracts.rows.audit_entry`) as a file has them, as the texts that the log keeps.

    Args:
        entries: what stands in the file.
        check: called with each entry and its time; raises ValueError where it cannot be.

    Raises:
        ValueError: it is no list of entries, each with what happened, to which row and when.
    """
    try:
        for entry in entries:
            from_plain(entry)
            moment = datetime.fromisoformat(entry["at"])
            if moment.tzinfo is None or not isinstance(entry["what"], str) or not isinstance(entry["id"], str):
                raise ValueError(f"an entry is {entry!r:.80}")
            if check is not None:
                check(entry, moment)
        return tuple(json.dumps(entry, ensure_ascii=True) for entry in entries)
    except (TypeError, LookupError, OverflowError) as err:
        raise ValueError(f"an entry is wrong: {err!r:.80}") from err
