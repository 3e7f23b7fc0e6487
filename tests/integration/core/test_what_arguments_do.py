"""Guarantee 2: functions, classes and objects as arguments are keyed by name and content; what they do counts as source.

An edited schema, formatter or method of a settings object makes the call asked anew, as an edited function does.
"""

import importlib
import os
import subprocess
import sys
import uuid

import pytest

from exp_pool import ExpManager
from exp_pool.errors import ExpPoolWarning

PLAIN = {"index": "none://", "embedder": "none"}
HEAD = "import dataclasses, enum, functools, typing\nimport pydantic\nRUNS = []\n"
TAIL = """
def ask(q, given=None):
    RUNS.append(q)
    return q

def other():
    return 1
"""

# What is defined, what is edited in it, and the argument.
GIVEN = {
    "a model as schema": ("class Answer(pydantic.BaseModel):\n    name: str\n", ("name: str", "name: str\n    age: int = 0"), "Answer"),
    "a dataclass as schema": ("@dataclasses.dataclass\nclass Answer:\n    name: str\n", ("name: str", "title: str"), "Answer"),
    "a plain class": ("class Answer:\n    PROMPT = 'a'\n", ("'a'", "'b'"), "Answer"),
    "a class with a base": ("class Base:\n    PROMPT = 'a'\nclass Answer(Base):\n    pass\n", ("'a'", "'b'"), "Answer"),
    "a typed dict": ("class Answer(typing.TypedDict):\n    name: str\n", ("name: str", "title: str"), "Answer"),
    "a function": ("def fmt(x):\n    return x + '.'\n", ("'.'", "'!'"), "fmt"),
    "a function that names a constant": ("MARK = '.'\ndef fmt(x):\n    return x + MARK\n", ("'.'", "'!'"), "fmt"),
    "a partial": ("def fmt(mark, x):\n    return x + mark + '.'\n", ("'.'", "'!'"), "functools.partial(fmt, '-')"),
    "in a list": ("def fmt(x):\n    return x + '.'\n", ("'.'", "'!'"), "[1, {'f': fmt}]"),
    "a dataclass with a method": ("@dataclasses.dataclass\nclass Config:\n    name: str\n    def prompt(self):\n        return 'a' + self.name\n", ("'a'", "'b'"), "Config('x')"),
    "a model with a method": ("class Config(pydantic.BaseModel):\n    name: str\n    def prompt(self):\n        return 'a' + self.name\n", ("'a'", "'b'"), "Config(name='x')"),
    "a member of an enum": ("class Mode(enum.Enum):\n    FAST = 1\n    def prompt(self):\n        return 'a'\n", ("'a'", "'b'"), "Mode.FAST"),
    "a named tuple": ("class Pair(typing.NamedTuple):\n    a: int\n    def prompt(self):\n        return 'a'\n", ("'a'", "'b'"), "Pair(1)"),
    "in a field of a dataclass": ("class Tone:\n    def __exp_key__(self):\n        return 1\n    def prompt(self):\n        return 'a'\n@dataclasses.dataclass\nclass Config:\n    tone: object\n", ("'a'", "'b'"), "Config([Tone()])"),
    "a function in a field": ("def fmt(x):\n    return x + '.'\n@dataclasses.dataclass\nclass Config:\n    write: object\n", ("'.'", "'!'"), "Config(fmt)"),
    "in a field of a model": ("@dataclasses.dataclass\nclass Tone:\n    name: str\n    def prompt(self):\n        return 'a'\nclass Config(pydantic.BaseModel):\n    tone: typing.Any\n", ("'a'", "'b'"), "Config(tone={'it': Tone('x')})"),
    "an object with __exp_key__": ("class Config:\n    def __exp_key__(self):\n        return 1\n    def prompt(self):\n        return 'a'\n", ("'a'", "'b'"), "Config()"),
}  # fmt: skip
HARMLESS = {
    "a comment": lambda text: text.replace("def ask", "# said\ndef ask").replace("    ", "    # said\n    ", 1),
    "another function": lambda text: text.replace("def other():\n    return 1", "def other():\n    return 2"),
    "lines above": lambda text: "\n\n" + text,
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs ``ask`` of this text with this argument; how often it ran, of which the second time was a moment later."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = f"given_{uuid.uuid4().hex}"  # two functions of one name from two files would not be cached

    def run(text, argument, then=lambda ask: None, **options):
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        module = importlib.import_module(name)
        with ExpManager(store=f"sqlite:///{tmp_path}/pool.db", **PLAIN) as manager:
            ask = manager.exp_cache(module.ask, **options) if not options else manager.exp_cache(**options)(module.ask)
            then(ask)
            for _ in range(2):
                assert ask("q", eval(argument, vars(module))) == "q"
            runs = len(module.RUNS)
        sys.modules.pop(name, None)
        return runs

    return run


@pytest.mark.parametrize("name", GIVEN)
def test_what_an_argument_does_was_edited(run, name):
    text, edit, argument = GIVEN[name]
    text = HEAD + text + TAIL
    assert run(text, argument) == 1
    assert run(text, argument) == 0
    for change in HARMLESS.values():
        assert run(change(text), argument) == 0
    edited = text.replace(*edit)
    assert edited != text
    with pytest.warns(
        ExpPoolWarning, match="of a function or class that it was given has changed since 1 of its answers"
    ):
        assert run(edited, argument) == 1
    assert run(edited, argument) == 0


def test_answers_of_other_arguments_are_no_earlier_ones(run, recwarn):
    text = HEAD + GIVEN["a function"][0] + TAIL
    assert run(text, "fmt") == 1
    assert run(text, "1") == 1
    assert run(text, "fmt") == 0
    assert [str(each.message) for each in recwarn if "has changed" in str(each.message)] == []


def test_adopted_they_answer_whatever_their_arguments_do(run):
    text, edit, argument = GIVEN["a function"]
    text = HEAD + text + TAIL
    edited = text.replace(*edit)
    adopted = []
    assert run(text, argument) == 1
    assert run(edited, argument, then=lambda ask: adopted.append(ask.adopt())) == 0
    assert run(edited, argument, then=lambda ask: adopted.append(ask.adopt())) == 0
    assert adopted == [1, 0]
    edited = text.replace("return q", "return q[:]")
    with pytest.warns(ExpPoolWarning, match="its source has changed since 1 of its answers"):
        assert run(edited, argument) == 1


def test_who_takes_identity_in_hand_is_left_alone(run):
    text, edit, argument = GIVEN["a function"]
    text = HEAD + text + TAIL
    for options in ({"version": "2"}, {"source": "ignore"}):
        assert run(text, argument, **options) <= 1
        assert run(text.replace(*edit), argument, **options) == 0


LATE = """
import pathlib, sys
from exp_pool import ExpManager
import schema
manager = ExpManager(store="sqlite:///pool.db", index="none://", embedder="none")

@manager.exp_cache
def ask(q, given):
    return given.FIELD

if len(sys.argv) > 1:  # an editor, while the program runs
    pathlib.Path("schema.py").write_text("class Answer:\\n    FIELD = 'new'\\n")
print(ask("q", schema.Answer))
"""


def test_a_class_that_was_saved_while_the_process_ran_answers_for_nobody_else(tmp_path):
    (tmp_path / "main.py").write_text(LATE)
    (tmp_path / "schema.py").write_text("class Answer:\n    FIELD = 'old'\n")
    os.utime(tmp_path / "schema.py", (0, 0))
    said = []
    for more in (["edit"], []):
        command = [sys.executable, "-B", "-W", "ignore", "main.py", *more]
        said.append(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60).stdout.strip())
    assert said == ["old", "new"]
