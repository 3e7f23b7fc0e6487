"""Which parameter holds the request text: said when a function is decorated, and what `request=` is given."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from pydantic import BaseModel

from exp_pool import Experience, Inject, PerfectJudge, SimpleContextBuilder, ThresholdJudge
from exp_pool.errors import ExpPoolWarning

SIMILAR = ThresholdJudge(0.9, guard=False)


class Query(BaseModel):
    words: str


def cities(city: str, country: str): ...
def styled(theme, style="formal"): ...
def nothing(): ...
def numbers(n: int, m: float = 0.5): ...
def structured(query_of: Query): ...
def listed(rows: list[str]): ...
def of_a_model(model: str): ...
def of_a_user(user_id: str, n: int): ...
def several(*texts: str, sep: str = "", end: str = ""): ...


def topic(topic, style="formal"): ...
def messages(messages: list[Any], model: str): ...
def alone(poem): ...
def typed(poem: str, lines: int, options: dict[str, str] | None = None): ...
def defaulted(poem, lines=3, strict=False): ...
def open_ended(**kwargs): ...


UNKNOWN = [cities, styled, nothing, numbers, structured, listed, of_a_model, of_a_user, several]
KNOWN = [topic, messages, alone, typed, defaulted, open_ended]


@pytest.mark.parametrize("function", UNKNOWN, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "options",
    [{"judge": SIMILAR}, {"inject": Inject("seen")}, {"context_builder": SimpleContextBuilder()}],
    ids=["judge", "inject", "context_builder"],
)
def test_it_is_said_once_that_no_parameter_is_known_to_hold_the_text(make_manager, function, options):
    manager = make_manager()
    name = f"{function.__name__}-{min(options)}"
    if "inject" in options:
        options = {"inject": Inject("seen")}
        spec = dict(function.__annotations__)

        def shown(*args, **kwargs): ...

        import inspect

        signature = inspect.signature(function)
        seen = inspect.Parameter("seen", inspect.Parameter.KEYWORD_ONLY, default=())
        shown.__signature__ = signature.replace(parameters=[*signature.parameters.values(), seen])
        shown.__annotations__ = spec
        function = shown
    with pytest.warns(ExpPoolWarning, match="request=") as said:
        manager.exp_cache(name=name, **options)(function)
        manager.exp_cache(name=name, **options)(function)
    (message,) = [str(each.message) for each in said]
    assert name in message and min(options) in message
    assert all(parameter in message for parameter in inspect_names(function))
    assert said[0].filename == __file__


def inspect_names(function):
    import inspect

    return [name for name in inspect.signature(function).parameters if name != "seen"] or ["none"]


@pytest.mark.parametrize("function", KNOWN, ids=lambda f: f.__name__)
def test_nothing_is_said_where_it_is_known(make_manager, function):
    manager = make_manager()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExpPoolWarning)
        manager.exp_cache(judge=SIMILAR)(function)
        manager.exp_cache(judge=SIMILAR, name="other")(function)


@pytest.mark.parametrize("function", UNKNOWN, ids=lambda f: f.__name__)
def test_nothing_is_said_where_it_does_not_matter(make_manager, function, recwarn):
    manager = make_manager()
    manager.exp_cache(function)
    manager.exp_cache(judge=PerfectJudge(0.5))(function)
    manager.exp_cache(judge=SIMILAR, name="by hand", request=lambda *args, **kwargs: "text")(function)
    assert not [each for each in recwarn if "holds the text" in str(each.message)]


class Shop:
    def __exp_key__(self):
        return 1

    def ask(self, city: str, password: str, clock: int = 0): ...


def test_self_secrets_and_what_is_excluded_do_not_count(make_manager, recwarn):
    manager = make_manager()
    manager.exp_cache(judge=SIMILAR, exclude=["country"])(cities)
    manager.exp_cache(judge=SIMILAR)(Shop.ask)
    assert not [each for each in recwarn if "holds the text" in str(each.message)]


def test_a_topic_in_a_style_is_answered_by_a_similar_one(make_manager):
    manager = make_manager()

    @manager.exp_cache(judge=SIMILAR)
    def poem(topic, style="formal", words=100):
        return f"{style} {topic}"

    assert poem("cats and dogs") == "formal cats and dogs"
    manager.sync.flush()
    assert poem("dogs and cats") == "formal cats and dogs"
    assert poem("dogs and cats", style="plain") == "plain dogs and cats"
    assert {e.request for e in manager.sync.iter_exps()} == {"cats and dogs", "dogs and cats"}


def test_what_is_stored_by_hand_has_the_same_text(make_manager):
    manager = make_manager()

    @manager.exp_cache(judge=SIMILAR, name="poem")
    def poem(topic, style="formal"):
        return "live"

    manager.sync.create_exp(
        Experience(function="poem", arguments={"topic": "cats and dogs", "style": "formal"}, response="by hand")
    )
    manager.sync.flush()
    assert poem("dogs and cats") == "by hand"


def test_request_is_given_defaults(make_manager):
    manager = make_manager()
    given = []

    def text(subject, *, tone="plain", **more):
        given.append((subject, tone, more))
        return f"{subject} in a {tone} tone"

    @manager.exp_cache(request=text)
    def write(subject, style="formal", *, tone="warm"):
        return subject

    write("cats")
    write("cats", tone="cold")
    assert given == [("cats", "warm", {"style": "formal"}), ("cats", "cold", {"style": "formal"})]
    assert {e.request for e in manager.sync.iter_exps()} == {"cats in a warm tone", "cats in a cold tone"}


@pytest.mark.parametrize(
    "request_",
    [
        lambda subject: subject,
        lambda subject, style: f"{subject}",
        lambda subject, style="?": f"{subject}",
        lambda *args: args[0],
        lambda subject, **more: subject,
    ],
)
def test_a_callable_takes_what_it_takes(make_manager, request_):
    manager = make_manager()

    @manager.exp_cache(request=request_)
    def write(subject, style="formal"):
        return subject

    assert write("cats") == "cats"
    assert [e.request for e in manager.sync.iter_exps()] == ["cats"]


def test_request_of_defaults_of_keywords_and_several(make_manager):
    manager = make_manager()

    @manager.exp_cache(request=lambda first, *others, sep, **more: sep.join((first, *others, *more.values())))
    def join(first, *others, sep="-", **more):
        return first

    join("a", "b", c="c")
    join("a")
    assert {e.request for e in manager.sync.iter_exps()} == {"a-b-c", "a"}
