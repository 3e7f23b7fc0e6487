"""Data types of the store protocols: rows to write, queries, what became of them, leases, states, logs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from exp_pool.core.filters import Condition
from exp_pool.core.record import Record, TaskKind, Vector
from exp_pool.core.values.encoding import to_plain
from exp_pool.runtime.clock import now

__all__ = [
    "SCAN_ORDERS",
    "Claim",
    "Completion",
    "Deletion",
    "Evicted",
    "EvictionOrder",
    "IndexPartition",
    "Lease",
    "LogEntry",
    "Names",
    "Put",
    "PutMode",
    "PutStatus",
    "RecordQuery",
    "RequestRow",
    "State",
    "Touch",
    "Usage",
    "VectorRow",
]  # fmt: skip

SCAN_ORDERS = ("created_at", "last_access", "access_count", "score", "expires_at", "size_bytes", "function")


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """Which rows. `namespace` None means all of them: for maintenance only, never on behalf of a caller."""

    namespace: str | None
    where: tuple[Condition, ...] = ()
    history: bool = False  # rows that are no longer current, too
    expired: bool = True  # rows past `expires_at`, too
    quarantined: bool = True  # rows not trusted, too
    pending: TaskKind | None = None  # only rows on which this is due by now


class PutMode(StrEnum):
    """How a row is written."""

    INSERT = "insert"
    UPDATE = "update"
    REPLICATE = "replicate"


@dataclass(frozen=True, slots=True)
class Put:
    """One row to write.

    INSERT adds a row. It becomes the current one of its (namespace, key) and the row that was current becomes
    history (``superseded_by`` names the new one; its vector is removed and no task is pending on it any more). Where
    the current row is annotated and the new one is not, and is automatic, refined or imported, it is stored as
    history instead. UPDATE replaces the content of a row that has `expected_revision`: everything but id,
    namespace, function, version, key, request, arguments, created_at, principal, currency, access counts, and what
    maintenance completes. The revision goes up by one. REPLICATE is an INSERT that comes from another pool: it is
    refused where this pool has deleted the id, or everything that was created up to then.
    """

    record: Record
    mode: PutMode = PutMode.INSERT
    vector: Vector | None = None
    expected_revision: int | None = None
    lease: Lease | None = None  # INSERT: refused once someone else has taken it over, else given back with the write


class PutStatus(StrEnum):
    """What became of one row."""

    CURRENT = "current"
    HISTORY = "history"
    CONFLICT = "conflict"  # INSERT: the id is taken. UPDATE: the row is gone, or has another revision
    STALE = "stale"  # the lease was taken over
    DELETED = "deleted"  # REPLICATE: it was deleted here


class EvictionOrder(StrEnum):
    """Which rows go first, among those that have not expired."""

    LRU = "lru"  # the longest unused; a row that was never used counts from its creation
    LFU = "lfu"  # the least often used, of these the longest unused
    FIFO = "fifo"  # the oldest
    TTL = "ttl"  # the soonest to expire; those that never do last, the oldest first


class Evicted(NamedTuple):
    """A row that was evicted."""

    id: str
    function: str
    key: str
    size_bytes: int


class Usage(NamedTuple):
    """What a namespace holds: rows, history too, and the sum of their `size_bytes`."""

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What maintenance did about a pending task of a current row. Ignored where the row is gone or the task is done.

    Not done: `retry_at` (microseconds) says when to try again, and the tries go up by one. Done with a vector (EMBED):
    the vector is stored in the same transaction.
    """

    namespace: str
    id: str
    task: TaskKind
    done: bool = True
    vector: Vector | None = None
    retry_at: int | None = None


@dataclass(frozen=True, slots=True)
class Touch:
    """A row was used `count` times, last at `last_access` (microseconds)."""

    id: str
    count: int
    last_access: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to compute one key. `token` grows with every lease of the key: the fencing token."""

    namespace: str
    key: str
    owner: str
    token: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Either the current row, or the lease, or neither: then someone else holds the lease."""

    record: Record | None = None
    lease: Lease | None = None


class IndexPartition(NamedTuple):
    """Where vectors can be compared: the tenant's, and of one embedder."""

    namespace: str
    embedder: str


@dataclass(frozen=True, slots=True)
class VectorRow:
    """A vector with what an index may filter by. `vector` None: the row is gone or history, forget it."""

    id: str
    namespace: str
    function: str
    version: str
    reuse_scope: str
    position: int
    vector: Vector | None


class RequestRow(NamedTuple):
    """The text of a current row's request, for those who look for words in it."""

    id: str
    function: str
    version: str
    request: str
    position: int


class Deletion(NamedTuple):
    """A row that was deleted, and when (microseconds)."""

    id: str
    deleted_at: int


class Names(NamedTuple):
    """The named states and the logs of a namespace, in order."""

    states: list[str]
    logs: list[str]


class State(NamedTuple):
    """A small named value with its revision."""

    value: str
    revision: int


def audit_log(id_: str) -> str:
    """The log of what people and rules said and changed about an experience. It goes when the experience does."""
    return f"audit:{id_}"


def unscored_log(id_: str) -> str:
    """The log of why an experience has no score. It goes when the experience gets one, or is deleted."""
    return f"unscored:{id_}"


def logs_of(ids: Iterable[str]) -> list[str]:
    """The names of all logs of these experiences: what is to be dropped when they are deleted."""
    return [log(id_) for id_ in ids for log in (audit_log, unscored_log)]


def audit_entry(what: str, id_: str, **detail: Any) -> str:
    """One entry of such a log."""
    entry = {"what": what, "id": id_, "at": now().isoformat(), **detail}
    return json.dumps(to_plain(entry), ensure_ascii=True)


class LogEntry(NamedTuple):
    """One entry of an append-only log."""

    position: int
    entry: str
