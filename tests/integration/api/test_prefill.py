"""A pool filled before it is needed: many calls at a time, resumed, from the command line."""

import asyncio
import json
import subprocess
import sys
import threading

import pytest
from typer.testing import CliRunner

from exp_pool import ExpManager, in_namespace
from exp_pool.cli import app
from exp_pool.errors import InvalidInputError

PLAIN = {"index": "none://", "embedder": "none"}


@pytest.fixture
def manager(make_manager):
    return make_manager(**PLAIN)


@pytest.fixture(params=["threads", "tasks"])
def fill(request, manager):
    """`fill(function, items, ...)`: prefill of a plain function on threads, or of the same as a coroutine function."""

    def fill(function, items, name="f", **options):
        if request.param == "threads":
            return manager.exp_cache(name=name)(function).prefill(items, **options)

        async def coroutine(q):
            return await asyncio.to_thread(function, q)

        return asyncio.run(manager.exp_cache(name=name)(coroutine).prefill(items, **options))

    return fill


def test_so_many_calls_at_a_time_and_no_more(fill, manager):
    together, lock, running, most = threading.Barrier(4), threading.Lock(), set(), []

    def function(q):
        with lock:
            running.add(q)
            most.append(len(running))
        together.wait(30)  # goes on only if four are here at once
        with lock:
            running.discard(q)
        return q

    assert fill(function, range(20), concurrency=4) == 20
    assert max(most) == 4
    assert manager.sync.get_exps_count() == 20


def test_what_was_interrupted_is_gone_on_with(fill, manager):
    ran = []

    def items(end):
        yield from range(6)
        if end:
            raise KeyboardInterrupt
        yield from range(6, 10)

    def function(q):
        ran.append(q)
        return q

    with pytest.raises(KeyboardInterrupt):
        fill(function, items(end=True), concurrency=2)
    stored = manager.sync.get_exps_count()
    assert 4 <= stored <= 6
    assert fill(function, items(end=False), concurrency=3) == 10 - stored
    assert sorted(set(ran)) == list(range(10))
    assert manager.sync.get_exps_count() == 10
    assert fill(function, range(10), concurrency=3) == 0


@pytest.mark.parametrize("concurrency", [1, 5])
def test_errors_are_collected_and_say_whose_they_are(fill, manager, concurrency):
    def function(q):
        if q % 2:
            raise ValueError(f"{q} is odd")
        return q

    with pytest.raises(ExceptionGroup, match=r"^150 calls of f failed, the first 100 of them here; 150 ran") as failed:
        fill(function, range(300), concurrency=concurrency)
    errors = failed.value.exceptions
    assert len(errors) == 100
    assert all(err.__notes__ == [f"prefill: {str(err).split()[0]}"] for err in errors)
    assert manager.sync.get_exps_count() == 150


def test_items_are_read_as_far_as_needed(fill):
    read, most = [0], [0]

    def items():
        for n in range(500):
            read[0] += 1
            yield n

    def function(q):
        most[0] = max(most[0], read[0] - q)
        return q

    assert fill(function, items(), concurrency=3) == 500
    assert most[0] <= 8


def test_what_surrounds_it_surrounds_its_threads(fill, manager):
    with in_namespace("tenant"):
        fill(lambda q: q, range(5), concurrency=3)
        assert manager.sync.get_exps_count() == 5
    assert manager.sync.get_exps_count() == 0


def test_a_bar_only_where_it_is_wanted(fill, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fill(lambda q: q, range(20), name="silent", progress=False)
    assert "silent" not in capsys.readouterr().err
    fill(lambda q: q, iter(range(20)), name="watched", concurrency=2)
    assert "watched" in capsys.readouterr().err


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, None])
def test_wrong_concurrency(fill, concurrency):
    with pytest.raises(InvalidInputError, match=f"concurrency={concurrency!r}.* must be a whole number"):
        fill(lambda q: q, [1], concurrency=concurrency)


# ── From the command line ─────────────────────────────────────────────────────────────────────────────────────────────

MODULE = """
from exp_pool import ExpManager, exp_cache

pool = ExpManager(store="sqlite:///pool.db", index="none://", embedder="none")

@pool.exp_cache(name="add")
def add(a, b=1):
    if a == "bad":
        raise ValueError("this one is bad")
    return [a, b]

@pool.exp_cache(name="later")
async def later(a):
    return a

class Agent:
    @staticmethod
    @pool.exp_cache(name="act")
    def act(a):
        return a

def plain(a):
    return a
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "agents_of_prefill.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "agents_of_prefill", raising=False)
    yield tmp_path
    module = sys.modules.pop("agents_of_prefill", None)
    if module:
        module.pool.sync.close()


def lines(project, *calls):
    path = project / "items.jsonl"
    path.write_text("\n\n".join(json.dumps(call, ensure_ascii=False) for call in calls), encoding="utf-8")
    return str(path)


def command(*words, code=0):
    done = CliRunner().invoke(app, ["prefill", *words])
    assert done.exit_code == code, done.output
    return done.output


def test_the_command_as_people_type_it(project):
    words = ["prefill", "agents_of_prefill:add", lines(project, {"a": 1}, [1, 2], "蛇", [[3]]), "--concurrency", "2"]
    said = [
        subprocess.run(
            [sys.executable, "-m", "exp_pool", *words], cwd=project, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert said[0] == "4 calls of agents_of_prefill:add ran; the pool had the answers of all others\n"
    assert said[1].startswith("0 calls of")
    with ExpManager(store=f"sqlite:///{project}/pool.db", **PLAIN) as manager:
        answers = [e.response for e in manager.sync.iter_exps()]
    assert sorted(answers, key=str) == sorted([[1, 1], [1, 2], ["蛇", 1], [[3], 1]], key=str)


def test_coroutine_functions_methods_and_namespaces(project):
    assert "3 calls" in command("agents_of_prefill:later", lines(project, 1, 2, 3), "--namespace", "tenant")
    assert "1 call" in command("agents_of_prefill:Agent.act", lines(project, 1))
    pool = sys.modules["agents_of_prefill"].pool
    assert pool.sync.get_exps_count() == 1
    with in_namespace("tenant"):
        assert pool.sync.get_exps_count() == 3


def test_what_the_command_says_of_trouble(project):
    said = command("agents_of_prefill:add", lines(project, 1, "bad", 2), code=1)
    assert "failed: ValueError('this one is bad') prefill: 'bad'" in said
    assert "1 calls of add failed; 2 ran" in said
    items = lines(project, 1)
    for function, message in (
        ("agents_of_prefill", "write module:function"),
        ("nowhere_at_all:f", "cannot be imported from"),
        ("agents_of_prefill:nothing", "cannot be imported from"),
        ("agents_of_prefill:plain", "is not decorated with exp_cache"),
    ):
        assert message in command(function, items, code=1)
    assert "No such file" in command("agents_of_prefill:add", str(project / "nowhere.jsonl"), code=1)
    (project / "items.jsonl").write_text('{"a": 1}\n{"a": \n')
    assert "line 2: no JSON" in command("agents_of_prefill:add", items, code=1)


@pytest.mark.parametrize("items", [5, None, "abc", {"q": 1}])
def test_what_is_no_list_of_calls_is_told(make_manager, items):
    manager = make_manager()

    @manager.exp_cache
    def plain(q):
        return q

    @manager.exp_cache
    async def coroutine(q):
        return q

    with pytest.raises(InvalidInputError, match=r"prefill\(.*must be a list, or another iterable, of calls"):
        plain.prefill(items)
    with pytest.raises(InvalidInputError, match=r"prefill\(.*must be a list, or another iterable, of calls"):
        asyncio.run(coroutine.prefill(items))
