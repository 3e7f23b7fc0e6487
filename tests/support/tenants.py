"""Managers without a model, and where experiences of a pool lie."""

from exp_pool import ExpManager
from exp_pool.protocols import RecordQuery


def plain(**settings):
    return ExpManager(store="memory://", index="none://", embedder="none", **settings)


def by_one_vector():
    """A manager to which all texts are the same."""
    return ExpManager(store="memory://", index="exact://", embedder=lambda texts: [[1.0, 0.0] for _ in texts])


def namespaces_of(manager):
    """Where experiences lie, and the requests there."""
    found = {}
    for row in manager.sync.store.scan(RecordQuery(None)):
        found.setdefault(row.namespace, []).append(row.request)
    return {space: sorted(requests) for space, requests in found.items()}
