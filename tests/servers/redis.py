"""Redis servers of a test's own, on free ports: to be killed, paused, and asked for a password."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path

import pytest
import redis

from exp_pool.config import ExpPoolConfig
from exp_pool.registry import open_store

URL = os.environ.get("EXP_POOL_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")


def free_port(above=20000):
    """A port that nobody listens on, nor on the one 10,000 above, which is a cluster's bus."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        if port + 10000 > 65535:
            port -= 20000
        with socket.socket() as one, socket.socket() as bus, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10000))
            return port


class RedisServer:
    """One redis-server in a folder."""

    def __init__(self, folder, **config):
        self.folder, self.config = Path(folder), config
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process = None

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **how):
        password = self.config.get("requirepass")
        return redis.Redis("127.0.0.1", self.port, password=password, **{"protocol": 2, "socket_timeout": 5, **how})

    def start(self):
        settings = {"bind": "127.0.0.1", "port": self.port, "dir": self.folder, "save": "", **self.config}
        line = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(["redis-server", *line], stdout=log, stderr=log)
        until(lambda: answers(self), f"redis-server on {self.port}; see {self.folder / 'log'}")
        return self

    def kill(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)


class RedisCluster:
    """Three masters, three replicas."""

    def __init__(self, servers):
        self.servers = servers

    @property
    def url(self):
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:3])

    def kill(self):
        for server in self.servers:
            server.kill()


def answers(server):
    with contextlib.suppress(redis.RedisError), server.client(socket_timeout=1) as client:
        return client.ping()


def until(done, what, timeout_s=60):
    """Wait for a condition that another process brings about."""
    end = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)


def start_redis(folder, **config):
    """A server; underscores in settings stand for hyphens."""
    return RedisServer(folder, **config).start()


def start_cluster(folder, masters=3, replicas=3):
    """A cluster that has all its slots."""
    how = {"cluster_enabled": "yes", "cluster_node_timeout": 2000, "appendonly": "no"}
    servers = [RedisServer(Path(folder) / str(i), **how).start() for i in range(masters + replicas)]
    addresses = [f"127.0.0.1:{server.port}" for server in servers]
    making = ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", str(replicas // masters)]
    subprocess.run([*making, "--cluster-yes"], check=True, stdout=subprocess.DEVNULL)
    for server in servers:
        with server.client() as client:
            until(lambda: "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO")), "the cluster")
            until(lambda: _in_step(client, replicas // masters), "replicas, without which nobody can take over")
    return RedisCluster(servers)


def _in_step(client, replicas):
    facts = client.info("replication")
    if facts["role"] == "master":
        return sum(facts[f"slave{i}"]["state"] == "online" for i in range(facts["connected_slaves"])) >= replicas
    return facts["master_link_status"] == "up"


def unavailable(why):
    """A visible skip, which is a failure where all services are there."""
    if os.environ.get("EXP_POOL_REQUIRE_SERVICES") == "1":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="session")
def redis_url():
    """The server that runs already; a prefix keeps tests apart."""
    try:
        with redis.Redis.from_url(URL, socket_connect_timeout=1) as client:
            client.ping()
    except redis.RedisError as err:
        unavailable(f"no Redis at {URL}: {err}")
    return URL


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory):
    """A cluster of the tests' own."""
    if shutil.which("redis-server") is None:
        unavailable("redis-server is not installed")
    cluster = start_cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster.url
    cluster.kill()


@pytest.fixture
def own_server(tmp_path):
    """Starts servers, which are gone when the test ends: ``own_server(requirepass="x")``."""
    if shutil.which("redis-server") is None:
        unavailable("redis-server is not installed")
    started = []

    def start(**config):
        started.append(start_redis(tmp_path / f"redis-{len(started)}", **config))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@contextlib.contextmanager
def pool_at(url, prefix="", **settings):
    """A store under a prefix of its own, whose keys are gone afterwards."""
    prefix = prefix or f"test-{uuid.uuid4().hex}"
    store = open_store(f"{url}?prefix={prefix}", ExpPoolConfig(**{"store_timeout": 20, **settings}))
    try:
        yield store
    finally:
        clean(store, prefix)
        store.close()


def clean(store, prefix):
    for node in store._server.nodes():
        for key in node.scan_iter(match=f"{prefix}:*", count=1000):
            node.delete(key)
