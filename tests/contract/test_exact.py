import pytest

from exp_pool.search.indexes.exact import ExactIndex
from exp_pool.stores.memory import MemoryStore
from exp_pool.stores.sql.sqlite import SqliteStore
from exp_pool.testing import VectorIndexContract


class TestExact(VectorIndexContract):
    @pytest.fixture(params=["memory", "sqlite"])
    def store(self, request, tmp_path):
        store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "pool.db")
        yield store
        store.close()

    @pytest.fixture
    def index(self, store):
        return ExactIndex(store)
