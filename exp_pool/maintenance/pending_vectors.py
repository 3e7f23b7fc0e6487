"""Embeds what is owed vectors, in batches that others can get in between."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from loguru import logger

from exp_pool.core.contracts.plugs import Completion, RecordQuery, RecordStore
from exp_pool.core.filters import Condition
from exp_pool.core.record import Record, TaskKind, Vector
from exp_pool.core.values.vectors import to_bytes
from exp_pool.errors import EmbedderError, StillLoadingError
from exp_pool.runtime.clock import monotonic, now_us
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.runtime.notices import Notices
from exp_pool.search.embedders.service import EmbeddingService

T = TypeVar("T")

_EMBED_BATCH = 32  # 0.15 s of a small model on two cores: as long as a query waits for its turn
_BACKOFF_S, _LONGEST_BACKOFF_S = 2.0, 3600.0
_OWNER_STATE = "embedder"
_PLACES = 10_000  # functions in namespaces of which it is known that calls find everything; then it is forgotten


class _TakenOverError(EmbedderError):
    """Another process embeds the namespace with another embedder; what is owed is that one's to do."""


@reinit_after_fork()
class PendingVectors:
    """Settles EMBED. Thread-safe: one batch at a time, whoever runs it."""

    def __init__(
        self,
        store: RecordStore,
        embeddings: EmbeddingService | None,
        counters: Counters,
        notices: Notices,
        timeout_s: float = 60.0,
    ) -> None:
        self._store = store
        self._embeddings = embeddings  # None: this manager has no use for vectors; rows stay owed for one that has
        self._counters = counters
        self._notices = notices
        self._timeout_s = timeout_s  # for a batch
        self._stopped = False
        self._wanted = False  # vectors, by somebody who uses this pool
        self._put_in: Counter[str] = Counter()  # by namespace: how often people put something in by hand
        self._caught_up: dict[tuple[str, str], int] = {}  # by namespace and function: up to which of these times
        self._behind = False  # a call could not wait for all of it, so no other waits until the worker has done it
        self._owned: set[str] = set()
        self._taken: _TakenOverError | None = None
        self._turn = threading.Lock()

    def start_over(self) -> None:
        """Another store lies there now: whose its namespaces are is not known."""
        self._owned.clear()
        self._caught_up.clear()
        self._wanted = False

    def stop(self) -> None:
        """No further batch begins."""
        self._stopped = True

    def put_in(self, namespaces: Iterable[str]) -> None:
        """People put rows in there, which the next call is to find."""
        self._put_in.update(namespaces)
        self._wanted = True

    def run(self, namespace: str | None, deadline: float, *, embedder: str | None = None) -> None:
        """Everything due now in one namespace, or in all of them, until the deadline (`clock.monotonic`).

        With the embedder's name, which who has just embedded a query knows, it is also noticed that the namespace's
        vectors are another embedder's.

        Raises:
            StoreError: the store failed.
            EmbedderError: another process embeds this namespace with another embedder.
        """
        if self._embeddings is None:
            return
        if namespace is not None and embedder is not None:
            self._own(namespace, embedder)
        owing = RecordQuery(namespace, pending=TaskKind.EMBED)
        if not self._embeddings.ready and self._store.count(owing, limit=1):
            with suppress(EmbedderError):  # said of the rows that cannot be embedded for it
                self._embeddings.wait(None if deadline == float("inf") else max(0.0, deadline - monotonic()))
        if self._embed_all(owing, self._embeddings, deadline) and namespace is None:
            self._behind = False

    def run_aside(self) -> None:
        """Everything due now, for as long as it takes, if that is wanted and the embedder is there.

        A model is not loaded for what exact calls store in a pool that nobody has ever asked by meaning: it takes half
        a gigabyte and seconds of all processors, and who asks in the end embeds what is owed, as after a kill. From
        then on every process that writes keeps the vectors up to date, so that nobody has to wait for many.

        Raises:
            StoreError: the store failed.
            EmbedderError: another process embeds a namespace with another embedder.
        """
        service, owing = self._embeddings, RecordQuery(None, pending=TaskKind.EMBED)
        if service is None:
            return
        if not service.ready:
            if not self._store.count(owing, limit=1):
                return
            self._wanted = self._wanted or service.begun or bool(self._store.partitions())
            if not self._wanted:
                return
            service.begin()
            if service.loading:  # who waits for it says when it is there; others have what is to be done here, too
                return
        if self._embed_all(owing, service, float("inf")):
            self._behind = False

    def catch_up_for_call(self, namespace: str, function: str, embedder: str, deadline: float) -> None:
        """What a function is owed, where its calls are to find that, until the deadline; what is left comes later.

        That is so at the function's first call in this process, which may follow a process that ended before it had
        embedded what it stored, and after people put something in. What calls store themselves comes later: the
        caller of the next one would wait for it each time.

        Raises:
            StoreError: the store failed.
            EmbedderError: another process embeds this namespace with another embedder.
        """
        place, put_in = (namespace, function), self._put_in[namespace]
        if self._embeddings is None or self._behind or self._caught_up.get(place) == put_in:
            return
        self._own(namespace, embedder)
        of_function = (Condition("function", "", "eq", function),)
        done = self._embed_all(RecordQuery(namespace, of_function, pending=TaskKind.EMBED), self._embeddings, deadline)
        if len(self._caught_up) >= _PLACES:
            self._caught_up.clear()
        self._caught_up[place] = put_in
        if not done and monotonic() >= deadline:
            self._behind = True
            self._notices.warn_once(
                f"behind:{function}",
                f"{function}: calls do not see all that is stored yet, because it is still being embedded; to wait for "
                "that, call flush() when the program starts, or after you have put much in",
            )

    def _embed_all(self, owing: RecordQuery, embeddings: EmbeddingService, deadline: float) -> bool:
        """Whether all that is owed was looked at."""
        complete = True
        for batch in _chunks(self._store.scan(owing), _EMBED_BATCH):
            with self._turn_before(deadline) as mine:
                if not mine or not self._embed_what_can_be(self._still_owing(batch), embeddings, deadline):
                    complete = False
                    break
        taken, self._taken = self._taken, None
        if taken is not None:  # said when the other namespaces have what they are owed
            raise taken
        return complete

    def _embed_what_can_be(self, batch: Sequence[Record], embeddings: EmbeddingService, deadline: float) -> bool:
        """Embed a batch; where that fails, its rows one by one, so that one bad text does not keep others waiting.

        False where nothing could be embedded: then the embedder is at fault, and the rest would only take longer.
        """
        hurried = deadline - monotonic() < self._timeout_s
        try:
            self._embed(batch, embeddings, deadline)
        except _TakenOverError:
            raise
        except StillLoadingError:
            return False
        except EmbedderError as err:
            if self._stopped:  # a process that ends makes much fail; the rows stay owed as they are
                return False
            if hurried and isinstance(err.__cause__, TimeoutError):  # the deadline was short, not the embedder slow
                return False
            if len(batch) == 1 or isinstance(err.__cause__, TimeoutError):
                self._put_off(batch, err)
                return False
            embedded = [self._embed_what_can_be([record], embeddings, deadline) for record in batch]
            return any(embedded)
        return True

    @contextmanager
    def _turn_before(self, deadline: float) -> Iterator[bool]:
        """Whether it is this thread's turn for one batch: not if the deadline came first, or the pool is closing."""
        waits = -1 if deadline == float("inf") else max(0.0, deadline - monotonic())
        mine = not self._stopped and self._turn.acquire(timeout=waits)
        try:
            yield mine and not self._stopped and monotonic() < deadline
        finally:
            if mine:
                self._turn.release()

    def _still_owing(self, batch: Sequence[Record]) -> list[Record]:
        """Others may have been faster while this batch waited for its turn."""
        found = [
            record
            for space, records in itertools.groupby(batch, key=lambda record: record.namespace)
            for record in self._store.get_many(space, [record.id for record in records], by="id")
        ]
        return [record for record in found if record and record.is_current and record.embed_due is not None]

    def _embed(self, batch: Sequence[Record], embeddings: EmbeddingService, deadline: float) -> None:
        if not batch:
            return
        timeout_s = max(0.1, min(self._timeout_s, deadline - monotonic()))
        embedded = embeddings.embed([record.request for record in batch], timeout_s, urgent=False)
        if self._stopped:  # the pool was closed meanwhile, and its file may be gone: what is owed stays owed
            return
        mine = {space for space in {record.namespace for record in batch} if self._owns(space, embedded.embedder)}
        self._store.complete_many(
            [
                Completion(
                    record.namespace,
                    record.id,
                    TaskKind.EMBED,
                    vector=Vector(embedded.embedder, to_bytes(vector), whole),
                )
                for record, vector, whole in zip(batch, embedded.vectors, embedded.whole, strict=True)
                if record.namespace in mine
            ]
        )
        for space in mine:  # who took it over meanwhile is still owed what was just settled
            if not self._owns(space, embedded.embedder):
                ids = tuple(record.id for record in batch if record.namespace == space)
                self._store.enqueue(RecordQuery(space, (Condition("id", "", "in", ids),)), TaskKind.EMBED)
        self._counters.add("embedded", len(batch))

    def _owns(self, namespace: str, embedder: str) -> bool:
        """Whether its vectors are this embedder's. One that was taken over does not keep the others waiting."""
        try:
            self._own(namespace, embedder)
        except _TakenOverError as err:
            self._taken = err
            return False
        return True

    def _own(self, namespace: str, embedder: str) -> None:
        """Vectors of a namespace belong to one embedder, the one that came last: another one embeds all of it anew.

        Raises:
            EmbedderError: it was this one's, and has been taken over.
        """
        known = self._store.read_state(namespace, _OWNER_STATE)
        if known is None or known.value != embedder:
            if known is not None and namespace in self._owned:
                raise _TakenOverError(
                    f"namespace {namespace!r} has been embedded anew by {known.value!r}, which another process uses, "
                    f"so {embedder!r} would not find all of it; use the same embedder in both, or another namespace"
                )
            if known is not None:
                logger.info("{}: another embedder than before, so every row is embedded anew", namespace)
                self._store.enqueue(RecordQuery(namespace), TaskKind.EMBED)
            if not self._store.write_state(namespace, _OWNER_STATE, embedder, known.revision if known else None):
                self._own(namespace, embedder)  # somebody else has just taken it
            elif known is not None:  # again: the other one may have settled rows between the two
                self._store.enqueue(RecordQuery(namespace), TaskKind.EMBED)
        self._owned.add(namespace)

    def _put_off(self, batch: Sequence[Record], err: EmbedderError) -> None:
        """Try these rows again later, each time a little later, for as long as the embedder is in trouble."""
        logger.warning("{} rows cannot be embedded and are tried again later: {}", len(batch), err)
        self._notices.warn_once("embedder", f"semantic lookup does not work: {err}")
        now = now_us()
        waits = [min(_BACKOFF_S * 2.0**record.embed_tries, _LONGEST_BACKOFF_S) for record in batch]
        self._store.complete_many(
            [
                Completion(record.namespace, record.id, TaskKind.EMBED, done=False, retry_at=now + int(wait * 1e6))
                for record, wait in zip(batch, waits, strict=True)
            ]
        )


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
