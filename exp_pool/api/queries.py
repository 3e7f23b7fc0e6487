"""Queries: find experiences by request text (pending rows are embedded first) or by ``where=`` conditions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypedDict

from exp_pool.api.namespaces import Namespaces
from exp_pool.core.contracts.plugs import SCAN_ORDERS, Embedder, RecordQuery, RecordStore, VectorIndex
from exp_pool.core.experience import Experience
from exp_pool.core.filters import Condition, parse_where
from exp_pool.core.identity.names import function_name
from exp_pool.core.record import Match, Record, to_experience
from exp_pool.core.results import Hit, QueryType
from exp_pool.errors import DecodingError, InvalidInputError
from exp_pool.maintenance.pending_vectors import PendingVectors
from exp_pool.runtime.call_context import in_namespace
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.notices import Notices
from exp_pool.search.embedders.service import EmbeddingService
from exp_pool.search.indexes.none import NoIndex
from exp_pool.search.rerank import Reranker, RerankerRunner
from exp_pool.search.search import Search, SearchQuery


class SearchOptions(TypedDict, total=False):
    """What ``search`` and ``query_exps`` take besides the request; `ExpManager.search` says what each one means."""

    function: str | Callable[..., Any] | None
    query_type: QueryType | str
    top_k: int
    min_similarity: float | None
    namespace: str | None
    where: Mapping[str, Any] | None
    reranker: Reranker | str | None


SEARCH_DEFAULTS: SearchOptions = {"query_type": QueryType.SEMANTIC, "top_k": 5}  # the others' is None


@dataclass(kw_only=True, eq=False)
class Queries:
    """Finds experiences of one pool."""

    store: RecordStore  # where they live
    namespaces: Namespaces  # whose are meant
    counters: Counters  # for `degraded`
    notices: Notices  # for what a developer should act on
    index: VectorIndex  # the pool's, for the error of one that has none
    search: Search  # by meaning, by words, by both
    embeddings: EmbeddingService | None  # the embedder, if there is one
    pending_vectors: PendingVectors  # embeds pending rows before a search
    reranking: RerankerRunner  # puts in order what was found
    timeout_s: float  # for all of that

    def find(self, request: str, options: SearchOptions) -> list[Hit]:
        """Experiences whose request is equal (all of them, newest first) or similar (at most `top_k`, best first).

        Raises:
            InvalidInputError: a value that cannot be, or there is no index to ask.
            EmbedderError: the text cannot be embedded.
            RerankerError: what was found cannot be put in order.
            StoreError: the store failed.
        """
        found = self._rows(request, self.namespaces.of(options["namespace"]), options)
        return [
            Hit(experience, match.similarity, match.found_by)
            for match in found
            for experience in self._read([match.record])
        ]

    def count(self, where: Mapping[str, Any] | None) -> int:
        """How many current experiences meet all conditions, expired and quarantined ones too."""
        return self.store.count(RecordQuery(self.namespaces.of(), parse_where(where)))

    def iterate(
        self, where: Mapping[str, Any] | None, *, order_by: str, limit: int | None, history: bool
    ) -> Iterator[Experience]:
        """Current experiences, expired and quarantined ones too, in the order of a field.

        Args:
            where: conditions.
            order_by: the field; with a ``-`` before it: falling.
            limit: how many at most.
            history: earlier answers, too.
        """
        field = order_by.removeprefix("-") if isinstance(order_by, str) else ""
        if field not in SCAN_ORDERS:
            raise InvalidInputError(
                f"order_by={order_by!r} is unknown; known, with or without '-': {', '.join(SCAN_ORDERS)}"
            )
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise InvalidInputError(f"limit={limit!r} must be a whole number, not negative")
        query = RecordQuery(self.namespaces.of(), parse_where(where), history=history)
        most = None if limit is None else min(limit, sys.maxsize)  # what engines take
        records = self.store.scan(query, order_by=field, descending=order_by.startswith("-"), limit=most)
        return self._read(records)

    def _read(self, records: Iterable[Record]) -> Iterator[Experience]:
        """The experiences of rows.

        One that cannot be read is named once, counted and left out, not the end of the query.
        """
        for record in records:
            try:
                yield to_experience(record)
            except DecodingError as err:
                self.counters.add("degraded")
                self.notices.warn_once(f"unreadable:{record.id}", f"left out of what was asked for: {err}")

    def _rows(self, request: str, namespace: str, options: SearchOptions) -> Iterable[Match]:
        kind, top_k, min_similarity = _query_type(options["query_type"]), options["top_k"], options["min_similarity"]
        where, function = parse_where(options["where"]), _name_of(options["function"])
        if not isinstance(request, str):
            raise InvalidInputError(f"request must be text, got {type(request).__name__}: {request!r:.80}")
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise InvalidInputError(f"top_k={top_k!r} must be a whole number of at least 1")
        if min_similarity is not None and not (isinstance(min_similarity, int | float) and -1 <= min_similarity <= 1):
            raise InvalidInputError(f"min_similarity={min_similarity!r} must be between -1 and 1")
        if kind is QueryType.EXACT:
            return self._equal(namespace, request, function, where)
        chosen = self.reranking.chosen(options["reranker"])
        limit = top_k if chosen is None else self.reranking.candidates(top_k)
        matches = self._similar(SearchQuery(namespace, request, limit, min_similarity, function, where=where), kind)
        if chosen is None:
            return matches
        with in_namespace(namespace):  # what it asks of the pool is the same tenant's
            return self.reranking.reordered(chosen, request, matches, self.timeout_s)[:top_k]

    def catch_up(self, namespace: str, text: str) -> None:
        """Embed the rows that wait for it, as a query does, before the neighbours of that text are looked at.

        Raises:
            EmbedderError: it cannot be embedded, or not in time.
            StoreError: the store failed.
        """
        if self.embeddings is not None:
            deadline = monotonic() + self.timeout_s
            self.pending_vectors.run(
                namespace, deadline, embedder=self.embeddings.embed([text], self.timeout_s).embedder
            )

    # The model

    def begin_loading(self) -> Future[Embedder] | None:
        """Begin to load the model. Returns a future to wait for; None: there is nothing to wait for."""
        return None if self.embeddings is None else self.embeddings.begin()

    def loading_for(self, namespace: str, options: SearchOptions) -> Future[Embedder] | None:
        """A future that a query of this namespace has to wait for; None: it need not wait."""
        if options["query_type"] not in (QueryType.SEMANTIC, QueryType.HYBRID):
            return None
        return self.search.loading(SearchQuery(namespace, "", 1, function=_name_of(options["function"])))

    def check_loaded(self) -> None:
        """Whether the model is there.

        Raises:
            StillLoadingError: it is not.
        """
        if self.embeddings is not None:
            self.embeddings.wait(0)

    def _equal(
        self, namespace: str, request: str, function: str | None, where: tuple[Condition, ...]
    ) -> Iterable[Match]:
        same = (Condition("request", "", "eq", request),)
        of_function = () if function is None else (Condition("function", "", "eq", function),)
        query = RecordQuery(namespace, (*same, *of_function, *where), expired=False, quarantined=False)
        return (Match(record, 1.0, "exact") for record in self.store.scan(query, descending=True))

    def _similar(self, wanted: SearchQuery, kind: QueryType) -> list[Match]:
        if kind is QueryType.LEXICAL:
            return self.search.by_words(wanted)
        if self.embeddings is None:
            what = "index='none://'" if isinstance(self.index, NoIndex) else "embedder='none'"
            raise InvalidInputError(
                f"this manager has {what}, so nothing is similar to anything; ask with query_type='exact' or "
                "'lexical', or make a manager with index='exact://' or 'chroma:///folder' and an embedder"
            )
        deadline = monotonic() + self.timeout_s
        if not self.search.any_rows(wanted):
            return []
        embedded = self.embeddings.embed([wanted.text], self.timeout_s)
        self.pending_vectors.run(wanted.namespace, deadline, embedder=embedded.embedder)
        if kind is QueryType.HYBRID:
            return self.search.by_both(wanted, embedded)
        return self.search.nearest(wanted, embedded)


def _name_of(function: str | Callable[..., Any] | None) -> str | None:
    return None if function is None else function_name(function)


def _query_type(value: QueryType | str) -> QueryType:
    try:
        return QueryType(value)
    except ValueError:
        raise InvalidInputError(f"query_type={value!r} is unknown; known: {', '.join(QueryType)}") from None
