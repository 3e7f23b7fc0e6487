"""The process's one manager, made at first use."""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING

from exp_pool.forks import reset_in_child

if TYPE_CHECKING:
    from exp_pool.manager import ExpManager


class _Slot:
    """Holds the manager. After a fork the child makes its own: the parent's goes on with its files and threads."""

    def __init__(self) -> None:
        self.start_over()
        reset_in_child(self.start_over)

    def start_over(self) -> None:
        self.lock = threading.Lock()
        self.manager: ExpManager | None = None


_slot = _Slot()


def get_exp_manager() -> ExpManager:
    """The manager that decorated functions use where none is named: made at first use, by the default configuration.

    Raises:
        pydantic.ValidationError: a setting in the environment or in a file is wrong.
        ConfigurationError: a URL is wrong, or a file cannot be read.
    """
    manager = _slot.manager
    if manager is not None:
        return manager
    with _slot.lock:
        if _slot.manager is None:
            # By name: `manager` imports the decorator, which asks here.
            _slot.manager = importlib.import_module("exp_pool.manager").ExpManager()
        assert _slot.manager is not None
        return _slot.manager


def set_exp_manager(manager: ExpManager | None) -> None:
    """Make this the process's manager; None closes and forgets the present one, and the next use makes a new one."""
    with _slot.lock:
        old, _slot.manager = _slot.manager, manager
    if manager is None and old is not None:
        old.sync.close()
