import pytest

from exp_pool.errors import VectorIndexError
from exp_pool.protocols import IndexPartition
from exp_pool.search.indexes.chroma_server import ChromaServerIndex
from exp_pool.stores.memory import MemoryStore
from exp_pool.testing import VectorIndexContract
from exp_pool.testing.vector_index import POOL


class TestChromaServer(VectorIndexContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()

    @pytest.fixture
    def index(self, chroma_url):
        index = ChromaServerIndex(chroma_url, timeout_s=30)
        yield index
        for namespace in ("n", "m"):
            index.clear(namespace, POOL)
        index.close()

    def test_what_one_pool_does_another_does_not_see(self, store, index, chroma_url):
        self.fill(store, index, 5)
        other = ChromaServerIndex(chroma_url, timeout_s=30)
        assert other.generation(IndexPartition("n", "e"), "another pool") != index.generation(
            IndexPartition("n", "e"), POOL
        )
        other.clear("n", "another pool")
        other.close()
        assert index.search(self.query(5))[0]

    def query(self, limit):
        from exp_pool.protocols import VectorQuery
        from exp_pool.testing.factories import unit

        return VectorQuery("n", "e", unit(1), limit)


def test_a_server_that_is_not_there_is_named_with_what_to_do():
    index = ChromaServerIndex("chroma://127.0.0.1:1", timeout_s=1)
    with pytest.raises(
        VectorIndexError, match="no Chroma server at chroma://127.0.0.1:1: .*chroma run --path FOLDER --port 1"
    ):
        index.generation(IndexPartition("n", "e"), POOL)
