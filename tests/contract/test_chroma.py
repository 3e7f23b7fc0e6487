import pytest

from exp_pool.search.indexes.chroma import ChromaIndex
from exp_pool.stores.memory import MemoryStore
from exp_pool.testing import VectorIndexContract


class TestChroma(VectorIndexContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()

    @pytest.fixture
    def index(self, tmp_path):
        index = ChromaIndex(tmp_path / "pool" / "chroma")
        yield index
        index.close()
