"""What reads functions reads decorated ones the same way: inspect, type hints, web frameworks, command lines, mocks."""

import asyncio
import doctest
import functools
import importlib.util
import inspect
import sys
import textwrap
import typing
from unittest import mock

import click
import fastapi
import pydantic
import pytest
import typer
import typer.testing
from click.testing import CliRunner
from fastapi.testclient import TestClient

from exp_pool import exp_cache, get_exp_manager, set_exp_manager


@pytest.fixture(autouse=True)
def manager(make_manager):
    set_exp_manager(make_manager())
    return get_exp_manager()


class Answer(pydantic.BaseModel):
    text: str


@exp_cache
def ask(question: str, /, times: int = 2, *, loud: bool = False) -> "Answer":
    """Asks.

    >>> ask("x").text
    'xx'
    """
    return Answer(text=question * times)


@exp_cache
async def aask(question: str) -> str:
    """Asks and waits."""
    return question


@exp_cache
def chunks(question: str) -> typing.Iterator[str]:
    yield question


@exp_cache
async def achunks(question: str) -> typing.AsyncIterator[str]:
    yield question


@exp_cache
def chunks_of(question):
    return question.split()


class Agent:
    @exp_cache(self_key=())
    def ask(self, question: "str", times: int = 2) -> "Answer":
        """Asks an agent."""
        return Answer(text=question * times)

    @exp_cache(self_key=())
    async def aask(self, question: str) -> str:
        return question


METHOD = Agent().ask


def test_inspect_knows_its_kind():
    for function, kinds in (
        (ask, ()),
        (aask, (inspect.iscoroutinefunction,)),
        (chunks, (inspect.isgeneratorfunction,)),
        (achunks, (inspect.isasyncgenfunction,)),
        (Agent().ask, (inspect.ismethod,)),
        (Agent().aask, (inspect.ismethod, inspect.iscoroutinefunction)),
    ):
        for check in (
            inspect.iscoroutinefunction,
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
            inspect.ismethod,
        ):
            assert check(function) is (check in kinds), (function, check)
        assert inspect.isroutine(function) and callable(function) and not inspect.isclass(function)
    assert {name for name, _ in inspect.getmembers(Agent(), inspect.ismethod)} == {"ask", "aask"}
    assert {name for name, _ in inspect.getmembers(Agent, inspect.isroutine)} >= {"ask", "aask"}


@pytest.mark.parametrize("function", [ask, aask, chunks, Agent.ask, METHOD], ids=str)
def test_inspect_reads_what_the_function_has(function):
    original = function.original
    assert inspect.signature(function) == inspect.signature(original)
    assert inspect.signature(function, follow_wrapped=False) == inspect.signature(original)
    assert inspect.getfullargspec(function) == inspect.getfullargspec(original)
    assert inspect.getsource(function) == inspect.getsource(original)
    assert inspect.getdoc(function) == inspect.getdoc(original)
    assert inspect.getmodule(function) is sys.modules[__name__]
    assert inspect.getsourcefile(inspect.unwrap(function)) == __file__
    assert inspect.unwrap(function) is getattr(original, "__func__", original)
    assert typing.get_type_hints(function) == typing.get_type_hints(original)
    for name in (
        "__name__",
        "__qualname__",
        "__module__",
        "__doc__",
        "__annotations__",
        "__defaults__",
        "__kwdefaults__",
        "__code__",
        "__globals__",
        "__closure__",
        *(["__type_params__"] if sys.version_info >= (3, 12) else []),
    ):
        assert getattr(function, name) == getattr(original, name), name
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = function.nothing_of_that_name


def test_attributes_of_decorators_below_are_there():
    def mark(function):
        function.marked = ["below"]
        return function

    @mark
    @exp_cache
    @mark
    def f(x): ...

    f.marked.append("above")
    assert f.marked == ["below", "above"]
    f.mine = 1
    assert f.mine == 1 and not hasattr(f.original, "mine")
    del f.mine
    assert not hasattr(f, "mine")

    @functools.wraps(f)
    def around(x): ...

    assert around.marked is f.marked
    assert not [name for name in vars(around) if name.startswith("_") and not name.startswith("__")], vars(around)


def test_pytest_marks_and_parameters():
    @exp_cache
    @pytest.mark.parametrize("x", [1, 2])
    @pytest.mark.slow
    def test_something(x): ...

    assert [mark.name for mark in test_something.pytestmark] == ["slow", "parametrize"]

    @pytest.mark.slow
    @exp_cache
    def test_other(x): ...

    assert [mark.name for mark in test_other.pytestmark] == ["slow"]


def test_doctest_finds_the_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {test.name.rpartition(".")[-1]: test for test in finder.find(sys.modules[__name__])}
    assert doctest.DocTestRunner().run(found["ask"]) == doctest.TestResults(0, 1)


def test_fastapi_endpoints_dependencies_and_background_tasks():
    app = fastapi.FastAPI()
    told = []

    @exp_cache
    def current_user(token: str = "t") -> str:
        return f"user {token}"

    @exp_cache
    async def aquota(user: typing.Annotated[str, fastapi.Depends(current_user)]) -> int:
        return len(user)

    @exp_cache
    def later(what: str) -> None:
        told.append(what)

    @app.get("/sync/{question}")
    @exp_cache
    def endpoint(question: str, user: typing.Annotated[str, fastapi.Depends(current_user)]) -> Answer:
        return Answer(text=f"{user}: {question}")

    @app.post("/async")
    @exp_cache
    async def aendpoint(body: Answer, quota: typing.Annotated[int, fastapi.Depends(aquota)]) -> dict:
        return {"text": body.text, "quota": quota}

    @app.get("/method")
    def of_method(
        background: fastapi.BackgroundTasks, agent: typing.Annotated[Agent, fastapi.Depends(Agent)]
    ) -> Answer:
        background.add_task(later, "told")
        return agent.ask("x")

    app.get("/bound")(Agent().ask)
    client = TestClient(app)
    assert client.get("/sync/why").json() == {"text": "user t: why"}
    assert client.get("/sync/why", params={"token": "u"}).json() == {"text": "user u: why"}
    assert client.post("/async", json={"text": "a"}).json() == {"text": "a", "quota": 6}
    assert client.get("/method").json() == {"text": "xx"} and told == ["told"]
    assert client.get("/bound", params={"question": "y"}).json() == {"text": "yy"}
    assert client.get("/openapi.json").json()["paths"]["/bound"]["get"]["description"] == "Asks an agent."


def test_postponed_annotations_in_a_module_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "postponed.py").write_text(
        textwrap.dedent(
            """
            from __future__ import annotations
            import typing
            import fastapi
            from pydantic import BaseModel
            from exp_pool import exp_cache
            class Body(BaseModel):
                text: str
            app = fastapi.FastAPI()
            @app.post("/")
            @exp_cache
            async def endpoint(body: Body, times: int = 2) -> Body:
                return Body(text=body.text * times)
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("postponed")
    assert typing.get_type_hints(module.endpoint)["body"] is module.Body
    assert TestClient(module.app).post("/", json={"text": "a"}).json() == {"text": "aa"}


def test_click_and_typer():
    @click.command()
    @click.option("--times", default=2)
    @exp_cache
    @click.argument("question")
    def told(question, times):
        click.echo(question * times)
        return question

    assert CliRunner().invoke(told, ["x", "--times", "3"]).output == "xxx\n"

    app = typer.Typer()

    @app.command()
    @exp_cache
    def run(question: str, times: int = 2):
        """Runs."""
        typer.echo(question * times)

    result = typer.testing.CliRunner().invoke(app, ["x", "--times", "3"])
    assert result.output == "xxx\n"
    assert "Runs." in typer.testing.CliRunner().invoke(app, ["--help"]).output


def test_pydantic_calls_and_types():
    """``@validate_call`` takes real functions only, as it says; below the pool, or of a bound method, it works."""

    @exp_cache
    @pydantic.validate_call
    def checked(x: int) -> int:
        return x

    assert checked("5") == 5
    assert pydantic.validate_call(Agent().ask)("x", times="3").text == "xxx"

    class Tool(pydantic.BaseModel):
        function: typing.Callable[..., typing.Any]
        method: typing.Callable[..., typing.Any] = Agent().ask

    tool = Tool(function=ask)
    assert tool.function is ask and tool.method("x").text == "xx"
    assert tool.model_copy(deep=True).function is ask


def schema_of(function):
    """As agent frameworks make a tool's schema."""
    hints = typing.get_type_hints(function, include_extras=True)
    fields = {
        name: (hints.get(name, typing.Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
    }
    return pydantic.create_model(function.__name__, **fields).model_json_schema(), inspect.getdoc(function)


@pytest.mark.parametrize("function", [ask, aask, METHOD], ids=str)
def test_schemas_of_tools(function):
    assert schema_of(function) == schema_of(function.original)


def test_mocks():
    with mock.patch(f"{__name__}.ask", autospec=True, return_value=1) as mocked:
        assert ask("x") == 1
        mocked.assert_called_once_with("x")
    with mock.patch(f"{__name__}.aask") as mocked:
        mocked.return_value = "mocked"
        assert asyncio.run(aask("x")) == "mocked"
    with mock.patch.object(Agent, "ask", autospec=True, return_value=1) as mocked:
        assert Agent().ask("x") == 1
    with mock.patch.object(ask, "call", return_value=1):
        assert ask.call("x") == 1
    assert ask.call("x").found_by is None
    assert isinstance(mock.create_autospec(Agent)().aask, mock.AsyncMock)


class Crew:
    def __init__(self, name):
        self.name = name

    def __exp_key__(self):
        return self.name

    @exp_cache
    def ask(self, question):
        return f"{self.name}:{question}"


def test_an_argument_of_another_function(manager):
    runs = []

    @exp_cache
    def use(tool, question):
        runs.append(question)
        return tool(question)

    for tool, answer in ((chunks_of, ["x"]), (Crew("a").ask, "a:x"), (Crew("b").ask, "b:x"), (Crew("a").ask, "a:x")):
        assert use(tool, "x") == use(tool, "x") == answer
    assert len(runs) == 3

    @exp_cache
    def nested(question):
        return question

    uncached = manager.stats().uncached
    assert use(nested, "x") == "x"
    assert manager.stats().uncached == uncached + 1, "it has no name that tells it from others"


def test_singledispatch():
    @functools.singledispatch
    @exp_cache
    def tell(what):
        return "something"

    @tell.register
    @exp_cache
    def _(what: int) -> str:
        return "a number"

    @exp_cache
    @functools.singledispatch
    def told(what):
        return "something"

    told.register(int, lambda what: "a number")
    assert [tell("x"), tell(1), told("x"), told(1)] == ["something", "a number"] * 2
