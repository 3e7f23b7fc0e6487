"""What happens to locks, threads and connections when the process forks.

A child process has its parent's objects but none of its threads: a lock that another thread held is held for ever, and
what that thread was doing is never finished. So each part of a pool that has locks or threads is made anew in the
child, in place, from the arguments that it was first made with (`reinit_after_fork`). Connections stay the parent's:
the child neither uses nor closes them. What needs more than that registers a method of its own (`reset_in_child`).
Everything is held weakly.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

C = TypeVar("C", bound=type)

_PRUNE_EVERY = 256

_Reference: TypeAlias = Callable[[], Callable[[], None] | None]  # gives what is to be called; None: that is gone
_resets: list[_Reference] = []
_rests: list[_Reference] = []
_resumes: list[_Reference] = []
_left_to_parent: list[object] = []  # in a child: what would be closed if it were dropped


def reinit_after_fork(*, keep: Sequence[str] = (), leave: Sequence[str] = ()) -> Callable[[C], C]:
    """Class decorator: in each child process, call ``__init__`` again on every instance, with the first arguments.

    The instance stays the same object, so who holds it goes on with it.

    Args:
        keep: names of attributes whose values the child keeps.
        leave: names of attributes that hold connections: the child gets new values, and never drops the old ones, which
            would close the parent's connections.
    """

    def decorate(cls: C) -> C:
        init = cls.__init__  # type: ignore[misc]  # of a class that is about to be decorated

        @functools.wraps(init)
        def init_and_register(self: Any, *args: Any, **kwargs: Any) -> None:
            init(self, *args, **kwargs)
            # A name that is wrong would be noticed in a child only. Not by `vars`: an instance whose dict was asked for
            # has slower attributes from then on (a hit of the local cache takes 2% longer).
            assert all(hasattr(self, name) for name in (*keep, *leave))
            self._made_from = args, kwargs
            _register(_resets, functools.partial(_reinit_of, weakref.ref(self)))

        cls.__init__ = init_and_register  # type: ignore[misc]
        cls._reinit = init, tuple(keep), tuple(leave)  # type: ignore[attr-defined]
        return cls

    return decorate


def reinit(part: Any) -> None:
    """Make an instance of a class that is decorated by `reinit_after_fork` anew, in place, as a child process does."""
    init, keep, leave = type(part)._reinit  # noqa: SLF001  (set above)
    args, kwargs = part._made_from  # noqa: SLF001
    before = vars(part).copy()
    _left_to_parent.extend(before[name] for name in leave)
    init(part, *args, **kwargs)
    vars(part).update({name: before[name] for name in keep})


def reset_in_child(method: Callable[[], None]) -> None:
    """Call this bound method in every child process, before anything else of the child runs."""
    _register(_resets, weakref.WeakMethod(method))


def rest_during_fork(rest: Callable[[], None], resume: Callable[[], None]) -> None:
    """Call the first of these bound methods before every fork, and the second one after it in the parent.

    For callers of a C library: the child cannot make the library's own locks anew, so no thread may hold one then.
    """
    if weakref.WeakMethod(rest) not in _rests:  # else the owner is only made anew, in a child
        _register(_rests, weakref.WeakMethod(rest))
        _register(_resumes, weakref.WeakMethod(resume))


def _reinit_of(reference: weakref.ref[Any]) -> Callable[[], None] | None:
    part = reference()
    return None if part is None else functools.partial(reinit, part)


def _register(references: list[_Reference], reference: _Reference) -> None:
    if len(references) % _PRUNE_EVERY == _PRUNE_EVERY - 1:
        references[:] = [reference for reference in references if reference() is not None]
    references.append(reference)


def _call(references: list[_Reference]) -> None:
    failed: Exception | None = None
    for reference in list(references):
        method = reference()
        try:
            if method is not None:
                method()
        except Exception as err:  # a plug of the user's may be among them; the others are called all the same
            failed = err
    if failed is not None:
        raise failed  # which Python prints, and ignores


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _call(_rests),
        after_in_parent=lambda: _call(_resumes),
        after_in_child=lambda: _call(_resets),
    )
