"""Guarantee 2: whatever a function uses of its project counts as its source, however it gets hold of it."""

import importlib
import itertools
import sys
from unittest import mock

import pytest

from exp_pool.core.identity.source import SourceDigest, digest_of

_numbers = itertools.count()
APP = "written_found"


@pytest.fixture
def app(tmp_path, monkeypatch):
    """Import a module with this source, beside one named `prompts` and one named `tools`."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def forget():
        for name in [name for name in sys.modules if name.partition(".")[0] == APP]:
            del sys.modules[name]

    def load(source, prompts="", tools=""):
        folder = tmp_path / str(next(_numbers)) / APP
        folder.mkdir(parents=True)
        for name, text in {"__init__": "", "main": source, "prompts": prompts, "tools": tools}.items():
            (folder / f"{name}.py").write_text(text)
        forget()
        monkeypatch.syspath_prepend(folder.parent)
        importlib.invalidate_caches()
        return importlib.import_module(f"{APP}.main")

    yield load
    forget()


def asked(module):
    return digest_of(module.Agent.ask if hasattr(module, "Agent") and hasattr(module.Agent, "ask") else module.ask)


AGENT = "    def ask(self, q): return self.prompt(q)\n"
BASE = "class Base:\n    def prompt(self, q): return 'v1' + q\n"
OTHER = "class Base:\n    def prompt(self, q): return 'old'\n"
# By what a function uses: the module, in which 'v1' is edited.
USED = {
    # a base by its name
    "a base in another class": f"class Outer:\n    class Base:\n        def prompt(self, q): return 'v1' + q\n{OTHER}class Agent(Outer.Base):\n{AGENT}",
    "a base under another name": "class OldBase:\n    def prompt(self, q): return 'v1' + q\nBase = OldBase\nclass Agent(Base):\n"
    + AGENT,
    "a base that a function makes": "def make():\n    class Base:\n        def prompt(self, q): return 'v1' + q\n    return Base\nclass Agent(make()):\n"
    + AGENT,
    "a base whose name a nested class has, too": f"{BASE}class Agent(Base):\n{AGENT}class Z:\n    class Base:\n        def prompt(self, q): return 'old'\n",
    "a base of a nested class": f"class Outer:\n    class Base:\n        def prompt(self, q): return 'v1' + q\n    class Agent(Base):\n        def ask(self, q): return self.prompt(q)\n{OTHER}ask = Outer.Agent.ask\n",
    "a base of a class that comes from it": f"class Agent:\n{AGENT}class Mixin:\n    def prompt(self, q): return 'v1' + q\nM = Mixin\nclass Child(M, Agent): pass\n",
    "a base beside it in a function": "def make():\n    class Base:\n        def prompt(self, q): return 'v1' + q\n    class Agent(Base):\n        def ask(self, q): return self.prompt(q)\n    return Agent\nclass Z:\n    class Base:\n        def prompt(self, q): return 'old'\nask = make().ask\n",
    # a base by its method
    "super() in a method": f"{BASE}class Agent(Base):\n    def prompt(self, q): return super().prompt(q) + '!'\n{AGENT}",
    "super() twice": f"{BASE}class Middle(Base):\n    def prompt(self, q): return super().prompt(q) + '!'\nclass Agent(Middle):\n    def prompt(self, q): return super().prompt(q) + '?'\n{AGENT}",
    "super() of another name": f"class Base:\n    def other(self, q): return self.last(q)\n    def last(self, q): return 'v1' + q\nclass Agent(Base):\n    def prompt(self, q): return super().other(q) + '!'\n{AGENT}",
    "super() with arguments": f"{BASE}class Agent(Base):\n    def prompt(self, q): return super(Agent, self).prompt(q) + '!'\n{AGENT}",
    # what stands under a condition
    "a class under if": f"import sys\nif sys.version_info > (3,):\n    class Agent:\n        def prompt(self, q): return 'v1' + q\n    {AGENT}else:\n    class Agent:\n        def prompt(self, q): return 'old'\n    {AGENT}",
    "a class under else": "import sys\nif sys.version_info < (3,):\n    class Help:\n        def prompt(self, q): return 'old'\nelse:\n    class Help:\n        def prompt(self, q): return 'v1' + q\ndef ask(q): return Help().prompt(q)\n",
    "a class under try": "try:\n    import json\n    class Help:\n        def prompt(self, q): return 'v1' + q\nexcept ImportError:\n    class Help:\n        def prompt(self, q): return 'old'\ndef ask(q): return Help().prompt(q)\n",
    "a class of values under try": "try:\n    import json\n    class Help:\n        P = 'v1'\nexcept ImportError:\n    class Help:\n        P = 'old'\ndef ask(q): return Help.P\n",
    # the object itself
    "self given to a function": "def render(agent, q): return agent.prompt(q)\nclass Agent:\n    def prompt(self, q): return 'v1' + q\n    def ask(self, q): return render(self, q)\n",
    "self under another name": "class Agent:\n    def prompt(self, q): return 'v1' + q\n    def ask(self, q):\n        me = self\n        return me.prompt(q)\n",
    "self as text": "class Agent:\n    def __str__(self): return 'v1'\n    def ask(self, q): return f'{self}' + q\n",
    "self by a name that is computed": "class Agent:\n    def on_a(self, q): return 'v1' + q\n    def ask(self, q, kind='a'): return getattr(self, 'on_' + kind)(q)\n",
    "self called": "class Agent:\n    def __call__(self, q): return 'v1' + q\n    def ask(self, q): return self(q)\n",
    "self as a context": "class Agent:\n    def __enter__(self): return 'v1'\n    def __exit__(self, *a): pass\n    def ask(self, q):\n        with self as t: return t + q\n",
    "the class of self": "class Agent:\n    P = 'v1'\n    def ask(self, q): return self.__class__.P + q\n",
    "type(self)": "class Agent:\n    P = 'v1'\n    def ask(self, q): return type(self).P + q\n",
    "self by place only": "class Agent:\n    P = 'v1'\n    def prompt(self, q, /): return self.P + q\n" + AGENT,
    "self in a method, given away": f"class Base:\n    P = 'v1'\ndef render(agent, q): return agent.P + q\nclass Agent(Base):\n    def prompt(self, q): return render(self, q)\n{AGENT}",
    # other functions
    "what singledispatch was given": "from functools import singledispatch\n@singledispatch\ndef render(x): return 'any'\n@render.register\ndef _(x: str): return 'v1' + x\n@render.register\ndef _(x: int): return 'int'\ndef ask(q): return render(q)\n",
    "a method that is assigned": "class Help:\n    def run(self, q): return 'x'\ndef better(self, q): return 'v1' + q\nHelp.run = better\ndef ask(q): return Help().run(q)\n",
    "a method of its own class that is assigned": f"class Agent:\n    def prompt(self, q): return 'x'\n{AGENT}def better(self, q): return 'v1' + q\nAgent.prompt = better\n",
    "a helper behind a decorator that hides it": f"from {APP}.tools import traced\nT = 'v1'\n@traced\ndef helper(q): return T + q\ndef ask(q): return helper(q)\n",
    "a name of two underscores": "__prompt__ = 'v1'\ndef ask(q): return __prompt__ + q\n",
}
TRACED = "def traced(f):\n    def w(*a): return f(*a)\n    return w\n"


@pytest.mark.parametrize("what", USED)
def test_what_it_uses_counts_however_it_gets_hold_of_it(app, what):
    source = USED[what]
    used = asked(app(source, tools=TRACED))
    assert asked(app(source.replace("v1", "v2"), tools=TRACED)) != used
    assert used.startswith("1:")


@pytest.mark.parametrize("what", USED)
def test_what_makes_no_difference_to_it_does_not_count(app, what):
    source = USED[what]
    used = asked(app(source, tools=TRACED))
    more = "# from here on\n\n" + source.replace("'v1'", "'v' '1'  # said so\n" if "'v1'\n" in source else "('v1')")
    more += "\n\ndef unrelated(q): return q\n\n\nclass Unrelated:\n    def prompt(self, q): return q\n"
    assert asked(app(more, tools=TRACED)) == used


def test_a_class_that_did_not_run_does_not_count(app):
    for what in ("a class under if", "a class under else", "a class under try", "a base in another class"):
        assert asked(app(USED[what].replace("'old'", "'older'"))) == asked(app(USED[what])), what


@pytest.mark.parametrize(
    "asks", ["q", "type(self).__name__", "self.__class__.__name__", "isinstance(self, object)", "super().__init__()"]
)
def test_a_method_that_nobody_asks_for_does_not_count(app, asks):
    fmt = "    @staticmethod\n    def fmt(q): return str(q)\n"
    prompt = f"    def prompt(self, q): return self.fmt({asks})\n"
    source = f"class Agent:\n    def other(self): return 'v1'\n{fmt}{prompt}{AGENT}"
    assert asked(app(source.replace("v1", "v2"))) == asked(app(source))
    assert asked(app(source.replace("str(q)", "repr(q)"))) != asked(app(source))


@pytest.mark.parametrize(
    "prompts",
    [
        "class Base:\n    HI = 'v1'\nclass Prompts(Base):\n    X = 1\n",
        "NAME = 'v1'\nclass Prompts:\n    HI = f'hi {NAME}'\n",
        "class Prompts:\n    NAME = 'v1'\n    HI = f'hi {NAME}'\n",
        "T = {'a': 'v1'}\nclass Base:\n    HI = 'hi' + T['a']\nclass Prompts(Base): pass\n",
    ],
)
def test_a_class_constant_of_another_module_is_followed(app, prompts):
    source = f"from {APP}.prompts import Prompts\ndef ask(q): return Prompts.HI + q\n"
    used = asked(app(source, prompts))
    assert asked(app(source, prompts.replace("v1", "v2"))) != used
    assert asked(app(source, "# here\n" + prompts + "    Y = 2\n\nOTHER = 3\n".replace("    Y = 2\n", ""))) == used


# ── What is bound anew while the program runs ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "setter",
    [
        "    if model != MODEL:\n        MODEL = model\n",
        "    old, MODEL = MODEL, model\n",
        "    print(MODEL)\n    MODEL = model\n",
        "    MODEL = model\n",
    ],
)
@pytest.mark.parametrize(("first", "second"), [("'small'", "big"), ("0.5", 0.7), ("'x'", "")])
def test_what_another_function_sets_is_noticed_also_where_it_reads_it(app, setter, first, second):
    module = app(f"MODEL = {first}\ndef use(model):\n    global MODEL\n{setter}def ask(q): return MODEL, q\n")
    source = SourceDigest(module.ask)
    before = source.current()
    module.use(second)
    assert source.current() != before


COUNTERS = {
    "a sum": "n = 0\ndef count():\n    global n\n    n += 1\ndef ask(q): return n, q\n",
    "a sum spelt out": "n = 0\ndef count():\n    global n\n    n = n + 1\ndef ask(q): return n, q\n",
    "what it sets itself": "n = 5\ndef ask(q):\n    global n\n    n = max(n, len(q)) * 2\n    return n\ndef count(): ask('q')\n",
    "what a helper of it sets": "import time\nlast = 1.0\ndef wait():\n    global last\n    if time.time() - last < 0: pass\n    last = time.time()\ndef ask(q):\n    wait()\n    return q\ndef count(): wait()\n",
    "what a method of a helper sets": "last = 1\nclass Limit:\n    def wait(self):\n        global last\n        last = last * 2\nlimit = Limit()\ndef ask(q):\n    Limit().wait()\n    return q\ndef count(): limit.wait()\n",
    "what is filled when it is needed": "text = None\ndef load():\n    global text\n    if text is None: text = 'read'\n    return text\ndef ask(q): return q if text is None else text\ndef count(): load()\n",
    "what is filled once": "ready = False\ndef setup():\n    global ready\n    if not ready: ready = True\ndef ask(q): return q, ready\ndef count(): setup()\n",
    "a client that is made later": "client = None\ndef count():\n    global client\n    client = object()\ndef ask(q): return q, client\n",
}


@pytest.mark.parametrize("what", COUNTERS)
def test_what_counts_or_is_filled_later_is_no_setting(app, what):
    module = app(COUNTERS[what])
    source = SourceDigest(module.ask)
    before = source.current()
    for _ in range(2):
        module.count()
        assert source.current() == before
    assert digest_of(module.ask) == before


@pytest.mark.parametrize(
    ("literal", "other"),
    [
        ("{'a': 'A'}", {"a": "B"}),
        ("['A']", ["B"]),
        ("{}", {"a": "A"}),
        ("{'a': ['x', {'y': 1}]}", {"a": ["x", {"y": 2}]}),
    ],
)
def test_a_container_that_is_bound_anew_is_noticed(app, literal, other):
    module = app(f"P = {literal}\ndef ask(q): return P, q\n")
    source = SourceDigest(module.ask)
    before, token = source.current(), source.token()
    with mock.patch.object(module, "P", other):
        during = source.current()
        assert during != before
        assert source.token() is not token
        assert source.current() == during
    assert source.current() == before


def test_a_container_that_was_set_before_the_first_call_is_noticed(app):
    text = "P = {'a': 'A'}\ndef load(lang):\n    global P\n    P = {'a': lang}\ndef ask(q): return P, q\n"
    found = []
    for lang in ("de", "fr", "de", "A"):
        module = app(text)
        module.load(lang)
        found.append(digest_of(module.ask))
    assert found[0] == found[2] != found[1]
    assert found[3] == digest_of(app(text).ask)


@pytest.mark.parametrize("literal", ["{}", "{'a': 1}", "[]"])
def test_what_a_container_collects_changes_nothing(app, literal):
    module = app(f"P = {literal}\nN = 'a'\ndef clear():\n    global P\n    P = type(P)()\ndef ask(q): return P, N, q\n")
    source = SourceDigest(module.ask)
    before = source.current()
    module.P.update(b=2) if isinstance(module.P, dict) else module.P.append(2)
    assert source.current() == before
    module.N = "b"
    source.current()
    module.N = "a"
    assert source.current() == before


def test_objects_that_are_made_anew_count_by_their_text(app):
    module = app(
        "class Cfg:\n    def __init__(self, m): self.m = m\ncfg = Cfg('small')\ndef ask(q): return cfg.m + q\n"
    )
    source = SourceDigest(module.ask)
    before = source.current()
    module.cfg = module.Cfg("big")
    assert source.current() == before


# ── Without source ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("literal", ["{'a': 'v1'}", "['v1']", "('v1', ['x'])", "'v1'"])
def test_where_there_is_no_source_plain_data_counts_by_its_value(literal):
    def made(text):
        space = {"__name__": "nowhere"}
        exec(text, space)  # as `python -c` does
        return space["ask"]

    text = f"P = {literal}\nimport threading\nlock = threading.Lock()\ndef ask(q): return P, lock, q\n"
    assert digest_of(made(text)) == digest_of(made("\n# here\n" + text)) != digest_of(made(text.replace("v1", "v2")))


def test_what_a_program_executes_counts_by_its_value_though_the_program_has_a_file(app):
    text = "exec({!r})\n".format("P = {'a': 'v1'}\ndef ask(q): return P, q\n")
    used = asked(app(text))
    assert asked(app("# here\n" + text)) == used != asked(app(text.replace("v1", "v2")))


def test_what_is_collected_where_there_is_no_source_changes_nothing():
    space = {"__name__": "__main__"}
    exec("P = ['a']\nN = 'a'\ndef ask(q):\n    P.append(q)\n    return P, N\n", space)
    source = SourceDigest(space["ask"])
    before = source.current()
    space["ask"]("q")
    space["N"] = "b"
    source.current()
    space["N"] = "a"
    assert source.current() == before
