"""PostgreSQL passes the contract of record stores, on a real server."""

from __future__ import annotations

import os
import uuid

import psycopg
import pytest

from exp_pool.stores.postgres import PostgresStore
from exp_pool.testing import RecordStoreContract

URL = os.environ.get("EXP_POOL_TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")


class TestPostgres(RecordStoreContract):
    @pytest.fixture
    def store(self):
        schema = f"exp_pool_test_{uuid.uuid4().hex[:12]}"
        store = PostgresStore(f"{URL}?schema={schema}")
        yield store
        store.close()
        with psycopg.connect(URL, autocommit=True) as admin:
            admin.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
