"""What people ask the pool by text: equal requests, or similar ones, after what is owed has been done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, TypedDict

from exp_pool.core.contracts.plugs import Embedder, RecordQuery, RecordStore, VectorIndex
from exp_pool.core.experience import QueryType
from exp_pool.core.filters import Condition, parse_where
from exp_pool.core.identity.arguments import function_name
from exp_pool.core.record import Match
from exp_pool.errors import InvalidInputError
from exp_pool.maintenance.worker import Upkeep
from exp_pool.runtime.call_context import in_namespace
from exp_pool.runtime.clock import monotonic
from exp_pool.search.embedders.service import EmbeddingService
from exp_pool.search.indexes.none import NoIndex
from exp_pool.search.rerank import Reranker, Reranking
from exp_pool.search.search import Search, Wanted


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


class Queries:
    """Finds records by the text of their request."""

    def __init__(
        self,
        store: RecordStore,
        index: VectorIndex,
        search: Search,
        embeddings: EmbeddingService | None,
        upkeep: Upkeep,
        reranking: Reranking,
        timeout_s: float,
    ) -> None:
        self._store = store
        self._index = index
        self._search = search
        self._embeddings = embeddings
        self._upkeep = upkeep
        self._reranking = reranking
        self._timeout_s = timeout_s

    def find(self, request: str, namespace: str, options: SearchOptions) -> Iterable[Match]:
        """Rows whose request is equal (all of them, newest first) or similar (at most `top_k`, most similar first).

        Args:
            request: the text.
            namespace: whose rows.
            options: all of them; `namespace` is not looked at.

        Raises:
            InvalidInputError: a value that cannot be, or there is no index to ask.
            EmbedderError: the text cannot be embedded.
            RerankerError: what was found cannot be put in order.
            StoreError: the store failed.
        """
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
        chosen = self._reranking.chosen(options["reranker"])
        limit = top_k if chosen is None else self._reranking.candidates(top_k)
        matches = self._similar(Wanted(namespace, request, limit, min_similarity, function, where=where), kind)
        if chosen is None:
            return matches
        with in_namespace(namespace):  # what it asks of the pool is the same tenant's
            return self._reranking.reordered(chosen, request, matches, self._timeout_s)[:top_k]

    def catch_up(self, namespace: str, text: str) -> None:
        """Embed what is still owed there, as a query does, for somebody who is going to look around that text.

        Raises:
            EmbedderError: it cannot be embedded, or not in time.
            StoreError: the store failed.
        """
        if self._embeddings is not None:
            deadline = monotonic() + self._timeout_s
            self._upkeep.catch_up(namespace, self._embeddings.embed([text], self._timeout_s).embedder, deadline)

    # The model

    def begin_loading(self) -> Future[Embedder] | None:
        """Have the model loaded; what that comes to, unless there is nothing to be waited for."""
        return None if self._embeddings is None else self._embeddings.begin()

    def loading_for(self, namespace: str, options: SearchOptions) -> Future[Embedder] | None:
        """What a query of this namespace is going to wait for."""
        if options["query_type"] not in (QueryType.SEMANTIC, QueryType.HYBRID):
            return None
        return self._search.loading(Wanted(namespace, "", 1, function=_name_of(options["function"])))

    def check_loaded(self) -> None:
        """Whether the model is there.

        Raises:
            StillLoadingError: it is not.
        """
        if self._embeddings is not None:
            self._embeddings.wait(0)

    def _equal(
        self, namespace: str, request: str, function: str | None, where: tuple[Condition, ...]
    ) -> Iterable[Match]:
        same = (Condition("request", "", "eq", request),)
        of_function = () if function is None else (Condition("function", "", "eq", function),)
        query = RecordQuery(namespace, (*same, *of_function, *where), expired=False, quarantined=False)
        return (Match(record, 1.0, "exact") for record in self._store.scan(query, descending=True))

    def _similar(self, wanted: Wanted, kind: QueryType) -> list[Match]:
        if kind is QueryType.LEXICAL:
            return self._search.by_words(wanted)
        if self._embeddings is None:
            what = "index='none://'" if isinstance(self._index, NoIndex) else "embedder='none'"
            raise InvalidInputError(
                f"this manager has {what}, so nothing is similar to anything; ask with query_type='exact' or "
                "'lexical', or make a manager with index='exact://' or 'chroma:///folder' and an embedder"
            )
        deadline = monotonic() + self._timeout_s
        if not self._search.anything(wanted):
            return []
        embedded = self._embeddings.embed([wanted.text], self._timeout_s)
        self._upkeep.catch_up(wanted.namespace, embedded.embedder, deadline)
        if kind is QueryType.HYBRID:
            return self._search.by_both(wanted, embedded)
        return self._search.nearest(wanted, embedded)


def _name_of(function: str | Callable[..., Any] | None) -> str | None:
    return None if function is None else function_name(function)


def _query_type(value: QueryType | str) -> QueryType:
    try:
        return QueryType(value)
    except ValueError:
        raise InvalidInputError(f"query_type={value!r} is unknown; known: {', '.join(QueryType)}") from None
