"""A change is applied or not, whatever happens in its midst, and its history says which.

Processes are killed before and after every call of the store (SQLite); every call fails, once or from then on (memory,
where `FaultyStore` stands before); processes sleep so long that another one ends their change, and wake.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from support.children import told_by
from support.curated_pools import contents, of_everything

from exp_pool import Experience, ExpManager
from exp_pool.core.record import sized
from exp_pool.curation import history, recover, relabel, undo
from exp_pool.curation.change_log import commit
from exp_pool.curation.change_set import planned
from exp_pool.errors import ConflictError, StoreError
from exp_pool.stores.memory import MemoryStore
from exp_pool.testing import Fault, FaultyStore, at

FULL = os.environ.get("EXP_POOL_FULL") == "1"
STRIDE = 1 if FULL else 4
LEAST_STEPS = 40  # of an apply or an undo; a call that is not counted any more would go unnoticed


@pytest.mark.parametrize("operation", ["apply", "undo"])
def test_a_killed_process_leaves_a_change_applied_or_not(operation, tmp_path):
    script = Path(__file__).with_name("curation_steps.py")
    tries, trouble = told_by(script, operation, str(tmp_path), str(STRIDE), *(["both"] if FULL else []))
    assert [each for each in tries if each["wrong"]] == [], trouble
    assert tries[-1]["n"] >= LEAST_STEPS
    assert {each["status"] for each in tries} == {0, -9}
    standings = {each["standing"] for each in tries}
    assert {"taken back", "applied"} <= standings, "every phase was met"


class World:
    """One store, and what a change does to it: rows edited, deleted and added."""

    def __init__(self):
        self.store = MemoryStore()
        self.faulty = FaultyStore(self.store)
        self.manager = ExpManager(store=self.faulty, index="none://", embedder="none")
        self.pool = self.manager.sync
        self.pool.create_exps(of_everything(9))
        rows = [self.pool.editor.record(exp.id) for exp in self.pool.iter_exps()]
        edited = [(row, sized(replace(row, expected='"said"', strategy="s"))) for row in rows[:4]]
        new = self.pool.editor.record_of(Experience(id="new", function="ask", request="new", response="r"))
        self.change = planned(self.pool.namespace, "apply", [*edited, (rows[5], None), (rows[6], None), (None, new)])
        self.before = contents(self.pool)

    def apply(self):
        return commit(self.pool, self.change, who="ann", why="")

    def lease_ends(self):
        self.store._leases.clear()


def once(n, late):
    return at(n, after=late)


def from_then_on(n, late):
    def plan(name, count):
        if count < n:
            return None
        return Fault(StoreError("down"), after=late and count == n)

    return plan


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("trouble", [once, from_then_on])
def test_whichever_call_fails_the_change_is_applied_or_not(trouble, late):
    n, outcomes = 0, set()
    while True:
        n += 1
        world = World()
        world.faulty.calls.clear()
        world.faulty.plan = trouble(n, late)
        said = None
        try:
            world.apply()
        except StoreError as err:
            said = str(err)
        failed = len(world.faulty.calls) >= n
        world.faulty.plan = None
        world.lease_ends()
        named = [note.standing for note in history(world.manager)]
        ended = recover(world.manager)
        notes = history(world.manager)
        applied = bool(notes) and notes[0].standing == "applied"
        outcomes.add((applied, said is None))
        found = contents(world.pool)
        if applied:
            assert {id_ for id_, row in found.items() if row[0].get("strategy") == "s"} == set(world.change.changed), n
            assert "new" in found, n
            assert len(found) == 8, n
        else:
            assert found == world.before, n
        if "unfinished" in named or ended is not None:
            assert "may be unfinished" in said, n
        if said and "nothing is changed" in said:
            assert not applied, n
        assert recover(world.manager) is None, n
        world.pool.close()
        if not failed:
            break
    assert n > 30
    assert (False, False) in outcomes
    assert (True, True) in outcomes


@pytest.mark.parametrize("method", ["put_many", "append_log", "write_state"])
def test_a_process_that_slept_does_no_harm_when_it_wakes(method):
    world = World()
    done = []

    def meanwhile(other):
        done.append(recover(other))
        relabel(other, [next(iter(world.change.changed))], {"model": "theirs"}, who="other")
        done.append(contents(other.sync))

    real, calls = getattr(world.store, method), []

    def wakes(*args, **kwargs):
        calls.append(method)
        if len(calls) == (2 if method == "write_state" else 1):
            world.lease_ends()
            meanwhile(ExpManager(store=world.store, index="none://", embedder="none"))
        return real(*args, **kwargs)

    sleeper = ExpManager(store=_Waking(world.store, method, wakes), index="none://", embedder="none")
    with pytest.raises(ConflictError):
        commit(sleeper.sync, world.change, who="ann", why="")
    assert done[0].standing == "taken back"
    assert contents(sleeper.sync) == done[1]
    assert [(note.who, note.standing) for note in history(sleeper)] == [("ann", "taken back"), ("other", "applied")]
    assert recover(sleeper) is None


def test_a_process_that_slept_through_the_end_and_the_undo_of_its_change_does_not_make_it_again():
    """It wakes in the midst of finishing: what it would delete is there again, and stays."""
    world = World()
    real, calls = world.store.put_many, []

    def wakes(puts):
        calls.append(len(puts))
        if len(calls) == 2:  # the first one edits, this one adds
            world.lease_ends()
            other = ExpManager(store=world.store, index="none://", embedder="none")
            assert recover(other).standing == "applied"
            undo(other, history(other)[0].id)
            assert contents(other.sync) == world.before
        return real(puts)

    sleeper = ExpManager(store=_Waking(world.store, "put_many", wakes), index="none://", embedder="none")
    with pytest.raises(ConflictError, match="no sign of life"):
        commit(sleeper.sync, world.change, who="ann", why="")
    assert contents(sleeper.sync) == world.before
    assert [note.standing for note in history(sleeper)] == ["undone", "applied"]


def test_a_change_that_somebody_ended_is_not_decided():
    """Whoever holds the lease: the state says that it was taken back."""
    world = World()
    real, calls = world.store.write_state, []

    def ended(*args):
        calls.append(args)
        if len(calls) == 3:  # journalling, applying, and now it would be decided
            journal = ExpManager(store=world.store, index="none://", embedder="none").sync.journal
            assert journal._end_unfinished(lambda: None).standing == "taken back"
        return real(*args)

    sleeper = ExpManager(store=_Waking(world.store, "write_state", ended), index="none://", embedder="none")
    with pytest.raises(ConflictError, match="was ended by another process"):
        commit(sleeper.sync, world.change, who="ann", why="")
    assert contents(sleeper.sync) == world.before


class _Waking:
    def __init__(self, store, method, wakes):
        self._store = store
        setattr(self, method, wakes)

    def __getattr__(self, name):
        return getattr(self._store, name)


def test_two_at_once_one_after_the_other(tmp_path):
    """Threads that change the same namespace at the same moment: each change is whole."""
    from concurrent.futures import ThreadPoolExecutor

    with ExpManager(store=f"sqlite:///{tmp_path}/pool.db", index="none://", embedder="none") as manager:
        ids = manager.sync.create_exps(of_everything(4))
        with ThreadPoolExecutor(4) as threads:
            changes = list(threads.map(lambda n: relabel(manager, [ids[n]], {"model": str(n)}, who=str(n)), range(4)))
        assert [manager.sync.get_exp(id_).model for id_ in ids] == ["0", "1", "2", "3"]
        assert {note.id for note in history(manager)} == {change.id for change in changes}
