"""Every kind of call against everything that may happen to it: one cell, one assertion. 8 kinds x 15 cases.

A cell that does not apply would be skipped here with its reason; all 120 apply.
"""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import BaseModel

from exp_pool import bypass
from exp_pool.errors import ExpPoolWarning

PLAIN = {"index": "none://", "embedder": "none"}
KINDS = ["sync", "async", "generator", "async generator", "method", "classmethod", "staticmethod", "batch"]


THING = object()


class Model(BaseModel):
    n: int
    parts: list[str] = []


class Subject:
    """A decorated function of one kind around `body`; `call` gives what `body` gave, whatever the kind."""

    def __init__(self, kind, manager, body, returns=None, **options):
        self.kind, self.runs = kind, []
        self.function = getattr(self, kind.replace(" ", "_") + "_")(manager, self.counted(body), returns, options)

    def counted(self, body):
        lock = threading.Lock()

        def counting(q):
            with lock:
                self.runs.append(q)
            return body(q)

        return counting

    def sync_(self, manager, body, returns, options):
        def plain(q, debug=False):
            return body(q)

        plain.__annotations__["return"] = returns or object
        return manager.exp_cache(**options)(plain)

    def async_(self, manager, body, returns, options):
        async def coroutine(q, debug=False):
            await asyncio.sleep(0)
            return body(q)

        coroutine.__annotations__["return"] = returns or object
        return manager.exp_cache(**options)(coroutine)

    def generator_(self, manager, body, returns, options):
        def chunks(q, debug=False):
            yield body(q)

        chunks.__annotations__["return"] = Iterator[returns or object]
        return manager.exp_cache(**options)(chunks)

    def async_generator_(self, manager, body, returns, options):
        async def achunks(q, debug=False):
            await asyncio.sleep(0)
            yield body(q)

        achunks.__annotations__["return"] = AsyncIterator[returns or object]
        return manager.exp_cache(**options)(achunks)

    def method_(self, manager, body, returns, options):
        class Agent:
            def act(self, q, debug=False):
                return body(q)

            act.__annotations__["return"] = returns or object
            act = manager.exp_cache(**options)(act)

        return Agent().act

    def classmethod_(self, manager, body, returns, options):
        def act(cls, q, debug=False):
            return body(q)

        act.__annotations__["return"] = returns or object
        agent = type("Agent", (), {"act": classmethod(manager.exp_cache(**options)(act))})
        return agent.act

    def staticmethod_(self, manager, body, returns, options):
        class Agent:
            @manager.exp_cache(**options)
            @staticmethod
            def act(q, debug=False) -> returns or object:
                return body(q)

        return Agent.act

    def batch_(self, manager, body, returns, options):
        def many(items, debug=False):
            return [body(item) for item in items]

        many.__annotations__["return"] = list[returns or object]
        return manager.exp_cache(batch="items", **options)(many)

    @property
    def of_async(self):
        return self.kind.startswith("async")

    async def acall(self, q, **kwargs):
        if self.kind == "async generator":
            (value,) = [chunk async for chunk in self.function(q, **kwargs)]
            return value
        return await self.function(q, **kwargs)

    def call(self, q, **kwargs):
        if self.of_async:
            return asyncio.run(self.acall(q, **kwargs))
        if self.kind == "generator":
            (value,) = self.function(q, **kwargs)
            return value
        if self.kind == "batch":
            (value,) = self.function([q], **kwargs)
            return value
        return self.function(q, **kwargs)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def manager(make_manager, tmp_path):
    return make_manager(store=f"sqlite:///{tmp_path}/pool.db", **PLAIN)


def test_hit(kind, manager):
    subject = Subject(kind, manager, lambda q: {"q": q})
    assert [subject.call("q"), subject.call("q"), subject.call("q")] == [{"q": "q"}] * 3
    assert subject.runs == ["q"]


def test_miss(kind, manager):
    subject = Subject(kind, manager, lambda q: {"q": q})
    assert [subject.call("a"), subject.call("b"), subject.call(1), subject.call(True)] == [
        {"q": "a"},
        {"q": "b"},
        {"q": 1},
        {"q": True},
    ]
    assert len(subject.runs) == 4
    assert manager.sync.get_exps_count() == 4


def test_raises(kind, manager):
    error = KeyError("boom", 7)

    def body(q):
        raise error

    subject = Subject(kind, manager, body)
    for _ in range(2):
        with pytest.raises(KeyError) as raised:
            subject.call("q")
        assert raised.value is error
    assert len(subject.runs) == 2
    assert manager.sync.get_exps_count() == 0


def test_none(kind, manager):
    subject = Subject(kind, manager, lambda q: None)
    assert [subject.call("q"), subject.call("q")] == [None, None]
    assert subject.runs == ["q"]


def test_falsy(kind, manager):
    values = {"int": 0, "float": 0.0, "str": "", "list": [], "dict": {}, "bool": False, "bytes": b"", "tuple": ()}
    subject = Subject(kind, manager, values.get)
    for _ in range(2):
        for name, value in values.items():
            assert subject.call(name) == value
            assert type(subject.call(name)).__name__ == name
    assert len(subject.runs) == len(values)


def test_mutable(kind, manager):
    subject = Subject(kind, manager, lambda q: {"list": [1]})
    for _ in range(3):
        answer = subject.call("q")
        assert answer == {"list": [1]}
        answer["list"].append(2)
    assert subject.runs == ["q"]


def test_pydantic(kind, manager):
    subject = Subject(kind, manager, lambda q: Model(n=3, parts=[q]), Model)
    for _ in range(3):
        answer = subject.call("q")
        assert type(answer) is Model
        assert answer == Model(n=3, parts=["q"])
        answer.parts.append("changed")
    assert subject.runs == ["q"]


def test_not_restorable(kind, manager):
    subject = Subject(kind, manager, lambda q: [THING])
    with pytest.warns(ExpPoolWarning, match="could not be restored"):
        assert subject.call("q")[0] is THING
    assert subject.call("q")[0] is THING
    assert len(subject.runs) == 2
    assert manager.sync.get_exps_count() == 0


def test_excluded_argument(kind, manager):
    subject = Subject(kind, manager, lambda q: {"q": q}, exclude=["debug"])
    assert [subject.call("q", debug=True), subject.call("q", debug=object())] == [{"q": "q"}] * 2
    assert subject.runs == ["q"]
    assert "debug" not in next(manager.sync.iter_exps()).arguments


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_inside_a_loop(kind, manager, loop):
    subject = Subject(kind, manager, lambda q: {"q": q})

    async def main():
        if subject.of_async:
            return await asyncio.gather(*(subject.acall("q") for _ in range(20)))
        return [subject.call("q") for _ in range(20)]

    factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(main()) == [{"q": "q"}] * 20
    assert subject.runs == ["q"]


def test_threads(kind, manager):
    barrier = threading.Barrier(16)
    subject = Subject(kind, manager, lambda q: {"q": q})

    def call(_):
        barrier.wait(30)
        return subject.call("q")

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(call, range(16))) == [{"q": "q"}] * 16
    assert subject.runs == ["q"]


def test_bypass(kind, manager):
    subject = Subject(kind, manager, lambda q: {"n": len(subject.runs)})
    assert subject.call("q") == {"n": 1}
    with bypass():
        assert subject.call("q") == {"n": 2}
    with bypass(write=False):
        assert subject.call("q") == {"n": 3}
    assert subject.call("q") == {"n": 3}, "read nothing, wrote its answer"
    with bypass(read=False):
        assert [subject.call("new"), subject.call("new")] == [{"n": 4}, {"n": 5}]
        assert subject.call("q") == {"n": 3}
    assert manager.sync.get_exps_count() == 1


def test_disabled(kind, manager):
    subject = Subject(kind, manager, lambda q: {"n": len(subject.runs)})
    manager.enabled = False
    assert [subject.call("q"), subject.call("q")] == [{"n": 1}, {"n": 2}]
    assert manager.sync.get_exps_count() == 0
    manager.enabled = True
    assert [subject.call("q"), subject.call("q")] == [{"n": 3}, {"n": 3}]


def test_store_broken(kind, make_manager, tmp_path):
    (tmp_path / "broken.db").write_text("no database, not at all, but long enough to be looked at as if it were one")
    manager = make_manager(store=f"sqlite:///{tmp_path}/broken.db", **PLAIN)
    subject = Subject(kind, manager, lambda q: {"n": len(subject.runs)})
    with pytest.warns(ExpPoolWarning, match="file is not a database"):
        assert subject.call("q") == {"n": 1}
    assert subject.call("q") == {"n": 2}
    assert manager.stats().degraded >= 2


def test_it_still_looks_like_the_function(kind, manager):
    """Beyond the fifteen: what `inspect` says."""
    subject = Subject(kind, manager, lambda q: q)
    parameters = list(inspect.signature(subject.function).parameters)
    assert parameters == ["items" if kind == "batch" else "q", "debug"]
    assert inspect.iscoroutinefunction(subject.function) == (kind == "async")
    assert inspect.isgeneratorfunction(subject.function) == (kind == "generator")
    assert inspect.isasyncgenfunction(subject.function) == (kind == "async generator")
