"""``memory://``: for tests, notebooks and as the meaning that other stores are compared with."""

from __future__ import annotations

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Capabilities
from exp_pool.stores.tables import Tables


class MemoryStore(Tables):
    """The record store of one process's memory; gone with it."""

    capabilities = Capabilities(durable=False, shared=False, leases=True, blocking=False, atomic_batches=True)

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig) -> MemoryStore:  # noqa: ARG003
        """The store of ``memory://``; every manager has its own."""
        return cls()
