import pytest

from exp_pool.errors import VectorIndexError
from exp_pool.protocols import IndexPartition, VectorQuery
from exp_pool.search.indexes.milvus import MilvusIndex
from exp_pool.search.indexes.milvus_lite import MilvusLiteIndex
from exp_pool.stores.memory import MemoryStore
from exp_pool.testing import VectorIndexContract
from exp_pool.testing.factories import unit
from exp_pool.testing.vector_index import POOL


class TestMilvusLite(VectorIndexContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()

    @pytest.fixture
    def index(self, milvus_lite, tmp_path):
        index = MilvusLiteIndex(tmp_path / "pool" / "file.db", timeout_s=30)
        yield index
        index.close()


class TestMilvusByNetwork(VectorIndexContract):
    """The code for a server, against the protocol that Milvus Lite speaks; no cluster was at hand."""

    @pytest.fixture
    def store(self):
        return MemoryStore()

    @pytest.fixture
    def index(self, milvus_url):
        index = MilvusIndex(milvus_url, timeout_s=30)
        yield index
        for namespace in ("n", "m"):
            index.clear(namespace, POOL)
        index.close()

    def test_a_lost_collection_is_another_generation(self, store, index, milvus_url):
        self.fill(store, index, 5)
        before = index.generation(IndexPartition("n", "e"), POOL)
        other = MilvusIndex(milvus_url, timeout_s=30)
        assert other.generation(IndexPartition("n", "e"), POOL) == before
        other.clear("n", POOL)
        other.close()
        with pytest.raises(VectorIndexError, match="Milvus at milvus://127.0.0.1"):
            index.search(VectorQuery("n", "e", unit(1), 5))
        assert index.generation(IndexPartition("n", "e"), POOL) != before


def test_a_server_that_is_not_there_is_named_without_its_password(milvus_lite):
    index = MilvusIndex("milvus://me:secret@127.0.0.1:1", timeout_s=1)
    with pytest.raises(VectorIndexError, match="Milvus at milvus://127.0.0.1:1: ") as raised:
        index.generation(IndexPartition("n", "e"), POOL)
    assert "secret" not in str(raised.value)
