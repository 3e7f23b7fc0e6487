"""What experiences owe to those that were shown when they were made: they are trusted no more than these."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from exp_pool.experience import Trust
from exp_pool.protocols import RecordStore
from exp_pool.records import Record

_NO_PARENTS = "[]"


def with_inherited_trust(store: RecordStore, records: Sequence[Record]) -> list[Record]:
    """The rows as they may be stored: one with a quarantined parent, in the store or among them, is quarantined.

    Whoever poisons one experience would otherwise reach every answer that was drawn from it. Nothing else changes
    trust, and only a person gives it back; a parent that is gone takes nothing with it.

    Raises:
        StoreError: the store failed.
    """
    parents = {_place(row): json.loads(row.parents) for row in records if row.parents != _NO_PARENTS}
    if not parents:
        return list(records)
    quarantined = {_place(row) for row in records if row.trust != Trust.TRUSTED}
    wanted: dict[str, dict[str, None]] = {}  # ids by namespace; dicts, because their order is that of the rows
    for (namespace, _), ids in parents.items():
        wanted.setdefault(namespace, {}).update(dict.fromkeys(ids))
    for namespace, ids in wanted.items():
        found = store.get_many(namespace, list(ids), by="id")
        quarantined |= {_place(row) for row in found if row is not None and row.trust != Trust.TRUSTED}
    while newly := {
        (namespace, id_)
        for (namespace, id_), ids in parents.items()
        if (namespace, id_) not in quarantined and any((namespace, parent) in quarantined for parent in ids)
    }:
        quarantined |= newly
    return [replace(row, trust=Trust.QUARANTINED.value) if _place(row) in quarantined else row for row in records]


def _place(row: Record) -> tuple[str, str]:
    return row.namespace, row.id
