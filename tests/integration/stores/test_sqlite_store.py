"""What the SQLite store does beyond the contract: files, versions, other processes and threads, forks."""

import itertools
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from support.servers import until

from exp_pool.core.filters import parse_where
from exp_pool.errors import StoreError
from exp_pool.protocols import RecordQuery
from exp_pool.stores.sql.sqlite import SqliteStore
from exp_pool.stores.sql.sqlite_schema import MIGRATIONS
from exp_pool.testing.factories import put, row


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "pool" / "pool.db")
    yield store
    store.close()


def test_another_connection_sees_what_was_acknowledged(store):
    kept = row()
    put(store, kept)
    other = SqliteStore(store.path)
    assert other.get_many("n", [kept.key]) == [kept]
    other.close()


def test_files_are_for_this_user_only(store):
    put(store, row())
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
    files = [path for path in store.path.parent.iterdir() if path.name != ".gitignore"]
    assert len(files) == 3  # with -wal and -shm
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert (store.path.parent / ".gitignore").read_text() == "*\n"


def test_a_new_schema_is_refused_and_left_alone(store):
    put(store, row())
    store.close()
    with closing(sqlite3.connect(store.path)) as raw:
        raw.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StoreError, match="newer exp_pool.*Nothing was changed"):
        store.count(RecordQuery("n"))


def test_somebody_elses_database_is_not_written_to(tmp_path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a pool"):
        put(SqliteStore(path), row())
    assert path.read_bytes()[:100] == before[:100]


def test_what_is_no_database_is_named(tmp_path):
    path = tmp_path / "pool.db"
    path.write_bytes(os.urandom(5000))
    with pytest.raises(StoreError, match="no SQLite file: move it away"):
        SqliteStore(path).count(RecordQuery("n"))


def test_a_path_through_a_file_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/pool.db"):
        SqliteStore(tmp_path / "file" / "pool.db").count(RecordQuery("n"))


def test_a_writer_that_never_ends_costs_the_time_out(tmp_path):
    store = SqliteStore(tmp_path / "pool.db", timeout_s=0.05)
    put(store, row())
    raw = sqlite3.connect(store.path, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked.*store_timeout"):
        put(store, row("b"))
    assert store.count(RecordQuery("n")) == 1  # readers do not wait for writers
    raw.execute("ROLLBACK")
    raw.close()
    put(store, row("b"))
    store.close()


def test_two_stores_on_one_file_write_at_once(store):
    other = SqliteStore(store.path)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: put((store, other)[i % 2], row(f"r{i}")), range(200)))
    assert store.count(RecordQuery("n")) == other.count(RecordQuery("n")) == 200
    other.close()


def test_a_fork_waits_for_what_other_threads_do_in_sqlite(store):
    """Or the child waits for their locks for ever, which nobody in it will give back."""
    put(store, row("first"))
    stop = threading.Event()

    def work(name):
        for number in itertools.count():
            if stop.is_set():
                return
            put(store, *[row(f"{name} {number} {i}") for i in range(20)])
            store.count(RecordQuery("n", parse_where({"metadata.x": "nothing"})))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(20):
            child = os.fork()
            if not child:
                signal.alarm(20)  # kills a child that waits
                try:
                    put(store, row(f"child {number}"))
                    os._exit(0 if store.count(RecordQuery("n"), limit=1) == 1 else 1)
                finally:
                    os._exit(2)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert store.check() == []


def test_a_child_process_opens_its_own_connections(store):
    put(store, row("parent"))
    child = os.fork()
    if not child:
        try:
            put(store, row("child"))
            os._exit(0 if store.count(RecordQuery("n")) == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    put(store, row("parent again"))
    assert store.count(RecordQuery("n")) == 3


@pytest.mark.parametrize("ends", ["closes", "is read and closed by another"])
def test_what_a_child_writes_outlives_the_closing_of_its_parent(store, ends):
    """SQLite takes the last process that closes a file for the last one, and removes the log."""
    put(store, row("parent"))
    go, gone = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(gone)
            put(store, row("early"))
            os.read(go, 1)  # until the parent has closed the pool, or at the latest until it is gone
            put(store, row("late"))
            os._exit(0)  # as if it was killed: nothing is closed
        finally:
            os._exit(2)
    os.close(go)
    until(lambda: store.count(RecordQuery("n")) == 2, "the child has written")
    store.close()
    if ends != "closes":
        subprocess.run([sys.executable, "-c", READS, str(store.path)], check=True, timeout=60)
    os.close(gone)
    assert os.waitpid(child, 0)[1] == 0
    again = SqliteStore(store.path)
    assert again.count(RecordQuery("n")) == 3
    assert again.check() == []
    again.close()


READS = """
import sys
from exp_pool.protocols import RecordQuery
from exp_pool.stores.sql.sqlite import SqliteStore

store = SqliteStore(sys.argv[1])
assert store.count(RecordQuery("n")) == 2
store.close()
"""
