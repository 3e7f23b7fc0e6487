"""Hearing of what others change: the messages that a swap publishes, on a thread and a connection of their own."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeAlias

import redis
from loguru import logger

from exp_pool._clock import monotonic
from exp_pool.errors import StoreError
from exp_pool.stores._redis_server import DRIVER_ERRORS, Server
from exp_pool.stores._redis_units import load

Heard: TypeAlias = Callable[[tuple[str, str | None] | None], object]
"""Called with (namespace, key) of what answers otherwise now, (namespace, None) where all of it may, or None: messages
may have been missed, so anything may."""

_LOOK_S = 0.2  # how long stopping waits at most
_SILENCE_S = 2.0  # without a word the connection is asked for a sign of life; without one it is made anew


class Changes:
    """Listens until it is stopped. Messages that are published while it reconnects are missed, and it says so."""

    def __init__(self, server: Server, channel: bytes, heard: Heard) -> None:
        self._server = server
        self._channel = channel
        self._heard = heard
        self._stopping = threading.Event()
        self.listening = threading.Event()
        self._thread = threading.Thread(target=self._work, name="exp_pool-redis-changes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; nothing is heard afterwards."""
        self._stopping.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                with random.choice(self._server.nodes()).pubsub() as connection:  # noqa: S311 - any master hears all
                    connection.subscribe(self._channel)
                    self._listen(connection)
            except (*DRIVER_ERRORS, StoreError) as err:
                logger.debug("changes are not heard for the moment: {}", err)
                self._stopping.wait(_LOOK_S)

    def _listen(self, connection: redis.client.PubSub) -> None:
        heard, asked = monotonic(), False
        while not self._stopping.is_set():
            message = connection.get_message(timeout=_LOOK_S)
            if message is not None:
                heard, asked = monotonic(), False
                self._understand(message)
            elif monotonic() - heard > _SILENCE_S:
                if asked:
                    raise redis.TimeoutError("no sign of life")
                heard, asked = monotonic(), True
                connection.ping()

    def _understand(self, message: dict[str, object]) -> None:
        kind, data = message["type"], message["data"]
        if kind == "subscribe":
            if self.listening.is_set():
                self._tell(None)
            self.listening.set()
        elif kind == "message" and isinstance(data, bytes):
            try:
                namespace, *key = load(data)
                self._tell((namespace, key[0] if key else None))
            except (ValueError, LookupError, TypeError):
                self._tell(None)  # somebody else's word: to be on the safe side

    def _tell(self, what: tuple[str, str | None] | None) -> None:
        try:
            self._heard(what)
        except Exception as err:
            logger.warning("who hears of changes failed: {}", err)
