"""`CallableEmbedder`: any ``callable(list[str]) -> vectors``, ``def`` or ``async def``, as an embedder."""

from __future__ import annotations

import functools
import types
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from exp_pool.core.identity.names import function_name
from exp_pool.errors import ConfigurationError


class CallableEmbedder:
    """An embedder of one's own.

    Args:
        function: gets a list of texts, returns one vector each; the same text must always give the same vector.
        name: what its vectors are known by; vectors under another name are never compared with them. By default the
            function's own name, which says nothing of values bound to it.

    Raises:
        ConfigurationError: the function has values bound to it and no name is given.
    """

    def __init__(self, function: Callable[[list[str]], Any | Awaitable[Any]], name: str | None = None) -> None:
        owner = getattr(function, "__self__", None)
        bound = owner is not None and not isinstance(owner, types.ModuleType | type)
        if name is None and (bound or isinstance(function, functools.partial)):
            raise ConfigurationError(
                f"embedder={function!r} has values bound to it, so its name does not tell its vectors from others'; "
                "write a function around it, or give CallableEmbedder(function, name=...)"
            )
        self._function = function
        self.identity = name or f"callable/{function_name(function)}"

    def embed(self, texts: Sequence[str]) -> Any:
        return self._function(list(texts))

    def fits(self, texts: Sequence[str]) -> list[bool]:
        """True: what such a function cuts off, nobody can know."""
        return [True] * len(texts)
