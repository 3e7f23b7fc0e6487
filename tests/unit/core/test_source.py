"""The digest of a function's source: what changes it, and what does not."""

import functools
import importlib
import itertools
import linecache
import sys
import textwrap
import types
from pathlib import Path

import pytest

from exp_pool.core.identity.source import SourceDigest, digest_of

_numbers = itertools.count()

# One of everything that a digest looks at.
BASE = '''
import functools
import time

from exp_pool import exp_cache
from {pack}.prompts import FAREWELL
from {pack} import prompts

GREETING = "hello"
LIMITS = (1, 2.5, None)
STARTED = time.time()
FULL = GREETING + " there"
SEEN = []
counter = 0


def log_calls(prefix):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return prefix + function(*args, **kwargs)
        return wrapper
    return decorate


def polite(text):
    """Say it politely."""
    return GREETING + ", " + text


def unused(text):
    return text


class Style:
    tone = "dry"

    def apply(self, text):
        return self.tone + text


class Base:
    sign = "!"

    def close(self):
        return self.sign


class Agent(Base):
    template = "<{{}}>"

    @exp_cache(self_key=())
    def ask(self, q):
        return self.render(q) + self.close()

    def render(self, q):
        return self.template.format(q)

    def untouched(self):
        return 1


@exp_cache
@log_calls("> ")
def answer(question: str, limit: int = 3) -> str:
    """Answer it."""
    global counter
    counter += 1
    SEEN.append(question)
    said = polite(question)  # a comment
    if said > FULL and limit in LIMITS:
        return Style().apply(said)
    return f"{{said}} {{STARTED - STARTED:.0f}}{{FAREWELL}}{{prompts.MOTTO}}"
'''
PROMPTS = 'FAREWELL = "bye"\nMOTTO = "on and on"\nNOBODYS = 1\n'


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a package with these two modules, import it anew, and give the first one."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] == "written_app"]:
            del sys.modules[name]

    def make(source=BASE, prompts=PROMPTS):
        root = tmp_path / str(next(_numbers))
        folder = root / "written_app"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        (folder / "prompts.py").write_text(prompts)
        (folder / "main.py").write_text(source.replace("{pack}", "written_app").replace("{{", "{").replace("}}", "}"))
        forget()
        monkeypatch.syspath_prepend(root)
        importlib.invalidate_caches()
        return importlib.import_module("written_app.main")

    yield make
    forget()


SAYS_THE_SAME = {
    "nothing": ("", ""),
    "a comment": ("# a comment", "# another"),
    "a docstring": ('"""Answer it."""', '"""Answer it well."""'),
    "no docstring": ('    """Answer it."""\n', ""),
    "a helper's docstring": ("Say it politely", "Say it"),
    "an annotation": ("question: str", "question: 'object'"),
    "a return annotation": (") -> str:", ") -> 'str | None':"),
    "formatting": (
        'return GREETING + ", " + text',
        'return (\n        GREETING\n        + ", "\n        + text\n    )',
    ),
    "quotes": ('GREETING = "hello"', "GREETING = 'hello'"),
    "implicit joining": ('GREETING = "hello"', 'GREETING = "hel" "lo"'),
    "options of the decorator": ("@exp_cache\n@log", '@exp_cache(ttl="1h")\n@log'),
    "what stands above it": ("@exp_cache\n@log", "@functools.lru_cache\n@exp_cache\n@log"),
    "a function that is not named": ("def unused(text):\n    return text", "def unused(text):\n    return text * 2"),
    "a method that is not asked": ("return 1", "return 2"),
    "where it stands": ("class Style:", "\n\n\nclass Style:"),
    "an import more": ("import time", "import time, os"),
    "the start of a counter that it moves": ("counter = 0", "counter = 0  # from here"),
    "the annotation of a constant": ('GREETING = "hello"', 'GREETING: str = "hello"'),
}
RENAMED = 'quietly = exp_cache(ttl="1h")\n\n\n@quietly\n@log_calls("> ")'
SAYS_THE_SAME["the decorator under another name"] = ('@exp_cache\n@log_calls("> ")', RENAMED)
SAYS_ANOTHER_THING = {
    "the body": ("said = polite(question)", "said = polite(question + '?')"),
    "an operator": ("said > FULL", "said >= FULL"),
    "a literal": ('GREETING = "hello"', 'GREETING = "hi"'),
    "the type of a literal": ("LIMITS = (1, 2.5", "LIMITS = (True, 2.5"),
    "how a constant is computed": ('GREETING + " there"', 'GREETING + " you"'),
    "a helper": ('return GREETING + ", " + text', 'return GREETING + "; " + text'),
    "a class of the module": ("return self.tone + text", "return text + self.tone"),
    "a value of that class": ('tone = "dry"', 'tone = "wet"'),
    "the argument of a decorator below": ('@log_calls("> ")', '@log_calls(">> ")'),
    "a decorator below": ('@log_calls("> ")\n', ""),
    "what a decorator below does": ("return prefix + function", "return prefix * 2 + function"),
    "a default": ("limit: int = 3", "limit: int = 4"),
    "the literal part of an f-string": ("{{said}} {{STARTED", "{{said}}; {{STARTED"),
    "the format in an f-string": (":.0f}}", ":.1f}}"),
    "a name in an f-string": ("{{FAREWELL}}", "{{GREETING}}"),
}


@pytest.mark.parametrize("change", SAYS_THE_SAME)
def test_what_says_the_same_has_the_same_digest(package, change):
    old, new = SAYS_THE_SAME[change]
    assert old in BASE
    assert digest_of(package(BASE.replace(old, new, 1)).answer) == digest_of(package().answer)


@pytest.mark.parametrize("change", SAYS_ANOTHER_THING)
def test_what_says_another_thing_has_another_digest(package, change):
    old, new = SAYS_ANOTHER_THING[change]
    assert BASE.count(old) == 1
    assert digest_of(package(BASE.replace(old, new)).answer) != digest_of(package().answer)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('"bye"', '"farewell"', False),
        ('"on and on"', '"further"', False),
        ("NOBODYS = 1", "NOBODYS = 2", True),
        ('FAREWELL = "bye"', 'FAREWELL = "".join(["b", "ye"])', False),
    ],
)
def test_constants_of_another_module_of_the_project_count_too(package, old, new, same):
    assert (digest_of(package(prompts=PROMPTS.replace(old, new)).answer) == digest_of(package().answer)) is same


@pytest.mark.parametrize(
    ("asks", "with_import"),
    [
        ("{pack}.prompts.MOTTO", "import {pack}.prompts"),
        ("prompts.MOTTO", "from {pack} import prompts"),
        ("p.MOTTO", "import {pack}.prompts as p"),
        ("M", "from {pack}.prompts import MOTTO as M"),
        ("Style.MOTTO", "from {pack}.prompts import Style"),
        ("Tone.DRY.value", "from {pack}.prompts import Tone"),
        ("prompts.Style.MOTTO", "from {pack} import prompts"),
    ],
)
def test_however_a_constant_of_another_module_is_asked_for(package, asks, with_import):
    prompts = "import enum\nMOTTO = 'a'\nclass Style:\n    MOTTO = 'a'\nclass Tone(enum.Enum):\n    DRY = 'a'\n"
    source = f"{with_import}\ndef ask(q):\n    return {asks} + q\n"
    one, again, other = (
        digest_of(package(source, text).ask) for text in (prompts, prompts, prompts.replace("'a'", "'b'"))
    )
    assert one == again != other


def test_a_constant_behind_a_dotted_name_is_noticed_when_it_is_bound_anew(package):
    module = package("import {pack}.prompts\ndef ask(q):\n    return {pack}.prompts.MOTTO + q\n")
    before = digest_of(module.ask)
    sys.modules[f"{module.__package__}.prompts"].MOTTO = "another"
    assert digest_of(module.ask) != before


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("return self.template.format(q)", "return self.template.format(q) + '.'", False),
        ('template = "<{{}}>"', 'template = "[{{}}]"', False),
        ('sign = "!"', 'sign = "?"', False),
        ("return self.sign", "return self.sign * 2", False),
        ("return 1", "return 2", True),
        ('tone = "dry"', 'tone = "wet"', True),
    ],
)
def test_of_a_method_what_it_asks_of_its_own_class_counts(package, old, new, same):
    assert BASE.count(old) == 1
    assert (digest_of(package(BASE.replace(old, new)).Agent.ask) == digest_of(package().Agent.ask)) is same


def test_values_that_differ_from_run_to_run_change_nothing(package):
    module = package()
    before = digest_of(module.answer)
    module.STARTED, module.counter = module.STARTED + 100, 17
    module.SEEN.append("a question")
    assert digest_of(module.answer) == before


def test_a_literal_that_is_bound_anew_is_noticed(package):
    module = package()
    source = SourceDigest(module.answer)
    before, token = source.current(), source.token()
    assert source.token() is token
    module.GREETING = "good day"
    assert source.token() is not token
    assert source.current() != before
    module.GREETING = "hello"
    assert source.current() == before


def test_the_text_counts_that_was_there_when_the_function_was_decorated(package, tmp_path):
    module = package()
    expected = digest_of(module.answer)
    source = SourceDigest(module.answer)
    file = Path(module.__file__)
    file.write_text(file.read_text().replace("polite(question)", "polite(question + '!')"))
    assert source.current() == expected


def test_where_no_source_can_be_read_it_is_the_code_of_this_version_of_python():
    def made(text):
        space = {"__name__": "nowhere"}
        exec(text, space)  # as `python -c` does
        return digest_of(space["f"])

    one = made("def f(x):\n    return x + 1\n")
    assert one.startswith(f"code{sys.version_info[0]}.{sys.version_info[1]}:")
    assert made("\n\ndef f(x):\n    return x + 1  # here\n") == one
    assert made("def f(x):\n    return x + 2\n") != one
    assert made("def f(x):\n    return {'a', 'b'} | {x}\n") == made("def f(x):\n    return {'a', 'b'} | {x}\n")


@pytest.mark.parametrize("function", [len, str.upper, {}.get, dict, functools.partial(len, "abc")])
def test_what_was_not_written_in_python_has_none(function):
    assert digest_of(function) == ""


def test_lambdas_of_one_line_are_told_apart(package):
    module = package(
        "def twice(f): return f\na, b, c = (lambda x: x + 1), twice(lambda x: (lambda y: y)(x)), (lambda x: x + 2)\n"
    )
    again = package("a, b = (lambda x: x + 1), (lambda x: x + 2)\n")
    assert digest_of(module.a) == digest_of(again.a)
    assert len({digest_of(module.a), digest_of(module.b), digest_of(module.c)}) == 3
    assert not any(digest_of(f).startswith("code") for f in (module.a, module.b, module.c))


EDITED = {
    "two helpers behind one decorator": "def logged(f):\n    def w(*a): return f(*a)\n    return w\n@logged\ndef one(q): return 'a' + q\n@logged\ndef two(q): return 'v1' + q\ndef ask(q): return one(q) + two(q)\n",
    "a helper behind a library's decorator": "import contextlib\n@contextlib.contextmanager\ndef held(q):\n    yield 'v1' + q\ndef ask(q):\n    with held(q) as x: return x\n",
    "a helper that became an object": "class Tool:\n    def __init__(self, f): self.f = f\n    def __call__(self, q): return self.f(q)\n@Tool\ndef tool(q): return 'v1' + q\ndef ask(q): return tool(q)\n",
    "what a factory was given": "def make(p):\n    def f(q): return p + q\n    return f\nrender = make('v1')\ndef ask(q): return render(q)\n",
    "what a partial holds": "import functools\ndef fmt(p, q): return p + q\nrender = functools.partial(fmt, 'v1')\ndef ask(q): return render(q)\n",
    "the object of a bound method": "class G:\n    def __init__(self, t): self.t = t\n    def go(self, q): return self.t + q\nrender = G('v1').go\ndef ask(q): return render(q)\n",
    "a constant that is a helper's default": "T = 'v1'\ndef render(q, t=T): return t + q\ndef ask(q): return render(q)\n",
    "a constant that is its keyword's default": "T = 'v1'\ndef render(q, *, t=T): return t + q\ndef ask(q): return render(q)\n",
    "a table's entry": "R = {}\nR['a'] = 'v1'\ndef ask(q): return R['a'] + q\n",
    "what is put into a list": "R = []\nR.append('v1')\ndef ask(q): return R[0] + q\n",
    "an attribute from outside": "import types\ncfg = types.SimpleNamespace()\ncfg.t = 'v1'\ndef ask(q): return cfg.t + q\n",
    "a dict of another module": "from {pack} import prompts\ndef ask(q): return prompts.D['a'] + q\nV = 'v1'\nprompts.D['a'] = 'v1'\ndef more(): return prompts\n",
    "a constant made of a constant of another module": "from {pack} import prompts\nP = f'{prompts.MOTTO}v1'\ndef ask(q): return P + q\n",
    "a property's getter": "class A:\n    @property\n    def t(self): return 'v1'\n    @t.setter\n    def t(self, v): pass\n    def ask(self, q): return self.t + q\nask = A.ask\n",
    "a generic base": "from typing import Generic, TypeVar\nT = TypeVar('T')\nclass B(Generic[T]):\n    t = 'v1'\nclass A(B[int]):\n    def ask(self, q): return self.t + q\nask = A.ask\n",
    "a class attribute under a condition": "class A:\n    if True:\n        t = 'v1'\n    def ask(self, q): return self.t + q\nask = A.ask\n",
    "a class attribute made of another": "class A:\n    b = 'v1'\n    t = b + '!'\n    def ask(self, q): return self.t + q\nask = A.ask\n",
    "what a function is imported as": "from {pack}.prompts import v1 as render\ndef ask(q): return render(q)\n",
    "what a module is imported as": "import {pack}.prompts as p\nfrom {pack}.prompts import v1 as render\ndef ask(q): return render(q) + p.MOTTO\n",
    "a helper of the label itself": "def itself(q): return 'v1' + q\ndef ask(q): return itself(q)\n",
}


@pytest.mark.parametrize("what", [name for name in EDITED if name != "a dict of another module"])
def test_an_edit_of_it_is_noticed(package, what):
    prompts = "MOTTO = 'm'\nD = {}\ndef v1(q): return q\ndef v2(q): return q\n"
    source = EDITED[what].replace("{prompts.MOTTO}", "{{prompts.MOTTO}}")
    one, again, other = (digest_of(package(s, prompts).ask) for s in (source, source, source.replace("v1", "v2")))
    assert one == again != other


def test_a_dict_of_another_module_is_noticed(package):
    source = "from {pack} import prompts\ndef ask(q): return prompts.D['a'] + q\n"
    one, other = (digest_of(package(source, f"D = {{'a': '{value}'}}\n").ask) for value in "ab")
    assert one != other


@pytest.mark.parametrize(
    "binding",
    [
        "for MODEL in ['{}']: pass",
        "with __import__('contextlib').nullcontext('{}') as MODEL: pass",
        "MODEL = ''\nMODEL += '{}'",
    ],
)
def test_what_a_loop_binds_counts_by_its_value(package, binding):
    source = binding + "\ndef ask(q): return MODEL + q\n"
    module = package(source.replace("{}", "a"))
    watched = SourceDigest(module.ask)
    first = watched.current()
    module.MODEL = "another"
    assert watched.current() != first


def test_what_a_setter_binds_is_seen_and_what_a_counter_counts_is_not(package):
    module = package(
        "MODEL, n = 'a', 0\ndef use(model):\n    global MODEL\n    MODEL = model\n"
        "def ask(q):\n    global n\n    n += 1\n    return MODEL + q\n".replace(
            "MODEL, n = 'a', 0", "MODEL = 'a'\nn = 0"
        )
    )
    source = SourceDigest(module.ask)
    first = source.current()
    module.ask("q")
    assert source.current() == first
    module.use("b")
    assert source.current() != first


def test_a_helper_that_is_replaced_while_the_program_runs_is_noticed(package):
    module = package("def h(q): return q\ndef other(q): return q + q\ndef ask(q): return h(q)\n")
    source = SourceDigest(module.ask)
    first, real = source.current(), module.h
    module.h = module.other
    assert source.current() != first
    module.h = real
    assert source.current() == first


def test_which_of_two_functions_a_name_stands_for_counts(package):
    module = package(
        "def up(q): return q + 'u'\ndef lo(q): return q\nfor h in (up, lo): pass\ndef ask(q): return h(q)\n"
    )
    source = SourceDigest(module.ask)
    first = source.current()
    module.h = module.up
    assert source.current() != first


def test_a_large_module_is_walked_once(package):
    """Not once for each constant: with 300 of them that took a minute."""
    lines = [f"C{i} = {i}\n" for i in range(300)] + [
        f"def f{i}(x):\n    y = x + {i}\n    return y\n" for i in range(3000)
    ]
    module = package("".join(lines) + "def ask(q): return " + " + ".join(f"C{i}" for i in range(300)) + "\n")
    walked = []
    import ast

    walk = ast.walk
    try:
        ast.walk = lambda node: walked.append(1) or walk(node)
        digest_of(module.ask)
    finally:
        ast.walk = walk
    assert len(walked) < 20_000  # some for each statement; for each constant and statement it would be two million


def cell(source, space, number):
    """Run a cell as a notebook does: its text is known to linecache under a name of its own."""
    name = f"/tmp/ipykernel_1/{number}.py"
    text = textwrap.dedent(source)
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), space)


@pytest.fixture
def notebook():
    space = {"__name__": "__main__"}
    yield lambda source: cell(source, space, next(_numbers)) or space
    for name in [name for name in linecache.cache if name.startswith("/tmp/ipykernel_1/")]:
        del linecache.cache[name]


def test_a_notebook_notices_what_its_other_cells_bind_anew(notebook):
    notebook("PROMPT = 'one'\nimport time\nSTARTED = time.time()")
    notebook("def helper(q):\n    return PROMPT + q")
    space = notebook("def ask(q):\n    return helper(q) + str(STARTED)")
    source = SourceDigest(space["ask"])
    first = source.current()
    notebook("PROMPT = 'two'")
    second = source.current()
    notebook("STARTED = time.time()")
    assert source.current() == second != first
    notebook("def helper(q):\n    return PROMPT + q.upper()")
    assert source.current() not in (first, second)
    notebook("def helper(q):\n    return PROMPT + q")
    assert source.current() == second


def test_a_cell_and_a_file_that_say_the_same_have_the_same_digest(notebook, package):
    text = "PROMPT = 'one'\n\ndef ask(q):\n    return PROMPT + q\n"
    assert digest_of(notebook(text)["ask"]) == digest_of(package(text).ask)


def test_functions_in_closures_count_with_their_own_source(package):
    text = """
    def make(step):
        def ask(q):
            return step(q)
        return ask

    def one(q):
        return q + "1"

    def two(q):
        return q + "2"
    """
    module = package(textwrap.dedent(text))
    assert digest_of(module.make(module.one)) == digest_of(module.make(module.one))
    assert digest_of(module.make(module.one)) != digest_of(module.make(module.two))


def test_circles_come_to_an_end(package):
    text = "def a(n):\n    return b(n)\n\ndef b(n):\n    return a(n - 1)\n\ndef own(n):\n    def inner(k):\n        return inner(k - 1)\n    return inner\n"
    module = package(text)
    assert digest_of(module.a) == digest_of(package(text).a) != digest_of(module.b)
    assert digest_of(module.own(1)) == digest_of(package(text).own(1))


@pytest.mark.parametrize(
    "trouble",
    [
        lambda module: types.SimpleNamespace(),
        lambda module: type("Proxy", (), {"__getattr__": lambda self, name: 1 / 0})(),
        lambda module: type("Proxy", (), {"__getattr__": lambda self, name: self})(),
    ],
)
def test_odd_things_among_the_names_of_a_module_do_no_harm(package, trouble):
    module = package("CLIENT = 1\n\ndef ask(q):\n    return CLIENT.ask(q)\n")
    module.CLIENT = trouble(module)
    assert digest_of(module.ask).startswith("1:")


# Digests that pools hold: whoever changes how they are made has every answer asked anew.
GOLDEN = {
    "answer": "1:6a300d20987c6bfc6950a1727dda4293",
    "Agent.ask": "1:c1ff8def1e592423a3bff33b908b1132",
    "everything": "1:560961a4f098018015eef3603d9f18ba",
}
EVERYTHING = '''
import re

async def everything(a, /, b: int = 1, *rest, key=None, **more):
    match a:
        case {"x": [first, *others]} if first > 1:
            yield first
        case str() | None:
            pass
    total = sum(n ** 2 for n in range(10) if n % 2 == 0)
    async with open_it(a) as (x, y), other():
        while (line := x.read()) is not None:
            yield f"{line!r:>{b}} {total=} {'a' 'b'} {{}}"
        else:
            del y[1:2, ::3]
    try:
        return_value = [*rest, {**more, "k": -1.5e3j}, {1, 2}, b"\\xff", ...]
    except* (ValueError, re.error) as err:
        raise RuntimeError("é\\u2028") from err
    finally:
        assert return_value, "no"
    lambda *, z=1: (yield z)
    x: int
    x: int = 3
    @staticmethod
    def inner[KIND](p: "T") -> None:
        nonlocal_ = p @ b
    class Inside(dict, metaclass=type):
        """Doc."""
        field: int = 3
'''.replace("inner[KIND]", "inner")


def test_digests_are_the_same_for_ever_and_on_every_python(package):
    module = package()
    found = {"answer": digest_of(module.answer), "Agent.ask": digest_of(module.Agent.ask)}
    found["everything"] = digest_of(
        package(EVERYTHING.replace("{", "{{").replace("}", "}}").replace("{{pack}}", "")).everything
    )
    assert found == GOLDEN
