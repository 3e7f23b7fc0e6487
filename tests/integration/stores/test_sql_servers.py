"""What two clients of a database server do between each other's steps."""

import threading

import numpy as np
import psycopg
import pytest

from exp_pool.core.record import TaskKind
from exp_pool.protocols import Claim, Lease, Put, PutStatus, RecordQuery, Touch, VectorQuery
from exp_pool.runtime import clock
from exp_pool.stores.sql.mysql import MysqlStore
from exp_pool.stores.sql.postgres import PostgresStore
from exp_pool.stores.sql.sqlite import SqliteStore
from exp_pool.testing.factories import row, vector


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
    reading, reads = two._current, []

    def current(namespace, key):
        found = reading(namespace, key)
        reads.append(found)
        if len(reads) == 2:  # he knows by now that somebody else computes it
            assert one.put_many([Put(mine, lease=lease)]) == [PutStatus.CURRENT]
        return found

    two._current = current
    assert two.claim("n", mine.key, "two", 60) == Claim()  # he asks again, and finds it
    assert two.claim("n", mine.key, "two", 60) == Claim(record=mine)
    assert one.renew(Lease("n", mine.key, "two", 0, 0), 60) is None
    one.delete_many("n", [mine.id])
    assert one.claim("n", mine.key, "three", 60).lease is not None  # nobody has kept one


def test_two_who_count_uses_of_the_same_rows_do_not_wait_for_each_other(opened, monkeypatch):
    monkeypatch.setattr("exp_pool.stores.sql.server._TRIES", 1)  # a deadlock is trouble here
    stores, trouble = [opened(), opened()], []
    rows = [row(str(number)) for number in range(200)]
    stores[0].put_many([Put(made) for made in rows])
    together = threading.Barrier(2)

    def touch(store, order):
        try:
            for _ in range(5):
                together.wait(60)
                store.touch_many("n", [Touch(made.id, 1, 5) for made in rows[::order]])
        except BaseException as err:
            trouble.append(err)
            together.abort()

    threads = [threading.Thread(target=touch, args=pair) for pair in zip(stores, (1, -1), strict=True)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert not trouble
    assert {found.access_count for found in stores[0].scan(RecordQuery("n"))} == {10}


def test_what_is_owed_is_owed_by_the_clock_of_the_server(opened, monkeypatch):
    store = opened()
    store.put_many([Put(row(score_due=None))])
    if not isinstance(store, SqliteStore):  # whose clock is this machine's
        ahead = lambda: clock.now_us() + 3600 * 10**6  # noqa: E731
        monkeypatch.setattr("exp_pool.stores.sql.store.now_us", ahead)
    assert store.enqueue(RecordQuery("n"), TaskKind.SCORE) == 1
    assert store.count(RecordQuery("n", pending=TaskKind.SCORE)) == 1


def looked_at(store, statement, values):
    """How many rows the server reads for it, in one table or another; a few more may be its own."""
    if isinstance(store, PostgresStore):
        ((((plan, *_),)),) = store._all(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
        nodes, most = [plan["Plan"]], 0
        for node in nodes:
            nodes += node.get("Plans", ())
            read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            most = max(most, read * node["Actual Loops"])
        return most

    def work(connection):
        counts = []
        for _ in range(2):
            found = connection.execute("SHOW SESSION STATUS LIKE 'Handler_read%'").fetchall()
            counts.append(sum(int(count) for _, count in found))
            connection.execute(statement, values).fetchall()
        return counts[1] - counts[0]

    return store._read(work)


@pytest.mark.parametrize("engine", ["postgres", "mysql"])
def test_a_page_costs_the_same_wherever_it_begins_and_whatever_else_is_there(engine, request):
    store = (PostgresStore if engine == "postgres" else MysqlStore)(request.getfixturevalue(f"{engine}_url"))
    rows = [row(str(number), embed_due=None) for number in range(3000)]
    store.put_many([Put(made, vector=vector(1, 0)) for made in rows])
    store.put_many([Put(row("new"))])
    for table in ("experiences", "vectors"):
        store._read(lambda connection, table=table: connection.execute(f"ANALYZE {_TABLE[engine]}{table}"))
    asked, ask = [], store._all
    store._all = lambda statement, values=(), **how: (asked.append((statement, values)), ask(statement, values, **how))[
        1
    ]
    middle = store.vectors_after("n", "e", 0, 1000)[-1].position
    asked.clear()
    assert len(store.vectors_after("n", "e", middle, 10)) == 10
    assert len(list(store.scan(RecordQuery("n"), limit=10))) == 10
    assert len(list(store.scan(RecordQuery("n", pending=TaskKind.EMBED), limit=10))) == 1
    assert len(store.requests_after("n", middle, 10)) == 10
    pages = asked[:]
    del store._all
    for statement, values in pages:
        assert looked_at(store, statement, values) < 200, statement
    store.close()


_TABLE = {"postgres": "", "mysql": "TABLE "}


def neighbours(store, *values, embedder="e", limit=3):
    (found,) = store.search(VectorQuery("n", embedder, np.array([values], dtype="<f4"), limit))
    return [neighbour.id for neighbour in found]


def test_those_who_search_first_all_find(pgvector_url):
    """Each of them would make the extension and its column."""
    stores = [PostgresStore(pgvector_url) for _ in range(6)]
    mine = row()
    stores[0].put_many([Put(mine, vector=vector(1, 0))])
    together, found = threading.Barrier(len(stores)), []

    def search(store):
        store.usage("n")
        together.wait()
        found.append(neighbours(store, 1, 0))

    threads = [threading.Thread(target=search, args=(store,)) for store in stores]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert found == [[mine.id]] * len(stores)
    [store.close() for store in stores]


def test_a_connection_from_before_pgvector_searches_as_new_ones_do(pgvector_url):
    """With the extension in a schema that it did not look into."""
    before, other = PostgresStore(pgvector_url), PostgresStore(pgvector_url)
    mine = row()
    before.put_many([Put(mine, vector=vector(1, 0))])
    with psycopg.connect(pgvector_url, autocommit=True) as link:
        link.execute("CREATE SCHEMA elsewhere")
        link.execute("CREATE EXTENSION vector SCHEMA elsewhere")
    assert neighbours(other, 1, 0) == [mine.id]
    opened = before._connections._idle[-1]
    before._connections._connect().close()  # as for a second thread; this one finds the column
    assert neighbours(before, 1, 0) == [mine.id]
    assert opened.execute("SHOW hnsw.iterative_scan").fetchone() == ("strict_order",)
    before.close(), other.close()


def test_indexes_of_tenants_who_are_gone_go_too(pgvector_url):
    store = PostgresStore(pgvector_url)
    store.search_from(3)

    def tended():
        store._tended = -1e9
        store.tidy(0)
        return [name for (name,) in store._all("SELECT indexname FROM pg_indexes WHERE indexname LIKE 'nearest%'")]

    for namespace in ("n", 'it\'s "n"'):
        store.put_many([Put(row(str(i), namespace=namespace), vector=vector(1, i)) for i in range(5)])
    store.search(VectorQuery("n", "e", np.array([[1, 0]], dtype="<f4"), 3))
    both = tended()
    assert len(both) == 2
    store.clear("n")
    assert len(tended()) == 1
    assert set(tended()) < set(both)
    store.close()
