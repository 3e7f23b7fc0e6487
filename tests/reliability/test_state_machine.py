"""A pool of two processes, on SQLite and a real Chroma, says after any sequence of operations what a plain dict says.

Hypothesis makes up sequences of adding, correcting, deleting, expiring, evicting, reopening and losing the index, each
step done here or in a second process that has the same files open, and compares: counts, rows, history, exact lookups,
and the nearest five, which are those of brute force. 12 runs of 20 steps; 200 of 30 with EXP_POOL_FULL=1.
"""

import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from conftest import letters
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run

from exp_pool import Experience, ExpManager
from exp_pool.protocols import EvictionOrder
from exp_pool.runtime import clock as _clock

RUNS, STEPS = (200, 30) if os.environ.get("EXP_POOL_FULL") else (12, 20)
TOLERANCE = 1e-5  # of a similarity in single precision
REQUESTS = ["".join(some) for n in (1, 2, 3) for some in itertools.combinations_with_replacement("abcd", n)]
FUNCTIONS = ["ask", "tell"]


class Clock:
    """The time of day, as far ahead as a test wants it; durations are those of the real clock."""

    ahead_ns = 0
    monotonic = staticmethod(time.monotonic)

    def time_ns(self):
        return time.time_ns() + self.ahead_ns


def ask(req):
    raise AssertionError("looking something up runs nothing")


# What can be done to a pool, in either process: arguments and results are JSON


def open_pool(folder):
    # index_from=1: Chroma answers for the first row already
    return ExpManager(
        store=f"sqlite:///{folder}/pool.db", index=f"chroma:///{folder}/chroma", embedder=letters, index_from=1
    )


def evict(pool, count):
    return [gone.id for gone in pool._store.evict("default", EvictionOrder.LRU, count)]


def search(pool, text, function):
    return [(hit.experience.id, hit.similarity) for hit in pool.search(text, function=function, top_k=5)]


DOINGS = {
    "create": lambda pool, rows: pool.create_exps([Experience.from_dict(row) for row in rows]),
    "update": lambda pool, id_, changes: pool.update_exp(id_, **changes).id,
    "annotate": lambda pool, id_, expected: pool.annotate(id_, expected=expected, metadata={"by": "me"}).id,
    "delete": lambda pool, id_: pool.delete_exp(id_),
    "delete where": lambda pool, where: pool.delete_exps(where),
    "delete all": lambda pool: pool.delete_all_exps(),
    "clear expired": lambda pool: pool.clear_expired(),
    "clear by key": lambda pool, key: pool.clear_by_key(key),
    "evict": evict,
    "flush": lambda pool: pool.flush(),
    "search": search,
}


def second_process():
    """Does what it is told on its standard input, one JSON list a line."""
    answers, sys.stdout = sys.stdout, sys.stderr
    _clock.time = clock = Clock()
    manager = None
    for line in sys.stdin:
        clock.ahead_ns, what, *given = json.loads(line)
        result = None
        if what == "open":
            manager = open_pool(*given)
        elif what == "close":
            manager.sync.close()
        else:
            result = DOINGS[what](manager.sync, *given)
        print(json.dumps(result), file=answers, flush=True)


class SecondProcess:
    def __init__(self):
        here = Path(__file__).resolve()
        paths = [str(here.parents[2]), *sys.path]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EXP_POOL_")}
        self._process = subprocess.Popen(
            [sys.executable, str(here)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )

    def do(self, ahead_ns, what, *given):
        self._process.stdin.write(json.dumps([ahead_ns, what, *given]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the second process ended at {what} {given}"
        return json.loads(answer)

    def end(self):
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(60) == 0


@dataclass
class Row:
    experience: Experience
    number: int  # in the order in which they came
    current: bool = True

    @property
    def answers(self):
        e = self.experience
        return self.current and e.trust == "trusted" and not self.expired

    @property
    def expired(self):
        return self.experience.expires_at is not None and self.experience.expires_at <= _clock.now()

    @property
    def protected(self):
        return self.experience.annotated or self.experience.origin == "manual"


class Oracle:
    """What a pool should say: a dict of rows."""

    def __init__(self):
        self.rows = {}
        self.deleted = set()
        self._numbers = itertools.count()

    def current(self):
        return {id_: row for id_, row in self.rows.items() if row.current}

    def add(self, experience):
        row = Row(experience, next(self._numbers))
        for other in self.current().values():
            if other.experience.key == experience.key:
                if other.experience.annotated and not experience.annotated and experience.origin == "automatic":
                    row.current = False
                else:
                    other.current = False
        self.rows[experience.id] = row
        self.deleted.discard(experience.id)

    def change(self, id_, **changes):
        row = self.rows[id_]
        row.experience = Experience.model_validate({**dict(row.experience), **changes})

    def delete(self, ids):
        for id_ in ids:
            del self.rows[id_]
        self.deleted |= set(ids)
        return len(ids)

    def to_evict(self, count):
        rows = [(id_, row) for id_, row in self.rows.items() if not row.protected]
        rows.sort(
            key=lambda item: (not item[1].expired, item[1].current, item[1].experience.created_at, item[1].number)
        )
        return [id_ for id_, _ in rows[:count]]

    def similarities(self, text, function):
        """Of every row that may be found."""
        rows = [row for row in self.rows.values() if row.answers and function in (None, row.experience.function)]
        if not rows:
            return {}
        vectors = letters([text] + [row.experience.request for row in rows]).astype(float)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return dict(zip((row.experience.id for row in rows), vectors[1:] @ vectors[0], strict=True))


def assert_nearest(found, similarities, limit=5):
    """That what was found is a right answer: the nearest, nearest first; of those equally near it may be any."""
    expected = sorted(similarities.values(), reverse=True)[:limit]
    assert [similarity for _, similarity in found] == pytest.approx(expected, abs=TOLERANCE)
    assert len({id_ for id_, _ in found}) == len(found)
    for id_, similarity in found:
        assert id_ in similarities, "it may not be found"
        assert similarity == pytest.approx(similarities[id_], abs=TOLERANCE)
    if len(expected) == limit:
        nearer = {id_ for id_, similarity in similarities.items() if similarity > expected[-1] + 2 * TOLERANCE}
        assert nearer <= {id_ for id_, _ in found}


HOURS = timedelta(hours=1)
IN_TIME = {"for ever": None, "soon": 1.5 * HOURS, "past": -HOURS}

DRAFT = {
    "request": REQUESTS,
    "function": ["ask", "tell"],
    "expires": ["for ever", "for ever", "soon", "past"],
    "origin": ["automatic", "automatic", "manual"],
    "trust": ["trusted"] * 4 + ["quarantined"],
    "annotated": [False] * 5 + [True],
    "again": [False, False, True],  # under the id of one that was deleted, if there is one
    "team": ["red", "blue"],
}


def draft(number):
    """The choice of this number, of all that `DRAFT` allows: one number draws faster than eight values do."""
    chosen = {}
    for name, values in DRAFT.items():
        number, place = divmod(number, len(values))
        chosen[name] = values[place]
    return chosen


drafts = st.lists(st.integers(0, math.prod(map(len, DRAFT.values())) - 1).map(draft), min_size=3, max_size=12)
there = st.booleans()  # whether the second process does it
wheres = st.one_of(
    st.sampled_from([*REQUESTS[:4], "ab", "cd"]).map(lambda text: {"request": {"contains": text}}),  # many alike
    st.sampled_from(FUNCTIONS).map(lambda name: {"function": name}),
    st.sampled_from([{"trust": "quarantined"}, {"metadata.team": "red"}, {"annotated": True}]),
)
choices = st.integers(0, 10**6)


class Pools(RuleBasedStateMachine):
    def __init__(self, second, clock):
        super().__init__()
        self.second, self.clock = second, clock
        self.clock.ahead_ns = 0
        self.folder = tempfile.mkdtemp(prefix="pool-")
        self.oracle = Oracle()
        self.numbers = itertools.count()
        self.second_is_open = False
        self.watchful = False
        self.open()

    def open(self):
        self.manager = open_pool(self.folder)
        self.ask = self.manager.exp_cache(name="ask")(ask)

    def close_second(self):
        if self.second_is_open:
            self.second_is_open = False
            self.second.do(self.clock.ahead_ns, "close")

    def do(self, there, what, *given):
        if not there:
            return DOINGS[what](self.manager.sync, *json.loads(json.dumps(given)))
        if not self.second_is_open:
            self.second_is_open = True
            self.second.do(self.clock.ahead_ns, "open", self.folder)
        return self.second.do(self.clock.ahead_ns, what, *given)

    def one_of_all(self, choice):
        return sorted(self.oracle.rows)[choice % len(self.oracle.rows)]

    def teardown(self):
        try:
            self.what_is_found_is_what_brute_force_finds()
        finally:
            self.manager.sync.close()
            self.close_second()
            shutil.rmtree(self.folder)

    @initialize(watchful=st.booleans(), first=drafts, second=drafts)
    def begin(self, watchful, first, second):
        self.watchful = watchful  # a search embeds what is owed, so some runs go without one after each step
        self.add(False, first)
        self.add(True, second)
        self.flush(False)

    # What is done

    @rule(drafts=drafts)
    def add_here(self, drafts):
        self.add(False, drafts)

    @rule(drafts=drafts)
    def add_there(self, drafts):
        self.add(True, drafts)

    def add(self, there, drafts):
        experiences = [self.experience(**draft) for draft in drafts]
        assert self.do(there, "create", [e.to_dict() for e in experiences]) == [e.id for e in experiences]
        for experience in experiences:
            self.oracle.add(experience)

    def experience(self, request, function, origin, trust, team, expires, annotated, again):
        number = next(self.numbers)
        free = sorted(self.oracle.deleted)
        if again and free:
            self.oracle.deleted.discard(free[0])
        lasts = IN_TIME[expires]
        return Experience(
            id=free[0] if again and free else f"{'e' if number % 2 else 'é/'}{number}",
            function=function,
            request=request,
            response=f"response {number}",
            **({"expected": f"expected {number}"} if annotated else {}),
            origin=origin,
            trust=trust,
            metadata={"team": team},
            expires_at=None if lasts is None else _clock.now() + lasts,
        )

    @precondition(lambda self: self.oracle.rows)
    @rule(
        there=there,
        choice=choices,
        changes=st.fixed_dictionaries(
            {},
            optional={
                "response": st.integers(),
                "trust": st.sampled_from(["trusted", "quarantined"]),
                "metadata": st.sampled_from([{"team": "blue"}, {}]),
                "scores": st.floats(0, 1).map(lambda value: {"me": {"value": value}}),
                "expires_at": st.sampled_from(sorted(IN_TIME)),
            },
        ),
    )
    def update(self, there, choice, changes):
        id_ = self.one_of_all(choice)
        if "expires_at" in changes:
            lasts = IN_TIME[changes["expires_at"]]
            changes = {**changes, "expires_at": None if lasts is None else (_clock.now() + lasts).isoformat()}
        self.do(there, "update", id_, changes)
        self.oracle.change(id_, **changes)

    @precondition(lambda self: self.oracle.rows)
    @rule(there=there, choice=choices, expected=st.integers())
    def annotate(self, there, choice, expected):
        id_ = self.one_of_all(choice)
        self.do(there, "annotate", id_, expected)
        metadata = {**self.oracle.rows[id_].experience.metadata, "by": "me"}
        self.oracle.change(id_, expected=expected, metadata=metadata)

    @precondition(lambda self: self.oracle.rows)
    @rule(there=there, choice=choices)
    def delete(self, there, choice):
        id_ = self.one_of_all(choice)
        assert self.do(there, "delete", id_) is True
        self.oracle.delete([id_])

    @rule(there=there, where=wheres)
    def delete_where(self, there, where):
        (field, value), *_ = where.items()
        found = {
            "request": lambda e: value["contains"] in e.request,
            "function": lambda e: e.function == value,
            "trust": lambda e: e.trust == value,
            "metadata.team": lambda e: e.metadata.get("team") == value,
            "annotated": lambda e: e.annotated,
        }[field]
        ids = [id_ for id_, row in self.oracle.current().items() if found(row.experience)]
        assert self.do(there, "delete where", where) == self.oracle.delete(ids)

    @precondition(lambda self: len(self.oracle.rows) > 10)
    @rule(there=there)
    def delete_all(self, there):
        assert self.do(there, "delete all") == self.oracle.delete(list(self.oracle.rows))

    @rule(there=there)
    def clear_expired(self, there):
        ids = [id_ for id_, row in self.oracle.rows.items() if row.expired]
        assert self.do(there, "clear expired") == self.oracle.delete(ids)

    @precondition(lambda self: self.oracle.rows)
    @rule(there=there, choice=choices)
    def clear_by_key(self, there, choice):
        key = self.oracle.rows[self.one_of_all(choice)].experience.key
        ids = [id_ for id_, row in self.oracle.rows.items() if row.experience.key == key]
        assert self.do(there, "clear by key", key) == self.oracle.delete(ids)

    @rule(there=there, count=st.integers(1, 10))
    def evict(self, there, count):
        gone = self.oracle.to_evict(count)
        assert self.do(there, "evict", count) == gone
        self.oracle.delete(gone)

    @rule(hours=st.sampled_from([1, 1, 1, 2, 24 * 100]))
    def time_passes(self, hours):
        self.clock.ahead_ns += hours * 3600 * 10**9

    @rule(there=there)
    def flush(self, there):
        self.do(there, "flush")

    @rule(flushed_between=st.booleans())
    def reopen(self, flushed_between):
        self.manager.sync.close()
        if flushed_between:  # the index is the second process's from now on
            self.do(True, "flush")
        self.open()

    @rule()
    def the_second_process_closes(self):
        self.close_second()

    @rule(flushed=st.booleans())
    def the_index_is_lost(self, flushed):
        self.manager.sync.close()
        self.close_second()
        shutil.rmtree(Path(self.folder, "chroma"), ignore_errors=True)
        self.open()
        if flushed:
            self.flush(False)

    # What must be so

    @rule(there=there, text=st.sampled_from([*REQUESTS, "e", "abcde"]), function=st.sampled_from([None, *FUNCTIONS]))
    def the_nearest_are_found(self, there, text, function):
        assert_nearest(self.do(there, "search", text, function), self.oracle.similarities(text, function))

    @rule()
    def what_is_found_is_what_brute_force_finds(self):
        for text in ("a", "b", "cd", "abd", "e"):
            self.the_nearest_are_found(False, text, None)

    @invariant()
    def what_was_just_written_is_found(self):
        if self.watchful:
            self.the_nearest_are_found(False, "ad", None)

    @invariant()
    def nothing_went_wrong(self):
        stats = self.manager.stats()
        assert (stats.degraded, stats.repaired) == (0, 0)

    @invariant()
    def rows_are_those_of_the_dict(self):
        pool, rows, current = self.manager.sync, self.oracle.rows, self.oracle.current()
        assert pool.get_exps_count() == len(current)
        assert {e.id for e in pool.iter_exps()} == current.keys()
        assert {e.id: e.to_dict() for e in pool.iter_exps(history=True)} == {
            id_: {**row.experience.to_dict(), "namespace": "default"} for id_, row in rows.items()
        }
        for id_ in rows:
            assert pool.get_exp(id_) is not None
        for id_ in self.oracle.deleted:
            assert pool.get_exp(id_) is None

    @invariant()
    def an_equal_request_finds_what_may_answer_and_nothing_else(self):
        answering = [row.experience for row in self.oracle.rows.values() if row.answers]
        for text in REQUESTS[:6]:
            equal = {e.id for e in answering if e.request == text}
            found = list(self.manager.sync.query_exps(text, query_type="exact"))
            assert {e.id for e in found} == equal
            assert found == sorted(found, key=lambda e: e.created_at, reverse=True)
            hit = self.ask.lookup(text)
            expected = [e.value for e in answering if e.request == text and e.function == "ask"]
            assert ([] if hit is None else [hit.experience.value]) == expected


@pytest.fixture
def second():
    process = SecondProcess()
    yield process
    process.end()


@pytest.mark.timeout(3600)
def test_a_pool_of_two_processes_says_what_a_dict_and_brute_force_say(second, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(_clock, "time", clock)
    run(
        lambda: Pools(second, clock),
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


if __name__ == "__main__":
    second_process()
