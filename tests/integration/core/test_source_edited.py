"""Guarantee 2: what a process answers with the text that it has loaded does not answer for text saved meanwhile."""

import importlib
import itertools
import linecache
import os
import subprocess
import sys
import textwrap
import time

import pytest
from support.paths import ROOT

from exp_pool.core.identity.source import SourceDigest, digest_of

_numbers = itertools.count()
MAIN = """
import pathlib, sys
{imports}
from exp_pool import exp_cache
EARLY = {early}
file = pathlib.Path({file!r})
def save():
    for old, new in zip(sys.argv[1::2], sys.argv[2::2]):
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
if EARLY: save()
{define}
if not EARLY: save()
print(ask('q'), runs)
"""
ASK = "runs = []\n@exp_cache\ndef ask(q):\n    runs.append(q)\n    return {} + q\n"
IN_A_CLOSURE = "runs = []\ndef make(h):\n    @exp_cache\n    def ask(q):\n        runs.append(q)\n        return h(q)\n    return ask\nask = make(helper)\n"
# What another module holds, and how it is used.
HELD = {
    "a dict": ("P = {'a': 'v1 '}\n", "from other import P", ASK.format("P['a']")),
    "a class": ("class P:\n    HI = 'v1 '\n", "from other import P", ASK.format("P.HI")),
    "an object": (
        "class P:\n    def __init__(self, t): self.t = t\nP = P('v1 ')\n",
        "import other",
        ASK.format("other.P.t"),
    ),
    "what is computed": ("def made(t): return t + ' '\nP = made('v1')\n", "import other", ASK.format("other.P")),
    "a default": ("def helper(q, t='v1 '): return t + q\n", "from other import helper", IN_A_CLOSURE),
    "a function": ("def helper(q): return 'v1 ' + q\n", "from other import helper", IN_A_CLOSURE),
}


@pytest.fixture
def project(tmp_path):
    """Write a project, and run its program in a process of its own."""
    (tmp_path / "pyproject.toml").write_text("")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EXP_POOL_")}
    environment |= {"EXP_POOL_EMBEDDER": "none", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = str(ROOT)

    def run(*arguments, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        command = [sys.executable, "main.py", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.mark.parametrize("what", HELD)
def test_what_was_saved_before_the_first_call_is_asked_anew(project, what):
    text, imports, define = HELD[what]
    main = MAIN.format(imports=imports, early=False, file="other.py", define=define)
    assert project("v1", "v2 and more", main=main, other=text) == "v1 q ['q']"
    assert project() == "v2 and more q ['q']"
    assert project() == "v2 and more q []"


def test_a_program_that_was_saved_while_it_was_starting_is_asked_anew(project):
    define = "def helper(q): return 'v1 ' + q\n" + ASK.format("helper(q)")
    main = MAIN.format(imports="", early=True, file="main.py", define=define)
    assert project("'v1 '", "'v2 '", main=main) == "v1 qq ['q']"
    assert project() == "v2 qq ['q']"
    assert project() == "v2 qq []"


def test_what_nobody_saved_goes_on_answering(project):
    text, imports, define = HELD["an object"]
    main = MAIN.format(imports=imports, early=False, file="other.py", define=define)
    assert project(main=main, other=text) == "v1 q ['q']"
    assert project() == "v1 q []"
    assert project(other="# said so\n" + text) == "v1 q []"


def test_what_a_process_writes_before_it_loads_it_is_as_good_as_older(project):
    text, imports, define = HELD["an object"]
    writes = f"pathlib.Path('other.py').write_text({text!r})\n{imports}"
    written = MAIN.format(imports=writes, early=False, file="other.py", define=define)
    assert project(main=written) == "v1 q ['q']"
    assert project() == "v1 q []"
    assert project(main=MAIN.format(imports=imports, early=False, file="other.py", define=define)) == "v1 q []"


# ── In one process ────────────────────────────────────────────────────────────────────────────────────────────────────

OTHER = """
import logging
log = logging.getLogger(__name__)
TABLE = {'a': 1}
class Style:
    SIGN = '!'
    def __private(self): return 1
    @property
    def end(self): return self.SIGN
def helper(q): return 'v1' + q
"""
USES = "from written_edited.other import Style\nimport written_edited.other as other\ndef make(h):\n    def ask(q): return h(q), other.TABLE, other.log, Style.SIGN\n    return ask\nask = make(other.helper)\n"


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A package of two modules; the function that imports it, and the path of the other one's file."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(other):
        for name in [name for name in sys.modules if name.partition(".")[0] == "written_edited"]:
            del sys.modules[name]
        folder = tmp_path / str(next(_numbers)) / "written_edited"
        folder.mkdir(parents=True)
        for name, text in {"__init__": "", "main": USES, "other": other}.items():
            (folder / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(folder.parent)
        importlib.invalidate_caches()
        return importlib.import_module("written_edited.main"), folder / "other.py"

    yield load
    for name in [name for name in sys.modules if name.partition(".")[0] == "written_edited"]:
        del sys.modules[name]


def save(file, old, new):
    """As an editor does it a moment later."""
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    later = time.time() + 5
    os.utime(file, (later, later))


EDITS = [("'v1'", "'v2'"), ("{'a': 1}", "{'a': 2}"), ("SIGN = '!'", "SIGN = '?'"), ("(__name__)", "('x')")]


@pytest.mark.parametrize(("old", "new"), EDITS)
def test_until_it_is_loaded_again_a_saved_file_has_a_digest_of_this_process_alone(modules, old, new):
    main, file = modules(OTHER)
    source = SourceDigest(main.ask)
    save(file, old, new)
    here = source.current()
    assert source.current() == here
    edited = digest_of(modules(OTHER.replace(old, new))[0].ask)
    assert len({here, edited, digest_of(modules(OTHER)[0].ask)}) == 3


@pytest.mark.parametrize(("old", "new"), EDITS)
def test_what_was_loaded_again_has_the_digest_of_what_it_says_now(modules, old, new):
    main, file = modules(OTHER)
    digest_of(main.ask)
    save(file, old, new)
    importlib.reload(main.other)
    importlib.reload(main)
    assert digest_of(main.ask) == digest_of(modules(OTHER.replace(old, new))[0].ask)


def test_what_is_left_of_a_module_from_before_it_was_loaded_again_is_told_apart(modules):
    main, file = modules(OTHER)
    source = SourceDigest(main.ask)
    save(file, "'v1'", "'v2'")
    importlib.reload(main.other)  # main.ask goes on with the function of before
    assert source.current() != digest_of(modules(OTHER.replace("'v1'", "'v2'"))[0].ask)


def test_what_a_notebook_patches_in_place_has_the_digest_of_what_it_says_now(modules):
    """As IPython's ``%autoreload`` does it since version 9."""
    main, file = modules(OTHER)
    cell = "/tmp/ipykernel_1/edited.py"
    text = textwrap.dedent("def ask(q): return helper(q), other.TABLE, other.log\n")
    linecache.cache[cell] = (len(text), None, text.splitlines(keepends=True), cell)
    space = {"__name__": "__main__", "other": main.other}

    def asked():
        exec(compile(text, cell, "exec"), space)
        return SourceDigest(space["ask"])

    try:
        asked()
        save(file, "'v1'", "'v2'")
        sealed = asked().current()
        made = {}
        exec(compile(file.read_text(), str(file), "exec"), made)
        main.other.helper.__code__ = made["helper"].__code__
        patched = asked().current()
        assert patched == asked().current() != sealed
        save(file, "(__name__)", "('x')")
        assert asked().current() != asked().current()
    finally:
        del linecache.cache[cell]
