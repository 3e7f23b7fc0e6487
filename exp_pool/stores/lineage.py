"""Lineage: trust is inherited from parents, and descendants of an experience can be found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from exp_pool.core.contracts.plugs import RecordStore
from exp_pool.core.experience import Trust
from exp_pool.core.record import Record

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


class Descent(NamedTuple):
    """How a row descends from others: its kind, over how many generations, and through which parents."""

    kind: str
    generation: int
    parents: tuple[str, ...]


def descended(rows: Iterable[Record], ids: Iterable[str]) -> dict[str, Descent]:
    """The rows of a namespace that descend from these ids, by id, the nearest first; never these themselves."""
    drawn: dict[str, tuple[str, list[str]]] = {}
    children: dict[str, list[str]] = {}
    for row in rows:
        if row.parents != _NO_PARENTS:
            drawn[row.id] = row.kind, json.loads(row.parents)
            for parent in drawn[row.id][1]:
                children.setdefault(parent, []).append(row.id)
    generation = dict.fromkeys(ids, 0)
    reached = list(generation)
    for id_ in reached:  # grows, a generation at a time
        for child in children.get(id_, ()):
            if child not in generation:
                generation[child] = generation[id_] + 1
                reached.append(child)
    return {
        id_: Descent(drawn[id_][0], generation[id_], tuple(p for p in drawn[id_][1] if p in generation))
        for id_ in reached
        if generation[id_]
    }


def _place(row: Record) -> tuple[str, str]:
    return row.namespace, row.id
