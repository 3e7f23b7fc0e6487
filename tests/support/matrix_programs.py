"""Ways to start a program, for the matrix of guarantee 2: each variant asks in a process of its own, as people's do.

One program defines functions for every slot, so that few processes fill many cells: ``HERE`` stands for the slot's name.
"""

import json
import os
import py_compile
import subprocess
import sys
import zipfile

from support.matrix_ways import SLOT, TOLD
from support.paths import ROOT, TESTS

SLOTS = "source constant helper default plain dict object wrapper member class state".split()
BEGIN = """\
import functools
from exp_pool import exp_cache
from support.matrix_modules import Data, ran, report, where
"""
FUNCTIONS = """
CONST_HERE = "<constant>"
def helper_HERE():
    return "<helper>"
def well_HERE(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs) + ["<wrapper>"]
    return wrapper
@exp_cache
@well_HERE
def ask_HERE(q, p="<default>"):
    return TOLD + [p]
def make_HERE(p, d, o):
    @exp_cache
    def ask(q):
        return [ran(), p, d, o.model, *where(globals())]
    return ask
class Agent_HERE:
    tone = "<member>"
    def __init__(self, model):
        self.model = model
    @exp_cache(self_key=("model",))
    def ask(self, q):
        return [ran(), self.model, self.tone, type(self).__name__, *where(globals())]
class Loud_HERE(Agent_HERE): ...
class Quiet_HERE(Agent_HERE): ...
def outer_HERE():
    return exp_cache(lambda q, p="<default>": [ran(), "<source>", CONST_HERE, p, *where(globals())])
def ask_all_HERE():
    agent = {"a": Loud_HERE, "b": Quiet_HERE}.get("<class>", Agent_HERE)("<state>")
    made = make_HERE("<plain>", {"m": ["<dict>"]}, Data("<object>"))
    return [ask_HERE("q"), made("q"), agent.ask("q"), outer_HERE()("q")]
""".replace("TOLD", TOLD.replace("CONST", "CONST_HERE").replace("helper()", "helper_HERE()"))
END = 'report(globals(), {slot: f"ask_all_{slot}()" for slot in SLOTS})\n'


def program(value):
    """Its source, with this value in each slot of the functions that are for this slot."""
    text = "".join(
        SLOT.sub(lambda found, slot=slot: value if found[1] == slot else "same", FUNCTIONS.replace("HERE", slot))
        for slot in SLOTS
    )
    return f"{BEGIN}SLOTS = {SLOTS!r}\n{text}{END}"


class Programs:
    """Starts the program in a project of its own, with one pool for all.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder):
        self._folder = folder
        (folder / "pyproject.toml").touch()

    def start(self, how, value, place="here"):
        """What the program said of each slot; `place` is the folder that it is in."""
        return STARTED[how](self, program(value), place)

    def _write(self, path, text):
        path = self._folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def _run(self, *args, cwd=None, source=None, path=()):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*map(str, path), str(TESTS), str(ROOT)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "EXP_POOL_STORE": f"sqlite:///{self._folder}/pool.db",
        }
        done = subprocess.run(
            [sys.executable, *map(str, args)],
            cwd=cwd or self._folder,
            input=source,
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def script(self, text, place):
        return self._run(self._write(f"{place}/main.py", text))

    def module(self, text, place):
        return self._run("-m", "main", cwd=self._write(f"{place}/main.py", text).parent)

    def package(self, text, place):
        self._write(f"{place}/app/__init__.py", "")
        self._write(f"{place}/app/__main__.py", text)
        return self._run("-m", "app", cwd=self._folder / place)

    def text(self, text, place):
        return self._run("-c", text)

    def standard_input(self, text, place):
        return self._run("-", source=text)

    def installed(self, text, place):
        """Unpacked where nothing but the path leads to, beside what installers write."""
        installed = self._write("site-packages/app/core.py", text).parents[1]
        self._write("site-packages/app/__init__.py", "")
        self._write("site-packages/app-1.0.dist-info/METADATA", "Name: app\nVersion: 1.0\n")
        return self._run("-c", "import app.core", path=[installed])

    def byte_code(self, text, place):
        source = self._write("compiled/core.py", text)
        py_compile.compile(str(source), str(source.with_suffix(".pyc")), doraise=True)
        source.unlink()
        return self._run("-c", "import core", path=[source.parent])

    def archive(self, text, place):
        (self._folder / place).mkdir(exist_ok=True)
        file = self._folder / place / "app.pyz"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("__main__.py", text)
        return self._run(file)


STARTED = {
    "script": Programs.script,
    "python -m": Programs.module,
    "python -m of a package": Programs.package,
    "python -c": Programs.text,
    "standard input": Programs.standard_input,
    "installed package": Programs.installed,
    "bare byte code": Programs.byte_code,
    "zip archive": Programs.archive,
}
HAVE_A_FILE = ("script", "python -m", "python -m of a package", "zip archive")
