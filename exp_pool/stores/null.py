"""``null://``: stores nothing and finds nothing. Callbacks and observers still hear of what would have been stored."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import (
    Capabilities,
    Claim,
    Completion,
    Deletion,
    Evicted,
    EvictionOrder,
    IndexPartition,
    Lease,
    LogEntry,
    Names,
    Put,
    PutStatus,
    RecordQuery,
    RequestRow,
    State,
    Touch,
    Usage,
    VectorRow,
)
from exp_pool.core.record import Record, TaskKind, Vector
from exp_pool.runtime.clock import now_us


class NullStore:
    """The record store that keeps nothing (AgentHeaven's NoCache)."""

    capabilities = Capabilities(durable=False, shared=False, leases=False, blocking=False)

    def __init__(self) -> None:
        self._tokens = itertools.count(1)

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig) -> NullStore:
        """The store of ``null://``."""
        return cls()

    def get_many(self, namespace: str, refs: Sequence[str], *, by: Literal["key", "id"] = "key") -> list[Record | None]:
        return [None] * len(refs)

    def put_many(self, puts: Sequence[Put]) -> list[PutStatus]:
        return [PutStatus.CONFLICT if put.mode == "update" else PutStatus.CURRENT for put in puts]

    def delete_many(self, namespace: str, ids: Sequence[str]) -> list[str]:
        return []

    def usage(self, namespace: str) -> Usage:
        return Usage(0, 0)

    def evict(self, namespace: str, order: EvictionOrder, count: int) -> list[Evicted]:
        return []

    def clear(self, namespace: str) -> int:
        return 0

    def scan(self, query: RecordQuery, **_order: Any) -> Iterator[Record]:
        return iter(())

    def count(self, query: RecordQuery, *, limit: int | None = None) -> int:
        return 0

    def touch_many(self, namespace: str, touches: Sequence[Touch]) -> None:
        pass

    def complete_many(self, completions: Sequence[Completion]) -> None:
        pass

    def enqueue(self, query: RecordQuery, task: TaskKind) -> int:
        return 0

    def get_vectors(self, namespace: str, ids: Sequence[str]) -> list[Vector | None]:
        return [None] * len(ids)

    def vectors_after(self, namespace: str, embedder: str, position: int, limit: int) -> list[VectorRow]:
        return []

    def spaces(self, namespace: str | None = None) -> dict[IndexPartition, int]:
        return {}

    def requests_after(self, namespace: str, position: int, limit: int) -> list[RequestRow]:
        return []

    def claim(self, namespace: str, key: str, owner: str, ttl_s: float, passing: str | None = None) -> Claim:
        return Claim(lease=Lease(namespace, key, owner, next(self._tokens), now_us() + int(ttl_s * 1e6)))

    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        return lease

    def release(self, lease: Lease) -> None:
        pass

    def read_state(self, namespace: str, name: str) -> State | None:
        return None

    def write_state(self, namespace: str, name: str, value: str, expected_revision: int | None) -> bool:
        return expected_revision is None

    def append_log(self, namespace: str, name: str, entries: Sequence[str]) -> int:
        return 0

    def read_log(self, namespace: str, name: str, *, after: int = 0, limit: int = 1000) -> list[LogEntry]:
        return []

    def drop_logs(self, namespace: str, names: Sequence[str]) -> None:
        pass

    def names(self, namespace: str) -> Names:
        return Names([], [])

    def deletions(self, namespace: str, *, after: str = "", limit: int = 1000) -> list[Deletion]:
        return []

    def cutoff(self, namespace: str) -> int | None:
        return None

    def bury(self, namespace: str, deletions: Sequence[Deletion], cutoff: int | None = None) -> None:
        pass

    def tidy(self, forget_before: int) -> None:
        pass

    def vacuum(self) -> None:
        pass

    def namespaces(self) -> list[str]:
        return []

    def repair(self) -> list[str]:
        return []

    def check(self) -> list[str]:
        return []

    def close(self) -> None:
        pass
