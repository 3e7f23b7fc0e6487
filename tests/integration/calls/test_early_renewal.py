"""What is asked for shortly before it expires is renewed in the background, so that nobody waits for it."""

import asyncio
import threading

import pytest
from loguru import logger

from exp_pool import Ttl, exp_cache, in_namespace
from exp_pool.errors import ConfigurationError
from exp_pool.runtime import clock as _clock

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        later_s = 0.0
        real = _clock.time.time_ns
        monotonic = staticmethod(_clock.time.monotonic)

        def time_ns(self):
            return Clock.real() + int(self.later_s * 10**9)

    clock = Clock()
    monkeypatch.setattr(_clock, "time", clock)
    return clock


@pytest.fixture(params=["plain", "coroutine"])
def make(request, make_manager, tmp_path):
    """`make(...)`: a decorated function that says how often it ran, and what calls it."""

    def make(gate=None, **options):
        settings = {"store": f"sqlite:///{tmp_path}/pool.db", **PLAIN}
        manager, runs = make_manager(**settings), []
        options = {"ttl": Ttl(100, early=20), "name": "f", **options}

        def function(q):
            if runs and gate:
                assert gate.wait(30)
            runs.append(q)
            if q == "fails" and len(runs) > 1:
                raise ValueError("down")
            return [q, len(runs)]

        async def coroutine(q):
            return await asyncio.to_thread(function, q)

        plain = request.param == "plain"
        decorated = manager.exp_cache(**options)(function if plain else coroutine)
        return manager, decorated, runs

    make.plain = request.param == "plain"
    return make


def calls(make, manager, decorated, *questions):
    """What the calls give, one after the other, and then the background has ended."""

    async def main():
        values = []
        for question in questions:
            value = decorated(question)
            values.append(value if make.plain else await value)
        await manager.flush()
        return values

    return asyncio.run(main())


def test_asked_for_shortly_before_its_end_it_is_renewed_and_never_expires(make, clock):
    manager, f, runs = make()
    for _ in range(2):
        assert calls(make, manager, f, "q", "q") == [["q", 1]] * 2
    clock.later_s = 79
    assert calls(make, manager, f, "q") == [["q", 1]]
    assert len(runs) == 1, "it is early yet"
    clock.later_s = 85
    assert calls(make, manager, f, "q") == [["q", 1]], "nobody waits"
    assert len(runs) == 2
    clock.later_s = 130
    assert calls(make, manager, f, "q") == [["q", 2]], "the first one has expired"
    assert len(runs) == 2
    assert manager.background.count == 0
    assert len(list(manager.sync.iter_exps(history=True))) == 2


RUNS = []


def counted(q):  # the hot tier answers what closes over nothing
    RUNS.append(q)
    return [q, len(RUNS)]


def test_the_hot_tier_gives_way_in_time(make_manager, clock):
    RUNS.clear()
    manager = make_manager(hot_ttl=1000, **PLAIN)
    f = manager.exp_cache(name="f", ttl=Ttl(100, early=20))(counted)
    assert [f("q"), f("q"), f("q")] == [["q", 1]] * 3
    clock.later_s = 85
    assert f("q") == ["q", 1]
    manager.sync.flush()
    assert RUNS == ["q", "q"]
    clock.later_s = 130
    assert f("q") == ["q", 2]


def test_what_nobody_asks_for_just_expires(make, clock):
    manager, f, runs = make()
    calls(make, manager, f, "q")
    clock.later_s = 101
    assert calls(make, manager, f, "q") == [["q", 2]]


def test_many_who_ask_meanwhile_begin_it_once(make, clock):
    gate = threading.Event()
    manager, f, runs = make(gate=gate)
    calls(make, manager, f, "q")
    clock.later_s = 90

    async def main():
        for _ in range(5):
            value = f("q")
            assert (value if make.plain else await value) == ["q", 1]
        assert manager.background.names == ["renew f"]
        gate.set()
        await manager.flush()

    asyncio.run(main())
    assert len(runs) == 2
    clock.later_s = 175
    calls(make, manager, f, "q")
    assert len(runs) == 3, "the next time it begins anew"


def test_what_fails_is_said_and_the_answer_stays(make, clock):
    lines = []
    logger.enable("exp_pool")
    sink = logger.add(lambda m: lines.append((m.record["level"].name, m.record["message"])), level="DEBUG")
    manager, f, runs = make()
    calls(make, manager, f, "fails")
    clock.later_s = 90
    assert calls(make, manager, f, "fails") == [["fails", 1]]
    assert calls(make, manager, f, "fails") == [["fails", 1]]
    logger.remove(sink)
    logger.disable("exp_pool")
    assert len(runs) == 3, "the next one who asks tries again"
    said = [level for level, line in lines if "not renewed, the answer stays until it expires: ValueError" in line]
    assert said == ["WARNING", "DEBUG"] * 2
    assert manager.stats().degraded == 0


def test_it_stays_in_its_namespace_and_leaves_what_people_annotated(make, clock):
    manager, f, runs = make()
    with in_namespace("tenant"):
        calls(make, manager, f, "q")
        clock.later_s = 90
        calls(make, manager, f, "q")
        assert len(list(manager.sync.iter_exps(history=True))) == 2
        (current,) = manager.sync.iter_exps()
        manager.sync.annotate(current.id, expected=["right"])
        clock.later_s = 175
        assert calls(make, manager, f, "q") == [["right"]]
    assert len(runs) == 2
    assert manager.sync.get_exps_count() == 0


def test_nothing_is_renewed_where_nothing_may_be_written(make, clock):
    manager, f, runs = make()
    calls(make, manager, f, "q")
    clock.later_s = 90
    manager.is_writable = False
    calls(make, manager, f, "q")
    manager.is_writable = True
    manager.replay = True
    calls(make, manager, f, "q")
    assert len(runs) == 1


def test_where_it_cannot_apply():
    def stream(q):
        yield q

    with pytest.raises(ConfigurationError, match=r"early= goes with plain and coroutine functions, not with CachedGen"):
        exp_cache(ttl=Ttl(60, early=10))(stream)
    with pytest.raises(ConfigurationError, match=r"Ttl\(early=60\) must be less than after=60"):
        Ttl(60, early=60)
    with pytest.raises(ConfigurationError, match="'soon' is no duration"):
        Ttl(60, early="soon")
