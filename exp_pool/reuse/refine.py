"""A quick answer now, a better one later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exp_pool.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Refine:
    """A slower, better function of the same signature, started together with the call.

    If it is there first, its answer is the call's; otherwise the caller has the quick answer, and the better one takes
    its place in the pool when it arrives (the quick one stays as history). Annotated answers are not replaced.

    Args:
        func: the function; async if the decorated one is.
        timeout: seconds after which it is given up, and the quick answer stays.

    Raises:
        ConfigurationError: it is no function, or the time-out is not above zero.
    """

    func: Callable[..., Any]
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if not callable(self.func):
            raise ConfigurationError(f"refine={self.func!r} must be a function of the decorated one's signature")
        if isinstance(self.timeout, bool) or not isinstance(self.timeout, int | float) or not self.timeout > 0:
            raise ConfigurationError(f"Refine(timeout={self.timeout!r}) must be seconds above zero")
