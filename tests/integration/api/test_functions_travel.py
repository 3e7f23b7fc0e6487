"""Decorated functions where functions are sent: pickled, copied, run in other processes."""

import copy
import functools
import json
import pickle
import weakref

import cloudpickle
import dill
import pytest
from support.children import told_by

from exp_pool import Inject, exp_cache, get_exp_manager, set_exp_manager


@pytest.fixture(autouse=True)
def manager(make_manager):
    set_exp_manager(make_manager())
    return get_exp_manager()


@exp_cache(ttl="1h")
def double(x):
    """Doubles."""
    return 2 * x


@exp_cache
async def adouble(x):
    return 2 * x


@exp_cache
def chunks(x):
    yield from x


@exp_cache
async def achunks(x):
    for chunk in x:
        yield chunk


@exp_cache(batch="items")
def each(items):
    return [2 * item for item in items]


class Agent:
    def __init__(self):
        self.tool, self.again = double, self.ask

    @exp_cache(self_key=())
    def ask(self, q):
        return q

    @exp_cache
    @classmethod
    def make(cls, q):
        return cls.__name__ + q

    @classmethod
    @exp_cache
    def made(cls, q):
        return cls.__name__ + q

    @staticmethod
    @exp_cache
    def check(q):
        return q

    @exp_cache(self_key=())
    def __mangled(self, q):
        return q

    def mangled(self):
        return self.__mangled


class Sub(Agent):
    def ask(self, q):
        return "sub " + super().ask(q)


def shadowed(x):
    return x + 1


under_another_name = exp_cache(shadowed)


class Holder:
    def __init__(self, held):
        self.held = held

    def hold(self):
        return self.held

    __call__ = hold


FUNCTIONS = [double, adouble, chunks, achunks, each, Agent.ask, Agent.check]
EVERY_WAY = [pickle, cloudpickle, dill]


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
@pytest.mark.parametrize("way", EVERY_WAY, ids=lambda way: way.__name__)
def test_what_has_a_name_is_itself_again(way, function):
    assert way.loads(way.dumps(function)) is function


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_in_every_protocol(protocol):
    assert pickle.loads(pickle.dumps(double, protocol)) is double
    assert pickle.loads(pickle.dumps([double, double], protocol)) == [double, double]


@pytest.mark.parametrize("way", EVERY_WAY, ids=lambda way: way.__name__)
def test_bound_methods(way):
    for method, answer in ((Agent().ask, "x"), (Agent.make, "Agentx"), (Sub.make, "Subx"), (Sub().make, "Subx")):
        again = way.loads(way.dumps(method))
        assert again("x") == answer
        assert again.call("x").found_by == "exact"
    assert way.loads(way.dumps(Sub.made))("x") == "Subx"
    assert way.loads(way.dumps(Agent().mangled()))("x") == "x"
    agent = way.loads(way.dumps(Agent()))
    assert agent.again.__self__ is agent and agent.tool is double


def test_another_name_than_its_own():
    again = pickle.loads(pickle.dumps(under_another_name))
    assert [again(1), again.call(1).found_by, again.__name__] == [2, "exact", "shadowed"]


def test_what_has_no_name_does_not_pickle_and_says_so():
    with pytest.raises((pickle.PicklingError, AttributeError), match="<lambda>"):
        pickle.dumps(exp_cache(lambda x: x))


def nested(factor):
    @exp_cache(ttl="1h", inject=Inject("experiences"))
    def inner(x, experiences=None):
        """Multiplies."""
        return factor * x

    inner.since = "1.0"
    return inner


@pytest.mark.parametrize("way", [cloudpickle, dill], ids=lambda way: way.__name__)
def test_by_value(way, manager):
    for function, answer in (
        (exp_cache(lambda x: x + 1), 3),
        (nested(3), 6),
        (manager.exp_cache(name="less")(lambda x: x - 1), 1),
    ):
        again = way.loads(way.dumps(function))
        assert (again.__name__, again.__doc__, again.__module__) == (
            function.__name__,
            function.__doc__,
            function.__module__,
        )
        assert again is not function and again.key(2) == function.key(2)
        assert again(2) == answer
        assert function.call(2).found_by == "exact"
        assert vars(again).keys() == vars(function).keys()
        assert again.__get__(1).__func__ is again
    assert way.loads(way.dumps(nested(3))).since == "1.0"


@pytest.mark.parametrize("way", [cloudpickle, dill], ids=lambda way: way.__name__)
def test_a_function_by_value_that_calls_itself(way):
    def family():
        @exp_cache
        def factorial(n):
            return 1 if n == 0 else n * factorial(n - 1)

        @exp_cache
        def even(n):
            return n == 0 or odd(n - 1)

        @exp_cache
        def odd(n):
            return n != 0 and even(n - 1)

        return factorial, even, odd

    factorial, even, _ = way.loads(way.dumps(family()))
    assert (factorial(5), even(7)) == (120, False)
    of_the_function = way.loads(way.dumps(family()[0].original))
    assert of_the_function(4) == 24


@pytest.mark.parametrize("way", [cloudpickle, dill], ids=lambda way: way.__name__)
def test_a_class_by_value(way, manager):
    def make():
        class Local:
            @exp_cache(self_key=())
            def ask(self, q):
                return type(self).__name__ + q

            @exp_cache
            @classmethod
            def make(cls, q):
                return cls.__name__ + q

        return Local

    again = way.loads(way.dumps(make()))
    assert (again().ask("x"), again.make("x"), again.make.call("x").value) == ("Localx",) * 3


def test_partials_and_bound_methods_of_others_pickle_as_they_do():
    for decorated, answer in (
        (exp_cache(functools.partial(shadowed, 5)), 6),
        (exp_cache(functools.partial(shadowed, x=1)), 2),
        (exp_cache(exclude=["self"])(Holder(7).hold), 7),
        (exp_cache(exclude=["self"], name="held")(Holder(8)), 8),
    ):
        again = pickle.loads(pickle.dumps(decorated))
        assert again() == answer and again.call().found_by == "exact"


# ── Copies ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_copy_is_itself(manager):
    of_manager = manager.exp_cache(lambda x: x)
    for function in (double, adouble, of_manager, nested(2)):
        assert copy.copy(function) is function and copy.deepcopy(function) is function
    assert copy.copy(Agent().ask)("x") == "x"


def test_an_agent_that_holds_a_tool_can_be_copied():
    agent = Agent()
    copied = copy.deepcopy(agent)
    assert copied.tool is double
    assert copied.again.__self__ is copied, "as other bound methods"


def test_weak_references():
    agent = Agent()
    assert weakref.ref(double)() is double
    method = weakref.WeakMethod(agent.ask)
    assert method() == agent.ask and method()("x") == "x"
    del agent.again, agent
    assert method() is None


# ── Other processes ───────────────────────────────────────────────────────────────────────────────────────────────────

MULTIPROCESSING = """
import json, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor

from exp_pool import ExpManager, exp_cache, set_exp_manager

manager = ExpManager(store="sqlite:///pool.db", index="none://", embedder="none")
set_exp_manager(manager)

@exp_cache
def double(x):
    return [2 * x, os.getpid()]

@manager.exp_cache
def triple(x):
    return [3 * x, os.getpid()]

class Agent:
    @exp_cache(self_key=())
    def ask(self, x):
        return [4 * x, os.getpid()]

if __name__ == "__main__":
    first = [function(1) for function in (double, triple, Agent().ask)]
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(2) as pool:
        found = [pool.map(function, [1, 2]) for function in (double, triple, Agent().ask)]
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        found += [list(executor.map(function, [1, 2])) for function in (double, triple, Agent().ask)]
    print(json.dumps([os.getpid(), first, found, sorted({e.function for e in manager.sync.iter_exps()})]))
    manager.sync.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_multiprocessing_and_executors(tmp_path, how):
    """Run there, answered from what was stored here, and stored for those who come later: under one name."""
    script = tmp_path / "work.py"
    script.write_text(MULTIPROCESSING)
    [[parent, first, found, functions]], _ = told_by(script, how, cwd=tmp_path)
    assert [[value for value, _ in answers] for answers in found] == [[2, 4], [3, 6], [4, 8]] * 2
    assert [answers[0] for answers in found] == first * 2, "stored here before"
    assert [answers[1] for answers in found[:3]] == [answers[1] for answers in found[3:]], "stored there before"
    assert parent not in {pid for answers in found for _, pid in answers[1:]}
    assert len(functions) == 3


BY_VALUE = """
import json, os, subprocess, sys
import cloudpickle, dill, joblib

from exp_pool import ExpManager, exp_cache, set_exp_manager

manager = ExpManager(store="sqlite:///other.db", index="none://", embedder="none")
class Observer:
    def notify(self, event): ...

with_objects = ExpManager(store="memory://", index="none://", embedder="none", observers=[Observer()])

@exp_cache
def ask(q):
    "Asks."
    return [q, os.getpid()]

@manager.exp_cache
def told(q):
    return [q, os.getpid()]

@with_objects.exp_cache
def lost(q):
    return [q, os.getpid()]

class Agent:
    @exp_cache(self_key=())
    def ask(self, q):
        return [q, os.getpid()]

WORKER = '''
import importlib, json, sys, warnings
warnings.simplefilter("always")
loads = importlib.import_module(sys.argv[1]).loads
for line in sys.stdin:
    functions = loads(bytes.fromhex(line))
    answers = [[function("x")[0], function.call("x").found_by] for function in functions]
    keys = [function.key("x") for function in functions if function.__name__ != "lost"]
    print(json.dumps([answers, keys]))
'''

if __name__ == "__main__":
    dill.settings["recurse"] = True  # or it sends no globals, of no function
    way = {"cloudpickle": cloudpickle, "dill": dill}[sys.argv[1]]
    told("x")
    functions = [ask, told, lost, Agent().ask]
    sent = way.dumps(functions).hex()
    done = subprocess.run([sys.executable, "-c", WORKER, sys.argv[1]], input=sent + "\\n" + sent, capture_output=True, text=True)
    print(json.dumps([done.stdout, done.stderr, [f.key("x") for f in functions if f is not lost]]))
    there = [joblib.Parallel(2)(joblib.delayed(ask)(q) for q in "abcd") for _ in range(2)]
    set_exp_manager(ExpManager(store="sqlite:///.exp_pool/pool.db", index="none://", embedder="none"))
    print(json.dumps([function.call("x").found_by for function in functions]))
    print(json.dumps([there[0] == there[1] == [ask(q) for q in "abcd"], os.getpid() in [pid for _, pid in there[0]]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["cloudpickle", "dill"])
def test_by_value_into_a_process_that_knows_nothing(tmp_path, monkeypatch, way):
    """As workers of joblib, Ray, Dask get functions of a script: they are cached there, and under the script's name."""
    monkeypatch.setenv("EXP_POOL_INDEX", "none://")
    monkeypatch.setenv("EXP_POOL_EMBEDDER", "none")
    script = tmp_path / "work.py"
    script.write_text(BY_VALUE)
    [[out, err, keys], here, of_joblib], _ = told_by(script, way, cwd=tmp_path)
    assert "AssertionError" not in err and "has not been imported" not in err, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 2, err
    for answers, keys_there in lines:
        assert answers == [["x", "exact"], ["x", "exact"], ["x", None], ["x", "exact"]]
        assert keys_there == keys
    assert err.count("was made with objects (observers)") == 1
    assert here == ["exact", "exact", None, "exact"], "what was stored there answers here"
    assert of_joblib == [True, False]


def test_a_manager_goes_along(manager, make_manager):
    assert pickle.loads(pickle.dumps(manager)) is manager and copy.deepcopy(manager) is manager
    assert pickle.loads(pickle.dumps(manager.exp_cache))(lambda x: x)(1) == 1
