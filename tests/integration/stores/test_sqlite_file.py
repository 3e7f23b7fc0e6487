"""The SQLite file itself: its log, its journal on a network, long texts, what is erased, what is remembered of deletions."""

import random
import sqlite3
import zlib
from contextlib import closing

import pytest
from conftest import letters

from exp_pool import Experience, ExpManager
from exp_pool.errors import ExpPoolWarning, InvalidInputError, StoreError
from exp_pool.stores import columns
from exp_pool.stores.sql import sqlite_file
from exp_pool.stores.sql.sqlite import SqliteStore
from exp_pool.testing.factories import put, row


def log_bytes(path):
    return path.with_name(path.name + "-wal").stat().st_size


def noise(size, seed=0):
    return random.Random(seed).randbytes(size // 2).hex()


@pytest.fixture
def store(tmp_path):
    store = SqliteStore(tmp_path / "pool.db")
    yield store
    store.close()


def test_the_log_is_emptied_by_upkeep_and_by_nobody_else(store):
    for number in range(120):
        put(store, row(f"r{number}", noise(60_000, number)))
    assert log_bytes(store.path) > 5_000_000  # SQLite itself would have begun at 4 MB
    store.tidy(0)
    assert log_bytes(store.path) == 0
    with closing(sqlite3.connect(store.path)) as raw:
        assert raw.execute("SELECT count(*) FROM experiences").fetchone() == (120,)


def test_a_reader_keeps_the_log_from_being_emptied_but_nobody_from_writing(store):
    put(store, row("first"))
    with closing(sqlite3.connect(store.path, isolation_level=None)) as raw:
        raw.execute("BEGIN")
        raw.execute("SELECT count(*) FROM experiences").fetchone()
        for number in range(120):
            put(store, row(f"r{number}", noise(60_000, number)))
        store.tidy(0)
        assert log_bytes(store.path) > 5_000_000
        raw.execute("COMMIT")
    put(store, row("last"))
    store.tidy(0)
    assert log_bytes(store.path) == 0


def test_a_log_that_nobody_empties_is_emptied_by_the_writer(store, monkeypatch):
    monkeypatch.setattr(sqlite_file, "_URGENT_BYTES", 2_000_000)
    largest = 0
    for number in range(300):
        put(store, row(f"r{number}", noise(60_000, number)))
        largest = max(largest, log_bytes(store.path))
    assert largest < 7_000_000  # 64 writes of 60 kB, and what was allowed


def test_a_network_file_system_is_noticed(tmp_path, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\nnone {tmp_path}/local tmpfs rw 0 0\n"
    )
    monkeypatch.setattr(sqlite_file, "_MOUNTS", mounts)
    assert sqlite_file.network_file_system(tmp_path / "local" / "pool.db") == ""
    store = SqliteStore(tmp_path / "pool.db")
    with pytest.warns(ExpPoolWarning, match=r"network file system \(nfs4\).*put it on a local disk"):
        put(store, row())
    with closing(sqlite3.connect(store.path)) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    store.close()


@pytest.mark.parametrize("response", ["x" * 200_000, "é\ud800\0" * 50_000, {"a": ["日本語"] * 20_000}])
def test_long_texts_are_compressed_and_come_back(store, response):
    kept = row("q" * 10, response, arguments={"text": "y" * 100_000})
    put(store, kept)
    assert store.get_many("n", [kept.key]) == [kept]
    with closing(sqlite3.connect(store.path)) as raw:
        stored = raw.execute(
            "SELECT typeof(response), length(response), typeof(arguments), size_bytes FROM experiences"
        ).fetchone()
    assert stored[0] == stored[2] == "blob"
    assert stored[1] < 5000
    assert stored[3] == kept.size_bytes > 200_000


def test_what_expands_without_end_is_a_miss(tmp_path):
    with ExpManager(store=f"sqlite:///{tmp_path}/pool.db", index="none://", embedder="none", hot_ttl=0) as manager:
        calls = []

        @manager.exp_cache
        def f(req):
            calls.append(req)
            return req

        f("a")
        packer = zlib.compressobj(9)
        bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(400)) + packer.flush()
        with closing(sqlite3.connect(tmp_path / "pool.db")) as raw:
            raw.execute("UPDATE experiences SET response = ?, checksum = NULL", (bomb,))
            raw.commit()
        assert len(columns._expand(bomb)) < 100  # not the 400 MB that it says
        assert (f("a"), f("a"), calls) == ("a", "a", ["a", "a"])


def test_of_what_was_erased_no_byte_is_left(tmp_path):
    pool = tmp_path / "pool"
    with ExpManager(
        store=f"sqlite:///{pool}/pool.db", index=f"chroma:///{pool}/chroma", embedder=letters, index_from=1
    ) as manager:

        @manager.exp_cache
        def ask(question, note):
            return f"the answer to {question}"

        ask("canary-request", "canary-argument")
        ask.refresh("canary-request", "canary-argument")  # history, too
        ask("other", "harmless")
        (exp,) = manager.sync.query_exps("canary-request", query_type="exact")
        manager.sync.annotate(exp.id, expected="canary-expected", metadata={"why": "canary-metadata"})
        manager.sync.annotate(exp.id, expected="canary-again")
        manager.sync.flush()
        vector = letters(["canary-request"])[0] / float((letters(["canary-request"]) ** 2).sum() ** 0.5)
        assert any(vector.tobytes()[:20] in path.read_bytes() for path in pool.rglob("*") if path.is_file())
        with pytest.raises(InvalidInputError, match="erase needs conditions"):
            manager.sync.erase({})
        assert manager.sync.erase({"request": "canary-request"}) == 2
        manager.sync.flush()
        assert [hit.experience.request for hit in manager.sync.search("canary-request", top_k=9)] == ["other"]
    for path in pool.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"canary" not in content, path
            assert vector.tobytes()[:20] not in content, path


def test_erasing_while_another_process_has_the_index_says_so(tmp_path):
    settings = {
        "store": f"sqlite:///{tmp_path}/pool.db",
        "index": f"chroma:///{tmp_path}/chroma",
        "embedder": letters,
        "index_from": 1,
    }
    with ExpManager(**settings) as owner, ExpManager(**settings) as other:
        owner.sync.create_exp(Experience(function="f", request="abc", response="a"))
        owner.sync.flush()
        with pytest.raises(Exception, match="erased from the store, but the index keeps vectors.*erase again"):
            other.sync.erase({"request": "abc"})
        assert owner.sync.get_exps_count() == 0
        assert owner.sync.erase({"request": "abc"}) == 0  # again, where it can be done


def test_a_reader_all_the_time_keeps_vacuum_from_promising(tmp_path):
    store = SqliteStore(tmp_path / "pool.db", timeout_s=0.2)
    put(store, row())
    with closing(sqlite3.connect(store.path, isolation_level=None)) as raw:
        raw.execute("BEGIN")
        raw.execute("SELECT count(*) FROM experiences").fetchone()
        with pytest.raises(StoreError, match="reading all the time|locked"):
            store.vacuum()
    store.vacuum()
    assert log_bytes(store.path) == 0
    store.close()
