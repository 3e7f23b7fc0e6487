"""The way to the server, one or a cluster: where it is, connections, what its errors mean and what to do about them.

A command is sent again, once, where the connection broke and repeating it is safe; never after a time-out, which would
make the caller wait twice. A node that is away is left alone for a moment by all callers (`breaker`). In a cluster,
commands are put together by the node that has their slot.
"""

from __future__ import annotations

import functools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MaxConnectionsError,
    MovedError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from exp_pool.errors import ConfigurationError, StoreError
from exp_pool.runtime.breaker import Breaker
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.runtime.urls import without_password
from exp_pool.stores.redis.scripts import TEXTS

P = ParamSpec("P")
R = TypeVar("R")
Command: TypeAlias = tuple[object, ...]

_OLDEST = (6, 2)
_OPTIONS = ("prefix", "durable", "tls")
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


class _LeftAlone(redis.ConnectionError):  # type: ignore[misc]
    """The node was away a moment ago: nothing was sent."""


_NOT_BROKEN = (AuthenticationError, AuthorizationError, BusyLoadingError, MaxConnectionsError, _LeftAlone)
_ATTEMPTS = 3  # a script that the server does not know yet, on a connection that broke, to a slot that has moved
DRIVER_ERRORS = (RedisError, RedisClusterException, OSError)

_REMEDIES = (
    (
        "invalid username",
        "The user or the password is wrong: write them as redis://user:password@host, percent-encoded",
    ),
    ("invalid password", "The password is wrong: write it as redis://:password@host, percent-encoded"),
    ("noauth", "The server wants a password: write it as redis://:password@host, percent-encoded"),
    ("authentication required", "The server wants a password: write it as redis://:password@host, percent-encoded"),
    ("called without any password", "The server has no password: leave it out of the URL"),
    ("no password is set", "The server has no password: leave it out of the URL"),
    ("noperm", "Allow this user the commands of the pool and its keys: ACL SETUSER ... ~prefix:* &prefix:* +@all"),
    (
        "no permissions",
        "Allow this user the commands of the pool and its keys: ACL SETUSER ... ~prefix:* &prefix:* +@all",
    ),
    ("read only replica", "It is a replica: name the master in the URL"),
    ("maxmemory", "The server's memory is full: raise its maxmemory, or limit the pool by max_entries or max_bytes"),
    ("loading the dataset", "The server is starting: it answers when it has read its data"),
    ("moved ", "The server belongs to a cluster: write redis+cluster://"),
    ("cluster mode is not enabled", "It is no cluster: write redis://"),
    ("cluster support disabled", "It is no cluster: write redis://"),
    ("cluster cannot be connected", "No node of the cluster can be reached, or it is no cluster (then write redis://)"),
    ("clusterdown", "A master of the cluster is missing: calls go on without the pool until its replica takes over"),
    ("slot ", "A master of the cluster is missing: calls go on without the pool until its replica takes over"),
    ("certificate", "The server's certificate is not trusted: give ?ssl_ca_certs=/path/to/ca.pem"),
    ("wrong version number", "The server does not speak TLS: write redis://"),
    ("ssl", "Check the TLS settings: rediss://, ?ssl_ca_certs=, ?ssl_certfile=, ?ssl_keyfile="),
    ("db index is out of range", "The server has no database of this number: redis://host/0 is the first"),
    ("max number of clients", "The server has too many connections: raise its maxclients"),
    (
        "connection closed by server",
        "If it wants TLS, write rediss://; else it was restarted, and the next call goes on",
    ),
    ("connection reset", "If it wants TLS, write rediss://; else it was restarted, and the next call goes on"),
    (
        "timeout connecting",
        "It cannot be reached, or, with rediss://, speaks no TLS: check host, port and scheme in the URL",
    ),
    ("timeout", "It does not answer within store_timeout: check the server and the network, or raise store_timeout"),
    ("timed out", "It does not answer within store_timeout: check the server and the network, or raise store_timeout"),
    ("name or service not known", "No such host: check the name in the URL"),
    ("refused", "Nothing listens there: start the server, or check host and port in the URL"),
    ("connecting to", "It cannot be reached: check host and port in the URL, and the network"),
)


@dataclass(frozen=True)
class Location:
    """Where a pool is: what its URL says."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    database: int
    prefix: str
    durable: bool
    tls: bool
    shown: str
    """The URL without the password."""
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    files: dict[str, str] = field(default_factory=dict)


def parse(url: str) -> Location:
    """What a URL says.

    Raises:
        ConfigurationError: it cannot be a pool's; the message names no password.
    """
    parts = urlsplit(url)
    scheme, cluster = parts.scheme, parts.scheme == "redis+cluster"
    credentials, _, places = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    shown = without_password(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - {*_OPTIONS, *_TLS_FILES})
    if unknown:
        known = ", ".join((*_OPTIONS, *_TLS_FILES))
        raise ConfigurationError(f"store={shown!r}: unknown option {unknown[0]!r}; known: {known}")
    prefix = options.get("prefix", "exp_pool")
    if not prefix or not all(c.isalnum() or c in "_-.:" for c in prefix):
        raise ConfigurationError(f"store={shown!r}: prefix takes letters, digits and _-.: only")
    database = parts.path.strip("/") or "0"
    if not database.isdigit() or (cluster and database != "0"):
        wanted = "no path: a cluster has one database" if cluster else "a database's number as its path: /0"
        raise ConfigurationError(f"store={shown!r} takes {wanted}")
    if len(split := places.split(",")) > 1 and not cluster:
        raise ConfigurationError(f"store={shown!r} names several hosts; write redis+cluster:// for a cluster")
    return Location(
        scheme,
        tuple(_host(place, shown) for place in split),
        int(database),
        prefix,
        durable=_flag(options, "durable", shown),
        tls=scheme == "rediss" or _flag(options, "tls", shown),
        shown=shown,
        secrets={name: unquote(text) for name, text in (("username", user), ("password", password)) if text},
        files={name: options[name] for name in _TLS_FILES if name in options},
    )


def _host(place: str, shown: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{place}")
        return parts.hostname or "127.0.0.1", parts.port or 6379
    except ValueError as err:
        raise ConfigurationError(f"store={shown!r}: {place!r} is no host:port ({err})") from err


def _flag(options: dict[str, str], name: str, shown: str) -> bool:
    value = options.get(name, "false").lower()
    if value not in (*_TRUE, *_FALSE):
        raise ConfigurationError(f"store={shown!r}: {name} takes true or false, got {value!r}")
    return value in _TRUE


def translated(method: Callable[P, R]) -> Callable[P, R]:
    """Give the driver's errors as `StoreError` that names the URL, what was tried and the remedy."""

    @functools.wraps(method)
    def translating(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except DRIVER_ERRORS as err:
            shown: str = args[0].shown  # type: ignore[attr-defined]
            said = f"{err}".rstrip(".")
            raise StoreError(f"{shown}: {method.__name__}: {said}. {remedy(err)}".rstrip()) from err

    return translating


def remedy(err: BaseException) -> str:
    """What to do about an error of the driver's; "" where nobody knows."""
    text = f"{type(err).__name__} {err}".lower()
    return next((advice for sign, advice in _REMEDIES if sign in text), "")


@reinit_after_fork()
class Server:
    """Connections, made when they are first needed, and again after a fork. Thread-safe."""

    def __init__(self, location: Location, timeout_s: float) -> None:
        self.location = location
        self.timeout_s = timeout_s
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
                with self._tried("", fresh=True):
                    self._client = self._greeted(self._connect())
            return self._client
        finally:
            self._lock.release()

    def _greeted(self, client: redis.Redis | RedisCluster) -> redis.Redis | RedisCluster:
        try:
            self._greet(client)
        except BaseException:
            client.close()
            raise
        return client

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
        at = self.location
        options: dict[str, Any] = {
            "socket_timeout": self.timeout_s,
            "socket_connect_timeout": self.timeout_s,
            "protocol": 2,
            **at.secrets,
            **({"ssl": True, **at.files} if at.tls else {}),
        }
        once = Retry(NoBackoff(), 0)  # what is sent again is decided here, not by the driver
        if at.scheme == "redis+cluster":
            nodes = [ClusterNode(host, port) for host, port in at.hosts]
            return RedisCluster(startup_nodes=nodes, retry=once, require_full_coverage=False, **options)
        ((host, port),) = at.hosts
        return redis.Redis(host, port, at.database, retry=once, **options)

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
            with suppress(ResponseError):
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
        for attempt in range(_ATTEMPTS):
            self._send_all(left, results, fresh=attempt > 0)
            left = {
                i: repeated
                for i, command in left.items()
                if (repeated := self._once_more(command, results[i], again=again)) is not None
            }
            if not left:
                break
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    def _once_more(self, command: Command, result: object, *, again: bool) -> Command | None:
        """What to send after this result, if anything; what was refused was not done."""
        match result:
            case NoScriptError():
                return ("EVAL", TEXTS[str(command[1])], *command[2:])
            case MovedError() | AskError() | TryAgainError() if isinstance(self._client, RedisCluster):
                self._moved = True
                return command
            case redis.ConnectionError() if not isinstance(result, _NOT_BROKEN):
                self._moved = True
                return command if again else None
            case redis.TimeoutError() | ClusterDownError():
                self._moved = True
        return None

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
            except ResponseError as err:
                return [err]
        pipeline = node.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies


def _key_of(command: Command) -> Any:
    return command[3] if command[0] in ("EVALSHA", "EVAL") else command[1]


def _not_durable(node: redis.Redis) -> str:
    """What keeps a server from writing to the disk all that it acknowledges; "" where nothing does, or nobody knows."""
    with suppress(ResponseError):  # managed servers forbid CONFIG: the URL's word is taken
        settings: dict[Any, Any] = node.config_get("append*")
        for name, wanted in (("appendonly", "yes"), ("appendfsync", "always")):
            if settings.get(name, wanted) != wanted:
                return f"{name} {settings[name]}"
    return ""
