"""Disks that are full, files that may not grow, be opened or be written: every call has its function's value.

Each fault comes over a healthy process for a while. During it nothing raises, what the pool says it stored is stored,
and `stats()` shows the trouble; after it the same manager stores again, and the file is whole.
"""

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from exp_pool import Experience

FULL = os.environ.get("EXP_POOL_FULL") == "1"
CALLS = 200 if FULL else 30

PLAIN = {"index": "none://", "embedder": "none"}

CHILD = """
import contextlib, json, os, resource, sqlite3, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from exp_pool import Experience, ExpManager

folder, fault, calls = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = f"sqlite:///{folder}/pool.db"

def open_pool():
    manager = ExpManager(store=store, index="none://", embedder="none")
    @manager.exp_cache(name="ask")
    def ask(q):
        return {"q": q, "long": q * 100}
    ask.manager = manager
    return ask

@contextlib.contextmanager
def limit(what, value):
    before = resource.getrlimit(what)
    resource.setrlimit(what, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)

# A disk of so many pages: SQLite is told by each connection, those that are open and those to come.
connections, connect, pages = [], sqlite3.connect, {"most": 2**30}

def connect_within(*args, **kwargs):
    connections.append(connect(*args, **kwargs))
    with contextlib.suppress(sqlite3.Error):  # who uses it will hear of it
        connections[-1].execute(f"PRAGMA max_page_count = {pages['most']}")
    return connections[-1]

sqlite3.connect = connect_within

def allow(most):
    pages["most"] = most
    for connection in connections:
        with contextlib.suppress(sqlite3.ProgrammingError):  # it is closed
            connection.execute(f"PRAGMA max_page_count = {most}")

@contextlib.contextmanager
def pages_run_out():
    with contextlib.closing(connect(folder / "pool.db")) as connection:
        used = connection.execute("PRAGMA page_count").fetchone()[0]
    allow(used + 2)
    try:
        yield
    finally:
        allow(2**30)

@contextlib.contextmanager
def modes(*paths):
    before = [(path, path.stat().st_mode & 0o777) for path in paths]
    for path, mode in before:
        path.chmod((mode | 0o444) & ~0o222)
    root = os.geteuid() == 0
    if root:  # which may do anything, whatever the modes say
        os.setegid(65534); os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0); os.setegid(0)
        for path, mode in before:
            path.chmod(mode)

begin = {
    "disk": pages_run_out,
    "size": lambda: limit(resource.RLIMIT_FSIZE, 200_000),
    "no size": lambda: limit(resource.RLIMIT_FSIZE, 0),
    "files": lambda: limit(resource.RLIMIT_NOFILE, 3),
    "file": lambda: modes(folder / "pool.db"),
    "folder": lambda: modes(folder),
    "both": lambda: modes(folder, folder / "pool.db"),
}[fault]

stored, wrong = {}, []

def call(ask, q, how="call"):
    try:
        if how == "plain":
            value = ask(q)
        else:
            answer = getattr(ask, how)(q)
            value = answer.value
            if answer.id is not None:
                stored[q] = answer.id
        if value != {"q": q, "long": q * 100}:
            wrong.append([q, repr(value)])
    except BaseException as err:
        wrong.append([q, repr(err)])

def use(ask, name):
    # New calls, some of them made by several threads at once, and calls that were stored before the fault.
    hows = ["call", "refresh", "plain", "plain"]
    asked = [(ask, f"{name} {n // 2}" if n % 3 else f"before {n % 20}", hows[n % 4]) for n in range(calls)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda one: call(*one), asked))
    stats = ask.manager.stats()
    return {"hits": stats.hits, "degraded": stats.degraded}

ask = open_pool()  # what has its files open already
for n in range(20):
    call(ask, f"before {n}")
assert len(stored) == 20 and not wrong, wrong
if fault in ("file", "folder", "both"):
    ask.manager.sync.close()  # or its log would lie about, which is another fault
    ask = None
newcomer = open_pool()  # opens them while the fault is there
with begin():
    told = {"newcomer": use(newcomer, "new"), "open": ask and use(ask, "open")}
for n in range(10):
    call(newcomer, f"after {n}")
troubles = newcomer.manager.stats().degraded - told["newcomer"]["degraded"]
for one in filter(None, (ask, newcomer)):
    one.manager.sync.close()
print(json.dumps({**told, "stored": stored, "wrong": wrong, "troubles": troubles}))
"""


@pytest.fixture
def folder():
    """Where a process without privileges can reach it, which `tmp_path` is not."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "pool").mkdir(mode=0o755)
        yield path / "pool"


FAULTS = {
    "disk": "database or disk is full",
    "size": "no file may grow beyond a size",
    "no size": "nothing may be written at all",
    "files": "no further file may be opened",
    "file": "the file is read-only",
    "folder": "the folder is read-only",
    "both": "the file and its folder are read-only",
}


@pytest.mark.parametrize("fault", FAULTS, ids=FAULTS.values())
def test_every_call_has_its_value_and_the_pool_is_whole_afterwards(fault, folder, make_manager):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(folder), fault, str(CALLS)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, "no thread died of it either"
    told = json.loads(done.stdout)
    assert told["wrong"] == []
    assert told["newcomer"]["degraded"] > 0, "the trouble shows"
    if told["open"]:  # without further files, threads that would each open one get nothing
        least = 1 if fault == "files" else CALLS // 6
        assert told["open"]["hits"] >= least, "what was stored before is still given by who has the file open"
    after = [q for q in told["stored"] if q.startswith("after")]
    assert (len(after), told["troubles"]) == (10, 0), "the fault over, the same manager stores again"

    manager = make_manager(store=f"sqlite:///{folder}/pool.db", **PLAIN)
    for q, id_ in told["stored"].items():
        assert manager.sync.get_exp(id_).response == {"q": q, "long": q * 100}, "what was acknowledged is there"
    assert len([q for q in told["stored"] if q.startswith("before")]) == 20
    manager.sync.close()
    with closing(sqlite3.connect(folder / "pool.db")) as connection:  # quick_check, and the indexes
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_who_opens_a_pool_while_another_writes_is_answered_from_it(make_manager, tmp_path):
    store = f"sqlite:///{tmp_path}/pool.db"
    first = make_manager(store=store, **PLAIN)
    first.sync.create_exp(Experience(function="f", request="q", response="known"))
    with closing(sqlite3.connect(tmp_path / "pool.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")  # nobody else can write, everybody can read
        second = make_manager(store=store, store_timeout=0.1, **PLAIN)
        assert [e.response for e in second.sync.query_exps("q", query_type="exact")] == ["known"]


LONG_LOG = """
import json, resource, sys
from pathlib import Path
from exp_pool import Experience
from exp_pool.errors import StoreError
from exp_pool.protocols import Put
from exp_pool.core.record import to_record
from exp_pool.stores.sql.sqlite import SqliteStore

path = Path(sys.argv[1])
store = SqliteStore(path, compress_above=None)  # no worker that would empty its log

def put(n):
    experience = Experience(id=f"{n}", function="f", request=f"{n}", response="x" * 1_700_000)
    return store.put_many([Put(to_record(experience, "default"))])

for n in range(20):
    put(n)
store.close()  # now they are in the file; the log grows from nothing
resource.setrlimit(resource.RLIMIT_FSIZE, (90 * 2**20, resource.RLIM_INFINITY))
refused = []
for n in range(20, 100):
    try:
        put(n)
    except StoreError as err:
        refused.append(f"{n}")
present = [row is not None for row in store.get_many("default", refused, by="id")]
print(json.dumps([len(refused), present.count(True)]))
"""


def test_a_write_that_is_refused_was_not_done(folder):
    done = subprocess.run([sys.executable, "-c", LONG_LOG, str(folder / "pool.db")], capture_output=True, text=True)
    refused, present = json.loads(done.stdout)
    assert refused > 0
    assert present == 0, "said to be refused, yet they are there"
