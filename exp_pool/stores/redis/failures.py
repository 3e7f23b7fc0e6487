"""Errors of the Redis driver, as `StoreError` that names the URL, what was tried and the remedy."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from redis.exceptions import RedisClusterException, RedisError

from exp_pool.errors import StoreError

C = TypeVar("C")
DRIVER_ERRORS = (RedisError, RedisClusterException, OSError)

# What an error says -> what to do about it; the first that fits.
_PASSWORD = "write it as redis://:password@host, percent-encoded"  # noqa: S105
_ALLOW = "Allow this user the commands of the pool and its keys: ACL SETUSER ... ~prefix:* &prefix:* +@all"
_NO_CLUSTER = "It is no cluster: write redis://"
_FAILOVER = "A master of the cluster is missing: calls go on without the pool until its replica takes over"
_CLOSED = "If it wants TLS, write rediss://; else it was restarted, and the next call goes on"
_SLOW = "It does not answer within store_timeout: check the server and the network, or raise store_timeout"
_REMEDIES = {
    "invalid username": "The user or the password is wrong: write them as redis://user:password@host, percent-encoded",
    "invalid password": f"The password is wrong: {_PASSWORD}",
    "noauth": f"The server wants a password: {_PASSWORD}",
    "authentication required": f"The server wants a password: {_PASSWORD}",
    "called without any password": "The server has no password: leave it out of the URL",
    "no password is set": "The server has no password: leave it out of the URL",
    "noperm": _ALLOW,
    "no permissions": _ALLOW,
    "read only replica": "It is a replica: name the master in the URL",
    "maxmemory": "The server's memory is full: raise its maxmemory, or limit the pool by max_entries or max_bytes",
    "loading the dataset": "The server is starting: it answers when it has read its data",
    "moved ": "The server belongs to a cluster: write redis+cluster://",
    "cluster mode is not enabled": _NO_CLUSTER,
    "cluster support disabled": _NO_CLUSTER,
    "cluster cannot be connected": "No node of the cluster can be reached, or it is no cluster (then write redis://)",
    "clusterdown": _FAILOVER,
    "slot ": _FAILOVER,
    "certificate": "The server's certificate is not trusted: give ?ssl_ca_certs=/path/to/ca.pem",
    "wrong version number": "The server does not speak TLS: write redis://",
    "ssl": "Check the TLS settings: rediss://, ?ssl_ca_certs=, ?ssl_certfile=, ?ssl_keyfile=",
    "db index is out of range": "The server has no database of this number: redis://host/0 is the first",
    "max number of clients": "The server has too many connections: raise its maxclients",
    "connection closed by server": _CLOSED,
    "connection reset": _CLOSED,
    "timeout connecting": "It cannot be reached, or, with rediss://, speaks no TLS: "
    "check host, port and scheme in the URL",
    "timeout": _SLOW,
    "timed out": _SLOW,
    "name or service not known": "No such host: check the name in the URL",
    "refused": "Nothing listens there: start the server, or check host and port in the URL",
    "connecting to": "It cannot be reached: check host and port in the URL, and the network",
}


def translated(plug: type[C]) -> type[C]:
    """A class whose public methods raise the driver's errors as `StoreError`. It says its URL as ``shown``."""
    for name, method in list(vars(plug).items()):
        if not name.startswith("_") and inspect.isfunction(method):
            setattr(plug, name, (_generator if inspect.isgeneratorfunction(method) else _function)(method))
    return plug


def _function(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def translating(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except DRIVER_ERRORS as err:
            raise _translation(self.shown, method.__name__, err) from err

    return translating


def _generator(method: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @functools.wraps(method)
    def translating(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            yield from method(self, *args, **kwargs)
        except DRIVER_ERRORS as err:
            raise _translation(self.shown, method.__name__, err) from err

    return translating


def _translation(shown: str, tried: str, err: BaseException) -> StoreError:
    said = f"{err}".rstrip(".")
    return StoreError(f"{shown}: {tried}: {said}. {remedy(err)}".rstrip())


def remedy(err: BaseException) -> str:
    """What to do about an error of the driver's; "" where that is not known."""
    text = f"{type(err).__name__} {err}".lower()
    return next((advice for sign, advice in _REMEDIES.items() if sign in text), "")
