"""Fault injection: `FaultyStore`, a record store that fails where a plan says.

::

    store = FaultyStore(MemoryStore(), at(3))  # the third call of any method raises
    store = FaultyStore(MemoryStore(), every("put_many", after=True))  # written, but the caller hears of trouble
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from exp_pool.core.contracts.plugs import RecordStore
from exp_pool.errors import StoreError


@dataclass(frozen=True)
class Fault:
    """Failure of one call.

    Args:
        error: raised; None: nothing is.
        after: only after the store has done its work, as when a connection breaks before the answer is there.
        wait: called before anything else, for example ``event.wait``: a store that hangs.
    """

    error: BaseException | None = None
    after: bool = False
    wait: Callable[[], object] | None = None


Plan: TypeAlias = Callable[[str, int], Fault | None]
"""From the method's name and the number of the call, from 1 and over all methods, to what goes wrong with it."""


def at(number: int, error: BaseException | None = None, *, after: bool = False) -> Plan:
    """Fail the call of this number. Run a scenario for 1, 2, ... until `FaultyStore.calls` stays below it.

    Args:
        number: from 1 on.
        error: what is raised.
        after: the call was done before it fails.
    """
    fault = Fault(error or StoreError(f"call {number} was made to fail"), after=after)
    return lambda _, count: fault if count == number else None


def every(method: str, error: BaseException | None = None, *, after: bool = False) -> Plan:
    """Fail every call of a method.

    Args:
        method: its name; ``"*"``: any method.
        error: what is raised.
        after: the call was done before it fails.
    """
    fault = Fault(error or StoreError(f"{method} was made to fail"), after=after)
    return lambda name, _: fault if method in (name, "*") else None


class FaultyStore:
    """Record store that passes calls on to another one, except those that its plan fails.

    Attributes:
        calls: the methods called, in order.
        plan: may be set at any time; None: nothing goes wrong.
    """

    def __init__(self, store: RecordStore, plan: Plan | None = None) -> None:
        self.capabilities = store.capabilities
        self.calls: list[str] = []
        self.plan = plan
        self._store = store
        self._lock = threading.Lock()
        for name in dir(RecordStore):
            if not name.startswith("_") and callable(getattr(store, name)):
                setattr(self, name, self._faulty(name, getattr(store, name)))

    def __getattr__(self, name: str) -> Any:
        """Members that only the other store has, such as `backup`."""
        return getattr(self._store, name)

    def _faulty(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._around(name):
                return method(*args, **kwargs)

        return call

    @contextmanager
    def _around(self, name: str) -> Iterator[None]:
        with self._lock:
            self.calls.append(name)
            number = len(self.calls)
        fault = self.plan(name, number) if self.plan is not None and name != "close" else None
        if fault is None:
            yield
            return
        if fault.wait is not None:
            fault.wait()
        if fault.error is not None and not fault.after:
            raise fault.error
        yield
        if fault.error is not None:
            raise fault.error
