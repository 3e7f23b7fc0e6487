"""pgvector passes the contract of vector indexes, on a real server; and its store that of record stores."""

import secrets

import pytest
from support.servers.databases import new_database

from exp_pool.protocols import VectorQuery
from exp_pool.search.indexes.pgvector import PgVectorIndex
from exp_pool.stores.sql.postgres import PostgresStore
from exp_pool.testing import RecordStoreContract, VectorIndexContract
from exp_pool.testing.factories import unit


@pytest.fixture(scope="module")
def url(pgvector_server_url):
    with new_database(pgvector_server_url) as url:
        yield url


@pytest.fixture
def store(url):
    store = PostgresStore(f"{url}?schema=t{secrets.token_hex(4)}")
    yield store
    store.close()


class TestExact(VectorIndexContract):
    @pytest.fixture
    def index(self, store):
        return PgVectorIndex(store)


class TestHnsw(VectorIndexContract):
    """Every space has an HNSW index from its first row on."""

    @pytest.fixture
    def index(self, store):
        return PgVectorIndex(store, index_from=1)

    def complete(self, index, space):
        index._store._tended = float("-inf")
        index._store.tidy(0)


class TestStore(RecordStoreContract):
    """With vectors that are kept for pgvector, too."""

    @pytest.fixture
    def store(self, store):
        PgVectorIndex(store).search(VectorQuery("n", "e", unit(0), 1))
        return store
