"""PostgreSQL passes the contract of record stores, on a real server."""

import secrets

import pytest
from servers.databases import new_database

from exp_pool.stores.postgres import PostgresStore
from exp_pool.testing import RecordStoreContract


@pytest.fixture(scope="module")
def url(postgres_server_url):
    with new_database(postgres_server_url) as url:
        yield url


class TestPostgres(RecordStoreContract):
    @pytest.fixture
    def store(self, url):
        store = PostgresStore(f"{url}?schema=t{secrets.token_hex(4)}")
        yield store
        store.close()
