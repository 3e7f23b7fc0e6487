"""Leases on keys of a shared store, by which processes agree on who computes an answer.

One thread (the heartbeat) renews all leases of a manager, a third of `lease_timeout` apart. A process that dies stops
renewing, and after `lease_timeout` the next one that asks takes the lease over; the fencing token then keeps a late
write of the first out of the store.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from typing import TypeAlias

from loguru import logger

from exp_pool.calls.steps import Claimed
from exp_pool.core.contracts.plugs import Lease, RecordStore
from exp_pool.errors import ExpPoolError
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.forks import reinit_after_fork

_Ref: TypeAlias = tuple[str, str]  # namespace and key

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.005, 0.2  # between two looks at what another process is computing


@reinit_after_fork()
class Leases:
    """The leases that one manager holds."""

    def __init__(self, store: RecordStore, timeout_s: float) -> None:
        self._store = store
        self._timeout_s = timeout_s
        self._usable = store.capabilities.shared and store.capabilities.leases
        self._owner = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._changed = threading.Condition()
        self._held: dict[_Ref, tuple[Lease, float]] = {}  # when it was last renewed
        self._returned: list[Lease] = []
        self._thread: threading.Thread | None = None
        self._stopping = False

    def claim(self, namespace: str, key: str, passing: str | None) -> Claimed:
        """The row of the key, or the lease to compute it; `busy` where another process has the lease.

        Args:
            namespace: of the key.
            key: what is to be computed.
            passing: the id of a row that does not answer the call, though it is fresh; the store treats it as absent.
        """
        if not self._usable:
            (record,) = self._store.get_many(namespace, [key])
            return Claimed(None if record is not None and record.id == passing else record)
        claim = self._store.claim(namespace, key, self._owner, self._timeout_s, passing)
        if claim.lease is not None:
            with self._changed:
                self._held[namespace, key] = (claim.lease, monotonic())
                self._ensure_thread()
        return Claimed(claim.record, claim.lease, busy=claim.record is None and claim.lease is None)

    def waits(self, *, nested: bool) -> Iterator[float]:
        """Seconds to wait between looks at a key that another process computes; ends where the call is to go alone.

        A call made inside another one waits no longer than the time-out: two processes may each wait for what the
        other is computing, and neither could know. Other calls wait as long as the other process renews its lease.
        """
        wait, waited = _FIRST_WAIT_S, 0.0
        while not nested or waited < self._timeout_s:
            yield wait
            waited += wait
            wait = min(wait * 1.5, _LONGEST_WAIT_S)

    def settle(self, lease: Lease) -> None:
        """The answer was stored, and the lease was released in the same transaction."""
        ref = (lease.namespace, lease.key)
        with self._changed:
            if ref in self._held and self._held[ref][0].token == lease.token:
                del self._held[ref]

    def give_back(self, namespace: str, key: str) -> None:
        """Nothing was stored: have the heartbeat thread, not the caller, release the lease, so that others may try."""
        if not self._held:
            return
        with self._changed:
            held = self._held.pop((namespace, key), None)
            if held is not None:
                self._returned.append(held[0])
                self._ensure_thread()
                self._changed.notify()

    def _ensure_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="exp_pool-leases", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        # It looks around by itself: waking it for each lease would cost every miss 100 us.
        pause = self._timeout_s / 3
        while True:
            with self._changed:
                if not self._returned and not self._stopping:
                    self._changed.wait(pause)
                returned, self._returned = self._returned, []
                due = [lease for lease, at in self._held.values() if monotonic() - at >= pause * 0.9]
                if self._stopping or not (returned or self._held):
                    self._thread = None
                    return
            for lease in returned:
                self._release(lease)
            for lease in due:
                self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        try:
            renewed = self._store.renew(lease, self._timeout_s)
        except ExpPoolError as err:  # the next beat tries again; if the lease ends meanwhile, the store refuses the row
            logger.debug("a lease was not renewed: {}", err)
            return
        with self._changed:
            ref = (lease.namespace, lease.key)
            if ref in self._held and self._held[ref][0].token == lease.token:
                if renewed is None:  # another process took over: the store will refuse this row
                    del self._held[ref]
                else:
                    self._held[ref] = (renewed, monotonic())

    def _release(self, lease: Lease) -> None:
        try:
            self._store.release(lease)
        except ExpPoolError as err:
            logger.debug("a lease was not given back, it ends by itself: {}", err)

    def close(self) -> None:
        """Give back what is held and end the thread."""
        with self._changed:
            self._stopping = True
            left = [*self._returned, *(lease for lease, _ in self._held.values())]
            self._returned, self._held = [], {}
            self._changed.notify()
        for lease in left:
            self._release(lease)
