"""Connection pool of one server: connections are kept open and lent to one thread at a time.

Neither psycopg's pool nor another one is used: theirs open connections on threads of their own and let callers wait for
these, so that with the server away every caller waits for the whole time-out to hear what a refused connection says at
once. And PyMySQL has none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Generic, Protocol, TypeVar

from exp_pool.errors import StoreError
from exp_pool.runtime.breaker import Breaker
from exp_pool.runtime.forks import reinit_after_fork


class Closable(Protocol):
    """A connection of a driver's."""

    def close(self) -> object:
        """End the connection."""
        ...


C = TypeVar("C", bound=Closable)
R = TypeVar("R")


class ServerUnavailable(Exception):  # noqa: N818  (it is a state of the server, and never leaves this package)
    """The server could not be reached, has hung up, or has not answered in time. The driver's error is its cause.

    Args:
        why: for people.
        hung: whether it was waited for in vain.
    """

    def __init__(self, why: str, *, hung: bool = False) -> None:
        super().__init__(why)
        self.hung = hung


@reinit_after_fork(leave=("_idle", "_lent"))  # closing them would end the parent's sessions
class Connections(Generic[C]):
    """A bounded connection pool. Thread-safe.

    Args:
        connect: opens one, within the time-out, or raises `ServerUnavailable`.
        usable: whether one that was used can be used again: it is open, and in no transaction.
        timeout_s: how long to wait for one.
        limit: how many there are at most.
        place: where they lead to, for people.
    """

    def __init__(
        self, connect: Callable[[], C], usable: Callable[[C], bool], timeout_s: float, limit: int, place: str
    ) -> None:
        self._place = place
        self._connect = connect
        self._usable = usable
        self._timeout_s = timeout_s
        self._limit = limit
        self._breaker = Breaker(timeout_s)
        self._idle: list[C] = []
        self._lent: set[C] = set()
        self._free = threading.Semaphore(self._limit)
        self._turn = 0  # connections of an earlier one are not kept

    def run(self, work: Callable[[C], R], repeatable: Callable[[], bool] = lambda: True) -> R:
        """Do it with a connection. Where one that was kept open turns out to be lost, once more with a new one.

        Args:
            work: raises `ServerUnavailable` where the connection is lost.
            repeatable: whether it may be done once more; asked after it failed.

        Raises:
            ServerUnavailable: the server is away, or was a moment ago.
            StoreError: all connections are in use.
        """
        kept = bool(self._idle)
        try:
            with self._lend(kept=kept) as connection:
                return work(connection)
        except ServerUnavailable as err:
            if not kept or err.hung or not repeatable():
                raise
        with self._lend(kept=False) as connection:
            return work(connection)

    @contextmanager
    def _lend(self, *, kept: bool) -> Iterator[C]:
        trouble = self._breaker.trouble()
        if trouble:
            raise ServerUnavailable(f"{trouble} (a moment ago; it is tried again soon)", hung=True)
        if not self._free.acquire(timeout=self._timeout_s):
            raise StoreError(
                f"{self._place}: all {self._limit} connections were in use for longer than "
                f"store_timeout={self._timeout_s:g} s. Raise it, or use the pool less at once"
            )
        try:
            turn = self._turn
            connection = self._take(kept=kept)
            self._lent.add(connection)
            try:
                yield connection
            finally:
                self._lent.discard(connection)
                if turn == self._turn and self._usable(connection):
                    self._breaker.succeeded()
                    self._idle.append(connection)
                else:
                    with suppress(Exception):
                        connection.close()
        except ServerUnavailable as err:
            self._drop_idle()
            if err.hung or not kept:
                self._breaker.failed(str(err))
            raise
        finally:
            self._free.release()

    def _take(self, *, kept: bool) -> C:
        if kept:
            with suppress(IndexError):
                return self._idle.pop()  # the one used last: those that are not needed grow old
        return self._connect()

    def _drop_idle(self) -> None:
        while self._idle:
            with suppress(Exception):
                self._idle.pop().close()

    def close(self) -> None:
        """End all that nobody uses now; the others are ended when they come back."""
        self._turn += 1
        self._drop_idle()
