"""Keeps a namespace within `max_entries` and `max_bytes`. Off every caller's path: a pool may exceed them for a moment.

Limits count every row of the namespace, history too, or history would grow without bound. What has expired goes first,
then history, then what the policy says; what people annotated or added by hand, and insights, never go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from loguru import logger

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Evicted, EvictionOrder, RecordStore
from exp_pool.core.contracts.rows import audit_log
from exp_pool.runtime.counters import Counters
from exp_pool.runtime.notices import Notices

_BATCH = 500  # rows deleted at once: what other writers wait for
_SPARE = 100  # it goes below a limit by a hundredth, so that not every new row makes it sort them all


class Eviction:
    """Deletes what is too much."""

    def __init__(
        self,
        store: RecordStore,
        config: ExpPoolConfig,
        counters: Counters,
        notices: Notices,
        gone: Callable[[str, list[Evicted]], None],
    ) -> None:
        self._store = store
        self._order = EvictionOrder(config.eviction)
        self._max_rows, self._max_bytes = config.max_entries, config.max_bytes
        self._counters = counters
        self._notices = notices
        self._gone = gone

    @property
    def wanted(self) -> bool:
        """Whether there is a limit."""
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
        least_rows, least_bytes = _below(self._max_rows), _below(self._max_bytes)
        while (too_many := max(rows - least_rows, _rows_in(size - least_bytes, size, rows))) > 0:
            evicted = self._store.evict(namespace, self._order, min(math.ceil(too_many), _BATCH))
            if not evicted:
                self._notices.warn_once(
                    f"protected:{namespace}",
                    f"namespace {namespace!r} stays above its limit: {rows} experiences of {size} bytes, all of them "
                    "annotated, added by hand or insights, which are never evicted; raise max_entries or max_bytes",
                )
                return
            self._store.drop_logs(namespace, [audit_log(row.id) for row in evicted])
            rows -= len(evicted)
            size -= sum(row.size_bytes for row in evicted)
            self._counters.add("evicted", len(evicted))
            self._gone(namespace, evicted)
        logger.info("{}: evicted {} of {} experiences", namespace, usage.rows - rows, usage.rows)


def _over(used: int, limit: int | None) -> bool:
    return limit is not None and used > limit


def _below(limit: int | None) -> float:
    return math.inf if limit is None else limit - limit // _SPARE


def _rows_in(size: float, total: int, rows: int) -> float:
    """About how many rows have so many bytes."""
    return 0 if size <= 0 or not rows else max(1.0, size / max(total / rows, 1))
