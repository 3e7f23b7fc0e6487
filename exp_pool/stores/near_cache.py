"""Near cache: a quick cache tier that processes share, in front of a record store; either may fail.

What the tier has was read from the store while nobody wrote about it: a reader that fills it holds a ticket, which is
worth nothing once somebody has begun to write (the leases of R. Nishtala et al., Scaling Memcache at Facebook, 2013).
A writer that cannot reach the tier makes all that it has worthless instead, by a new name of the store's contents,
which every process reads from the store once a second. With the store down, what the tier has still answers.
"""

from __future__ import annotations

import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from loguru import logger

from exp_pool.core.contracts.plugs import (
    CacheTier,
    Claim,
    Deletion,
    Evicted,
    EvictionOrder,
    Put,
    PutMode,
    PutStatus,
    RecordStore,
    Ticket,
)
from exp_pool.core.record import Record
from exp_pool.errors import StoreError
from exp_pool.runtime.breaker import Breaker
from exp_pool.runtime.clock import monotonic, now_us
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.stores.store_proxy import StoreProxy

T = TypeVar("T")

_STATE = "hot"  # in no namespace: the name of what is in the store now
_LOOK_EVERY_S = 1.0


@reinit_after_fork()
class NearCacheStore(StoreProxy):
    """A record store with a cache tier. Everything but reading and writing rows is the store's own.

    Of rows read by key, use counts and pending tasks may be old: they are not written to the tier, where each hit
    would throw a row out.

    Args:
        store: the authority.
        tier: quick, and may lose anything at any time.
        timeout_s: for how long at most the tier is left alone after it failed.
        trouble: told each time that the tier was tried and failed.
    """

    def __init__(
        self,
        store: RecordStore,
        tier: CacheTier,
        timeout_s: float,
        trouble: Callable[[StoreError], object] = lambda _: None,
    ) -> None:
        super().__init__(store)
        self._tier = tier
        self._failed = trouble
        self._breaker = Breaker(timeout_s)
        self._lock = threading.Lock()
        self._name = ""
        self._looked = -_LOOK_EVERY_S

    def repair(self) -> list[str]:
        """Repair the store; then nothing that the tier has is used any more."""
        with self._renamed():
            return self._store.repair()

    def restore(self, source: str | Path) -> Path | None:
        """Restore the store from a backup; then nothing that the tier has is used any more."""
        with self._renamed():
            return cast("Path | None", cast("Any", self._store).restore(source))

    @contextmanager
    def _renamed(self) -> Iterator[None]:
        """Afterwards other rows may be in the store, without a word about any of them."""
        try:
            yield
        finally:
            self._rename()

    def front_trouble(self) -> str:
        """Why the tier cannot be used now; empty where it can. Asks it, whatever was found before."""
        try:
            self._tier.look(self._contents(), "", [""])
        except StoreError as err:
            return str(err)
        return ""

    # The tier, as long as it works

    def _try(self, work: Callable[[], T]) -> T | None:
        """Ask the tier; None where it fails, or failed a moment ago."""
        if self._breaker.trouble():
            return None
        try:
            done = work()
        except StoreError as err:
            logger.debug("the store answers, because the hot tier is away: {}", err)
            self._breaker.failed(str(err))
            self._failed(err)
            return None
        self._breaker.succeeded()
        return done

    def _contents(self) -> str:
        """The name of what is in the store; at most a second old, unless the store is away."""
        if monotonic() - self._looked < _LOOK_EVERY_S:
            return self._name
        with self._lock:
            if monotonic() - self._looked >= _LOOK_EVERY_S:
                try:
                    self._name = self._named()
                except StoreError:
                    if not self._name:
                        raise
                self._looked = monotonic()
            return self._name

    def _named(self) -> str:
        """The name of what is in the store, as it is now."""
        known = self._store.read_state("", _STATE)
        if known is None:
            self._store.write_state("", _STATE, uuid.uuid4().hex, None)
            known = self._store.read_state("", _STATE)
        return known.value if known else ""

    def _rename(self) -> None:
        """Make all that the tier has worthless by a new name of the contents; others notice within a second."""
        written = False
        while not written:
            known = self._store.read_state("", _STATE)
            written = self._store.write_state("", _STATE, uuid.uuid4().hex, known.revision if known else None)
        self._looked = -_LOOK_EVERY_S

    # Reading

    def get_many(self, namespace: str, refs: Sequence[str], *, by: Literal["key", "id"] = "key") -> list[Record | None]:
        """Current rows from the tier where it has them, else the store's own, which the tier gets then."""
        if by == "id":
            return self._store.get_many(namespace, refs, by=by)
        contents = self._contents()
        looked = self._try(lambda: self._tier.look(contents, namespace, refs))
        if looked is None:
            return self._store.get_many(namespace, refs)
        missing = [ref for ref, (record, _) in zip(refs, looked, strict=True) if record is None]
        if not missing:
            return [record for record, _ in looked]
        rest = dict(zip(missing, self._store.get_many(namespace, missing), strict=True))
        self._fill(
            contents, [(rest[ref], ticket) for ref, (_, ticket) in zip(refs, looked, strict=True) if ref in rest]
        )
        return [record or rest[ref] for ref, (record, _) in zip(refs, looked, strict=True)]

    def _fill(self, contents: str, found: Sequence[tuple[Record | None, Ticket | None]]) -> None:
        filling = [(record, ticket) for record, ticket in found if record is not None and ticket is not None]
        if filling:
            self._try(lambda: self._tier.fill(contents, filling))

    def claim(self, namespace: str, key: str, owner: str, ttl_s: float, passing: str | None = None) -> Claim:
        """The row from the tier if it has a fresh one, else the store's own claim."""
        contents = self._contents()
        looked = self._try(lambda: self._tier.look(contents, namespace, [key]))
        record, ticket = looked[0] if looked else (None, None)
        if record is not None and record.id != passing and not record.expired(now_us()):
            return Claim(record=record)
        claim = self._store.claim(namespace, key, owner, ttl_s, passing)
        self._fill(contents, [(claim.record, ticket)])
        return claim

    # Writing

    @contextmanager
    def _changing(self, places: Mapping[str, Sequence[str]]) -> Iterator[dict[str, list[Record | None]]]:
        """For the time of a write to the store the tier forgets these keys, or a whole namespace without keys.

        Yields where the rows may be put that these keys have afterwards, in the order of the keys.
        """
        contents = self._contents()
        begun = self._begin(contents, places)
        if begun is None:
            self._rename()  # before anything is written, so that nobody gets what it replaces for longer than a second
        rows: dict[str, list[Record | None]] = {}
        yield rows
        # Where that failed, nobody knows what the store may still carry out of it: a writer who never ends keeps the
        # tier empty of these keys for as long as a store may take.
        named = self._named()
        if begun is not None and named != contents:  # under that name others may have filled in what they read before
            rows.clear()  # somebody may have written since
            anew = self._begin(named, places)
            begun = None if anew is None else begun + anew
        if begun is None:
            self._rename()  # once more: what was filled in under the name from before
        for name, space, mark in begun or ():
            self._try(lambda n=name, s=space, m=mark: self._tier.end(n, s, places[s], m, rows.get(s, ())))  # type: ignore[misc]

    def _begin(self, contents: str, places: Mapping[str, Sequence[str]]) -> list[tuple[str, str, bytes]] | None:
        """Contents, namespaces and marks; None where the tier is away."""
        return self._try(lambda: [(contents, s, self._tier.begin(contents, s, keys)) for s, keys in places.items()])

    def put_many(self, puts: Sequence[Put]) -> list[PutStatus]:
        """The store's own; the tier has what is current now, or nothing."""
        places: defaultdict[str, list[str]] = defaultdict(list)
        updates: defaultdict[str, list[str]] = defaultdict(list)
        for put in puts:
            if put.mode is PutMode.UPDATE:  # it keeps its key, whatever the new row says
                updates[put.record.namespace].append(put.record.id)
            else:
                places[put.record.namespace].append(put.record.key)
        for namespace, ids in updates.items():
            places[namespace] += self._keys(namespace, ids)
        with self._changing({space: keys for space, keys in places.items() if keys}) as rows:
            statuses = self._store.put_many(puts)
            if not updates:
                for put, status in zip(puts, statuses, strict=True):
                    current = put.record if status is PutStatus.CURRENT else None
                    rows.setdefault(put.record.namespace, []).append(current)
            return statuses

    def _keys(self, namespace: str, ids: Sequence[str]) -> list[str]:
        return [row.key for row in self._store.get_many(namespace, ids, by="id") if row is not None]

    def delete_many(self, namespace: str, ids: Sequence[str]) -> list[str]:
        """The store's own; afterwards the tier has none of these rows."""
        with self._changing({namespace: keys} if (keys := self._keys(namespace, ids)) else {}):
            return self._store.delete_many(namespace, ids)

    def apply_tombstones(self, namespace: str, deletions: Sequence[Deletion], cleared_at: int | None = None) -> None:
        """The store's own; afterwards the tier has none of these rows."""
        ids = [deletion.id for deletion in deletions]
        with self._changing({namespace: keys} if (keys := self._keys(namespace, ids)) else {}):
            self._store.apply_tombstones(namespace, deletions, cleared_at)

    def evict(self, namespace: str, order: EvictionOrder, count: int) -> list[Evicted]:
        """The store's own; afterwards the tier has nothing of the namespace."""
        with self._changing({namespace: []}):
            return self._store.evict(namespace, order, count)

    def clear(self, namespace: str) -> int:
        """The store's own; afterwards the tier has nothing of the namespace."""
        with self._changing({namespace: []}):
            return self._store.clear(namespace)

    def close(self) -> None:
        """Close the tier and the store."""
        try:
            self._tier.close()
        finally:
            self._store.close()
