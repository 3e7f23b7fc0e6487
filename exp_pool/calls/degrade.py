"""A part of the flow that fails degrades: the call goes on as if that part had found nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, Generic, ParamSpec, TypeVar

from exp_pool.calls.request import Request
from exp_pool.calls.steps import Degraded, Flow

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")


class degrades(Generic[D]):  # noqa: N801  (a decorator)
    """Decorates a part of the flow, a generator function whose first parameter is the request.

    Whatever the part or one of its steps raises is yielded as `Degraded`, and the part returns the default.

    Args:
        what: completes "the pool could not ..." in the log.
        default: what the part returns where it failed.
    """

    def __init__(self, what: str, *, default: D) -> None:
        self._what = what
        self._default = default

    def __call__(
        self, part: Callable[Concatenate[Request, P], Flow[T]]
    ) -> Callable[Concatenate[Request, P], Flow[T | D]]:
        """The part, which never raises but what ends a process or a task."""
        what, default = self._what, self._default

        @functools.wraps(part)
        def attempt(request: Request, /, *args: P.args, **kwargs: P.kwargs) -> Flow[T | D]:
            try:
                return (yield from part(request, *args, **kwargs))
            except Exception as err:
                yield Degraded(request, what, err)
                return default

        return attempt
