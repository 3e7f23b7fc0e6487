"""``null://``: stores nothing and finds nothing. Callbacks and observers still hear of what would have been stored."""

from __future__ import annotations

from collections.abc import Sequence

from exp_pool.core.contracts.plugs import Capabilities, Claim, Deletion, Lease, Put, PutMode, PutStatus
from exp_pool.runtime.clock import now_us
from exp_pool.stores.memory import MemoryStore


class NullStore(MemoryStore):
    """The record store that keeps nothing (AgentHeaven's NoCache): a memory that stays empty."""

    capabilities = Capabilities(durable=False, shared=False, leases=False, blocking=False)

    def put_many(self, puts: Sequence[Put]) -> list[PutStatus]:
        return [PutStatus.CONFLICT if put.mode is PutMode.UPDATE else PutStatus.CURRENT for put in puts]

    def clear(self, namespace: str) -> int:
        return 0

    def apply_tombstones(self, namespace: str, deletions: Sequence[Deletion], cleared_at: int | None = None) -> None:
        pass

    def claim(self, namespace: str, key: str, owner: str, ttl_s: float, passing: str | None = None) -> Claim:
        return Claim(lease=Lease(namespace, key, owner, next(self._tokens), now_us() + int(ttl_s * 1e6)))

    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        return lease

    def write_state(self, namespace: str, name: str, value: str, expected_revision: int | None) -> bool:
        return expected_revision is None

    def append_log(self, namespace: str, name: str, entries: Sequence[str]) -> int:
        return 0
