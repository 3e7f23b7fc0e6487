"""Warnings point at the user's line, name what is there, and say the way out that fits."""

import asyncio
import inspect
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from exp_pool.scorers.exact import ExactScorer

from exp_pool import ExpManager
from exp_pool.errors import ConfigurationError, ExpPoolWarning


@pytest.fixture
def manager():
    with ExpManager(store="memory://", index="none://", embedder="none") as made:
        yield made


class Agent:
    def __init__(self):
        self.cfg, self.endpoint = "small", "http://localhost"
        self.client = object()


def told(*calls):
    """The warnings of these calls."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for call in calls:
            call()
    return [warning for warning in caught if warning.category is ExpPoolWarning]


def here():
    return inspect.currentframe().f_back.f_lineno


KINDS = ["def", "async def", "generator", "async generator", "batch", "method", "closed", "refresh", "call"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_points_at_the_line_that_called(manager, kind):
    decorate = manager.exp_cache(name="f")
    agent = Agent()

    @decorate
    def plain(thing):
        return 1

    @decorate
    async def later(thing):
        return 1

    @decorate
    def stream(thing):
        yield 1

    @decorate
    async def later_stream(thing):
        yield 1

    many = manager.exp_cache(name="f", batch="things")(lambda things: [1 for _ in things])
    Agent.act = decorate(_method)
    thing = object()

    async def awaiting():
        await later(thing); lines.append(here())  # fmt: skip  # noqa: E702

    async def reading():
        async for _ in later_stream(thing): lines.append(here())  # fmt: skip  # noqa: E701

    def calling():
        match kind:
            case "def":
                plain(thing); lines.append(here())  # fmt: skip  # noqa: E702
            case "async def":
                asyncio.run(awaiting())
            case "generator":
                for _ in stream(thing): lines.append(here())  # fmt: skip  # noqa: E701
            case "async generator":
                asyncio.run(reading())
            case "batch":
                many([thing]); lines.append(here())  # fmt: skip  # noqa: E702
            case "method":
                agent.act("hi"); lines.append(here())  # fmt: skip  # noqa: E702
            case "closed":
                manager.sync.close()
                plain("hi"); lines.append(here())  # fmt: skip  # noqa: E702
            case "refresh":
                plain.refresh(thing); lines.append(here())  # fmt: skip  # noqa: E702
            case "call":
                plain.call(thing); lines.append(here())  # fmt: skip  # noqa: E702

    lines = []
    (warning,) = told(calling)
    assert (warning.filename, warning.lineno) == (__file__, lines[0])


def _method(self, thing):
    return 1


_method.__qualname__ = "Agent.act"


@pytest.mark.parametrize("caller", ["thread", "executor", "task"])
def test_where_no_line_called_it_points_at_the_function(manager, caller):
    @manager.exp_cache(name="f")
    def ask(thing):
        return 1

    @manager.exp_cache(name="f")
    async def later(thing):
        return 1

    async def gathered():
        await asyncio.gather(later(object()))

    def calling():
        if caller == "thread":
            thread = threading.Thread(target=ask, args=(object(),))
            thread.start()
            thread.join()
        elif caller == "executor":
            with ThreadPoolExecutor(1) as threads:
                threads.submit(ask, object()).result()
        else:
            asyncio.run(gathered())

    function = later if caller == "task" else ask
    line = function.original.__code__.co_firstlineno
    (warning,) = told(calling)
    assert (warning.filename, warning.lineno) == (__file__, line)
    assert f"({function.__name__} stands in {__file__}:{line})" in str(warning.message)


def test_a_store_that_fails_points_at_the_line_that_called(manager, monkeypatch):
    @manager.exp_cache(name="f")
    def ask(question):
        return 1

    def broken(*args, **kwargs):
        raise OSError("no disk")

    def calling():
        ask("hi"); lines.append(here())  # fmt: skip  # noqa: E702

    monkeypatch.setattr(manager.sync.services.store, "get_many", broken)
    monkeypatch.setattr(manager.sync.services.store, "claim", broken, raising=False)
    lines = []
    warned = told(calling)
    assert {(warning.filename, warning.lineno) for warning in warned} == {(__file__, lines[0])}


def test_the_attributes_that_there_are_are_named(manager):
    Agent.act = manager.exp_cache(name="f")(_method)
    (warning,) = told(lambda: Agent().act("hi"))
    assert "f runs uncached: its Agent has attributes" in str(warning.message)
    assert "self_key=('cfg', 'endpoint', 'client')" in str(warning.message)
    assert str(warning.message).count("f runs") == 1


def test_of_very_many_attributes_some_are_named(manager):
    agent = Agent()
    vars(agent).update({f"setting_{number}": number for number in range(20)})
    Agent.act = manager.exp_cache(name="f")(_method)
    (warning,) = told(lambda: agent.act("hi"))
    assert "'setting_4', ...)" in str(warning.message)
    assert "setting_5" not in str(warning.message)


@pytest.mark.parametrize(
    ("options", "names", "not_names"),
    [
        ({"self_key": ("client",)}, ["attribute 'client' of self", "Leave it out of self_key="], ["exclude"]),
        ({"self_key": ("cfg", "client")}, ["attribute 'client' of self"], ["exclude", "'cfg'"]),
        ({"self_key": (), "key": lambda self, thing: self.client}, ["what key= gave"], ["exclude", "self_key"]),
        ({"self_key": (), "key": lambda self, thing: 1 / 0}, ["key= raised ZeroDivisionError"], ["exclude"]),
    ],
)
def test_what_has_no_identity_is_named_with_the_way_out_that_fits(manager, options, names, not_names):
    Agent.act = manager.exp_cache(name="f", **options)(_method)
    (warning,) = told(lambda: Agent().act("hi"))
    assert all(name in str(warning.message) for name in names), warning.message
    assert not any(name in str(warning.message) for name in not_names), warning.message


def test_an_argument_has_the_ways_out_of_an_argument(manager):
    ask = manager.exp_cache(name="f")(lambda client: 1)
    (warning,) = told(lambda: ask(object()))
    assert "exclude=['client']" in str(warning.message)
    assert "self" not in str(warning.message)


def test_an_object_whose_own_key_has_no_identity(manager):
    class Client:
        def __exp_key__(self):
            return object()

        def act(self, thing):
            return 1

    Client.act = manager.exp_cache(name="f")(Client.act)
    (warning,) = told(lambda: Client().act("hi"))
    assert "__exp_key__() give something that has one" in str(warning.message)
    assert "exclude" not in str(warning.message)


@pytest.mark.parametrize("give", ["decorator", "score_exps"])
def test_a_scorers_class_is_refused(manager, give):
    with pytest.raises(ConfigurationError, match=r"is a class; give an object of it: scorer=ExactScorer\("):
        if give == "decorator":
            manager.exp_cache(scorer=ExactScorer)(lambda question: question)
        else:
            manager.sync.score_exps(ExactScorer)
