"""MariaDB passes the contract of record stores, on a real server."""

import pytest
from support.servers.databases import new_database
from support.servers.mariadb import connect

from exp_pool.stores.sql.mysql import MysqlStore
from exp_pool.testing import RecordStoreContract
from exp_pool.testing.factories import put, row

TABLES = "experiences vectors forgotten counters tombstones cutoffs leases states logs".split()


@pytest.fixture(scope="module")
def url(mysql_server_url):
    """One database for all: making the tables takes MariaDB a second."""
    with new_database(mysql_server_url) as url:
        yield url


class TestMysql(RecordStoreContract):
    @pytest.fixture
    def store(self, url):
        store = MysqlStore(url)
        yield store
        store.close()
        with connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW TABLES")
            there = {name for (name,) in cursor.fetchall()}
            for table in there.intersection(TABLES):
                cursor.execute(f"DELETE FROM {table}")

    def test_a_row_stored_while_somebody_claims_is_found(self, store, monkeypatch):
        stored, look, missed = row(), store._current, iter([(False, None)])
        put(store, stored)
        monkeypatch.setattr(store, "_current", lambda *place: next(missed, None) or look(*place))
        claim = store.claim("n", stored.key, "me", 60)
        assert (claim.record, claim.lease) == (stored, None)
