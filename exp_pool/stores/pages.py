"""Pagination: the entries of a log, or the deletions of a namespace, as one iterator."""

from __future__ import annotations

from collections.abc import Iterator

from exp_pool.core.contracts.plugs import Deletion, RecordStore
from exp_pool.core.contracts.rows import audit_log

_PAGE = 100  # entries; an audit log holds what was edited, so that they may be long


def log_entries(store: RecordStore, namespace: str, name: str) -> Iterator[str]:
    """All entries of a log, the oldest first.

    Args:
        store: the store.
        namespace: whose log.
        name: of the log.
    """
    page = store.read_log(namespace, name, limit=_PAGE)
    while page:
        yield from (entry for _, entry in page)
        page = store.read_log(namespace, name, after=page[-1].position, limit=_PAGE)


def audit_entries(store: RecordStore, namespace: str, id_: str) -> list[str]:
    """The audit log of an experience, the oldest entry first.

    Args:
        store: the store.
        namespace: of the experience.
        id_: of the experience.
    """
    return list(log_entries(store, namespace, audit_log(id_)))


def all_deletions(store: RecordStore, namespace: str) -> Iterator[Deletion]:
    """What a namespace remembers of deleted rows, in the order of their ids."""
    page = store.deletions(namespace)
    while page:
        yield from page
        page = store.deletions(namespace, after=page[-1].id)
