"""`AsyncPool`: the pool for async callers. Each method is the one of `Pool`, done by a thread."""

from __future__ import annotations

import functools
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar, Unpack

from exp_pool.api.pool import Pool
from exp_pool.api.queries import SEARCH_DEFAULTS, SearchOptions
from exp_pool.calls.drivers import aio
from exp_pool.core.contracts.plugs import Embedder, Scorer
from exp_pool.core.experience import MISSING, Experience
from exp_pool.core.results import HistoryEntry, Hit
from exp_pool.maintenance.backfill import ScoringReport
from exp_pool.runtime.keyword_options import complete, lists
from exp_pool.search.embedders.loader import done_or_late
from exp_pool.search.embedders.service import Embedded

P = ParamSpec("P")
T = TypeVar("T")

_PAGE = 200  # experiences fetched by one thread hop while iterating


class AsyncPool:
    """What a manager does with experiences: stores, corrects, deletes, finds and scores them.

    Args:
        sync: the pool that does it.
    """

    def __init__(self, sync: Pool) -> None:
        self.sync = sync

    # Experiences

    async def create_exp(self, experience: Experience) -> str:
        """Store one experience and return its id. It becomes the one that answers its call.

        Raises:
            ReadOnlyError: `is_writable` is off. So for everything below that changes what is stored.
            ConflictError: there is one with this id already.
            EncodingError: it holds something that cannot be restored from JSON.
        """
        return await self._hop(self.sync.create_exp, experience)

    async def create_exps(self, experiences: Sequence[Experience]) -> list[str]:
        """Store experiences and return their ids. Those whose id is taken are refused after the others are stored.

        Raises:
            ConflictError: some ids are taken; the message says how many.
            EncodingError: one holds something that cannot be restored from JSON; none is stored.
        """
        return await self._hop(self.sync.create_exps, experiences)

    async def get_exp(self, id_: str) -> Experience | None:
        """The experience of this id, history too; None if there is none in this namespace."""
        return await self._hop(self.sync.get_exp, id_)

    async def update_exp(self, id_: str, **changes: Any) -> Experience:
        """Change fields of an experience and return it. What it is found by cannot change: see `Experience.clone`.

        Raises:
            NotFoundError: there is none of this id.
            InvalidInputError: a field is unknown, or cannot be changed.
            pydantic.ValidationError: a value is wrong.
        """
        return await self._hop(self.sync.update_exp, id_, **changes)

    async def annotate(
        self, id_: str, *, expected: Any = MISSING, metadata: Mapping[str, Any] | None = None
    ) -> Experience:
        """Set the expected answer (default: the response). Later calls get it. Recorded in `history`.

        Args:
            id_: the experience's id.
            expected: what the answer should be; by default the one that was given.
            metadata: put into the experience's metadata; what it does not name stays.

        Raises:
            NotFoundError: there is none of this id.
        """
        return await self._hop(self.sync.annotate, id_, expected=expected, metadata=metadata)

    async def feedback(self, id_: str, value: float, reason: str = "") -> None:
        """Say how well the call went that gave this experience (`Answer.id`): 0, failed, to 1, all that was wanted.

        It is kept with the experience, never rewritten (`history`), and credits, by its `parents`, the experiences
        that the call was shown, and, where ``Inject(holdout=)`` left some out at random, those (`report`). It may come
        as late as the experience is there, history too. Of several on one call the last counts in `report`; the rule
        that quarantines (`ExpPoolConfig.quarantine`) takes the first, because evidence cannot be taken back.

        Args:
            id_: the experience's id.
            value: 0 to 1.
            reason: why, for people. It goes when the experience does; what remains of a deleted one are numbers.

        Raises:
            NotFoundError: there is none of this id, or it was deleted.
            InvalidInputError: the value is not a number of 0 to 1, or the reason is no text.
        """
        await self._hop(self.sync.feedback, id_, value, reason)

    async def history(self, id_: str) -> list[HistoryEntry]:
        """Everything that is known to have happened to an experience, the oldest first; see `HistoryEntry`.

        Raises:
            NotFoundError: there is none of this id.
        """
        return await self._hop(self.sync.history, id_)

    async def delete_exp(self, id_: str) -> bool:
        """Delete an experience. Returns whether it was there. Its call misses from now on: history is not promoted."""
        return await self._hop(self.sync.delete_exp, id_)

    async def delete_exps(self, where: Mapping[str, Any]) -> int:
        """Delete the current experiences that meet all conditions. Returns how many.

        Raises:
            InvalidInputError: no condition, or an unknown field or operator.
        """
        return await self._hop(self.sync.delete_exps, where)

    async def delete_all_exps(self) -> int:
        """Delete everything in this namespace, history too. Returns the number of rows."""
        return await self._hop(self.sync.delete_all_exps)

    async def erase(self, where: Mapping[str, Any]) -> int:
        """Delete what meets all conditions, history too, and leave no byte of it on disk. Returns how many rows.

        The store is written anew without it, and so is the index; what changes (`exp_pool.curation`) deleted and could
        restore goes from their journals. Copies made before (backups, snapshots) are yours.

        Raises:
            InvalidInputError: no condition, or an unknown field or operator.
            StoreError: the store cannot be written anew; it was deleted, but may still be read from the file.
            VectorIndexError: likewise the index, which another process may have open. Erase again later.
        """
        return await self._hop(self.sync.erase, where)

    async def clear_expired(self) -> int:
        """Delete what has expired. Returns how many."""
        return await self._hop(self.sync.clear_expired)

    async def clear_by_key(self, key: str) -> int:
        """Delete what is stored under a key (``.key()`` of a decorated function), history too. Returns how many."""
        return await self._hop(self.sync.clear_by_key, key)

    # Queries

    @lists(SearchOptions, SEARCH_DEFAULTS)
    async def query_exps(self, request: str, **options: Unpack[SearchOptions]) -> list[Experience]:
        """The experiences of `search`.

        Args:
            request: the text.
            options: those of `search`, which says what they mean.
        """
        return [hit.experience for hit in await self.search(request, **options)]

    @lists(SearchOptions, SEARCH_DEFAULTS)
    async def search(self, request: str, **options: Unpack[SearchOptions]) -> list[Hit]:
        """Experiences whose request is equal (``exact``: all of them, newest first) or similar (most similar first).

        Similar by meaning (``semantic``: cosine similarity of embeddings), by words (``lexical``: BM25, which needs
        neither an embedder nor an index), or by both (``hybrid``: reciprocal rank fusion). A hit says which
        (`found_by`), and how similar: the cosine; of a lexical search, the share of what the request itself would
        score, 0 to 1.

        What was written before is found: a semantic search first embeds pending rows, within `query_timeout`.
        History, expired and quarantined experiences are left out.

        Args:
            request: the text.
            function: only experiences of this function, or name.
            query_type: ``"exact"``, ``"semantic"``, ``"lexical"`` or ``"hybrid"``.
            top_k: how many at most; an exact search is not limited by it.
            min_similarity: the least similarity of a hit, -1 to 1; as said above, the measures differ.
            namespace: another one than the manager's.
            where: conditions, for example ``{"score": {"gte": 0.8}, "metadata.team": "backend"}``.
            reranker: puts four times as many, by falling relevance, before they are cut to `top_k`: the name or folder
                of a sentence-transformers CrossEncoder, or a callable(request, texts) -> one number for each text.
                None: the manager's; ``"none"``: no reranking. Similarities stay as they are.

        Raises:
            InvalidInputError: a value that cannot be, or a semantic or hybrid search in a manager without an index.
            EmbedderError: the text cannot be embedded; the message says what to install or to check.
            RerankerError: the reranker cannot be loaded, or failed.
            StoreError: the store failed.
        """
        given = complete("search", SearchOptions, SEARCH_DEFAULTS, options)
        begin = functools.partial(self.sync.queries.loading_for, given["namespace"] or self.sync.namespace, given)
        await self._loaded(begin, self.sync.config.query_timeout)
        return await self._hop(self.sync.search, request, **options)

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Vectors of texts by the embedder of this manager, which remembers those of a moment ago.

        Returns:
            `vectors`: (n, d) float32 of unit length. `whole`: whether each text was read to its end. `embedder`: whose
            they are; vectors of different embedders cannot be compared.

        Raises:
            EmbedderError: there is none, it failed or took longer than `query_timeout`.
        """
        await self._loaded(self.sync.queries.begin_loading, self.sync.config.query_timeout)
        return await self._hop(self.sync.embed, texts)

    async def get_exps_count(self, where: Mapping[str, Any] | None = None) -> int:
        """How many current experiences, expired and quarantined ones too."""
        return await self._hop(self.sync.get_exps_count, where)

    async def iter_exps(
        self,
        where: Mapping[str, Any] | None = None,
        *,
        order_by: str = "created_at",
        limit: int | None = None,
        history: bool = False,
    ) -> AsyncIterator[Experience]:
        """Current experiences, expired and quarantined ones too, in the order of a field.

        Args:
            where: conditions, as for `search`; by default all experiences.
            order_by: the field; with a ``-`` before it: falling.
            limit: how many at most.
            history: earlier answers, too.

        Raises:
            InvalidInputError: `where` or `order_by` names an unknown field, or the limit is no whole number.
        """
        experiences = await self._hop(self.sync.iter_exps, where, order_by=order_by, limit=limit, history=history)
        while page := await self._hop(lambda: list(itertools.islice(experiences, _PAGE))):
            for experience in page:
                yield experience

    # Scores

    async def score_exps(
        self,
        scorer: str | Scorer,
        where: Mapping[str, Any] | None = None,
        *,
        again: bool = False,
        concurrency: int | None = None,
    ) -> ScoringReport:
        """Score experiences with a scorer, whatever their functions are decorated with. Returns what came of it.

        Current ones of this namespace, without failures unless `where` names a `kind`. Those that have a score of this
        scorer and version are skipped, so what was interrupted is gone on with by the same call. What fails is
        reported, not raised. The scorer that a function was decorated with goes on to decide about it. A bar shows how
        far it is, in a terminal or a notebook.

        Args:
            scorer: a callable of a `ScoreContext`, or the name of an installed one.
            where: conditions, as for `search`.
            again: score those, too, that have a score of this scorer and version.
            concurrency: how many at a time; by default what the scorer says, else one.

        Raises:
            ConfigurationError: the scorer is not installed, or cannot be used.
            InvalidInputError: `where` names an unknown field or operator.
            StoreError: the store failed; what was scored before is kept.
        """
        return await self._hop(self.sync.score_exps, scorer, where, again=again, concurrency=concurrency)

    async def why_unscored(self, id_: str) -> list[str]:
        """Why scorers gave an experience no score, the oldest reason first; empty where nothing went wrong."""
        return await self._hop(self.sync.why_unscored, id_)

    # Threads

    async def _loaded(self, begin: Callable[[], Future[Embedder] | None], timeout_s: float | None) -> None:
        """Wait for the model on the loop: on a thread, some who wait would keep all calls from theirs.

        Raises:
            StillLoadingError: it was not there in time.
        """
        nothing_to_do = self.sync.closed or self.sync.services.search.ready
        made = None if nothing_to_do else await self._hop(begin)
        if made is not None:
            await done_or_late(made, timeout_s)
            if not made.done():
                self.sync.queries.check_loaded()

    async def _hop(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What a job of the pool comes to, done by a thread."""
        call = functools.partial(job, *args, **kwargs)
        if self.sync.closed:
            return call()  # which says that the manager was closed
        return await aio.hop(self.sync.threads, call)
