import pytest

from exp_pool.stores.sql.sqlite import SqliteStore
from exp_pool.testing import RecordStoreContract


class TestSqlite(RecordStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = SqliteStore(tmp_path / "pool" / "pool.db")
        yield store
        store.close()
