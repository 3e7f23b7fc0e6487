"""After a fork the child has its parent's objects but none of its threads, and must not touch its parent's connections.

Whoever owns threads, locks or connections registers a method that starts over. Methods are held weakly.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

_PRUNE_EVERY = 256

_resets: list[weakref.WeakMethod[Callable[[], None]]] = []


def reset_in_child(method: Callable[[], None]) -> None:
    """Call this bound method in every child process, before anything else of the child runs."""
    if len(_resets) % _PRUNE_EVERY == _PRUNE_EVERY - 1:
        _resets[:] = [reference for reference in _resets if reference() is not None]
    _resets.append(weakref.WeakMethod(method))


def _in_child() -> None:
    for reference in _resets:
        reset = reference()
        if reset is not None:
            reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
