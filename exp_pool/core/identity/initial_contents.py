"""Snapshots of the first content of closed-over containers and attributes: later writes change no key.

A function that grows a list reads what stood in it from the start (the system message of a chat) beside what it put
there itself (the turns, a count of calls). Only the former tells functions apart. It is noted once for each holder, not
for each function: a list of calls that two functions share, or one function made again, was empty for all of them.

Holders that weak references do not reach are kept for as long as anything else holds them.
"""

from __future__ import annotations

import collections
import copy
import sys
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import ReferenceType, ref

from exp_pool.core.identity.classes import NOTHING, is_plain
from exp_pool.core.identity.keys import make_key

WHOLE: Any = object()  # in place of a name: all that a container holds


class InitialContents(NamedTuple):
    """The first content under a name; `content` is `NOTHING` where that has no stable identity."""

    was_there: bool
    content: Any


class _Notes(NamedTuple):
    holder: Any  # itself, or a weak reference
    of: dict[Any, InitialContents]


_ABSENT = InitialContents(was_there=False, content=NOTHING)
_MOST = 10_000  # a bound for holders in circles with their content; the oldest is looked at anew then
_noted: dict[int, _Notes] = {}
_limit = [64]  # of what is noted; then what nobody holds any more is forgotten


def initial_contents_of(holder: Any, name: Any, value: Any, known: Callable[[Any], Any]) -> InitialContents:
    """What the holder had by this name when it was first asked for.

    Args:
        holder: a container, an object or a variable's cell.
        name: of an attribute or an item; `WHOLE` for all that a container holds.
        value: what it has now; `NOTHING` for none.
        known: gives a value as it can be keyed.
    """
    notes = _noted.get(id(holder))
    if notes is None or _held(notes) is not holder:
        _sweep()
        notes = _noted[id(holder)] = _Notes(_reference(holder), {})
    found = notes.of.get(name)
    # Whoever was first has said it, also where two threads ask at once.
    return found if found is not None else notes.of.setdefault(name, _initial(value, known))


def is_empty(value: Any) -> bool:
    """Whether a value is None, zero, or an empty text or container: what variables hold that are filled later."""
    if value is NOTHING or value is None:
        return True
    has_length = is_plain(value) or isinstance(value, list | dict | set | bytearray | collections.deque)
    return has_length and not value


def _initial(value: Any, known: Callable[[Any], Any]) -> InitialContents:
    if is_empty(value):
        return _ABSENT
    try:
        content = known(value)
        make_key("", "", {"content": content})
        return InitialContents(was_there=True, content=copy.deepcopy(content))
    except Exception:  # it has no stable identity, or its class raises when it is copied
        return InitialContents(was_there=True, content=NOTHING)


def _reference(holder: Any) -> Any:
    try:
        return ref(holder)
    except TypeError:
        return holder


def _held(notes: _Notes) -> Any:
    return notes.holder() if isinstance(notes.holder, ReferenceType) else notes.holder


def _references(notes: _Notes) -> int:
    return sys.getrefcount(notes.holder)


_ALONE = _references(_Notes([], {}))


def _sweep() -> None:
    """Forget holders that nobody else holds any more."""
    if len(_noted) < _limit[0]:
        return
    for key, notes in list(_noted.items()):
        is_gone = notes.holder() is None if isinstance(notes.holder, ReferenceType) else _references(notes) <= _ALONE
        if is_gone:
            _noted.pop(key, None)
    while len(_noted) > _MOST:
        _noted.pop(next(iter(_noted)), None)
    _limit[0] = 2 * len(_noted) + 64
