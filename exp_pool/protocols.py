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

if TYPE_CHECKING:
    import numpy as np

    from exp_pool.filters import Condition
    from exp_pool.records import Duty, Record, Vector


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


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """Which rows. `namespace` None means all of them: for upkeep only, never on behalf of a caller."""

    namespace: str | None
    where: tuple[Condition, ...] = ()
    history: bool = False  # rows that are no longer current, too
    expired: bool = True  # rows past `expires_at`, too
    quarantined: bool = True  # rows not trusted, too
    owed: Duty | None = None  # only rows that owe this by now


class PutMode(StrEnum):
    """How a row is written."""

    INSERT = "insert"
    UPDATE = "update"
    REPLICATE = "replicate"


@dataclass(frozen=True, slots=True)
class Put:
    """One row to write.

    INSERT adds a row. It becomes the current one of its (namespace, key) and the row that was current becomes history
    (``superseded_by`` names the new one; its vector is removed and nothing is owed to it any more). Where the current
    row is annotated and the new one is not, and is automatic or refined, it is stored as history instead. UPDATE
    replaces the content of a row that has `expected_revision`: everything but id, namespace, function, version, key,
    request, arguments, created_at, principal, currency, access counts, and what upkeep settles. The revision goes up
    by one.
    REPLICATE is an INSERT that comes from another pool: it is refused where this pool has deleted the id, or everything
    that was created up to then.
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
class Settlement:
    """What upkeep did about one duty of one current row. Ignored where the row is gone or owes the duty no longer.

    Not done: `retry_at` (microseconds) says when to try again, and the tries go up by one. Done with a vector (EMBED):
    the vector is stored in the same transaction, and INDEX becomes owed where `then_index`.
    """

    namespace: str
    id: str
    duty: Duty
    done: bool = True
    vector: Vector | None = None
    then_index: bool = False
    generation: str | None = None
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


class State(NamedTuple):
    """A small named value with its revision."""

    value: str
    revision: int


class LogEntry(NamedTuple):
    """One entry of an append-only log."""

    position: int
    entry: str


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

        Named states, logs and leases of the namespace stay.
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

    def close(self) -> None:
        """Release everything. Closing twice is fine."""
        ...


SCAN_ORDERS = ("created_at", "last_access", "access_count", "score", "expires_at", "size_bytes", "function")


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

    It gets ids, vectors and scope, never texts. Whatever it answers is joined back to the store, so a row too many
    costs nothing and a row too few is found again by exact scan. Thread-safe. Every method raises `VectorIndexError` on
    trouble.
    """

    derived: bool
    """Whether rows must be handed to it; False where it reads the store's vectors itself, or finds nothing."""

    def generation(self) -> str:
        """Names what it holds: another one, and every row is handed to it again. ``""`` where it is not derived."""
        ...

    def upsert_many(self, rows: Sequence[VectorRow]) -> None:
        """Add or replace rows, each with its vector; they may be of several namespaces and embedders."""
        ...

    def delete_many(self, namespace: str, ids: Sequence[str]) -> None:
        """Forget rows; unknown ids are skipped."""
        ...

    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        """For each query vector at most `limit` neighbours, nearest first."""
        ...

    def clear(self, namespace: str) -> None:
        """Forget the whole namespace."""
        ...

    def close(self) -> None:
        """Release everything. Closing twice is fine."""
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


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in the pool. `detail` is for people; it never holds a request or a response."""

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
