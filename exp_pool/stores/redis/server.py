"""Connections to one Redis server or a cluster, and what is sent again after a failure.

A command is sent again, once, where the connection broke and repeating it is safe; never after a time-out, which would
make the caller wait twice. A node that is away is left alone for a moment by all callers (`breaker`). In a cluster,
commands are put together by the node that has their slot.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeAlias, TypeVar

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from exp_pool.errors import StoreError
from exp_pool.runtime.breaker import Breaker
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.stores.listener import News
from exp_pool.stores.redis.failures import DRIVER_ERRORS
from exp_pool.stores.redis.location import Location
from exp_pool.stores.redis.packed import decoded
from exp_pool.stores.redis.scripts import TEXTS

T = TypeVar("T")
Command: TypeAlias = tuple[object, ...]

_OLDEST = (6, 2)
_ATTEMPTS = 3  # a script that the server does not know yet, on a connection that broke, to a slot that has moved


class _LeftAlone(redis.ConnectionError):  # type: ignore[misc]
    """The node was away a moment ago: nothing was sent."""


_NOT_BROKEN = (
    exceptions.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.BusyLoadingError,
    exceptions.MaxConnectionsError,
    _LeftAlone,
)


@reinit_after_fork()
class Server:
    """Connections, made when they are first needed, and again after a fork. Thread-safe."""

    def __init__(self, location: Location, timeout_s: float) -> None:
        self.location = location
        self.timeout_s = timeout_s
        self._is_cluster = location.scheme == "redis+cluster"
        self._lock = threading.Lock()
        self._client: redis.Redis | RedisCluster | None = None
        self._moved = False  # who has which slot is to be asked again
        self._asking = threading.Lock()  # it
        self._breakers: dict[str, Breaker] = {}  # by node

    def close(self) -> None:
        """Close the connections; they are opened again when they are needed again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    def client(self) -> redis.Redis | RedisCluster:
        """The driver's own, connected and looked at once."""
        if self._client is not None:
            return self._client
        if not self._lock.acquire(timeout=self.timeout_s):
            raise redis.TimeoutError("timeout while another thread connects")
        try:
            if self._client is None:
                with self._tried("", fresh=True), ExitStack() as unless_greeted:
                    client = self._connect()
                    unless_greeted.callback(client.close)
                    self._greet(client)
                    unless_greeted.pop_all()
                    self._client = client
            return self._client
        finally:
            self._lock.release()

    @contextmanager
    def _tried(self, name: str, *, fresh: bool) -> Iterator[None]:
        """A block that asks a node, unless that was away a moment ago.

        `fresh`: the connection is new. One that was kept may be lost although the node is there.
        """
        breaker = self._breakers.get(name) or self._breakers.setdefault(name, Breaker(self.timeout_s))
        if trouble := breaker.trouble():
            raise _LeftAlone(f"{trouble} (a moment ago; it is tried again soon)")
        try:
            yield
        except DRIVER_ERRORS as err:
            if fresh or isinstance(err, redis.TimeoutError):
                breaker.failed(f"{err}")
            raise
        breaker.succeeded()

    def _connect(self) -> redis.Redis | RedisCluster:
        at, limit_s = self.location, self.timeout_s
        options: dict[str, Any] = {"socket_timeout": limit_s, "socket_connect_timeout": limit_s, "protocol": 2}
        options |= {**at.secrets, **({"ssl": True, **at.files} if at.tls else {})}
        options["retry"] = Retry(NoBackoff(), 0)  # what is sent again is decided here, not by the driver
        if self._is_cluster:
            nodes = [ClusterNode(host, port) for host, port in at.hosts]
            return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)
        ((host, port),) = at.hosts
        return redis.Redis(host, port, at.database, **options)

    def nodes(self, client: redis.Redis | RedisCluster | None = None) -> list[redis.Redis]:
        """A client of every master."""
        client = client or self.client
        if isinstance(client, RedisCluster):
            return [client.get_redis_connection(node) for node in client.get_primaries()]
        return [client]

    def _greet(self, client: redis.Redis | RedisCluster) -> None:
        """Refuse a server that cannot keep what is promised; one that may not be asked is believed."""
        for node in self.nodes(client):
            facts: dict[str, Any] = {}
            with suppress(redis.ResponseError):
                facts = node.execute_command("INFO", "server")
            version = str(facts.get("redis_version", "99"))
            if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
                raise StoreError(f"{self.location.shown} is Redis {version}; the pool needs 6.2 or newer")
            if facts.get("redis_mode") == "cluster" and not isinstance(client, RedisCluster):
                raise StoreError(f"{self.location.shown} belongs to a cluster: write redis+cluster://")
            if self.location.durable and (weak := _not_durable(node)):
                raise StoreError(
                    f"{self.location.shown} says durable=true, but the server has {weak}: "
                    "set appendonly yes and appendfsync always there, or leave durable out"
                )

    def call(self, *command: object, again: bool = True) -> Any:
        """One command's reply. `again`: repeating it is safe."""
        (result,) = self.pipeline([command], again=again)
        return result

    def pipeline(self, commands: Sequence[Command], *, again: bool = True) -> list[Any]:
        """The replies to commands, in order, in one round trip to each node.

        Raises:
            RedisError, RedisClusterException, OSError: one of them failed; others may have been done.
        """
        results: list[Any] = [None] * len(commands)
        left = dict(enumerate(commands))
        for attempt in range(_ATTEMPTS if commands else 0):
            self._send_all(left, results, fresh=attempt > 0)
            again_of = {i: self._once_more(command, results[i], again=again) for i, command in left.items()}
            left = {i: command for i, command in again_of.items() if command is not None}
            if not left:
                break
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    def _once_more(self, command: Command, result: object, *, again: bool) -> Command | None:
        """What to send after this result, if anything; what was refused was not done."""
        match result:
            case exceptions.NoScriptError():
                return ("EVAL", TEXTS[str(command[1])], *command[2:])
            case exceptions.MovedError() | exceptions.AskError() | exceptions.TryAgainError() if self._is_cluster:
                self._moved = True
                return command
            case redis.ConnectionError() if not isinstance(result, _NOT_BROKEN):
                self._moved = True
                return command if again else None
            case redis.TimeoutError() | exceptions.ClusterDownError():
                self._moved = True
        return None

    def until_done(self, attempt: Callable[[list[T]], list[T]], work: list[T]) -> None:
        """Compare and swap: try until no other client was in the way.

        Args:
            attempt: does what it is given, and gives that of it back which another client was in the way of.
            work: what there is to do.

        Raises:
            StoreError: other clients were in the way for longer than the time-out.
        """
        deadline = monotonic() + self.timeout_s
        # Nearly always the first try succeeds. Tenacity took 45 to 75 us for that, of some 450 us of CPU for a write.
        while work := attempt(work):
            if monotonic() > deadline:
                raise StoreError(
                    f"{self.location.shown}: {len(work)} keys are changed by others all the time, for longer than "
                    "store_timeout; try again"
                )

    def _send_all(self, commands: dict[int, Command], results: list[Any], *, fresh: bool) -> None:
        client = self.client
        by_node: defaultdict[str, list[int]] = defaultdict(list)
        nodes: dict[str, redis.Redis] = {}
        if isinstance(client, RedisCluster):
            self._ask_again(client)
            for i, command in commands.items():
                node = client.get_node_from_key(_key_of(command))
                nodes[node.name] = client.get_redis_connection(node)
                by_node[node.name].append(i)
        else:
            if self._moved:  # it was restarted, say: the other connections of the pool are broken, too
                self._moved = False
                client.connection_pool.disconnect(inuse_connections=False)
            nodes[""], by_node[""] = client, list(commands)
        for name, some in by_node.items():
            try:
                with self._tried(name, fresh=fresh):
                    replies = self.send(nodes[name], [commands[i] for i in some])
            except DRIVER_ERRORS as err:
                replies = [err] * len(some)
            for i, reply in zip(some, replies, strict=True):
                results[i] = reply

    def _ask_again(self, client: RedisCluster) -> None:
        """Who has which slot, of one node after the other: so one caller does it for all."""
        if self._moved and self._asking.acquire(timeout=self.timeout_s):
            try:
                if self._moved:
                    self._moved = False
                    with self._tried("", fresh=True):
                        client.nodes_manager.initialize()
            finally:
                self._asking.release()

    def send(self, node: redis.Redis, commands: Sequence[Command]) -> list[Any]:
        """One round trip: the replies, errors of single commands among them."""
        if len(commands) == 1:
            try:
                return [node.execute_command(*commands[0])]
            except redis.ResponseError as err:
                return [err]
        pipeline = node.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies

    @contextmanager
    def subscribed(self, channel: bytes) -> Iterator[News]:
        """A connection of its own that hears everything published on the channel."""
        node = random.choice(self.nodes())  # noqa: S311  (any master of a cluster hears all)
        with node.pubsub() as connection:
            connection.subscribe(channel)
            if connection.get_message(timeout=self.timeout_s) is None:
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


def _key_of(command: Command) -> Any:
    return command[3] if command[0] in ("EVALSHA", "EVAL") else command[1]


def _not_durable(node: redis.Redis) -> str:
    """What keeps a server from writing all that it acknowledges to the disk; "" where nothing does, as far as known."""
    with suppress(redis.ResponseError):  # managed servers forbid CONFIG: the URL's word is taken
        settings: dict[Any, Any] = node.config_get("append*")
        for name, wanted in (("appendonly", "yes"), ("appendfsync", "always")):
            if settings.get(name, wanted) != wanted:
                return f"{name} {settings[name]}"
    return ""
