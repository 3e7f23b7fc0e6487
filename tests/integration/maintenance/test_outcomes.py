"""Feedback, history and report, through the manager: what is kept, what follows from it, what goes."""

import asyncio
import json
import math

import numpy as np
import pytest
from support.outcomes import EFFECTS, called, candidate, lifts_of, live, unattended

from exp_pool import Experience
from exp_pool.errors import InvalidInputError, NotFoundError, StoreError
from exp_pool.maintenance import outcomes as outcomes_module
from exp_pool.runtime import clock
from exp_pool.runtime.forks import reinit
from exp_pool.stores.memory import MemoryStore
from exp_pool.testing import FaultyStore, every
from exp_pool.testing.faults import Fault


@pytest.fixture(params=["memory", "sqlite", "json"])
def pool(request, make_manager, tmp_path):
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db", "json": f"json:///{tmp_path}/pool"}
    return make_manager(store=urls[request.param]).sync


# ── Feedback ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_feedback_stands_with_the_experience_in_order(pool):
    id_ = called(pool, 1)
    pool.feedback(id_, 0.25, "half of it\ud800")
    pool.feedback(id_, 1)
    said = [(entry.what, entry.id, entry.detail) for entry in pool.history(id_)]
    assert said[1:] == [
        ("feedback", id_, {"value": 0.25, "reason": "half of it\ud800"}),
        ("feedback", id_, {"value": 1.0, "reason": ""}),
    ]
    assert said[0][:2] == ("stored", id_)


@pytest.mark.parametrize("value", [True, None, "1", -0.01, 1.01, math.nan, math.inf, [1]])
def test_feedback_is_a_number_of_0_to_1(pool, value):
    id_ = called(pool, 1)
    with pytest.raises(InvalidInputError, match="value="):
        pool.feedback(id_, value)
    with pytest.raises(InvalidInputError, match="reason="):
        pool.feedback(id_, 1, reason=7)
    assert [entry.what for entry in pool.history(id_)] == ["stored"]
    assert pool.report().functions == ()


def test_feedback_on_what_is_not_there(pool):
    for id_ in ("nobody", called(pool, 1)):
        pool.delete_exp(id_)
        with pytest.raises(NotFoundError):
            pool.feedback(id_, 1)
        with pytest.raises(NotFoundError):
            pool.history(id_)


def test_feedback_credits_those_shown_and_those_left_out(pool):
    for name in ("a", "b", "c"):
        candidate(pool, name)
    pool.feedback(called(pool, 1, ["a", "b"], ["c"]), 1.0)
    pool.feedback(called(pool, 2, ["a"], ["b"]), 0.0)
    pool.feedback(called(pool, 3, ["a"], holdout=0), 1.0)
    counts = {id_: (lift.shown, lift.held_out) for id_, lift in lifts_of(pool).items()}
    assert counts == {"a": (3, 0), "b": (1, 1), "c": (0, 1)}
    assert lifts_of(pool)["b"].lift > 0
    assert math.isnan(lifts_of(pool)["a"].lift)


def test_feedback_may_come_late(pool):
    """The call was answered anew meanwhile: what was shown then is credited then."""
    candidate(pool, "a")
    old = called(pool, 1, ["a"])
    new = called(pool, 1)
    assert pool.get_exp(old) is not None
    pool.feedback(old, 1.0)
    assert lifts_of(pool)["a"].shown == 1
    stored = [(e.id, e.detail["current"]) for e in pool.history(new) if e.what == "stored"]
    assert stored == [(old, False), (new, True)]
    assert [e.what for e in pool.history(new)] == ["stored", "stored"]  # the feedback is that of the other answer


def test_the_last_of_several_counts_in_the_report(pool):
    candidate(pool, "a")
    first = called(pool, 1, ["a"])
    for value in (0.0, 0.5, 1.0):
        pool.feedback(first, value)
    pool.feedback(called(pool, 2, [], ["a"]), 0.25)
    (function,) = pool.report().functions
    assert (function.outcomes, function.observed.mean_with, function.observed.mean_without) == (2, 1.0, 0.25)
    assert function.lifts[0].shown == 1
    assert function.lifts[0].lift == pytest.approx(0.75)


def test_a_reader_of_everything_says_the_same_as_one_who_read_as_it_came(tmp_path, make_manager):
    url = f"sqlite:///{tmp_path}/pool.db"
    one, other = make_manager(store=url).sync, make_manager(store=url).sync
    for name in ("a", "b"):
        candidate(one, name)
    id_ = called(one, "twice", ["a"], ["b"])
    one.feedback(id_, 0.0)
    live(one, {"a": 0.2, "b": 0.0}, 30, seed=1)
    one.report()
    live(other, {"a": 0.2, "b": 0.0}, 30, seed=2)
    other.feedback(id_, 1.0)  # the other has not read that log before
    ours, theirs = (p.report().to_dict() for p in (one, make_manager(store=url).sync))
    assert ours["functions"][0]["outcomes"] == theirs["functions"][0]["outcomes"] == 61
    for mine, their in zip(*(report["functions"][0]["lifts"] for report in (ours, theirs)), strict=True):
        assert mine["lift"] == pytest.approx(their["lift"])
        assert (mine["id"], mine["shown"], mine["held_out"]) == (their["id"], their["shown"], their["held_out"])


def test_two_who_both_thought_theirs_the_first_count_once(pool):
    candidate(pool, "a")
    record = pool.store.get_many("default", [called(pool, 1, ["a"])], by="id")[0]
    fellow = outcomes_module.Outcomes(pool.store, pool.notices, quarantine=True, confidence=0.95)
    fellow._said_before = lambda *_: None
    fellow.add(record, 0.0, "")
    fellow.add(record, 1.0, "")
    assert (lifts_of(pool)["a"].shown, pool.report().functions[0].observed.mean_with) == (1, 1.0)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("written", [1, 2])
def test_feedback_that_failed_halfway_may_be_said_again(make_manager, written, after):
    """Two logs are written; whichever fails, before or after the store did it, saying it again counts it once."""
    store = FaultyStore(MemoryStore())
    pool = make_manager(store=store).sync
    candidate(pool, "a")
    pool.feedback(called(pool, 0, [], ["a"]), 0.0)
    id_ = called(pool, 1, ["a"])
    pool.flush()
    appends = []

    def plan(method, _):
        appends.extend([method] * (method == "append_log"))
        broken = Fault(StoreError("made to fail"), after=after)
        return broken if method == "append_log" and len(appends) == written else None

    store.plan = plan
    with pytest.raises(StoreError):
        pool.feedback(id_, 0.5)
    pool.feedback(id_, 0.5)
    store.plan = None
    (function,) = pool.report().functions
    assert (function.outcomes, function.observed.mean_with) == (2, 0.5)
    assert (function.lifts[0].shown, function.lifts[0].held_out) == (1, 1)


# ── What is kept, and what goes ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["delete", "erase", "clear", "evict"])
def test_no_word_of_a_deleted_experience_is_left(tmp_path, make_manager, how):
    manager = make_manager(store=f"sqlite:///{tmp_path}/pool.db", max_entries=100)
    pool = manager.sync
    candidate(pool, "a")
    id_ = called(pool, 1, ["a"])
    pool.feedback(id_, 0.0, "Alice Doe complained")
    pool.report()
    if how == "delete":
        pool.delete_exp(id_)
    elif how == "erase":
        pool.erase({"id": id_})
    elif how == "clear":
        pool.delete_all_exps()
    else:
        for number in range(120):
            called(pool, f"more {number}")
        pool.flush()
        assert pool.get_exp(id_) is None
    logs = [entry for name in pool.store.names("default").logs for _, entry in pool.store.read_log("default", name)]
    assert "Alice" not in "".join(logs)
    for entry in map(json.loads, logs):
        assert not entry.keys() - {"at", "id", "value", "shown", "left_out", "holdout", "before"}
    assert len(pool.report().functions) == (0 if how == "clear" else 1)


def test_after_everything_was_deleted_it_begins_anew(pool):
    candidate(pool, "a")
    live(pool, {"a": 0.0}, 5)
    assert pool.report().functions[0].outcomes == 5
    pool.delete_all_exps()
    assert pool.report().functions == ()
    candidate(pool, "b")
    live(pool, {"b": 0.0}, 3, seed=1)
    assert pool.report().functions[0].outcomes == 3
    assert set(lifts_of(pool)) == {"b"}


def test_deleted_experiences_are_not_in_the_report(pool):
    for name in ("a", "b"):
        candidate(pool, name)
    live(pool, {"a": 0.0, "b": 0.0}, 5)
    pool.delete_exp("a")
    assert set(lifts_of(pool)) == {"b"}


def test_logs_are_added_up_and_dropped(pool, monkeypatch):
    """What is kept does not grow with the calls, and nothing is lost or counted twice on the way."""
    monkeypatch.setattr(outcomes_module, "_SEGMENT", 10)
    for name in ("a", "b"):
        candidate(pool, name)
    kept = []
    unattended(pool)
    for number in range(12):
        live(pool, {"a": 0.2, "b": 0.0}, 10, seed=number)
        pool.flush()
        later = clock.now_us() + int(2 * 3600e6 * (number + 1))
        monkeypatch.setattr(outcomes_module, "now_us", lambda later=later: later)
        pool.flush()
        logs = [name for name in pool.store.names("default").logs if name.startswith("outcomes:")]
        kept.append(sum(len(pool.store.read_log("default", name)) for name in logs))
        assert pool.report().functions[0].outcomes == 10 * (number + 1)
    assert max(kept) <= 40
    before = lifts_of(pool)
    reinit(pool._outcomes)  # as a process that begins now
    after = lifts_of(pool)
    for id_, lift in before.items():
        assert (after[id_].shown, after[id_].held_out) == (lift.shown, lift.held_out)
        assert after[id_].lift == pytest.approx(lift.lift)


@pytest.mark.parametrize("failing", ["drop_logs", "write_state"])
def test_adding_up_that_is_interrupted_counts_nothing_twice(make_manager, monkeypatch, failing):
    monkeypatch.setattr(outcomes_module, "_SEGMENT", 10)
    store = FaultyStore(MemoryStore())
    pool = unattended(make_manager(store=store).sync)
    candidate(pool, "a")
    live(pool, {"a": 0.0}, 10)
    pool.flush()
    monkeypatch.setattr(outcomes_module, "_GRACE_S", 0.0)
    live(pool, {"a": 0.0}, 5, seed=1)
    written = []

    def plan(method, _):
        written.extend([method] * (method == failing))
        return Fault(StoreError("made to fail")) if method == failing and len(written) == written_at else None

    written_at = 1 if failing == "drop_logs" else 2  # the sums are written, how far they go is not
    store.plan = plan
    with pytest.raises(StoreError):
        pool.flush()
    store.plan = None
    reinit(pool._outcomes)  # as a process that begins now
    assert pool.report().functions[0].outcomes == 15
    for seed in (2, 3, 4):
        live(pool, {"a": 0.0}, 10, seed=seed)
        pool.flush()
    assert pool.report().functions[0].outcomes == 45
    logs = [name for name in pool.store.names("default").logs if name.startswith("outcomes:")]
    assert len(logs) <= 2


def test_a_namespace_knows_nothing_of_another(tmp_path, make_manager):
    url = f"sqlite:///{tmp_path}/pool.db"
    one, other = make_manager(store=url, namespace="one").sync, make_manager(store=url, namespace="other").sync
    candidate(one, "a")
    id_ = called(one, 1, ["a"])
    one.feedback(id_, 1.0)
    assert other.report().functions == ()
    with pytest.raises(NotFoundError):
        other.feedback(id_, 1.0)


def test_what_was_noted_wrongly_breaks_nothing(pool):
    for number, noted in enumerate(["x", {"holdout": "y"}, {"holdout": 2, "left_out": []}, {"left_out": 3}, None]):
        made = Experience(function="act", request=f"odd {number}", response=1, metadata={"exp_pool": noted})
        pool.feedback(pool.create_exp(made), 1.0)
    assert pool.report().functions[0].outcomes == 5


def test_damaged_sums_and_entries_cost_no_more_than_themselves(pool):
    candidate(pool, "a")
    live(pool, {"a": 0.0}, 4)
    store = pool.store
    (log,) = [name for name in store.names("default").logs if name.startswith("outcomes:")]
    store.append_log("default", log, ["{half an ent"])
    live(pool, {"a": 0.0}, 4, seed=1)
    pool.flush()
    assert pool.report().functions[0].outcomes == 8
    (state,) = [name for name in store.names("default").states if name.startswith("outcomes:")]
    store.write_state("default", state, "rubbish", store.read_state("default", state).revision)
    pool.report()
    live(pool, {"a": 0.0}, 2, seed=2)
    assert pool.report().functions[0].outcomes >= 2


@pytest.fixture(params=["memory", "sqlite"])
def quick(request, make_manager, tmp_path):
    """For what takes hundreds of calls."""
    urls = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}
    return unattended(make_manager(store=urls[request.param]).sync)


# ── Report and history ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_report_reads_well(pool):
    assert "no feedback yet" in str(pool.report())
    for name in EFFECTS:
        candidate(pool, name)
    pool.create_exp(Experience(function="act", request="<b>bold</b>", response=1, id="markup", origin="automatic"))
    live(pool, {**EFFECTS, "markup": 0.0}, 120, base=0.8)
    pool.feedback(called(pool, "alone", holdout=0), 1.0)
    text, page = str(pool.report()), pool.report()._repr_html_()
    for expected in ("act\n", "121 calls with feedback", "observed, not randomised", "hurts", "how to bad", "+0."):
        assert expected in text
    assert "&lt;b&gt;bold" in page
    assert "<b>bold" not in page
    plain = pool.report().to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["functions"][0]["reuse"] is None


def test_the_report_says_what_is_not_known(pool):
    candidate(pool, "a")
    pool.feedback(called(pool, 1, ["a"], holdout=0), 1.0)
    assert "use Inject(..., holdout=0.1)" in str(pool.report())
    (lift,) = pool.report().to_dict()["functions"][0]["lifts"]
    assert (lift["lift"], lift["shrunken"], lift["verdict"]) == (None, None, "unclear")


def test_history_tells_of_annotations_trust_and_other_answers_in_order(pool):
    first = called(pool, 1)
    pool.annotate(first, expected="better", metadata={"by": "me"})
    pool.update_exp(first, trust="quarantined")
    pool.feedback(first, 0.5, "so so")
    entries = pool.history(first)
    assert [entry.what for entry in entries] == ["stored", "annotate", "trust", "feedback"]
    assert entries[1].detail == {"metadata": {"by": "me"}, "expected": "better"}
    assert entries == sorted(entries, key=lambda entry: entry.at)
    assert all(entry.at.tzinfo is not None for entry in entries)


def test_the_async_manager_has_the_same(make_manager):
    manager = make_manager()

    async def main():
        id_ = await manager.create_exp(Experience(function="act", request="r", response=1))
        await manager.feedback(id_, np.float64(0.5), reason="fine")
        with pytest.raises(InvalidInputError):
            await manager.feedback(id_, 2)
        return await manager.history(id_), await manager.report()

    history, report = asyncio.run(main())
    assert history[-1].detail == {"value": 0.5, "reason": "fine"}
    assert report.functions[0].outcomes == 1


def test_a_store_that_fails_says_so_to_the_one_who_gives_feedback(make_manager):
    store = FaultyStore(MemoryStore(), every("append_log"))
    pool = make_manager(store=store).sync
    id_ = called(pool, 1)
    with pytest.raises(StoreError):
        pool.feedback(id_, 1.0)
