"""``json:///folder``: kept over restarts, by several processes, and whatever happens to one of them."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
from support.json_pool import assert_sound, files, only

from exp_pool.core.record import TaskKind
from exp_pool.errors import StoreError
from exp_pool.protocols import (
    Completion,
    EvictionOrder,
    Put,
    PutMode,
    PutStatus,
    RecordQuery,
    Touch,
)
from exp_pool.stores.json.old_journal import drop_journal
from exp_pool.stores.json.store import JsonStore
from exp_pool.testing.factories import put, row, vector


@pytest.fixture
def store(tmp_path):
    with_files = JsonStore(tmp_path / "pool")
    yield with_files
    with_files.close()


@pytest.fixture
def other(store):
    """Another process's view, as far as files, locks and memory go."""
    second = JsonStore(store.path)
    yield second
    second.close()


def test_everything_survives_a_restart(store):
    rows = [row(f"r{i}", created_at=5, size_bytes=77) for i in range(20)]
    gone = row("gone")
    put(store, *rows, gone)
    store.put_many([Put(replace(rows[0], model="m"), PutMode.UPDATE, expected_revision=1)])
    store.touch_many("n", [Touch(rows[0].id, 3, 7)])
    store.complete_many([Completion("n", rows[1].id, TaskKind.EMBED, vector=vector(1, 0, whole=False))])
    store.delete_many("n", [gone.id])
    store.write_state("n", "s", "text \ud83d\udca9 \0", None)
    last = store.append_log("n", "l", ["a\n", "b\ud800"])
    lease = store.claim("n", "k", "me", 600).lease
    put(store, row(namespace="cleared"))
    store.clear("cleared")
    before = list(store.scan(RecordQuery("n", history=True)))
    vectors = store.vectors_after("n", "e", 0, 9)
    for compact in (False, True):
        if compact:
            store.vacuum()
        store.close()
        assert list(store.scan(RecordQuery("n", history=True))) == before
        assert [r.id for r in before] == [r.id for r in rows]
        assert store.vectors_after("n", "e", 0, 9) == vectors
        assert store.read_state("n", "s") == ("text \ud83d\udca9 \0", 1)
        assert [e.entry for e in store.read_log("n", "l")] == ["a\n", "b\ud800"]
        assert store.claim("n", "k", "you", 60).lease is None
        assert put(store, gone, mode=PutMode.REPLICATE) == [PutStatus.DELETED]
        assert put(store, row(namespace="cleared", created_at=9), mode=PutMode.REPLICATE) == [PutStatus.DELETED]
    assert store.append_log("n", "l", ["c"]) > last
    store.release(lease)
    assert store.claim("n", "k", "you", 60).lease.token > lease.token


@pytest.mark.parametrize("restart", [False, True])
def test_without_the_hidden_folder_everything_is_owed_again_and_nothing_is_lost(store, restart):
    rows = [row(f"r{i}") for i in range(5)]
    store.put_many([Put(replace(r, embed_due=None), vector=vector(1)) for r in rows])
    position = store.vectors_after("n", "e", 0, 9)[-1].position
    assert store.count(RecordQuery("n", pending=TaskKind.EMBED)) == 0
    if restart:
        store.close()
        store = JsonStore(store.path)
    shutil.rmtree(store.path / ".state")
    assert store.count(RecordQuery("n", pending=TaskKind.EMBED)) == 5
    assert {r.response for r in store.scan(RecordQuery("n"))} == {'"a"'}
    assert store.partitions() == {}
    store.complete_many([Completion("n", rows[0].id, TaskKind.EMBED, vector=vector(1))])
    assert store.vectors_after("n", "e", position, 9)[0].position > position
    assert store.check() == []
    store.close()


def test_what_one_does_the_other_sees(store, other):
    first, second = row(response="1"), row(response="2")
    store.put_many([Put(first, vector=vector(1))])
    assert other.get_many("n", [first.key]) == [first]
    put(other, second)
    assert store.get_many("n", [first.key]) == [second]
    assert store.get_many("n", [first.id], by="id")[0].superseded_by == second.id
    assert store.partitions() == {}
    other.touch_many("n", [Touch(second.id, 1, 9)])
    assert only(store).access_count == 1
    assert other.write_state("n", "s", "x", None)
    assert not store.write_state("n", "s", "y", None)
    lease = other.claim("n", "k", "other", 60).lease
    assert store.claim("n", "k", "me", 60).lease is None
    other.release(lease)
    assert store.claim("n", "k", "me", 60).lease is not None
    other.vacuum()
    assert store.read_state("n", "s").value == "x"
    assert other.delete_many("n", [second.id]) == [second.id]
    assert store.get_many("n", [second.key]) == [None]
    assert put(store, second, mode=PutMode.REPLICATE) == [PutStatus.DELETED]
    assert [g.id for g in store.evict("n", EvictionOrder.LRU, 9)] == [first.id]
    assert other.count(RecordQuery("n", history=True)) == 0
    assert files(store) == []


def test_the_database_does_not_grow_for_ever_and_others_follow(store, other):
    kept = row()
    put(store, kept)
    assert other.count(RecordQuery("n")) == 1
    for i in range(300):
        store.write_state("n", "s", "x" * 10_000, i or None)
    store.tidy(10**15)
    assert sum(path.stat().st_size for path in (store.path / ".state").iterdir()) < 5_000_000
    assert other.read_state("n", "s").revision == 300
    assert other.get_many("n", [kept.key]) == [kept]


@pytest.mark.parametrize("part", [slice(0, 100), slice(4096, None), slice(0, None)], ids=["head", "pages", "all"])
def test_a_damaged_database_is_made_anew_from_the_files(store, part):
    rows = [row(f"r{i}") for i in range(50)]
    put(store, *rows)
    store.vacuum()
    store.close()
    database = store.path / ".state" / "pool.db"
    content = bytearray(database.read_bytes())
    content[part] = b"\x05" * len(content[part])
    database.write_bytes(content)
    assert [r.response for r in store.get_many("n", [r.key for r in rows])] == ['"a"'] * 50
    assert put(store, row("new")) == [PutStatus.CURRENT]
    assert store.count(RecordQuery("n")) == 51
    assert_sound(store)


def test_what_can_be_read_of_a_damaged_database_is_kept(store):
    rows = [row(f"r{i}") for i in range(200)]
    put(store, *rows)
    store.append_log("n", "audit", ["x"])
    store.write_state("n", "judge", "learned", None)
    store.vacuum()
    store.close()
    database = store.path / ".state" / "pool.db"
    content = bytearray(database.read_bytes())
    at = content.index(rows[100].id.encode()) // 4096 * 4096
    content[at : at + 4096] = b"\x05" * 4096
    database.write_bytes(content)
    assert store.count(RecordQuery("n")) == 200
    assert [entry for _, entry in store.read_log("n", "audit")] == ["x"]
    assert store.read_state("n", "judge") == ("learned", 1)
    assert_sound(store)


def test_a_database_that_is_damaged_under_a_process_is_noticed_by_it(store, other):
    put(store, *(row(f"r{i}") for i in range(50)))
    other.write_state("n", "s", "x", None)
    store.vacuum()
    with (store.path / ".state" / "pool.db").open("r+b") as database:
        database.write(b"\x05" * 200_000)
    store._file.close()
    other._file.close()
    assert store.count(RecordQuery("n")) == other.count(RecordQuery("n")) == 50
    put(other, row("new"))
    assert store.count(RecordQuery("n")) == 51
    assert_sound(store)


def damage_one_page(store, id_):
    store.vacuum()
    content = bytearray((store.path / ".state" / "pool.db").read_bytes())
    at = content.index(id_.encode()) // 4096 * 4096
    with (store.path / ".state" / "pool.db").open("r+b") as database:
        database.seek(at)
        database.write(b"\x05" * 4096)
    store._file.close()


def test_what_can_be_read_is_kept_although_another_process_has_the_database_open(store, other):
    rows = [row(f"r{i}") for i in range(200)]
    put(store, *rows)
    store.append_log("n", "audit", ["x"])
    store.write_state("n", "judge", "learned", None)
    assert other.read_state("n", "judge") == ("learned", 1)
    assert store.set_aside() == []
    damage_one_page(store, rows[100].id)
    assert store.count(RecordQuery("n")) == 200
    (aside,) = {path for path in store.set_aside() if not path.name.endswith(("-wal", "-shm"))}
    assert aside.name.startswith("pool.db.damaged-")
    for each in (store, other):
        assert [entry for _, entry in each.read_log("n", "audit")] == ["x"]
        assert each.read_state("n", "judge") == ("learned", 1)
    put(other, row("new"))
    assert store.count(RecordQuery("n")) == 201
    assert_sound(store)


def test_a_database_that_somebody_mended_meanwhile_is_not_mended_again(store, other):
    put(store, row())
    store.write_state("n", "judge", "learned", None)
    assert other.read_state("n", "judge") == ("learned", 1)
    store._mend()
    assert store.read_state("n", "judge") == ("learned", 1)
    assert store.set_aside() == []


def test_readers_by_position_see_what_is_added_after_the_hidden_folder_was_lost(store):
    rows = [row(f"r{i}") for i in range(5)]
    put(store, *rows)
    position = store.requests_after("n", 0, 9)[-1].position
    store.delete_many("n", [r.id for r in rows[1:]])
    shutil.rmtree(store.path / ".state")
    new = row("new")
    put(store, new)
    assert new.id in [found.id for found in store.requests_after("n", position, 9)]


def test_threads_that_open_at_once_load_once(store):
    put(store, *(row(f"r{i}") for i in range(20)))
    store.close()
    loads, load = [], store._load
    store._load = lambda connection: loads.append(1) or load(connection)
    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(lambda _: store.count(RecordQuery("n")), range(12))) == [20] * 12
    assert len(loads) == 1


def test_opening_waits_for_another_thread_no_longer_than_the_time_out(store):
    put(store, row())
    impatient, holding, tried = JsonStore(store.path, timeout_s=0.05), threading.Event(), threading.Event()

    def hold():
        with impatient._file.put_down():
            holding.set()
            tried.wait(5)
            return tried.is_set()

    with ThreadPoolExecutor(1) as thread:
        held = thread.submit(hold)
        holding.wait(5)
        with pytest.raises(StoreError, match="locked.*store_timeout"):
            impatient.count(RecordQuery("n"))
        tried.set()
        assert held.result()
    assert impatient.count(RecordQuery("n")) == 1
    impatient.close()


JOURNAL = r"""
["row","n","a","x",1,21,"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",null,0,5,0,null,0]
["row","n","c","x",1,27,"283bb9deef02e6843abfb538efa1eca70801bd8a701c3f98191e123496339247",null,0,5,0,null,0]
["row","n","a","x",1,21,"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",null,0,null,0,null,0]
["vector","n","a","f","","5844","e",true,{"$exp:bytes":"AACAPwAAAAA="}]
["vector","n","a","f","","5844",1796030392062692,"e",true,{"$exp:bytes":"AACAPwAAAAA="}]
["vector","n","b","f","","5844",1796030392063708,"e",true,{"$exp:bytes":"AAAAAAAAgD8="}]
["row","n","a","x",2,21,"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",7,3,null,0,null,0]
["row","n","b","x",4,99,"of another request",9,9,null,0,null,0]
["row","n","c",null]
["tombstone","n","c",1796030392082141]
["state","n","judge","\ud800",1]
["state","n","judge","learned",2]
["state","n","index:e","9",1]
["log","n","audit",[[1796030392115503,"x"],[1796030392115510,"y"]]]
["log","n","dropped",[[1796030392120987,"z"]]]
["log","n","dropped",null]
["nonsense"]
["lease","n","k","me",1796030392138458,1796030452138450]
["cutoff","cleared",1796030392164707]
["state","n","t",
"""


def test_what_a_folder_of_before_remembered_is_taken_over(store):
    a, b = row("a", id="a", created_at=1), row("b", id="b", created_at=2)
    put(store, a, b)
    store.close()
    shutil.rmtree(store.path / ".state")
    (store.path / ".state").mkdir()
    (store.path / ".state" / "journal").write_text(JOURNAL)
    for _ in range(2):
        found = store.get_many("n", ["a", "b"], by="id")
        assert found[0] == replace(a, access_count=3, last_access=7, revision=2, embed_due=None, size_bytes=21)
        assert found[1] == replace(b, embed_due=found[1].embed_due, score_due=found[1].score_due)
        assert found[1].embed_due is not None
        assert store.get_vectors("n", ["a", "b"]) == [vector(1, 0), None]
        assert put(store, row(id="c"), mode=PutMode.REPLICATE) == [PutStatus.DELETED]
        assert put(store, row(namespace="cleared", created_at=9), mode=PutMode.REPLICATE) == [PutStatus.DELETED]
        assert store.read_state("n", "judge") == ("learned", 2)
        assert store.names("n") == (["judge"], ["audit"])
        assert [tuple(e) for e in store.read_log("n", "audit")] == [(1796030392115503, "x"), (1796030392115510, "y")]
        store.close()
    assert store.append_log("n", "audit", ["z"]) > 1796030392115510
    assert not (store.path / ".state" / "journal").exists()
    assert_sound(store)


def test_a_journal_of_before_is_removed_only_once_the_database_is_on_the_disk(store, tmp_path, monkeypatch):
    put(store, row("a", id="a"))
    store.close()
    shutil.rmtree(store.path / ".state")
    (store.path / ".state").mkdir()
    (store.path / ".state" / "journal").write_text(JOURNAL)

    def copy_then_drop(state):
        shutil.copy(state / "pool.db", tmp_path / "on-disk.db")  # without the log, which may not be there yet
        drop_journal(state)

    monkeypatch.setattr("exp_pool.stores.json.folder_cache.drop_journal", copy_then_drop)
    assert store.read_state("n", "judge") == ("learned", 2)
    assert not (store.path / ".state" / "journal").exists()
    with closing(sqlite3.connect(tmp_path / "on-disk.db")) as copy:
        assert copy.execute("SELECT value FROM states WHERE name = 'judge'").fetchall() == [("learned",)]


def test_many_open_a_new_folder_at_once(tmp_path):
    for number in range(20):
        stores = [JsonStore(tmp_path / str(number)) for _ in range(6)]
        with ThreadPoolExecutor(6) as threads:
            statuses = list(threads.map(lambda s: put(s, row(response=str(id(s)))), stores))
        assert statuses == [[PutStatus.CURRENT]] * 6
        assert [s.count(RecordQuery("n", history=True)) for s in stores] == [6] * 6
        assert_sound(stores[0])
        for each in stores:
            each.close()


CHILD = """
import os, signal, sys
from dataclasses import replace
from exp_pool.protocols import Put, PutMode, PutStatus, RecordQuery, Completion, Touch
from exp_pool.core.record import TaskKind
from exp_pool.stores.json.store import JsonStore
from exp_pool.testing.factories import put, row, vector

store = JsonStore(sys.argv[1], timeout_s=60)

def say(*words):
    print(*words, flush=True)
"""


@pytest.fixture
def start(store):
    """Start a child that runs `code` with a store on the same folder."""
    children = []

    def begin(code, *arguments):
        command = [sys.executable, "-c", CHILD + code, str(store.path), *map(str, arguments)]
        children.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return children[-1]

    yield begin
    for child in children:
        child.kill()
        child.wait(60)
        child.stdin.close()
        child.stdout.close()


def test_two_processes_write_at_once(start, store):
    code = """
say("ready"); sys.stdin.readline()
for i in range(40):
    assert put(store, row(f"{sys.argv[2]} {i}"))[0] is PutStatus.CURRENT
    put(store, row("shared", f"{sys.argv[2]} {i}"))
    while True:
        state = store.read_state("n", "sum")
        if store.write_state("n", "sum", str(int(state.value) + 1 if state else 1), state and state.revision):
            break
    store.append_log("n", "log", [f"{sys.argv[2]} {i}"])
say("done")
"""
    children = [start(code, name) for name in "ab"]
    assert [c.stdout.readline() for c in children] == ["ready\n"] * 2
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [c.stdout.readline() for c in children] == ["done\n"] * 2
    assert store.count(RecordQuery("n")) == 81
    assert store.count(RecordQuery("n", history=True)) == 160
    assert store.read_state("n", "sum").value == "80"
    entries = store.read_log("n", "log")
    assert len({e.entry for e in entries}) == len({e.position for e in entries}) == 80
    assert_sound(store)


def test_killed_at_any_moment(start, store):
    """A child writes as fast as it can, and is killed while it does: what it acknowledged is there."""
    code = """
i = 0
while True:
    r = row(f"key {i % 3}", str(i), id=f"{sys.argv[2]}:{i}")
    store.put_many([Put(r, vector=vector(i, 1))])
    say(r.id)
    i += 1
"""
    for number in range(8):
        child = start(code, number)
        acknowledged = [child.stdout.readline().strip() for _ in range(3 + number)]
        child.kill()
        acknowledged += child.stdout.read().split("\n")[:-1]
        child.wait(60)
        found = store.get_many("n", acknowledged, by="id")
        assert None not in found
        newest = {r.key: r for r in found}
        for r in newest.values():
            current = store.get_many("n", [r.key])[0]
            assert current.id == r.id or current.created_at >= r.created_at
        assert_sound(store)


WORK = {
    "insert": "put(store, row('new'))",
    "supersede": "put(store, row('old', 'new', id='new'))",
    "update": "put(store, replace(old, response='\"new\"'), mode=PutMode.UPDATE, expected_revision=1)",
    "delete": "store.delete_many('n', ['old'])",
    "settle": "store.complete_many([Completion('n', 'old', TaskKind.EMBED, vector=vector(1))])",
    "clear": "store.clear('n')",
    "vacuum": "store.vacuum()",
}


@pytest.mark.parametrize("work", WORK)
def test_killed_before_each_step_of_a_write(start, store, work):
    """The child kills itself before it opens, renames, removes or makes its nth file, for every n there is."""
    code = f"""
old = store.get_many("n", ["old"], by="id")[0]
steps, last = 0, int(sys.argv[2])
def hook(event, arguments):
    global steps
    if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate"):
        steps += 1
        if steps == last:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
{WORK[work]}
"""
    step, codes = 0, []
    while not codes or codes[-1] == -signal.SIGKILL:
        step += 1
        shutil.rmtree(store.path, ignore_errors=True)
        old, by = row("old", "old", id="old", created_at=5), row("bystander", id="by")
        put(store, old, by)
        store.close()
        child = start(code, step)
        codes.append(child.wait(60))
        (current,) = store.get_many("n", [old.key])
        whole = current is None if work in ("delete", "clear") else current.response in ('"old"', '"new"')
        assert whole or (work in ("delete", "clear") and current.response == '"old"'), step
        if work == "supersede":
            was = store.get_many("n", ["old"], by="id")[0]
            assert (was.is_current, was.response) == (current.id == "old", '"old"')
        if work != "clear":
            assert store.get_many("n", ["by"], by="id")[0].response == by.response
        assert_sound(store)
        before = list(store.scan(RecordQuery("n", history=True)))
        store.close()
        assert list(store.scan(RecordQuery("n", history=True))) == before  # the first look settled everything
        store.close()
    assert codes[-1] == 0
    assert step > 2 or work in ("delete", "settle")  # what SQLite does is no step


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_goes_on_although_another_thread_was_writing(store, monkeypatch):
    put(store, row("parent"))
    writing, forking = threading.Event(), threading.Event()

    def fail_halfway(place, content):
        writing.set()
        forking.wait(30)
        raise OSError("no space left on device")

    monkeypatch.setattr(store._folder, "write", fail_halfway)
    os.register_at_fork(before=forking.set)  # the last one that is registered is the first that runs
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(put, store, row("halfway"))
        writing.wait(30)
        monkeypatch.undo()
        child = os.fork()
        if not child:
            try:
                put(store, row("child"))
                os._exit(0 if store.count(RecordQuery("n")) == 2 else 1)
            finally:
                os._exit(2)
        with pytest.raises(StoreError, match="Free some disk space"):
            done.result()
    assert os.waitpid(child, 0)[1] == 0
    put(store, row("parent again"))
    assert store.count(RecordQuery("n")) == 3
    assert_sound(store)


def test_a_writer_that_never_ends_costs_the_time_out(store):
    kept = row()
    put(store, kept)
    impatient = JsonStore(store.path, timeout_s=0.05)
    assert impatient.count(RecordQuery("n")) == 1
    with closing(sqlite3.connect(store.path / ".state" / "pool.db", isolation_level=None)) as held:
        held.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked.*store_timeout"):
            put(impatient, row("b"))
        assert impatient.get_many("n", [kept.key]) == [kept]  # readers wait only where something changed
    put(impatient, row("b"))
    assert store.count(RecordQuery("n")) == 2
    impatient.close()


def test_spaces_are_those_of_rows_that_are_there(store):
    kept = row()
    store.put_many([Put(kept, vector=vector(1))])
    store.close()
    files(store)[0].unlink()
    assert store.partitions() == {}
    assert [r.vector for r in store.vectors_after("n", "e", 0, 9)] == [None]
