"""Eviction: a namespace stays within its limits, by its policy, and what people made never goes."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from exp_pool import Experience, ExpManager, in_namespace
from exp_pool.errors import ExpPoolWarning, StoreError
from exp_pool.protocols import EventKind
from exp_pool.runtime import clock

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture(params=["memory", "sqlite"])
def make(request, make_manager, tmp_path):
    store = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}[request.param]
    return lambda **settings: make_manager(**{"store": store, **PLAIN, **settings})


@pytest.fixture
def tick(monkeypatch):
    """A clock that goes by one microsecond with each look: no two uses at once."""
    now = [clock.now_us()]

    class Ticking:
        @staticmethod
        def time_ns():
            now[0] += 1
            return now[0] * 1000

        monotonic = staticmethod(clock.time.monotonic)

    monkeypatch.setattr(clock, "time", Ticking)
    return now


def identity(i):
    return i


def kept(manager):
    manager.sync.flush()
    return {e.response for e in manager.sync.iter_exps(history=True)}


def reference(policy, calls, limit):
    """What such a cache would keep that evicts once, at the end."""
    rows = {}
    for time, i in enumerate(calls):
        created, uses, last = rows.get(i, (time, -1, time))
        rows[i] = (created, uses + 1, time)
    turn = {
        "lru": lambda i: rows[i][2],
        "lfu": lambda i: (rows[i][1], rows[i][2]),
        "fifo": lambda i: rows[i][0],
        "ttl": lambda i: rows[i][0],
    }[policy]
    return set(sorted(rows, key=turn)[len(rows) - limit :])


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo", "ttl"])
@pytest.mark.parametrize("seed", range(5))
def test_each_policy_keeps_what_its_name_says(make, tick, policy, seed):
    rng = random.Random(seed)
    manager = make(max_entries=10, eviction=policy)
    monkey = manager.exp_cache(identity)
    manager.sync._worker._stopping.set()  # it evicts in `flush` only, so that the model need not know the moment
    calls = [rng.randrange(25) for _ in range(120)]
    for i in calls:
        monkey(i)
    assert kept(manager) == reference(policy, calls, 10)
    assert manager.stats().evicted == len(set(calls)) - 10


def test_ttl_evicts_the_soonest_to_expire(make):
    manager = make(max_entries=2, eviction="ttl")
    soon = datetime.now(UTC) + timedelta(minutes=1)
    for i, minutes in enumerate((None, 30, 10, 20)):
        expires = None if minutes is None else soon + timedelta(minutes=minutes)
        manager.sync.create_exp(Experience(function="f", request=str(i), response=i, expires_at=expires, origin="imported"))  # fmt: skip
    assert kept(manager) == {0, 1}


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo", "ttl"])
def test_what_has_expired_goes_first_then_history(make, policy):
    manager = make(max_entries=3, eviction=policy)
    past = datetime.now(UTC) - timedelta(seconds=1)
    exps = [
        Experience(function="f", request="again", response="history", origin="imported"),
        Experience(function="f", request="again", response="current", origin="imported"),
        Experience(function="f", request="old", response="expired", origin="imported", expires_at=past),
        Experience(function="f", request="a", response="a", origin="imported"),
        Experience(function="f", request="b", response="b", origin="imported"),
    ]
    manager.sync.create_exps(exps)
    assert kept(manager) == {"current", "a", "b"}


def test_what_people_made_never_goes_and_that_is_said_once(make):
    manager = make(max_entries=2)
    cached = manager.exp_cache(identity)
    for i in range(3):
        cached(i)
        manager.sync.annotate(cached.lookup(i).experience.id, expected=f"right {i}")
    manager.sync.create_exp(Experience(function="f", request="by hand", response="by hand", origin="manual"))
    manager.sync.create_exp(Experience(function="f", request="insight", response="insight", kind="insight"))
    with pytest.warns(ExpPoolWarning, match="stays above its limit: 5 experiences.*raise max_entries"):
        manager.sync.flush()
    cached(99)
    manager.sync.flush()
    assert manager.sync.get_exps_count() == 5
    assert cached.lookup(99) is None


def test_bytes(make):
    manager = make(max_bytes="100kB")
    cached = manager.exp_cache(name="blob")(lambda i: random.Random(i).randbytes(2_000).hex())
    for i in range(100):
        cached(i)
    manager.sync.flush()
    assert 15 <= manager.sync.get_exps_count() <= 25
    assert cached.lookup(99) is not None
    assert manager.sync._store.usage("default").bytes <= 100_000


def test_counts_survive_reopening(tmp_path):
    url = f"sqlite:///{tmp_path}/pool.db"
    with ExpManager(store=url, **PLAIN) as first:
        cached = first.exp_cache(name="identity")(identity)
        for i in range(5):
            for _ in range(6 - i):
                cached(i)
    with ExpManager(store=url, max_entries=3, eviction="lfu", **PLAIN) as second:
        second.exp_cache(name="identity")(identity)(99)
        assert kept(second) == {0, 1, 2}


def test_only_the_namespace_that_grew_is_looked_at_and_no_other_loses_anything(make):
    manager = make(max_entries=2)
    cached = manager.exp_cache(identity)
    for tenant in ("a", "b"):
        with in_namespace(tenant):
            for i in range(4):
                cached(i)
    manager.sync.flush()
    for tenant in ("a", "b"):
        with in_namespace(tenant):
            assert manager.sync.get_exps_count() == 2


def test_an_evicted_row_is_found_no_more_answers_no_more_and_may_come_back(make_manager, make):
    heard = []

    class Listener:
        def notify(self, event):
            if event.kind is EventKind.EVICT:
                heard.append((event.function.rpartition(".")[2], event.id))

    manager = make_manager(max_entries=1, observers=[Listener()])
    cached = manager.exp_cache(name="f")(lambda req: req)
    cached("abc")
    (first,) = manager.sync.search("abc")
    cached("xyz")
    manager.sync.flush()
    assert heard == [("f", first.experience.id)]
    assert [hit.experience.request for hit in manager.sync.search("abc")] == ["xyz"]
    assert cached.lookup("abc") is None
    assert manager.sync.create_exp(first.experience) == first.experience.id


def test_an_evicted_answer_is_not_given_from_memory_either(make):
    manager = make(max_entries=2)
    cached = manager.exp_cache(identity)
    cached(1), cached(1), cached(1)
    for i in range(10, 20):
        cached(i), cached(i)
    manager.sync.flush()
    assert len(manager.sync.local_cache._entries) <= 2
    assert manager.sync.get_exps_count() == 2


def test_calls_go_on_meanwhile(make):
    manager = make(max_entries=20)
    cached = manager.exp_cache(identity)

    def work(seed):
        rng = random.Random(seed)
        for _ in range(100):
            i = rng.randrange(60)
            assert cached(i) == i
            if rng.random() < 0.1:
                manager.sync.flush()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    manager.sync.flush()
    assert manager.sync.get_exps_count() <= 20
    assert manager.stats().degraded == 0


def test_a_store_that_fails_while_evicting_fails_no_call(make, monkeypatch):
    manager = make(max_entries=1)
    cached = manager.exp_cache(identity)

    def fail(*_):
        raise StoreError("disk gone")

    monkeypatch.setattr(manager.sync._store._store, "evict", fail)
    assert [cached(i) for i in range(3)] == [0, 1, 2]
    with pytest.raises(StoreError):
        manager.sync.flush()
    monkeypatch.undo()
    assert len(kept(manager)) == 1, "what was left is done later"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_bytes": "lots"}, "max_bytes='lots' is no size; write a number of bytes, or '200MB'"),
        ({"max_bytes": 0}, "must be above zero"),
        ({"max_bytes": 1.5}, "is no size"),
        ({"max_entries": 0}, "greater than or equal to 1"),
        ({"eviction": "random"}, "'lru', 'lfu', 'fifo' or 'ttl'"),
    ],
)
def test_wrong_limits_are_named(settings, message):
    with pytest.raises((ValidationError, ValueError), match=message):
        ExpManager(store="memory://", **PLAIN, **settings)


@pytest.mark.parametrize(
    ("text", "size"), [("200MB", 200_000_000), ("1 GiB", 2**30), ("1.5kb", 1500), ("7", 7), (7, 7)]
)
def test_sizes(text, size):
    manager = ExpManager(store="memory://", **PLAIN, max_bytes=text)
    assert manager.config.max_bytes == size
    manager.sync.close()
