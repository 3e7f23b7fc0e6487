"""Own Redis servers, one alone or a Redis Cluster."""

import contextlib
import shutil
import uuid

from support.servers import until
from support.servers.process import Server

PERSISTENT = {"appendonly": "yes", "appendfsync": "always"}


def connect(url, seconds=5):
    import redis

    client = redis.Redis.from_url(url, protocol=2, socket_connect_timeout=seconds, socket_timeout=seconds)
    client.response_callbacks.clear()  # answers as the server gives them, whatever the version of redis-py
    return contextlib.closing(client)


def ping(url):
    with connect(url) as client:
        client.execute_command("PING")  # raises while it still loads its data


def is_installed():
    return bool(shutil.which("redis-server"))


@contextlib.contextmanager
def pool_at(url, prefix="", **settings):
    """A store under a prefix of its own, whose keys are gone afterwards."""
    from exp_pool.api.registry import open_store
    from exp_pool.core.config import ExpPoolConfig

    prefix = prefix or f"test-{uuid.uuid4().hex}"
    with contextlib.closing(
        open_store(f"{url}?prefix={prefix}", ExpPoolConfig(**{"store_timeout": 20, **settings}))
    ) as store:
        try:
            yield store
        finally:
            for node in store._server.nodes():
                for key in node.scan_iter(match=f"{prefix}:*", count=1000):
                    node.delete(key)


class Redis(Server):
    """With ``PERSISTENT``, the default, what it acknowledges survives a kill; with ``settings={}`` nothing does."""

    def __init__(self, settings=PERSISTENT):
        super().__init__()
        self.settings = settings

    @property
    def url(self):
        password = self.settings.get("requirepass")
        return f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"

    def command(self):
        settings = {"port": str(self.port), "bind": "127.0.0.1", "dir": self.folder, "save": "", **self.settings}
        return ["redis-server", *(part for name, value in settings.items() for part in (f"--{name}", value))]

    def ping(self):
        ping(self.url)

    def ask(self, *command):
        """The answer to one command."""
        with connect(self.url) as client:
            return client.execute_command(*command)


class _Node(Redis):
    bus = (10_000,)

    def __init__(self):
        super().__init__({
            **PERSISTENT,
            "cluster-enabled": "yes",
            "cluster-node-timeout": "1500",
            "cluster-announce-ip": "127.0.0.1",
            "cluster-replica-validity-factor": "0",  # a replica takes over however long it was cut off
            "repl-diskless-sync-delay": "0",  # its default waits 5 s for more replicas
        })  # fmt: skip


class RedisCluster:
    """Three masters, each with a replica. A master that is missing for 1.5 s is replaced by its replica."""

    def __init__(self):
        self.nodes = []

    @property
    def url(self):
        """It names the three that are masters at first: with one of them dead, another says who is there."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])

    def __enter__(self):
        try:
            self.nodes += [_Node() for _ in range(6)]
            for node in self.nodes:
                node.start()
            self._join()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _join(self):
        masters, replicas = self.nodes[:3], self.nodes[3:]
        for node, first, last in zip(masters, (0, 5461, 10923), (5460, 10922, 16383), strict=True):
            node.ask("CLUSTER ADDSLOTSRANGE", first, last)
        for epoch, node in enumerate(self.nodes, start=1):
            node.ask("CLUSTER SET-CONFIG-EPOCH", epoch)  # or they settle by collisions, which takes seconds
        for node in self.nodes[1:]:
            self.nodes[0].ask("CLUSTER MEET", "127.0.0.1", node.port)
        for master, replica in zip(masters, replicas, strict=True):
            until(lambda: self._knows_all(replica), "every node knows the others")
            replica.ask("CLUSTER REPLICATE", master.ask("CLUSTER MYID"))
        self.wait()

    def _knows_all(self, node):
        known = node.ask("CLUSTER NODES").splitlines()
        return len(known) == len(self.nodes) and not any(b"handshake" in line for line in known)

    def wait(self, seconds=30.0):
        """Until each node that runs sees all slots served, and each replica follows its master."""
        running = [node for node in self.nodes if node.is_running]
        for node in running:
            until(lambda node=node: self._is_whole(node), f"{node.url} sees a whole cluster", seconds)
        for node in running:
            until(lambda node=node: _is_in_step(node), f"{node.url} follows its master", seconds)

    def _is_whole(self, node):
        """Nor does it count on a master that just died."""
        ports = {each.port for each in self.nodes if each.is_running}
        owners = {owner[1] for _, _, owner, *_ in node.ask("CLUSTER SLOTS")}
        return b"cluster_state:ok" in node.ask("CLUSTER INFO") and owners <= ports

    def masters(self):
        """The nodes that run and hold slots, by their own account."""
        return [node for node in self.nodes if node.is_running and node.ask("ROLE")[0] == b"master"]

    def kill_master(self, key=None):
        """The master that holds ``key``, or any, dies; its replica takes over in 2 to 3 s, which ``wait`` waits for.

        Returns:
            Its node: ``restart()`` brings it back as a replica.
        """
        node = self.masters()[0] if key is None else self.master_of(key)
        node.kill()
        return node

    def master_of(self, key):
        """The node that is asked for ``key``."""
        slot = self.masters()[0].ask("CLUSTER KEYSLOT", key)
        for node in self.masters():
            for first, last, owner, *_ in node.ask("CLUSTER SLOTS"):
                if first <= slot <= last and owner[1] == node.port:
                    return node
        raise LookupError(f"no master holds slot {slot}")

    def kill(self):
        for node in self.nodes:
            node.kill()

    def start(self):
        """On the data that are there."""
        for node in self.nodes:
            node.start()
        self.wait()

    def restart(self):
        self.kill()
        self.start()

    def pause(self):
        for node in self.nodes:
            node.pause()

    def resume(self):
        for node in self.nodes:
            node.resume()
        self.wait()

    def stop(self):
        for node in self.nodes:
            node.stop()


def _is_in_step(node):
    role = node.ask("ROLE")
    return role[0] == b"master" or role[3] == b"connected"
