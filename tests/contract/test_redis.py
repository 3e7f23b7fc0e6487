import pytest
from servers.redis import cluster_url, pool_at, redis_url  # noqa: F401

from exp_pool.testing import RecordStoreContract


class TestRedis(RecordStoreContract):
    @pytest.fixture
    def store(self, redis_url):
        with pool_at(redis_url) as store:
            yield store


class TestRedisCluster(RecordStoreContract):
    @pytest.fixture
    def store(self, cluster_url):
        with pool_at(cluster_url) as store:
            yield store
