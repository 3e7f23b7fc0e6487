"""What a manager does to look after its pool, for async callers. `ExpManager` is one of these."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from exp_pool.api.pool import Pool
from exp_pool.calls.drivers import aio
from exp_pool.core.contracts.plugs import Embedder
from exp_pool.maintenance.doctor import Diagnosis
from exp_pool.maintenance.index_sync import Progress
from exp_pool.runtime.background import Background
from exp_pool.search.embedders.loader import done_or_late

T = TypeVar("T")


class Tending:
    """Flushing, repairing, copying: each by one thread hop to the pool, which does it."""

    sync: Pool

    @property
    def background(self) -> Background:
        """What goes on beside the calls: refinements, and tasks that you register."""
        return self.sync.background

    async def flush(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  (a bound on work, not on waiting)
        """Wait for refinements and do what is owed: embed, index, score, count; at most so many seconds for each."""
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
        """Build the index anew from the store, beside the old one, which answers meanwhile; how many rows it has.

        Args:
            progress: called with the number of rows done and of all rows.

        Raises:
            VectorIndexError: it cannot be written, or another process has it open.
        """
        return await self._hop(self.sync.reindex, progress)

    async def doctor(self, *, fix: bool = False, progress: Progress | None = None) -> Diagnosis:
        """What is there, what is owed, what is damaged; with `fix`, mend it.

        Only what is derived is repaired in place: of a damaged store, what can be read is kept, and the file set aside.
        """
        return await self._hop(functools.partial(self.sync.doctor, fix=fix, progress=progress))

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
        """Put a copy of a backup in the place of the store, and set the present one aside; where it is now.

        Raises:
            StoreError: the backup is damaged, or another process has the store open. Nothing was changed.
            InvalidInputError: the store is no file.
        """
        return await self._hop(self.sync.restore, source)

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

    async def _hop(self, job: Callable[..., T], *args: Any) -> T:
        if self.sync.closed:
            return job(*args)  # which says that the manager was closed
        return await aio.hop(self.sync.threads, job, *args)
