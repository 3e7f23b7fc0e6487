"""What happens later: embedding, indexing, scoring, counting; after a restart, a kill, at the interpreter's exit."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from conftest import letters

from exp_pool import Experience, ExpManager, Score
from exp_pool.core.record import TaskKind
from exp_pool.errors import EmbedderError, ExpPoolWarning
from exp_pool.protocols import RecordQuery


def exp(request, **fields):
    return Experience(**{"function": "f", "request": request, "response": request, **fields})


def owed(manager, duty):
    return manager.sync._store.count(RecordQuery(None, pending=duty))


@pytest.fixture(params=["exact://", "chroma:///pool/chroma"])
def settings(request, tmp_path):
    return {"store": f"sqlite:///{tmp_path}/pool/pool.db", "index": request.param, "embedder": letters, "index_from": 1}


def test_flush_leaves_nothing_owed(settings):
    with ExpManager(**settings) as manager:
        manager.sync.create_exps([exp(f"r{i}") for i in range(100)])
        manager.sync.flush()
        assert owed(manager, TaskKind.EMBED) == 0
        stats = manager.stats()
        assert stats.indexed == (100 if "chroma" in settings["index"] else 0)
        assert (stats.embedded, stats.stored, stats.degraded) == (100, 100, 0)


def test_what_one_wrote_one_finds_at_once(settings):
    with ExpManager(**settings) as manager:
        for text in ("aaa", "bbb", "ccc"):
            manager.sync.create_exp(exp(text))
            assert [e.request for e in manager.sync.query_exps(text, top_k=1)] == [text]


def test_rows_that_are_gone_from_the_store_keep_no_live_one_of_the_index_out(settings):
    with ExpManager(**settings) as manager:
        manager.sync.create_exps([exp("aaa", function=f"f{n}") for n in range(20)] + [exp("aab")])
        manager.sync.flush()
        manager.sync.delete_exps({"request": "aaa"})
        manager.sync.create_exps([exp("zzz", function=f"f{n}") for n in range(5)])  # enough, but not near
        found = manager.sync.query_exps("aaa", top_k=5)
        assert [e.request for e in found] == ["aab", *["zzz"] * 4]


def test_a_restart_picks_up_what_was_left(settings):
    with ExpManager(**settings) as manager:
        manager.sync.create_exps([exp(f"r{i}") for i in range(70)])
    with ExpManager(**settings) as manager:
        manager.sync.query_exps("r1")
        assert owed(manager, TaskKind.EMBED) == 0
        assert {e.request for e in manager.sync.query_exps("r", top_k=100)} == {f"r{i}" for i in range(70)}


def test_the_worker_does_it_by_itself(settings):
    embedded = threading.Event()

    def embed(texts):
        embedded.set()
        return letters(texts)

    with ExpManager(**{**settings, "embedder": embed}) as manager:

        @manager.exp_cache
        def f(req):
            return req

        f("x")
        assert embedded.wait(20)


def test_uses_are_counted(settings):
    with ExpManager(**settings) as manager:

        @manager.exp_cache
        def f(req):
            return req

        for _ in range(4):
            f("x")
        manager.sync.flush()
        (e,) = manager.sync.iter_exps()
        assert e.access_count == 3
        assert e.last_access >= e.created_at
        f("x")
    with ExpManager(**settings) as manager:
        assert next(iter(manager.sync.iter_exps())).access_count == 4, "closing writes what stood in memory"


def test_another_embedder_embeds_anew(settings):
    with ExpManager(**settings) as manager:
        manager.sync.create_exps([exp("abc"), exp("xyz")])
        manager.sync.flush()

    def reverse(texts):
        return letters(texts)[:, ::-1] + 1

    with ExpManager(**{**settings, "embedder": reverse}) as manager:
        assert [e.request for e in manager.sync.query_exps("abc", top_k=1)] == ["abc"]
        assert manager.stats().embedded == 2


def test_an_index_that_was_thrown_away_is_filled_again(settings, tmp_path):
    import shutil

    with ExpManager(**settings) as manager:
        manager.sync.create_exps([exp("abc"), exp("xyz")])
        manager.sync.flush()
    shutil.rmtree(tmp_path / "pool" / "chroma", ignore_errors=True)
    other = {**settings, "index": "chroma:///pool/chroma"}  # also: a pool that was searched by exact scan gets an index
    with ExpManager(**other) as manager:
        assert [e.request for e in manager.sync.query_exps("abc", top_k=1)] == ["abc"]
        manager.sync.flush()
        assert manager.stats().indexed == 2


def test_an_index_that_fails_is_replaced_by_exact_scan(make_manager, tmp_path):
    (tmp_path / "file").touch()
    manager = make_manager(index=f"chroma:///{tmp_path}/file/chroma", index_from=1)
    manager.sync.create_exps([exp("abc"), exp("xyz")])
    with pytest.warns(ExpPoolWarning, match="exact scan answers"):
        manager.sync.flush()
        assert [e.request for e in manager.sync.query_exps("xyz", top_k=1)] == ["xyz"]
    assert manager.stats().degraded >= 1


def test_deleted_rows_leave_the_index(settings):
    with ExpManager(**settings) as manager:
        manager.sync.create_exps([exp(f"a{i}") for i in range(5)])
        manager.sync.flush()
        manager.sync.delete_exps({"request": "a0"})
        assert "a0" not in {e.request for e in manager.sync.query_exps("a", top_k=10)}
        manager.sync.flush()
        manager.sync.delete_all_exps()
        assert manager.sync.query_exps("a") == []
        manager.sync.create_exp(exp("a9"))
        assert [e.request for e in manager.sync.query_exps("a")] == ["a9"]


def test_a_broken_embedder_puts_rows_off_and_they_come_later(make_manager):
    broken = [True]

    def embed(texts):
        if broken[0]:
            raise RuntimeError("model is down")
        return letters(texts)

    manager = make_manager(embedder=embed)
    manager.sync.create_exp(exp("abc"))
    with pytest.warns(ExpPoolWarning, match="model is down"):
        manager.sync.flush()
    with pytest.raises(EmbedderError, match="model is down"):
        manager.sync.query_exps("abc")
    assert owed(manager, TaskKind.EMBED) == 0, "put off"
    broken[0] = False
    manager.sync._store.enqueue(RecordQuery("default"), TaskKind.EMBED)  # the retry's time has come
    assert [e.request for e in manager.sync.query_exps("abc")] == ["abc"]


def test_one_bad_text_does_not_keep_the_others_from_being_found(make_manager):
    def embed(texts):
        if any("bad" in text for text in texts):
            raise ValueError("cannot tokenize")
        return letters(texts)

    manager = make_manager(embedder=embed)
    manager.sync.create_exps(
        [exp(f"good {i}") for i in range(10)] + [exp("bad")] + [exp(f"fine {i}") for i in range(60)]
    )
    with pytest.warns(ExpPoolWarning, match="cannot tokenize"):
        manager.sync.flush()
    assert manager.stats().embedded == 70
    assert len(manager.sync.query_exps("good", top_k=100)) == 70
    assert [e.request for e in manager.sync.query_exps("bad", query_type="exact")] == ["bad"]


def test_a_failed_scorer_leaves_it_unscored_and_is_asked_again(make_manager):
    manager = make_manager()
    answers = iter([RuntimeError("no"), "eleven", Score(value=0.5)])

    def grade(context):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @manager.exp_cache(scorer=grade, name="f")
    def f(req):
        return req

    f("x")
    for message in ("no", "eleven"):
        with (
            pytest.warns(ExpPoolWarning, match=f"scorer failed.*{message}")
            if message == "no"
            else pytest.MonkeyPatch.context()
        ):
            manager.sync.flush()
        assert next(iter(manager.sync.iter_exps())).score is None
        assert owed(manager, TaskKind.SCORE) == 0
        manager.sync._store.enqueue(RecordQuery("default"), TaskKind.SCORE)
    manager.sync.flush()
    assert next(iter(manager.sync.iter_exps())).score.value == 0.5


def test_an_annotation_between_reading_and_scoring_is_not_lost(make_manager):
    manager = make_manager()

    def grade(context):
        manager.sync.annotate(context.experience.id, expected="right") if not context.experience.annotated else None
        return Score(value=0.5)

    @manager.exp_cache(scorer=grade)
    def f(req):
        return req

    f("x")
    manager.sync.flush()
    manager.sync.flush()
    (e,) = manager.sync.iter_exps()
    assert (e.expected, e.score.value) == ("right", 0.5)


SCRIPT = """
import sys, os, threading
import numpy as np
from exp_pool import ExpManager
going = threading.Event()

def embed(texts):
    going.set()
    {embed}
    return np.ones((len(texts), 3))

manager = ExpManager(store="sqlite:///pool.db", index="exact://", embedder=embed, exit_timeout={timeout})

@manager.exp_cache(name="f")
def f(req):
    return req

for i in range(40):
    f(str(i))
f("0")
{end}
"""


def run(tmp_path, *, embed="pass", end="", timeout=5.0):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).format(embed=embed, end=end, timeout=timeout))
    return subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )


LOADING = """
import sys
from exp_pool import ExpManager, Experience
manager = ExpManager(store="sqlite:///pool.db", index="chroma:///chroma", exit_timeout=30)
for i in range(40):
    manager.sync.create_exp(Experience(function="f", request=str(i), response=i))
while not manager.sync._embeddings.loading:
    pass
"""


def test_a_process_that_ends_while_the_model_loads_ends_quietly_and_loses_nothing(tmp_path):
    """It does not wait: while the interpreter ends, the imports of the model fail anyway."""
    (tmp_path / "script.py").write_text(LOADING)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=25, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    with ExpManager(store=f"sqlite:///{tmp_path}/pool.db", index="exact://", embedder=letters) as manager:
        assert len(manager.sync.query_exps("x", top_k=100)) == 40


ENDS = {
    "at once": {},
    "while it embeds": {"end": "going.wait()"},
    "while the embedder hangs": {"embed": "threading.Event().wait(30)", "end": "going.wait()", "timeout": 0.2},
    "by an exception": {"end": "raise SystemExit(0)"},
    "killed": {"embed": "threading.Event().wait(30)", "end": "going.wait(); os.kill(os.getpid(), 9)"},
}


@pytest.mark.parametrize("end", ENDS)
def test_however_a_process_ends_nothing_that_is_owed_is_lost(tmp_path, end):
    done = run(tmp_path, **ENDS[end])
    assert done.returncode == (-signal.SIGKILL if end == "killed" else 0), done.stderr
    assert done.stderr == ""
    with ExpManager(
        store=f"sqlite:///{tmp_path}/pool.db", index="exact://", embedder=lambda t: np.ones((len(t), 3))
    ) as manager:
        assert manager.sync.get_exps_count() == 40
        assert len(manager.sync.query_exps("x", top_k=100)) == 40


def test_a_child_process_has_a_worker_of_its_own(settings):
    with ExpManager(**settings) as manager:
        manager.sync.create_exp(exp("parent"))
        manager.sync.flush()
        child = os.fork()
        if not child:
            status = 1
            try:
                manager.sync.create_exp(exp("child"))
                status = 0 if "exact" not in settings["index"] or len(manager.sync.query_exps("x")) == 2 else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert {e.request for e in manager.sync.query_exps("x")} == {"parent", "child"}


def test_a_namespace_that_was_taken_over_keeps_no_other_tenant_waiting(tmp_path):
    def reverse(texts):
        return letters(texts)[:, ::-1] + 1

    store = f"sqlite:///{tmp_path}/pool.db"
    with ExpManager(store=store, index="exact://", embedder=letters) as first:
        first.sync.create_exp(exp("abc"))
        first.sync.flush()
        with ExpManager(store=store, index="exact://", embedder=reverse) as second:
            second.sync.query_exps("abc")
        first.sync.create_exps([exp("mno"), exp("xyz", namespace="tenant")])
        with pytest.raises(EmbedderError, match="use the same embedder in both"):
            first.sync.flush()
        assert first.sync._store.count(RecordQuery("tenant", pending=TaskKind.EMBED)) == 0
        assert first.sync._store.count(RecordQuery("default", pending=TaskKind.EMBED)) == 1


def test_a_worker_that_outlives_closing_does_not_make_the_folder_anew(tmp_path):
    import shutil

    entered, go_on = threading.Event(), threading.Event()

    def slow(texts):
        entered.set()
        go_on.wait(60)
        return letters(texts)

    manager = ExpManager(store=f"sqlite:///{tmp_path}/pool/pool.db", index="exact://", embedder=slow, exit_timeout=0)
    manager.sync.create_exp(exp("abc"))
    worker = manager.sync._worker._thread
    assert entered.wait(60)
    manager.sync.close()
    shutil.rmtree(tmp_path / "pool")
    go_on.set()
    worker.join(60)
    assert not (tmp_path / "pool").exists()
