"""Guarantee 2: two functions from different places never share an automatic name; the same one again is the same."""

import functools
import importlib
import re
import sys
import textwrap

import pytest

from exp_pool import exp_cache, set_exp_manager
from exp_pool.errors import ExpPoolWarning


@pytest.fixture(autouse=True)
def manager(make_manager):
    manager = make_manager(index="none://", embedder="none")
    set_exp_manager(manager)
    return manager


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """Write a module, import it or load it again."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"written_for_{abs(hash(request.node.name))}"
    path = tmp_path / f"{name}.py"
    lines = [0]

    def load(source):
        lines[0] += 1
        path.write_text("from exp_pool import exp_cache\n" + textwrap.dedent(source) + "\n" * lines[0])
        importlib.invalidate_caches()
        sys.dont_write_bytecode = True
        if name in sys.modules:
            return importlib.reload(sys.modules[name])
        return importlib.import_module(name)

    yield load
    sys.modules.pop(name, None)


def test_two_functions_of_one_qualified_name_do_not_share_an_answer(module):
    found = module(
        """
        @exp_cache
        def ask(q):
            return ["first", q]

        first = ask

        @exp_cache
        def ask(q):
            return ["second", q]
        """
    )
    assert found.first("q") == ["first", "q"]
    with pytest.warns(ExpPoolWarning, match=r"another function of the name .*ask is at .*:\d+.* its own with name="):
        assert found.ask("q") == ["second", "q"]
    assert found.ask("q") == ["second", "q"]
    assert found.first("q") == ["first", "q"]


def test_methods_of_two_classes_of_one_name(module):
    found = module(
        """
        def classes():
            class Agent:
                @exp_cache
                def act(self, q):
                    return "first"
            first = Agent
            class Agent:
                @exp_cache
                def act(self, q):
                    return "second"
            return first, Agent
        """
    )
    first, second = found.classes()
    assert [first().act("q"), first().act("q")] == ["first", "first"]
    assert [second().act("q"), second().act("q")] == ["second", "second"]


def test_lambdas_do_not_share_an_answer_not_even_on_one_line(module):
    found = module(
        "one, two = exp_cache(lambda q: [1, q]), exp_cache(lambda q: [2, q])\nthree = exp_cache(lambda q: 3)"
    )
    assert [found.one("q"), found.two("q"), found.three("q")] == [[1, "q"], [2, "q"], 3]


def test_a_module_that_is_loaded_again_has_the_same_functions(module, manager):
    source = """
        @exp_cache
        def ask(q):
            return ["answer", q]
        """
    module(source).ask("q")
    found = module("\n\n\n" + textwrap.dedent(source))  # further down
    assert found.ask.lookup("q") is not None
    assert found.ask("q") == ["answer", "q"]
    assert manager.stats().uncached == 0


def test_source_that_changed_under_the_same_version_is_said_once(module, manager):
    module("@exp_cache(version='1')\ndef ask(q):\n    return 'old'").ask("q")
    found = module("# a comment changes nothing\n@exp_cache(version='1')\ndef ask(q):\n    return 'old'")
    found.ask("q")
    found = module("@exp_cache(version='1')\ndef ask(q):\n    return 'new'")
    with pytest.warns(ExpPoolWarning, match="the source of .*ask has changed.*version="):
        assert found.ask("q") == "old"
    assert found.ask("q") == "old"
    found = module("@exp_cache(version='2')\ndef ask(q):\n    return 'new'")
    assert found.ask("q") == "new"


def cell(source, number, names):
    """Run a notebook's cell, as IPython does."""
    exec(compile(textwrap.dedent(source), f"<ipython-input-{number}-0123456789ab>", "exec"), names)


def test_a_notebook_cell_run_again_is_the_same_function(manager):
    names = {"__name__": "__main__", "exp_cache": exp_cache}
    source = "@exp_cache\ndef ask_notebook(q):\n    return ['a', q]"
    cell(source, 1, names)
    assert names["ask_notebook"]("q") == ["a", "q"]
    cell(source, 2, names)
    assert names["ask_notebook"].lookup("q") is not None
    cell(source.replace("'a'", "'b'"), 3, names)
    with pytest.warns(ExpPoolWarning, match="ask_notebook: its source has changed since 1 of its answers"):
        assert names["ask_notebook"]("q") == ["b", "q"]
    assert manager.stats().uncached == 0


def test_lambdas_of_two_notebook_cells_do_not_share_an_answer():
    names = {"__name__": "__main__", "exp_cache": exp_cache}
    cell("one = exp_cache(lambda q: [1, q])", 1, names)
    cell("two = exp_cache(lambda q: [2, q])", 2, names)
    assert [names["one"]("q"), names["two"]("q")] == [[1, "q"], [2, "q"]]


def test_a_factory_called_again_makes_the_same_function_and_its_closure_tells_the_calls_apart(module, manager):
    found = module(
        """
        def make(n, tags=()):
            @exp_cache
            def ask(q):
                return [n, q, tags]
            return ask
        """
    )
    assert [found.make(1)("q"), found.make(2)("q"), found.make(1)("q")] == [[1, "q", ()], [2, "q", ()], [1, "q", ()]]
    assert found.make(1, ("x",))("q") == [1, "q", ("x",)]
    assert (manager.stats().misses, manager.stats().uncached) == (3, 0)


def test_a_name_given_by_hand_shares_on_purpose(module, manager):
    found = module(
        """
        @exp_cache(name="shared")
        def one(q):
            return ["one", q]

        @exp_cache(name="shared")
        def two(q):
            return ["two", q]
        """
    )
    assert [found.one("q"), found.two("q")] == [["one", "q"]] * 2


def test_decorating_the_same_function_twice_is_no_conflict(manager):
    def ask(q):
        return ["a", q]

    one, two = exp_cache(ask), exp_cache(version="2")(ask)
    assert [one("q"), two("q")] == [["a", "q"]] * 2
    assert (manager.stats().uncached, manager.stats().stored) == (0, 2)


def test_two_modules_of_one_name_do_not_share_an_answer(tmp_path):
    import importlib.util

    found = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / "twin.py"
        path.write_text(f"from exp_pool import exp_cache\n@exp_cache\ndef ask(q):\n    return [{number}, q]\n")
        spec = importlib.util.spec_from_file_location("twin_module", path)
        twin = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(twin)
        found.append(twin)
    assert [twin.ask("q") for twin in found] == [[1, "q"], [2, "q"]]


def shout(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args).upper()

    return wrapper


def whisper(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args).lower()

    return wrapper


def test_two_wrappers_around_one_function_do_not_share_an_answer(manager):
    def ask(q):
        return q.title()

    loud, quiet, plain = exp_cache(shout(ask)), exp_cache(whisper(ask)), exp_cache(ask)
    with pytest.warns(ExpPoolWarning, match="its own with name="):
        assert [loud("abc"), quiet("abc"), plain("abc")] == ["ABC", "abc", "Abc"]
    again = exp_cache(shout(ask))
    assert [loud("abc"), again("abc"), quiet("abc")] == ["ABC", "ABC", "abc"]
    assert manager.stats().hits == 2


def test_a_factory_of_differently_wrapped_functions(manager):
    def make(wrap):
        @exp_cache
        @wrap
        def ask(q):
            return q.title()

        return ask

    loud, quiet = make(shout), make(whisper)
    with pytest.warns(ExpPoolWarning, match="its own with name="):
        assert [loud("abc"), quiet("abc"), loud("abc")] == ["ABC", "abc", "ABC"]


def test_bound_methods_of_c_objects_go_by_their_object(manager):
    functions = [{"k": 1}.get, {"k": 2}.get, {"k": 1}.get]
    assert [exp_cache(function)("k") for function in functions] == [1, 2, 1]
    functions = [re.compile(text).sub for text in ("a", "b", "a")]
    assert [exp_cache(function)("x", "ab") for function in functions] == ["xb", "ax", "xb"]
    functions = [["a"].index, ["b", "a"].index]
    assert [exp_cache(function)("a") for function in functions] == [0, 1]
    assert (manager.stats().hits, manager.stats().uncached) == (2, 0)
    assert exp_cache([].index)._spec.name == "builtins.list.index"
