"""A store behind a cache tier in Redis passes the contract of record stores, but for what upkeep notes on rows.

How often a row was used and what is owed to it is written to the store alone: whoever needs it scans.
"""

import secrets

import pytest

from exp_pool.api.registry import open_cache_tier
from exp_pool.core.config import ExpPoolConfig
from exp_pool.stores.near_cache import NearCacheStore
from exp_pool.stores.sql.sqlite import SqliteStore
from exp_pool.testing import RecordStoreContract


class TestTiered(RecordStoreContract):
    @pytest.fixture
    def store(self, tmp_path, redis_url):
        tier = open_cache_tier(f"{redis_url}?prefix=t{secrets.token_hex(4)}", ExpPoolConfig())
        store = NearCacheStore(SqliteStore(tmp_path / "pool.db"), tier, 5.0)
        yield store
        store.close()

    test_touches_add_up_and_change_no_revision = None
    test_duties_are_settled_put_off_and_owed_again = None
