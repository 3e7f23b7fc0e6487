"""The way of a plain call to the hot tier, ahead of everything else.

It is an object of its own because each hot hit goes it: on a decorated function, which stands in for another one by
``__getattr__``, every look at an attribute takes three times as long.
"""

from __future__ import annotations

from typing import Any

from exp_pool.api.current import HasPool, current
from exp_pool.calls.local_cache import memo_of
from exp_pool.calls.request import Memo
from exp_pool.core.identity.source import SourceDigest
from exp_pool.runtime.call_context import surroundings

MISS: Any = object()


class Shortcut:
    """That of one function.

    Args:
        owner: what its calls are told from those of others by.
        source: whose answers count; None: those of any source.
        manager: None: the process's.
    """

    __slots__ = ("_manager", "_owner", "_source")

    def __init__(self, owner: object, source: SourceDigest | None, manager: HasPool | None) -> None:
        self._owner, self._source, self._manager = owner, source, manager

    def memo(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Memo | None:
        """What the hot tier finds this call by; None where it is not a matter for it."""
        around = surroundings()
        if not around.lets_read:
            return None
        owner = self._owner if self._source is None else self._source.token()
        return memo_of(owner, around.namespace, args, kwargs)

    def answer(self, memo: Memo) -> Any:
        """The answer of a moment ago, or `MISS`: never an exception."""
        try:
            pool = (self._manager or current.get()).sync
            entry = pool.hot.get(memo) if pool.answers_hot() else None
            if entry is None:
                return MISS
            entry.line.write()
            return entry.copy()
        except Exception:
            return MISS  # the story will say what is wrong
