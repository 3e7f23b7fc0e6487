"""A record store that hands every question on to another one, but for those that a subclass answers itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from exp_pool.core.contracts.plugs import RecordStore

M = TypeVar("M", bound=Callable[..., Any])


class _HandedOn:
    """A method of the store behind; looked up once for each proxy, so that a call costs nothing more."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, proxy: StoreProxy | None, owner: type) -> Any:
        if proxy is None:
            return self
        method = vars(proxy)[self._name] = getattr(proxy._store, self._name)  # noqa: SLF001
        return method


def _handed_on(method: M) -> M:  # noqa: ARG001  (what it is, for readers and type checkers)
    return cast("M", _HandedOn())


class StoreProxy:
    """A record store in front of another one.

    Args:
        store: the one behind.
    """

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self.capabilities = store.capabilities

    def __getattr__(self, name: str) -> Any:
        """What only the store behind offers, such as `backup` or `changes`."""
        return getattr(self._store, name)

    get_many = _handed_on(RecordStore.get_many)
    put_many = _handed_on(RecordStore.put_many)
    delete_many = _handed_on(RecordStore.delete_many)
    usage = _handed_on(RecordStore.usage)
    evict = _handed_on(RecordStore.evict)
    clear = _handed_on(RecordStore.clear)
    scan = _handed_on(RecordStore.scan)
    count = _handed_on(RecordStore.count)
    touch_many = _handed_on(RecordStore.touch_many)
    complete_many = _handed_on(RecordStore.complete_many)
    enqueue = _handed_on(RecordStore.enqueue)
    get_vectors = _handed_on(RecordStore.get_vectors)
    vectors_after = _handed_on(RecordStore.vectors_after)
    partitions = _handed_on(RecordStore.partitions)
    requests_after = _handed_on(RecordStore.requests_after)
    claim = _handed_on(RecordStore.claim)
    renew = _handed_on(RecordStore.renew)
    release = _handed_on(RecordStore.release)
    read_state = _handed_on(RecordStore.read_state)
    write_state = _handed_on(RecordStore.write_state)
    append_log = _handed_on(RecordStore.append_log)
    read_log = _handed_on(RecordStore.read_log)
    drop_logs = _handed_on(RecordStore.drop_logs)
    names = _handed_on(RecordStore.names)
    deletions = _handed_on(RecordStore.deletions)
    cleared_at = _handed_on(RecordStore.cleared_at)
    apply_tombstones = _handed_on(RecordStore.apply_tombstones)
    tidy = _handed_on(RecordStore.tidy)
    vacuum = _handed_on(RecordStore.vacuum)
    namespaces = _handed_on(RecordStore.namespaces)
    repair = _handed_on(RecordStore.repair)
    check = _handed_on(RecordStore.check)
    close = _handed_on(RecordStore.close)
