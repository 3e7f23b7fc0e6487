"""`ExpManager`: the pool for async callers, and by `sync` for everyone else."""

from __future__ import annotations

import functools
import types
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from exp_pool.api.async_pool import AsyncPool
from exp_pool.api.current import current, unpickle_manager
from exp_pool.api.decorator import ExpCache, exp_cache
from exp_pool.api.pool import Pool
from exp_pool.api.report import Report
from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Embedder, Observer, RecordStore, VectorIndex
from exp_pool.core.experience import Experience
from exp_pool.core.results import Call
from exp_pool.core.settings import Settings
from exp_pool.errors import ClosedError, ConfigurationError
from exp_pool.maintenance.doctor import Diagnosis
from exp_pool.maintenance.index_sync import Progress
from exp_pool.runtime.background import Background
from exp_pool.runtime.counters import Stats
from exp_pool.runtime.display import Pairs, as_table, one_line, without_password
from exp_pool.runtime.plugs import checked_listeners, offers
from exp_pool.search.rerank import Reranker


class ExpManager(AsyncPool):
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
        super().__init__(self._opened(None))
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
        return unpickle_manager, (self._token, self.config, functions, ", ".join(objects))

    @functools.cached_property
    def sync(self) -> Pool:  # type: ignore[override]
        """The pool, blocking: the same methods without ``await``."""
        return self._opened(None)

    def _opened(self, before: Pool | None) -> Pool:
        stand_in = current.stand_in
        return (
            stand_in(self)
            if stand_in is not None
            else Pool(self._config, before=before, **self._plugs, **self._listeners)
        )

    def _opened_again(self) -> None:
        """Open the pool again if it was closed: a web application may start more than once in a process."""
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

    # Maintenance

    @property
    def background(self) -> Background:
        """Background tasks: refinements, and those that you register."""
        return self.sync.background

    async def flush(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  (a bound on work, not on waiting)
        """Wait for refinements, then do pending maintenance (embed, index, score, count): `timeout` seconds each."""
        await self.background.refined(timeout)
        await self._hop(self.sync.flush, timeout)

    async def warm_up(self) -> None:
        """Open the store, load the model, however long that takes, and open the index: call it at start.

        Then no call or query waits for any of it. A manager without an embedder or an index (``embedder="none"``)
        opens its store only.

        Raises:
            EmbedderError: the model cannot be had; the message says what to install or to check.
            StoreError: the store cannot be opened.
        """
        await self._loaded(self.sync.queries.begin_loading, None)
        await self._hop(self.sync.warm_up)

    async def reindex(self, progress: Progress | None = None) -> int:
        """Build the index anew from the store, beside the old one, which answers meanwhile. Returns its number of rows.

        Args:
            progress: called with the number of rows done and of all rows.

        Raises:
            VectorIndexError: it cannot be written, or another process has it open.
        """
        return await self._hop(self.sync.reindex, progress)

    async def doctor(self, *, fix: bool = False, progress: Progress | None = None) -> Diagnosis:
        """Report what is stored, pending and damaged; with `fix`, repair it.

        Only what is derived is repaired in place: of a damaged store, what can be read is kept, and the file set aside.
        """
        return await self._hop(self.sync.doctor, fix=fix, progress=progress)

    async def vacuum(self) -> None:
        """Give the space of what was deleted back to the disk. Others wait meanwhile."""
        await self._hop(self.sync.vacuum)

    async def backup(self, path: str | Path) -> None:
        """Copy the store, as it is at this moment, to a file that is not there yet; others go on meanwhile.

        Raises:
            StoreError: the file is there already, or cannot be written.
            InvalidInputError: the store is no file.
        """
        await self._hop(self.sync.backup, path)

    async def restore(self, source: str | Path) -> Path | None:
        """Put a copy of a backup in the place of the store, and set the present one aside. Returns where it is now.

        Raises:
            StoreError: the backup is damaged, or another process has the store open. Nothing was changed.
            InvalidInputError: the store is no file.
        """
        return await self._hop(self.sync.restore, source)

    async def report(self) -> Report:
        """What experiences did to the outcomes of calls (`feedback`), for each function that got some.

        Each experience's lift with an interval, who helps and who hurts, and how calls with experiences went against
        those without. Printed, it is a table. Lifts need calls that leave experiences out at random:
        ``Inject(..., holdout=0.1)``.
        """
        return await self._hop(self.sync.report)

    def stats(self) -> Stats:
        """What has happened in this process; plain numbers, no I/O."""
        return self.sync.stats()

    async def close(self) -> None:
        """End what goes on and release everything. Pending maintenance stays pending. Closing twice is fine.

        From then on calls run uncached, with one warning, and everything else raises `ClosedError`; ``with manager:``
        and ``async with manager:`` open it again.

        Background tasks are waited for, then cancelled (`background.shutdown`). Maintenance ends after the batch in
        hand. Each has `exit_timeout` seconds.
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
