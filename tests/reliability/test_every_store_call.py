"""Whichever call of the store fails, before or after its work: every decorated call gives a right value, once run.

The same scenario (a miss, a hit, a refresh, an annotated answer, streams, batches, shown and similar experiences, upkeep)
for each number of a store call. Afterwards the pool is as good as new, and owes nothing. A store that hangs
keeps nobody waiting who does not ask it.
"""

import asyncio
import shutil
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import letters

from exp_pool import Experience, ExpManager, Score, ThresholdJudge, bypass
from exp_pool.core.record import TaskKind
from exp_pool.errors import StoreError
from exp_pool.protocols import RecordQuery
from exp_pool.stores.memory import MemoryStore
from exp_pool.stores.sql.sqlite import SqliteStore
from exp_pool.testing import Fault, FaultyStore, at, every

PATIENCE_S = 60  # for what takes milliseconds unless it hangs


class Calls:
    """Decorated functions of one kind, and what each of their runs gave. Each call is checked as it is made."""

    def __init__(self, manager, runner):
        self.runs, self.gave, self._runner = 0, defaultdict(list), runner
        made = self.async_functions() if runner else self.functions()
        options = {
            "annotated": {},
            "batch": {"batch": "qs"},
            "judged": {"judge": ThresholdJudge(0.99), "scorer": lambda context: Score(value=1.0)},
            "plain": {},
            "shown": {"inject": "experiences"},
            "stream": {},
        }
        self.of = {
            name: manager.exp_cache(name=name, exclude=["functions" if runner else "run"], **more)(made[name])
            for name, more in options.items()
        }

    def run(self, name, *qs):
        """What the function gives for these: no two runs give the same."""
        self.runs += 1
        values = [{"to": q, "run": self.runs} for q in qs]
        for q, value in zip(qs, values, strict=True):
            self.gave[name, q].append(value)
        return values

    # Nothing that is told apart stands in their closures: it would make them other calls

    def functions(self):
        run = self.run

        def annotated(q):
            return run("annotated", q)[0]

        def batch(qs):
            return run("batch", *qs)

        def judged(q):
            return run("judged", q)[0]

        def plain(q):
            return run("plain", q)[0]

        def shown(q, experiences=()):
            assert all(isinstance(experience, Experience) for experience in experiences)
            return run("shown", q)[0]

        def stream(q) -> Iterator[dict]:
            (value,) = run("stream", q)
            for number in range(3):
                yield value | {"number": number}

        return {f.__name__: f for f in (annotated, batch, judged, plain, shown, stream)}

    def async_functions(self):
        functions = self.functions()

        async def annotated(q):
            await asyncio.sleep(0)
            return functions["annotated"](q)

        async def batch(qs):
            await asyncio.sleep(0)
            return functions["batch"](qs)

        async def judged(q):
            await asyncio.sleep(0)
            return functions["judged"](q)

        async def plain(q):
            await asyncio.sleep(0)
            return functions["plain"](q)

        async def shown(q, experiences=()):
            await asyncio.sleep(0)
            return functions["shown"](q, experiences)

        async def stream(q) -> AsyncIterator[dict]:
            for chunk in functions["stream"](q):
                await asyncio.sleep(0)
                yield chunk

        return {f.__name__: f for f in (annotated, batch, judged, plain, shown, stream)}

    def _got(self, called):
        return self._runner.run(called) if self._runner else called

    def _chunks(self, name, q):
        if not self._runner:
            return list(self.of[name](q))

        async def read():
            return [chunk async for chunk in self.of[name](q)]

        return self._runner.run(read())

    # Calls: `runs` says how often the function may run

    def one(self, name, q, runs, *, stored=None, refresh=False):
        before, known = self.runs, list(self.gave[name, q])
        if stored is not None:
            known = [stored]
        if name == "stream":
            chunks = self._chunks(name, q)
            assert [chunk.pop("number") for chunk in chunks] == [0, 1, 2]
            assert chunks[0] == chunks[1] == chunks[2]
            value = chunks[0]
        elif refresh:
            value = self._got(self.of[name].refresh(q)).value
        else:
            value = self._got(self.of[name](q))
        ran = self.runs - before
        assert ran in runs, f"{name}({q!r}) ran {ran} times"
        assert value in (self.gave[name, q][-1:] if ran else known)

    def many(self, qs, runs):
        before, known = self.runs, {q: list(self.gave["batch", q]) for q in qs}
        values = self._got(self.of["batch"](qs))
        assert self.runs - before in runs
        for q, value in zip(qs, values, strict=True):
            assert value in known[q] or value == self.gave["batch", q][-1]


ONCE, AT_MOST_ONCE, NEVER = {1}, {0, 1}, {0}


def prepare(manager):
    """What was stored before anything went wrong."""
    stored = [Experience(function="shown", arguments={"q": text}, response=text) for text in ("abc", "abd")]
    answer = Experience(function="annotated", arguments={"q": "x"}, response="wrong", expected="right")
    manager.sync.create_exps([*stored, answer])
    manager.sync.flush()


def use(calls, manager):
    calls.one("plain", "a", ONCE)
    calls.one("plain", "a", AT_MOST_ONCE)
    calls.one("plain", "a", ONCE, refresh=True)
    calls.one("plain", "a", AT_MOST_ONCE)
    calls.one("annotated", "x", AT_MOST_ONCE, stored="right")
    calls.one("stream", "s", ONCE)
    calls.one("stream", "s", AT_MOST_ONCE)
    calls.many(["i", "j"], ONCE)
    calls.many(["j", "k", "j"], ONCE)
    calls.one("shown", "ab", ONCE)
    calls.one("judged", "c", ONCE)
    calls.one("judged", "c", AT_MOST_ONCE)
    try:
        manager.sync.flush()
    except StoreError:
        pass  # of those who ask for upkeep itself; what was not done stays owed


def use_as_good_as_new(calls, manager):
    degraded = manager.stats().degraded
    calls.one("plain", "a", AT_MOST_ONCE)
    for name in ("plain", "judged", "shown", "stream"):
        for runs in (ONCE, NEVER):
            calls.one(name, f"new {name}", runs)
    calls.one("annotated", "x", NEVER, stored="right")
    calls.many(["m", "n"], ONCE)
    calls.many(["n", "m", "n"], NEVER)
    manager.sync.flush()
    assert [manager.sync.store.count(RecordQuery(None, pending=duty)) for duty in TaskKind] == [0, 0]
    found = manager.sync.query_exps("new plain", function="plain", top_k=1)
    assert [experience.request for experience in found] == ["new plain"]
    assert manager.stats().degraded == degraded


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request, tmp_path):
    """Stores in which `prepare` has been done."""
    if request.param == "memory":

        def make():
            store = MemoryStore()
            prepare(ExpManager(store=store, index="exact://", embedder=letters))
            return store
    else:
        with ExpManager(store=f"sqlite:///{tmp_path}/prepared.db", index="exact://", embedder=letters) as manager:
            prepare(manager)
        paths = (tmp_path / f"{number}.db" for number in range(10_000))

        def make():
            path = next(paths)
            shutil.copy(tmp_path / "prepared.db", path)
            return SqliteStore(path)

    return make


@pytest.fixture(params=["sync", "async"])
def runner(request):
    if request.param == "sync":
        yield None
    else:
        with asyncio.Runner() as runner:
            yield runner


def managers(make_store, plan_of):
    """A manager on a store with the plan of 1, 2, ..., until the scenario has fewer calls than that."""
    number, calls = 0, 1
    while number <= calls:
        number += 1
        store = FaultyStore(make_store())
        with ExpManager(store=store, index="exact://", embedder=letters) as manager:
            store.calls.clear()
            store.plan = plan_of(number)
            yield store, manager
            calls = len(store.calls) if store.plan else calls


@pytest.mark.parametrize("after", [False, True], ids=["before its work", "after its work"])
def test_whichever_call_of_the_store_fails_every_call_gives_a_right_value(make_store, runner, after):
    tried = 0
    for store, manager in managers(make_store, lambda number: at(number, after=after)):
        calls = Calls(manager, runner)
        use(calls, manager)
        made = len(store.calls)
        plan, store.plan = store.plan, None
        use_as_good_as_new(calls, manager)
        del store.calls[made:]
        store.plan = plan
        tried += 1
    assert tried > 35


def test_a_store_that_hangs_from_any_call_on_keeps_nobody_waiting_who_does_not_ask_it(make_store):
    entered, release = threading.Event(), threading.Event()
    hanging = Fault(wait=lambda: (entered.set(), release.wait(PATIENCE_S)))
    with ThreadPoolExecutor(2) as threads:
        for _, manager in managers(make_store, lambda number: lambda _, count: hanging if count >= number else None):
            calls, others = Calls(manager, None), Calls(manager, None)
            entered.clear(), release.clear()
            using = threads.submit(use, calls, manager)
            using.add_done_callback(lambda _: entered.set())
            try:
                assert entered.wait(PATIENCE_S)
                threads.submit(others_go_on, others, manager).result(PATIENCE_S)
            finally:
                release.set()
            using.result(PATIENCE_S)


def others_go_on(calls, manager):
    assert manager.stats().uncached == 0
    with bypass():
        calls.one("plain", "a", ONCE)
        calls.one("stream", "s", ONCE)
        calls.many(["i", "j"], ONCE)
    uncached = manager.exp_cache(name="uncached")(lambda q: q.text)
    assert uncached(Unkeyable()) == "text"
    assert manager.stats().uncached == 1


class Unkeyable:
    """Two of these may be alike or not: who knows?"""

    __slots__ = ("text",)

    def __init__(self):
        self.text = "text"


@pytest.mark.parametrize("method", ["claim", "put_many"])
def test_a_store_that_hangs_does_not_keep_an_event_loop_from_its_other_work(tmp_path, method):
    entered, release = threading.Event(), threading.Event()
    hanging = Fault(wait=lambda: (entered.set(), release.wait(PATIENCE_S)))
    store = FaultyStore(SqliteStore(tmp_path / "pool.db"))
    with ExpManager(store=store, index="none://", embedder="none") as manager:

        @manager.exp_cache
        async def f(q):
            return q

        async def main():
            store.plan = lambda name, _: hanging if name == method else None
            calling = asyncio.create_task(f("a"))
            try:
                assert await asyncio.to_thread(entered.wait, PATIENCE_S)
                with bypass():
                    assert await asyncio.wait_for(f("a"), PATIENCE_S) == "a"
                assert manager.stats().stored == 0
                assert not calling.done()
            finally:
                release.set()
            assert await calling == "a"

        asyncio.run(main())


@pytest.mark.parametrize("make", [MemoryStore, lambda: SqliteStore("pool.db")], ids=["memory", "sqlite"])
def test_uses_that_could_not_be_counted_are_counted_later(make, make_manager):
    store = FaultyStore(make())
    manager = make_manager(store=store)
    f = manager.exp_cache(name="f")(lambda q: q)
    assert [f("a"), f("a"), f("a")] == ["a"] * 3
    store.plan = every("touch_many")
    with pytest.raises(StoreError):
        manager.sync.flush()
    store.plan = None
    f("a")
    manager.sync.flush()
    assert [experience.access_count for experience in manager.sync.iter_exps()] == [3]
