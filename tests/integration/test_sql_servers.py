"""What two clients of a database server do between each other's steps."""


import pytest

from exp_pool.protocols import Claim, Lease, Put, PutStatus
from exp_pool.stores.mysql import MysqlStore
from exp_pool.stores.postgres import PostgresStore
from exp_pool.stores.sqlite import SqliteStore
from exp_pool.testing.making import row


@pytest.fixture(params=["sqlite", "postgres", "mysql"])
def opened(request, tmp_path):
    """Opens clients of one new pool."""
    if request.param == "sqlite":
        url, kind = tmp_path / "pool.db", SqliteStore
    else:
        url = request.getfixturevalue(f"{request.param}_url")
        kind = PostgresStore if request.param == "postgres" else MysqlStore
    stores = []

    def open_one():
        stores.append(kind(url))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def test_who_waits_for_a_lease_gets_the_row_that_is_stored_between_his_steps(opened):
    one, two = opened(), opened()
    mine = row()
    lease = one.claim("n", mine.key, "one", 60).lease
    assert lease is not None
    reading, reads = two.get_many, []

    def get_many(namespace, refs, **how):
        found = reading(namespace, refs, **how)
        reads.append(found)
        if len(reads) == 2:  # he knows by now that somebody else computes it
            assert one.put_many([Put(mine, lease=lease)]) == [PutStatus.CURRENT]
        return found

    two.get_many = get_many
    claim = two.claim("n", mine.key, "two", 60)
    assert claim == Claim(record=mine)
    del two.get_many
    assert one.renew(Lease("n", mine.key, "two", 0, 0), 60) is None
    one.delete_many("n", [mine.id])
    assert one.claim("n", mine.key, "three", 60).lease is not None  # nobody has kept one
