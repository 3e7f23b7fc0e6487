"""Changes: all or nothing, refused where others were quicker, undone byte for byte, remembered, and forgotten on demand."""

import asyncio
import json
from dataclasses import replace

import pandas as pd
import pytest
from support.curated_pools import contents, of_everything, revisions

from exp_pool import MISSING, Experience, ExpManager, Score, in_namespace
from exp_pool.curation import (
    Change,
    apply_frame,
    diff,
    forget,
    history,
    promote,
    quarantine,
    recover,
    relabel,
    to_frame,
    undo,
)
from exp_pool.errors import ConflictError, InvalidInputError, NotFoundError
from exp_pool.protocols import Put
from exp_pool.stores.change_history import ChangeStatus


@pytest.fixture
def manager(make_manager):
    return make_manager(index="none://", embedder="none")


@pytest.fixture
def filled(manager):
    manager.sync.create_exps(of_everything())
    return manager


def new(request="new", function="ask"):
    return pd.DataFrame([{"function": function, "request": request, "response": "r"}])


def mixed(manager):
    """A frame with something of everything edited: changed, deleted, added."""
    frame = to_frame(manager)
    frame.loc[0, "expected"] = "said"
    frame.loc[1, "score.exact"] = 0.25
    frame.loc[2, "trust"] = "quarantined"
    frame.loc[3, "metadata.team"] = "z"
    frame.loc[4:5, "deleted"] = True
    return pd.concat([frame, new()])


def same(manager, before):
    assert contents(manager.sync) == before


# ── Applying ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dry_run_says_and_does_nothing(filled):
    before = contents(filled.sync)
    change = apply_frame(filled, mixed(filled))
    assert change
    assert change.id is None
    assert (len(change.added), len(change.changed), len(change.deleted)) == (1, 4, 2)
    same(filled, before)
    assert history(filled) == []


def test_applied_it_is_what_the_frame_says_and_is_remembered(filled):
    change = apply_frame(filled, mixed(filled), dry_run=False, who="ann", why="the review of May")
    (note,) = history(filled)
    assert (note.id, note.who, note.why, note.what) == (change.id, "ann", "the review of May", "apply")
    assert (note.added, note.changed, note.deleted, note.standing) == (1, 4, 2, "applied")
    assert filled.sync.get_exp(next(iter(change.changed))).expected == "said"
    assert all(filled.sync.get_exp(e.id) is None for e in change.deleted)
    assert filled.sync.get_exp(change.added[0].id).request == "new"


def test_each_experience_tells_of_it(filled):
    change = apply_frame(filled, mixed(filled), dry_run=False, who="ann", why="because")
    entry = filled.sync.history(next(iter(change.changed)))[-1]
    assert entry.what == "apply"
    assert entry.detail["change"] == change.id
    assert (entry.detail["who"], entry.detail["why"]) == ("ann", "because")
    assert "expected" in entry.detail["fields"]


def test_a_diff_can_be_applied_once(filled):
    change = diff(filled, mixed(filled))
    applied = apply_frame(filled, change, dry_run=False)
    with pytest.raises(ConflictError, match="applied already"):
        apply_frame(filled, applied, dry_run=False)
    with pytest.raises(ConflictError):
        apply_frame(filled, change, dry_run=False)
    with pytest.raises(InvalidInputError, match="belongs to diff"):
        apply_frame(filled, change, delete_missing=True)
    with in_namespace("other"), pytest.raises(InvalidInputError, match="namespace 'default', and this is 'other'"):
        apply_frame(filled, change, dry_run=False)


def test_an_empty_diff_is_falsy_and_applying_it_writes_nothing(filled):
    change = apply_frame(filled, to_frame(filled), dry_run=False)
    assert not change
    assert (change.id, history(filled)) == (None, [])


def test_rows_changed_meanwhile_are_refused_and_named(filled):
    frame = mixed(filled)
    taken = frame.id.iloc[0]
    filled.sync.update_exp(taken, model="another")
    before = contents(filled.sync)
    change = diff(filled, frame)
    assert "revision is 2 now, and was 1" in change.stale[taken]
    with pytest.raises(ConflictError, match=taken):
        apply_frame(filled, frame, dry_run=False)
    same(filled, before)
    assert apply_frame(filled, frame[~frame.id.isin(list(change.stale))], dry_run=False).id


def test_rows_changed_between_diff_and_apply_are_refused(filled):
    for what in (
        lambda id_: filled.sync.update_exp(id_, model="another"),
        lambda id_: filled.sync.delete_exp(id_),
        lambda id_: filled.sync.create_exp(filled.sync.get_exp(id_).clone(response="a newer answer")),
    ):
        change = diff(filled, mixed(filled))
        taken = next(iter(change.changed))
        what(taken)
        before = contents(filled.sync)
        with pytest.raises(ConflictError, match=taken):
            apply_frame(filled, change, dry_run=False)
        same(filled, before)


def test_what_others_changed_and_nobody_edited_is_no_obstacle(filled):
    """Another revision, and every cell is as in the frame."""
    frame = mixed(filled)
    model = filled.sync.get_exp(frame.id.iloc[9]).model
    filled.sync.update_exp(frame.id.iloc[9], model="another")
    filled.sync.update_exp(frame.id.iloc[9], model=model)
    assert not diff(filled, frame).stale


def test_rows_deleted_meanwhile_are_named(filled):
    frame = to_frame(filled)
    filled.sync.delete_exp(frame.id[7])
    assert diff(filled, frame).stale == {frame.id[7]: "it was deleted meanwhile"}


def test_a_call_that_was_answered_meanwhile_is_not_answered_again(filled):
    change = diff(filled, pd.concat([to_frame(filled), new()]))
    there = filled.sync.create_exp(Experience(function="ask", request="new", response="theirs"))
    with pytest.raises(ConflictError, match=there):
        apply_frame(filled, change, dry_run=False)


@pytest.mark.parametrize("method", ["write_state", "put_many"])
def test_a_row_that_is_changed_while_the_change_is_applied_takes_all_of_it_back(filled, monkeypatch, method):
    """After the look at all rows: before its row is read, or between reading and writing it."""
    change = diff(filled, mixed(filled))
    last = list(change.changed)[-1]
    before = contents(filled.sync)
    store = filled.sync._store
    real = getattr(store, method)

    def meanwhile(*args):
        monkeypatch.setattr(store, method, real)
        filled.sync.update_exp(last, strategy="theirs")
        return real(*args)

    monkeypatch.setattr(store, method, meanwhile)
    with pytest.raises(ConflictError, match=f"'{last}': it was changed meanwhile"):
        apply_frame(filled, change, dry_run=False)
    after = contents(filled.sync)
    assert after.pop(last)[0].pop("strategy") == "theirs"
    before.pop(last)
    assert after == before
    assert [note.standing for note in history(filled)] == ["taken back"]


def test_nobody_erases_while_a_change_is_made(filled, monkeypatch):
    change = diff(filled, mixed(filled))
    store = filled.sync._store
    real = store.put_many
    monkeypatch.setattr("exp_pool.stores.journal.time.sleep", lambda seconds: None)
    monkeypatch.setattr("exp_pool.stores.journal._PATIENCE_S", -60.0)

    def meanwhile(puts):
        with pytest.raises(ConflictError, match="another process is changing the namespace 'default'"):
            filled.sync.erase({"strategy": "nobody's"})
        return real(puts)

    monkeypatch.setattr(store, "put_many", meanwhile)
    assert apply_frame(filled, change, dry_run=False).id


# ── Undoing ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_undo_gives_back_the_same_bytes_and_can_be_undone(filled):
    filled.sync.create_exps([e.clone(response="newer") for e in list(filled.sync.iter_exps())[:6]])  # history
    before, old = contents(filled.sync), revisions(filled.sync)
    change = apply_frame(filled, mixed(filled), dry_run=False)
    between = contents(filled.sync)
    undone = undo(filled, change.id, who="bob", why="no")
    same(filled, before)
    assert all(revisions(filled.sync)[id_] > old[id_] for id_ in change.changed)
    assert all(revisions(filled.sync)[e.id] > old[e.id] for e in change.deleted)
    assert [(n.standing, n.of) for n in history(filled)] == [("undone", None), ("applied", change.id)]
    undo(filled, undone.id)
    same(filled, between)
    assert [n.standing for n in history(filled)] == ["applied", "undone", "applied"]
    undo(filled, change.id)
    same(filled, before)


def test_an_added_experience_that_people_changed_is_not_simply_deleted(filled):
    change = apply_frame(filled, pd.concat([to_frame(filled), new()]), dry_run=False)
    filled.sync.annotate(change.added[0].id, expected="theirs")
    with pytest.raises(ConflictError, match="others changed expected since"):
        undo(filled, change.id)


def test_what_was_not_edited_stays_as_it_is_written(manager):
    """Rows that something else wrote: other spaces, other order."""
    pool = manager.sync
    row = pool.editor.record_of(
        Experience(id="x", function="ask", request="q", response={"a": 1}, metadata={"n": 1, "m": 2})
    )
    odd = replace(row, response='{"a":  1}', metadata='{"n": 1 , "m": 2}', scores="{ }", parents="[ ]", size_bytes=7)
    pool.store.put_many([Put(odd)])
    change = relabel(manager, ["x"], {"strategy": "s"})
    assert pool.editor.record("x") == replace(odd, strategy="s", revision=2)
    undo(manager, change.id)
    change = relabel(manager, ["x"], {"expected": "said"})
    assert (pool.editor.record("x").response, pool.editor.record("x").metadata) == (odd.response, odd.metadata)
    undo(manager, change.id)
    assert pool.editor.record("x") == replace(odd, revision=5)


def test_stale_writers_are_refused_after_an_undo(filled):
    frame = to_frame(filled)
    frame.loc[0, "model"] = "m"
    undo(filled, apply_frame(filled, frame, dry_run=False).id)
    with pytest.raises(ConflictError, match="revision is 3 now, and was 1"):
        apply_frame(filled, frame, dry_run=False)


def test_what_others_changed_since_stays(filled):
    id_ = to_frame(filled).id[1]
    change = relabel(filled, [id_], {"expected": "said"})
    filled.sync.update_exp(id_, model="later", scores={"late": Score(value=1.0)})
    size = filled.sync.editor.record(id_).size_bytes
    undo(filled, change.id)
    found = filled.sync.get_exp(id_)
    assert (found.expected, found.model, [*found.scores]) == (MISSING, "later", ["late"])
    assert filled.sync.editor.record(id_).size_bytes == size - len('"said"')


def test_what_others_changed_since_in_the_same_place_is_refused_or_left_out(filled):
    one, two, three, *_ = to_frame(filled).id
    change = relabel(filled, [one, two, three], {"expected": "said"})
    filled.sync.annotate(one, expected="otherwise")
    filled.sync.delete_exp(two)
    with pytest.raises(
        ConflictError, match=f"{one}'?: others changed expected since.*{two}'?: it was deleted since.*partly"
    ):
        undo(filled, change.id)
    assert filled.sync.get_exp(three).expected == "said"
    undo(filled, change.id, partly=True)
    assert filled.sync.get_exp(one).expected == "otherwise"
    assert filled.sync.get_exp(two) is None
    assert filled.sync.get_exp(three).expected != "said"


def test_an_undo_never_takes_a_newer_answer_away(filled):
    frame = to_frame(filled)
    frame.loc[0, "deleted"] = True
    gone = filled.sync.get_exp(frame.id[0])
    change = apply_frame(filled, frame, dry_run=False)
    newer = filled.sync.create_exp(gone.clone(response="newer"))
    with pytest.raises(ConflictError, match=f"answered by '{newer}' already"):
        undo(filled, change.id)
    assert filled.sync.get_exp(newer)


def test_what_cannot_be_undone(filled):
    with pytest.raises(NotFoundError, match="no change 'x'"):
        undo(filled, "x")
    change = relabel(filled, [to_frame(filled).id[0]], {"model": "m"})
    undone = undo(filled, change.id)
    with pytest.raises(ConflictError, match="it is undone"):
        undo(filled, change.id)
    with in_namespace("other"), pytest.raises(NotFoundError):
        undo(filled, undone.id)


def test_a_restored_experience_is_found_again(make_manager):
    manager = make_manager()
    manager.sync.create_exp(Experience(function="ask", request="cabbage", response="r"))
    frame = to_frame(manager).assign(deleted=True)
    change = apply_frame(manager, frame, dry_run=False)
    assert manager.sync.search("cabbage") == []
    undo(manager, change.id)
    assert [hit.experience.id for hit in manager.sync.search("cabbage")] == [frame.id[0]]
    assert manager.exp_cache(name="ask")(lambda req: "live")("cabbage") == "r"


# ── What follows from an edit ─────────────────────────────────────────────────────────────────────────────────────────


def test_an_edited_answer_is_scored_again(manager):
    seen = []

    def scorer(context):
        seen.append(context.value)
        return Score(value=1.0)

    ask = manager.exp_cache(name="ask", scorer=scorer)(lambda q: q.upper())
    id_ = ask.call("a").id
    manager.sync.flush()
    relabel(manager, [id_], {"expected": "better"})
    manager.sync.flush()
    assert seen == ["A", "better"]
    assert ask("a") == "better"


def test_callbacks_hear_of_what_was_added(make_manager):
    heard = []
    manager = make_manager(index="none://", embedder="none", callbacks=[lambda key, exp: heard.append(exp.request)])
    manager.sync.create_exp(Experience(function="ask", request="old", response="r"))
    apply_frame(manager, pd.concat([to_frame(manager), new()]), dry_run=False)
    assert heard == ["old", "new"]


def test_a_quarantined_parent_quarantines(filled):
    source, child, *_ = to_frame(filled).id
    quarantine(filled, [source], "wrong")
    frame = to_frame(filled)
    frame.at[1, "parents"] = [source]
    apply_frame(filled, frame, dry_run=False)
    assert filled.sync.get_exp(child).trust == "quarantined"
    assert filled.sync.history(source)[-1].detail["why"] == "wrong"
    promote(filled, [source, child])
    assert filled.sync.get_exp(child).trust == filled.sync.get_exp(source).trust == "trusted"


# ── Deleted is deleted ────────────────────────────────────────────────────────────────────────────────────────────────


def secret_bytes(folder, secret):
    return [path for path in folder.rglob("*") if path.is_file() and secret in path.read_bytes()]


@pytest.mark.parametrize("how", ["erase", "forget", "delete_all"])
def test_what_a_change_keeps_goes_when_it_is_to(make_manager, tmp_path, how):
    manager = make_manager(store=f"sqlite:///{tmp_path}/pool.db", index="none://", embedder="none")
    ids = manager.sync.create_exps(
        [Experience(function="ask", request=q, response=f"SECRET of {q}", metadata={"n": 1}) for q in ("a", "b")]
    )
    relabel(manager, ids, {"expected": "SECRET, too"})
    frame = to_frame(manager)
    frame.loc[0, "deleted"] = True
    change = apply_frame(manager, frame, dry_run=False)
    if how == "erase":
        manager.sync.erase({"request": "b"})
        assert undo(manager, change.id).added[0].id == ids[0]  # it was not to be erased
        manager.sync.delete_exp(ids[0])
        manager.sync.erase({"function": "ask"})
    elif how == "forget":
        assert forget(manager, change.id) == 1
        with pytest.raises(NotFoundError, match="was forgotten"):
            undo(manager, change.id)
        manager.sync.erase({"function": "ask"})
    else:
        manager.sync.delete_all_exps()
        assert history(manager) == []
        manager.sync.vacuum()
    manager.sync.close()
    assert secret_bytes(tmp_path, b"SECRET") == []


def test_erased_experiences_are_left_out_of_an_undo(filled):
    one, two, *_ = to_frame(filled).id
    change = relabel(filled, [one, two], {"strategy": "s"})
    filled.sync.erase({"id": one})
    with pytest.raises(ConflictError, match="erased since"):
        undo(filled, change.id)
    undo(filled, change.id, partly=True)
    assert filled.sync.get_exp(two).strategy is None
    with pytest.raises(NotFoundError, match="no change"):
        forget(filled, "x")


# ── Readable ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_change_is_readable_and_harmless(manager):
    attack = "<script>alert(1)</script>"
    id_ = manager.sync.create_exp(Experience(function="ask", request=attack, response="r"))
    manager.sync.create_exps([Experience(function="ask", request=f"{i}", response="r") for i in range(30)])
    frame = to_frame(manager)
    frame.loc[0, "expected"] = attack
    frame.loc[1:25, "deleted"] = True
    change = diff(manager, frame)
    said = repr(change)
    assert said.startswith("apply, not applied: 1 changed, 25 deleted")
    assert f"~ {id_}" in said
    assert f"expected: MISSING -> '{attack}'" in said
    assert "... and 5 more" in said
    assert "<script>" not in change._repr_html_()
    assert "&lt;script&gt;" in change._repr_html_()
    assert isinstance(change, Change)


def test_from_a_running_loop(filled):
    async def notebook():
        frame = to_frame(filled)
        frame.loc[0, "model"] = "m"
        return undo(filled, apply_frame(filled, frame, dry_run=False).id)

    assert asyncio.run(notebook()).id


def test_history_is_by_namespace_and_survives(make_manager, tmp_path):
    url = f"sqlite:///{tmp_path}/pool.db"
    with ExpManager(store=url, index="none://", embedder="none") as manager:
        with in_namespace("theirs"):
            ids = manager.sync.create_exps(of_everything(3))
            change = relabel(manager, ids, {"model": "m\ud800\0"}, who="日本\ud800", why="\0")
        assert history(manager) == []
    with ExpManager(store=url, index="none://", embedder="none", namespace="theirs") as manager:
        (note,) = history(manager)
        assert (note.who, note.why, note.standing) == ("日本\ud800", "\0", ChangeStatus.APPLIED)
        undo(manager, change.id)
        assert recover(manager) is None
        json.dumps([n.id for n in history(manager)])
