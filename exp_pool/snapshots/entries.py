"""Snapshot entries: the state of one row, or a deletion; and which of two states is the later one.

`snapshots.format` says how an entry stands in a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from exp_pool.core.contracts.rows import audit_entry
from exp_pool.core.experience import Trust
from exp_pool.core.record import Record
from exp_pool.runtime.clock import to_us

LOADED = "loaded"  # what audit logs say of a state that came from a snapshot; it stays on this node
# What may change about a row without its becoming another one.
CHANGEABLE = (
    "expires_at response expected codec kind trust scores score metric trajectory model strategy parents metadata"
).split()


class Rank(NamedTuple):
    """Rank of a state (see `rank`); earlier fields decide first."""

    edited_at: int
    annotated: bool
    scores: int
    revision: int
    content: str


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    """State of a row in a file.

    Attributes:
        record: without a namespace; its `revision` is that of the state, which all nodes count alike.
        log: what people and rules said and changed about it, as audit logs keep it, oldest first.
    """

    record: Record
    log: tuple[str, ...] = ()

    @property
    def rank(self) -> Rank:
        """Rank of the state, see `rank`."""
        return rank(self.record, self.log, self.record.revision)


@dataclass(frozen=True, slots=True)
class SnapshotDeletion:
    """Deletion of a row; `id` ``""``: of everything that was created up to then."""

    id: str
    at: int  # microseconds


def rank(record: Record, log: Sequence[str], revision: int) -> Rank:
    """Rank of a state of a row. Of two states the higher one is later: a total order that is the same on all nodes.

    What a person changed last is the latest, then what a person annotated, what more scorers scored, what was changed
    more often. Trust has no part in it (see `merged_trust`), but for the last: it raises revisions like scores do.

    Args:
        record: the state.
        log: entries of its audit log, oldest first.
        revision: of the state, counted on all nodes.
    """
    content = json.dumps([_plain(record, name) for name in CHANGEABLE if name != "trust"], separators=(",", ":"))
    return Rank(
        last(log, _by_a_person),
        record.annotated,
        len(json.loads(record.scores)),
        revision,
        hashlib.sha256(content.encode()).hexdigest(),
    )


def _plain(record: Record, name: str) -> Any:
    """Value of a column; of the response the JSON value, because a file does not keep how its text was written."""
    value = getattr(record, name)
    return json.loads(value) if name == "response" and value is not None else value


def revision_of(record: Record, log: Sequence[str]) -> int:
    """Revision of a row as counted on all nodes. A state that came from another node was counted there."""
    for text in reversed(log):
        entry = json.loads(text)
        if entry["what"] == LOADED:
            return int(entry["revision"]) + record.revision - int(entry["here"])
    return record.revision


def loaded_entry(id_: str, revision: int, here: int) -> str:
    """Audit entry which says that the state of a row came from another node.

    Args:
        id_: of the row.
        revision: of the state, counted on all nodes.
        here: its revision in this store.
    """
    return audit_entry(LOADED, id_, revision=revision, here=here)


def merged_trust(log: Iterable[str], *trusts: str) -> str:
    """Trust of a row that has several states: what was said about its trust last, whoever changed other fields since.

    An edit of other fields on one node would otherwise lift the quarantine that another one set meanwhile. Where nobody
    said anything, one state that is not trusted is enough.
    """
    words = [
        (datetime.fromisoformat(entry["at"]), entry["trust"] != Trust.TRUSTED)
        for entry in map(json.loads, log)
        if "trust" in entry
    ]
    out_of_use = max(words)[1] if words else any(trust != Trust.TRUSTED for trust in trusts)
    return (Trust.QUARANTINED if out_of_use else Trust.TRUSTED).value


def missing_trust_entry(record: Record, log: Sequence[str]) -> list[str]:
    """Audit entry that is missing where a row's trust is not what was said about it last.

    A process died between the change and its word, or trust was inherited from new parents.
    """
    if not any("trust" in json.loads(text) for text in log) or merged_trust(log) == record.trust:
        return []
    return [audit_entry("trust", record.id, trust=record.trust)]


def restored_at(log: Sequence[str]) -> int:
    """When a deletion of the row was last undone (microseconds); 0: never."""
    return last(log, lambda entry: entry.get("deed") == "restore")


def last(log: Sequence[str], which: Any) -> int:
    """When the last of these entries was written (microseconds); 0: there is none."""
    moments = (datetime.fromisoformat(entry["at"]) for entry in map(json.loads, log) if which(entry))
    return max(map(to_us, moments), default=0)


def _by_a_person(entry: Mapping[str, Any]) -> bool:
    return entry["what"] in ("annotate", "update") or ("change" in entry and entry.get("fields") != ["trust"])
