"""Snapshots: files that nodes exchange. What was saved is loaded, once; what was deleted stays deleted."""

import gzip
import json
import stat

import pytest
from support.curated_pools import filled

from exp_pool import Experience, in_namespace, snapshots
from exp_pool.errors import ConfigurationError, ExpPoolWarning, InvalidInputError

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture
def node(make_manager, tmp_path):
    numbers = iter(range(100))

    def make(kind="memory", **settings):
        store = "memory://" if kind == "memory" else f"sqlite:///{tmp_path}/node{next(numbers)}.db"
        return make_manager(store=store, **{**PLAIN, **settings})

    return make


def state(manager):
    rows = manager.sync.iter_exps(history=True)
    return sorted((e.id, str(e.to_dict())) for e in rows)


@pytest.mark.parametrize("kinds", [("memory", "sqlite"), ("sqlite", "memory")])
def test_everything_comes_back_as_it_was(node, tmp_path, kinds):
    one, two = (node(kind) for kind in kinds)
    ask = filled(one)
    paths = snapshots.save(one, tmp_path / "cache", partition_size=3)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in paths)
    assert snapshots.load(two, tmp_path / "cache") == len(state(one)) == 6
    assert state(two) == state(one)
    again = two.exp_cache(name="ask")(ask.original)
    assert again.call("a").found_by == "exact"
    assert again("b") == ["right"]
    assert again("c") == {"q": "c", "tuple": (1, b"x", "\ud800")}


def test_loading_twice_changes_nothing_and_changes_are_brought_in(node, tmp_path):
    one, two = node(), node()
    ask = filled(one)
    snapshots.save(one, tmp_path / "cache")
    snapshots.load(two, tmp_path / "cache")
    before = state(two)
    assert snapshots.load(two, tmp_path / "cache") == 0
    assert snapshots.load(two, tmp_path / "cache", incremental=True) == 0
    assert state(two) == before
    one.sync.annotate(ask.lookup("a").experience.id, expected="corrected later")
    snapshots.save(one, tmp_path / "cache")
    assert snapshots.load(two, tmp_path / "cache", incremental=True) == 0, "only what is not there yet"
    assert snapshots.load(two, tmp_path / "cache") == 1
    assert snapshots.load(two, tmp_path / "cache") == 0
    assert two.exp_cache(name="ask")(ask.original)("a") == "corrected later"


def test_saving_again_leaves_no_old_file_and_equal_content_is_equal_bytes(node, tmp_path):
    manager = node()
    filled(manager)
    first = {path: path.read_bytes() for path in snapshots.save(manager, tmp_path / "cache", partition_size=2)}
    assert {path: path.read_bytes() for path in snapshots.save(manager, tmp_path / "cache", partition_size=2)} == first
    (tmp_path / "cache" / "notes.txt").write_text("mine")
    paths = snapshots.save(manager, tmp_path / "cache")
    assert sorted(p for p in (tmp_path / "cache").rglob("*") if p.is_file()) == sorted([*paths, tmp_path / "cache" / "notes.txt"])  # fmt: skip


def test_an_empty_namespace_removes_nobodys_files(node, tmp_path):
    paths = snapshots.save(filled_node := node(), tmp_path / "cache")
    assert paths == []
    filled(filled_node)
    paths = snapshots.save(filled_node, tmp_path / "cache")
    with in_namespace("empty"), pytest.warns(ExpPoolWarning, match="never had anything"):
        assert snapshots.save(filled_node, tmp_path / "cache") == []
    assert all(path.is_file() for path in paths)
    filled_node.sync.delete_all_exps()
    snapshots.save(filled_node, tmp_path / "cache")
    assert not any(path.is_file() for path in paths), "what was deleted leaves the folder, too"


def test_what_this_pool_deleted_is_not_brought_back(node, tmp_path):
    one = node()
    ask = filled(one)
    snapshots.save(one, tmp_path / "cache")
    gone = ask.lookup("c").experience.id
    one.sync.delete_exp(gone)
    assert snapshots.load(one, tmp_path / "cache") == 0
    assert one.sync.get_exp(gone) is None
    one.sync.delete_all_exps()
    assert snapshots.load(one, tmp_path / "cache") == 0
    assert one.sync.get_exps_count() == 0


def test_rows_come_into_the_loading_managers_namespace_and_no_other(node, tmp_path):
    one, two = node(namespace="a"), node(namespace="b")
    filled(one)
    with in_namespace("secret"):
        one.sync.create_exp(Experience(function="f", request="of another tenant", response=1))
    snapshots.save(one, tmp_path / "cache")
    content = b"".join(gzip.decompress(p.read_bytes()) for p in (tmp_path / "cache").rglob("*.cache"))
    assert b"of another tenant" not in content
    snapshots.load(two, tmp_path / "cache")
    assert {e.namespace for e in two.sync.iter_exps(history=True)} == {"b"}


def damaged(path, how):
    entries = json.loads(gzip.decompress(path.read_bytes()))
    first = next(iter(entries))
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:40])
    elif how == "no gzip":
        path.write_text("{}")
    elif how == "no JSON":
        path.write_bytes(gzip.compress(b"{"))
    elif how == "a list":
        path.write_bytes(gzip.compress(b"[]"))
    elif how == "deep":
        path.write_bytes(gzip.compress(b"[" * 100_000))
    else:
        if how == "a changed result":
            entries[first]["result"] = "forged"
        elif how == "another format":
            entries[first]["metadata"]["format"] = 99
        elif how == "no entry":
            entries[first] = None
        elif how == "another id":
            entries["x"] = entries.pop(first)
        path.write_bytes(gzip.compress(json.dumps(entries).encode()))


@pytest.mark.parametrize("how", ["truncated", "no gzip", "no JSON", "a list", "deep", "a changed result", "another format", "no entry", "another id"])  # fmt: skip
def test_what_is_damaged_is_named_and_skipped(node, tmp_path, how):
    one, two = node(), node()
    filled(one)
    paths = snapshots.save(one, tmp_path / "cache", partition_size=1)
    damaged(paths[0], how)
    with pytest.warns(ExpPoolWarning, match=paths[0].name):
        assert snapshots.load(two, tmp_path / "cache") == len(paths) - 1


def test_bombs_and_links_are_refused(node, tmp_path, monkeypatch):
    one, two = node(), node()
    filled(one)
    (path,) = snapshots.save(one, tmp_path / "cache", partition_size=100)[:1]
    outside = tmp_path / "outside.cache"
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.warns(ExpPoolWarning, match="links are not followed"):
        snapshots.load(two, tmp_path / "cache")
    path.unlink()
    outside.rename(path)
    monkeypatch.setattr(snapshots.files, "_MAX_BYTES", 100)
    two.sync.notices._topics.clear()
    with pytest.warns(ExpPoolWarning, match="more than 100 bytes"):
        assert snapshots.load(two, tmp_path / "cache") == 0


def test_merge_keeps_the_later_of_two(node, tmp_path):
    one, two = node(), node()
    ask = filled(one)
    before = snapshots.save(one, tmp_path / "before")
    one.sync.annotate(ask.lookup("a").experience.id, expected="later")
    after = snapshots.save(one, tmp_path / "after")
    merged = snapshots.merge([*after, *before], tmp_path / "merged.cache")
    assert snapshots.load(two, merged) == 6
    assert state(two) == state(one)
    with pytest.raises(ConfigurationError, match="is there already"):
        snapshots.merge(before, merged)
    with pytest.raises(ConfigurationError, match="cannot be merged"):
        snapshots.merge([tmp_path / "nothing"], tmp_path / "new.cache")


def test_merge_takes_folders(node, tmp_path):
    one, two = node(), node()
    filled(one)
    snapshots.save(one, tmp_path / "saved")
    merged = snapshots.merge([tmp_path / "saved"], tmp_path / "merged.cache")
    assert snapshots.load(two, merged) > 0
    assert state(two) == state(one)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="empty is a folder without files of a snapshot"):
        snapshots.merge([tmp_path / "empty"], tmp_path / "new.cache")
    assert not (tmp_path / "new.cache").exists()


def test_wrong_values_are_named(node, tmp_path):
    for size in (0, -1, True, "10"):
        with pytest.raises(InvalidInputError, match="partition_size"):
            snapshots.save(node(), tmp_path, partition_size=size)
    with pytest.raises(ConfigurationError, match="is not there"):
        snapshots.load(node(), tmp_path / "nowhere")
