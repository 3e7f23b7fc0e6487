"""Singleton manager of the process, made at first use. Managers are known by protocol only: no import circle."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol
from weakref import WeakValueDictionary

from exp_pool.api.pool import Pool
from exp_pool.core.config import ExpPoolConfig
from exp_pool.errors import ConfigurationError
from exp_pool.runtime.forks import reset_in_child


class ManagerProtocol(Protocol):
    """What a decorated function knows of a manager."""

    @property
    def sync(self) -> Pool:
        """The pool."""
        ...


class CurrentManager:
    """Holds the manager. After a fork the child makes its own: the parent's goes on with its files and threads."""

    def __init__(self) -> None:
        self.make: Callable[..., ManagerProtocol] | None = None  # `manager` says how, when it is imported
        self.stand_in: Callable[[Any], Pool] | None = None  # what opens a pool in the place of a manager's own
        self._lock = threading.Lock()
        self._manager: ManagerProtocol | None = None
        self._given = False
        # Managers go along where decorated functions are sent: those of this process, and those that came.
        self.by_token: WeakValueDictionary[str, ManagerProtocol] = WeakValueDictionary()
        self._unpickled: dict[str, ManagerProtocol] = {}  # kept, since the same function is sent again and again
        reset_in_child(self._in_child)

    def _in_child(self) -> None:
        self._lock = threading.Lock()
        if not self._given:  # one that was set by hand starts over by itself, with its own store and namespace
            self._manager = None

    def get(self) -> ManagerProtocol:
        """The manager, made now if there is none."""
        manager = self._manager
        if manager is not None:
            return manager
        with self._lock:
            if self._manager is None:
                self._manager = self._make()
            return self._manager

    @property
    def known(self) -> ManagerProtocol | None:
        """The manager, if there is one already."""
        return self._manager

    def _make(self, *args: Any, **kwargs: Any) -> ManagerProtocol:
        if self.make is None:  # a function was sent here, and brought nothing of the package that it does not name
            importlib.import_module("exp_pool.api.manager")
        assert self.make is not None
        return self.make(*args, **kwargs)

    def unpickle(
        self, token: str, config: ExpPoolConfig, functions: Mapping[str, Any], objects: str
    ) -> ManagerProtocol:
        """The manager that was sent: itself in its own process, elsewhere one that opens the same pool.

        Args:
            token: what it is sent as.
            config: its settings.
            functions: what it was given besides, where those were functions: they can be sent.
            objects: names of what else it was given, which cannot.
        """
        with self._lock:
            found = self.by_token.get(token, self._unpickled.get(token))
            if found is None:
                found = _unavailable(objects) if objects else self._make(config, **functions)
                self._unpickled[token] = found
            return found

    def replace(self, manager: ManagerProtocol | None) -> ManagerProtocol | None:
        """Make this the current manager and return the one before."""
        return self.put(manager, given=manager is not None)[0]

    def put(self, manager: ManagerProtocol | None, *, given: bool) -> tuple[ManagerProtocol | None, bool]:
        """Make this the current manager and return the one before, each with whether somebody gave it."""
        with self._lock:
            before = self._manager, self._given
            self._manager, self._given = manager, given
        return before


class UnavailableManager:
    """Stands for a manager that could not be sent here: the function runs uncached, and says why."""

    def __init__(self, why: str) -> None:
        self._why = why

    @property
    def sync(self) -> NoReturn:
        """Raise: there is no pool.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(self._why)


def _unavailable(objects: str) -> UnavailableManager:
    return UnavailableManager(
        f"its manager cannot be opened in this process, because it was made with objects ({objects}); give URLs "
        "instead, or leave the manager out and let each process set its own with set_exp_manager"
    )


current = CurrentManager()


def unpickle_manager(token: str, config: ExpPoolConfig, functions: Mapping[str, Any], objects: str) -> ManagerProtocol:
    """What a pickled manager calls; see `CurrentManager.unpickle`."""
    return current.unpickle(token, config, functions, objects)
