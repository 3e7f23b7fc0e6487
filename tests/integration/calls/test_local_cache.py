"""The hot tier: answers of a moment ago, from memory; never another call's, never an old one."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from exp_pool import Experience, ExpManager, Score, ThresholdJudge, bypass, in_namespace
from exp_pool.runtime import clock

PLAIN = {"index": "none://", "embedder": "none"}


def ask(q, model="small", *rest, **more):  # of a module: its calls have no closure, so they are plain
    return {"q": q, "model": model, "rest": list(rest), "more": more}


def flat(q):
    return {"q": q}


@pytest.fixture(params=["memory", "sqlite"])
def manager(request, make_manager, tmp_path):
    store = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/pool.db"}[request.param]
    return make_manager(store=store, **PLAIN)


@pytest.fixture
def reads(manager, monkeypatch):
    """How often the store was asked for a row."""
    asked = []
    for name in ("get_many", "claim"):
        real = getattr(manager.sync._store, name)

        def count(*args, _real=real, **kwargs):
            asked.append(args)
            return _real(*args, **kwargs)

        monkeypatch.setattr(manager.sync._store, name, count)
    return asked


def warm(function, *args, **kwargs):
    """Stored, then read from the store, so that it is in memory."""
    function(*args, **kwargs)
    return function(*args, **kwargs)


def test_a_hot_hit_asks_the_store_for_nothing_and_is_counted(manager, reads):
    cached = manager.exp_cache(ask)
    warm(cached, "q")
    reads.clear()
    for _ in range(5):
        assert cached("q") == {"q": "q", "model": "small", "rest": [], "more": {}}
    assert reads == []
    assert (manager.stats().hits, manager.stats().misses, manager.stats().saved_calls) == (6, 1, 6)
    manager.sync.flush()
    (stored,) = manager.sync.iter_exps()
    assert stored.access_count == 6
    assert stored.last_access is not None
    assert cached.cache_info().hits == 6


def test_a_hot_hit_of_a_coroutine_function(manager, reads):
    cached = manager.exp_cache(name="a")(acoroutine)

    async def main():
        await cached("q"), await cached("q")
        reads.clear()
        return [await cached("q") for _ in range(3)]

    assert asyncio.run(main()) == ["Q"] * 3
    assert reads == []


async def acoroutine(q):
    return q.upper()


def test_calls_that_are_equal_in_python_only_are_told_apart(manager):
    cached = manager.exp_cache(name="kinds")(kinds)
    values = [1, True, 1.0, "1", b"1", 0, False, 0.0, -0.0, None, "", b"", (1,), (True,), "None"]
    for _ in range(4):
        assert [cached(value) for value in values] == [repr(value) for value in values]
    for _ in range(4):
        assert [cached(v, w) for v in (0, False) for w in (1, True)] == ["0 1", "0 True", "False 1", "False True"]
        assert [cached(value=v) for v in (1, True)] == ["1", "True"]


def kinds(value, *more):
    return " ".join(map(repr, (value, *more)))


class Agent:
    def __init__(self, name):
        self.name = name

    def act(self, q):
        return [self.name, q]

    def made(cls, q):
        return [cls.__name__, q]


def test_objects_and_classes_are_told_apart(manager):
    act = manager.exp_cache(self_key=["name"])(Agent.act)
    Acting = type("Acting", (Agent,), {"act": act, "made": classmethod(manager.exp_cache(Agent.made))})
    Other = type("Other", (Acting,), {})
    for _ in range(3):
        assert [Acting("a").act("q"), Acting("b").act("q")] == [["a", "q"], ["b", "q"]]
        assert [Acting.made("q"), Other.made("q")] == [["Acting", "q"], ["Other", "q"]]


def test_what_a_caller_does_to_an_answer_changes_nothing(manager):
    for function in (flat, ask):
        cached = manager.exp_cache(function)
        warm(cached, "q")
        for _ in range(3):
            answer = cached("q")
            assert answer["q"] == "q"
            answer["q"] = "changed"
            answer.get("rest", []).append("changed")
        assert cached("q") == function("q")


def test_models_are_objects_of_the_callers_own(manager):
    cached = manager.exp_cache(name="moment")(moment)
    warm(cached, 1)
    first, second = cached(1), cached(1)
    assert first == second == {"at": [datetime(2026, 1, 1, tzinfo=UTC)]}
    assert first["at"] is not second["at"]


def moment(n):
    return {"at": [datetime(2026, 1, n, tzinfo=UTC)]}


# What this process writes it sees at once

CHANGES = {
    "annotate": lambda m, c: m.sync.annotate(c.lookup("q").experience.id, expected="right"),
    "update": lambda m, c: m.sync.update_exp(c.lookup("q").experience.id, response="right"),
    "create": lambda m, c: m.sync.create_exp(Experience.from_call(c, ["q"], response="right")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_correction_answers_at_once(manager, change):
    cached = manager.exp_cache(flat)
    warm(cached, "q"), warm(cached, "other")
    change(manager, cached)
    assert [cached("q"), cached("q"), cached("other")] == ["right", "right", {"q": "other"}]


REMOVALS = {
    "delete_exp": lambda m, c: m.sync.delete_exp(c.lookup("q").experience.id),
    "delete_exps": lambda m, c: m.sync.delete_exps({"request": "q"}),
    "delete_all": lambda m, c: m.sync.delete_all_exps(),
    "clear_by_key": lambda m, c: m.sync.clear_by_key(c.key("q")),
    "invalidate": lambda m, c: c.invalidate("q"),
    "cache_clear": lambda m, c: c.cache_clear(),
    "quarantine": lambda m, c: m.sync.update_exp(c.lookup("q").experience.id, trust="quarantined"),
    "expire": lambda m, c: m.sync.update_exp(
        c.lookup("q").experience.id, expires_at=datetime.now(UTC) - timedelta(seconds=1)
    ),
    "switch off": lambda m, c: setattr(m, "enabled", False),
    "not readable": lambda m, c: setattr(m, "is_readable", False),
}


@pytest.mark.parametrize("remove", REMOVALS.values(), ids=REMOVALS)
def test_what_is_gone_answers_no_more(manager, reads, remove):
    cached = manager.exp_cache(flat)
    warm(cached, "q")
    misses = manager.stats().misses
    remove(manager, cached)
    assert cached("q") == {"q": "q"}
    reads_of_memory = manager.stats().hits
    assert manager.stats().misses == misses + 1 or not (manager.enabled and manager.is_readable), reads_of_memory


def test_an_answer_expires_in_memory_too(manager, monkeypatch):
    cached = manager.exp_cache(ttl=60)(flat)
    warm(cached, "q")
    real = clock.time.time_ns

    class Later:
        time_ns = staticmethod(lambda: real() + 61 * 10**9)
        monotonic = staticmethod(clock.time.monotonic)

    monkeypatch.setattr(clock, "time", Later)
    assert cached.lookup("q") is None
    cached("q")
    assert manager.stats().misses == 2


def test_what_surrounds_a_call_counts(manager):
    cached = manager.exp_cache(flat)
    warm(cached, "q")
    with in_namespace("other"):
        cached("q")
    with bypass():
        cached("q")
    assert manager.stats().misses == 2
    warm_again = manager.exp_cache(namespace=lambda call: call.arguments["q"])(flat)
    warm(warm_again, "a"), warm(warm_again, "b")
    assert manager.stats().misses == 4


def test_another_process_s_write_is_seen_when_hot_ttl_is_over(tmp_path, make_manager, monkeypatch):
    url = f"sqlite:///{tmp_path}/pool.db"
    mine, theirs = make_manager(store=url, **PLAIN), ExpManager(store=url, **PLAIN)  # as in another process
    cached = mine.exp_cache(flat)
    warm(cached, "q")
    with theirs:
        theirs.sync.annotate(next(theirs.sync.iter_exps()).id, expected="right")
    real = clock.time.time_ns

    class Later:
        time_ns = staticmethod(lambda: real() + 10**9)
        monotonic = staticmethod(clock.time.monotonic)

    monkeypatch.setattr(clock, "time", Later)
    assert cached("q") == "right"


def test_hot_ttl_zero_keeps_nothing_in_memory(tmp_path, make_manager):
    manager = make_manager(store=f"sqlite:///{tmp_path}/pool.db", hot_ttl=0, **PLAIN)
    warm(manager.exp_cache(flat), "q")
    assert manager.sync.local_cache._entries == {}


@pytest.mark.parametrize("limit", [{"hot_entries": 10}, {"hot_bytes": 20_000}], ids=str)
def test_memory_is_bounded(make_manager, limit):
    manager = make_manager(**PLAIN, **limit)
    cached = manager.exp_cache(flat)
    for n in range(100):
        warm(cached, n)
    assert 5 < len(manager.sync.local_cache._entries) <= 40
    assert manager.sync.local_cache._bytes <= limit.get("hot_bytes", 1 << 30)
    assert warm(cached, "x" * 5000) == {"q": "x" * 5000}, "one answer that is too large for it"
    assert (
        len(manager.sync.local_cache._of_ref)
        == len(manager.sync.local_cache._ref_of_id)
        == len(manager.sync.local_cache._entries)
    )
    assert manager.stats().hits == 101


@pytest.mark.parametrize(
    "options",
    [{"judge": ThresholdJudge(0.9)}, {"min_score": 0.5}, {"key": lambda q: q}, {"request": lambda q: q}, {"redact": ["q"]}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_calls_that_ask_somebody_are_not_answered_from_memory(make_manager, options):
    manager = make_manager()
    warm(manager.exp_cache(**options)(flat), "q")
    assert manager.sync.local_cache._entries == {}


def test_feeds_and_observers_are_asked_each_time(make_manager):
    heard = []

    class Listener:
        def notify(self, event):
            heard.append(event.kind)

    manager = make_manager(observers=[Listener()], **PLAIN)
    cached = manager.exp_cache(flat)
    for _ in range(4):
        cached("q")
    assert heard.count("hit") == 3


def test_a_score_that_comes_later_reaches_memory(manager):
    cached = manager.exp_cache(scorer=lambda context: Score(value=0.1), min_score=None)(flat)
    warm(cached, "q")
    manager.sync.flush()
    assert manager.sync.local_cache._entries == {}, "the row was written, so it is read again"


def test_a_write_between_reading_and_remembering_wins(manager, monkeypatch):
    """Whoever read before a write must not put in what it read after it."""
    cached = manager.exp_cache(flat)
    cached("q")
    real = manager.sync.services.maintenance.used

    def meanwhile(*args, **kwargs):
        if not done:
            done.append(1)
            manager.sync.annotate(next(manager.sync.iter_exps()).id, expected="right")
        return real(*args, **kwargs)

    done = []
    monkeypatch.setattr(manager.sync.services.maintenance, "used", meanwhile)
    assert cached("q") == {"q": "q"}, "read before it was corrected"
    assert cached("q") == "right"


def test_functions_that_share_a_name_do_not_share_what_they_decode(make_manager):
    manager = make_manager(**PLAIN)
    one, two = manager.exp_cache(name="shared")(flat), manager.exp_cache(name="shared")(kinds)
    warm(one, "q"), warm(two, "q")
    assert [one("q"), two("q")] == [{"q": "q"}, "'q'"], "their parameters differ, so the calls do"


def collecting(q, seen=[]):  # noqa: B006
    seen.append(q)
    return len(seen)


def test_a_default_that_changes_makes_other_calls(manager):
    collecting.__defaults__[0].clear()
    cached = manager.exp_cache(collecting)
    assert [cached("q"), cached("q"), cached("q")] == [1, 2, 3]
    assert manager.sync.local_cache._entries == {}
