"""`Refine`: a slower, better function behind the decorated one, whose answer replaces the quick one in the pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exp_pool.errors import ConfigurationError
from exp_pool.reuse.option_checks import is_number


@dataclass(frozen=True, slots=True)
class Refine:
    """A slower, better function of the same signature, started together with the call.

    If it is there first, its answer is the call's: a coroutine function that is overtaken is cancelled; a plain one,
    which nothing can end, is waited for. Otherwise the caller has the quick answer, and the better one takes its place
    in the pool when it arrives (the quick one stays as history). It counts only if ``cache_if=`` accepts it. Annotated
    answers are not replaced. Where the function has a scorer, the better answer is scored before it takes the place of
    a quick one, and an answer with a lower score than that is stored as history. It gets arguments of its own: what
    the caller changes meanwhile does not reach it.

    Args:
        func: the function; async if the decorated one is. A plain one runs on a thread of its own.
        timeout: seconds after which it is given up, and the quick answer stays. A task is cancelled then; a thread,
            which nothing can end, goes on to the end of its function, and what that returns is dropped.

    Raises:
        ConfigurationError: it is no function, or the time-out is not above zero.
    """

    func: Callable[..., Any]
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if not callable(self.func):
            raise ConfigurationError(f"refine={self.func!r} must be a function of the decorated one's signature")
        if not is_number(self.timeout) or not self.timeout > 0:
            raise ConfigurationError(f"Refine(timeout={self.timeout!r}) must be seconds above zero")
