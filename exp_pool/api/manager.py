"""`ExpManager`: the pool for async callers, and by `sync` for everyone else."""

from __future__ import annotations

import functools
import itertools
import types
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self, Unpack

from exp_pool.api.current import arrived, current
from exp_pool.api.decorator import ExpCache, exp_cache
from exp_pool.api.maintenance import Tending
from exp_pool.api.pool import Pool
from exp_pool.api.queries import SEARCH_DEFAULTS, SearchOptions
from exp_pool.api.report import Report
from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Embedder, Observer, RecordStore, Scorer, VectorIndex
from exp_pool.core.experience import MISSING, Call, Experience, HistoryEntry, Hit
from exp_pool.core.settings import Settings
from exp_pool.errors import ClosedError, ConfigurationError
from exp_pool.maintenance.backfill import ScoringReport
from exp_pool.runtime.counters import Stats
from exp_pool.runtime.display import Pairs, as_table, one_line
from exp_pool.runtime.keyword_options import complete, lists
from exp_pool.runtime.plugs import checked_listeners, offers
from exp_pool.runtime.urls import without_password
from exp_pool.search.embedders.service import Embedded
from exp_pool.search.rerank import Reranker

_PAGE = 200  # experiences fetched by one thread hop while iterating


class ExpManager(Tending):
    """Stores experiences, finds them again, and lets people correct them.

    Everything that touches the pool is ``async``; `sync` has the same names, blocking. Each method works on the
    namespace that surrounds it (`in_namespace`), else the manager's. Use it as ``with`` or ``async with``, or close it.

    Args:
        config: settings; by default from the environment and the project's files.
        store: a record store, or its URL (``sqlite:///file``, ``json:///folder``, ``memory://``, ``null://``).
        index: a vector index, or its URL (``chroma:///folder``, ``exact://``, ``none://``).
        embedder: ``sentence-transformers/NAME``, ``none``, an embedder, or any ``callable(list[str]) -> vectors``.
        reranker: puts what queries find in order, where they name no other: the name or folder of a
            sentence-transformers CrossEncoder, or a ``callable(request, texts) -> one number for each text``.
        callbacks: called with (key, experience) after every store, in order.
        feeds: asked with the `Call`, in order, before the lookup; the first that does not return ``...`` answers.
        observers: hear of every `Event`.
        settings: fields of `ExpPoolConfig`.

    Raises:
        pydantic.ValidationError: a setting is unknown or wrong.
        ConfigurationError: a URL or an embedder is unknown, or a configuration file cannot be read.
    """

    def __init__(
        self,
        config: ExpPoolConfig | None = None,
        *,
        store: RecordStore | str | None = None,
        index: VectorIndex | str | None = None,
        embedder: Callable[..., Any] | Embedder | str | None = None,
        reranker: Reranker | str | None = None,
        callbacks: Sequence[Callable[[str, Experience], Any]] = (),
        feeds: Sequence[Callable[[Call], Any]] = (),
        observers: Sequence[Observer] = (),
        **settings: Unpack[Settings],
    ) -> None:
        plugs = {"store": store, "index": index, "embedder": embedder, "reranker": reranker}
        for name, plug, contract in (("store", store, RecordStore), ("index", index, VectorIndex)):
            if plug is not None and not (isinstance(plug, str) or offers(plug, contract)):
                raise ConfigurationError(f"{name}={plug!r} is neither a URL nor a {contract.__name__}")
        if not (reranker is None or isinstance(reranker, str) or callable(reranker)):
            raise ConfigurationError(
                f"reranker={reranker!r} is neither the name of a CrossEncoder nor a callable(request, texts) -> numbers"
            )
        given: dict[str, Any] = {**settings, **{name: plug for name, plug in plugs.items() if isinstance(plug, str)}}
        if config is None:
            config = ExpPoolConfig(**given)
        elif given:
            config = config.changed(given)
        self._plugs: dict[str, Any] = {
            name: plug for name, plug in plugs.items() if plug is not None and not isinstance(plug, str)
        }
        self._listeners: dict[str, Any] = {
            "callbacks": checked_listeners("callbacks", callbacks, "a callable(key, experience)", callable),
            "feeds": checked_listeners("feeds", feeds, "a callable(call)", callable),
            "observers": checked_listeners(
                "observers", observers, "an object with a method notify(event)", lambda one: offers(one, Observer)
            ),
        }
        self._token = uuid.uuid4().hex
        self._config = config
        self.sync = self._opened(None)
        current.by_token[self._token] = self

    def __reduce__(self) -> tuple[Any, ...]:
        """Itself in this process; where decorated functions are sent to by value, one that opens the same pool."""
        given = {**self._plugs, **{name: called for name, called in self._listeners.items() if called}}
        single = {name: [plug] for name, plug in self._plugs.items()}
        objects = [
            name
            for name, each in {**self._listeners, **single}.items()
            if not all(isinstance(one, types.FunctionType) for one in each)
        ]
        functions = {} if objects else given
        return arrived, (self._token, self.config, functions, ", ".join(objects))

    @functools.cached_property
    def sync(self) -> Pool:  # type: ignore[override]
        """The same, blocking: a pool. Normally there from the beginning."""
        return self._opened(None)

    def _opened(self, before: Pool | None) -> Pool:
        stand_in = current.stand_in
        return (
            stand_in(self)
            if stand_in is not None
            else Pool(self._config, before=before, **self._plugs, **self._listeners)
        )

    def _opened_again(self) -> None:
        """Open it, if it was closed: a web application's lifespan may come more than once in a process."""
        if not self.sync.closed:
            return
        given = [name for name in ("store", "index") if name in self._plugs and current.stand_in is None]
        if given:
            raise ClosedError(
                f"the manager was closed, and its {' and '.join(given)} with it, which was given to it open: make a "
                "new manager, or give it a URL"
            )
        self.sync = self._opened(self.sync)

    @property
    def config(self) -> ExpPoolConfig:
        """The settings."""
        return self._config

    @property
    def exp_cache(self) -> ExpCache:
        """The decorator `exp_pool.exp_cache`, bound to this manager; with or without parentheses."""
        return ExpCache(self)

    # Switches

    @property
    def enabled(self) -> bool:
        """The main switch: off, every call runs the function, and nothing is stored, by calls or by hand."""
        return self.sync.enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self.sync.enabled = value

    @property
    def is_readable(self) -> bool:
        """Whether calls are answered from the pool. Off, or while `enabled` is, queries still find what is stored."""
        return self.sync.is_readable

    @is_readable.setter
    def is_readable(self, value: bool) -> None:
        self.sync.is_readable = value

    @property
    def is_writable(self) -> bool:
        """Whether answers are stored, and people may add, change and delete.

        Off, or while `enabled` is, calls go on and store nothing; `create_exp`, `annotate`, `feedback`, deletions and
        whatever else changes what is stored raise `ReadOnlyError`.
        """
        return self.sync.is_writable

    @is_writable.setter
    def is_writable(self, value: bool) -> None:
        self.sync.is_writable = value

    @property
    def replay(self) -> bool:
        """Whether a call that the pool cannot answer is an error (`ReplayMissError`) instead of running."""
        return self.sync.replay

    @replay.setter
    def replay(self, value: bool) -> None:
        self.sync.replay = value

    # Experiences

    async def create_exp(self, experience: Experience) -> str:
        """Store one experience; its id. It becomes the one that answers its call.

        Raises:
            ReadOnlyError: `is_writable` is off. So for everything below that changes what is stored.
            ConflictError: there is one with this id already.
            EncodingError: it holds something that cannot be restored from JSON.
        """
        return await self._hop(self.sync.create_exp, experience)

    async def create_exps(self, experiences: Sequence[Experience]) -> list[str]:
        """Store experiences; their ids. Those whose id is taken are refused after the others are stored.

        Raises:
            ConflictError: some ids are taken; the message says how many.
            EncodingError: one holds something that cannot be restored from JSON; none is stored.
        """
        return await self._hop(self.sync.create_exps, experiences)

    async def get_exp(self, id_: str) -> Experience | None:
        """The experience of this id, history too; None if there is none in this namespace."""
        return await self._hop(self.sync.get_exp, id_)

    async def update_exp(self, id_: str, **changes: Any) -> Experience:
        """Change fields of an experience; the changed one. What it is found by cannot change: see `Experience.clone`.

        Raises:
            NotFoundError: there is none of this id.
            InvalidInputError: a field is unknown, or cannot be changed.
            pydantic.ValidationError: a value is wrong.
        """
        return await self._hop(functools.partial(self.sync.update_exp, id_, **changes))

    async def annotate(
        self, id_: str, *, expected: Any = MISSING, metadata: Mapping[str, Any] | None = None
    ) -> Experience:
        """Say what the answer should be (by default: the one it gave); from now on that answers. Audited.

        Raises:
            NotFoundError: there is none of this id.
        """
        return await self._hop(functools.partial(self.sync.annotate, id_, expected=expected, metadata=metadata))

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
        """Delete an experience; whether it was there. Its call misses from now on: history is not promoted."""
        return await self._hop(self.sync.delete_exp, id_)

    async def delete_exps(self, where: Mapping[str, Any]) -> int:
        """Delete the current experiences that meet all conditions; how many.

        Raises:
            InvalidInputError: no condition, or an unknown field or operator.
        """
        return await self._hop(self.sync.delete_exps, where)

    async def delete_all_exps(self) -> int:
        """Delete everything in this namespace, history too; how many rows."""
        return await self._hop(self.sync.delete_all_exps)

    async def erase(self, where: Mapping[str, Any]) -> int:
        """Delete what meets all conditions, history too, and leave no byte of it on disk; how many rows.

        The store is written anew without it, and so is the index; what changes (`exp_pool.curation`) deleted and could
        restore goes from their journals. Copies made before (backups, snapshots) are yours.

        Raises:
            InvalidInputError: no condition, or an unknown field or operator.
            StoreError: the store cannot be written anew; it was deleted, but may still be read from the file.
            VectorIndexError: likewise the index, which another process may have open. Erase again later.
        """
        return await self._hop(self.sync.erase, where)

    async def clear_expired(self) -> int:
        """Delete what has expired; how many."""
        return await self._hop(self.sync.clear_expired)

    async def clear_by_key(self, key: str) -> int:
        """Delete what is stored under a key (see ``.key()`` of a decorated function), its history too.

        How many rows.
        """
        return await self._hop(self.sync.clear_by_key, key)

    # Queries

    @lists(SearchOptions, SEARCH_DEFAULTS)
    async def query_exps(self, request: str, **options: Unpack[SearchOptions]) -> list[Experience]:
        """The experiences of `search`, which says what the options mean."""
        return [hit.experience for hit in await self.search(request, **options)]

    @lists(SearchOptions, SEARCH_DEFAULTS)
    async def search(self, request: str, **options: Unpack[SearchOptions]) -> list[Hit]:
        """Experiences whose request is equal (``exact``: all of them, newest first) or similar (most similar first).

        Similar by meaning (``semantic``: cosine similarity of embeddings), by words (``lexical``: BM25, which needs
        neither an embedder nor an index), or by both (``hybrid``: reciprocal rank fusion). A hit says which
        (`found_by`), and how similar: the cosine; of a lexical search, the share of what the request itself would
        score, 0 to 1.

        What was written before is found: a semantic search first embeds what is still owed, within `query_timeout`.
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
        begin = functools.partial(self.sync.queries.loading_for, given["namespace"] or self.sync.space, given)
        await self._loaded(begin, self.config.query_timeout)
        return await self._hop(functools.partial(self.sync.search, request, **options))

    async def embed(self, texts: Sequence[str]) -> Embedded:
        """Vectors of texts by the embedder of this manager, which remembers those of a moment ago.

        Returns:
            `vectors`: (n, d) float32 of unit length. `whole`: whether each text was read to its end. `embedder`: whose
            they are; vectors of different embedders cannot be compared.

        Raises:
            EmbedderError: there is none, it failed or took longer than `query_timeout`.
        """
        await self._loaded(self.sync.queries.begin_loading, self.config.query_timeout)
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
        """Current experiences, expired and quarantined ones too, in the order of a field (``-field``: falling)."""
        iterate = functools.partial(self.sync.iter_exps, where, order_by=order_by, limit=limit, history=history)
        experiences = await self._hop(iterate)
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
        """Score experiences with a scorer, whatever their functions are decorated with; what came of it, and its cost.

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
        score = functools.partial(self.sync.score_exps, scorer, where, again=again, concurrency=concurrency)
        return await self._hop(score)

    async def why_unscored(self, id_: str) -> list[str]:
        """Why scorers gave an experience no score, the oldest reason first; empty where nothing went wrong."""
        return await self._hop(self.sync.why_unscored, id_)

    async def report(self) -> Report:
        """What experiences did to the outcomes of calls (`feedback`), for each function that got some.

        Each experience's lift with an interval, who helps and who hurts, and how calls with experiences went against
        those without. Printed, it is a table. LiftTable need calls that leave experiences out at random:
        ``Inject(..., holdout=0.1)``.
        """
        return await self._hop(self.sync.report)

    def stats(self) -> Stats:
        """What has happened in this process; plain numbers, no I/O."""
        return self.sync.stats()

    async def close(self) -> None:
        """End what goes on and release everything. What upkeep owes stays owed. Closing twice is fine.

        From then on calls run uncached, with one warning, and everything else raises `ClosedError`; ``with manager:``
        and ``async with manager:`` open it again.

        Background tasks are waited for, then cancelled (`background.shutdown`); upkeep ends after the batch in hand.
        Each has `exit_timeout` seconds.
        """
        if not self.sync.closed:
            await self.background.shutdown(self.config.exit_timeout)
            await self._hop(self.sync.release)

    def __enter__(self) -> Self:
        self._opened_again()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sync.close()

    async def __aenter__(self) -> Self:
        self._opened_again()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _pairs(self) -> Pairs:
        yield "store", without_password(self.config.store)
        yield "index", without_password(self.config.index)
        yield "namespace", self.config.namespace

    def __repr__(self) -> str:
        return one_line("ExpManager", self._pairs())

    def _repr_html_(self) -> str:
        counted = ((name, count) for name, count in asdict(self.stats()).items() if count)
        return as_table("ExpManager", [*self._pairs(), *counted])


current.make = ExpManager


def get_exp_manager() -> ExpManager:
    """The manager that decorated functions use where none is named: made at first use, by the default configuration.

    Raises:
        pydantic.ValidationError: a setting in the environment or in a file is wrong.
        ConfigurationError: a URL is wrong, or a file cannot be read.
    """
    manager = current.get()
    assert isinstance(manager, ExpManager)
    return manager


def set_exp_manager(manager: ExpManager | None) -> None:
    """Make this the process's manager; None closes and forgets the present one, and the next use makes a new one."""
    before = current.replace(manager)
    if manager is None and before is not None:
        before.sync.close()


__all__ = ["ExpManager", "exp_cache", "get_exp_manager", "set_exp_manager"]
