"""Guarantee 2: different calls never share an answer, whatever makes them different."""

import enum
import functools
import os

import numpy as np
import pytest
from pydantic import BaseModel

from exp_pool import Experience, SimpleContextBuilder, ThresholdJudge, exp_cache, get_exp_manager, set_exp_manager
from exp_pool.errors import ConfigurationError, ExpPoolWarning

ALIKE = {"embedder": lambda texts: np.ones((len(texts), 3))}


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


@pytest.mark.parametrize(
    ("a", "b"), [(Mode.FAST, Mode.SLOW), (("x", None), ("y", None)), ("x", "y"), (1, True)], ids=str
)
def test_closures_over_other_values(make_manager, a, b):
    manager = make_manager()

    def make(value):
        @manager.exp_cache
        def f(req):
            return repr(value)

        return f

    assert (make(a)("x"), make(b)("x"), make(a)("x")) == (repr(a), repr(b), repr(a))


def test_a_closure_hides_no_argument_and_is_never_the_text(make_manager):
    manager = make_manager(**ALIKE)

    def make(model, prompt):
        @manager.exp_cache(judge=ThresholdJudge(0.5))
        def f(x, **more):
            return f"{model} {prompt} {more}"

        return f

    f = make("closure", "be nice")
    assert f("x", model="a") != f("x", model="b")
    manager.sync.flush()
    assert make("closure", "be mean")("x", model="a").startswith("closure be mean")
    assert {e.request for e in manager.sync.iter_exps()} == {'{"x": "x", "model": "a"}', '{"x": "x", "model": "b"}'}


def test_keyword_mappings_cannot_pass_for_others(make_manager):
    @make_manager().exp_cache
    def f(*args, **kwargs):
        return repr((args, kwargs))

    calls = [{"args": 1}, {"kwargs": {"args": 1}}, {"kwargs": {"kwargs": {"args": 1}}}, {}]
    for _ in range(2):
        assert [f(**call) for call in calls] == [repr(((), call)) for call in calls]


def test_values_bound_by_a_partial_or_a_method_belong_to_the_call(make_manager):
    cache = make_manager().exp_cache

    def ask(model, req, times=1):
        return [model, req, times]

    def answers(hidden):
        return [cache(hidden)("hi"), cache(hidden)("hi")]

    assert answers(functools.partial(ask, "a")) == [["a", "hi", 1]] * 2
    assert answers(functools.partial(ask, "b")) == [["b", "hi", 1]] * 2
    assert answers(functools.partial(ask, "b", times=2)) == [["b", "hi", 2]] * 2
    assert answers(functools.partial(functools.partial(ask, times=3), "b")) == [["b", "hi", 3]] * 2
    assert cache(ask).lookup("b", "hi", 2) is not None, "the same call, written out"

    class Agent:
        def __init__(self, name):
            self.name = name

        def ask(self, req):
            return [self.name, req]

        def __call__(self, req):
            return ["called", self.name, req]

    for name in ("x", "y"):
        agent = Agent(name)
        assert cache(agent.ask, self_key=["name"])("hi") == [name, "hi"]
        assert cache(agent, self_key=["name"])("hi") == ["called", name, "hi"]
        assert cache(agent.ask, self_key=["name"]).lookup("hi").experience.response == [name, "hi"]
        with pytest.warns(ExpPoolWarning, match="it is not known which of them matter"):
            assert make_manager().exp_cache(agent)("hi") == ["called", name, "hi"]


def test_a_class_is_no_function():
    class Agent: ...

    with pytest.raises(ConfigurationError, match="not the class"):
        exp_cache(Agent)


def test_bound_builtins_have_no_identity(make_manager):
    @make_manager().exp_cache
    def f(key, look_up):
        return look_up(key)

    with pytest.warns(ExpPoolWarning, match="bound to an object"):
        assert [f("k", {"k": 1}.get), f("k", {"k": 2}.get)] == [1, 2]


def test_with_a_key_of_ones_own_similarity_does_not_cross_it(make_manager):
    manager, user = make_manager(**ALIKE), ["ann"]

    @manager.exp_cache(key=lambda req: (req, user[0]), judge=ThresholdJudge(0.5))
    def mine(req):
        return user[0]

    assert mine("who am I?") == "ann"
    manager.sync.flush()
    user[0] = "bob"
    assert mine("who am I?") == "bob"


def test_a_function_that_changes_its_arguments_is_stored_as_it_was_asked(make_manager):
    manager = make_manager(**ALIKE)

    @manager.exp_cache(judge=ThresholdJudge(0.5))
    def chat(messages, opts):
        messages.append({"role": "user", "content": "summarise"})
        return opts.pop("lang", "en")

    assert chat([{"role": "user", "content": "hello"}], {"lang": "fr"}) == "fr"
    manager.sync.flush()
    assert [(e.request, e.arguments["opts"]) for e in manager.sync.iter_exps()] == [("hello", {"lang": "fr"})]
    assert chat([{"role": "user", "content": "hello there"}], {}) == "en"


def test_a_rewritten_conversation_is_still_one(make_manager):
    manager = make_manager(**ALIKE)
    seen = []

    @manager.exp_cache(context_builder=SimpleContextBuilder())
    def chat(messages):
        seen.append(messages)
        return messages[-1]["content"][:5]

    def ask(text):
        return chat([{"role": "system", "content": "s"}, {"role": "user", "content": text}])

    ask("first")
    manager.sync.flush()
    assert ask("second") == "secon"
    assert [m["role"] for m in seen[1]] == ["system", "user"]
    assert "first" in seen[1][1]["content"]


def test_secrets_are_not_stored_wherever_they_stand(make_manager):
    manager = make_manager()

    def make(api_key):
        @manager.exp_cache
        def f(req, **more):
            return req

        f.original.api_key = lambda: api_key
        return f

    class Agent:
        def __init__(self, api_key):
            self.api_key = api_key

        @manager.exp_cache(self_key=("api_key",))
        def ask(self, req):
            return req

    make("S3CRET")("x", password="S3CRET"), Agent("S3CRET").ask("x"), Agent("other").ask("x")
    assert manager.sync.get_exps_count() == 3
    assert all("S3CRET" not in repr(e) for e in manager.sync.iter_exps())


class Result(BaseModel):
    a: int


def find(q) -> Result:
    raise AssertionError("seeded")


def test_a_seeded_model_comes_back_typed(make_manager):
    manager = make_manager()
    cached = manager.exp_cache(find)
    manager.sync.create_exp(Experience.from_call(cached, ("x",), response=Result(a=5)))
    assert cached("x") == Result(a=5)


def test_decorating_twice_uses_both(make_manager):
    inner, outer = make_manager(), make_manager()

    @outer.exp_cache(name="outer")
    @inner.exp_cache(name="inner")
    def f(req):
        return req

    assert f("x") == "x"
    assert [e.function for m in (inner, outer) for e in m.sync.iter_exps()] == ["inner", "outer"]


def test_a_child_process_keeps_a_manager_that_was_set_by_hand(make_manager):
    mine = make_manager(store="sqlite:///mine.db", namespace="acme")
    set_exp_manager(mine)
    child = os.fork()
    if not child:
        os._exit(0 if get_exp_manager() is mine else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_argument_does_not_pass_for_the_closure(make_manager):
    manager = make_manager(index="none://", embedder="none")

    def make(n):
        @manager.exp_cache
        def f(q, **more):
            return [n, q, more]

        return f

    f = make(5)
    with pytest.warns(ExpPoolWarning, match="no name for an argument"):
        assert f(1, **{"<closure>": 1}) == [5, 1, {"<closure>": 1}]
    assert f(1, **{"<closure>": 2}) == [5, 1, {"<closure>": 2}]
    assert f(1) == f(1) == [5, 1, {}]
