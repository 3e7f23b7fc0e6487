"""Any ``callable(list[str]) -> vectors``, ``def`` or ``async def``, as an embedder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from exp_pool.binding import function_name


class CallableEmbedder:
    """An embedder of one's own.

    Args:
        function: gets a list of texts, returns one vector each; the same text must always give the same vector.
        name: what its vectors are known by; vectors under another name are never compared with them.
    """

    def __init__(self, function: Callable[[list[str]], Any | Awaitable[Any]], name: str | None = None) -> None:
        self._function = function
        self.identity = name or f"callable/{function_name(function)}"

    def embed(self, texts: Sequence[str]) -> Any:
        return self._function(list(texts))

    def fits(self, texts: Sequence[str]) -> list[bool]:
        """True: what such a function cuts off, nobody can know."""
        return [True] * len(texts)
