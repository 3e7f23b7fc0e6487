"""Quarantine: what demonstrably hurts is taken out of use, explained, reversible."""

import math
import random
from contextlib import suppress

import pytest
from support.outcomes import EFFECTS, called, candidate, lifts_of, live, unattended

from exp_pool.errors import ExpPoolWarning, StoreError
from exp_pool.runtime.forks import reinit
from exp_pool.stores.memory import MemoryStore
from exp_pool.testing import FaultyStore
from exp_pool.testing.faults import Fault


@pytest.fixture(params=["memory", "sqlite"])
def quick(request, make_manager, tmp_path):
    """For what takes hundreds of calls."""
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}
    return unattended(make_manager(store=urls[request.param]).sync)


def test_what_demonstrably_hurts_is_taken_out_and_told_why(quick):
    for name in EFFECTS:
        candidate(quick, name)
    live(quick, EFFECTS, 150, base=0.8)
    quick.flush()
    assert {name: quick.get_exp(name).trust.value for name in EFFECTS} == {
        "bad": "quarantined",
        "idle": "trusted",
        "dull": "trusted",
        "good": "trusted",
    }
    assert "bad" not in [hit.experience.id for hit in quick.search("how to bad", top_k=50)]
    entry = quick.history("bad")[-1]
    assert entry.what == "quarantine"
    assert "outcomes were lower by 0." in entry.detail["reason"]
    lift = lifts_of(quick)["bad"]
    assert lift.quarantined
    assert lift.verdict == "hurts"
    assert -0.9 < lift.low < lift.lift < lift.high < -0.2


def test_a_person_takes_it_back_and_the_same_evidence_does_not_count_again(quick):
    for name in EFFECTS:
        candidate(quick, name)
    live(quick, EFFECTS, 150, base=0.8)
    quick.flush()
    quick.update_exp("bad", trust="trusted")
    assert quick.history("bad")[-1].detail == {"before": "quarantined", "trust": "trusted"}
    live(quick, {"idle": 0.0, "dull": 0.0}, 20, seed=1)
    quick.flush()
    assert quick.get_exp("bad").trust.value == "trusted"
    reinit(quick._outcomes)  # nor does a process that begins now take it out
    live(quick, {"idle": 0.0, "dull": 0.0}, 5, seed=2)
    quick.flush()
    assert quick.get_exp("bad").trust.value == "trusted"
    live(quick, EFFECTS, 150, seed=3, base=0.8)  # but on new evidence
    quick.flush()
    assert quick.get_exp("bad").trust.value == "quarantined"


def test_what_a_person_annotated_is_left_in_use_with_a_warning(quick):
    for name in EFFECTS:
        candidate(quick, name)
    quick.annotate("bad")
    live(quick, EFFECTS, 150, base=0.8)
    with pytest.warns(ExpPoolWarning, match="experience bad hurts, and was annotated"):
        quick.flush()
    assert quick.get_exp("bad").trust.value == "trusted"
    assert lifts_of(quick)["bad"].verdict == "hurts"


def test_quarantine_can_be_switched_off(make_manager):
    pool = unattended(make_manager(quarantine=False).sync)
    for name in EFFECTS:
        candidate(pool, name)
    live(pool, EFFECTS, 150, base=0.8)
    pool.flush()
    assert pool.get_exp("bad").trust.value == "trusted"
    assert lifts_of(pool)["bad"].verdict == "hurts"


def test_a_pool_that_hurts_as_a_whole_is_taken_out_as_a_whole(quick):
    """Thirty of forty hurt. None has been seen often enough to be accused alone."""
    chance = random.Random(4)
    names = [f"e{number}" for number in range(40)]
    for name in names:
        candidate(quick, name)
    for number in range(400):
        near = chance.sample(names, 4)
        shown = [name for name in near if chance.random() >= 0.2]
        id_ = called(quick, number, shown, [name for name in near if name not in shown], 0.2)
        quick.feedback(id_, float(chance.random() < 0.8 - 0.2 * sum(int(name[1:]) < 30 for name in shown)))
    with pytest.warns(ExpPoolWarning, match="lower its outcomes as a whole"):
        quick.flush()
    trusted = [name for name in names if quick.get_exp(name).trust.value == "trusted"]
    assert not [name for name in trusted if int(name[1:]) < 30]
    (function,) = quick.report().functions
    assert function.alarms == 1
    assert math.isnan(function.randomised[0])  # nothing is known yet of those who are left
    assert "in all" in quick.history("e3")[-1].detail["reason"]


@pytest.mark.parametrize("failing", range(1, 9))
def test_a_rule_that_is_interrupted_is_finished_the_next_time(make_manager, failing):
    """Whichever of its writes fails: afterwards it is out once, and nothing is accused in its place."""
    store = FaultyStore(MemoryStore())
    pool = unattended(make_manager(store=store).sync)
    for name in EFFECTS:
        candidate(pool, name)
    live(pool, EFFECTS, 150, base=0.8)
    writes = []

    def plan(method, _):
        writes.extend([method] * (method in ("put_many", "append_log", "write_state")))
        return Fault(StoreError("made to fail"), after=failing % 2 == 0) if len(writes) == (failing + 1) // 2 else None

    store.plan = plan
    with suppress(StoreError):
        pool.flush()
    store.plan = None
    pool.feedback(called(pool, "another"), 1.0)
    pool.flush()
    assert [name for name in EFFECTS if pool.get_exp(name).trust.value == "quarantined"] == ["bad"]
    (folded,) = pool._outcomes.all("default")
    assert folded.lifts.is_out("bad")
