"""Guarantee 4: whatever breaks, the function runs once and its value or exception arrives unchanged."""

import asyncio
import os
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import letters

from exp_pool import (
    ExpManager,
    Inject,
    SimpleContextBuilder,
    ThresholdJudge,
    exp_cache,
    get_exp_manager,
    record,
)
from exp_pool.errors import ConfigurationError, ExpPoolWarning, StoreError
from exp_pool.protocols import RecordStore
from exp_pool.stores.memory import MemoryStore

OPERATIONS = [name for name in vars(RecordStore) if not name.startswith("_") and callable(getattr(RecordStore, name))]


class Broken:
    """A store in which one operation, or every one from the n-th on, raises."""

    def __init__(self, store, operation=None, after=None, error=StoreError):
        self.capabilities = store.capabilities
        self._store, self._operation, self._after, self._error, self.count = store, operation, after, error, 0

    def __getattr__(self, name):
        method = getattr(self._store, name)

        def perform(*args, **kwargs):
            self.count += 1
            if name == self._operation or (self._after is not None and self.count > self._after):
                raise self._error(f"{name} is broken")
            return method(*args, **kwargs)

        return perform


class Boom(Exception):
    pass


def use(manager, version=""):
    """Every kind of use; each call must run its function exactly once and give its own outcome."""
    runs = []

    @manager.exp_cache(
        judge=ThresholdJudge(0.9), inject=Inject("experiences"), scorer=lambda ctx: 1 / 0, version=version
    )
    def plain(req, experiences=()):
        runs.append(req)
        record(model="m")
        if req.startswith("raise"):
            raise Boom(req)
        return {"to": req}

    @manager.exp_cache(context_builder=SimpleContextBuilder(), version=version)
    async def coroutine(req):
        runs.append("async")
        await asyncio.sleep(0)
        return [req[:5]]

    for i in range(4):
        runs.clear()
        assert plain(f"ask {i}") == {"to": f"ask {i}"}
        assert runs == [f"ask {i}"]
        with pytest.raises(Boom, match=f"^raise {i}$"):
            plain(f"raise {i}")
        assert runs == [f"ask {i}", f"raise {i}"]
        runs.clear()
        assert asyncio.run(coroutine(f"hey {i}")) == [f"hey {i}"]
        assert runs == ["async"]


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExpPoolWarning)
        yield


def test_use_finds_nothing_wrong_with_a_healthy_pool(make_manager):
    manager = make_manager()
    use(manager)
    assert manager.stats().degraded == 0
    assert manager.stats().stored == 8


@pytest.mark.parametrize("error", [StoreError, RuntimeError, KeyError, StopIteration, TimeoutError, MemoryError])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_store_that_raises_at_one_operation(make_manager, operation, error):
    manager = make_manager(store=Broken(MemoryStore(), operation, error=error))
    use(manager)
    if operation in ("get_many", "put_many"):
        assert manager.stats().degraded >= 8


def test_a_store_that_breaks_at_the_nth_operation_for_every_n(make_manager):
    counting = Broken(MemoryStore())
    use(make_manager(store=counting))
    assert counting.count >= 20
    for n in range(counting.count):
        manager = make_manager(store=Broken(MemoryStore(), after=n))
        use(manager)


def test_a_broken_store_warns_once_and_counts(make_manager):
    manager = make_manager(store=Broken(MemoryStore(), "get_many"))

    @manager.exp_cache
    def f(req):
        return req

    with pytest.warns(ExpPoolWarning, match="get_many is broken") as caught:
        assert [f(str(i)) for i in range(5)] == ["0", "1", "2", "3", "4"]
    assert len(caught) == 1
    assert manager.stats().degraded == 5


def hangs(release):
    def embed(texts):
        release.wait(20)
        return letters(texts)

    return embed


EMBEDDERS = {
    "raises": lambda texts: 1 / 0,
    "nan": lambda texts: np.full((len(texts), 4), np.nan),
    "infinite": lambda texts: np.full((len(texts), 4), np.inf),
    "zero": lambda texts: np.zeros((len(texts), 4)),
    "one row": lambda texts: np.ones((len(texts) + 1, 4)),
    "flat": lambda texts: np.ones(4),
    "text": lambda texts: "vectors",
    "none": lambda texts: None,
    "ragged": lambda texts: [[1.0], [1.0, 2.0]],
}


@pytest.mark.parametrize("embedder", EMBEDDERS.values(), ids=EMBEDDERS)
def test_an_embedder_that_lies_or_raises(make_manager, embedder):
    manager = make_manager(embedder=embedder)
    use(manager)
    manager.sync.flush(1)
    assert manager.stats().degraded > 0


def test_an_embedder_that_changes_its_dimension(make_manager):
    dimensions = iter(range(3, 1000))
    manager = make_manager(embedder=lambda texts: np.ones((len(texts), next(dimensions))))
    use(manager)
    manager.sync.flush(1)
    use(manager, version="2")


@pytest.mark.timeout(10)  # 50 calls that each waited for the time-out would take 15 s
def test_an_embedder_that_hangs_costs_its_time_out_once(make_manager):
    release = threading.Event()
    manager = make_manager(embedder=hangs(release), embed_timeout=0.3, query_timeout=0.4, exit_timeout=0)

    @manager.exp_cache(judge=ThresholdJudge(0.9))
    def f(req):
        return req

    with pytest.warns(ExpPoolWarning, match="gave no result within 0.3 s"):
        assert f("seed") == "seed"  # nothing to compare with: nothing is embedded
        assert [f(str(i)) for i in range(50)] == [str(i) for i in range(50)]
    assert manager.stats().degraded == 50
    release.set()


def test_a_judge_a_builder_a_feed_a_callback_an_observer_that_raise(make_manager):
    class Fails:
        candidates = limit = 1

        def judge(self, question):
            raise Boom

        def build(self, request, experiences):
            raise Boom

        def notify(self, event):
            raise Boom

        def __call__(self, *args):
            raise Boom

    manager = make_manager(callbacks=[Fails()], feeds=[Fails()], observers=[Fails()])
    runs = []

    @manager.exp_cache(judge=Fails(), context_builder=Fails())
    def f(req):
        runs.append(req)
        return req

    assert [f("x"), f("x")] == ["x", "x"]
    assert runs == ["x", "x"]
    assert manager.stats().degraded > 4


def test_an_observer_that_loses_its_method(make_manager):
    class Listener:
        def notify(self, event):
            pass

    listener = Listener()
    manager = make_manager(observers=[listener])
    del Listener.notify

    @manager.exp_cache
    def f(req):
        return req

    assert [f("x"), f("x")] == ["x", "x"]
    assert manager.stats().degraded >= 3  # a miss, a store, a hit


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"observers": [print]},
            r"observers: <built-in function print> is not an object with a method notify\(event\)",
        ),
        ({"observers": print}, "observers=<built-in function print>: give a list"),
        ({"callbacks": [None]}, r"callbacks: None is not a callable\(key, experience\)"),
        ({"feeds": "feed"}, r"feeds='feed': give a list, each of it a callable\(call\)"),
    ],
)
def test_a_listener_that_cannot_be_called_is_refused_where_it_is_given(given, said):
    with pytest.raises(ConfigurationError, match=said):
        ExpManager(store="memory://", index="none://", embedder="none", **given)


def test_a_namespace_key_or_request_callable_that_raises(make_manager):
    manager = make_manager()
    for option in ("namespace", "key", "request"):

        @manager.exp_cache(**{option: lambda *a, **k: 1 / 0}, judge=ThresholdJudge(0.9), name=option)
        def f(req):
            return req

        with pytest.warns(ExpPoolWarning) if option != "request" else warnings.catch_warnings():
            assert [f("x"), f("x")] == ["x", "x"]


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "pool.db").write_bytes(os.urandom(9000))
    with ExpManager(store=f"sqlite:///{tmp_path}/pool.db", index="exact://", embedder=letters) as manager:
        with pytest.warns(ExpPoolWarning, match="no SQLite file: move it away"):
            use(manager)
        assert manager.stats().degraded >= 12


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    urls = {"store": f"sqlite:///{tmp_path}/file/pool.db", "index": f"chroma:///{tmp_path}/file/chroma"}
    with ExpManager(**urls, embedder=letters) as manager:
        use(manager)


def in_child_as_nobody(action):
    """Run it in a child process that file modes apply to; root's do not."""
    child = os.fork()
    if not child:
        status = 1
        try:
            if os.getuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("with_pool_in_it", [False, True])
def test_a_read_only_folder(tmp_path, with_pool_in_it):
    folder = tmp_path / "pool"
    folder.mkdir()
    with ExpManager(store=f"sqlite:///{tmp_path}/elsewhere.db", index="exact://", embedder=letters) as manager:
        use(manager)  # imports everything: the child may not be allowed to read the interpreter's files
    if with_pool_in_it:
        with ExpManager(store=f"sqlite:///{folder}/pool.db", index="exact://", embedder=letters) as manager:
            use(manager)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.getuid() and Path(tempfile.gettempdir()) in path.parents:
            path.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)

    def action():
        with ExpManager(store=f"sqlite:///{folder}/pool.db", index="exact://", embedder=letters) as manager:
            use(manager, version="child")
            assert manager.stats().degraded > 0

    assert in_child_as_nobody(action) == 0


@pytest.mark.parametrize(
    "setting", ["EXP_POOL_STORE=nonsense://x", "EXP_POOL_STORE_TIMEOUT=soon", "EXP_POOL_EMBEDDER=magic"]
)
def test_a_wrong_default_configuration_warns_and_runs_uncached(monkeypatch, setting):
    from exp_pool.api import call_binder

    monkeypatch.setenv(*setting.split("="))
    monkeypatch.setattr(call_binder, "_notices", type(call_binder._notices)())
    runs = []

    @exp_cache
    def f(req):
        runs.append(req)
        return req

    with pytest.warns(ExpPoolWarning, match="runs uncached") as caught:
        assert [f("x"), f("x")] == ["x", "x"]
    assert len(caught) == 1
    assert runs == ["x", "x"]
    with pytest.raises(ValueError):  # made explicitly, it raises
        ExpManager()


def test_warnings_as_errors_do_not_fail_the_call(make_manager):
    manager = make_manager(store=Broken(MemoryStore(), "get_many"))

    @manager.exp_cache
    def f(req):
        return req

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f("x") == "x"


def test_a_closed_manager_runs_calls_uncached(make_manager):
    manager = make_manager()

    @manager.exp_cache
    def f(req):
        return req

    manager.sync.close()
    assert f("x") == "x"


def test_the_functions_own_error_about_its_arguments_arrives(make_manager):
    @make_manager().exp_cache
    def f(req):
        return req

    with pytest.raises(TypeError, match="unexpected keyword argument 'reqq'"):
        f(reqq=1)


def test_keyboard_interrupts_and_exits_pass_through(make_manager):
    @make_manager().exp_cache
    def f(error):
        raise error

    for error in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(error):
            f(error)


def test_the_default_manager_survives_a_broken_home(monkeypatch, tmp_path):
    (tmp_path / ".exp_pool").touch()  # a file where the folder should be

    @exp_cache
    def f(req):
        return req

    assert [f("x"), f("x")] == ["x", "x"]
    assert get_exp_manager().stats().degraded >= 2


def test_a_one_time_answer_reaches_the_caller_unread(make_manager):
    from collections.abc import Iterable

    def words(req) -> Iterable[str]:
        return (word for word in req.split())

    words.__annotations__["return"] = Iterable[str]
    assert list(make_manager().exp_cache(words)("a b")) == ["a", "b"]


@pytest.mark.timeout(30)
def test_a_judge_that_raises_stop_iteration_does_not_stop_an_async_call(make_manager):
    class Judge:
        candidates = 0

        def judge(self, question):
            return next(iter(()))

    @make_manager().exp_cache(judge=Judge())
    async def f(req):
        return req

    async def main():
        return [await f("x"), await f("x")]

    assert asyncio.run(main()) == ["x", "x"]


@pytest.mark.timeout(30)
def test_an_async_callback_may_use_the_pool(make_manager):
    seen = []

    async def callback(key, experience):
        if experience.request != "inner":
            seen.append(f("inner"))

    manager = make_manager(callbacks=[callback], embedder=letters)

    @manager.exp_cache
    def f(req):
        return req

    assert f("outer") == "outer"
    assert seen == ["inner"]


class Panic(BaseException):
    """As native code gives it: no Exception, and not the end of the process."""


def test_a_panic_in_native_code_is_trouble_like_any_other(make_manager):
    calls = []

    def embed(texts):
        calls.append(texts)
        raise Panic("native")

    manager = make_manager(embedder=embed)

    @manager.exp_cache(judge=ThresholdJudge(0.5))
    def f(req):
        return req

    assert [f("x"), f("y")] == ["x", "y"]
    manager.sync.flush()
    assert calls


def test_an_error_that_cannot_be_shown(make_manager):
    class Unspeakable(Exception):
        def __str__(self):
            raise RuntimeError("no")

    manager = make_manager(store=Broken(MemoryStore(), "get_many", error=lambda text: Unspeakable()))

    @manager.exp_cache
    def f(req):
        return req

    assert f("x") == "x"


def test_closing_twice_and_using_afterwards(make_manager):
    from exp_pool.errors import ClosedError

    async def main():
        manager = make_manager()
        await manager.get_exps_count()
        await manager.close()
        await manager.close()
        with pytest.raises(ClosedError):
            await manager.get_exps_count()

    asyncio.run(main())


@pytest.mark.timeout(60)
def test_a_forked_child_is_not_frozen_by_chroma(tmp_path):
    urls = {"store": f"sqlite:///{tmp_path}/pool.db", "index": f"chroma:///{tmp_path}/chroma"}
    with ExpManager(**urls, embedder=letters) as manager:

        @manager.exp_cache(judge=ThresholdJudge(0.99))
        def f(req):
            return req

        f("parent")
        assert len(manager.sync.query_exps("parent")) == 1
        child = os.fork()
        if not child:
            status = 1
            try:
                status = 0 if f("xyz") == "xyz" and len(manager.sync.query_exps("xyz")) == 2 else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0


def test_a_function_that_calls_itself_goes_deep(make_manager):
    """Undecorated it may go some 900 calls deep; each frame of the pool's that stands between two calls takes from that."""
    runs = []

    @make_manager().exp_cache
    def count(n):
        runs.append(n)
        return 0 if n == 0 else 1 + count(n - 1)

    assert count(150) == 150
    assert len(runs) == 151
    assert count(150) == 150 and count(100) == 100
    assert len(runs) == 151
