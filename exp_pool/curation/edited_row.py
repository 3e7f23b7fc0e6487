"""Stored row with edited cells: values of a frame or a bulk edit as columns of a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pydantic

from exp_pool.core.experience import MISSING, Experience, Score
from exp_pool.core.record import Record, sized, to_experience, to_record, vouched_for
from exp_pool.curation.columns import METADATA, METADATA_JSON, METRIC, SCORE, CellKind, column
from exp_pool.errors import EncodingError, InvalidInputError
from exp_pool.runtime.clock import to_datetime
from exp_pool.stores.lineage import with_inherited_trust

if TYPE_CHECKING:
    from exp_pool.api.pool import Pool

_SIZED = frozenset("response expected metadata trajectory scores".split())  # the columns which make up size_bytes
_BY_HAND = "by hand"  # the reason of a score that a person gave
# The columns of a record in which an edited column is kept, where the names differ.
_KEPT_IN = {METADATA: ("metadata",), METADATA_JSON: ("metadata",), METRIC: ("metric",), SCORE: ("scores", "score")}


def edited_row(pool: Pool, record: Record, edited: Mapping[str, Any]) -> Record:
    """Row with edited cells. What was not edited stays as it is written, byte for byte.

    Args:
        pool: for the trust of new parents.
        record: the row.
        edited: by column the new value, in the form of `columns`.
    """
    before = to_experience(record)
    try:
        changes = experience_fields(before, edited)
        after = to_record(before.model_copy()._with(**changes), record.namespace, key=record.key)  # noqa: SLF001
    except (pydantic.ValidationError, EncodingError) as err:
        raise InvalidInputError(f"{record.id!r}, {', '.join(edited)}: {error_text(err)}") from err
    kept: set[str] = set()
    for name in edited:
        family = name.partition(".")[0] + "."
        kept.update(_KEPT_IN.get(family, (name,)) if "." in name else (name,))
    row = replace(record, **{name: getattr(after, name) for name in kept})
    if kept & _SIZED:
        row = sized(row)
    if "parents" in kept:
        (row,) = with_inherited_trust(pool.store, [row])
    return vouched_for(row) if "response" in kept or ("trust" in kept and row.trust == "trusted") else row


def experience_fields(before: Experience | None, cells: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an experience from cells, on top of what it has."""
    changes: dict[str, Any] = {}
    scores = dict(before.scores) if before is not None else {}
    metadata = dict(before.metadata) if before is not None else {}
    metric = before.metric.model_dump(exclude_none=True) if before is not None else {}
    for name, value in cells.items():
        family, dot, member = name.partition(".")
        if not dot:
            changes[name] = _field(name, value)
        elif family + dot == SCORE:
            changes["scores"] = _set(scores, member, _score(member, scores.get(member), value))
        elif family + dot == METRIC:
            changes["metric"] = _set(metric, member, value)
        else:
            changes["metadata"] = _set(metadata, member, value)
    return changes


def _field(name: str, value: Any) -> Any:
    if name in ("response", "expected"):
        return value
    if value is MISSING or value is None:
        return [] if name in ("parents", "trajectory") else None
    return to_datetime(value) if column(name).kind is CellKind.TIME else value


def _set(members: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    if value is MISSING:
        members.pop(name, None)
    else:
        members[name] = value
    return members


def _score(scorer: str, before: Score | None, value: Any) -> Any:
    """Edited score. The scorer's name and version stay, so that scoring leaves out what has a score."""
    if value is MISSING:
        return MISSING
    return Score(value=value, reason=_BY_HAND, scorer=scorer, version=before.version if before is not None else "")


def error_text(err: Exception) -> str:
    """What pydantic or the codec said, in one line, without the input."""
    if isinstance(err, pydantic.ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".lstrip(": ") for e in err.errors())
    return str(err)
