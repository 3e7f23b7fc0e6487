"""Guarantee 2, scripts and notebooks: one file is one program, however it is started, and no other one."""

import inspect
import os
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest
from support.paths import ROOT

from exp_pool.core.identity.names import _path, function_name

PROGRAM = """
import multiprocessing, sys
from exp_pool import ExpManager, exp_cache, set_exp_manager
from exp_pool.core.identity.names import function_name

@exp_cache
def answer(q):
    return ["{who}", q]

class Agent:
    pass

def told(q):
    set_exp_manager(ExpManager(index="none://", embedder="none"))
    print(answer.__exp_function__, function_name(Agent), answer.lookup(q) is not None, *answer(q), flush=True)

if __name__ == "__main__":
    told("hi")
    if "spawn" in sys.argv:
        child = multiprocessing.get_context("spawn").Process(target=told, args=("hi",))
        child.start()
        child.join()
"""


def run(*args, cwd, source=None, **environment):
    """What a program printed, without what profilers add."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    command = [sys.executable, "-W", "ignore", *map(str, args)]
    done = subprocess.run(command, cwd=cwd, input=source, capture_output=True, text=True, env=environment)
    said = [line for line in done.stdout.splitlines() if ":answer" in line or ".answer" in line]
    assert said, done.stderr
    return said


@pytest.fixture
def project(tmp_path):
    (tmp_path / "pyproject.toml").touch()
    for who in ("shop", "bank"):
        folder = tmp_path / "services" / who
        folder.mkdir(parents=True)
        (folder / "main.py").write_text(PROGRAM.replace("{who}", who))
    return tmp_path


def test_two_scripts_of_one_name_do_not_share_an_answer(project):
    shop, bank = (project / "services" / who for who in ("shop", "bank"))
    name = "services/shop/main.py:answer services/shop/main.py:Agent"
    assert run(shop / "main.py", cwd=project) == [f"{name} False shop hi"]
    assert run(bank / "main.py", cwd=project)[0].endswith("False bank hi")
    # The same script, wherever and however it is started.
    again = [f"{name} True shop hi"]
    assert run("main.py", "spawn", cwd=shop) == again * 2
    assert run("-m", "services.shop.main", cwd=project) == again
    assert run("-m", "pdb", "-c", "continue", "-c", "quit", "main.py", cwd=shop, source="quit\n")[0].endswith(again[0])
    profiled = run("-m", "cProfile", "main.py", cwd=shop)[0].split()
    assert (profiled[0], profiled[2:]) == ("services/shop/main.py:answer", ["True", "shop", "hi"])
    start = "import runpy, os; os.chdir('services'); runpy.run_path('shop/main.py', run_name='__main__')"
    assert run("-c", start, cwd=project) == again


def test_programs_without_a_file_are_told_apart_by_their_source(project):
    told = "from exp_pool import *; set_exp_manager(ExpManager(index='none://', embedder='none'))\n" + textwrap.dedent(
        """
        @exp_cache
        def answer(q):
            return "{who}"
        print(answer.__exp_function__, answer.lookup("hi") is not None, answer("hi"))
        """
    )
    one, other = (told.replace("{who}", who) for who in ("shop", "bank"))
    name = "__main__:answer"
    assert run("-c", one, cwd=project) == [f"{name} False shop"]
    assert run("-c", other, cwd=project) == [f"{name} False bank"]
    assert run("-c", other, cwd=project) == [f"{name} True bank"]
    assert run("-", cwd=project, source=one) == [f"{name} False shop"]


def defined_in(tmp_path, code_file="<cell>", **namespace):
    space = {"__name__": "__main__", **namespace}
    exec(compile("def answer(q):\n    return q\nclass Agent:\n    def ask(self): ...", code_file, "exec"), space)
    return space


@pytest.mark.parametrize(
    ("namespace", "name"),
    [
        ({"__file__": "{root}/a/main.py"}, "a/main.py"),
        ({"__file__": "{root}/a/../a/main.py"}, "a/main.py"),
        ({"__vsc_ipynb_file__": "{root}/books/one.ipynb"}, "books/one.ipynb"),
        ({"__session__": "{root}/books/one.ipynb"}, "books/one.ipynb"),
        ({"__session__": "RTC:{root}/books/one.ipynb"}, "books/one.ipynb"),
        ({"__session__": "books/beside.ipynb"}, "books/beside.ipynb"),  # from the server's folder
        ({"__session__": "0b1c2d"}, "__main__"),  # a console
        ({}, "__main__"),
    ],
    ids=str,
)
def test_what_scripts_and_notebooks_are_called(tmp_path, monkeypatch, namespace, name):
    (tmp_path / ".git").mkdir()
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "beside.ipynb").touch()
    monkeypatch.chdir(tmp_path / "books")
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    space = defined_in(tmp_path, **{key: value.replace("{root}", str(tmp_path)) for key, value in namespace.items()})
    assert function_name(space["answer"]) == f"{name}:answer"
    assert function_name(space["Agent"]) == f"{name}:Agent"
    assert function_name(space["Agent"].ask) == f"{name}:Agent.ask"


def test_a_script_outside_of_projects_is_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.setattr("exp_pool.core.identity.names.root_above", lambda folder: None)
    _path.cache_clear()
    file = f"{tmp_path}/main.py"
    assert function_name(defined_in(tmp_path, __file__=file)["answer"]) == f"{file}:answer"
    _path.cache_clear()


def test_a_root_that_cannot_be_looked_at_and_a_folder_that_is_gone(tmp_path, monkeypatch):
    def refused(self, **_):
        raise PermissionError(13, "no")

    _path.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", refused)
        assert function_name(defined_in(tmp_path, __file__=f"{tmp_path}/x.py")["answer"]) == f"{tmp_path}/x.py:answer"
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert function_name(defined_in(tmp_path, __file__="x.py")["answer"]).endswith("x.py:answer")


def test_the_root_may_move(tmp_path):
    names = []
    for place in ("here", "there"):
        root = tmp_path / place
        root.mkdir()
        (root / "pyproject.toml").touch()
        names.append(function_name(defined_in(tmp_path, __file__=f"{root}/main.py")["answer"]))
    assert names == ["main.py:answer"] * 2


def test_imported_a_file_is_its_module():
    assert function_name(defined_in) == f"{__name__}.defined_in"
    assert inspect.getmodule(defined_in).__name__ == __name__
