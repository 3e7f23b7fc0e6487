"""Protocols of plugs: index, embedder, judge, context builder, scorer, codec, observer; stores are in `stores`.

All of it is plain synchronous code. Batches only: a single call is a batch of one. Stores and indexes see rows, never
user objects, and must be safe to call from several threads at once. Scorers, judges and embedders may be ``def`` or
``async def``. What a plug raises never reaches a decorated call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from exp_pool.core.contracts import rows, stores
from exp_pool.core.contracts.rows import *  # noqa: F403  (all that it lists in `__all__`)
from exp_pool.core.contracts.rows import IndexPartition, VectorRow
from exp_pool.core.contracts.stores import *  # noqa: F403  (likewise)
from exp_pool.core.experience import MISSING, Experience, Score
from exp_pool.core.results import Hit

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "Codec", "ContextBuilder", "Embedder", "Event", "EventKind", "Judge", "Neighbour", "Observer", "Question",
    "RenewableIndex", "ScoreContext", "Scorer", "SearchingStore", "Spending", "VectorIndex", "VectorQuery", "Verdict",
]  # fmt: skip
__all__ += rows.__all__ + stores.__all__  # whoever writes a plug needs this module only


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

    It gets ids, vectors and scope, never texts. `maintenance.index_sync` hands it everything that
    `RecordStore.vectors_after` tells, in order, and remembers in the store how far that went for each partition and
    generation. Whatever it answers is joined back to the store, so a row too many costs nothing; what it does not have
    yet is scanned. Where it has a method `count` as `RenewableIndex` has, rows that it lost are noticed. Thread-safe.
    Every method raises `VectorIndexError` on trouble.
    """

    derived: bool
    """Whether rows must be handed to it; False where it reads the store's vectors itself, or finds nothing."""

    def generation(self, partition: IndexPartition, pool: str) -> str:
        """Open what the index has of a partition of this pool, and name it. A new name: all rows are handed over again.

        Raises:
            VectorIndexError: it is another process's or another pool's, or cannot be opened.
        """
        ...

    def upsert_many(self, partition: IndexPartition, rows: Sequence[VectorRow]) -> None:
        """Add or replace rows, each with its vector."""
        ...

    def delete_many(self, partition: IndexPartition, ids: Sequence[str]) -> None:
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
        """From now on it is asked: partitions of so many vectors get an index. Touches nothing yet."""
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

    def doubt(self, partition: IndexPartition) -> str:
        """Why what it holds may be damaged; ``""`` where nothing says so."""
        ...

    def findable(self, partition: IndexPartition) -> set[str] | None:
        """The ids that searching can find, asked in a process that may die of it; None where it does or cannot say."""
        ...

    def believe(self, partition: IndexPartition) -> None:
        """What was found is all that should be there: it is in doubt no longer."""
        ...

    def count(self, partition: IndexPartition) -> int:
        """How many rows it has."""
        ...

    def renew(self, partition: IndexPartition) -> str:
        """Begin a new generation, which is filled from now on; the old one, if it is sound, answers until `complete`.

        Returns:
            its name.
        """
        ...

    def complete(self, partition: IndexPartition) -> None:
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
        """Whether each text is read whole, every word of it; what is not is never answered by similarity."""
        ...


@runtime_checkable
class LanguageAwareEmbedder(Protocol):
    """An embedder that knows its vocabulary offers this, too."""

    def reads(self, texts: Sequence[str]) -> list[bool]:
        """Whether it knows the language of each text. Asked only of those that it does not read whole."""
        ...


# ── Judge, context, scorer, codec, observer ───────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Question:
    """What a judge decides: may one of these hits answer the request?

    `hits` are of the same namespace, function, version and reuse scope, trusted, fresh, whole, and good enough where
    the call has a `min_score`: the identical request alone (similarity 1.0, ``found_by`` exact) where it is stored,
    else similar ones by falling similarity. Where two texts share most of what they say, such as instructions in front
    of the question, the similarity is that of what they do not share.
    """

    function: str
    request: str
    hits: tuple[Hit, ...]
    memory: Any = None  # what a judge that learns remembers of this function


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's decision: the hit that answers, or None to abstain; and why, for people.

    The rest is for judges that learn. `example` is what is to be learned from this call, about the hit that was
    `considered`. `live`: the hit would answer, but the function is to run all the same, to see what it says.
    """

    hit: Hit | None
    reason: str = ""
    considered: Hit | None = None
    example: Any = None
    live: bool = False


@runtime_checkable
class Judge(Protocol):
    """Decides whether a stored experience may answer a call.

    One that raises has abstained, and so has one that gives no verdict within `judge_timeout`. A judge whose class has
    ``pure = True`` promises to wait for nobody: it is asked on the caller's thread. Any other ``def judge`` is asked on
    a thread of its own, with the caller's context variables; ``async def judge`` on the package's background loop.
    """

    candidates: int
    """How many similar experiences it wants to see; 0: identical requests only, and nothing is embedded."""

    def judge(self, question: Question) -> Verdict | Awaitable[Verdict]:
        """The verdict. Pure, or ``async def`` where it asks someone."""
        ...


@runtime_checkable
class ContextBuilder(Protocol):
    """Writes similar experiences into the request text that the function gets.

    One with a `selection`, as `reuse.selection.Selective` says, also decides which ones these are.
    """

    limit: int
    """How many experiences it wants."""

    def build(self, request: str, experiences: Sequence[Experience]) -> str:
        """The request text with all of these experiences, or as it was, where it has no place for any. Pure.

        Called only where there are some.
        """
        ...


@dataclass(slots=True)
class Spending:
    """What scoring has cost so far: live calls of models, also those that gave no score."""

    tokens_in: int = 0
    tokens_out: int = 0
    money_usd: float = 0.0

    def add(self, tokens_in: int = 0, tokens_out: int = 0, money_usd: float = 0.0) -> None:
        """One call cost so much more.

        Args:
            tokens_in: tokens of its prompt.
            tokens_out: tokens of its answer.
            money_usd: US dollars.
        """
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
        self.money_usd += money_usd


@dataclass(frozen=True, slots=True)
class ScoreContext:
    """What a scorer gets: the experience, the function where this process has decorated it, the value typed.

    `value` is what answers calls: `expected` where a person set it, else the response; `MISSING` where there is
    neither. `feedback` are the values, 0 to 1, that the experience got, oldest first. A scorer that calls a model
    notes what that cost in `spending`.
    """

    experience: Experience
    function: Callable[..., Any] | None = None
    value: Any = MISSING
    feedback: Sequence[float] = ()
    spending: Spending = field(default_factory=Spending, compare=False)


class Scorer(Protocol):
    """Rates an experience. A callable, ``def`` or ``async def``, or a class whose objects are.

    Attributes, where it has them: `name` and `version` label its scores (another version's are kept beside them);
    `concurrency`, how many scores may be made at once (1); `timeout_s`, how long one may take (60 seconds).
    """

    def __call__(self, context: ScoreContext, /) -> Score | Awaitable[Score]:
        """The score.

        Raising leaves the experience unscored, with the reason, to be tried again later; `NotScorableError` until
        somebody annotates or rates it; `ScorerUnavailableError` leaves the others for later, too.
        """
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
