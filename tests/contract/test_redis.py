import os
import uuid

import pytest
import redis
from servers.redis import missing, start_cluster

from exp_pool.config import ExpPoolConfig
from exp_pool.registry import open_store
from exp_pool.testing import RecordStoreContract

URL = os.environ.get("EXP_POOL_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")


def _unavailable(why):
    if os.environ.get("EXP_POOL_REQUIRE_SERVICES") == "1":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="session")
def redis_url():
    try:
        with redis.Redis.from_url(URL, socket_connect_timeout=1) as client:
            client.ping()
    except redis.RedisError as err:
        _unavailable(f"no Redis at {URL}: {err}")
    return URL


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory):
    if why := missing():
        _unavailable(why)
    cluster = start_cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster.url
    cluster.kill()


def opened(url):
    """A pool of its own in a server, which is empty again when the test ends."""
    prefix = f"test-{uuid.uuid4().hex}"
    store = open_store(f"{url}?prefix={prefix}", ExpPoolConfig(store_timeout=20))
    yield store
    for node in store._server.nodes():
        for key in node.scan_iter(match=f"{prefix}:*", count=1000):
            node.delete(key)
    store.close()


class TestRedis(RecordStoreContract):
    @pytest.fixture
    def store(self, redis_url):
        yield from opened(redis_url)


class TestRedisCluster(RecordStoreContract):
    @pytest.fixture
    def store(self, cluster_url):
        yield from opened(cluster_url)
