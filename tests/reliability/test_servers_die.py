"""The server dies, hangs, is cut off in the middle of an answer: every call has its value, and nothing is lost or doubled.

Calls come from eight threads the whole time, half of them for what was asked before. Afterwards the pool is used again
without a restart, and every row whose writing was acknowledged is there.
"""

import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from calls_in_trouble import AT_ONCE, PATIENCE_S, Calls
from support.servers import until, with_port

from exp_pool.api.registry import open_store
from exp_pool.core.config import ExpPoolConfig
from exp_pool.errors import StoreError
from exp_pool.protocols import PutStatus
from exp_pool.testing.factories import put, row

FULL = os.environ.get("EXP_POOL_FULL") == "1"
CALLS = 1000 if FULL else 200
DEATHS = 3 if FULL else 1
HANGS, HANG_S = (2, 3.0) if FULL else (1, 1.5)
CUTS = 30 if FULL else 6
# Bytes between two places where an answer is cut: at most what is said of a COMMIT.
STEPS = {"postgresql": 4 if FULL else 40, "mysql": 2 if FULL else 10, "redis": 1 if FULL else 10}

ENGINES = ["postgres", "mariadb", "redis"]
AND_CLUSTER = [*ENGINES, "redis_cluster"] if FULL else ENGINES


@pytest.fixture(params=ENGINES)
def server(request):
    return request.getfixturevalue(f"own_{request.param}")


def promised(url):
    """The URL of a store that is told that its server is durable."""
    return f"{url}?durable=true" if url.startswith("redis") else url


@pytest.fixture(autouse=True)
def _no_thread_is_stuck():
    before = set(threading.enumerate())  # some threads of earlier tests stay for ever
    yield

    def stuck():
        return [t for t in threading.enumerate() if t.name.startswith("exp_pool") and t not in before]

    until(lambda: not stuck(), "threads end", PATIENCE_S)


@pytest.fixture
def tell(request, capsys):
    """Print the line of a full run."""

    def tell(calls, lost):
        if FULL:
            with capsys.disabled():
                print("\n" + calls.told(request.node.name.removeprefix("test_"), lost))

    return tell


@pytest.mark.parametrize("server", AND_CLUSTER, indirect=True)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "tasks"])
def test_killed_and_restarted(server, make_manager, tell, asynchronous):
    url, total = promised(server.url), CALLS // 4 if asynchronous else CALLS
    part = total // (4 * DEATHS + 1)
    with Calls(make_manager, url, asynchronous=asynchronous) as calls:
        for _ in range(DEATHS):
            calls.in_health(part)
            with calls.in_trouble():
                begun = calls.done
                calls.let(part)
                calls.until_done(begun + part // 3)
                server.kill()  # with eight calls in progress
                calls.let(part)
                server.start()
                calls.let(part)
        calls.in_health(total - calls.done)
    tell(calls, calls.check(make_manager, url, may_lose="cluster" in url))


@pytest.mark.parametrize("server", AND_CLUSTER, indirect=True)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["threads", "tasks"])
def test_hanging(server, make_manager, tell, asynchronous):
    url, total = promised(server.url), CALLS // 4 if asynchronous else CALLS
    part = total // (3 * HANGS + 1)
    with Calls(make_manager, url, asynchronous=asynchronous) as calls:
        for _ in range(HANGS):
            calls.in_health(part)
            with calls.in_trouble():
                begun = calls.done
                calls.let(part)
                calls.until_done(begun + part // 3)
                server.pause()
                calls.let(part)
                calls.until_done()  # while it hangs
                time.sleep(HANG_S)  # which is what is tested: it hangs for longer than anybody waits
                server.resume()
        calls.in_health(total - calls.done)
    tell(calls, calls.check(make_manager, url))


def test_cut_off_in_the_middle_of_answers(server, proxied, make_manager, tell):
    proxy, chance = proxied(server.url), random.Random(1)
    url = promised(proxy.url)
    with Calls(make_manager, url) as calls:
        calls.in_health(CALLS // 5)
        with calls.in_trouble():
            for cut in range(1, CUTS + 1):
                proxy.cut_after(chance.randrange(1, 3000))
                while proxy.cuts < cut:
                    calls.let(AT_ONCE)
                    calls.until_done()
            proxy.never_cut()
        with calls.in_trouble():
            proxy.refuse()
            proxy.cut()
            calls.let(CALLS // 5)
            calls.until_done()
            proxy.accept()
        calls.in_health(max(CALLS // 5, CALLS - calls.done))
    tell(calls, calls.check(make_manager, promised(server.url)))


def test_a_cluster_loses_a_master(own_redis_cluster, make_manager, tell):
    url = f"{own_redis_cluster.url}?durable=true"
    with Calls(make_manager, url) as calls:
        calls.in_health(CALLS // 5)
        with calls.in_trouble():
            begun = calls.done
            calls.let(CALLS // 5)
            calls.until_done(begun + CALLS // 15)
            dead = own_redis_cluster.kill_master()
            calls.let(CALLS // 5)
            calls.until_done()  # before anybody takes over, or while
            own_redis_cluster.wait()
            calls.let(CALLS // 5)
        with calls.in_trouble():
            dead.restart()
            own_redis_cluster.wait()
        calls.in_health(CALLS - calls.done)
    # What a master acknowledged and its replica had not got yet is gone with it: the store does not promise more.
    tell(calls, calls.check(make_manager, url, may_lose=True))


@contextlib.contextmanager
def listener():
    """A server that lets everybody in and never says a word: its port, and the connections so far."""
    held = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    held.append(listening.accept()[0])

        thread = threading.Thread(target=accept, name="listener")
        thread.start()
        try:
            yield listening.getsockname()[1], held
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


@pytest.mark.parametrize(
    "url",
    ["postgresql://u@host/d", "mysql://u@host/d", "redis://host/0", "redis+cluster://host"],
    ids=[*ENGINES, "redis_cluster"],
)
def test_not_every_caller_waits_for_a_server_that_never_answers(url, make_manager):
    with listener() as (port, connections), Calls(make_manager, with_port(url, port)) as calls:
        calls.let(1)
        calls.until_done()
        assert connections
        calls.let(200)
        calls.until_done()
        # One caller at a time tries, and only now and then.
        assert len(connections) < 20
        assert calls.wrong == []


def write_log(store, name):
    store.append_log("n", "log", [name])


def written_logs(store, names):
    return Counter(text for _, text in store.read_log("n", "log", limit=10_000))


def write_row(store, name):
    assert put(store, row(name, id=name)) == [PutStatus.CURRENT]


def written_rows(store, names):
    rows = [found for found in store.get_many("n", names, by="id") if found is not None]
    assert store.get_many("n", [found.key for found in rows]) == rows
    return Counter(found.id for found in rows)


@pytest.mark.parametrize(
    ("write", "written"), [(write_log, written_logs), (write_row, written_rows)], ids=["log", "row"]
)
def test_a_write_whose_answer_is_cut_anywhere_is_done_once_or_fails(server, proxied, write, written):
    config, proxy = ExpPoolConfig(store_timeout=5), proxied(server.url)
    tried, failed = [], []
    for allowed in range(1, 100_000, STEPS[server.url.partition(":")[0]]):
        cuts = proxy.cuts
        tried.append(f"{allowed}")
        with contextlib.closing(open_store(proxy.url, config)) as store:
            store.read_log("n", "log")  # it is connected
            proxy.cut_after(allowed)
            try:
                write(store, tried[-1])
            except StoreError:
                failed.append(tried[-1])
            proxy.never_cut()
        if proxy.cuts == cuts:
            break  # the whole answer is shorter than that
    with contextlib.closing(open_store(server.url, config)) as store:
        found = written(store, tried)
    assert set(found.values()) == {1}
    assert {*tried} - {*failed} <= found.keys()
    assert len(tried) > 3
    if write is write_row:
        assert len(failed) < len(tried) - 1, "what came to nothing was done again"


def test_what_a_process_prints_when_its_server_dies_is_nothing(server):
    script = Path(__file__).with_name("calls_in_trouble.py")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-X", "dev", script, promised(server.url)]
    with subprocess.Popen(command, env=env, text=True, bufsize=1, **pipes) as child:
        try:
            for what in (None, server.kill, server.start, server.pause):
                child.stdin.write("40\n" if what is None else "200\n")
                if what is not None:
                    what()
                if what is not server.start:
                    assert child.stdout.readline() == "done\n"
        finally:
            server.mend()
            out, err = child.communicate(timeout=PATIENCE_S)
    assert (child.returncode, err) == (0, "")
