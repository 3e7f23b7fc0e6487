"""Protocols of record stores and cache tiers; `protocols` names all of it, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from exp_pool.core.contracts.rows import (
    Claim,
    Completion,
    Deletion,
    Evicted,
    EvictionOrder,
    IndexPartition,
    Lease,
    LogEntry,
    Names,
    Put,
    PutStatus,
    RecordQuery,
    RequestRow,
    State,
    Touch,
    Usage,
    VectorRow,
)
from exp_pool.core.record import Record, TaskKind, Vector

__all__ = [
    "AnnouncingStore",
    "CacheTier",
    "Capabilities",
    "RecordStore",
    "Ticket",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store promises; declared, never found out by failing."""

    durable: bool  # an acknowledged write survives a killed process
    shared: bool  # several processes may use it at once
    leases: bool  # claim, renew and release really exclude others
    blocking: bool = True  # calls may wait for I/O, so async callers reach it by a thread
    transactional_vectors: bool = True  # a vector is written in the same transaction as its record
    atomic_batches: bool = False  # a whole batch is written or none of it, beyond atomic per (namespace, key)


@runtime_checkable
class RecordStore(Protocol):
    """Where experiences live: the authority.

    Every row has its own id; at most one row per (namespace, key) is current. Nothing crosses a namespace: an id of
    another one is not found, and may be the same. Both sides treat rows as immutable. Text may hold any character, NUL
    and lone surrogates included, and comes back as it was. A batch is atomic per (namespace, key), not as a whole,
    unless `capabilities` say so; where one item fails by trouble, items before it may have been written. Thread-safe.
    After a fork the child opens its own connections.

    Opening is lazy: a constructor touches no file and no network. Every method raises `StoreError` on trouble (with the
    driver's error as its cause), after waiting for others at most the configured time-out, and never anything else.
    """

    capabilities: Capabilities

    def get_many(self, namespace: str, refs: Sequence[str], *, by: Literal["key", "id"] = "key") -> list[Record | None]:
        """The current rows of these keys, or the rows (history too) of these ids.

        In the order asked, None where absent.
        """
        ...

    def put_many(self, puts: Sequence[Put]) -> list[PutStatus]:
        """Write rows, as `Put` says; one status each, in order. Acknowledged means kept, as `capabilities` promise."""
        ...

    def delete_many(self, namespace: str, ids: Sequence[str]) -> list[str]:
        """Delete rows and leave tombstones.

        The ids that were there. A deleted current row is not replaced by history.
        """
        ...

    def usage(self, namespace: str) -> Usage:
        """How much the namespace holds."""
        ...

    def evict(self, namespace: str, order: EvictionOrder, count: int) -> list[Evicted]:
        """Delete up to so many rows, in one step: expired ones first, then history, then by the order. No tombstones.

        Protected rows (annotated, origin manual, kind insight) stay.
        """
        ...

    def clear(self, namespace: str) -> int:
        """Delete every row of the namespace, history too, and remember the time as its cut-off; how many there were.

        Logs of the namespace go, too; named states and leases stay.
        """
        ...

    def scan(
        self, query: RecordQuery, *, order_by: str = "created_at", descending: bool = False, limit: int | None = None
    ) -> Iterator[Record]:
        """Rows in the order of one column, ties in the order of insertion.

        No lock is held between rows; each row is seen at most once. `order_by` is one of `SCAN_ORDERS`. Rows without a
        value come first (last where descending).
        """
        ...

    def count(self, query: RecordQuery, *, limit: int | None = None) -> int:
        """How many rows; counting stops at `limit`."""
        ...

    def touch_many(self, namespace: str, touches: Sequence[Touch]) -> None:
        """Add to access counts. Changes no revision; rows that are gone are skipped."""
        ...

    def complete_many(self, completions: Sequence[Completion]) -> None:
        """Write down what maintenance did about pending tasks. Changes no revision."""
        ...

    def enqueue(self, query: RecordQuery, task: TaskKind) -> int:
        """Make this task due now on every current row of the query, with no tries behind it; how many rows."""
        ...

    def get_vectors(self, namespace: str, ids: Sequence[str]) -> list[Vector | None]:
        """The vectors of these rows, in the order asked."""
        ...

    def vectors_after(self, namespace: str, embedder: str, position: int, limit: int) -> list[VectorRow]:
        """What changed about vectors of this embedder after `position`, in order: new ones, and rows to forget.

        Positions grow with every change, and become visible in order: a reader that continues from the last position
        that it saw misses nothing. From position 0 it sees everything that is there.
        """
        ...

    def partitions(self, namespace: str | None = None) -> dict[IndexPartition, int]:
        """How many vectors there are of each (namespace, embedder), in one namespace or all."""
        ...

    def requests_after(self, namespace: str, position: int, limit: int) -> list[RequestRow]:
        """Current rows that came after `position`, in the order of insertion. Nothing is told of rows that are gone.

        Positions are visible in order, as those of `vectors_after`, and hold for as long as this store is open.
        """
        ...

    def claim(self, namespace: str, key: str, owner: str, ttl_s: float, passing: str | None = None) -> Claim:
        """Read and, where there is no current unexpired row, take the lease, in one step. The store's clock decides.

        A row of the id `passing` counts as if it were not there.
        """
        ...

    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        """The lease, extended from now; None where someone else has it."""
        ...

    def release(self, lease: Lease) -> None:
        """Give the lease back; nothing happens where someone else has it."""
        ...

    def read_state(self, namespace: str, name: str) -> State | None:
        """A named state: what judges, outcomes and the indexer must remember."""
        ...

    def write_state(self, namespace: str, name: str, value: str, expected_revision: int | None) -> bool:
        """Compare and swap: written if the revision is still the expected one (None: if there is none); else False."""
        ...

    def append_log(self, namespace: str, name: str, entries: Sequence[str]) -> int:
        """Append to a log; the position of the last entry. Positions grow."""
        ...

    def read_log(self, namespace: str, name: str, *, after: int = 0, limit: int = 1000) -> list[LogEntry]:
        """Entries after a position, oldest first."""
        ...

    def drop_logs(self, namespace: str, names: Sequence[str]) -> None:
        """Delete logs; unknown names are skipped. Positions of entries that come later still grow."""
        ...

    def names(self, namespace: str) -> Names:
        """What states and logs there are."""
        ...

    def deletions(self, namespace: str, *, after: str = "", limit: int = 1000) -> list[Deletion]:
        """What is remembered of deleted rows, in the order of their ids, after this one."""
        ...

    def cleared_at(self, namespace: str) -> int | None:
        """When the namespace was last cleared (microseconds); None: never."""
        ...

    def apply_tombstones(self, namespace: str, deletions: Sequence[Deletion], cleared_at: int | None = None) -> None:
        """Take over what another pool deleted: rows of these ids go, and REPLICATE is refused as after a deletion here.

        A `cleared_at` is taken over where it is later than that of this pool; rows that are here stay.
        """
        ...

    def tidy(self, forget_before: int) -> None:
        """What the store needs done every now and then; called by the worker after each round of work.

        What was remembered of deletions before that time (microseconds) is dropped: tombstones, rows to forget.
        """
        ...

    def vacuum(self) -> None:
        """Give back the space of what was deleted, so that none of its bytes is left. May take long, and block."""
        ...

    def namespaces(self) -> list[str]:
        """Every namespace of which something is kept: rows, deletions, states or logs; in order, without ``""``."""
        ...

    def repair(self) -> list[str]:
        """Keep what can be read, set aside what is damaged; what was done, in words. Nothing is deleted."""
        ...

    def check(self) -> list[str]:
        """What is damaged, in words for people, each with what to do; empty where nothing is. May take long."""
        ...

    def close(self) -> None:
        """Release everything. Closing twice is fine."""
        ...


@runtime_checkable
class AnnouncingStore(Protocol):
    """A record store that tells what other processes changed."""

    def changes(
        self, heard: Callable[[str, Sequence[str] | None], object], listening: Callable[[bool], object]
    ) -> Callable[[], None]:
        """Call `heard` with the namespace and the keys whose answers have changed; None: any of them.

        `listening` is told True from when on nothing is missed, and False when something may have been.

        Returns:
            what ends it.
        """
        ...


Ticket: TypeAlias = tuple[bytes, bytes]
"""The right to fill the place of a key in a cache tier, for as long as nobody begins to write about it."""


@runtime_checkable
class CacheTier(Protocol):
    """A fast cache in front of a store, shared by processes; its rows may be lost at any time.

    `contents` names what is in the store: under another name there is nothing. Every method raises `StoreError` on
    trouble, after the configured time-out at most.
    """

    def look(self, contents: str, namespace: str, keys: Sequence[str]) -> list[tuple[Record | None, Ticket | None]]:
        """For each key the cached row, else a ticket to `fill` it in with; neither while a write of the key is open."""
        ...

    def fill(self, contents: str, rows: Sequence[tuple[Record, Ticket]]) -> None:
        """Cache rows that were read from the store, each unless a write has made its ticket void."""
        ...

    def begin(self, contents: str, namespace: str, keys: Sequence[str]) -> bytes:
        """Open a write of these keys, or of the whole namespace without keys, and drop what is cached of them.

        Returns the mark for `end`.
        """
        ...

    def end(
        self, contents: str, namespace: str, keys: Sequence[str], mark: bytes, rows: Sequence[Record | None] = ()
    ) -> None:
        """Close the write that `begin` opened and cache the new rows, unless another write of the keys began since.

        A write that is never closed expires.

        Args:
            contents: the name of the store's contents, as `begin` got it.
            namespace: the namespace of the keys.
            keys: the keys that were written; none: the whole namespace was.
            mark: what `begin` returned.
            rows: the new row of each key, None where it is not known; empty where none is.
        """
        ...

    def close(self) -> None:
        """Release everything. Closing twice is fine."""
        ...
