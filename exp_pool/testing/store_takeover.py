"""Store takeover: one store replaces every manager's own for the time of a test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self, cast

from exp_pool.api.current import current
from exp_pool.api.pool import Pool
from exp_pool.core.config import ExpPoolConfig
from exp_pool.stores.store_proxy import StoreProxy

if TYPE_CHECKING:
    from types import TracebackType

    from exp_pool.api.manager import ExpManager
    from exp_pool.core.contracts.plugs import RecordStore

_TESTS = "tests"  # the namespace of managers that have none of their own
# What would make a recording depend on where, when and with which settings it was made.
_ALIKE: dict[str, Any] = {
    "index": "none://",
    "embedder": "none",
    "reranker": "none",
    "hot": None,
    "key_secret": None,
    "default_ttl": None,
    "max_entries": None,
    "max_bytes": None,
    "enabled": True,
    "enable_read": True,
    "enable_write": True,
}


class TakenOver:
    """Context in which every manager works on one store instead of its own.

    Each keeps its callbacks, feeds and observers, its namespace where the code gave it one, and being closed: what one
    closes is open for the others. Afterwards each has its own pool again; that of a manager that was made meanwhile is
    opened when it is first used.

    Args:
        store: where all of them read and write; closed at the end.
        url: what its managers are said to have.
        replay: whether a miss is an error.
        read: whether calls are answered.
        remedy: what the error of a miss says is to be done.
    """

    def __init__(self, store: RecordStore, url: str, *, replay: bool, read: bool, remedy: str) -> None:
        self._store = store
        self._url = url
        self._replay, self._read, self._remedy = replay, read, remedy
        self._own: list[tuple[ExpManager, Pool | None]] = []
        self._pools: list[Pool] = []

    def __enter__(self) -> Self:
        self._before = current.put(None, given=True)
        current.stand_in = self._stand_in
        for manager in _managers():
            pool = vars(manager).get("sync")
            self._own.append((manager, pool))
            manager.sync = self._stand_in(manager)
            if pool is not None:
                pool.replaced_by = (
                    "this is the pool that the pytest fixture exp_pool stands in for: ask the manager itself"
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        current.stand_in = None
        own = {id(manager): pool for manager, pool in self._own}
        for manager in _managers():
            pool = own.get(id(manager))
            if pool is not None:
                manager.sync, pool.replaced_by = pool, ""
            else:
                vars(manager).pop("sync", None)  # it opens its own when it is used
        current.put(self._before[0], given=self._before[1])
        for pool in self._pools:
            pool.close()
        self._store.close()

    def _stand_in(self, manager: ExpManager) -> Pool:
        own = manager.config
        given = own.namespace != ExpPoolConfig.model_fields["namespace"].default and not _of_environment(own.namespace)
        config = own.model_copy(update={**_ALIKE, "store": self._url, "namespace": own.namespace if given else _TESTS})
        pool = Pool(config, store=_Shared(self._store), **manager._listeners)  # noqa: SLF001
        pool.replay, pool.is_readable, pool.replay_remedy, pool.keeps_forever = (
            self._replay,
            self._read,
            self._remedy,
            True,
        )
        self._pools.append(pool)
        return pool


def _managers() -> list[ExpManager]:
    return [cast("ExpManager", manager) for manager in list(current.by_token.values())]


def _of_environment(namespace: str) -> bool:
    """Whether the environment set this: a recording must also work for others."""
    return any(name.upper() == "EXP_POOL_NAMESPACE" and value == namespace for name, value in os.environ.items())


class _Shared(StoreProxy):
    """Store that several pools share and none of them closes."""

    def close(self) -> None:
        """Do nothing: other pools use it."""
