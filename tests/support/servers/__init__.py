"""Real servers for tests: those that run already, and own ones that may be killed, paused and cut off.

Fixtures are in ``fixtures.py``; ``from servers import ...`` for what scripts and other processes need.
"""

import os
import random
import socket
import time
from urllib.parse import urlsplit, urlunsplit

import pytest

POSTGRES_URL = os.environ.get("EXP_POOL_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
MYSQL_URL = os.environ.get("EXP_POOL_TEST_MYSQL_URL", "mysql://root@127.0.0.1:3306/")
REDIS_URL = os.environ.get("EXP_POOL_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")

_ports_given = set()


OUTSIDE = "outside of the clone: "  # so begin the reasons of tests that --outside runs


def without(reason):
    """Skips for want of what no clone brings along."""
    pytest.skip(OUTSIDE + reason)


def need(reason):
    """Skips for ``reason``, which says what server is missing; fails where servers are required, as in CI."""
    if os.environ.get("EXP_POOL_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{reason} (EXP_POOL_REQUIRE_SERVICES=1)", pytrace=False)
    without(reason)


def need_servers():
    """EXP_POOL_TEST_SERVERS=none: as on a machine where none runs and none is installed, whatever there is on this one."""
    if os.environ.get("EXP_POOL_TEST_SERVERS") == "none":
        need("no servers: EXP_POOL_TEST_SERVERS=none")


def free_port(*beside):
    """A port on which nothing listens, nor on those that many further (a Redis Cluster's bus is 10,000 above).

    Below the ports the system gives to outgoing connections: a client that retries a dead server would otherwise in
    time take the server's own port, or connect to itself.
    """
    while True:
        port = random.randrange(10_000, 22_000)
        if port not in _ports_given and all(_is_free(port + further) for further in (0, *beside)):
            _ports_given.add(port)
            return port


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a killed server leaves is no obstacle to it
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def until(condition, what, seconds=30.0):
    """What ``condition`` returns once that is true; ``TimeoutError`` with ``what`` and its last exception otherwise."""
    deadline = time.monotonic() + seconds
    while True:
        trouble = None
        try:
            if found := condition():
                return found
        except Exception as error:
            trouble = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}") from trouble
        time.sleep(0.01)


def with_port(url, port):
    """The same URL with another port."""
    parts = urlsplit(url)
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{port}"))


def with_database(url, name):
    """The same URL with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
