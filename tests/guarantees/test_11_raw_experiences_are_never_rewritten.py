"""Guarantee 11: raw experiences are never rewritten by consolidation; insights name their sources and can be undone.

In more detail: `integration/curation/test_bulk_edit.py` (merging keeps each answer beneath, all of it undone).
"""

import pytest
from support.curated_pools import contents

from exp_pool import Experience, Inject
from exp_pool.curation import distill, quarantine, undo


@pytest.fixture
def manager(make_manager):
    return make_manager(index="none://", embedder="none")


def ask(req):
    return f"live {req}"


def exps(manager, *requests, **fields):
    return manager.sync.create_exps(
        [Experience(**{"function": "ask", "request": q, "response": f"r {q}", **fields}) for q in requests]
    )


def answers(manager, *requests):
    asked = manager.exp_cache(name="ask")(ask)
    return [asked(q) for q in requests]


def test_an_insight_names_its_sources_and_leaves_them_alone(make_manager):
    manager = make_manager()
    ids = exps(manager, "cabbage", "kale")
    before = contents(manager.sync)
    seen = []

    def using(experiences):
        seen.extend(e.request for e in experiences)
        return "Boil it."

    change = distill(manager, ids, using, who="ann")
    (insight,) = change.added
    assert seen == ["cabbage", "kale"]
    assert (insight.kind, insight.parents, insight.response) == ("insight", ids, "Boil it.")
    after = contents(manager.sync)
    after.pop(insight.id)
    assert after == before
    shown = []
    cook = manager.exp_cache(name="ask", inject=Inject("experiences"))(
        lambda req, experiences=(): shown.extend(e.id for e in experiences)
    )
    assert answers(manager, "cabbage kale") == ["live cabbage kale"]  # it answers no call
    manager.sync.flush()
    cook("cabbage kale!")
    assert insight.id in shown
    undo(manager, change.id)
    assert manager.sync.get_exp(insight.id) is None
    assert manager.sync.query_exps("cabbage", function="ask", where={"kind": "insight"}) == []


def test_an_insight_of_a_quarantined_source_is_quarantined(manager):
    a, b = exps(manager, "a", "b")
    quarantine(manager, [a], "poisoned")
    (insight,) = distill(manager, [a, b], lambda experiences: "x").added
    assert insight.trust == "quarantined"


def test_corrections_and_refinements_leave_what_was_answered(manager):
    """What a person says stands beside the answer; a newer answer makes the older one history."""
    asked = manager.exp_cache(name="ask")(ask)
    asked("x")
    first = asked.lookup("x").experience
    manager.sync.annotate(first.id, expected="right")
    asked.refresh("x")
    rows = {e.id: e for e in manager.sync.iter_exps(history=True)}
    assert rows[first.id].response == first.response == "live x"
    assert rows[first.id].expected == "right"
    assert len(rows) == 2
