"""Snapshots from strangers: refused or skipped by a typed error, quickly; nothing outside the folder is touched."""

import gzip
import json
import os
import threading
from itertools import count

import pytest

from exp_pool import Experience, snapshots
from exp_pool.errors import ConfigurationError, ExpPoolWarning, SourceError
from exp_pool.snapshots import files

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture
def node(make_manager):
    return lambda **settings: make_manager(store="memory://", **{**PLAIN, **settings})


@pytest.fixture
def saved(node, tmp_path):
    """A folder of snapshots, of one experience each."""
    manager = node()
    manager.sync.create_exps([Experience(function="f", request=f"r{i}", response="x" * 100) for i in range(4)])
    return snapshots.save(manager, tmp_path / "cache", partition_size=1)


def packed(text):
    return gzip.compress(text if isinstance(text, bytes) else text.encode(), mtime=0)


HOSTILE = {
    "nothing": b"",
    "half a file": None,
    "no gzip": b"{}",
    "a zip archive": b"PK\x03\x04" + b"\0" * 100,
    "half a line": packed('{"a": {"result": 1'),
    "a bomb": gzip.compress(b"[" + b" " * 200 * 2**20, 9),
    "a bomb of bombs": packed(b"\0" * 9 * 2**20),
    "too deep": packed("[" * 100_000),
    "deep values": packed('{"a": ' * 100_000),
    "UTF-16": packed('{"a": 1}'.encode("utf-16-le") + b"\xff"),
    "no UTF-8": packed(b'{"a": "\xff\xfe"}'),
    "NUL": packed(b'{"a": "\0"}'),
    "NaN": packed('{"a": NaN}'),
    "a number that goes on": packed('{"a": ' + "9" * 100_000 + "}"),
    "a list": packed("[]"),
    "text": packed('"{}"'),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_a_typed_error_and_the_others_are_loaded(node, saved, tmp_path, what):
    content = HOSTILE[what]
    saved[1].write_bytes(saved[1].read_bytes()[:100] if content is None else content)
    other = node()
    why = "unpacks to more than 200 times its size" if "bomb" in what else ""
    with pytest.raises(SourceError, match=f"{saved[1].name}.*{why}"):
        snapshots.load(other, saved[1])
    with pytest.raises(ConfigurationError, match="cannot be merged"):
        snapshots.merge(saved, tmp_path / "merged.cache")
    assert not (tmp_path / "merged.cache").exists()
    with pytest.warns(ExpPoolWarning, match=f"was skipped, .*{saved[1].name}"):
        assert snapshots.load(other, tmp_path / "cache") == 3


def forged(path, change):
    """A file whose one entry was changed, with a checksum that is right again."""
    entries = json.loads(gzip.decompress(path.read_bytes()))
    ((id_, entry),) = entries.items()
    change(entry["metadata"])
    from exp_pool.snapshots.format import _checksum

    entry["metadata"].pop("checksum")
    entry["metadata"]["checksum"] = _checksum(entry["result"], entry["metadata"])
    path.write_bytes(packed(json.dumps({entry["metadata"].get("id", id_): entry})))


@pytest.mark.parametrize(
    "change",
    [
        {"revision": 2**70}, {"revision": -1}, {"revision": True}, {"created_at": 2**62}, {"created_at": "now"},
        {"access_count": 1.5}, {"is_current": 1}, {"arguments": "{"}, {"arguments": "[" * 10_000}, {"kind": "no kind"},
        {"id": ""}, {"id": 5}, {"metadata": '{"$": "os:system"}', "scores": "5"}, {"said": "no list"}, {"new": 1},
        {"said": [{"what": "annotate", "id": "x", "at": "soon"}]}, {"said": [{"what": 5, "id": "x", "at": "2026-01-01T00:00:00+00:00"}]},
    ],
    ids=lambda change: f"{next(iter(change.items()))!r:.40}",
)  # fmt: skip
def test_a_forged_entry_is_named_and_skipped(node, saved, tmp_path, change):
    forged(saved[1], lambda metadata: metadata.update(change))
    with pytest.warns(ExpPoolWarning, match=f"{saved[1].name}.* was skipped"):
        assert snapshots.load(node(), tmp_path / "cache") == 3


@pytest.mark.parametrize("entry", [{"metadata": 5, "result": 1}, {"metadata": True}, {"metadata": "deleted_at"}, None])
@pytest.mark.parametrize("secret", [None, "s" * 32])
def test_what_is_no_entry_is_named_and_skipped(node, tmp_path, entry, secret):
    (tmp_path / "a.cache").write_bytes(packed(json.dumps({"x": entry})))
    with pytest.warns(ExpPoolWarning, match="'x' was skipped"):
        assert snapshots.load(node(key_secret=secret), tmp_path / "a.cache") == 0


def test_paths_in_ids_and_names_stay_text(node, saved, tmp_path):
    evil = "../../../../tmp/evil\0\n/etc/passwd"
    forged(saved[1], lambda metadata: metadata.update(id=evil, function=evil, version=evil))
    other = node()
    assert snapshots.load(other, tmp_path / "cache") == 4
    for path in snapshots.save(other, tmp_path / "a" / "b" / "c" / "cache"):
        assert path.parent.parent == tmp_path / "a" / "b" / "c" / "cache"
    assert other.sync.get_exp(evil).function == evil


def test_links_devices_and_pipes_are_refused(node, saved, tmp_path):
    outside = tmp_path / "outside.cache"
    saved[0].rename(outside)
    saved[0].symlink_to(outside)
    saved[1].unlink()
    os.mkfifo(saved[1])
    month = saved[2].parent
    (tmp_path / "cache" / "2020-01").symlink_to(month)
    (tmp_path / "cache" / "2020-02").symlink_to("/dev")
    with pytest.warns(ExpPoolWarning) as said:
        assert snapshots.load(node(), tmp_path / "cache") == 2
    assert sum("links are not followed" in str(w.message) for w in said) == 5, "a file, and four of a linked folder"
    assert sum("it is no file" in str(w.message) for w in said) == 1, "the pipe"
    for path in (saved[0], saved[1], tmp_path / "cache" / "2020-02" / "zero"):
        with pytest.raises(SourceError):
            snapshots.load(node(), path)


def test_saving_writes_and_removes_nothing_behind_a_link(node, tmp_path):
    manager = node()
    manager.sync.create_exp(Experience(function="f", request="r", response=1))
    elsewhere = tmp_path / "elsewhere"
    (path,) = snapshots.save(manager, tmp_path / "first")
    path.parent.rename(elsewhere)
    (tmp_path / "first" / path.parent.name).symlink_to(elsewhere)
    kept = (elsewhere / path.name).read_bytes()
    manager.sync.create_exp(Experience(function="f", request="r2", response=1))
    with pytest.raises(ConfigurationError, match="is a link"):
        snapshots.save(manager, tmp_path / "first")
    assert {p.name: p.read_bytes() for p in elsewhere.iterdir()} == {path.name: kept}
    manager.sync.delete_exps({"function": "f"})
    (tmp_path / "first" / path.parent.name).rename(tmp_path / "first" / "2020-01")
    snapshots.save(manager, tmp_path / "first")
    assert (elsewhere / path.name).read_bytes() == kept, "what a link leads to is not tidied up"


def test_what_packs_like_a_bomb_can_still_be_loaded(node, tmp_path):
    one, two = node(), node()
    one.sync.create_exps([Experience(function="f", request=f"r{i}", response="x" * 2**21) for i in range(6)])
    snapshots.save(one, tmp_path / "cache")
    assert snapshots.load(two, tmp_path / "cache") == 6


def test_another_key_secret_is_told_before_anything_is_written(node, tmp_path):
    plain, one, same, two = node(), *(node(key_secret=secret) for secret in ("a", "a", "b"))
    for manager, folder in ((plain, "plain"), (one, "one")):
        manager.exp_cache(name="f")(lambda q: q)("x")
        gone = manager.exp_cache(name="f")(lambda q: q)
        gone("y")
        gone.invalidate("y")
        snapshots.save(manager, tmp_path / folder)
    content = b"".join(gzip.decompress(p.read_bytes()) for p in (tmp_path / "one").rglob("*.cache"))
    assert b'"a"' not in content.replace(b'"what"', b""), "the secret is not in it"
    assert snapshots.load(same, tmp_path / "one") == 1
    assert same.exp_cache(name="f")(lambda q: "ran")("x") == "x"
    for manager, folder, under in (
        (two, "one", "another key_secret"),
        (plain, "one", "a key_secret"),
        (two, "plain", "no key_secret"),
    ):
        with pytest.raises(ConfigurationError, match=f"was saved under {under}"):
            snapshots.load(manager, tmp_path / folder)
    assert two.sync.get_exps_count() == 0


def test_files_that_say_the_same_are_left_alone(node, tmp_path):
    manager = node()
    manager.sync.create_exp(Experience(function="f", request="r", response=1))
    (path,) = snapshots.save(manager, tmp_path)
    before = path.stat().st_ino
    manager.sync.create_exp(Experience(function="g", request="r", response=1))
    assert len(snapshots.save(manager, tmp_path)) == 2
    assert path.stat().st_ino == before


def test_saving_every_so_often(node, tmp_path, monkeypatch):
    manager, times, twice = node(), count(1), threading.Event()

    def saved(paths):
        if next(times) >= 2:
            twice.set()

    with snapshots.saving(manager, tmp_path / "cache", every=0.01, saved=saved):
        manager.sync.create_exp(Experience(function="f", request="r", response=1))
        assert twice.wait(60)
        manager.sync.create_exp(Experience(function="f", request="at the end", response=1))
    other = node()
    assert snapshots.load(other, tmp_path / "cache") == 2

    failed, real = threading.Event(), files.stage

    def full(path, entries):
        if not failed.is_set():
            failed.set()
            raise OSError("no space left on device")
        return real(path, entries)

    monkeypatch.setattr(files, "stage", full)
    manager.sync.create_exp(Experience(function="g", request="r", response=1))
    with snapshots.saving(manager, tmp_path / "cache", every=0.01):
        assert failed.wait(60)
    assert snapshots.load(other, tmp_path / "cache") == 1, "a save that failed is tried again"
    with pytest.raises(ConfigurationError, match="every="), snapshots.saving(manager, tmp_path, every="soon"):
        pass
