"""Guarantee 2, wrappers: the call is what the wrapper is given, by the names of the function behind it."""

import functools

import pytest

from exp_pool import ThresholdJudge, exp_cache, set_exp_manager
from exp_pool.api import function_registry
from exp_pool.calls.call_spec import CallSpec
from exp_pool.calls.request import bind_call
from exp_pool.errors import ConfigurationError


@pytest.fixture(autouse=True)
def manager(make_manager, monkeypatch):
    monkeypatch.setattr(function_registry, "_known", {})  # each test wraps the same functions in its own way
    manager = make_manager(index="none://", embedder="none")
    set_exp_manager(manager)
    return manager


def with_default(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        kwargs.setdefault("model", "gpt-5")
        return function(*args, **kwargs)

    return wrapper


def with_other_default(function):
    @functools.wraps(function)
    def wrapper(q, model="gpt-5"):
        return function(q, model)

    return wrapper


def turned_round(function):
    @functools.wraps(function)
    def wrapper(model, q):
        return function(q, model)

    return wrapper


def by_name_only(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(args[0], kwargs.get("model", "none"))

    return wrapper


def with_one_more(function):
    @functools.wraps(function)
    def wrapper(*args, shout=False, **kwargs):
        said = function(*args, **kwargs)
        return said.upper() if shout else said

    return wrapper


def in_order(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs) + f" {[*kwargs]}"

    return wrapper


def untouched(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def fake(function):
    """As packages do that write the signature down."""
    inner = with_default(function)
    inner.__signature__ = __import__("inspect").signature(function)
    return inner


def ask(q, model="gpt-4"):
    return f"{model}: {q}"


def many(q, **options):
    return f"{q}: {[*options.items()]}"


CALLS = [(("x",), {}), (("x", "gpt-4"), {}), (("x",), {"model": "gpt-4"}), (("x",), {"model": "gpt-5"}), ((), {"q": "x"}), (("gpt-4", "x"), {}),
         ((), {"model": "gpt-4", "q": "x"}), (("x",), {"shout": True}), (("x",), {"model": "gpt-4", "shout": True}), (("x",), {"shout": False})]  # fmt: skip
WRAPPERS = [with_default, with_other_default, turned_round, by_name_only, with_one_more, in_order, untouched, fake]


@pytest.mark.parametrize("wrap", WRAPPERS, ids=lambda w: w.__name__)
def test_a_wrapped_function_answers_as_it_would_uncached(manager, wrap):
    plain, cached = wrap(ask), exp_cache(wrap(ask))

    def told(function, call):
        try:
            return function(*call[0], **call[1])
        except (TypeError, IndexError) as err:
            return type(err)

    for _ in range(2):
        assert [told(cached, call) for call in CALLS] == [told(plain, call) for call in CALLS]
    assert manager.stats().hits >= sum(isinstance(told(plain, call), str) for call in CALLS)
    assert manager.stats().uncached == 0


def test_a_function_that_is_decorated_twice_is_bound_by_its_wrapper(make_manager):
    cached = make_manager(index="none://", embedder="none").exp_cache(name="outer")(exp_cache(with_default(ask)))
    assert [cached("x"), cached("x", model="gpt-4")] == ["gpt-5: x", "gpt-4: x"]


def test_a_wrapper_whose_parameters_are_those_of_the_function_has_its_key():
    """Pools of before answer."""
    assert exp_cache(untouched(ask)).key("x", "gpt-4") == exp_cache(ask).key("x", "gpt-4")


def test_options_name_the_parameters_of_the_function_behind(manager):
    cached = exp_cache(exclude=["model"], redact=["q"])(untouched(ask))
    assert cached("x", "a") == cached("x", "b") == cached("x", model="c") == "a: x"
    with pytest.raises(ConfigurationError, match="nobody"):
        exp_cache(exclude=["nobody"])(with_other_default(ask))
    (stored,) = manager.sync.iter_exps()
    assert stored.arguments == {"q": "[redacted]"}


def test_secrets_and_texts_are_known_by_their_names(manager):
    def call(prompt, api_key, password="S3CRET"):
        return [prompt, len(password)]

    exp_cache(untouched(call))("hello", "S3CRET")
    (stored,) = manager.sync.iter_exps()
    hidden = {"api_key": "[redacted]", "<closure>": {"<defaults>": {"password": "[redacted]"}}}
    assert (stored.request, stored.arguments) == ("hello", {"prompt": "hello", **hidden})


def test_what_is_injected_reaches_the_function_and_the_rest_stays_as_it_was_given(make_manager):
    manager = make_manager(embedder=lambda texts: [[1.0, 0.0]] * len(texts))
    shown = []

    @manager.exp_cache(inject="experiences")
    @with_default
    def answer(question, experiences=(), model="gpt-4"):
        shown.append((question, len(experiences), model))
        return model

    assert answer("one", model="m") == "m"
    manager.sync.flush()
    assert answer("two", model="m") == "m"
    assert answer("three") == "gpt-5"
    assert shown == [("one", 0, "m"), ("two", 1, "m"), ("three", 1, "gpt-5")]


class Agent:
    @exp_cache
    @with_default
    def ask(self, q, model="gpt-4"):
        return [type(self).__name__, model, q]


class Other(Agent): ...


def test_methods_behind_wrappers(manager):
    for _ in range(2):
        assert [Agent().ask("x"), Agent().ask("x", model="gpt-4")] == [["Agent", "gpt-5", "x"], ["Agent", "gpt-4", "x"]]
        assert Other().ask("x") == ["Other", "gpt-5", "x"]
    assert (manager.stats().hits, manager.stats().uncached) == (3, 0)


# The order of **kwargs


@pytest.mark.parametrize("wrap", [lambda f: f, untouched])
def test_the_order_of_keywords_counts_where_the_function_sees_it(wrap):
    cached = exp_cache(wrap(many))
    for _ in range(2):
        assert cached("x", a=1, b=2) == "x: [('a', 1), ('b', 2)]"
        assert cached("x", b=2, a=1) == "x: [('b', 2), ('a', 1)]"
    assert exp_cache(ask)(model="m", q="x") == exp_cache(ask).lookup("x", "m").experience.response


def test_calls_of_another_order_are_no_similar_calls(make_manager):
    manager = make_manager(embedder=lambda texts: [[1.0, 0.0]] * len(texts))
    cached = manager.exp_cache(judge=ThresholdJudge(0.5))(many)
    cached("x", a=1, b=2)
    manager.sync.flush()
    assert cached("y", b=2, a=1) == "y: [('b', 2), ('a', 1)]"
    assert cached("y", a=1, b=2) == "x: [('a', 1), ('b', 2)]"


def test_keys_of_keywords_in_the_order_of_the_alphabet_are_those_of_before():
    spec = CallSpec(many, name="f")
    assert "<by name>" not in bind_call(spec, ("x",), {"a": 1, "b": 2}, "n", None).named
    assert bind_call(spec, ("x",), {"b": 2, "a": 1}, "n", None).named["<by name>"] == ["b", "a"]
