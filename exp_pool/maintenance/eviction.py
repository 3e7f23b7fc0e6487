"""Eviction: deletes rows of a namespace that is larger than `max_entries` or `max_bytes`.

Eviction runs in maintenance, off every caller's path, so a pool may exceed its limits for a moment. The limits count
every row of the namespace, history too, or history would grow without bound. Expired rows go first, then history, then
what the policy says. What people annotated or added by hand, and insights, never go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from loguru import logger

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Evicted, EvictionOrder, RecordStore
from exp_pool.core.contracts.rows import logs_of
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.notices import Notices

_BATCH = 500  # rows deleted at once: what other writers wait for
_SPARE = 100  # eviction goes below a limit by a hundredth, so that not every new row makes the store sort all rows


class Eviction:
    """Brings namespaces below the limits of a pool.

    Args:
        store: where the rows are.
        config: `eviction`, `max_entries` and `max_bytes` of it.
        counters: counts `evicted`.
        notices: warns once of a namespace where nothing more may be evicted.
        evicted: called with a namespace and the rows that were evicted from it.
    """

    def __init__(
        self,
        store: RecordStore,
        config: ExpPoolConfig,
        counters: Counters,
        notices: Notices,
        evicted: Callable[[str, list[Evicted]], None],
    ) -> None:
        self._store = store
        self._order = EvictionOrder(config.eviction)
        self._max_rows, self._max_bytes = config.max_entries, config.max_bytes
        self._counters = counters
        self._notices = notices
        self._evicted = evicted

    @property
    def enabled(self) -> bool:
        """Whether the pool has a limit."""
        return self._max_rows is not None or self._max_bytes is not None

    def run(self, namespaces: Iterable[str]) -> None:
        """Bring these namespaces below the limits.

        Raises:
            StoreError: the store failed.
        """
        for namespace in namespaces:
            self._evict(namespace)

    def _evict(self, namespace: str) -> None:
        usage = self._store.usage(namespace)
        rows, size = usage.rows, usage.bytes
        if not _over(rows, self._max_rows) and not _over(size, self._max_bytes):
            return
        target_rows, target_bytes = _target(self._max_rows), _target(self._max_bytes)
        while (excess := max(rows - target_rows, _rows_in(size - target_bytes, size, rows))) > 0:
            evicted = self._store.evict(namespace, self._order, min(math.ceil(excess), _BATCH))
            if not evicted:
                self._notices.warn_once(
                    f"protected:{namespace}",
                    f"namespace {namespace!r} stays above its limit: {rows} experiences of {size} bytes, all of them "
                    "annotated, added by hand or insights, which are never evicted; raise max_entries or max_bytes",
                )
                return
            self._store.drop_logs(namespace, logs_of(row.id for row in evicted))
            rows -= len(evicted)
            size -= sum(row.size_bytes for row in evicted)
            self._counters.add("evicted", len(evicted))
            self._evicted(namespace, evicted)
        logger.info("{}: evicted {} of {} experiences", namespace, usage.rows - rows, usage.rows)


def _over(used: int, limit: int | None) -> bool:
    return limit is not None and used > limit


def _target(limit: int | None) -> float:
    return math.inf if limit is None else limit - limit // _SPARE


def _rows_in(size: float, total: int, rows: int) -> float:
    """About how many of the namespace's rows have `size` bytes together.

    Args:
        size: bytes; not above zero: no rows.
        total: bytes of all rows.
        rows: how many rows there are.
    """
    return 0 if size <= 0 or not rows else max(1.0, size / max(total / rows, 1))
