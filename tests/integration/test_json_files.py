"""``json:///folder``: files that people and git may change, and that survive whatever happens to the process."""

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from exp_pool.errors import StoreError
from exp_pool.protocols import (
    EvictionOrder,
    Put,
    PutMode,
    PutStatus,
    RecordQuery,
    Settlement,
    Touch,
)
from exp_pool.records import Duty, hash_text, measure
from exp_pool.stores._tables import Tables
from exp_pool.stores.json_files import JsonStore
from exp_pool.testing.making import NASTY_TEXTS, put, row, vector

PLAIN = {"index": "none://", "embedder": "none"}


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


def files(store):
    """Every file that is not hidden and not of the pool itself."""
    return sorted(p for p in store.path.rglob("*.json") if p.name != "pool.json" and ".state" not in p.parts)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=2))


def only(store, **how):
    (found,) = store.scan(RecordQuery("n", **how))
    return found


# ── Edited by hand ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("look", ["key", "id", "scan", "count"])
def test_an_edit_is_picked_up(store, look):
    kept = row("q", "wrong")
    put(store, kept)
    (path,) = files(store)
    edit(path, response="right", metadata={"by": "me"}, score=1, trust="quarantined")
    if look == "count":
        assert store.count(RecordQuery("n", quarantined=False)) == 0
        return
    by = {"key": kept.key, "id": kept.id}
    found = only(store) if look == "scan" else store.get_many("n", [by[look]], by=look)[0]
    assert (found.response, found.metadata, found.score, found.trust) == ('"right"', '{"by":"me"}', 1.0, "quarantined")
    assert found.revision == 2
    texts = (found.request, found.arguments, found.response, found.expected, found.metadata, found.trajectory)
    assert found.size_bytes == measure(*texts, found.scores)
    assert store.put_many([Put(kept, PutMode.UPDATE, expected_revision=1)]) == [PutStatus.CONFLICT]
    assert store.put_many([Put(found, PutMode.UPDATE, expected_revision=2)]) == [PutStatus.CURRENT]


def test_a_stale_update_does_not_overwrite_an_edit_that_nobody_has_seen_yet(store):
    kept = row("q", "wrong")
    put(store, kept)
    edit(files(store)[0], response="right")
    assert store.put_many([Put(kept, PutMode.UPDATE, expected_revision=1)]) == [PutStatus.CONFLICT]
    assert only(store).response == '"right"'


def test_an_edit_of_the_same_size_right_after_the_write_is_seen(store):
    for i in range(20):
        kept = row(f"q{i}", "a")
        put(store, kept)
        (path,) = [p for p in files(store) if kept.key in p.read_text()]
        written = path.stat().st_mtime_ns
        path.write_text(path.read_text().replace('"response": "a"', '"response": "b"'))
        os.utime(path, ns=(written, written))  # as where the file system's clock is coarse
        assert store.get_many("n", [kept.key])[0].response == '"b"'


def test_a_file_that_was_only_touched_is_not_an_edit(store):
    kept = row()
    put(store, kept)
    (path,) = files(store)
    path.write_bytes(path.read_bytes())
    os.utime(path, (1, 1))
    assert store.get_many("n", [kept.key]) == [kept]


def test_an_edit_while_no_process_is_there_is_an_edit_too(store):
    kept = row("q", "wrong")
    put(store, kept)
    store.close()
    edit(files(store)[0], response="right")
    assert store.get_many("n", [kept.key])[0].revision == 2
    store.close()
    assert store.get_many("n", [kept.key])[0].revision == 2


def test_every_process_counts_the_same_revisions(store, other):
    put(store, row("q", "0"))
    for i in range(1, 4):
        edit(files(store)[0], response=str(i))
        assert only((store, other)[i % 2]).revision == 1 + i
    assert only(store) == only(other)


def test_a_new_request_is_embedded_anew_and_a_new_response_is_not(store):
    kept = row("q")
    put(store, kept)
    store.settle_many([Settlement("n", kept.id, Duty.EMBED, vector=vector(1, 0))])
    edit(files(store)[0], response="other")
    assert only(store).embed_due is None
    assert store.get_vectors("n", [kept.id]) == [vector(1, 0)]
    position = store.vectors_after("n", "e", 0, 9)[-1].position
    edit(files(store)[0], request="other")
    changed = only(store, owed=Duty.EMBED)
    assert changed.request_hash == hash_text("other")
    assert store.get_vectors("n", [kept.id]) == [None]
    assert [r.vector for r in store.vectors_after("n", "e", position, 9)] == [None]


def test_a_field_that_is_left_out_has_its_default_and_local_times_are_utc(store):
    put(store, row("q"))
    (path,) = files(store)
    members = json.loads(path.read_text())
    for name in ("scores", "metric", "trajectory", "score", "superseded_by", "revision"):
        del members[name]
    path.write_text(json.dumps(members | {"created_at": "2025-01-31 12:00"}), encoding="utf-8-sig")
    assert only(store).created_at == 1738324800 * 10**6


# ── Added and removed ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_that_came_with_git_are_there(store, tmp_path):
    elsewhere = JsonStore(tmp_path / "elsewhere")
    pulled = [row(f"r{i}", created_at=i) for i in range(3)]
    put(elsewhere, *pulled)
    elsewhere.close()
    put(store, row("mine"))
    shutil.copytree(elsewhere.path, store.path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".state"))
    found = store.get_many("n", [pulled[0].key])[0]
    assert replace(found, embed_due=pulled[0].embed_due) == replace(pulled[0], score_due=found.score_due)
    assert store.count(RecordQuery("n")) == 4
    assert store.count(RecordQuery("n", owed=Duty.EMBED)) == 4
    assert store.get_many("n", [r.id for r in pulled], by="id") == list(store.scan(RecordQuery("n")))[:3]


def test_a_file_that_was_removed_is_gone_and_readers_of_vectors_hear_of_it(store, other):
    kept = row()
    store.put_many([Put(kept, vector=vector(1)), Put(row("b"))])
    assert other.count(RecordQuery("n")) == 2
    position = store.vectors_after("n", "e", 0, 9)[-1].position
    (path,) = [p for p in files(store) if kept.key in p.read_text()]
    path.unlink()
    assert store.get_many("n", [kept.key]) == [None]
    for each in (store, other):
        assert each.count(RecordQuery("n")) == 1
        assert [(r.id, r.vector) for r in each.vectors_after("n", "e", position, 9)] == [(kept.id, None)]
    assert put(store, kept) == [PutStatus.CURRENT]


def test_a_renamed_file_is_the_same_row_and_goes_back_to_its_place(store):
    kept = row("q", "a")
    put(store, kept)
    store.touch_many("n", [Touch(kept.id, 3, 7)])
    (path,) = files(store)
    path.rename(path.with_name("renamed by hand.json"))
    assert only(store) == replace(kept, access_count=3, last_access=7)
    assert files(store) == [path]


def test_of_two_files_that_claim_a_key_the_newer_wins_and_the_other_becomes_history(store):
    old, new = row(response="old", created_at=1), row(response="new", created_at=2)
    put(store, old)
    (path,) = files(store)
    copy = path.with_name("merged.json")
    shutil.copy(path, copy)
    edit(copy, id=new.id, response="new", created_at="1970-01-01T00:00:00.000002Z")
    assert store.count(RecordQuery("n")) == 1
    assert only(store).response == '"new"'
    (was,) = store.get_many("n", [old.id], by="id")
    assert (was.is_current, was.superseded_by, was.embed_due) == (False, new.id, None)
    store.close()
    assert (store.get_many("n", [old.key])[0].id, len(files(store))) == (new.id, 2)
    assert json.loads(path.read_text())["response"] == "new"


def test_a_copied_file_does_not_take_the_id(store):
    kept = row("q", "a")
    put(store, kept)
    (path,) = files(store)
    shutil.copy(path, path.with_name("same.json"))
    shutil.copy(path, path.with_name("changed.json"))
    edit(path.with_name("changed.json"), response="other")
    assert only(store) == kept
    assert files(store)[1:] == [path]
    (found,) = store.check()
    assert "changed.json" in found
    assert "or delete it" in found


# ── What cannot be read ───────────────────────────────────────────────────────────────────────────────────────────────

BROKEN = {
    "empty": lambda text: "",
    "half": lambda text: text[: len(text) // 2],
    "merge": lambda text: text.replace("{", "<<<<<<< HEAD\n{", 1),
    "list": lambda text: "[]",
    "typo": lambda text: text.replace('"response"', '"respones"'),
    "type": lambda text: text.replace('"request": "bad"', '"request": 1'),
    "kind": lambda text: text.replace('"kind": "success"', '"kind": "great"'),
    "time": lambda text: text.replace('"created_at": "', '"created_at": "yesterday, '),
    "nan": lambda text: text.replace('"response": "a"', '"response": NaN'),
    "missing": lambda text: "\n".join(line for line in text.splitlines() if '"key"' not in line),
    "bytes": lambda text: "\ud800",
    "deep": lambda text: "[" * 100_000,
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("restart", [False, True])
def test_a_file_that_cannot_be_read_is_set_aside_and_the_rest_is_served(store, how, restart):
    bad, good = row("bad", "a"), row("good")
    put(store, bad, good)
    (path,) = [p for p in files(store) if bad.key in p.read_text()]
    before = path.read_bytes()
    broken = BROKEN[how](before.decode()).encode("utf-8", "surrogatepass")
    path.write_bytes(broken)
    if restart:
        store.close()
    assert store.get_many("n", [bad.key, good.key]) == [None, good]
    assert only(store) == good
    (aside,) = (store.path / "corrupt").iterdir()
    assert aside.read_bytes() == broken
    assert aside.name == str(path.relative_to(store.path)).replace("/", "~")
    (found,) = store.check()
    assert str(path) in found
    assert "mend it and move it back" in found
    aside.write_bytes(before)
    aside.rename(path)
    assert store.get_many("n", [bad.key])[0].response == '"a"'
    assert store.check() == []


def test_what_is_set_aside_twice_is_kept_twice(store):
    put(store, row())
    (path,) = files(store)
    for text in ("one", "two"):
        path.write_text(text)
        assert store.count(RecordQuery("n")) == 0
    assert {p.read_text() for p in (store.path / "corrupt").iterdir()} == {"one", "two"}


def test_setting_aside_is_logged(store):
    from loguru import logger

    heard = []
    logger.enable("exp_pool")
    handle = logger.add(heard.append, level="WARNING", format="{message}")
    put(store, row())
    files(store)[0].write_text("{")
    store.count(RecordQuery("n"))
    logger.remove(handle)
    logger.disable("exp_pool")
    assert len(heard) == 1
    assert "corrupt" in heard[0]


def test_a_file_is_not_blamed_for_a_deep_stack(store):
    kept = row("q", json.loads("[" * 150 + "]" * 150))
    put(store, kept)

    def look(depth):
        if depth:
            return look(depth - 1)
        store.close()
        return store.get_many("n", [kept.key])

    found = []
    for depth in range(0, sys.getrecursionlimit(), 20):
        try:
            found += look(depth)
        except (StoreError, RecursionError):
            pass
    assert len(found) > 20
    assert set(map(repr, found)) == {repr(kept)}
    assert store.get_many("n", [kept.key]) == [kept]
    assert store.check() == []


# ── Fit for git ───────────────────────────────────────────────────────────────────────────────────────────────────────


def snapshot(store):
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files(store)}


def test_use_changes_no_file_of_an_experience(store):
    rows = [row(f"r{i}") for i in range(3)]
    put(store, *rows)
    before = snapshot(store)
    store.touch_many("n", [Touch(rows[0].id, 2, 50)])
    store.settle_many([Settlement("n", rows[0].id, Duty.EMBED, vector=vector(1, 0))])
    store.settle_many([Settlement("n", rows[1].id, Duty.EMBED, done=False, retry_at=5)])
    store.owe(RecordQuery("n"), Duty.SCORE)
    store.claim("n", "k", "me", 60)
    store.vacuum()
    store.close()
    assert store.get_many("n", [rows[0].key])[0].access_count == 2
    assert snapshot(store) == before


def test_git_sees_what_was_stored_and_not_how_it_was_used(store):
    def git(*words):
        return subprocess.run(["git", *words], cwd=store.path, check=True, capture_output=True, text=True).stdout

    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    kept = row("q", "a")
    put(store, kept)
    git("init", "-q")
    git("add", "-A")
    tracked = git("ls-files").split()
    assert sorted(tracked) == sorted([".gitignore", "pool.json", str(files(store)[0].relative_to(store.path))])
    store.touch_many("n", [Touch(kept.id, 2, 50)])
    assert git("status", "--porcelain", "--untracked-files=all").split() == [
        w for t in sorted(tracked) for w in ("A", t)
    ]
    store.put_many([Put(replace(kept, response='"b"'), PutMode.UPDATE, expected_revision=1)])
    changed = [line for line in git("diff", "-U0").splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == ['-  "response": "a",', '+  "response": "b",', '-  "revision": 1,', '+  "revision": 2,']


def test_the_text_of_a_file_is_stable(store):
    kept = row(
        "was heißt das? \ud800\0",
        {"a": [1, 2.5, None]},
        id="1",
        key="k",
        created_at=1738324800123456,
        reuse_scope="s",
        metadata={"team": "日本"},
        expected="ja",
    )
    put(store, kept)
    text = files(store)[0].read_text()
    assert (
        text
        == """{
  "function": "f",
  "version": "",
  "request": "was heißt das? \\ud800\\u0000",
  "arguments": {
    "req": "was heißt das? \\ud800\\u0000"
  },
  "response": {
    "a": [
      1,
      2.5,
      null
    ]
  },
  "expected": "ja",
  "kind": "success",
  "origin": "automatic",
  "trust": "trusted",
  "score": null,
  "scores": {},
  "metric": {},
  "trajectory": [],
  "metadata": {
    "team": "日本"
  },
  "model": null,
  "strategy": null,
  "parents": [],
  "created_at": "2025-01-31T12:00:00.123456Z",
  "expires_at": null,
  "id": "1",
  "namespace": "n",
  "key": "k",
  "codec": "json",
  "reuse_scope": "s",
  "principal": null,
  "schema_version": 1,
  "revision": 1,
  "is_current": true,
  "superseded_by": null
}
"""
    )


@pytest.mark.parametrize(
    "text",
    [
        '"\\ud83d\\udca9"',
        '{"a": 1}',
        '{"a":1,"a":2}',
        "1e400",
        "no json",
        '{"$exp:raw":"x"}',
        "[" * 5000,
        "[" * 600 + "]" * 600,
        "1.0",
        "null",
        "",
    ],
)
def test_columns_that_json_would_not_give_back_are_kept_as_they_are(store, text):
    kept = replace(row("\ud83d\udca9 is a pair of halves"), response=text)
    put(store, kept)
    store.close()
    assert store.get_many("n", [kept.key]) == [kept]


# ── Kept, over restarts and by several ────────────────────────────────────────────────────────────────────────────────


def test_everything_survives_a_restart(store):
    rows = [row(f"r{i}", created_at=5, size_bytes=77) for i in range(20)]
    gone = row("gone")
    put(store, *rows, gone)
    store.put_many([Put(replace(rows[0], model="m"), PutMode.UPDATE, expected_revision=1)])
    store.touch_many("n", [Touch(rows[0].id, 3, 7)])
    store.settle_many([Settlement("n", rows[1].id, Duty.EMBED, vector=vector(1, 0, whole=False))])
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
    assert store.count(RecordQuery("n", owed=Duty.EMBED)) == 0
    if restart:
        store.close()
        store = JsonStore(store.path)
    shutil.rmtree(store.path / ".state")
    assert store.count(RecordQuery("n", owed=Duty.EMBED)) == 5
    assert {r.response for r in store.scan(RecordQuery("n"))} == {'"a"'}
    assert store.spaces() == {}
    store.settle_many([Settlement("n", rows[0].id, Duty.EMBED, vector=vector(1))])
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
    assert store.spaces() == {}
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


def test_the_journal_does_not_grow_for_ever_and_others_follow(store, other):
    kept = row()
    put(store, kept)
    assert other.count(RecordQuery("n")) == 1
    journal, sizes = store.path / ".state" / "journal", []
    for i in range(300):
        store.write_state("n", "s", "x" * 10_000, i or None)
        sizes.append(journal.stat().st_size)
    assert max(sizes) < 1_100_000
    assert other.read_state("n", "s").revision == 300
    assert other.get_many("n", [kept.key]) == [kept]


def test_a_line_that_was_not_finished_or_is_damaged_costs_only_itself(store, other):
    put(store, row())
    other.write_state("n", "s", "x", None)
    store.close()
    journal = store.path / ".state" / "journal"
    journal.write_bytes(journal.read_bytes() + b'["nonsense"]\n\0\0\0\n["state", "n", "t", "y')
    assert store.read_state("n", "s").value == "x"
    assert other.write_state("n", "u", "z", None)
    assert store.read_state("n", "u").value == "z"
    (found,) = store.check()
    assert "2 lines" in found
    store.vacuum()
    assert store.check() == []
    assert store.read_state("n", "u").value == "z"


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
from exp_pool.protocols import Put, PutMode, PutStatus, RecordQuery, Settlement, Touch
from exp_pool.records import Duty
from exp_pool.stores._tables import Tables
from exp_pool.stores.json_files import JsonStore
from exp_pool.testing.making import put, row, vector

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


def assert_sound(store):
    """One current row of each key; files and memory agree; nothing was set aside."""
    assert store.check() == []
    rows = list(store.scan(RecordQuery(None, history=True)))
    current = [(r.namespace, r.key) for r in rows if r.is_current]
    assert len(current) == len(set(current))
    assert len(rows) == len(files(store))
    assert not list(store.path.rglob("*.new"))


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
    "settle": "store.settle_many([Settlement('n', 'old', Duty.EMBED, vector=vector(1))])",
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
    assert step > (work != "settle") + 1  # appending to the journal is one write, and no step


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_goes_on_although_another_thread_was_writing(store):
    put(store, row("parent"))
    writing, forked = threading.Event(), threading.Event()

    def write():
        with store._writing(lambda: ()):
            Tables.put_many(store, [Put(row("halfway"))])
            writing.set()
            forked.wait(30)
            raise OSError("no space left on device")

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(write)
        writing.wait(30)
        child = os.fork()
        if not child:
            try:
                put(store, row("child"))
                os._exit(0 if store.count(RecordQuery("n")) == 2 else 1)
            finally:
                os._exit(2)
        forked.set()
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
    with (store.path / ".state" / "lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="locked.*store_timeout"):
            put(impatient, row("b"))
        assert impatient.get_many("n", [kept.key]) == [kept]  # readers wait only where something changed
    put(impatient, row("b"))
    assert store.count(RecordQuery("n")) == 2
    impatient.close()


# ── Nothing leaves the folder ─────────────────────────────────────────────────────────────────────────────────────────

PATHS = ["..", "../../evil", "/etc/passwd", "a/b", ".", ".state", "corrupt", "CON", "x" * 5000, "a\\b", "~", "A", "a"]


def test_no_text_of_a_user_decides_a_path(store, tmp_path):
    rows = [row(text, namespace=text or "-", key=text or "-", id=text or "-") for text in [*PATHS, *NASTY_TEXTS]]
    assert set(put(store, *rows)) == {PutStatus.CURRENT}
    put(store, *[replace(r, id=r.id + "/../2", response='"2"') for r in rows])
    assert [p.name for p in tmp_path.iterdir()] == ["pool"]
    assert len(files(store)) == 2 * len(rows)
    for path in files(store):
        folder, shard, name = path.relative_to(store.path).parts
        assert len(folder) < 60
        assert len(shard) == 2
        assert set(name.removesuffix(".json")) <= set("0123456789abcdef.")
    assert len({p.relative_to(store.path).parts[0].lower() for p in files(store)}) == len({r.namespace for r in rows})
    store.close()
    assert [store.get_many(r.namespace, [r.key])[0].response for r in rows] == ['"2"'] * len(rows)


def test_links_are_not_followed(store, tmp_path):
    kept, outside = row("q"), tmp_path / "outside"
    put(store, kept, row("b"))
    (path,) = [p for p in files(store) if kept.key in p.read_text()]
    outside.mkdir()
    secret = outside / path.name
    path.rename(secret)
    path.symlink_to(secret)
    before = secret.read_bytes()
    assert store.get_many("n", [kept.key]) == [None]
    assert store.count(RecordQuery("n")) == 1
    assert [str(path) in found for found in store.check()] == [True]
    put(store, kept)  # takes the place of the link
    assert not path.is_symlink()
    assert secret.read_bytes() == before
    store.delete_many("n", [kept.id])
    path.parent.rmdir()
    path.parent.symlink_to(outside)
    assert store.get_many("n", [kept.key]) == [None]
    with pytest.raises(StoreError, match="is a link"):
        put(store, kept)
    assert secret.read_bytes() == before
    assert [p.name for p in outside.iterdir()] == [secret.name]


def test_a_hidden_folder_that_is_a_link_is_refused(store, tmp_path):
    put(store, row())
    store.close()
    (store.path / ".state").rename(tmp_path / "elsewhere")
    (store.path / ".state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"\.state is a link"):
        store.count(RecordQuery("n"))


def test_what_is_no_file_is_left_alone(store):
    kept = row()
    put(store, kept)
    (path,) = files(store)
    os.mkfifo(path.with_name("pipe.json"))
    path.with_name("folder.json").mkdir()
    path.with_name("notes.txt").write_text("mine")
    (store.path / "README.md").write_text("ours")
    store.close()
    assert only(store) == kept
    assert path.with_name("notes.txt").exists()
    assert store.check() == []


def test_files_are_for_this_user_only(store):
    old = os.umask(0)
    try:
        put(store, row())
        put(store, row(response="2"))
        files(store)[0].write_text("{")
        store.count(RecordQuery("n"))
    finally:
        os.umask(old)
    everything = [store.path, *store.path.rglob("*")]
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in everything if p != store.path / ".state" / ".gitignore"}
    assert {mode for p, mode in modes.items() if p.is_dir()} == {0o700}
    assert {mode for p, mode in modes.items() if not p.is_dir()} == {0o600}


# ── Folders that are none, or somebody else's ─────────────────────────────────────────────────────────────────────────


def refused(path, match):
    for use in (lambda s: s.count(RecordQuery("n")), lambda s: put(s, row()), lambda s: s.check()):
        store = JsonStore(path)
        with pytest.raises(StoreError, match=match) as raised:
            use(store)
        assert str(path) in str(raised.value)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    refused(tmp_path / "file", "no folder.*another path")
    refused(tmp_path / "file" / "pool", "another path")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("text", ['{"format": 2}', '{"format": "x"}'])
def test_a_newer_folder_is_refused_and_left_alone(store, text):
    put(store, row())
    store.close()
    (store.path / "pool.json").write_text(text)
    before = {p: p.read_bytes() for p in store.path.rglob("*") if p.is_file()}
    refused(store.path, "newer exp_pool.*upgrade.*Nothing was changed")
    assert {p: p.read_bytes() for p in store.path.rglob("*") if p.is_file()} == before


def test_a_damaged_or_missing_pool_file_is_named(store):
    put(store, row())
    store.close()
    (store.path / "pool.json").write_text("{")
    refused(store.path, "pool.json is damaged.*put")
    (store.path / "pool.json").unlink()
    refused(store.path, "no pool.json.*another path")


def test_somebody_elses_folder_is_not_written_to(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("mine")
    refused(tmp_path / "home", "letter.txt")
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["letter.txt"]


def test_a_constructor_touches_nothing(tmp_path):
    JsonStore(tmp_path / "pool").close()
    assert list(tmp_path.iterdir()) == []


def test_trouble_is_a_store_error_and_what_was_stored_is_served_afterwards(store):
    kept, blocked = row("q"), row("blocked")
    put(store, kept)
    place = JsonStore(store.path.with_name("scratch"))
    put(place, blocked)
    (path,) = files(place)
    obstacle = store.path / path.relative_to(place.path).parent
    obstacle.parent.mkdir(exist_ok=True)
    if obstacle.exists():
        pytest.skip("both keys share a folder")
    obstacle.write_text("a file where a folder should be")
    with pytest.raises(StoreError):
        put(store, blocked)
    assert store.get_many("n", [kept.key, blocked.key]) == [kept, None]
    obstacle.unlink()
    assert put(store, blocked) == [PutStatus.CURRENT]
    assert_sound(store)
    place.close()


# ── From the top ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_decorated_function_end_to_end(make_manager, tmp_path):
    calls = []

    def make():
        manager = make_manager(store=f"json:///{tmp_path}/answers", hot_entries=0)

        @manager.exp_cache(name="ask", request="question")
        def ask(question):
            calls.append(question)
            return {"answer": question.upper()}

        return manager, ask

    manager, ask = make()
    assert ask("why") == ask("why") == {"answer": "WHY"}
    assert calls == ["why"]
    manager.sync.flush()
    path = next(p for p in (tmp_path / "answers").rglob("*.json") if p.name != "pool.json")
    assert json.loads(path.read_text())["response"] == {"answer": "WHY"}
    edit(path, expected={"answer": "because"})
    assert ask("why") == {"answer": "because"}
    manager.sync.close()
    manager, ask = make()
    assert ask("why") == {"answer": "because"}
    assert manager.sync.query_exps("wyh", query_type="semantic")[0].request == "why"
    path.unlink()
    assert ask("why") == {"answer": "WHY"}
    assert calls == ["why", "why"]


def test_spaces_are_those_of_rows_that_are_there(store):
    kept = row()
    store.put_many([Put(kept, vector=vector(1))])
    store.close()
    files(store)[0].unlink()
    assert store.spaces() == {}
    assert [r.vector for r in store.vectors_after("n", "e", 0, 9)] == [None]
