"""Embeds rows with a pending vector, in batches between which queries get their turn."""

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
from exp_pool.maintenance.retries import postpone, wait_s
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.runtime.notices import Notices
from exp_pool.search.embedders.service import EmbeddingService

T = TypeVar("T")

_EMBED_BATCH = 32  # 0.15 s of a small model on two cores: as long as a query waits for its turn
_OWNER_STATE = "embedder"
_CAUGHT_UP = 10_000  # functions in namespaces that are known to be embedded as a whole; then all of them are forgotten


class _TakenOverError(EmbedderError):
    """Another process embeds the namespace with another embedder, and has to make its pending vectors."""


@reinit_after_fork(keep=("_owned", "_caught_up", "_behind", "_wanted", "_added"))
class PendingVectors:
    """Completes tasks of the kind EMBED. Thread-safe: one batch at a time, whichever thread runs it.

    Args:
        store: where the rows are.
        embeddings: makes vectors; None: this manager has no use for them, and they stay pending for one that has.
        counters: counts `embedded`.
        notices: warns once of an embedder that fails.
        timeout_s: for a batch.
    """

    def __init__(
        self,
        store: RecordStore,
        embeddings: EmbeddingService | None,
        counters: Counters,
        notices: Notices,
        timeout_s: float = 60.0,
    ) -> None:
        self._store = store
        self._embeddings = embeddings
        self._counters = counters
        self._notices = notices
        self._timeout_s = timeout_s
        self._stopped = False
        self._wanted = False  # whether somebody who uses this pool asks by meaning
        self._added: Counter[str] = Counter()  # by namespace: how often people added rows by hand
        self._caught_up: dict[tuple[str, str], int] = {}  # by namespace and function: `_added` when all was embedded
        self._behind = False  # a call could not wait for all vectors, so none waits until the worker has made them
        self._owned: set[str] = set()  # namespaces that this embedder embeds
        self._taken: _TakenOverError | None = None  # to be raised when the other namespaces are done
        self._turn = threading.Lock()

    def store_replaced(self) -> None:
        """Forget what was known of the store: its file was replaced by another one."""
        self._owned.clear()
        self._caught_up.clear()
        self._wanted = False

    def stop(self) -> None:
        """No further batch begins."""
        self._stopped = True

    def added_by_hand(self, namespaces: Iterable[str]) -> None:
        """People added rows to these namespaces, and expect the next call to find them."""
        self._added.update(namespaces)
        self._wanted = True

    def run(self, namespace: str | None, deadline: float, *, embedder: str | None = None) -> None:
        """Embed what is due now.

        Args:
            namespace: whose rows; None: all.
            deadline: when to stop (`clock.monotonic`).
            embedder: its name, if a query has just been embedded. Then the vectors of the namespace are checked to be
                this embedder's.

        Raises:
            StoreError: the store failed.
            EmbedderError: another process embeds this namespace with another embedder.
        """
        if self._embeddings is None:
            return
        if namespace is not None and embedder is not None:
            self._own(namespace, embedder)
        due = RecordQuery(namespace, pending=TaskKind.EMBED)
        if not self._embeddings.ready and self._store.count(due, limit=1):
            with suppress(EmbedderError):  # `_embed_all` reports it, of the rows that cannot be embedded
                self._embeddings.wait(None if deadline == float("inf") else max(0.0, deadline - monotonic()))
        if self._embed_all(due, self._embeddings, deadline) and namespace is None:
            self._behind = False

    def run_in_background(self) -> None:
        """Embed everything that is due now, however long it takes, if vectors are wanted and the embedder is there.

        A model is not loaded for what exact calls store in a pool that was never asked by meaning: loading takes half a
        gigabyte and seconds of all processors. The first query by meaning embeds what is pending, as after a kill.
        From then on every process that writes keeps the vectors up to date, so that no query has to wait for many.

        Raises:
            StoreError: the store failed.
            EmbedderError: another process embeds a namespace with another embedder.
        """
        service, due = self._embeddings, RecordQuery(None, pending=TaskKind.EMBED)
        if service is None:
            return
        if not service.ready:
            if not self._store.count(due, limit=1):
                return
            self._wanted = self._wanted or service.begun or bool(self._store.partitions())
            if not self._wanted:
                return
            service.begin()
            if service.loading:  # it calls `MaintenanceWorker.wake` when it is there
                return
        if self._embed_all(due, service, float("inf")):
            self._behind = False

    def catch_up_for_call(self, namespace: str, function: str, embedder: str, deadline: float) -> None:
        """Embed a function's rows before a call looks for similar ones; what the deadline leaves is embedded later.

        This happens at the function's first call in this process, which may follow a process that ended before it had
        embedded what it stored, and after people added rows by hand. Rows that calls store are embedded later, or the
        next caller would wait each time.

        Args:
            namespace: of the call.
            function: its name.
            embedder: the name of the embedder that embedded the call.
            deadline: when to stop (`clock.monotonic`).

        Raises:
            StoreError: the store failed.
            EmbedderError: another process embeds this namespace with another embedder.
        """
        key, added = (namespace, function), self._added[namespace]
        if self._embeddings is None or self._behind or self._caught_up.get(key) == added:
            return
        self._own(namespace, embedder)
        of_function = (Condition("function", "", "eq", function),)
        done = self._embed_all(RecordQuery(namespace, of_function, pending=TaskKind.EMBED), self._embeddings, deadline)
        if len(self._caught_up) >= _CAUGHT_UP:
            self._caught_up.clear()
        self._caught_up[key] = added
        if not done and monotonic() >= deadline:
            self._behind = True
            self._notices.warn_once(
                f"behind:{function}",
                f"{function}: calls do not see all that is stored yet, because it is still being embedded; to wait for "
                "that, call flush() when the program starts, or after you have put much in",
            )

    def _embed_all(self, due: RecordQuery, embeddings: EmbeddingService, deadline: float) -> bool:
        """Embed the rows that a query finds; whether all of them were tried."""
        complete = True
        for batch in _chunks(self._store.scan(due), _EMBED_BATCH):
            with self._turn_before(deadline) as mine:
                if not mine or not self._embed_or_split(self._still_due(batch), embeddings, deadline):
                    complete = False
                    break
        taken, self._taken = self._taken, None
        if taken is not None:
            raise taken
        return complete

    def _embed_or_split(self, batch: Sequence[Record], embeddings: EmbeddingService, deadline: float) -> bool:
        """Embed a batch; where that fails, its rows one by one, so that one bad text does not keep others waiting.

        Returns:
            False where no row could be embedded: then the embedder is at fault, and other batches would fail, too.
        """
        hurried = deadline - monotonic() < self._timeout_s
        try:
            self._embed(batch, embeddings, deadline)
        except _TakenOverError:
            raise
        except StillLoadingError:
            return False
        except EmbedderError as err:
            if self._stopped:  # a process that ends makes much fail; the rows stay as they are
                return False
            if hurried and isinstance(err.__cause__, TimeoutError):  # the deadline was short, not the embedder slow
                return False
            if len(batch) == 1 or isinstance(err.__cause__, TimeoutError):
                self._postpone(batch, err)
                return False
            embedded = [self._embed_or_split([record], embeddings, deadline) for record in batch]
            return any(embedded)
        return True

    @contextmanager
    def _turn_before(self, deadline: float) -> Iterator[bool]:
        """Wait for this thread's turn for one batch. False if the deadline comes first, or the pool is closing."""
        waits = -1 if deadline == float("inf") else max(0.0, deadline - monotonic())
        mine = not self._stopped and self._turn.acquire(timeout=waits)
        try:
            yield mine and not self._stopped and monotonic() < deadline
        finally:
            if mine:
                self._turn.release()

    def _still_due(self, batch: Sequence[Record]) -> list[Record]:
        """The rows that no other thread or process has embedded while this batch waited for its turn."""
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
        if self._stopped:  # the pool was closed meanwhile, and its file may be gone
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
        for space in mine:  # one that another embedder took over meanwhile: its vectors are still to be made
            if not self._owns(space, embedded.embedder):
                ids = tuple(record.id for record in batch if record.namespace == space)
                self._store.enqueue(RecordQuery(space, (Condition("id", "", "in", ids),)), TaskKind.EMBED)
        self._counters.add("embedded", len(batch))

    def _owns(self, namespace: str, embedder: str) -> bool:
        """Whether the namespace is this embedder's. One that was taken over does not keep the others waiting."""
        try:
            self._own(namespace, embedder)
        except _TakenOverError as err:
            self._taken = err
            return False
        return True

    def _own(self, namespace: str, embedder: str) -> None:
        """Make this embedder the one of the namespace. It belongs to the one that came last, which embeds all anew.

        Raises:
            EmbedderError: it was this embedder's, and has been taken over.
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
                self._own(namespace, embedder)  # another process has just taken the namespace
            elif known is not None:  # again: the other embedder may have made vectors between the two
                self._store.enqueue(RecordQuery(namespace), TaskKind.EMBED)
        self._owned.add(namespace)

    def _postpone(self, batch: Sequence[Record], err: EmbedderError) -> None:
        logger.warning("{} rows cannot be embedded and are tried again later: {}", len(batch), err)
        self._notices.warn_once("embedder", f"semantic lookup does not work: {err}")
        self._store.complete_many([postpone(record, TaskKind.EMBED, wait_s(record.embed_tries)) for record in batch])


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
