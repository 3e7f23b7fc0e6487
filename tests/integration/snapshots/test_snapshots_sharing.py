"""Nodes that score, correct, judge, delete and restore while they exchange files: nothing of it is lost or made up."""

import gzip
import json
import threading

import pytest
from support.outcomes import EFFECTS, candidate, live, unattended

from exp_pool import Experience, Score, curation, in_namespace, snapshots
from exp_pool.errors import ConfigurationError, SourceError, StoreError
from exp_pool.protocols import PutStatus
from exp_pool.snapshots import files
from exp_pool.snapshots.entries import LOADED, SnapshotDeletion
from exp_pool.snapshots.format import _checksum, write_deletion

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture
def node(make_manager):
    return lambda **settings: make_manager(store="memory://", **{**PLAIN, **settings})


@pytest.fixture
def exchange(tmp_path):
    def between(*nodes):
        """Each saves, then each loads what all have saved."""
        for number, manager in enumerate(nodes):
            snapshots.save(manager, tmp_path / f"node {number}")
        return [[snapshots.load(m, tmp_path / f"node {number}") for number in range(len(nodes))] for m in nodes]

    return between


def exp(manager, request="q", **fields):
    return manager.sync.create_exp(Experience(**{"function": "f", "request": request, "response": 1, **fields}))


def trust_of(id_, *nodes):
    return [manager.sync.get_exp(id_).trust for manager in nodes]


# ── Scores and trust ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_scorer_said_outlives_a_quarantine_elsewhere_that_was_taken_back(node, exchange):
    one, two = node(), node()
    id_ = exp(one)
    exchange(one, two)
    curation.quarantine(one, id_, "looks odd")
    curation.promote(one, id_)
    two.sync.score_exps(lambda context: Score(value=0.9, scorer="s"))
    exchange(one, two)
    assert [manager.sync.get_exp(id_).score.value for manager in (one, two)] == [0.9, 0.9]


def test_inherited_trust_is_a_word_too(node, tmp_path):
    manager = node()
    bad, row = exp(manager, "bad"), exp(manager)
    for trust in ("quarantined", "trusted"):
        manager.sync.update_exp(row, trust=trust)
    manager.sync.update_exp(bad, trust="quarantined")
    after = manager.sync.update_exp(row, trust="trusted", parents=[bad])
    assert after.trust == "quarantined"
    said = [e.detail["trust"] for e in manager.sync.history(row) if e.what == "trust"]
    assert said == ["quarantined", "trusted", "quarantined"]
    snapshots.save(manager, tmp_path)
    assert snapshots.load(manager, tmp_path) == 0
    assert trust_of(row, manager) == ["quarantined"]


def test_a_change_of_trust_whose_word_was_never_written_stands(node, exchange, monkeypatch):
    one, two = node(), node()
    id_ = exp(one)
    for trust in ("quarantined", "trusted"):
        one.sync.update_exp(id_, trust=trust)
    exchange(one, two)
    with monkeypatch.context() as dying:
        dying.setattr(one.sync.store, "append_log", lambda *_: (_ for _ in ()).throw(StoreError("died")))
        with pytest.raises(StoreError):
            one.sync.update_exp(id_, trust="quarantined")
    exchange(one, two)
    assert trust_of(id_, one, two) == ["quarantined", "quarantined"]


def test_after_a_promotion_that_came_in_a_file_evidence_begins_anew(node, tmp_path):
    one, two = node(), node()
    pool = unattended(one.sync)
    for name in EFFECTS:
        candidate(pool, name)
    live(pool, EFFECTS, 150, base=0.8)
    pool.flush()
    snapshots.save(one, tmp_path / "one")
    snapshots.load(two, tmp_path / "one")
    assert trust_of("bad", one, two) == ["quarantined"] * 2
    curation.promote(two, ["bad"])
    snapshots.save(two, tmp_path / "two")
    snapshots.load(one, tmp_path / "two")
    assert trust_of("bad", one, two) == ["trusted"] * 2
    live(pool, EFFECTS, 400, seed=5, base=0.8)
    pool.flush()
    assert trust_of("bad", one) == ["quarantined"], "the rule looks at it again"


# ── Answers of people and of calls ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["both files", "merged"])
def test_no_call_on_another_node_replaces_what_a_person_corrected(node, exchange, tmp_path, way):
    one, two, three = node(), node(), node()
    ask = one.exp_cache(name="ask")(lambda q: "by a call")
    ask("q")
    exchange(one, two)
    id_ = ask.lookup("q").experience.id
    one.exp_cache(name="ask")(lambda q: "by another call").refresh("q")
    two.sync.annotate(id_, expected="RIGHT")
    paths = [path for n, m in enumerate((one, two)) for path in snapshots.save(m, tmp_path / str(n))]
    for manager in (one, two, three):
        if way == "merged":
            merged = snapshots.merge(paths, tmp_path / f"{id(manager)}.cache")
            snapshots.load(manager, merged)
        else:
            for path in paths:
                snapshots.load(manager, path)
        assert manager.exp_cache(name="ask")(ask.original)("q") == "RIGHT"


def test_what_a_person_stored_instead_of_a_correction_stays_instead(node, exchange):
    one, two = node(), node()
    exp(one)
    id_ = next(iter(one.sync.iter_exps())).id
    one.sync.annotate(id_, expected="RIGHT")
    exchange(one, two)
    newer = exp(one, response="better")
    exchange(one, two)
    assert [[e.id for e in manager.sync.iter_exps()] for manager in (one, two)] == [[newer], [newer]]


# ── Deleted here, changed there ───────────────────────────────────────────────────────────────────────────────────────


def test_what_was_deleted_here_and_restored_there_travels_on(node, exchange, tmp_path):
    one, two, fresh = node(), node(), node()
    id_ = exp(one)
    exchange(one, two)
    for number in range(20):
        one.sync.score_exps(lambda context, n=number: Score(value=n / 20, scorer=f"s{n}"))
    two.sync.annotate(id_, expected="right")
    exchange(one, two)
    deleted = []
    for manager in (one, two):
        frame = curation.to_frame(manager)
        frame["deleted"] = True
        deleted.append(curation.apply_frame(manager, frame, dry_run=False).id)
    curation.undo(two, deleted[1])
    exchange(one, two)
    assert one.sync.get_exp(id_).value == "right"
    told = [e for e in one.sync.history(id_) if e.what == "annotate"]
    assert len(told) == 1, "what was said is heard once"
    revisions = []
    for number, manager in enumerate((one, two)):
        for path in snapshots.save(manager, tmp_path / str(number)):
            entries = files.read(path, tmp_path / str(number))[0]
            revisions += [entry["metadata"]["revision"] for name, entry in entries.items() if name == id_]
    assert revisions[0] == revisions[-1] > 0
    snapshots.load(fresh, tmp_path / "0")
    assert fresh.sync.get_exp(id_).value == "right"


def test_undo_goes_back_step_by_step(node):
    manager = node()
    id_ = exp(manager)
    changes = [curation.quarantine(manager, id_, "odd"), curation.promote(manager, id_)]
    changes.append(curation.quarantine(manager, id_, "odd after all"))
    for change, trust in zip(changes[::-1], ("trusted", "quarantined", "trusted"), strict=True):
        curation.undo(manager, change.id)
        assert trust_of(id_, manager) == [trust]


# ── Folders ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_others_save_while_it_saves_is_not_lost(node, tmp_path, monkeypatch):
    one, two = node(), node()
    exp(one, "a"), exp(two, "b")
    real = files.stage

    def slow(path, entries):
        staged = real(path, entries)
        if b'"a"' in json.dumps(entries).encode():
            snapshots.save(two, tmp_path)
        return staged

    monkeypatch.setattr(files, "stage", slow)
    with pytest.raises(ConfigurationError, match="would be lost"):
        snapshots.save(one, tmp_path)
    monkeypatch.undo()
    snapshots.load(one, tmp_path)
    assert {e.request for e in one.sync.iter_exps()} == {"a", "b"}


def test_rows_that_did_not_come_in_are_not_taken_for_loaded(node, tmp_path, monkeypatch):
    one, two = node(), node()
    id_ = exp(two)
    snapshots.save(two, tmp_path / "a")
    snapshots.load(one, tmp_path / "a")
    two.sync.annotate(id_, expected="right")
    snapshots.save(two, tmp_path / "a")
    with monkeypatch.context() as busy:
        real = one.sync.store.put_many
        refuse = lambda puts: [PutStatus.CONFLICT for _ in puts]  # noqa: E731
        busy.setattr(one.sync.store, "put_many", refuse)
        assert snapshots.load(one, tmp_path / "a") == 0
        busy.setattr(one.sync.store, "put_many", real)
        with pytest.raises(ConfigurationError, match="would be lost"):
            snapshots.save(one, tmp_path / "a")
    one.sync.delete_all_exps()
    assert snapshots.load(one, tmp_path / "a") == 0
    with pytest.raises(ConfigurationError, match="would be lost"):
        snapshots.save(one, tmp_path / "a")


def test_saving_goes_on_in_the_namespace_that_surrounds_it_whatever_the_block_and_the_callback_do(node, tmp_path):
    manager, twice, times = node(), threading.Event(), []
    exp(manager, "of everybody")

    def told(paths):
        times.append(paths)
        if len(times) == 2:
            twice.set()
        if len(times) < 4:
            raise ValueError("a bug of the callback")

    with in_namespace("acme"):
        exp(manager, "of acme")
        with pytest.raises(KeyError), snapshots.saving(manager, tmp_path, every=0.01, saved=told):
            assert twice.wait(60)
            exp(manager, "the last one")
            while len(times) < 4:
                twice.wait(0.01)
            raise KeyError("a bug of the block")
    other = node()
    snapshots.load(other, tmp_path)
    assert {e.request for e in other.sync.iter_exps()} == {"of acme", "the last one"}


def test_the_last_save_happens_though_the_block_failed(node, tmp_path):
    manager = node()
    with pytest.raises(KeyError), snapshots.saving(manager, tmp_path, every="1h"):
        exp(manager)
        raise KeyError("a bug of the block")
    assert snapshots.load(node(), tmp_path) == 1


# ── What strangers may have sent ──────────────────────────────────────────────────────────────────────────────────────


def forged(tmp_path, node, **changes):
    """A pool that loaded a file with an honest entry and one with these changes, and what it warned of."""
    one, two = node(), node()
    honest, id_ = exp(one, "honest"), exp(one, "forged", expected=2)
    (path,) = snapshots.save(one, tmp_path / "f")
    entries, _ = files.read(path, tmp_path / "f")
    metadata = entries[id_]["metadata"]
    metadata.update(changes)
    del metadata["checksum"]
    metadata["checksum"] = _checksum(entries[id_]["result"], metadata)
    files.write(path, entries)
    return two, path, honest, id_


@pytest.mark.parametrize(
    "changes",
    [
        {"revision": 2**53 - 1},
        {"score": 10**400},
        {"score": 2.0**70},
        {"function": ""},
        {"parents": "[1, 2]"},
        {"parents": "{}"},
        {"metadata": "[]"},
        {"said": [{"what": "feedback", "id": "x", "at": "2026-01-01T00:00:00+00:00"}]},
        {"said": [{"what": "feedback", "id": "x", "at": "2026-01-01T00:00:00+00:00", "value": "x"}]},
        {"said": [{"what": "feedback", "id": "x", "at": "2026-01-01T00:00:00+00:00", "value": 7}]},
        {"said": [{"what": "trust", "id": "x", "at": "2026-01-01T00:00:00+00:00", "trust": 5}]},
        {"said": [{"what": "trust", "id": "x", "at": "2999-01-01T00:00:00+00:00", "trust": "trusted"}]},
    ],
    ids=str,
)
def test_what_cannot_be_is_skipped_and_named_and_the_rest_is_loaded(node, tmp_path, changes):
    pool, path, honest, id_ = forged(tmp_path, node, **changes)
    with pytest.warns(match=f"'{id_}' was skipped"):
        assert snapshots.load(pool, path) == 1
    assert pool.sync.get_exp(honest).request == "honest"
    pool.sync.feedback(honest, 0.5)
    snapshots.save(pool, tmp_path / "again")
    assert snapshots.load(node(), tmp_path / "again") == 1


def test_sizes_are_measured_not_believed(node, tmp_path):
    pool, path, _, id_ = forged(tmp_path, node, size_bytes=2**52)
    snapshots.load(pool, path)
    (row,) = pool.sync.store.get_many("default", [id_], by="id")
    assert row.size_bytes < 1000


def test_a_deletion_from_the_future_deletes_nothing(node, tmp_path):
    pool = node()
    exp(pool)
    files.write(tmp_path / "f.cache", {"": write_deletion(SnapshotDeletion("", 2**53 - 1))})
    with pytest.warns(match="look at the clock"):
        snapshots.load(pool, tmp_path / "f.cache", clear=True)
    assert pool.sync.get_exps_count() == 1
    assert pool.sync.store.cleared_at("default") is None


def test_junk_beside_honest_rows_does_not_end_the_loading(node, tmp_path):
    pool, path, _, _ = forged(tmp_path, node)
    entries, _ = files.read(path, tmp_path / "f")
    files.write(path, {"junk": {"metadata": {"key_secret": "z"}, "result": 1}, **entries})
    with pytest.warns(match="'junk' was skipped"):
        assert snapshots.load(pool, tmp_path / "f") == 2


def test_numbers_that_json_cannot_say_are_refused_with_the_file(node, tmp_path):
    path = tmp_path / "f.cache"
    path.write_bytes(gzip.compress(b'{"x": {"result": 1e999, "metadata": {}}}'))
    with pytest.raises(SourceError, match="1e999"):
        snapshots.load(node(), path)


def test_what_stays_on_a_node_is_not_in_its_files(node, tmp_path):
    one, two = node(), node()
    id_ = exp(one)
    snapshots.save(one, tmp_path / "a")
    snapshots.load(two, tmp_path / "a")
    for number in range(3):
        one.sync.annotate(id_, expected=number)
    snapshots.save(one, tmp_path / "a")
    snapshots.load(two, tmp_path / "a")
    (path,) = snapshots.save(two, tmp_path / "b")
    said = files.read(path, tmp_path / "b")[0][id_]["metadata"]["said"]
    assert LOADED not in {entry["what"] for entry in said}
