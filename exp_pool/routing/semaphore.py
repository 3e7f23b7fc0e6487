"""A semaphore whose limit may change while it is in use."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class ResizableSemaphore:
    """An asyncio semaphore that can be resized while it is held; waiters enter in the order in which they came.

    It belongs to one event loop.
    """

    def __init__(self, size: int) -> None:
        self._size, self._inside = size, 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def resize(self, size: int) -> None:
        """Allow so many from now on. Holders stay; no waiter enters before enough of them have left."""
        self._size = size
        self._let_in()

    async def __aenter__(self) -> None:
        if self._inside < self._size:  # then there is no waiter
            self._inside += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # it was its turn just then
                self._leave()
            with suppress(ValueError):
                self._waiting.remove(turn)
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self._inside -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._inside < self._size:
            turn = self._waiting.popleft()
            if not turn.done():
                self._inside += 1
                turn.set_result(None)
