"""What was drawn from an experience is found, and taken out of use with it, when a person says so."""

import json

import pytest
from support.curated_pools import contents
from typer.testing import CliRunner

from exp_pool import Experience, Inject, in_namespace
from exp_pool.cli import app
from exp_pool.curation import apply_frame, descendants, promote, quarantine, undo
from exp_pool.errors import ConflictError, InvalidInputError


@pytest.fixture
def manager(make_manager):
    return make_manager(index="none://", embedder="none")


def exp(manager, request, *parents, **fields):
    fields = {"function": "ask", "response": 1, **fields, "request": request, "parents": list(parents)}
    return manager.sync.create_exp(Experience(**fields))


def family(manager):
    """root -> child -> grandchild; both -> other; an insight of child; what is of nobody."""
    root, other = exp(manager, "root"), exp(manager, "other")
    child = exp(manager, "child", root)
    both = exp(manager, "both", root, other)
    insight = exp(manager, "insight", child, kind="insight")
    grandchild = exp(manager, "grandchild", child)
    nobody = exp(manager, "nobody", other)
    return root, other, child, both, insight, grandchild, nobody


def test_descendants_stand_by_generation_with_those_they_descend_through(manager):
    root, other, child, both, insight, grandchild, _ = family(manager)
    frame = descendants(manager, [root])
    assert set(frame["id"][:2]) == {child, both}
    assert set(frame["id"][2:]) == {insight, grandchild}
    assert list(frame["found.generation"]) == [1, 1, 2, 2]
    told = dict(zip(frame["id"], frame["found.reason"], strict=True))
    assert told[both] == f"was shown {root}", "the other parent is not why it is here"
    assert told[insight] == f"cites {child}"
    assert set(descendants(manager, [root, other])["id"]) > {both, grandchild}
    assert descendants(manager, [grandchild]).empty
    with in_namespace("another"):
        assert descendants(manager, [root]).empty
    with pytest.raises(InvalidInputError, match="5 is neither"):
        descendants(manager, [5])


def test_what_was_drawn_from_a_deleted_one_is_found_and_applied(manager):
    root, _, child, both, insight, grandchild, _ = family(manager)
    manager.sync.delete_exp(root)
    frame = descendants(manager, root)
    assert set(frame["id"]) == {child, both, insight, grandchild}
    frame["trust"] = "quarantined"
    assert len(apply_frame(manager, frame, dry_run=False).changed) == 4


def test_those_who_are_each_others_parents_end_the_search(manager):
    one, two = exp(manager, "one"), exp(manager, "two")
    manager.sync.update_exp(one, parents=[two, one])
    manager.sync.update_exp(two, parents=[one])
    assert list(descendants(manager, [one])["id"]) == [two]
    quarantine(manager, one, "poisoned", descendants=True)
    assert [manager.sync.get_exp(id_).trust for id_ in (one, two)] == ["quarantined"] * 2


def test_quarantine_takes_them_along_if_it_is_told_to_and_undo_gives_all_back(manager):
    ids = family(manager)
    before = contents(manager.sync, use=False)
    change = quarantine(manager, ids[0], "poisoned")
    assert len(change.changed) == 1
    undo(manager, change.id)
    change = quarantine(manager, ids[0], "poisoned", descendants=True)
    out = {row.id for row in manager.sync.iter_exps({"trust": "quarantined"})}
    assert out == {ids[0], ids[2], ids[3], ids[4], ids[5]}
    undo(manager, change.id)
    assert contents(manager.sync, use=False) == before


def test_what_calls_were_shown_is_followed(make_manager, embedder):
    manager = make_manager(embedder=embedder)
    ask = manager.exp_cache(name="ask", inject=Inject("shown", top_k=1, min_similarity=0.0))(lambda q, shown="": q)
    ask("the first question of all")
    manager.sync.flush()
    first = ask.lookup("the first question of all").experience.id
    ask("the second question of all")
    second = ask.lookup("the second question of all").experience
    assert second.parents == [first]
    assert list(descendants(manager, [first])["id"]) == [second.id]
    quarantine(manager, [first], "poisoned", descendants=True)
    assert ask.lookup("the second question of all") is None
    promote(manager, [second.id])
    assert ask.lookup("the second question of all").experience.id == second.id, "a person's word asks no parent"


def test_a_rules_quarantine_is_a_judgement_that_undo_respects(manager):
    """What was decided since about trust is not taken back with what came before."""
    id_ = exp(manager, "q")
    change = quarantine(manager, id_, "looks odd")
    promote(manager, id_)
    manager.sync._outcomes._quarantine_one("default", id_, "it hurts")
    with pytest.raises(ConflictError, match="others decided on its trust since"):
        undo(manager, change.id)


def test_the_command_line_takes_them_along(make_manager, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manager = make_manager(store=f"sqlite:///{tmp_path}/pool.db", index="none://", embedder="none")
    ids = family(manager)
    command = ["quarantine", ids[0], "--reason", "poisoned", "--descendants", "--yes", "--json"]
    done = CliRunner().invoke(app, [*command, "--store", f"sqlite:///{tmp_path}/pool.db"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["quarantined"] == 5
