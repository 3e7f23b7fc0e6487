"""Programs that are edited between two runs, and programs of one name: whose answer is it then?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from peers.bench import Lab, Recomputed, Unsupported, Wrong, case

_HEAD = "from peers.bench import ran\nfrom peers.program import ask, cached\n"
_PLAIN = """
PROMPT = "Be brief: "

def polish(text):
    return text.strip() + "."

@cached
def answer(text, mark="!"):
    ran()
    return PROMPT + polish(text) + mark

ask(answer, "x")
"""
_TYPED = """
from dataclasses import dataclass

@dataclass
class Reply:
    title: str

@cached
def answer(text) -> Reply:
    ran()
    return Reply(text)

ask(answer, "x")
"""

# What is edited, the text before, the text after, and whether the answer of before may still be given.
_EDITS = (
    ("the function is edited", _PLAIN, ("polish(text) + mark", "polish(text).upper() + mark"), False),
    ("a prompt that it names is edited", _PLAIN, ("Be brief", "Be polite"), False),
    ("a function that it calls is edited", _PLAIN, ('+ "."', '+ "?"'), False),
    ("a default is edited", _PLAIN, ('mark="!"', 'mark="..."'), False),
    ("a field of its return type is renamed", _TYPED, ("title", "heading"), False),
    ("only a comment is edited", _PLAIN, ("    ran()", "    # says that it runs\n    ran()"), True),
    ("only lines above it are added", _PLAIN, ('PROMPT = "', 'OTHER = 1\n\nPROMPT = "'), True),
)


def _run(lab: Lab, file: Path, text: str, kept: Path) -> tuple[int, str]:
    """How often the function of the program ran, and the answer, in a process of its own."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(_HEAD + text)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(file), lab.peer.name, str(kept)],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    runs, answer = json.loads(done.stdout.splitlines()[-1])
    return runs, answer


def _emptied(lab: Lab, name: str) -> Path:
    """A new folder for answers."""
    if not lab.peer.durable:
        raise Unsupported("keeps nothing on a disk of its own")
    folder: Path = lab.peer.folder / name
    folder.mkdir()
    return folder


def _one_then_other(lab: Lab, one: tuple[str, str], other: tuple[str, str], *, same: bool) -> None:
    """Run two programs: the second must give what it gives alone, and find it where the first had the same to say."""
    kept, fresh = _emptied(lab, "kept"), _emptied(lab, "fresh")
    _run(lab, lab.peer.folder / one[0], one[1], kept)
    _, wanted = _run(lab, lab.peer.folder / other[0], other[1], fresh)
    runs, got = _run(lab, lab.peer.folder / other[0], other[1], kept)
    if got != wanted:
        raise Wrong(f"gave {got}, not {wanted}")
    if same and runs:
        raise Recomputed("ran again")


def _enter(name: str, text: str, edit: tuple[str, str], same: bool) -> None:
    @case("source", name, timeout=60)
    async def _(lab: Lab) -> None:
        edited = text.replace(*edit)
        assert edited != text
        _one_then_other(lab, ("asking.py", text), ("asking.py", edited), same=same)


for _edit in _EDITS:
    _enter(*_edit)


@case("source", "two scripts of one name in two folders", timeout=60)
async def _(lab: Lab) -> None:
    one, other = _PLAIN, _PLAIN.replace("Be brief", "Be polite")
    _one_then_other(lab, ("one/main.py", one), ("other/main.py", other), same=False)


_FACTORY = """
def asking(settings, polish):
    @cached
    def answer(text):
        ran()
        return f"{settings['prompt']} {polish(text)}"
    return answer

def brief(text):
    return text[:1]

def loud(text):
    return text.upper()

ask(asking({"prompt": "Be brief."}, brief), "xy")
"""


def _enter_closure(name: str, edit: tuple[str, str]) -> None:
    @case("source", name, timeout=60)
    async def _(lab: Lab) -> None:
        _one_then_other(lab, ("asking.py", _FACTORY), ("asking.py", _FACTORY.replace(*edit)), same=False)


_enter_closure("another dict in its closure", ('{"prompt": "Be brief."}', '{"prompt": "Be polite."}'))
_enter_closure("another function in its closure", ("}, brief)", "}, loud)"))


_WRAPPED = """
import functools, inspect

def with_default(function):
    @functools.wraps(function)
    def wrapper(text, mark="?"):
        return function(text, mark)
    return wrapper

def answer(text, mark="!"):
    ran()
    return text + mark

plain, wrapped = cached(answer), cached(with_default(answer))

async def compare():
    got = [plain("x"), wrapped("x")]
    got = [await one if inspect.isawaitable(one) else one for one in got]
    return got

ask(compare)
"""


@case("source", "below functools.wraps, with another default", timeout=60)
async def _(lab: Lab) -> None:
    _, got = _run(lab, lab.peer.folder / "asking.py", _WRAPPED, _emptied(lab, "kept"))
    if got != repr(["x!", "x?"]):
        raise Wrong(f"gave {got}")
