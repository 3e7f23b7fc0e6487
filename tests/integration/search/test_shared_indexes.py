"""Indexes that are servers, and Milvus Lite: lost, killed, hanging, fed by several, left by a fork, and lied to."""

import os
import shutil
import subprocess
import sys
import textwrap
import traceback

import pytest
from conftest import letters
from support.paths import TESTS

from exp_pool import Experience, ExpManager
from exp_pool.core.values.vectors import to_unit
from exp_pool.errors import ExpPoolWarning
from exp_pool.maintenance.worker import MaintenanceWorker
from exp_pool.protocols import RecordQuery, RenewableIndex, VectorQuery
from exp_pool.runtime import clock
from exp_pool.search.indexes._identifiers import digest, unquote
from exp_pool.search.indexes.chroma_server import ChromaServerIndex

FULL = os.environ.get("EXP_POOL_FULL") == "1"
WORDS = [f"{a}{b}{c}" for a in "abcde" for b in "fghij" for c in "klm"]  # 75 texts, no two alike to `letters`


def exp(request, **fields):
    return Experience(**{"function": "f", "request": request, "response": request, **fields})


def fill(manager, words=WORDS):
    manager.sync.create_exps([exp(word) for word in words])
    manager.sync.flush()


def ids_in_index(manager):
    """What the index has, without the join."""
    index, (space, *_) = manager.sync._index, manager.sync._store.partitions("default")
    if not isinstance(index, ChromaServerIndex):
        return [near.id for near in index.search(VectorQuery(*space, to_unit(letters(["abc"]), 1), 1000))[0]]
    # Its searches go by a graph, which may have a row that no way leads to: one in thousands.
    collection = index._collections.get(space)
    if collection is None:
        return []
    return [unquote(id_) for id_ in index._do(lambda: collection._collection.get(include=[])["ids"])]


def in_index(manager):
    requests = {row.id: row.request for row in manager.sync._store.scan(RecordQuery("default"))}
    return sorted(requests.get(id_, id_) for id_ in ids_in_index(manager))


def answers(manager, text, top_k=3):
    return [hit.experience.request for hit in manager.sync.search(text, top_k=top_k)]


def covered(manager):
    (space,) = manager.sync._store.partitions("default")
    return manager.sync._index_sync._nearest.covered(space) is not None


@pytest.fixture(autouse=True)
def _by_flush_alone(monkeypatch):
    """Or the worker would notice a lost server at its own time."""
    monkeypatch.setattr(MaintenanceWorker, "_start", lambda self: None)


def count_searches(manager):
    asked, search = [], manager.sync._index.search
    manager.sync._index.search = lambda query: asked.append(query) or search(query)
    return asked


@pytest.fixture
def settings(tmp_path, chroma_url):
    return {"store": f"sqlite:///{tmp_path}/pool.db", "index": chroma_url, "embedder": letters, "index_from": 0}


def child(script, settings):
    given = {name: value for name, value in settings.items() if name != "embedder"}
    script = "from conftest import letters\nfrom exp_pool import Experience, ExpManager\n" + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-c", script.replace("SETTINGS", f"**{given!r}, embedder=letters")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
    )


def out_of(script, settings):
    process = child(script, settings)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return out


# A Chroma server


def test_it_finds_by_similarity_and_deletes(settings):
    with ExpManager(**settings) as manager:
        fill(manager)
        assert covered(manager)
        assert in_index(manager) == sorted(WORDS)
        assert answers(manager, "afk", 1) == ["afk"]
        manager.sync.delete_exps({"request": {"in": WORDS[:5]}})
        manager.sync.flush()
        assert in_index(manager) == sorted(WORDS[5:])
        ours = f"exp_pool-{digest(manager.sync._index_sync._pool(), 'default')}-"
        assert len([name for name in collections(manager) if name.startswith(ours)]) == 1
        manager.sync.delete_all_exps()
        assert [name for name in collections(manager) if name.startswith(ours)] == []


def collections(manager):
    return [model.name for model in manager.sync._index._connected()._api.list_collections()]


@pytest.mark.parametrize("data", ["the same", "gone"])
def test_a_killed_server_costs_one_failure_and_is_used_again(settings, own_chroma, data):
    with ExpManager(**{**settings, "index": own_chroma.url}) as manager:
        fill(manager)
        own_chroma.kill()
        asked = count_searches(manager)
        with pytest.warns(ExpPoolWarning, match="no Chroma server at chroma://127.0.0.1:.*chroma run --path"):
            assert answers(manager, "afk", 1) == ["afk"]
        assert [answers(manager, word, 1) for word in WORDS[:20]] == [[word] for word in WORDS[:20]]
        assert len(asked) == 1  # nobody else waits for it
        manager.sync.create_exp(exp("zzzz"))
        manager.sync.delete_exps({"request": "afk"})
        manager.sync.flush()
        assert not covered(manager)
        assert answers(manager, "zzzz", 1) == ["zzzz"]
        if data == "gone":
            shutil.rmtree(own_chroma.data)
        own_chroma.start()
        manager.sync.flush()
        assert covered(manager)
        assert in_index(manager) == sorted({*WORDS, "zzzz"} - {"afk"})


def test_a_collection_that_somebody_removed_is_filled_again(settings):
    with ExpManager(**settings) as manager:
        fill(manager)
        pool = manager.sync._index_sync._pool()
        other = ChromaServerIndex(settings["index"])
        other.clear("default", pool)
        other.close()
        assert answers(manager, "afk", 1) == ["afk"]
        manager.sync.flush()
        assert in_index(manager) == sorted(WORDS)


def test_a_server_that_hangs_is_waited_for_once(settings, own_chroma):
    with ExpManager(**{**settings, "index": own_chroma.url, "store_timeout": 0.5}) as manager:
        fill(manager)
        asked = count_searches(manager)
        own_chroma.pause()
        assert [answers(manager, word, 1) for word in WORDS[:10]] == [[word] for word in WORDS[:10]]
        assert len(asked) == 1
        manager.sync.flush()
        assert not covered(manager)
        own_chroma.resume()
        manager.sync.create_exp(exp("zzzz"))
        manager.sync.flush()
        assert covered(manager)
        assert in_index(manager) == sorted([*WORDS, "zzzz"])


def test_two_processes_feed_one_index(settings):
    script = """
        with ExpManager(SETTINGS) as manager:
            print("ready", flush=True)
            input()
            for start in range(0, 60, 6):
                exps = [Experience(function="f", request="q" * (start + n + 1), response=n) for n in range(6)]
                manager.sync.create_exps(exps)
                manager.sync.flush()
                manager.sync.delete_exp(exps[0].id)
                manager.sync.flush()
            print(manager.stats().degraded)
    """
    other = child(script, settings)
    try:
        with ExpManager(**settings) as manager:
            assert other.stdout.readline() == "ready\n"
            other.stdin.write("go\n")
            other.stdin.flush()
            for start in range(0, 75, 5):
                fill(manager, WORDS[start : start + 5])
                manager.sync.delete_exps({"request": WORDS[start]})
            out, err = other.communicate(timeout=120)
            assert (out, err, other.returncode) == ("0\n", "", 0)
            manager.sync.flush()
            assert manager.stats().degraded == 0
            rows = [row.id for row in manager.sync._store.scan(RecordQuery("default"))]
            assert len(rows) == 60 + 50
            assert sorted(ids_in_index(manager)) == sorted(rows)
    finally:
        other.kill()
        other.communicate()


def test_while_another_feeds_it_this_one_uses_what_is_there(settings):
    with ExpManager(**settings) as manager, ExpManager(**settings) as other:
        fill(manager)
        store, (space,) = manager.sync._store, manager.sync._store.partitions("default")
        lease = store.claim(space.namespace, f"index:{space.embedder}", "another process", 60).lease
        fill(other, ["zzzz"])
        assert covered(other)
        assert in_index(other) == sorted(WORDS)
        assert answers(other, "zzzz", 1) == ["zzzz"]
        assert other.stats().indexed == 0
        store.release(lease)
        other.sync.flush()
        assert in_index(other) == sorted([*WORDS, "zzzz"])


def test_a_store_put_back_from_a_copy_has_what_the_server_dropped_handed_over_again(settings, tmp_path):
    with ExpManager(**settings) as manager:
        fill(manager)
    shutil.copy(tmp_path / "pool.db", tmp_path / "copy.db")
    with ExpManager(**settings) as manager:
        manager.sync.delete_exps({"request": {"in": WORDS[:5]}})
        manager.sync.flush()
        assert in_index(manager) == sorted(WORDS[5:])
    shutil.copy(tmp_path / "copy.db", tmp_path / "pool.db")
    with ExpManager(**settings) as manager:
        manager.sync.flush()
        assert in_index(manager) == sorted(WORDS)
        assert manager.stats().repaired == 1
        assert manager.sync.doctor().sound


def test_who_was_given_up_hands_nothing_over(settings, monkeypatch):
    with ExpManager(**settings) as manager:
        fill(manager)
        follower, store, (space,) = (
            manager.sync._index_sync,
            manager.sync._store,
            manager.sync._store.partitions("default"),
        )
        key = (space.namespace, f"index:{space.embedder}")
        with follower._feeding(space) as may_feed:
            assert may_feed()
            assert store.claim(*key, "another process", 60).lease is None
            monkeypatch.setattr("exp_pool.stores.sql.sqlite_engine.now_us", lambda: clock.now_us() + 61_000_000)
            assert store.claim(*key, "another process", 60).lease is not None
            assert not may_feed()
        assert store.claim(*key, "a third one", 60).lease is None  # what ended gave back its own lease only


def test_a_row_that_came_late_is_found_by_nobody(settings):
    with ExpManager(**settings) as manager:
        fill(manager)
        store, (space,) = manager.sync._store, manager.sync._store.partitions("default")
        (row,) = [row for row in store.vectors_after(*space, 0, 1000) if answers_to(manager, row, "afk")]
        manager.sync.delete_exps({"request": "afk"})
        manager.sync.flush()
        manager.sync._index.upsert_many(space, [row])
        assert row.id in ids_in_index(manager)
        assert "afk" not in answers(manager, "afk", 100)
        assert len(answers(manager, "afk", 100)) == 74


def answers_to(manager, row, request):
    return manager.sync.get_exp(row.id).request == request


def test_a_child_by_fork_has_a_connection_of_its_own(settings):
    with ExpManager(**settings) as manager:
        fill(manager)
        assert by_fork(lambda: (manager.sync.flush(), covered(manager), answers(manager, "afk", 1) == ["afk"])) == 0
        assert in_index(manager) == sorted(WORDS)


def by_fork(job):
    pid = os.fork()
    if not pid:
        try:
            os._exit(0 if all(done is not False for done in job()) else 1)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(2)
    return os.waitpid(pid, 0)[1]


# Milvus


@pytest.fixture
def lite(milvus_lite, tmp_path):
    folder = tmp_path / "pool"
    return {
        "store": f"sqlite:///{folder}/pool.db",
        "index": f"milvus:///{folder}/file.db",
        "embedder": letters,
        "index_from": 0,
        "store_timeout": 30,
    }


def test_milvus_lite_belongs_to_one_process_and_is_private(lite, tmp_path):
    with ExpManager(**lite) as manager:
        assert isinstance(manager.sync._index, RenewableIndex)
        fill(manager)
        assert covered(manager)
        assert in_index(manager) == sorted(WORDS)
        out = out_of(
            """
            with ExpManager(SETTINGS) as manager:
                manager.sync.create_exp(Experience(function="f", request="wwww", response="a"))
                manager.sync.flush()
                print([hit.experience.request for hit in manager.sync.search("wwww", top_k=1)])
                print(manager.stats().degraded, manager.stats().indexed)
            """,
            lite,
        )
        assert out == "['wwww']\n0 0\n"
        open_to_others = [path for path in (tmp_path / "pool" / "file.db").rglob("*") if path.stat().st_mode & 0o077]
        assert [path for path in open_to_others if path.is_file() and path.name not in ("LOCK",)] == []
    with ExpManager(**lite) as successor:
        successor.sync.flush()
        assert in_index(successor) == sorted([*WORDS, "wwww"])
        assert (successor.stats().indexed, successor.stats().repaired) == (1, 0)


def test_milvus_lite_is_rebuilt_beside_the_old_one(lite):
    with ExpManager(**lite) as manager:
        fill(manager)
        assert manager.sync.reindex() == 75
        assert in_index(manager) == sorted(WORDS)


def test_a_process_with_milvus_lite_ends_by_itself_and_quietly(lite):
    out_of(
        "manager = ExpManager(SETTINGS)\nmanager.sync.create_exp(Experience(function='f', request='abc', response=1))\nmanager.sync.flush()",
        lite,
    )
    with ExpManager(**lite) as manager:
        manager.sync.flush()
        assert in_index(manager) == ["abc"]
        assert manager.stats().repaired == 0


def test_a_child_by_fork_that_ends_leaves_milvus_lite_alone(lite):
    out = out_of(
        """
        import os, sys
        from pathlib import Path

        def files():
            return {path: path.stat().st_size for path in Path("pool/file.db").rglob("*") if path.is_file()}

        manager = ExpManager(SETTINGS)
        manager.sync.create_exp(Experience(function="f", request="abc", response=1))
        manager.sync.flush()
        before = files()
        pid = os.fork()
        if not pid:
            print([hit.experience.request for hit in manager.sync.search("abc")], flush=True)
            sys.exit()
        print(os.waitpid(pid, 0)[1], files() == before)
        manager.sync.create_exp(Experience(function="f", request="xyz", response=1))
        manager.sync.flush()
        manager.sync.close()
        """,
        lite,
    )
    assert out == "['abc']\n0 True\n"
    with ExpManager(**lite) as manager:
        manager.sync.flush()
        assert in_index(manager) == ["abc", "xyz"]
        assert manager.stats().repaired == 0


def test_a_milvus_server_that_was_killed_is_used_again(lite, own_milvus):
    with ExpManager(**{**lite, "index": own_milvus.url, "store_timeout": 2}) as manager:
        fill(manager)
        assert in_index(manager) == sorted(WORDS)
        own_milvus.kill()
        asked = count_searches(manager)
        with pytest.warns(ExpPoolWarning, match="Milvus at milvus://127.0.0.1"):
            assert answers(manager, "afk", 1) == ["afk"]
        assert [answers(manager, word, 1) for word in WORDS[:10]] == [[word] for word in WORDS[:10]]
        assert len(asked) == 1
        own_milvus.start()
        manager.sync.create_exp(exp("zzzz"))
        manager.sync.flush()
        assert covered(manager)
        assert in_index(manager) == sorted([*WORDS, "zzzz"])


def test_naming_a_server_loads_nothing(lite):
    out = out_of(
        """
        import sys
        for index in ("milvus:///x.db", "milvus://127.0.0.1:1", "chroma://127.0.0.1:1"):
            with ExpManager(store="memory://", index=index, embedder=letters) as manager:
                manager.sync.create_exp(Experience(function="f", request="abc", response=1))
                assert manager.sync.search("abc")
        print(sorted({"pymilvus", "milvus_lite", "chromadb", "grpc", "httpx"} & set(sys.modules)))
        """,
        lite,
    )
    assert out == "[]\n"
