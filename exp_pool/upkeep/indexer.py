"""Embeds what is owed vectors and hands vectors to a derived index, in batches that others can get in between."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from loguru import logger

from exp_pool._clock import monotonic, now_us
from exp_pool.counters import Counters
from exp_pool.embedders.service import EmbeddingService
from exp_pool.errors import EmbedderError, VectorIndexError
from exp_pool.forks import reset_in_child
from exp_pool.notices import Notices
from exp_pool.protocols import RecordQuery, RecordStore, Settlement, VectorIndex, VectorRow
from exp_pool.records import Duty, Record, Vector
from exp_pool.vectors import to_bytes

T = TypeVar("T")

_EMBED_BATCH = 32  # 0.15 s of a small model on two cores: as long as a query waits for its turn
_INDEX_BATCH = 500
_BACKOFF_S, _LONGEST_BACKOFF_S = 2.0, 3600.0
_OWNER_STATE = "index-owner"


class Indexer:
    """Settles EMBED and INDEX. Thread-safe: one batch at a time, whoever runs it."""

    def __init__(
        self,
        store: RecordStore,
        index: VectorIndex,
        embeddings: EmbeddingService | None,
        counters: Counters,
        notices: Notices,
        timeout_s: float = 60.0,
    ) -> None:
        self._store = store
        self._index = index
        self._embeddings = embeddings  # None: this manager has no use for vectors; rows stay owed for one that has
        self._counters = counters
        self._notices = notices
        self._timeout_s = timeout_s  # for a batch, the loading of the model by the first one included
        self._stopped = False
        self._checked: set[str] = set()
        self._start_over()
        reset_in_child(self._start_over)

    def _start_over(self) -> None:
        self._turn = threading.Lock()

    def stop(self) -> None:
        """No further batch begins."""
        self._stopped = True

    def run(self, namespace: str | None, deadline: float, *, embedder: str | None = None) -> None:
        """Everything due now in one namespace, or in all of them, until the deadline (`_clock.monotonic`).

        With the embedder's name, which who has just embedded a query knows, it is also noticed that the namespace's
        vectors are another embedder's, or its index another one.

        Raises:
            StoreError: the store failed.
        """
        if self._embeddings is None:
            return
        if namespace is not None and embedder is not None:
            self._check_owner(namespace, embedder)
        if self._embed_all(namespace, self._embeddings, deadline) and self._index.derived:
            try:
                self._index_all(namespace, deadline)
            except VectorIndexError as err:
                self._index_failed(err)

    def _index_failed(self, err: VectorIndexError) -> None:
        self._counters.add("degraded")
        logger.warning("the index cannot be written, exact scan answers: {}", err)
        self._notices.once("index", f"the index cannot be written, exact scan answers until it can: {err}")

    def _embed_all(self, namespace: str | None, embeddings: EmbeddingService, deadline: float) -> bool:
        """Whether all of it could be embedded."""
        for batch in _chunks(self._store.scan(RecordQuery(namespace, owed=Duty.EMBED)), _EMBED_BATCH):
            with self._turn_before(deadline) as mine:
                if not mine or not self._embed_what_can_be(self._still_owing(batch, Duty.EMBED), embeddings, deadline):
                    return False
        return True

    def _embed_what_can_be(self, batch: Sequence[Record], embeddings: EmbeddingService, deadline: float) -> bool:
        """Embed a batch; where that fails, its rows one by one, so that one bad text does not keep others waiting.

        False where nothing could be embedded: then the embedder is at fault, and the rest would only take longer.
        """
        try:
            self._embed(batch, embeddings, deadline)
        except EmbedderError as err:
            if self._stopped:  # a process that ends makes much fail; the rows stay owed as they are
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

    def _still_owing(self, batch: Sequence[Record], duty: Duty) -> list[Record]:
        """Others may have been faster while this batch waited for its turn."""
        found = [
            record
            for space, records in itertools.groupby(batch, key=lambda record: record.namespace)
            for record in self._store.get_many(space, [record.id for record in records], by="id")
        ]
        due = f"{duty}_due"
        return [record for record in found if record and record.is_current and getattr(record, due) is not None]

    def _embed(self, batch: Sequence[Record], embeddings: EmbeddingService, deadline: float) -> None:
        if not batch:
            return
        timeout_s = max(0.1, min(self._timeout_s, deadline - monotonic()))
        embedded = embeddings.embed([record.request for record in batch], timeout_s, urgent=False)
        if self._stopped:  # the pool was closed meanwhile, and its file may be gone: what is owed stays owed
            return
        for space in {record.namespace for record in batch}:
            self._check_owner(space, embedded.embedder)
        self._store.settle_many(
            [
                Settlement(
                    record.namespace,
                    record.id,
                    Duty.EMBED,
                    vector=Vector(embedded.embedder, to_bytes(vector), whole),
                    then_index=True,
                )
                for record, vector, whole in zip(batch, embedded.vectors, embedded.whole, strict=True)
            ]
        )
        self._counters.add("embedded", len(batch))

    def _index_all(self, namespace: str | None, deadline: float) -> None:
        generation = self._index.generation()
        for batch in _chunks(self._store.scan(RecordQuery(namespace, owed=Duty.INDEX)), _INDEX_BATCH):
            with self._turn_before(deadline) as mine:
                if not mine:
                    return
                owing = self._still_owing(batch, Duty.INDEX)
                for space, records in itertools.groupby(owing, key=lambda record: record.namespace):
                    self._hand_over(space, list(records), generation)

    def _hand_over(self, namespace: str, rows: Sequence[Record], generation: str) -> None:
        vectors = self._store.get_vectors(namespace, [row.id for row in rows])
        self._index.upsert_many(
            [
                VectorRow(row.id, namespace, row.function, row.version, row.reuse_scope, 0, vector)
                for row, vector in zip(rows, vectors, strict=True)
            ]
        )
        self._store.settle_many([Settlement(namespace, row.id, Duty.INDEX, generation=generation) for row in rows])
        self._counters.add("indexed", len(rows))

    def _check_owner(self, namespace: str, embedder: str) -> None:
        """Notice, once per process, vectors of another embedder or an index that is another one.

        Then all is owed again.
        """
        if namespace in self._checked:
            return
        known = self._store.read_state(namespace, _OWNER_STATE)
        before = json.loads(known.value) if known else {}
        generation = before.get("generation", "")
        if self._index.derived:  # a manager without one leaves the note about the index as it is
            try:
                generation = self._index.generation()
            except VectorIndexError as err:
                self._index_failed(err)
                return
        owner = {"embedder": embedder, "generation": generation}
        if before.get("embedder", embedder) != embedder:
            logger.info("{}: another embedder than before, so every row is embedded anew", namespace)
            self._store.owe(RecordQuery(namespace), Duty.EMBED)
        elif before.get("generation", generation) != generation:
            logger.info("{}: another index than before, so every row is handed to it", namespace)
            self._store.owe(RecordQuery(namespace), Duty.INDEX)
        if owner != before:
            self._store.write_state(namespace, _OWNER_STATE, json.dumps(owner), known.revision if known else None)
        self._checked.add(namespace)

    def _put_off(self, batch: Sequence[Record], err: EmbedderError) -> None:
        """Try these rows again later, each time a little later, for as long as the embedder is in trouble."""
        logger.warning("{} rows cannot be embedded and are tried again later: {}", len(batch), err)
        self._notices.once("embedder", f"semantic lookup does not work: {err}")
        now = now_us()
        waits = [min(_BACKOFF_S * 2.0**record.embed_tries, _LONGEST_BACKOFF_S) for record in batch]
        self._store.settle_many(
            [
                Settlement(record.namespace, record.id, Duty.EMBED, done=False, retry_at=now + int(wait * 1e6))
                for record, wait in zip(batch, waits, strict=True)
            ]
        )


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
