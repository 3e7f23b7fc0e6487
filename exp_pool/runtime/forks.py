"""After a fork the child has its parent's objects but none of its threads, and must not touch its parent's connections.

Whoever owns threads, locks or connections registers a method that starts over. What another thread was doing at that
moment is never finished in the child, and a C library's lock that it held is held for ever: whoever calls such a
library registers, too, how it comes to rest before a fork. Methods are held weakly.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

_PRUNE_EVERY = 256

_References = list[weakref.WeakMethod[Callable[[], None]]]
_resets: _References = []
_rests: _References = []
_resumes: _References = []


def reset_in_child(method: Callable[[], None]) -> None:
    """Call this bound method in every child process, before anything else of the child runs."""
    _register(_resets, method)


def rest_during_fork(rest: Callable[[], None], resume: Callable[[], None]) -> None:
    """Call the first of these bound methods before every fork, and the second one after it in the parent."""
    _register(_rests, rest)
    _register(_resumes, resume)


def _register(references: _References, method: Callable[[], None]) -> None:
    if len(references) % _PRUNE_EVERY == _PRUNE_EVERY - 1:
        references[:] = [reference for reference in references if reference() is not None]
    references.append(weakref.WeakMethod(method))


def _call(references: _References) -> None:
    for reference in list(references):
        method = reference()
        if method is not None:
            method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _call(_rests),
        after_in_parent=lambda: _call(_resumes),
        after_in_child=lambda: _call(_resets),
    )
