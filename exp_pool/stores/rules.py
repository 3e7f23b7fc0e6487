"""Rules of every store, on rows: what INSERT and UPDATE come to, what a query matches, what is evicted first."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from exp_pool.core.contracts.plugs import Completion, EvictionOrder, Put, PutStatus, RecordQuery
from exp_pool.core.filters import holds
from exp_pool.core.record import Record

# What an UPDATE leaves alone; see `Put`.
_KEPT_BY_UPDATE = frozenset(
    "id namespace function version key request request_hash arguments reuse_scope created_at is_current superseded_by "
    "last_access access_count embed_due embed_tries score_due score_tries principal".split()
)
CONTENT = tuple(f.name for f in fields(Record) if f.name not in _KEPT_BY_UPDATE and f.name != "revision")
_AUTOMATIC = ("automatic", "refined", "imported")  # nobody looked at it: it takes no annotated answer's place


@dataclass(frozen=True, slots=True)
class Decision:
    """What an INSERT comes to: the row as it is to be stored, and the id of the row that becomes history."""

    status: PutStatus
    record: Record
    supersedes: str | None = None


def decide(put: Put, current: str | None, *, annotated: bool) -> Decision:
    """What becomes of a row that may be inserted.

    Args:
        put: an INSERT or REPLICATE of an id that is not there.
        current: the id of the row that is current now, if there is one.
        annotated: whether a person said what its answer should be (and it can be read).
    """
    new, supersedes = put.record, None
    if new.is_current and current is not None:
        if annotated and not new.annotated and new.origin in _AUTOMATIC:
            new = replace(new, is_current=False, superseded_by=current)
        else:
            supersedes = current
    if not new.is_current:
        return Decision(PutStatus.HISTORY, replace(new, embed_due=None, score_due=None))
    return Decision(PutStatus.CURRENT, new, supersedes)


def to_history(row: Record, successor: str) -> Record:
    """The row once another one is current. Its vector goes, too."""
    return replace(
        row, is_current=False, superseded_by=successor, revision=row.revision + 1, embed_due=None, score_due=None
    )


def updated(old: Record, new: Record) -> Record:
    """The row after an UPDATE to this content."""
    return replace(old, **{name: getattr(new, name) for name in CONTENT}, revision=old.revision + 1)


def is_pending(row: Record, completion: Completion) -> bool:
    """Whether the task is still pending on the row."""
    return row.is_current and getattr(row, f"{completion.task.value}_due") is not None


def complete(row: Record, completion: Completion) -> Record:
    """The row once its pending task was done or put off."""
    task = completion.task.value
    tries = 0 if completion.done else getattr(row, f"{task}_tries") + 1
    changes: dict[str, object] = {
        f"{task}_due": None if completion.done else completion.retry_at,
        f"{task}_tries": tries,
    }
    return replace(row, **changes)  # type: ignore[arg-type]


def matches(row: Record, query: RecordQuery, now: int) -> bool:
    """Whether a query finds the row.

    Args:
        row: the row.
        query: the query.
        now: the time in microseconds, for expiry and pending tasks.
    """
    return (
        (query.namespace is None or row.namespace == query.namespace)
        and (query.history or row.is_current)
        and (query.expired or not row.expired(now))
        and (query.quarantined or row.trust == "trusted")
        and (query.pending is None or (row.is_current and (getattr(row, f"{query.pending}_due") or now + 1) <= now))
        and all(holds(condition, row) for condition in query.where)
    )


def order_of(value: float | str | None) -> tuple[bool, float | str]:
    """Sorts the values of a column: what has none comes first."""
    return (value is not None, value if value is not None else 0)


def eviction_sort_key(row: Record, order: EvictionOrder, now: int) -> tuple[int, ...]:
    """Sort key of rows for eviction, the first to be evicted first; ties stay in the order of insertion.

    Args:
        row: a row that is not protected.
        order: the eviction policy.
        now: the time in microseconds: what has expired goes first.
    """
    used = row.created_at if row.last_access is None else row.last_access
    first = (not row.expired(now), row.is_current)
    match order:
        case EvictionOrder.LRU:
            return (*first, used)
        case EvictionOrder.LFU:
            return (*first, row.access_count, used)
        case EvictionOrder.FIFO:
            return (*first, row.created_at)
        case EvictionOrder.TTL:
            return (*first, row.expires_at is None, row.expires_at or row.created_at)
