import pytest
from support.servers.redis_server import pool_at

from exp_pool.testing import RecordStoreContract


class TestRedis(RecordStoreContract):
    @pytest.fixture
    def store(self, redis_url):
        with pool_at(redis_url) as store:
            yield store


class TestRedisCluster(RecordStoreContract):
    @pytest.fixture
    def store(self, redis_cluster_url):
        with pool_at(redis_cluster_url) as store:
            yield store
