"""The pytest plugin, in pytest runs of their own, as a user's would be."""

import os
import subprocess
import sys

import pytest

AGENT = """
from exp_pool import exp_cache

runs = []

@exp_cache
def ask(question, model="small"):
    runs.append(question)
    return f"{model}: {question.upper()}"
"""

TEST = """
import agent

def test_agent(exp_pool):
    assert agent.ask("hi") == "small: HI"
    assert agent.ask("hi") == "small: HI"
    print("RUNS", len(agent.runs))
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "test_agent.py").write_text(TEST)

    def pytest_(*arguments):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=120)

    return pytest_


def test_record_then_replay_then_a_miss_that_explains_itself(run, tmp_path):
    missing = run()
    assert missing.returncode == 1
    assert "ReplayMissError" in missing.stdout
    assert "nothing is stored for it" in missing.stdout
    assert "RUNS" not in missing.stdout

    recorded = run("--exp-pool=record")
    assert "exp_pool: record" in recorded.stdout
    assert "RUNS 1" in recorded.stdout
    recording = tmp_path / "recordings" / "test_agent.db"
    content = recording.read_bytes()

    replayed = run()
    assert replayed.returncode == 0
    assert "RUNS 0" in replayed.stdout
    assert recording.read_bytes() == content, "replaying changes nothing"
    assert sorted(path.name for path in recording.parent.iterdir()) == ["test_agent.db"], "to be committed"

    (tmp_path / "test_agent.py").write_text(TEST.replace('ask("hi")', 'ask("hi", model="large")'))
    changed = run()
    assert 'differs in model: "large" here, "small" there' in changed.stdout

    off = run("--exp-pool=off")
    assert "RUNS 0" not in off.stdout
    assert recording.read_bytes() == content


def test_a_recording_that_may_only_be_read_is_replayed(run, tmp_path):
    run("--exp-pool=record")
    recording = tmp_path / "recordings" / "test_agent.db"
    recording.chmod(0o444)
    # Root may write whatever the mode says, so that it is looked at.
    (tmp_path / "test_agent.py").write_text(
        TEST.replace("(exp_pool)", "(exp_pool, tmp_path)")
        + "    assert (tmp_path / 'exp_pool.db').stat().st_mode & 0o200\n"
    )
    replayed = run()
    assert replayed.returncode == 0, replayed.stdout
    assert "RUNS 0" in replayed.stdout


def test_the_help_says_what_the_modes_are(run):
    assert "replay recorded answers" in run("--help").stdout
    assert "invalid choice" in run("--exp-pool=sometimes").stderr


# Every shape in which a manager gets into a program, and its functions.
SHAPES = """
import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from exp_pool import ExpManager, exp_cache, get_exp_manager, in_namespace

live = []
mine = ExpManager(store="sqlite:///mine.db", index="none://", embedder="none")
held = get_exp_manager()
pool = mine.sync


def answer(question):
    live.append(question)
    return question.upper()


plain = exp_cache(lambda question: answer(question))
own = mine.exp_cache(lambda question: answer(question))
of_held = held.exp_cache(lambda question: answer(question))


@mine.exp_cache
async def later(question):
    return answer(question)


@mine.exp_cache
def stream(question):
    yield answer(question)


@mine.exp_cache
async def later_stream(question):
    yield answer(question)


@mine.exp_cache(batch="questions")
def many(questions):
    return [answer(question) for question in questions]


@mine.exp_cache(namespace="acme", ttl=0.001)
def tenants(question):
    return answer(question)


@mine.exp_cache(min_score=0.5)
def scored(question):
    return answer(question)


class Agent:
    @mine.exp_cache(self_key=())
    def act(self, question):
        return answer(question)


def made_here():
    with ExpManager(store="sqlite:///made.db", index="none://", embedder="none") as manager:
        return manager.exp_cache(name="made_here")(answer)("made here")


async def read():
    return [chunk async for chunk in later_stream("later stream")]


def everything():
    found = [plain("plain"), own("own"), of_held("held"), asyncio.run(later("later")), list(stream("stream"))]
    found += [asyncio.run(read()), many(["one", "two"]), tenants("tenants"), Agent().act("act"), made_here()]
    found += [scored("scored")]
    with in_namespace("bolt"):
        found.append(own("own of bolt"))
    with ThreadPoolExecutor(1) as threads:
        found.append(threads.submit(own, "thread").result())
    return found
"""

SHAPES_TEST = """
import pathlib
import sys

import pytest
import shapes
from exp_pool import Experience, ExpManager
from exp_pool.errors import ClosedError


@pytest.fixture
def made_in_a_fixture():
    with ExpManager(store="sqlite:///fixture.db", index="none://", embedder="none") as manager:
        yield manager


def test_shapes(made_in_a_fixture, exp_pool):
    asked = shapes.everything()
    asked.append(made_in_a_fixture.exp_cache(name="in_fixture")(shapes.answer)("in a fixture"))
    import imported

    asked.append(imported.ask("imported"))
    print("ASKED", asked)
    print("LIVE", len(shapes.live))
    made_in_a_fixture.sync.create_exp(Experience(function="f", request="by hand", response="yes"))
    with pytest.raises(ClosedError, match="fixture exp_pool"):
        shapes.pool.create_exp(Experience(function="f", request="by hand", response="yes"))


def test_afterwards_each_has_its_own_again():
    import imported

    assert shapes.mine.sync is shapes.pool
    assert not pathlib.Path("mine.db").exists() or shapes.pool.get_exps_count() == 0
    shapes.live.clear()
    assert [shapes.own("live"), imported.ask("live")] == ["LIVE", "LIVE"]
    assert shapes.live == ["live", "live"]
    assert shapes.pool.get_exps_count() == imported.manager.sync.get_exps_count() == 1
    shapes.pool.delete_all_exps()
    imported.manager.sync.delete_all_exps()
"""

IMPORTED = """
from exp_pool import ExpManager
from shapes import answer

manager = ExpManager(store="sqlite:///imported.db", index="none://", embedder="none")
ask = manager.exp_cache(name="imported")(answer)
"""


def test_every_manager_is_taken_over_and_given_back(run, tmp_path):
    (tmp_path / "pyproject.toml").write_text("")
    for name, text in (("shapes", SHAPES), ("test_shapes", SHAPES_TEST), ("imported", IMPORTED)):
        (tmp_path / f"{name}.py").write_text(text)
    missing = run("test_shapes.py")
    assert missing.returncode == 1
    assert "ReplayMissError" in missing.stdout
    assert "LIVE" not in missing.stdout

    recorded = run("test_shapes.py", "--exp-pool=record")
    assert recorded.returncode == 0, recorded.stdout
    assert "LIVE 16" in recorded.stdout

    replayed = run("test_shapes.py")
    assert replayed.returncode == 0, replayed.stdout
    assert "LIVE 0" in replayed.stdout
    asked = [line for line in recorded.stdout.splitlines() if "ASKED" in line]
    assert asked == [line for line in replayed.stdout.splitlines() if "ASKED" in line]
    assert not {"made.db", "fixture.db"} & {path.name for path in tmp_path.iterdir()}, "nobody opened them"

    off = run("test_shapes.py", "--exp-pool=off")
    assert off.returncode == 0, off.stdout
    assert "LIVE 16" in off.stdout


LIFESPAN = """
from contextlib import asynccontextmanager

from exp_pool import ExpManager
from fastapi import FastAPI
from fastapi.testclient import TestClient

runs = []
manager = ExpManager(store="sqlite:///web.db", index="none://", embedder="none")

@manager.exp_cache
async def answer(question: str) -> str:
    runs.append(question)
    return question.upper()

@asynccontextmanager
async def lifespan(app):
    async with manager:
        yield

app = FastAPI(lifespan=lifespan)

@app.get("/")
async def ask(q: str) -> str:
    return await answer(q)

def visit():
    with TestClient(app) as client:
        return client.get("/", params={"q": "hi"}).json()
"""


def test_an_application_whose_lifespan_closes_its_manager(run, tmp_path):
    for package in ("fastapi", "httpx"):
        pytest.importorskip(package)
    (tmp_path / "web.py").write_text(LIFESPAN)
    (tmp_path / "test_web.py").write_text(
        "import web\n"
        "def test_first(exp_pool):\n    assert [web.visit(), web.visit()] == ['HI', 'HI']\n    print('RUNS', len(web.runs))\n"
        "def test_second(exp_pool):\n    assert web.visit() == 'HI'\n    print('RUNS', len(web.runs))\n"
    )
    assert "RUNS 1" in run("test_web.py", "--exp-pool=record", "-k", "first").stdout
    replayed = run("test_web.py")
    assert replayed.returncode == 0, replayed.stdout
    assert replayed.stdout.count("RUNS 0") == 2


def test_a_miss_says_how_it_is_recorded(run, tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(
        "import pytest, sys\nsys.path.insert(0, '.')\nimport agent\n"
        "@pytest.mark.parametrize('question', ['how is it'])\n"
        "def test_it(question, exp_pool):\n    assert agent.ask(question) == f'small: {question.upper()}'\n"
    )
    said = "record it: pytest --exp-pool=record 'tests/test_it.py::test_it[how is it]'"
    assert said in run("tests").stdout
    assert run("--exp-pool=record", "tests/test_it.py::test_it[how is it]").returncode == 0
    assert run("tests").returncode == 0


MANY = """
import pytest
from exp_pool import ExpManager

runs = []
manager = ExpManager(store="memory://", index="none://", embedder="none")

@manager.exp_cache
async def ask(question):
    runs.append(question)
    return question.upper()

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
@pytest.mark.parametrize("n", range(4))
async def test_it(n, exp_pool):
    assert await ask(f"q{n}") == f"Q{n}"
    assert len(runs) == RUNS
"""


def test_async_tests_in_workers_of_xdist(run, tmp_path):
    pytest.importorskip("xdist")
    path = tmp_path / "test_many.py"
    path.write_text(MANY.replace("    assert len(runs) == RUNS\n", ""))
    recorded = run("-n", "2", "--exp-pool=record", "test_many.py")
    assert recorded.returncode == 0, recorded.stdout
    path.write_text(MANY.replace("RUNS", "0"))
    replayed = run("-n", "2", "test_many.py")
    assert replayed.returncode == 0, replayed.stdout


def test_a_recording_is_the_same_whatever_a_machine_is_set_to(run, monkeypatch):
    assert run("--exp-pool=record").returncode == 0
    settings = {
        "KEY_SECRET": "of this machine",
        "NAMESPACE": "mine",
        "REQUIRE_NAMESPACE": "true",
        "DEFAULT_TTL": "0.001",
        "ENABLED": "false",
        "ENABLE_READ": "false",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"EXP_POOL_{name}", value)
    replayed = run()
    assert replayed.returncode == 0, replayed.stdout
    assert "RUNS 0" in replayed.stdout
