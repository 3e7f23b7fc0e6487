"""Hearing of what others change: the messages that a swap publishes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from exp_pool.stores.listener import News
from exp_pool.stores.redis.packed import decoded
from exp_pool.stores.redis.server import Server


@contextmanager
def subscribed(server: Server, channel: bytes) -> Iterator[News]:
    """A connection of its own that hears of everything published on the channel."""
    node = random.choice(server.nodes())  # noqa: S311  (any master of a cluster hears all)
    with node.pubsub() as connection:
        connection.subscribe(channel)
        if connection.get_message(timeout=server.timeout_s) is None:
            raise redis.TimeoutError("the subscription was not confirmed")
        asked = False

        def news(timeout_s: float) -> list[str]:
            nonlocal asked
            message = connection.get_message(timeout=timeout_s)
            if message is None:
                if asked:
                    raise redis.TimeoutError("no sign of life")
                connection.ping()  # a connection that is lost says nothing of it
            asked = message is None
            return [decoded(message["data"])] if message and message["type"] == "message" else []

        yield news
