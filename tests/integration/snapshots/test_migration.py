"""Moving a pool: everything comes along between any two stores, whatever happens on the way, and it is seen when not."""

import functools
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace

import pytest
from support.pools import ROUTES, STORES, change, everything, fill, new_store, put_updates

from exp_pool import Experience, ExpManager, migrate
from exp_pool.errors import ConfigurationError, InvalidInputError, MigrationError, StoreError
from exp_pool.protocols import Deletion, Put, PutMode, PutStatus, RecordQuery
from exp_pool.snapshots import store_copier
from exp_pool.stores.memory import MemoryStore
from exp_pool.stores.null import NullStore
from exp_pool.stores.sql.sqlite import SqliteStore
from exp_pool.testing import FaultyStore, at
from exp_pool.testing.factories import put, row, vector


@pytest.fixture(scope="module")
def full(request, tmp_path_factory):
    """By its kind, a full pool on a store; tests only read it."""
    with ExitStack() as stack:

        @functools.cache
        def filled(kind):
            store = stack.enter_context(new_store(kind, request, tmp_path_factory.mktemp("full")))
            fill(store, 2000)
            return store

        yield filled


@pytest.fixture(params=ROUTES, ids=" to ".join)
def route(request):
    return request.param


@pytest.fixture
def source(route, full):
    return full(route[0])


@pytest.fixture
def target(route, request, tmp_path):
    with new_store(route[1], request, tmp_path) as store:
        yield store


@pytest.fixture
def small(monkeypatch):
    """A pool in memory of 120 rows, moved in pages of 9."""
    monkeypatch.setattr(store_copier, "_PAGE_ROWS", 9)
    monkeypatch.setattr(store_copier, "_PAGE_ENTRIES", 50)
    store = MemoryStore()
    fill(store, 120)
    return store


@pytest.fixture
def copied(small):
    """The small pool, changed after it was copied, and the copy."""
    target = MemoryStore()
    migrate(small, target)
    change(small)
    return small, target


def assert_moved(source, target, *, in_order=True):
    """All is equal; rows that were brought up to date stand last among those created at the same time."""
    mine, theirs = everything(source, in_order), everything(target, in_order)
    assert mine.keys() == theirs.keys()
    for space, kept in mine.items():
        for name, value in kept._asdict().items():
            assert getattr(theirs[space], name) == value, (space, name)


# ── Between any two stores ────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_comes_along_and_a_second_time_changes_nothing(source, target):
    moved = migrate(source, target)
    target.close()  # what is read from now on was written
    assert_moved(source, target)
    kept = everything(source).values()
    assert moved.rows == sum(r.is_current for k in kept for r in k.rows) > 1000
    assert moved.history == sum(not r.is_current for k in kept for r in k.rows) > 200
    assert moved.vectors == sum(v is not None for k in kept for v in k.vectors) > 500
    assert moved.deletions == sum(len(k.deletions) for k in kept) > 50
    assert moved.states == sum(len(k.states) for k in kept) > 10
    assert moved.logs == sum(len(entries) for k in kept for entries in k.logs.values()) > 500
    assert (moved.skipped, moved.kept, moved.conflicts, moved.refused, moved.before) == (0, 0, 0, 0, 0)
    watched = FaultyStore(target)
    again = migrate(source, watched)
    assert set(watched.calls).isdisjoint(
        {"put_many", "apply_tombstones", "write_state", "append_log", "touch_many", "delete_many"}
    )
    assert again == replace(
        type(moved)(),
        skipped=moved.rows + moved.history,
        before=moved.rows + moved.history,
        checksum=moved.checksum,
        seconds=again.seconds,
    )


def test_what_belongs_to_the_place_stays(source, target):
    migrate(source, target)
    assert target.read_state("", "pool") is None
    assert target.read_state("n", "index:e0") is None
    assert target.claim("leased", "k", "somebody else", 60).lease is not None


def test_what_changed_since_comes_along(copied):
    source, target = copied
    moved = migrate(source, target)
    assert_moved(source, target, in_order=False)
    assert moved.updated == 7  # two edited, three no longer current, one embedded and one scored meanwhile
    assert moved.deletions == 2


def test_large_values(tmp_path):
    source, target = SqliteStore(tmp_path / "a.db"), SqliteStore(tmp_path / "b.db")
    put(source, *[row(f"r{i}", os.urandom(2_500_000).hex()) for i in range(9)], row("small"))
    source.append_log("n", "log", ["x" * 5_000_000] * 3)
    source.write_state("n", "state", "y" * 5_000_000, None)
    migrate(source, target)
    assert_moved(source, target)


# ── Failed or killed on the way ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("older_copy_there", [False, True])
def test_it_continues_after_a_failure_of_any_call(small, after, older_copy_there):
    target = MemoryStore()
    if older_copy_there:
        migrate(small, target)
        change(small)
    faulty = FaultyStore(target)
    for number in range(1, 10_000):
        faulty.calls.clear()
        faulty.plan = at(number, after=after)
        try:
            migrate(small, faulty)
            break
        except StoreError:
            pass
    assert number > 50
    assert_moved(small, target, in_order=not older_copy_there)


_KILLED = """
import os, signal, sys
from exp_pool import migrate
from exp_pool.snapshots import store_copier
from exp_pool.stores.sql.sqlite import SqliteStore
from exp_pool.testing import Fault, FaultyStore
store_copier._PAGE_ROWS = 40
writes = 0
def plan(method, _):
    global writes
    writes += method in ("put_many", "apply_tombstones", "write_state", "append_log", "touch_many")
    if writes == int(sys.argv[3]):
        return Fault(wait=lambda: os.kill(os.getpid(), signal.SIGKILL))
migrate(SqliteStore(sys.argv[1]), FaultyStore(SqliteStore(sys.argv[2]), plan))
"""


def test_a_killed_process_is_continued(tmp_path):
    source = SqliteStore(tmp_path / "a.db")
    fill(source, 300)
    paths = [str(tmp_path / name) for name in ("a.db", "b.db")]
    deaths = Counter()
    for stage in ("first", "changed"):
        for number in (1, 2, 2, 2, 2, 4):  # the third of the changes between taking rows out and bringing them anew
            done = subprocess.run([sys.executable, "-c", _KILLED, *paths, str(number)], check=False, timeout=120)
            deaths[stage] += done.returncode == -signal.SIGKILL
        target = SqliteStore(paths[1])
        migrate(source, target)
        assert_moved(source, target, in_order=stage == "first")
        target.close()
        change(source)
    assert deaths == {"first": 6, "changed": 6}


# ── Verified ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Liar(MemoryStore):
    """Does something else once to what it is given, and says that all went well."""

    def __init__(self, method, lie):
        super().__init__()
        real = getattr(self, method)

        def lying(*args):
            setattr(self, method, real)
            answer = lie(real, *args)
            return [PutStatus.CURRENT if p.record.is_current else PutStatus.HISTORY for p in args[0]] if answer is None and method == "put_many" else answer  # fmt: skip

        setattr(self, method, lying)


def _altered(**changes):
    def lie(put_many, puts):
        wanted = "superseded_by" not in changes  # or history
        at = next(i for i, p in enumerate(puts) if p.record.is_current is wanted and (p.vector is not None) is wanted)
        record = replace(puts[at].record, **{k: v for k, v in changes.items() if k != "vector"})
        put_many([*puts[:at], replace(puts[at], record=record, vector=changes.get("vector", puts[at].vector)), *puts[at + 1 :]])  # fmt: skip

    return lie


LIES = {
    "a row is lost": ("put_many", lambda real, puts: real(puts[1:]) and None, "not there"),
    "said to be deleted": ("put_many", lambda real, puts: [PutStatus.DELETED, *real(puts[1:])], "not there"),
    "another response": ("put_many", _altered(response='"lie"'), "not the same"),
    "another request": ("put_many", _altered(request="lie"), "not the same"),
    "not current": ("put_many", _altered(is_current=False), "not as in the source"),
    "history of another": ("put_many", _altered(superseded_by="lie"), "not as in the source"),
    "an older revision": ("put_many", _altered(revision=0), "not as in the source"),
    "no vector": ("put_many", _altered(vector=None), "not as in the source"),
    "another vector": ("put_many", _altered(vector=vector(0.5, embedder="e1")), "not as in the source"),
    "a log is cut": ("append_log", lambda real, space, name, entries: real(space, name, entries[:-1]), "not complete"),
    "a state is another": ("write_state", lambda real, space, name, value, at: real(space, name, "lie", at), "states"),
    "deletions are lost": (
        "apply_tombstones",
        lambda real, space, gone, cleared_at=None: real(space, gone[1:]),
        "not remembered",
    ),
    "a count is wrong": ("partitions", lambda real, space: {}, "vectors and counts 0"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_target_that_lies_is_noticed(small, lie):
    method, doing, said = LIES[lie]
    with pytest.raises(MigrationError, match="Start it again") as caught:
        migrate(small, Liar(method, doing), namespace="n")
    assert len(caught.value.problems) == 1, caught.value.problems
    assert said in caught.value.problems[0]
    assert "namespace 'n'" in caught.value.problems[0]


def test_a_state_that_was_written_otherwise_is_noticed():
    source = MemoryStore()
    source.write_state("n", "s", "truth", None)
    with pytest.raises(MigrationError, match="1 states are not as in the source: 's'"):
        migrate(source, Liar(*LIES["a state is another"][:2]))


def test_what_keeps_nothing_is_noticed(small):
    with pytest.raises(MigrationError, match="are not there"):
        migrate(small, NullStore())


def test_a_damaged_row_of_the_source_is_named_and_the_others_are_moved(tmp_path):
    source, target = SqliteStore(tmp_path / "a.db"), MemoryStore()
    rows = [row(f"r{i}") for i in range(20)]
    put(source, *rows)
    source.close()
    with sqlite3.connect(tmp_path / "a.db") as file:
        file.execute("UPDATE experiences SET response = '\"b\"' WHERE id = ?", (rows[3].id,))
    file.close()
    with pytest.raises(MigrationError, match="counts 20 rows and gives 19") as caught:
        migrate(source, target)
    assert any(rows[3].id in problem and "doctor --fix" in problem for problem in caught.value.problems)
    assert list(target.scan(RecordQuery("n"))) == [*rows[:3], *rows[4:]]


def test_a_damaged_file_of_the_source_is_named(tmp_path):
    source = STORES["json"](tmp_path)
    put(source, row("a"), row("b"))
    next(p for p in source.path.rglob("*.json") if p.name != "pool.json").write_text("{")
    with pytest.warns(match="is not served"), pytest.raises(MigrationError, match="mend it and move it back"):
        migrate(source, MemoryStore())


# ── A target that holds something already ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("later", ["source", "target"])
def test_two_answers_of_one_call_both_stay_and_the_later_is_current(later):
    source, target = MemoryStore(), MemoryStore()
    theirs = row("q", "theirs", created_at=10 if later == "source" else 5)
    ours = row("q", "ours", created_at=7)
    put(source, theirs)
    put(target, ours, row("alone"))
    moved = migrate(source, target)
    assert (moved.conflicts, moved.before) == (1, 2)
    winner, loser = (theirs, ours) if later == "source" else (ours, theirs)
    assert [(r.id, r.is_current) for r in target.get_many("n", [winner.id, loser.id], by="id")] == [(winner.id, True), (loser.id, False)]  # fmt: skip
    assert target.get_many("n", [loser.id], by="id")[0].superseded_by == winner.id
    before = everything(target)
    assert migrate(source, target).skipped == 1
    assert everything(target) == before


def test_an_annotated_answer_of_the_target_stays_current():
    source, target = MemoryStore(), MemoryStore()
    put(source, row("q", created_at=10, origin="manual"))
    ours = row("q", expected="said", created_at=7)
    put(target, ours)
    migrate(source, target)
    assert target.get_many("n", [ours.key]) == [ours]
    assert target.count(RecordQuery("n", history=True)) == 2


def test_what_the_target_changed_later_stays(copied):
    source, target = copied
    mine = next(r for r in target.scan(RecordQuery("n")) if not r.annotated and r.origin == "automatic")
    put_updates(target, [replace(mine, response='"mine"')])
    for count in range(2):
        (row_,) = target.get_many("n", [mine.id], by="id")
        put_updates(target, [replace(row_, response=f'"mine {count}"', expected='"x"')])
    target.write_state("n", "judge", "mine", 1)
    for i in range(2, 9):
        target.write_state("n", "judge", "mine", i)
    moved = migrate(source, target)
    assert moved.kept == 2
    assert target.get_many("n", [mine.id], by="id")[0].response == '"mine 1"'
    assert target.read_state("n", "judge").value == "mine"


def test_what_the_target_deleted_stays_deleted(small):
    target = MemoryStore()
    migrate(small, target)
    rows = list(small.scan(RecordQuery("n")))[:3]
    target.delete_many("n", [r.id for r in rows])
    moved = migrate(small, target)
    assert moved.refused == 3
    assert target.get_many("n", [r.id for r in rows], by="id") == [None] * 3


def test_both_changed_is_said_and_nothing_is_lost():
    source, target = MemoryStore(), MemoryStore()
    first = row("q")
    put(source, first)
    migrate(source, target)
    for store in (source, target):
        put_updates(store, [replace(first, response=f'"{id(store)}"')])
    with pytest.raises(MigrationError, match=f"of one revision, but not the same: '{first.id}'"):
        migrate(source, target)
    assert [store.get_many("n", [first.key])[0].response for store in (source, target)] == [f'"{id(s)}"' for s in (source, target)]  # fmt: skip


def test_logs_of_both_are_kept_once():
    source, target = MemoryStore(), MemoryStore()
    source.append_log("n", "l", ["a", "b", "b", "c"])
    target.append_log("n", "l", ["own", "a", "own", "b"])
    for _ in range(2):
        migrate(source, target)
        assert [e for _, e in target.read_log("n", "l")] == ["own", "a", "own", "b", "b", "c"]


def test_vectors_that_the_target_would_not_find_are_owed_there():
    source, target = MemoryStore(), MemoryStore()
    ours = row("q", embed_due=None)
    source.put_many([Put(ours, vector=vector(1, 0, embedder="old"))])
    source.write_state("n", "embedder", "older", None)
    source.write_state("n", "embedder", "old", 1)
    target.write_state("n", "embedder", "new", None)
    for _ in range(2):
        migrate(source, target)
        assert target.get_vectors("n", [ours.id]) == [None]
        assert target.count(RecordQuery("n", pending="embed")) == 1
    assert target.read_state("n", "embedder").value == "new"


def test_a_row_put_back_by_hand_is_not_buried(tmp_path):
    source, target = STORES["json"](tmp_path), MemoryStore()
    back = row("q")
    put(source, back)
    file = next(p for p in source.path.rglob("*.json") if p.name != "pool.json")
    text = file.read_bytes()
    source.delete_many("n", [back.id])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text)
    assert migrate(source, target).rows == 1
    assert target.get_many("n", [back.key])[0].id == back.id
    source.close()


def test_a_deletion_under_way_in_the_source_is_none():
    source, target = MemoryStore(), MemoryStore()
    source.apply_tombstones("n", [Deletion("x", 0), Deletion("y", 1)])
    assert migrate(source, target).deletions == 1
    assert put(target, row("q", id="x"), mode=PutMode.REPLICATE) == [PutStatus.CURRENT]


# ── Part of a pool ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_what_matches(small):
    target = MemoryStore()
    moved = migrate(small, target, {"function": "f1"})
    wanted = [r for r in small.scan(RecordQuery("n", history=True)) if r.function == "f1"]
    kept = everything(target)["n"]
    assert kept.rows == wanted
    assert (kept.states, kept.deletions, kept.cutoff) == ({}, [], None)
    logs = everything(small)["n"].logs
    assert kept.logs == {n: e for n, e in logs.items() if n in {f"audit:{r.id}" for r in wanted}} != {}
    assert (moved.history > 0, moved.deletions, moved.states) == (True, 0, 0)
    assert migrate(small, target, {"function": "f1"}).skipped == moved.rows + moved.history
    migrate(small, target)
    assert_moved(small, target, in_order=False)


def test_only_a_namespace(small):
    target = MemoryStore()
    migrate(small, target, namespace="n")
    assert target.namespaces() == ["n"]
    assert everything(target)["n"] == everything(small)["n"]
    with pytest.raises(InvalidInputError, match="'m' is not in the source; it has "):
        migrate(small, target, namespace="m")
    for wrong in ("", 5):
        with pytest.raises(InvalidInputError, match="must be the name of one"):
            migrate(small, target, namespace=wrong)


def test_a_dry_run_writes_nothing_and_says_the_same(copied, tmp_path):
    source, target = copied
    before = everything(target)
    would = migrate(source, target, dry_run=True)
    assert everything(target) == before
    done = migrate(source, target)
    assert would == replace(done, checksum="", seconds=0.0, dry_run=True)
    assert str(would).startswith("would move 4 rows and 1 of history")
    migrate(source, f"sqlite:///{tmp_path}/b.db", dry_run=True)
    assert not list(tmp_path.iterdir())


# ── URLs, and what cannot be ──────────────────────────────────────────────────────────────────────────────────────────


def test_managers_go_on_where_the_pool_moved_to(tmp_path, embedder):
    with ExpManager(store="sqlite:///a.db", index="exact://", embedder=embedder) as manager:
        manager.sync.create_exps([Experience(function="f", request=f"r{i}", response=i) for i in range(9)])
        manager.sync.flush()
    assert migrate("sqlite:///a.db", "json:///b").vectors == 9
    with ExpManager(store="json:///b", index="exact://", embedder=embedder) as manager:
        assert manager.sync.doctor().sound
        assert [e.response for e in manager.sync.query_exps("r3", function="f", query_type="exact")] == [3]


def test_what_cannot_be(tmp_path):
    put(SqliteStore("a.db"), row())
    memory = MemoryStore()
    for source, target, said in (
        (memory, memory, "are the same store, MemoryStore"),
        ("sqlite:///a.db", "sqlite:///a.db", "are the same store"),
        ("sqlite:///a.db", f"sqlite:///{tmp_path}/a.db", "are the same store"),
        ("sqlite:///a.db", SqliteStore("a.db"), "are the same store"),
        ("sqlite:///a.db", "memory://", "forgets all"),
        ("sqlite:///a.db", "null://", "forgets all"),
        ("sqlite:///nowhere.db", "json:///b", "there is no pool at"),
        ("sqlite:///a.db", "mongo://me:secret@host/x", r"mongo://me:\*\*\*@host/x'?: unknown scheme; known: json"),
        ("sqlite:///a.db", 5, "target=5 must be the URL of a store, or a RecordStore"),
        (SqliteStore, "json:///b", "source=<class"),
    ):
        with pytest.raises(ConfigurationError, match=said) as caught:
            migrate(source, target)
        assert "secret" not in str(caught.value)
    (tmp_path / "c.db").write_text("something else " * 1000)
    with pytest.raises(StoreError, match="not a database"):
        migrate("sqlite:///c.db", "json:///b")
    with pytest.raises(InvalidInputError, match="unknown field"):
        migrate("sqlite:///a.db", "json:///b", {"nothing": 1})
    assert not (tmp_path / "nowhere.db").exists()
    assert not (tmp_path / "b").exists()


def test_a_bar_shows_only_where_somebody_watches(tmp_path):
    put(SqliteStore("a.db"), row())
    command = [sys.executable, "-c", "import exp_pool; exp_pool.migrate('sqlite:///a.db', 'sqlite:///b.db')"]
    assert subprocess.run(command, check=True, capture_output=True, cwd=tmp_path).stderr == b""
    watcher, terminal = pty.openpty()
    subprocess.run(command, check=True, stderr=terminal, cwd=tmp_path, env={**os.environ, "TERM": "xterm"})
    assert b"moving and verifying" in os.read(watcher, 65536)
    os.close(watcher)
    os.close(terminal)
