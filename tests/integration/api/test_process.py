"""The process around it: imports, the singleton, threads, forks, event loops, configuration."""

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from exp_pool import ExpManager, exp_cache, get_exp_manager, set_exp_manager


def modules_after(code, tmp_path):
    code += "\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_importing_is_light(tmp_path):
    loaded = modules_after("import exp_pool", tmp_path)
    assert not loaded & {
        "torch",
        "chromadb",
        "sentence_transformers",
        "transformers",
        "numpy",
        "pydantic",
        "pydantic_settings",
        "tenacity",
    }


def test_exact_lookup_loads_neither_model_nor_index(tmp_path):
    code = """
from exp_pool import exp_cache
@exp_cache
def f(req): return req
f("x"); f("x")
"""
    loaded = modules_after(code, tmp_path)
    assert not loaded & {"torch", "chromadb", "sentence_transformers", "transformers"}
    assert (tmp_path / ".exp_pool" / "pool.db").exists()


def test_every_public_name_is_there():
    import exp_pool

    for name in exp_pool.__all__:
        assert getattr(exp_pool, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        exp_pool.nonsense


def test_64_threads_get_one_manager():
    barrier, got = threading.Barrier(64), []

    def get():
        barrier.wait()
        got.append(get_exp_manager())

    threads = [threading.Thread(target=get) for _ in range(64)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(got) == 64
    assert len(set(map(id, got))) == 1


def test_set_exp_manager_closes_and_forgets(make_manager):
    mine = make_manager()
    set_exp_manager(mine)
    assert get_exp_manager() is mine
    set_exp_manager(None)
    assert mine.sync.closed
    assert get_exp_manager() is not mine


def test_a_forked_child_opens_its_own_manager():
    @exp_cache(name="f")
    def f(req):
        return os.getpid()

    parent = get_exp_manager()
    assert f("parent") == os.getpid()
    child = os.fork()
    if not child:
        status = 1
        try:
            same = get_exp_manager() is parent
            status = 0 if not same and f("parent") == os.getppid() and f("child") == os.getpid() else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert f.lookup("child").experience.response == child


def in_a_loop(function):
    async def main():
        return function()

    return asyncio.run(main())


def in_uvloop(function):
    uvloop = pytest.importorskip("uvloop")

    async def main():
        return function()

    return uvloop.run(main())


@pytest.mark.parametrize("within", [in_a_loop, in_uvloop])
@pytest.mark.parametrize("store", ["memory://", "sqlite:///pool.db"])
def test_a_sync_function_works_inside_a_running_loop(make_manager, within, store):
    manager = make_manager(store=store)

    @manager.exp_cache
    def f(req):
        return [req]

    assert within(lambda: (f("x"), f("x"), manager.sync.query_exps("x")[0].response)) == (["x"], ["x"], ["x"])
    assert manager.stats().hits == 1


@pytest.mark.parametrize("runner", ["asyncio", "uvloop"])
def test_an_async_function_in_several_loops_and_tasks(make_manager, runner):
    run = asyncio.run if runner == "asyncio" else pytest.importorskip("uvloop").run
    manager = make_manager(store="sqlite:///pool.db")

    @manager.exp_cache
    async def f(req):
        await asyncio.sleep(0)
        return [req]

    async def main():
        return await asyncio.gather(*(f(str(i % 10)) for i in range(50)))

    for _ in range(3):
        assert run(main()) == [[str(i % 10)] for i in range(50)]
    assert manager.stats().degraded == 0
    assert manager.sync.get_exps_count() == 10


def test_nothing_patches_loops():
    assert "nest_asyncio" not in sys.modules


def test_configuration_from_arguments_environment_and_files(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[tool.exp_pool]\nnamespace = "project"\nindex = "none://"\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    manager = ExpManager(store="sqlite:///x/pool.db")
    assert manager.config.namespace == "project"
    assert manager.config.store == f"sqlite:///{tmp_path}/x/pool.db"
    (tmp_path / "exp_pool.toml").write_text('namespace = "file"\nindex = "none://"\n')
    assert ExpManager().config.namespace == "file"
    monkeypatch.setenv("EXP_POOL_NAMESPACE", "environment")
    assert ExpManager().config.namespace == "environment"
    assert ExpManager(namespace="argument").config.namespace == "argument"
    (tmp_path / "exp_pool.toml").write_text("namespaze = 'x'\n")
    with pytest.raises(ValueError, match="unknown setting 'namespaze'; did you mean 'namespace'"):
        ExpManager()
    (tmp_path / "exp_pool.toml").write_text("namespace = ")
    with pytest.raises(ValueError, match=r"exp_pool.toml cannot be read"):
        ExpManager()


def test_the_log_is_silent_until_it_is_enabled(make_manager, capfd):
    manager = make_manager()

    @manager.exp_cache(name="f")
    def f(req):
        return req

    f("x"), f("x")
    assert capfd.readouterr().err == ""
