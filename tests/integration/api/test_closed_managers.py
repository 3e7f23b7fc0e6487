"""A manager that was closed says so, tells the truth, and may be opened again."""

import asyncio
import subprocess
import sys
import warnings
from contextlib import asynccontextmanager

import pytest

from exp_pool import ExpManager, exp_cache, get_exp_manager, set_exp_manager
from exp_pool.errors import ClosedError, ExpPoolWarning, ReplayMissError
from exp_pool.stores.memory import MemoryStore


@pytest.fixture
def make(tmp_path):
    made = []

    def make(**settings):
        defaults = {"store": f"sqlite:///{tmp_path}/pool.db", "index": "none://", "embedder": "none"}
        made.append(ExpManager(**defaults | settings))
        return made[-1]

    yield make
    for manager in made:
        manager.sync.close()


def counted(manager, **options):
    runs = []

    @manager.exp_cache(name="counted", **options)
    def ask(question: str) -> str:
        runs.append(question)
        return question

    ask_runs[ask] = runs
    return ask


ask_runs = {}


def test_calls_say_so_once_and_are_counted(make):
    manager = make()
    first, second = counted(manager), counted(manager, version="2")
    assert first("hi") == first("hi") == second("hi")
    manager.sync.close()
    with pytest.warns(
        ExpPoolWarning, match=r"counted runs uncached: the manager was closed.*`with manager:`"
    ) as warned:
        assert [first("hi"), first("hi"), second("hi")] == ["hi"] * 3
    assert len(warned) == 1, "it is one thing to be mended"
    assert "set_exp_manager(None)" in str(warned[0].message)
    assert manager.stats().uncached == 3
    assert ask_runs[first] == ["hi"] * 3


@pytest.mark.parametrize("closing", ["async with", "with", "close"])
def test_it_is_opened_again_by_with(make, closing):
    manager = make()
    ask = counted(manager)

    async def for_a_while():
        async with manager:
            ask("hi")
            ask("hi")

    for _ in range(3):
        if closing == "async with":
            asyncio.run(for_a_while())
        elif closing == "with":
            with manager:
                ask("hi")
                ask("hi")
        else:
            manager.sync.close()
            manager.__enter__()
            ask("hi")
    assert ask_runs[ask] == ["hi"], "what was stored the first time answers after each opening"
    assert manager.stats().uncached == 0


def test_what_was_set_and_counted_stays(make):
    manager = make()
    ask = counted(manager)
    with manager:
        ask("hi")
        manager.is_readable = False
    with manager:
        assert not manager.is_readable
        ask("hi")
        assert manager.stats().misses == 2


def test_entering_an_open_manager_changes_nothing(make):
    manager = make(store="memory://")
    pool = manager.sync
    ask = counted(manager)
    with manager:
        ask("hi")
        assert manager.sync is pool
        assert manager.sync.get_exps_count() == 1


def test_a_store_that_was_given_open_cannot_be_opened_again(make):
    manager = make(store=MemoryStore())
    manager.sync.close()
    with pytest.raises(ClosedError, match=r"its store with it.*make a new manager"):
        manager.__enter__()


def test_an_application_whose_lifespan_comes_twice(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client that it would rather have
        fastapi = pytest.importorskip("fastapi")
        client_of = pytest.importorskip("fastapi.testclient").TestClient

    manager = make()
    runs = []

    @manager.exp_cache(name="answer")
    async def answer(question: str) -> str:
        runs.append(question)
        return question

    @asynccontextmanager
    async def lifespan(app):
        async with manager:
            yield

    app = fastapi.FastAPI(lifespan=lifespan)

    @app.get("/")
    async def ask(q: str) -> str:
        return await answer(q)

    for _ in range(3):
        with client_of(app) as client:
            assert client.get("/", params={"q": "hi"}).json() == "hi"
    assert runs == ["hi"]


ASKED = {
    "lookup": lambda ask: ask.lookup("hi"),
    "invalidate": lambda ask: ask.invalidate("hi"),
    "cache_info": lambda ask: ask.cache_info(),
    "cache_clear": lambda ask: ask.cache_clear(),
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("kind", ["def", "async def", "batch"])
def test_whatever_else_is_asked_of_a_function_is_an_error(make, asked, kind):
    manager = make()
    if kind == "def":
        ask = counted(manager)
    elif kind == "batch":
        ask = manager.exp_cache(name="f", batch="question")(lambda question: question)
    else:

        @manager.exp_cache(name="f")
        async def ask(question: str) -> str:
            return question

    manager.sync.close()

    async def awaited():
        return await asked(ask)

    with pytest.raises(ClosedError):
        asyncio.run(awaited()) if kind == "async def" else asked(ask)


@pytest.mark.parametrize("batch", [None, "question"])
def test_explain_tells_the_truth(make, batch):
    manager = make()
    ask = manager.exp_cache(name="f", batch=batch)(lambda question: question)
    ask(["hi"])
    manager.sync.close()
    assert "the manager was closed" in ask.explain(["hi"])
    with manager:
        assert "closed" not in ask.explain(["hi"])
        manager.enabled = False
        assert "enabled=False" in ask.explain(["hi"])
        manager.enabled, manager.is_readable = True, False
        assert "is_readable=False" in ask.explain(["hi"])


def test_replay_lets_nothing_run(make):
    manager = make()
    ask = counted(manager)
    manager.replay = True
    manager.sync.close()
    with pytest.raises(ReplayMissError, match="the manager was closed"):
        ask("hi")
    assert ask_runs[ask] == []


def test_the_processs_manager_starts_anew_when_it_is_set_to_none(monkeypatch, tmp_path):
    monkeypatch.setenv("EXP_POOL_STORE", f"sqlite:///{tmp_path}/pool.db")
    monkeypatch.setenv("EXP_POOL_INDEX", "none://")
    set_exp_manager(None)

    @exp_cache(name="of the process")
    def ask(question: str) -> str:
        return question

    try:
        with get_exp_manager() as manager:
            ask("hi")
        with pytest.warns(ExpPoolWarning, match=r"set_exp_manager\(None\)"):
            ask("hi")
        set_exp_manager(None)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ask.call("hi").found_by == "exact"
        assert get_exp_manager() is not manager
    finally:
        set_exp_manager(None)


def test_the_end_of_a_process_is_no_news():
    program = (
        "import atexit\n"
        "called = lambda: print('at exit', ask('hi'))\n"
        "atexit.register(lambda: called())\n"
        "from exp_pool import ExpManager\n"
        "manager = ExpManager(store='memory://', index='none://', embedder='none')\n"
        "ask = manager.exp_cache(name='ask')(lambda question: question)\n"
        "ask('hi')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ended.stdout == "at exit hi\n"
    assert ended.stderr == ""
