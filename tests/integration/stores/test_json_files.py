"""``json:///folder``: files that people and git may change."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
from support.json_pool import edit, files, only

from exp_pool.core.filters import parse_where
from exp_pool.core.record import TaskKind, hash_text, measure
from exp_pool.errors import StoreError
from exp_pool.protocols import (
    Completion,
    Put,
    PutMode,
    PutStatus,
    RecordQuery,
    Touch,
)
from exp_pool.stores.json.store import JsonStore
from exp_pool.stores.sql.sqlite import SqliteStore
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
    store.complete_many([Completion("n", kept.id, TaskKind.EMBED, vector=vector(1, 0))])
    edit(files(store)[0], response="other")
    assert only(store).embed_due is None
    assert store.get_vectors("n", [kept.id]) == [vector(1, 0)]
    position = store.vectors_after("n", "e", 0, 9)[-1].position
    edit(files(store)[0], request="other")
    changed = only(store, pending=TaskKind.EMBED)
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
    assert store.count(RecordQuery("n", pending=TaskKind.EMBED)) == 4
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
    "schema": lambda text: text.replace('"schema_version": 1', f'"schema_version": {10**30}'),
    "revision": lambda text: text.replace('"revision": 1', f'"revision": {2**63}'),
    "last revision": lambda text: text.replace('"revision": 1', f'"revision": {2**63 - 1}'),
    "moment": lambda text: text.replace('"expires_at": null', f'"expires_at": {2**63}'),
    "score": lambda text: text.replace('"score": null', '"score": 1e999'),
    "surrogate": lambda text: text.replace('"reuse_scope": "', '"reuse_scope": "\\ud800'),
    "raw": lambda text: text.replace('"metadata": {}', '"metadata": {"$exp:raw": "\\ud800"}'),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("restart", [False, True])
def test_a_file_that_cannot_be_read_is_set_aside_and_the_rest_is_served(store, how, restart):
    bad, good = row("bad", "a"), row("good")
    put(store, bad, good)
    (path,) = [p for p in files(store) if bad.key in p.read_text()]
    before = path.read_bytes()
    broken = BROKEN[how](before.decode()).encode("utf-8", "surrogatepass")
    assert broken != before
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


def test_a_query_of_a_column_that_is_no_json_does_what_it_does_on_sqlite(store, tmp_path):
    asked = RecordQuery("n", parse_where({"metadata.x": 1}))
    with closing(SqliteStore(tmp_path / "pool.db")) as plain:
        for each in (store, plain):
            put(each, replace(row(), metadata="not json"))
            each.append_log("n", "audit", ["x"])
            with pytest.raises(StoreError, match="malformed JSON"):
                each.count(asked)
            assert [entry for _, entry in each.read_log("n", "audit")] == ["x"]
    assert not list((store.path / ".state").glob("*damaged*"))


def test_what_is_set_aside_twice_is_kept_twice(store):
    put(store, row())
    (path,) = files(store)
    for text in ("one", "two"):
        path.write_text(text)
        assert store.count(RecordQuery("n")) == 0
    assert {p.read_text() for p in (store.path / "corrupt").iterdir()} == {"one", "two"}
    path.write_text("three")
    (done,) = store.repair()
    assert "was set aside" in done
    assert store.repair() == []
    assert len(store.check()) == 3


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
    store.complete_many([Completion("n", rows[0].id, TaskKind.EMBED, vector=vector(1, 0))])
    store.complete_many([Completion("n", rows[1].id, TaskKind.EMBED, done=False, retry_at=5)])
    store.enqueue(RecordQuery("n"), TaskKind.SCORE)
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
