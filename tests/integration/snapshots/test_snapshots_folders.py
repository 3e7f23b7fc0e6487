"""A folder of snapshots belongs to whoever has what is in it: nobody's files are lost by another pool's saving."""

import shutil

import pytest

from exp_pool import Experience, in_namespace, snapshots
from exp_pool.errors import ConfigurationError, ExpPoolWarning, StoreError
from exp_pool.snapshots import files

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture
def node(make_manager):
    return lambda **settings: make_manager(store="memory://", **{**PLAIN, **settings})


def store(manager, *requests, function="f"):
    return [manager.sync.create_exp(Experience(function=function, request=r, response=r)) for r in requests]


def requests_of(manager):
    return {row.request for row in manager.sync.iter_exps(history=True)}


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_pools_files_are_neither_replaced_nor_removed(node, tmp_path):
    one, two, three = node(), node(), node()
    store(one, "a", "b")
    store(one, "c", function="g")
    store(two, "d")
    snapshots.save(one, tmp_path)
    before = content(tmp_path)
    with pytest.raises(ConfigurationError, match=r"2 files that this pool neither saved nor loaded.*Load them first"):
        snapshots.save(two, tmp_path)
    assert content(tmp_path) == before
    snapshots.load(two, tmp_path)
    snapshots.save(two, tmp_path)
    snapshots.load(three, tmp_path)
    assert requests_of(three) == {"a", "b", "c", "d"}


def test_another_namespace_is_another_pool(node, tmp_path):
    manager = node()
    store(manager, "a")
    snapshots.save(manager, tmp_path)
    with in_namespace("other"):
        store(manager, "b")
        with pytest.raises(ConfigurationError, match="another folder"):
            snapshots.save(manager, tmp_path)


def test_what_was_saved_since_it_was_loaded_is_not_lost(node, tmp_path):
    one, two = node(), node()
    store(one, "a")
    snapshots.save(one, tmp_path)
    snapshots.load(two, tmp_path)
    store(one, "b")
    snapshots.save(one, tmp_path)
    with pytest.raises(ConfigurationError, match="neither saved nor loaded as they are"):
        snapshots.save(two, tmp_path)
    snapshots.load(two, tmp_path)
    store(two, "c")
    snapshots.save(two, tmp_path)
    with pytest.raises(ConfigurationError, match="neither saved nor loaded as they are"):
        snapshots.save(one, tmp_path)
    snapshots.load(one, tmp_path)
    snapshots.save(one, tmp_path)
    assert requests_of(one) == requests_of(two) == {"a", "b", "c"}


def test_what_was_loaded_in_part_is_not_what_the_file_says(node, tmp_path):
    one, two = node(), node()
    (id_,) = store(one, "a")
    snapshots.save(one, tmp_path / "a")
    snapshots.load(two, tmp_path / "a")
    one.sync.annotate(id_, expected="later")
    paths = snapshots.save(one, tmp_path / "b")
    snapshots.load(two, tmp_path / "b", incremental=True)
    with pytest.raises(ConfigurationError, match="not incremental"):
        snapshots.save(two, tmp_path / "b")
    entries, _ = files.read(paths[0], tmp_path)
    files.write(paths[0], {**entries, "x": {"result": 1}})
    with pytest.warns(ExpPoolWarning, match="'x' was skipped"):
        snapshots.load(two, tmp_path / "b")
    with pytest.raises(ConfigurationError, match="neither saved nor loaded"):
        snapshots.save(two, tmp_path / "b")


def test_a_folder_that_was_moved_copied_or_put_together_by_hand_is_known_by_what_is_in_it(node, tmp_path):
    one, two = node(), node()
    store(one, "a")
    store(two, "b", function="g")
    snapshots.save(one, tmp_path / "a")
    snapshots.save(two, tmp_path / "b")
    shutil.copytree(tmp_path / "a", tmp_path / "both")
    shutil.copytree(tmp_path / "b", tmp_path / "both", dirs_exist_ok=True)
    with pytest.raises(ConfigurationError, match="1 files"):
        snapshots.save(one, tmp_path / "both")
    for path in sorted((tmp_path / "both").rglob("*.cache")):
        snapshots.load(one, path)
    snapshots.save(one, tmp_path / "both")
    assert requests_of(one) == {"a", "b"}


def test_what_was_evicted_leaves_the_folder_with_the_next_save(node, tmp_path):
    manager = node(max_entries=2)
    ask = manager.exp_cache(name="f")(lambda q: q)
    for number in range(6):
        ask(str(number))
        manager.sync.flush()
        snapshots.save(manager, tmp_path)
    other = node()
    snapshots.load(other, tmp_path)
    assert requests_of(other) == requests_of(manager)
    assert len(requests_of(other)) == 2


@pytest.mark.parametrize("fails", ["the store", "the disk", "a file's place"])
def test_a_save_that_fails_leaves_what_was_there_and_is_made_good_by_the_next(node, tmp_path, monkeypatch, fails):
    manager = node()
    store(manager, "a", "b")
    snapshots.save(manager, tmp_path, partition_size=1)
    before = content(tmp_path)
    store(manager, "c", function="g")
    manager.sync.update_exp(store(manager, "d")[0], metadata={"x": 1})
    times = iter(range(100))

    def failing(real, error):
        def call(*given, **named):
            if next(times) == 1:
                raise error
            return real(*given, **named)

        return call

    with monkeypatch.context() as patched:
        if fails == "the store":
            patched.setattr(manager.sync.store, "get_many", failing(manager.sync.store.get_many, StoreError("gone")))
        elif fails == "the disk":
            patched.setattr(files, "stage", failing(files.stage, OSError("no space left on device")))
        else:
            patched.setattr(files.Staged, "put", failing(files.Staged.put, OSError("killed")))
        with pytest.raises((StoreError, OSError)):
            snapshots.save(manager, tmp_path, partition_size=1)
    assert not list(tmp_path.rglob("*.part"))
    now = content(tmp_path)
    assert now == before if fails != "a file's place" else now.items() >= before.items()
    snapshots.save(manager, tmp_path, partition_size=1)
    other = node()
    snapshots.load(other, tmp_path)
    assert requests_of(other) == {"a", "b", "c", "d"}


def test_a_file_is_no_folder(node, tmp_path):
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ConfigurationError, match="is a file; name a folder"):
        snapshots.save(node(), tmp_path / "notes")


def test_files_of_two_key_secrets_are_not_put_together(node, tmp_path):
    paths = []
    for name, settings in (("a", {}), ("b", {"key_secret": "s" * 32}), ("c", {"key_secret": "t" * 32})):
        manager = node(**settings)
        ids = store(manager, name, "gone")
        manager.sync.delete_exp(ids[1])
        paths.append(snapshots.save(manager, tmp_path / name))
    for one, other in ((0, 1), (1, 2)):
        with pytest.raises(ConfigurationError, match="different key_secrets"):
            snapshots.merge([*paths[one], *paths[other]], tmp_path / "both.cache")
    assert not (tmp_path / "both.cache").exists()
    snapshots.merge(paths[1], merged := tmp_path / "one.cache")
    assert snapshots.load(node(key_secret="s" * 32), merged) == 1
