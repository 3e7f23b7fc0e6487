"""The process's one manager, made at first use. It knows managers by protocol only: no import runs in a circle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from exp_pool.forks import reset_in_child
from exp_pool.pool import Pool


class HasPool(Protocol):
    """What a decorated function knows of a manager."""

    @property
    def sync(self) -> Pool:
        """The pool."""
        ...


class Current:
    """Holds the manager. After a fork the child makes its own: the parent's goes on with its files and threads."""

    def __init__(self) -> None:
        self.make: Callable[[], HasPool] | None = None  # `manager` says how, when it is imported
        self._start_over()
        reset_in_child(self._in_child)

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._manager: HasPool | None = None
        self._given = False

    def _in_child(self) -> None:
        self._lock = threading.Lock()
        if not self._given:  # one that was set by hand starts over by itself, with its own store and namespace
            self._manager = None

    def get(self) -> HasPool:
        """The manager, made now if there is none."""
        manager = self._manager
        if manager is not None:
            return manager
        with self._lock:
            if self._manager is None:
                assert self.make is not None, "exp_pool.manager has not been imported"
                self._manager = self.make()
            return self._manager

    @property
    def known(self) -> HasPool | None:
        """The manager, if there is one already."""
        return self._manager

    def replace(self, manager: HasPool | None) -> HasPool | None:
        """Hold this one; what was held before."""
        with self._lock:
            before, self._manager = self._manager, manager
            self._given = manager is not None
        return before


current = Current()
