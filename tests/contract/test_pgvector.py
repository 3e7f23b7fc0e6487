"""pgvector passes the contract of vector indexes, on a real server."""

from __future__ import annotations

import uuid

import psycopg
import pytest

from exp_pool.indexes.pgvector import PgVectorIndex
from exp_pool.stores.postgres import PostgresStore
from exp_pool.testing import RecordStoreContract, VectorIndexContract

URL = "postgresql://postgres@127.0.0.1:5499/postgres"


@pytest.fixture
def store():
    schema = f"exp_pool_test_{uuid.uuid4().hex[:12]}"
    store = PostgresStore(f"{URL}?schema={schema}")
    yield store
    store.close()
    with psycopg.connect(URL, autocommit=True) as admin:
        admin.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


class TestPgVector(VectorIndexContract):
    @pytest.fixture
    def index(self, store):
        return PgVectorIndex(store)


class TestIndexed(VectorIndexContract):
    """With an HNSW index from the first row on."""

    @pytest.fixture
    def index(self, store):
        return PgVectorIndex(store, index_from=1)

    def complete(self, index, space):
        index._store._tended = -1000.0
        index._store.tidy(0)


class TestStore(RecordStoreContract):
    """The store with vectors for pgvector, too."""

    @pytest.fixture
    def store(self, store):
        index = PgVectorIndex(store)
        assert index.search is not None
        return store
