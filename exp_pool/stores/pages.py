"""Pages of a store as one iterator: rows by their ids, the entries of a log, the deletions of a namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from exp_pool.core.contracts.plugs import Deletion, RecordStore
from exp_pool.core.contracts.rows import audit_log
from exp_pool.core.record import Record

_ROWS = 500
_PAGE = 100  # entries; an audit log holds what was edited, so that they may be long


def rows_by_id(store: RecordStore, namespace: str, ids: Iterable[str]) -> Iterator[tuple[str, Record | None]]:
    """Each id with its row, None where there is none; in order."""
    left = iter(ids)
    while page := list(islice(left, _ROWS)):
        yield from zip(page, store.get_many(namespace, page, by="id"), strict=True)


def log_entries(store: RecordStore, namespace: str, name: str) -> Iterator[str]:
    """All entries of a log, the oldest first."""
    page = store.read_log(namespace, name, limit=_PAGE)
    while page:
        yield from (entry for _, entry in page)
        page = store.read_log(namespace, name, after=page[-1].position, limit=_PAGE)


def audit_entries(store: RecordStore, namespace: str, id_: str) -> list[str]:
    """What people and rules said and changed about an experience, the oldest first."""
    return list(log_entries(store, namespace, audit_log(id_)))


def all_deletions(store: RecordStore, namespace: str) -> Iterator[Deletion]:
    """What a namespace remembers of deleted rows, in the order of their ids."""
    page = store.deletions(namespace)
    while page:
        yield from page
        page = store.deletions(namespace, after=page[-1].id)
