"""The same change on every store: applied, undone byte for byte, and remembered; nothing of it in another namespace."""

import pandas as pd
import pytest
from support.curated_pools import contents, of_everything
from support.pools import SERVERS, STORES, new_store

from exp_pool import Experience, ExpManager, in_namespace
from exp_pool.curation import apply_frame, diff, history, merge, to_frame, undo


@pytest.fixture(params=[*STORES, *SERVERS])
def manager(request, tmp_path):
    with (
        new_store(request.param, request, tmp_path) as store,
        ExpManager(store=store, index="none://", embedder="none", namespace="日本 '%") as manager,
    ):
        yield manager


def test_a_change_and_its_undo(manager):
    pool = manager.sync
    pool.create_exps(of_everything(25))
    pool.create_exps([e.clone(response="newer") for e in list(pool.iter_exps())[:3]])
    with in_namespace("other"):
        pool.create_exps(of_everything(3))
        others = contents(pool)
    before = contents(pool)
    frame = to_frame(manager, history=True)
    assert not diff(manager, frame)
    frame.loc[0:9, "strategy"] = "s"
    frame["expected"] = frame["expected"].mask(frame.index == 12, "said \0.")
    frame.loc[15:20, "deleted"] = True
    row = {"function": "ask", "request": "new\0", "response": {"a": 1}, "metadata.n": "x"}
    change = apply_frame(manager, pd.concat([frame, pd.DataFrame([row])]), dry_run=False, who="\ud800", why="日本\0")
    now = to_frame(manager, history=True).set_index("id")
    assert set(now.index) == set(frame.id) - set(frame.id[15:21]) | {change.added[0].id}
    assert (now.strategy == "s").sum() == 10
    assert now.expected[frame.id[12]] == "said \0."
    assert not diff(manager, frame)  # it is so already
    undo(manager, change.id)
    assert contents(pool) == before
    assert [(n.who, n.why, n.standing) for n in history(manager)][0] == ("\ud800", "日本\0", "undone")
    with in_namespace("other"):
        assert contents(pool) == others
        assert history(manager) == []


def test_a_merge_answers_every_request(manager):
    pool = manager.sync
    ids = pool.create_exps([Experience(function="ask", request=q, response=q) for q in ("a", "b", "c")])
    before = contents(pool, use=False)
    change = merge(manager, ids, keep=ids[1])
    ask = manager.exp_cache(name="ask")(lambda req: "live")
    assert [ask(q) for q in "abc"] == ["b"] * 3
    undo(manager, change.id)
    assert contents(pool, use=False) == before
    assert [ask(q) for q in "abc"] == ["a", "b", "c"]
