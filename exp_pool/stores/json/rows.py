"""A row as the text of its file and back, and where that file stands.

The file holds what was asked and answered. What changes by mere use (counts, pending tasks, vectors) stands elsewhere:
using an experience does not show in git. Columns of JSON text are JSON values here. Text that JSON would not give back
exactly is written as a tag: ``{"$exp:text": ...}`` (see `encoding`), or ``{"$exp:raw": ...}`` for a column whose
JSON text is not in our compact form.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
import operator
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import Any

from exp_pool.core.experience import ExperienceKind, Metric, Origin, Step, Trust
from exp_pool.core.record import Record, hash_text, read_scores, sized
from exp_pool.core.record_fields import FIELD_KINDS, FieldKind, fits_field
from exp_pool.core.values.encoding import from_plain, json_dumps, to_plain
from exp_pool.errors import DecodingError
from exp_pool.runtime.clock import to_datetime, to_us

# In the order in which a person wants to read them; it never changes, so that a diff shows what changed.
FILE_FIELDS = tuple(
    "function version request arguments response expected kind origin trust score scores metric trajectory metadata "
    "model strategy parents created_at expires_at id namespace key codec reuse_scope principal schema_version "
    "revision is_current superseded_by source".split()
)
content_of: Callable[[Record], tuple[Any, ...]] = operator.attrgetter(*FILE_FIELDS)
"""What the file of a row says; equal exactly if the file need not be written."""

_REQUIRED = frozenset(f.name for f in fields(Record) if f.default is MISSING) - {"request_hash", "response", "expected"}
_OF_JSON = frozenset({FieldKind.OBJECT, FieldKind.LIST, FieldKind.ANSWER})
_RAW = "$exp:raw"
_AS_THEY_ARE = (*(name for name, kind in FIELD_KINDS.items() if kind in _OF_JSON), "reuse_scope", "source")
_REVISIONS = 2**62  # each change of a row adds one

_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSAFE = re.compile("[^a-z0-9]+")
_SLUG = 40  # characters of the namespace that a folder's name shows
_DIGEST = 40  # 160 bits of SHA-256


class UnreadableError(ValueError):
    """A file's content is not a row; the message says why."""


# ── Places ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@functools.lru_cache
def folder_of(namespace: str) -> str:
    """The folder of a namespace: what of it is safe in a name, for people, and a digest that tells it from others."""
    slug = _UNSAFE.sub("-", namespace.lower())[:_SLUG].strip("-") or "namespace"
    return f"{slug}-{hash_text(namespace)[:12]}"


def place_of_key(namespace: str, key: str, history: str | None = None) -> str:
    """Where the current row of a key stands, or the row of its history that has this id.

    ``folder/xx/digest.json`` or ``folder/xx/digest.digest.json``, made of digests only.

    Args:
        namespace: of the row.
        key: of the row.
        history: the id of a row that is not current; None: the current one.
    """
    digest = hash_text(f"{len(namespace)}:{namespace}{key}")[:_DIGEST]
    name = digest if history is None else f"{digest}.{hash_text(history)[:_DIGEST]}"
    return f"{folder_of(namespace)}/{digest[:2]}/{name}.json"


def place_of(row: Record) -> str:
    """Where a row stands; history beside the current row."""
    return place_of_key(row.namespace, row.key, None if row.is_current else row.id)


# ── Writing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def write_row(row: Record) -> bytes:
    """The file of a row: UTF-8, one field a line, the same bytes for the same row."""
    columns = {name: getattr(row, name) for name in FILE_FIELDS}
    for name, nothing in (("response", None), ("expected", None), ("source", "")):  # ``null`` is an answer
        if columns[name] == nothing:
            del columns[name]
    members = {name: _write(name, value) for name, value in columns.items()}
    try:
        text = _indented(members)
    except RecursionError:  # indenting needs more of the stack than reading does
        raw = {name: {_RAW: to_plain(columns[name])} for name in members if FIELD_KINDS[name] in _OF_JSON}
        text = _indented(members | raw)
    if not text.isascii():
        text = _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return f"{text}\n".encode()


def _indented(members: dict[str, Any]) -> str:
    return json.dumps(members, ensure_ascii=False, indent=2, allow_nan=False)


def _write(name: str, value: Any) -> Any:
    if value is None:
        return None
    if FIELD_KINDS[name] in _OF_JSON:
        return _json_value(value)
    if FIELD_KINDS[name] is FieldKind.TIME:
        return _write_time(value)
    return to_plain(value) if isinstance(value, str) else value


def _json_value(text: str) -> Any:
    """The value that stands for a column's JSON text, if it gives back exactly this text."""
    try:
        value = json.loads(text)
        if json_dumps(value) == text and not (isinstance(value, dict) and list(value) == [_RAW]):
            return value
    except (ValueError, RecursionError):  # no JSON, or not of the kind that JSON can be written from again
        pass
    return {_RAW: to_plain(text)}


def _write_time(microseconds: int) -> str | int:
    try:
        return to_datetime(microseconds).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    except OverflowError:  # beyond the year 9999
        return microseconds


# ── Reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_row(content: bytes) -> Record:
    """The row of a file, perhaps edited by a person; nothing is known of its use.

    Raises:
        UnreadableError: it is no JSON, a field is missing, unknown or of the wrong type, or holds no valid value.
        RuntimeError: the thread that this may need cannot be started.
    """
    try:
        return _parse(content)
    except RecursionError:  # perhaps because of the caller's stack, so once more on one of its own
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(_parse_alone, content).result()


def _parse_alone(content: bytes) -> Record:
    try:
        return _parse(content)
    except RecursionError as err:
        raise UnreadableError("it is nested too deeply") from err


def _parse(content: bytes) -> Record:
    try:
        members = json.loads(content.decode("utf-8-sig"), parse_constant=_refuse)  # -sig: some editors write a mark
        if not isinstance(members, dict):
            raise UnreadableError("it holds no JSON object")
        _check_names(members)
        given = {name: _read(name, value) for name, value in members.items()}
        row = sized(Record(**{"response": None, "expected": None, "request_hash": ""} | given))
        row.request_hash = hash_text(row.request)
        _check_values(row)
    except UnreadableError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, DecodingError) as err:
        raise UnreadableError(f"it cannot be read: {err}") from err
    return row


def _refuse(constant: str) -> Any:
    raise UnreadableError(f"{constant} is no JSON")


def _check_names(members: dict[str, Any]) -> None:
    for name in members:
        if name not in FILE_FIELDS:
            close = difflib.get_close_matches(name, FILE_FIELDS, n=1)
            raise UnreadableError(f"unknown field {name!r}{f'; did you mean {close[0]!r}?' if close else ''}")
    missing = sorted(_REQUIRED - members.keys())
    if missing:
        raise UnreadableError(f"missing: {', '.join(missing)}")


def _read(name: str, value: Any) -> Any:
    kind, column = FIELD_KINDS[name], value
    if kind is FieldKind.ANSWER or (kind in _OF_JSON and isinstance(value, dict)):  # for a list a dict is a tag
        column = _json_text(value)
    elif kind is FieldKind.LIST and isinstance(value, list):
        column = json_dumps(value)
    elif kind is FieldKind.TIME and isinstance(value, str):
        column = _read_time(value)
    elif kind is FieldKind.TEXT and value is not None:
        column = from_plain(value)
    if not fits_field(name, column) or (kind in _OF_JSON and column is value):
        raise UnreadableError(f"{name!r} cannot be {json.dumps(value):.80}")
    return float(column) if kind is FieldKind.NUMBER and column is not None else column


def _json_text(value: Any) -> str:
    if isinstance(value, dict) and list(value) == [_RAW]:
        text = from_plain(value[_RAW])
        if not isinstance(text, str):
            raise UnreadableError(f"{_RAW!r} holds no text")
        return text
    return json_dumps(value)


def _read_time(value: str) -> int:
    moment = datetime.fromisoformat(value)
    return to_us(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def _check_values(row: Record) -> None:
    """What an experience could not be made of. Typed values are not read: this process may not know their types."""
    ExperienceKind(row.kind), Origin(row.origin), Trust(row.trust)
    read_scores(row.scores)
    Metric(**json.loads(row.metric))
    for step in json.loads(row.trajectory):
        Step(**step)
    if not all(isinstance(parent, str) for parent in json.loads(row.parents)):
        raise UnreadableError("'parents' holds something that is no id")
    if not 1 <= row.revision < _REVISIONS:
        raise UnreadableError(f"'revision' is from 1 to {_REVISIONS - 1}")
    if row.score is not None and not math.isfinite(row.score):
        raise UnreadableError("'score' is no finite number")
    for name in _AS_THEY_ARE:
        text = getattr(row, name)
        if text and not text.isascii() and _SURROGATE.search(text):
            raise UnreadableError(f"{name!r} holds half of a surrogate pair")
