"""What a plug must offer. Whoever writes a store, an index, an embedder, a judge, a scorer or a codec reads this file.

All of it is plain synchronous code. Batches only: a single call is a batch of one. Stores and indexes see rows, never
user objects, and must be safe to call from several threads at once. Scorers, judges and embedders may be ``def`` or
``async def``. What a plug raises never reaches a decorated call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from exp_pool.experience import MISSING, Experience, Hit, Score
from exp_pool.records import Duty, Record, Vector
from exp_pool.rows import (
    SCAN_ORDERS,
    Claim,
    Deletion,
    Evicted,
    EvictionOrder,
    Lease,
    LogEntry,
    Names,
    Put,
    PutMode,
    PutStatus,
    RecordQuery,
    RequestRow,
    Settlement,
    Space,
    State,
    Touch,
    Usage,
    VectorRow,
)

if TYPE_CHECKING:
    import numpy as np

__all__ = [  # the words of `rows` too, so that whoever writes a plug needs this module only
    "SCAN_ORDERS",
    "AnnouncingStore",
    "Capabilities",
    "Claim",
    "Codec",
    "ContextBuilder",
    "Deletion",
    "Embedder",
    "Event",
    "EventKind",
    "Evicted",
    "EvictionOrder",
    "Judge",
    "Lease",
    "LogEntry",
    "Names",
    "Neighbour",
    "Observer",
    "Put",
    "PutMode",
    "PutStatus",
    "Question",
    "RecordQuery",
    "RecordStore",
    "RenewableIndex",
    "RequestRow",
    "ScoreContext",
    "Scorer",
    "SearchingStore",
    "Settlement",
    "Space",
    "State",
    "Touch",
    "Usage",
    "VectorIndex",
    "VectorQuery",
    "VectorRow",
    "Verdict",
]


# ── Record store ──────────────────────────────────────────────────────────────────────────────────────────────────────


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

    def settle_many(self, settlements: Sequence[Settlement]) -> None:
        """Write down what upkeep did. Changes no revision."""
        ...

    def owe(self, query: RecordQuery, duty: Duty) -> int:
        """Make every current row of the query owe this duty from now on, with no tries behind it; how many rows."""
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

    def spaces(self, namespace: str | None = None) -> dict[Space, int]:
        """How many vectors there are of each (namespace, embedder), in one namespace or all."""
        ...

    def requests_after(self, namespace: str, position: int, limit: int) -> list[RequestRow]:
        """Current rows that came after `position`, in the order of insertion. Nothing is told of rows that are gone.

        Positions are visible in order, as those of `vectors_after`, and hold for as long as this store is open.
        """
        ...

    def claim(self, namespace: str, key: str, owner: str, ttl_s: float) -> Claim:
        """Read and, where there is no current unexpired row, take the lease, in one step. The store's clock decides."""
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

    def cutoff(self, namespace: str) -> int | None:
        """When the namespace was last cleared (microseconds); None: never."""
        ...

    def bury(self, namespace: str, deletions: Sequence[Deletion], cutoff: int | None = None) -> None:
        """Take over what another pool deleted: rows of these ids go, and REPLICATE is refused as after a deletion here.

        A `cutoff` is taken over where it is later than that of this pool; rows that are here stay.
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


# ── Vector index and embedder ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """A nearest-neighbour search. What is given restricts the rows before they are ranked."""

    namespace: str
    embedder: str
    vectors: np.ndarray  # (m, d) float32, unit length
    limit: int
    function: str | None = None
    version: str | None = None
    reuse_scope: str | None = None


class Neighbour(NamedTuple):
    """A row's id and its cosine similarity, -1 to 1, as the index sees it."""

    id: str
    similarity: float


@runtime_checkable
class VectorIndex(Protocol):
    """Similarity over vectors: derived from the record store, may be thrown away and rebuilt at any time.

    It gets ids, vectors and scope, never texts. `upkeep.follower` hands it everything that `RecordStore.vectors_after`
    tells, in order, and remembers in the store how far that went for each space and generation. Whatever it answers is
    joined back to the store, so a row too many costs nothing; what it does not have yet is scanned. Where it has a
    method `count` as `RenewableIndex` has, rows that it lost are noticed. Thread-safe. Every method raises
    `VectorIndexError` on trouble.
    """

    derived: bool
    """Whether rows must be handed to it; False where it reads the store's vectors itself, or finds nothing."""

    def generation(self, space: Space, pool: str) -> str:
        """Take hold of what it has of a space of this pool, and name it: another name, and all is handed over again.

        Raises:
            VectorIndexError: it is another process's or another pool's, or cannot be opened.
        """
        ...

    def upsert_many(self, space: Space, rows: Sequence[VectorRow]) -> None:
        """Add or replace rows, each with its vector."""
        ...

    def delete_many(self, space: Space, ids: Sequence[str]) -> None:
        """Forget rows; unknown ids are skipped, and an id may stand there twice."""
        ...

    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        """For each query vector at most `limit` neighbours, nearest first."""
        ...

    def clear(self, namespace: str, pool: str) -> None:
        """Forget the whole namespace of this pool, so that no byte of it is left."""
        ...

    def close(self) -> None:
        """Release everything. Closing twice is fine."""
        ...


@runtime_checkable
class SearchingStore(Protocol):
    """A record store whose engine finds neighbours among the vectors that it keeps."""

    def search_from(self, index_from: int) -> None:
        """From now on it is asked: spaces of so many vectors get an index. Touches nothing yet."""
        ...

    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        """See `VectorIndex.search`.

        Raises:
            StoreError: on trouble, or the engine cannot.
        """
        ...


@runtime_checkable
class RenewableIndex(VectorIndex, Protocol):
    """A derived index of files of its own, which may be damaged, and which is then built anew beside the old."""

    def doubt(self, space: Space) -> str:
        """Why what it holds may be damaged; ``""`` where nothing says so."""
        ...

    def findable(self, space: Space) -> set[str] | None:
        """The ids that searching can find, asked in a process that may die of it; None where it does or cannot say."""
        ...

    def believe(self, space: Space) -> None:
        """What was found is all that should be there: it is in doubt no longer."""
        ...

    def count(self, space: Space) -> int:
        """How many rows it has."""
        ...

    def renew(self, space: Space) -> str:
        """Begin a new generation, which is filled from now on; the old one, if it is sound, answers until `complete`.

        Returns:
            its name.
        """
        ...

    def complete(self, space: Space) -> None:
        """Everything has been handed over: the generation being filled answers from now on, the old one is removed."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Text to vectors. Vectors of different embedders are never compared."""

    identity: str
    """Name, revision and dimension: equal exactly if the vectors may be compared."""

    def embed(self, texts: Sequence[str]) -> np.ndarray | Awaitable[np.ndarray]:
        """(n, d) floats, one row a text, in order; any length (they are brought to unit length), all finite."""
        ...

    def fits(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is read whole; what is cut off is never answered by similarity."""
        ...


# ── Judge, context, scorer, codec, observer ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Question:
    """What a judge decides: may one of these hits answer the request?

    `hits` are of the same namespace, function, version and reuse scope, trusted, fresh, whole, and good enough where
    the call has a `min_score`: the identical request alone (similarity 1.0, ``found_by`` exact) where it is stored,
    else similar ones by falling similarity.
    """

    function: str
    request: str
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's decision: the hit that answers, or None to abstain; and why, for people."""

    hit: Hit | None
    reason: str = ""


@runtime_checkable
class Judge(Protocol):
    """Decides whether a stored experience may answer a call. One that raises has abstained."""

    candidates: int
    """How many similar experiences it wants to see; 0: identical requests only, and nothing is embedded."""

    def judge(self, question: Question) -> Verdict | Awaitable[Verdict]:
        """The verdict. Pure, or ``async def`` where it asks someone."""
        ...


@runtime_checkable
class ContextBuilder(Protocol):
    """Writes similar experiences into the request text that the function gets."""

    limit: int
    """How many experiences it wants."""

    def build(self, request: str, experiences: Sequence[Experience]) -> str:
        """The request text with the experiences; called only where there are some."""
        ...


@dataclass(frozen=True, slots=True)
class ScoreContext:
    """What a scorer gets: the experience, the function where this process has decorated it, the value typed."""

    experience: Experience
    function: Callable[..., Any] | None = None
    value: Any = MISSING


class Scorer(Protocol):
    """Rates an experience. A callable; attributes `name` and `version`, where it has them, label its scores."""

    def __call__(self, context: ScoreContext, /) -> Score | Awaitable[Score]:
        """The score. Raising leaves the experience unscored, to be tried again later."""
        ...


@runtime_checkable
class Codec(Protocol):
    """A response as JSON text and back, typed. Pure, no I/O."""

    name: str
    """Stored with each record, so that a record is only read by the codec that wrote it."""

    def encode(self, value: Any) -> str:
        """JSON text. Raises `EncodingError` for what `decode` could not restore."""
        ...

    def decode(self, text: str) -> Any:
        """The value. Raises `DecodingError`."""
        ...


class EventKind(StrEnum):
    """What observers hear of."""

    HIT = "hit"
    MISS = "miss"
    STORE = "store"
    EVICT = "evict"
    DEGRADE = "degrade"
    REBUILD = "rebuild"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in the pool. `detail` is for people; it never holds a request or a response.

    A REBUILD of the index is told of every 2,000 rows: `detail` has `done` and `total`.
    """

    kind: EventKind
    namespace: str = ""
    function: str = ""
    key: str = ""
    id: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Observer(Protocol):
    """Hears of every event, on the thread where it happens; must be quick. What it raises is logged and skipped."""

    def notify(self, event: Event) -> None:
        """One event."""
        ...
