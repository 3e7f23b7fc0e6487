import pytest

from exp_pool.search.indexes.none import NoIndex
from exp_pool.stores.memory import MemoryStore
from exp_pool.testing import VectorIndexShape


class TestNone(VectorIndexShape):
    @pytest.fixture
    def store(self):
        return MemoryStore()

    @pytest.fixture
    def index(self):
        return NoIndex()
