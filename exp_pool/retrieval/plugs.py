"""What a user's function says, without keeping the event loop from others."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


async def asked(function: Callable[..., Any], *args: Any) -> Any:
    """What it returns: an ``async def`` is awaited here, a ``def`` runs on a thread."""
    call = getattr(function, "__call__", None)  # noqa: B004  (of a callable object, which may be an async one)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
        return await function(*args)
    said = await asyncio.to_thread(function, *args)
    return await said if inspect.isawaitable(said) else said
