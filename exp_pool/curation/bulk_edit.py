"""Bulk edits of chosen experiences: relabel, quarantine, promote. Each can be undone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from exp_pool.core.contracts.plugs import RecordQuery
from exp_pool.core.experience import Experience, Trust
from exp_pool.core.record import Record, vouched_for
from exp_pool.curation.cells import EMPTY, read_cell
from exp_pool.curation.change_log import commit
from exp_pool.curation.change_set import Change, planned
from exp_pool.curation.columns import DELETED, ParsedRecord, column
from exp_pool.curation.edited_row import edited_row
from exp_pool.curation.frames import recover_unfinished
from exp_pool.errors import InvalidInputError, NotFoundError
from exp_pool.stores.lineage import descended

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager
    from exp_pool.api.pool import Pool

_NAMED = 5


def relabel(
    manager: ExpManager,
    experiences: Iterable[str | Experience],
    cells: Mapping[str, Any],
    *,
    who: str | None = None,
    why: str = "",
) -> Change:
    """Set the same labels on these experiences: expected answer, kind, metadata, a score.

    Args:
        manager: whose pool.
        experiences: which, or their ids.
        cells: by column, as in a frame: ``{"expected": "Ask again.", "kind": "failure", "metadata.team": "b"}``.
            `MISSING` takes a value away, `NONE` makes it None.
        who: for `history`; by default the user of this machine.
        why: likewise.

    Raises:
        NotFoundError: one is not in this namespace.
        InvalidInputError: a column is unknown or read-only, or a value cannot be.
        ConflictError, StoreError: see `apply_frame`.
    """
    pool = manager.sync
    how = {name: column(name) for name in cells}
    for name, each in how.items():
        if not each.editable or name == DELETED:
            raise InvalidInputError(
                f"column {name!r} cannot be set here; those of an edited frame can, but not 'deleted'"
            )
    pairs: list[tuple[Record | None, Record | None]] = []
    for record in rows_of(pool, experiences):
        row = ParsedRecord(record)
        said = {
            name: read_cell(each, cells[name], each.read(row), json=False, floats=False) for name, each in how.items()
        }
        if empty := [name for name, value in said.items() if value is EMPTY]:
            raise InvalidInputError(
                f"{empty[0]!r} is null: say MISSING to take the value away, or curation.NONE for None"
            )
        pairs.append((record, edited_row(pool, record, said)))
    return commit(pool, planned(pool.namespace, "relabel", pairs), who=who, why=why)


def quarantine(
    manager: ExpManager,
    experiences: Iterable[str | Experience],
    reason: str,
    *,
    descendants: bool = False,
    who: str | None = None,
) -> Change:
    """Quarantine experiences: curators see them, but they answer nothing and are shown to no function.

    What is drawn from them from now on is quarantined as they are.

    Args:
        manager: whose pool.
        experiences: which, or their ids.
        reason: for `history`.
        descendants: also what was drawn from them before, and from that; `curation.descendants` shows it.
        who: for `history`; by default the user of this machine.

    Raises:
        InvalidInputError: no reason.
        NotFoundError: one is not in this namespace.
        ConflictError, StoreError: see `apply_frame`.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise InvalidInputError(f"reason={reason!r} must say why; whoever looks at them later will want to know")
    pool, records = manager.sync, rows_of(manager.sync, experiences)
    if descendants:
        rows = pool.store.scan(RecordQuery(pool.namespace, history=True))
        records += rows_of(pool, descended(rows, [record.id for record in records]))
    return _trust(pool, "quarantine", records, Trust.QUARANTINED, who=who, why=reason)


def promote(
    manager: ExpManager, experiences: Iterable[str | Experience], *, who: str | None = None, why: str = ""
) -> Change:
    """Trust quarantined experiences again. Outcomes recorded before do not count against them any more.

    Args:
        manager: whose pool.
        experiences: which, or their ids.
        who: for `history`; by default the user of this machine.
        why: likewise.

    Raises:
        NotFoundError: one is not in this namespace.
        ConflictError, StoreError: see `apply_frame`.
    """
    return _trust(manager.sync, "promote", rows_of(manager.sync, experiences), Trust.TRUSTED, who=who, why=why)


def _trust(pool: Pool, what: str, records: Sequence[Record], trust: Trust, *, who: str | None, why: str) -> Change:
    pairs = [(record, replace(record, trust=trust.value)) for record in records]
    if trust is Trust.TRUSTED:
        pairs = [(before, vouched_for(after)) for before, after in pairs]
    return commit(pool, planned(pool.namespace, what, pairs), who=who, why=why)


def rows_of(pool: Pool, experiences: Iterable[str | Experience]) -> list[Record]:
    """Rows of these experiences, each once.

    Raises:
        NotFoundError: one is not in this namespace.
    """
    recover_unfinished(pool)
    ids = ids_of(experiences)
    found = pool.store.get_many(pool.namespace, ids, by="id")
    if unknown := [id_ for id_, record in zip(ids, found, strict=True) if record is None]:
        raise NotFoundError(f"no experience {', '.join(map(repr, unknown[:_NAMED]))} in namespace {pool.namespace!r}")
    return [record for record in found if record is not None]


def ids_of(experiences: Iterable[str | Experience]) -> list[str]:
    """Ids of these experiences, each once.

    Raises:
        InvalidInputError: one is neither an experience nor an id.
    """
    if isinstance(experiences, str | Experience):
        experiences = [experiences]
    if not isinstance(experiences, Iterable):
        raise InvalidInputError(f"{experiences!r:.80} is no list of experiences or ids; give one")
    ids = list(dict.fromkeys(each.id if isinstance(each, Experience) else each for each in experiences))
    if wrong := [id_ for id_ in ids if not isinstance(id_, str)]:
        raise InvalidInputError(f"{wrong[0]!r:.80} is neither an experience nor an id")
    return ids
