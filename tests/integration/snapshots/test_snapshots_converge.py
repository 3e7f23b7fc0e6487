"""Nodes that exchange snapshots agree in the end, whatever the order: on what is there, what is current, what is gone."""

import os
import random
from itertools import count

import pytest

from exp_pool import Experience, Score, Trust, curation, snapshots
from exp_pool.errors import ExpPoolWarning, NotFoundError

PLAIN = {"index": "none://", "embedder": "none"}
ORDERS = 200 if os.environ.get("EXP_POOL_FULL") else 25


@pytest.fixture
def node(make_manager, tmp_path):
    numbers = count()

    def make(kind="memory", **settings):
        place = f"{tmp_path}/node{next(numbers)}"
        store = {"memory": "memory://", "sqlite": f"sqlite:///{place}.db", "json": f"json:///{place}"}[kind]
        return make_manager(store=store, **{**PLAIN, **settings})

    return make


def state(manager):
    """What people and calls see of a pool. What was counted and noted on the way differs between nodes."""
    rows = {row.id: row for row in manager.sync.iter_exps(history=True)}
    current = {row.id for row in manager.sync.iter_exps()}
    ours = ("last_access", "access_count")
    return {
        id_: (id_ in current, {name: value for name, value in row.to_dict().items() if name not in ours})
        for id_, row in rows.items()
    }


def ask_of(manager, at):
    return manager.exp_cache(name="ask")(lambda q: [at, q, random.random()])


def do_something(manager, at, rng):
    """One thing that people, calls or rules do."""
    ask, stored = ask_of(manager, at), sorted(manager.sync.iter_exps(history=True), key=lambda row: row.id)
    row = rng.choice(stored) if stored else None
    match rng.randrange(9):
        case 0 | 1:
            ask(rng.choice("abc"))
        case 2:
            ask.refresh(rng.choice("abc"))
        case 3 if row:
            manager.sync.annotate(row.id, expected=f"right, says {at} {rng.random()}")
        case 4 if row:
            manager.sync.update_exp(row.id, scores={"s": Score(value=rng.random(), scorer="s")})
        case 5 if row:
            manager.sync.update_exp(row.id, trust=rng.choice(["trusted", "quarantined"]))
        case 6 if row:
            manager.sync.delete_exp(row.id)
        case 7 if row:
            manager.sync.feedback(row.id, 0.5, f"{at}")
        case 8 if row:
            manager.sync.delete_exps({"request": rng.choice("abc")})


def exchange(nodes, folders, rng):
    """Everyone saves, then loads what all have saved, in an order of its own; how many rows were written."""
    for manager, folder in zip(nodes, folders, strict=True):
        snapshots.save(manager, folder, partition_size=rng.choice([1, 3, 100]))
    written = 0
    for at in rng.sample(range(len(nodes)), len(nodes)):
        for folder in rng.sample(folders, len(folders)):
            for path in rng.sample(paths := sorted(folder.rglob("*.cache")), len(paths)):
                written += snapshots.load(nodes[at], path)
    return written


@pytest.mark.parametrize("kind", ["memory", "sqlite", "json"])
def test_three_nodes_agree_whatever_the_order_and_what_was_deleted_stays_so(node, tmp_path, kind):
    for seed in range(ORDERS if kind == "memory" else 2):
        rng = random.Random(seed)
        nodes = [node(kind) for _ in range(3)]
        folders = [tmp_path / f"{kind}-{seed}-{at}" for at in range(3)]
        for _ in range(rng.randrange(3)):
            for at, manager in enumerate(nodes):
                for _ in range(rng.randrange(5)):
                    do_something(manager, at, rng)
            one, other = rng.sample(range(3), 2)
            snapshots.save(nodes[one], folders[one])
            snapshots.load(nodes[other], folders[one], incremental=rng.random() < 0.3)
        for at, manager in enumerate(nodes):
            for _ in range(rng.randrange(4)):
                do_something(manager, at, rng)
        gone = [deletion.id for m in nodes for deletion in m.sync.store.deletions("default")]
        rounds = 0
        while exchange(nodes, folders, rng):
            rounds += 1
            assert rounds < 4, seed
        states = [state(manager) for manager in nodes]
        assert states[0] == states[1] == states[2], seed
        assert not states[0].keys() & set(gone), seed
        for manager in nodes:
            manager.sync.close()


def test_a_deletion_travels_even_over_a_node_that_never_had_the_row(node, tmp_path):
    one, two, three = node(), node(), node()
    id_ = one.sync.create_exp(Experience(function="f", request="q", response="secret"))
    snapshots.save(one, tmp_path / "old")
    snapshots.load(three, tmp_path / "old")
    one.sync.delete_exp(id_)
    snapshots.save(one, tmp_path / "new")
    assert snapshots.load(two, tmp_path / "new") == 0
    snapshots.save(two, tmp_path / "over two")
    assert snapshots.load(three, tmp_path / "over two") == 1
    assert three.sync.get_exp(id_) is None
    assert snapshots.load(three, tmp_path / "old") == snapshots.load(two, tmp_path / "old") == 0
    merged = snapshots.merge(
        [*(tmp_path / "old").rglob("*.cache"), *(tmp_path / "new").rglob("*.cache")], tmp_path / "m"
    )
    assert snapshots.load(node(), merged) == 0, "merging files brings back nothing, either"


def test_a_deletion_that_was_undone_is_undone_everywhere(node, tmp_path):
    pytest.importorskip("pandas")
    one, two = node(), node()
    id_ = one.sync.create_exp(Experience(function="f", request="q", response=1))
    snapshots.save(one, tmp_path / "a")
    snapshots.load(two, tmp_path / "a")
    frame = curation.to_frame(one)
    frame["deleted"] = True
    change = curation.apply_frame(one, frame, dry_run=False)
    snapshots.save(one, tmp_path / "b")
    assert snapshots.load(two, tmp_path / "b") == 1
    snapshots.save(two, tmp_path / "c")
    curation.undo(one, change.id)
    assert snapshots.load(one, tmp_path / "c") == 0, "the deletion came back from the other node"
    assert one.sync.get_exp(id_).response == 1
    snapshots.save(one, tmp_path / "d")
    assert snapshots.load(two, tmp_path / "d") == 1
    assert two.sync.get_exp(id_).response == 1


def test_the_later_edit_of_a_person_counts_not_the_more_frequent(node, tmp_path):
    one, two = node(), node()
    id_ = one.sync.create_exp(Experience(function="f", request="q", response=1))
    snapshots.save(one, tmp_path / "a")
    snapshots.load(two, tmp_path / "a")
    for number in range(5):
        one.sync.annotate(id_, expected=f"earlier {number}")
    two.sync.annotate(id_, expected="later")
    for manager, folder in ((one, "one"), (two, "two")):
        snapshots.save(manager, tmp_path / folder)
    assert snapshots.load(two, tmp_path / "one") == 0
    assert snapshots.load(one, tmp_path / "two") == 1
    assert [m.sync.get_exp(id_).value for m in (one, two)] == ["later", "later"]
    said = [[e.detail.get("expected") for e in m.sync.history(id_) if e.what == "annotate"] for m in (one, two)]
    assert said[0] == said[1] == [*(f"earlier {number}" for number in range(5)), "later"]


def test_an_update_by_hand_is_an_edit_too(node, tmp_path):
    one, two = node(), node()
    id_ = one.sync.create_exp(Experience(function="f", request="q", response=1))
    snapshots.save(one, tmp_path / "a")
    snapshots.load(two, tmp_path / "a")
    for number in range(3):
        one.sync.update_exp(id_, metadata={"state": number})
    two.sync.update_exp(id_, metadata={"state": "later"})
    snapshots.save(two, tmp_path / "two")
    assert snapshots.load(one, tmp_path / "two") == 1
    assert one.sync.get_exp(id_).metadata == {"state": "later"}
    assert [e.detail for e in one.sync.history(id_) if e.what == "update"] == [{"fields": ["metadata"]}] * 4


def by_hand(manager, id_, trust):
    manager.sync.update_exp(id_, trust=trust)


def as_curator(manager, id_, trust):
    (curation.quarantine(manager, [id_], "poisoned") if trust == "quarantined" else curation.promote(manager, [id_]))


def in_a_frame(manager, id_, trust):
    frame = curation.to_frame(manager)
    frame.loc[frame["id"] == id_, "trust"] = trust
    assert curation.apply_frame(manager, frame, dry_run=False)


@pytest.mark.parametrize("by", [by_hand, as_curator, in_a_frame])
@pytest.mark.parametrize("way", ["files", "merged"])
def test_trust_goes_by_its_own_last_word_and_takes_no_other_edit_along(node, tmp_path, by, way):
    """Neither lifts a later edit of something else a quarantine, nor takes a quarantine an earlier edit away."""
    one, two, three = node(), node(), node()
    ids = [one.sync.create_exp(Experience(function="f", request=q, response=1)) for q in ("out", "in", "both")]
    by_hand(one, ids[1], "quarantined")
    snapshots.save(one, tmp_path / "a")
    snapshots.load(two, tmp_path / "a")
    two.sync.annotate(ids[2], expected="right")
    by(two, ids[0], "quarantined")
    by(two, ids[1], "trusted")
    by(one, ids[2], "quarantined")
    for id_ in ids[:2]:
        one.sync.update_exp(id_, metadata={"seen": "later"})
    files = [snapshots.save(one, tmp_path / "one"), snapshots.save(two, tmp_path / "two")]
    if way == "merged":
        for order in (files, files[::-1]):
            snapshots.merge([path for paths in order for path in paths], both := tmp_path / f"{id(order)}.cache")
            for manager in (one, two, three):
                snapshots.load(manager, both)
    else:
        for manager, folder in ((one, "two"), (two, "one"), (three, "one"), (three, "two"), (one, "two")):
            snapshots.load(manager, tmp_path / folder)
    for manager in (one, two, three):
        rows = [manager.sync.get_exp(id_) for id_ in ids]
        assert [row.trust for row in rows] == ["quarantined", "trusted", "quarantined"]
        assert [row.metadata for row in rows] == [{"seen": "later"}, {"seen": "later"}, {}]
        assert rows[2].value == "right"
    assert state(one) == state(two) == state(three)


def test_where_nobody_said_anything_one_state_out_of_use_is_enough(node, tmp_path):
    one, two = node(), node()
    row = Experience(function="f", request="q", response=1)
    one.sync.create_exp(row)
    two.sync.create_exp(row.model_copy(update={"trust": Trust.QUARANTINED}))
    for manager, folder in ((one, "one"), (two, "two")):
        snapshots.save(manager, tmp_path / folder)
    for manager in (one, two):
        for folder in ("one", "two"):
            snapshots.load(manager, tmp_path / folder)
        assert manager.sync.get_exp(row.id).trust == "quarantined"
    assert state(one) == state(two)


def test_what_waits_behind_another_answer_takes_its_place(node, tmp_path):
    one, two = node(), node()
    earlier = one.sync.create_exp(Experience(function="f", request="q", response="of one"))
    later = two.sync.create_exp(Experience(function="f", request="q", response="of two"))
    snapshots.save(one, tmp_path / "one")
    assert snapshots.load(two, tmp_path / "one") == 1
    assert [e.id for e in two.sync.iter_exps()] == [later]
    snapshots.save(two, tmp_path / "two")
    snapshots.load(one, tmp_path / "two")
    assert [e.id for e in one.sync.iter_exps()] == [later]
    two.sync.delete_exp(later)
    snapshots.save(two, tmp_path / "two")
    snapshots.load(one, tmp_path / "two")
    snapshots.save(one, tmp_path / "one")
    snapshots.load(two, tmp_path / "one")
    assert [[e.id for e in m.sync.iter_exps()] for m in (one, two)] == [[earlier], [earlier]]


def test_a_cleared_pool_clears_others_only_if_they_say_so(node, tmp_path):
    one, two = node(), node()
    old = two.sync.create_exp(Experience(function="f", request="of two", response=1))
    one.sync.create_exp(Experience(function="f", request="of one", response=1))
    snapshots.save(one, tmp_path / "before")
    one.sync.delete_all_exps()
    new = one.sync.create_exp(Experience(function="f", request="new", response=1))
    snapshots.save(one, tmp_path / "after")
    with pytest.warns(ExpPoolWarning, match="deleted everything up to .* 1 rows of this one are that old and stay"):
        assert snapshots.load(two, tmp_path / "after") == 1
    assert {e.id for e in two.sync.iter_exps()} == {old, new}
    assert snapshots.load(two, tmp_path / "before") == 0, "what it deleted is not brought in"
    assert snapshots.load(two, tmp_path / "after", clear=True) == 1
    assert {e.id for e in two.sync.iter_exps()} == {new}


@pytest.mark.parametrize("dies_at", ["apply_tombstones", "put_many"])
def test_a_process_that_dies_while_it_changes_what_is_current_loses_nothing(node, tmp_path, monkeypatch, dies_at):
    one, two = node(), node()
    ids = {m.sync.create_exp(Experience(function="f", request="q", response=str(m))) for m in (one, two)}
    snapshots.save(two, tmp_path / "two")
    store, calls = one.sync.store, count()
    real = getattr(store, dies_at)

    def dies(*given):
        if dies_at == "put_many" and next(calls) == 0:  # the row of the file; then those that are put anew
            return real(*given)
        if dies_at == "apply_tombstones":
            real(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, dies_at, dies)
    with pytest.raises(KeyboardInterrupt):
        snapshots.load(one, tmp_path / "two")
    monkeypatch.undo()
    snapshots.load(one, tmp_path / "two")
    assert {e.id for e in one.sync.iter_exps(history=True)} == ids
    assert one.sync.get_exps_count() == 1


def test_a_row_that_is_gone_has_no_history(node, tmp_path):
    one, two = node(), node()
    id_ = one.sync.create_exp(Experience(function="f", request="q", response=1))
    one.sync.feedback(id_, 0.5, "so so")
    snapshots.save(one, tmp_path / "a")
    snapshots.load(two, tmp_path / "a")
    assert [e.what for e in two.sync.history(id_)] == ["stored", "feedback"]
    one.sync.delete_exp(id_)
    snapshots.save(one, tmp_path / "a")
    snapshots.load(two, tmp_path / "a")
    with pytest.raises(NotFoundError):
        two.sync.history(id_)
    assert two.sync.store.names("default").logs == []


def test_what_rules_changed_more_often_counts_on_every_way(node, tmp_path):
    one, two, three = (node() for _ in range(3))
    id_ = one.sync.create_exp(Experience(function="f", request="q", response=1))
    snapshots.save(one, tmp_path / "all")
    for manager, values in ((one, (0.1, 0.2, 0.9)), (two, ()), (three, (0.3, 0.4))):
        snapshots.load(manager, tmp_path / "all")
        for value in values:
            manager.sync.score_exps(lambda _context, value=value: Score(value=value, scorer="rule"), again=True)
    for manager, folder in ((one, "one"), (three, "three")):
        snapshots.save(manager, tmp_path / folder)
    assert snapshots.load(two, tmp_path / "one") == 1, "changed three times, which is the first change here"
    assert snapshots.load(two, tmp_path / "three") == 0, "changed twice"
    snapshots.save(two, tmp_path / "two")
    assert snapshots.load(three, tmp_path / "two") == 1
    assert [m.sync.get_exp(id_).score.value for m in (one, two, three)] == [0.9, 0.9, 0.9]
