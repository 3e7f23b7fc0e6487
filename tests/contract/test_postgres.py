"""PostgreSQL passes the contract of record stores, on a real server."""

import secrets

import pytest
from support.servers.databases import new_database

from exp_pool.stores.sql.postgres import PostgresStore
from exp_pool.testing import RecordStoreContract
from exp_pool.testing.factories import put, row


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

    def test_a_row_stored_while_somebody_claims_is_found(self, store, monkeypatch):
        stored, look, missed = row(), store._current, iter([(False, None)])
        put(store, stored)
        monkeypatch.setattr(store, "_current", lambda *place: next(missed, None) or look(*place))
        claim = store.claim("n", stored.key, "me", 60)
        assert (claim.record, claim.lease) == (stored, None)
