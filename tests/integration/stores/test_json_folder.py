"""``json:///folder``: nothing leaves the folder, and somebody else's is left alone."""

import os
import stat
from dataclasses import replace

import pytest
from support.json_pool import assert_sound, files, only

from exp_pool.errors import StoreError
from exp_pool.protocols import (
    PutStatus,
    RecordQuery,
)
from exp_pool.stores.json.store import JsonStore
from exp_pool.testing.factories import NASTY_TEXTS, put, row


@pytest.fixture
def store(tmp_path):
    with_files = JsonStore(tmp_path / "pool")
    yield with_files
    with_files.close()


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


@pytest.mark.parametrize("name", ["pool.db", "pool.db-wal", "pool.db-shm", "journal"])
def test_a_hidden_file_that_is_a_link_is_refused_and_what_it_leads_to_is_left_alone(store, tmp_path, name):
    mine = JsonStore(tmp_path / "mine")
    put(mine, row())
    mine.close()
    put(store, row("b"))
    store.close()
    target = mine.path / ".state" / name
    target.touch()
    before = target.read_bytes()
    (store.path / ".state" / name).unlink(missing_ok=True)
    (store.path / ".state" / name).symlink_to(target)
    with pytest.raises(StoreError, match=f"{name} is a link"):
        store.count(RecordQuery("n"))
    assert target.read_bytes() == before
    assert mine.count(RecordQuery("n")) == 1
    mine.close()


def test_a_database_that_becomes_a_link_under_a_process_is_refused(store, tmp_path):
    put(store, row())
    database = store.path / ".state" / "pool.db"
    database.rename(tmp_path / "elsewhere")
    database.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"pool\.db is a link"):
        store.count(RecordQuery("n"))


def test_links_are_named_where_rows_may_stand_and_nowhere_else(store, tmp_path):
    put(store, row())
    (path,) = files(store)
    (store.path / "README.md").symlink_to(tmp_path / "readme")
    assert store.check() == []
    (path.parent.parent / "corrupt-notes").symlink_to(tmp_path)
    (found,) = store.check()
    assert "corrupt-notes: a link" in found


def test_vacuum_removes_folders_that_hold_nothing_any_more(store):
    kept, gone = row(), row(namespace="gone")
    put(store, kept, gone)
    assert store.delete_many("gone", [gone.id]) == [gone.id]
    store.vacuum()
    (path,) = files(store)
    assert [p for p in store.path.iterdir() if p.is_dir() and p.name != ".state"] == [path.parent.parent]
    assert put(store, row("new", namespace="gone")) == [PutStatus.CURRENT]
    assert_sound(store)


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
