"""Row comparison between two stores: which state of a row is the later one, and what a copy has to do about it."""

from __future__ import annotations

import operator
from dataclasses import fields
from enum import Enum, auto
from typing import NamedTuple

from exp_pool.core.record import Record, Vector

# What changes about a row without its being edited; the rest is what it says.
_CIRCUMSTANCES = frozenset(
    "is_current superseded_by last_access access_count revision embed_due embed_tries score_due score_tries".split()
)
substance = operator.attrgetter(*(f.name for f in fields(Record) if f.name not in _CIRCUMSTANCES))


class RowWithVector(NamedTuple):
    """Row with its vector, if it has one."""

    record: Record
    vector: Vector | None


class TargetState(Enum):
    """State of a row in the target, compared with the source."""

    ABSENT = auto()
    SAME = auto()
    USED = auto()  # the source has counted more use
    BEHIND = auto()  # the source has a later state
    AHEAD = auto()  # the target has a later state
    SUPERSEDED = auto()  # the same but for currency: the target's own answer of the call is current
    CLASH = auto()  # neither state is the later one


class RowComparison(NamedTuple):
    """Row of the source, the row of the same id in the target, and the target's own current answer of the same call."""

    row: RowWithVector
    there: RowWithVector | None
    rival: Record | None
    target_state: TargetState


def target_state(row: RowWithVector, there: RowWithVector, rival: Record | None) -> TargetState:
    """State of the row in the target, compared with that of the source.

    Args:
        row: of the source.
        there: the row of the same id in the target.
        rival: the target's own current answer of the same call.
    """
    new, old = row.record, there.record
    if substance(new) != substance(old):
        mine, theirs = ((state.annotated, state.revision) for state in (new, old))  # a person first
        return TargetState.CLASH if mine == theirs else TargetState.BEHIND if mine > theirs else TargetState.AHEAD
    if new.is_current and not old.is_current and rival is not None and takes_precedence(rival, new):
        return TargetState.SUPERSEDED
    if (
        new.revision > old.revision
        or new.is_current != old.is_current
        or (not new.is_current and new.superseded_by != old.superseded_by)
        or (row.vector is not None and row.vector != there.vector)
        or any(getattr(new, due) is None and getattr(old, due) is not None for due in ("embed_due", "score_due"))
    ):
        return TargetState.BEHIND
    if new.access_count > old.access_count or (new.last_access or 0) > (old.last_access or 0):
        return TargetState.USED
    return TargetState.SAME


def takes_precedence(one: Record, other: Record) -> bool:
    """Whether the first of two answers of one call is current; the same rule as for snapshots, in either direction."""
    first, second = ((row.annotated, row.created_at, row.id) for row in (one, other))
    return first > second
