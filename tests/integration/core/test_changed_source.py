"""Guarantee 2: what earlier source of a function answered does not answer; what people said does."""

import importlib
import itertools
import json
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from exp_pool import Experience, ThresholdJudge, set_exp_manager, snapshots
from exp_pool.errors import ConfigurationError, ExpPoolWarning, InvalidInputError

_numbers = itertools.count()
HEAD = "from exp_pool import exp_cache\nruns = []\n"
ONE = HEAD + "@exp_cache\ndef ask(q):\n    runs.append(q)\n    return 'one: ' + q\n"
TWO = ONE.replace("'one: '", "'two: '")


@pytest.fixture
def manager(make_manager):
    manager = make_manager()
    set_exp_manager(manager)
    return manager


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module with this source, imported anew each time as another process would."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    name = f"written_{next(_numbers)}"  # a name has one place in a process

    def load(source):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        return importlib.import_module(name)

    yield load
    sys.modules.pop(name, None)


def test_changed_source_is_asked_anew_and_said_once(manager, module):
    old = module(ONE)
    for q in ("a", "b", "c"):
        assert old.ask(q) == f"one: {q}"
    new = module(TWO)
    with pytest.warns(
        ExpPoolWarning, match=r"written_\d+\.ask: its source has changed since 3 of its.*adopt.*version=.*source="
    ) as said:
        assert [new.ask("a"), new.ask("a"), new.ask("b")] == ["two: a", "two: a", "two: b"]
    assert len(said) == 1
    assert new.runs == ["a", "b"]
    assert new.ask.key("a") == old.ask.key("a")


def test_unchanged_source_answers(manager, module):
    assert module(ONE).ask("a") == "one: a"
    again = module(ONE.replace("ask(q):\n", 'ask(q: str) -> str:\n    """Doc."""\n    # a comment\n'))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert again.ask("a") == "one: a"
    assert again.runs == []


def test_old_answers_stay_for_search_until_new_ones_take_their_place(manager, module):
    module(ONE).ask("a question")
    new = module(TWO)
    assert new.ask.lookup("a question") is None
    (found,) = manager.sync.search("a question", top_k=1)
    assert found.experience.response == "one: a question"
    new.ask("a question")
    assert [e.response for e in manager.sync.query_exps("a question", query_type="exact")] == ["two: a question"]
    assert len(manager.sync.history(manager.sync.query_exps("a question")[0].id)) == 2


def test_old_answers_are_still_shown_to_the_function(manager, module):
    injected = HEAD + "@exp_cache(inject='exps')\ndef ask(q, exps=()):\n    return [e.response for e in exps]\n"
    module(injected).ask("a question")
    manager.sync.flush()
    assert module(injected.replace("return [", "return ['new'] + [")).ask("a questions") == ["new", []]


def test_an_old_answer_does_not_answer_a_similar_question(manager, module):
    def judged(source):
        loaded = module(source)
        loaded.ask = manager.exp_cache(judge=ThresholdJudge(0.5))(loaded.ask.original)
        return loaded

    judged(ONE).ask("what is it")
    manager.sync.flush()
    assert judged(ONE).ask("what is it?") == "one: what is it"
    assert judged(TWO).ask("what is it?") == "two: what is it?"


@pytest.mark.parametrize("by", ["annotate", "update", "promote", "create", "frame"])
def test_what_people_said_answers_whatever_the_source_is(manager, module, by):
    from exp_pool import curation

    pool = manager.sync
    module(ONE).ask("a")
    (stored,) = pool.query_exps("a", query_type="exact")
    if by == "annotate":
        pool.annotate(stored.id, expected="said")
    elif by == "update":
        pool.update_exp(stored.id, response="said")
    elif by == "promote":
        pool.update_exp(stored.id, trust="quarantined")
        pool.update_exp(stored.id, trust="trusted")
    elif by == "create":
        pool.create_exp(Experience.from_call(module(ONE).ask, ["a"], response="said"))
    else:
        pytest.importorskip("pandas")
        frame = curation.to_frame(manager)
        frame["response"] = "said"
        curation.apply_frame(manager, frame, dry_run=False)
    new = module(TWO)
    assert new.ask("a") == ("one: a" if by == "promote" else "said")
    assert new.runs == []


def test_what_is_only_rated_or_counted_does_not_speak_for_other_source(manager, module):
    module(ONE).ask("a")
    (stored,) = manager.sync.query_exps("a", query_type="exact")
    manager.sync.feedback(stored.id, 1.0)
    manager.sync.update_exp(stored.id, metadata={"team": "x"})
    manager.sync.flush()
    assert module(TWO).ask("a") == "two: a"


def test_rows_that_do_not_say_answer(manager, module):
    """Of pools that are older than digests, and added by name."""
    old = module(ONE)
    key = old.ask.key("a")
    manager.sync.create_exp(
        Experience(function=old.ask.__exp_function__, arguments={"q": "a"}, response="old", origin="automatic", key=key)
    )
    assert module(TWO).ask("a") == "old"


@pytest.mark.parametrize(
    ("options", "asked_anew"),
    [
        ("", True),
        ("source='check'", True),
        ("source='ignore'", False),
        ("version='1'", False),
        ("name='shared'", False),
        ("name='shared', source='check'", True),
        ("version='1', source='check'", True),
    ],
)
def test_who_looks_after_identity_himself_is_left_alone(manager, module, options, asked_anew):
    decorated = f"@exp_cache({options})"
    module(ONE.replace("@exp_cache", decorated)).ask("a")
    assert module(TWO.replace("@exp_cache", decorated)).ask("a") == ("two: a" if asked_anew else "one: a")


def test_an_unknown_choice_is_refused(module):
    with pytest.raises(ConfigurationError, match=r"source='maybe' must be 'check' or 'ignore'"):
        module(ONE.replace("@exp_cache", "@exp_cache(source='maybe')"))


def test_a_changed_refinement_counts_as_changed_source(manager, module):
    refined = (
        HEAD + "def better(q):\n    return 'better 1'\n@exp_cache(refine=better)\ndef ask(q):\n    return 'quick'\n"
    )
    assert module(refined).ask("a") in ("quick", "better 1")
    manager.sync.flush()
    assert manager.sync.query_exps("a")[0].response == "better 1"
    assert module(refined.replace("better 1", "better 2")).ask("a") != "better 1"


@pytest.mark.parametrize("kind", ["coroutine", "generator", "asyncgen", "batch", "method"])
def test_every_kind_of_function_is_asked_anew(manager, module, kind):
    import asyncio

    sources = {
        "coroutine": "@exp_cache\nasync def ask(q):\n    return 'one'\n",
        "generator": "@exp_cache\ndef ask(q):\n    yield 'one'\n",
        "asyncgen": "@exp_cache\nasync def ask(q):\n    yield 'one'\n",
        "batch": "@exp_cache(batch='q')\ndef ask(q):\n    return ['one' for _ in q]\n",
        "method": "class A:\n    @exp_cache\n    def ask(self, q):\n        return self.say()\n    def say(self):\n        return 'one'\n",
    }

    async def collected(chunks):
        return [chunk async for chunk in chunks]

    def call(loaded):
        if kind == "coroutine":
            return [asyncio.run(loaded.ask("a"))]
        if kind == "asyncgen":
            return asyncio.run(collected(loaded.ask("a")))
        if kind == "method":
            return [loaded.A().ask("a")]
        return list(loaded.ask(["a"] if kind == "batch" else "a"))

    assert call(module(HEAD + sources[kind])) == ["one"]
    assert call(module(HEAD + sources[kind].replace("'one'", "'two'"))) == ["two"]
    assert call(module(HEAD + sources[kind].replace("'one'", "'two'"))) == ["two"]


def test_a_constant_bound_anew_is_noticed_by_the_next_call(manager, module):
    prompted = HEAD + "PROMPT = 'one: '\n@exp_cache\ndef ask(q):\n    return PROMPT + q\n"
    loaded = module(prompted)
    assert [loaded.ask("a"), loaded.ask("a"), loaded.ask("a")] == ["one: a"] * 3  # the last from memory
    loaded.PROMPT = "two: "
    assert [loaded.ask("a"), loaded.ask("a"), loaded.ask("a")] == ["two: a"] * 3


def test_a_counter_of_the_module_changes_nothing(manager, module):
    counting = HEAD + "n = 0\n@exp_cache\ndef ask(q):\n    global n\n    n += 1\n    return n\n"
    loaded = module(counting)
    assert [loaded.ask("a") for _ in range(3)] == [1, 1, 1]


def test_what_other_source_is_computing_is_not_waited_for(manager, module):
    waiting = HEAD + "import threading\nbegun, go = threading.Event(), threading.Event()\n"
    waiting += "@exp_cache\ndef ask(q):\n    begun.set()\n    go.wait(60)\n    return 'one'\n"
    old = module(waiting)
    new = module(waiting.replace("    begun.set()\n    go.wait(60)\n", "").replace("'one'", "'two'"))
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(old.ask, "a")
        assert old.begun.wait(60)
        assert new.ask("a") == "two"
        old.go.set()
        assert running.result(60) == "one"


def test_processes_that_start_with_new_source_run_it_once(make_manager, module, tmp_path):
    """Two managers on one file stand for two processes: each has its own flights, the lease is shared."""
    slow = HEAD + "import threading\ngo, ran = threading.Event(), []\n"
    slow += "def ask(q):\n    ran.append(q)\n    go.wait(60)\n    return 'two'\n"
    url = f"sqlite:///{tmp_path / 'pool.db'}"
    first, second = make_manager(store=url), make_manager(store=url)
    old = module(slow.replace("'two'", "'one'").replace("    go.wait(60)\n", ""))
    assert first.exp_cache(old.ask)("a") == "one"
    new = module(slow)
    one, other = first.exp_cache(new.ask), second.exp_cache(new.ask)
    with ThreadPoolExecutor(2) as threads:
        leading = threads.submit(one, "a")
        while not new.ran:
            threading.Event().wait(0.001)
        following = threads.submit(other, "a")
        new.go.set()
        assert (leading.result(60), following.result(60)) == ("two", "two")
    assert new.ran == ["a"]


# ── Adopting ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_refactored_source_adopts_old_answers(manager, module):
    old = module(ONE)
    for q in "abc":
        old.ask(q)
    refactored = module(ONE.replace("'one: ' + q", "'one: {}'.format(q)"))
    assert refactored.ask.adopt() == 3
    assert refactored.ask.adopt() == 0
    assert [refactored.ask(q) for q in "abc"] == ["one: a", "one: b", "one: c"]
    assert refactored.runs == []
    assert module(TWO).ask("a") == "two: a"  # and a further change is noticed


async def adopted(function):
    return await function.adopt()


def test_adopting_asynchronously(manager, module):
    import asyncio

    source = HEAD + "@exp_cache\nasync def ask(q):\n    return 'one'\n"
    asyncio.run(module(source).ask("a"))
    new = module(source.replace("return 'one'", "return str('one')"))
    assert asyncio.run(adopted(new.ask)) == 1


def test_adopting_where_source_is_ignored_says_why(manager, module):
    loaded = module(ONE.replace("@exp_cache", "@exp_cache(version='1')"))
    with pytest.raises(InvalidInputError, match=r'written_\d+\.ask has source="ignore"'):
        loaded.ask.adopt()


# ── Elsewhere ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("store", ["memory://", "sqlite:///{}/pool.db", "json:///{}/pool"])
def test_every_store_keeps_the_digest(make_manager, module, store, tmp_path):
    manager = make_manager(store=store.format(tmp_path))
    set_exp_manager(manager)
    module(ONE).ask("a")
    (row,) = manager.sync.iter_exps({"source": {"ne": ""}})
    assert row.response == "one: a"
    assert module(TWO).ask("a") == "two: a"


def test_snapshots_keep_it(make_manager, module, tmp_path):
    one, other = make_manager(), make_manager()
    set_exp_manager(one)
    module(ONE).ask("a")
    snapshots.save(one, tmp_path / "saved")
    snapshots.load(other, tmp_path / "saved")
    set_exp_manager(other)
    assert module(ONE).ask("a") == "one: a"
    assert module(TWO).ask("a") == "two: a"


def test_explain_names_the_source(manager, module):
    module(ONE).ask("a")
    assert "other source of the function" in module(TWO).ask.explain("a")


def python(script, *arguments, cwd):
    done = subprocess.run(
        [sys.executable, *arguments] if script is None else [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={
            **os.environ,
            "EXP_POOL_EMBEDDER": "none",
            "EXP_POOL_INDEX": "none://",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


PROGRAM = """
import json
from exp_pool import exp_cache
{prompt}
@exp_cache
def ask(q):
    return PROMPT + q
print(json.dumps(ask("x")))
"""


@pytest.mark.parametrize("how", ["script", "-c", "edited import"])
def test_an_edited_program_is_asked_anew_after_a_restart(tmp_path, how):
    (tmp_path / "pyproject.toml").write_text("")

    def run(prompt):
        source = PROGRAM.format(prompt=f"PROMPT = {prompt!r}")
        if how == "-c":
            return python(None, "-c", source, cwd=tmp_path)
        name = "bot.py"
        if how == "script":
            (tmp_path / name).write_text(source)
            return python(tmp_path / name, cwd=tmp_path)
        (tmp_path / name).write_text(source.rpartition("print")[0])
        program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport json\nfrom bot import ask\nprint(json.dumps(ask('x')))"
        return python(None, "-c", program, cwd=tmp_path)

    assert run("one ")[0] == "one x"
    assert run("one ")[0] == "one x"
    answer, said = run("two, changed ")
    assert answer == "two, changed x"
    assert "its source has changed since 1 of its answers" in said
    assert run("two, changed ")[0] == "two, changed x"
