"""Guarantee 5 over a shared store: one call once across processes; a dead leader is replaced, its late write refused."""

import os
import secrets
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

FULL = os.environ.get("EXP_POOL_FULL") == "1"
STORES = ["sqlite", "postgres", "mysql", "redis", "redis_cluster"]
PLAIN = {"index": "none://", "embedder": "none"}

CHILD = """
import os, sys, threading
from exp_pool import ExpManager

manager = ExpManager(store=sys.argv[1], index="none://", embedder="none", lease_timeout=float(sys.argv[2]))

def say(*words):
    print(*words, flush=True)

@manager.exp_cache(name="ask")
def ask(q):
    say("entered", q)
    if q == "for ever":
        threading.Event().wait()
    word = sys.stdin.readline().strip()
    if word == "raise":
        raise ValueError(q)
    return f"child {word}"

@manager.exp_cache(name="quick")
def quick(q):
    with open(sys.argv[3], "a") as log:
        log.write(f"{q}\\n")
    return {"q": q}
"""


@pytest.fixture(params=STORES if FULL else STORES[:1])
def url(request, tmp_path):
    """Of a new and empty pool."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/pool.db"
    url = request.getfixturevalue(f"{request.param}_url")
    return f"{url}?prefix=test-{secrets.token_hex(8)}" if "redis" in url else url


on_every_store = pytest.mark.parametrize("url", STORES, indirect=True)


def often(times, url):
    """How often something slow is done: one store shows what the drivers do, the others differ in the store only."""
    return times if FULL or url.startswith("sqlite") else times // 5


@pytest.fixture
def start(tmp_path, url):
    """Start a child that runs `code` after the decorated functions are there."""
    children = []

    def begin(code, lease=0.3):
        arguments = [sys.executable, "-c", CHILD + code, url, str(lease), f"{tmp_path}/log"]
        children.append(
            subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        )
        return children[-1]

    yield begin
    for child in children:
        child.kill()
        child.wait(30)
        child.stdin.close()
        child.stdout.close()


def heard(child):
    return child.stdout.readline().split()


@pytest.fixture
def ask(make_manager, url):
    manager = make_manager(store=url, lease_timeout=0.3, **PLAIN)

    @manager.exp_cache(name="ask")
    def ask(q):
        return f"parent {q}"

    ask.manager = manager
    return ask


@on_every_store
@pytest.mark.parametrize("keys", [1, 25])
def test_of_a_thousand_calls_in_four_processes_each_runs_once(start, tmp_path, keys):
    code = f"""
from concurrent.futures import ThreadPoolExecutor
say("ready"); sys.stdin.readline()
qs = [f"q{{n % {keys}}}" for n in range(250)]
with ThreadPoolExecutor(10) as threads:
    answers = list(threads.map(quick, qs))
assert answers == [{{"q": q}} for q in qs]
say("done", manager.stats().misses, manager.stats().degraded)
"""
    children = [start(code, lease=5) for _ in range(4)]
    for child in children:
        assert heard(child) == ["ready"]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    told = [heard(child) for child in children]
    assert [(done, degraded) for done, _, degraded in told] == [("done", "0")] * 4
    assert sum(int(misses) for _, misses, _ in told) == keys
    assert sorted((tmp_path / "log").read_text().split()) == sorted(f"q{n}" for n in range(keys))


def test_a_slow_leader_that_is_alive_is_waited_for(start, ask):
    child = start("ask('q')")
    assert heard(child) == ["entered", "q"]
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ask.call, "q")
        with pytest.raises(TimeoutError):
            waiting.result(1.5)  # five times the lease
        child.stdin.write("late\n")
        child.stdin.flush()
        answer = waiting.result(30)
    assert (answer.value, answer.found_by) == ("child late", "exact")
    assert ask.manager.stats().misses == 0


@on_every_store
def test_a_killed_leader_is_replaced_twenty_times(start, ask, url):
    times = often(20, url)
    children = [start(f"ask('q{n}')") for n in range(times)]
    for n, child in enumerate(children):
        assert heard(child) == ["entered", f"q{n}"]
    with ThreadPoolExecutor(times) as threads:
        waiting = [threads.submit(ask, f"q{n}") for n in range(times)]
        for child in children:
            child.send_signal(signal.SIGKILL)
        assert [one.result(30) for one in waiting] == [f"parent q{n}" for n in range(times)]


@on_every_store
def test_the_late_write_of_a_leader_that_was_stopped_is_refused_twenty_times(start, ask, url):
    times = often(20, url)
    child = start(
        f"""
for n in range({times}):
    answer = ask.call(f"q{{n}}")
    say("answered", answer.value.split()[1], answer.id, manager.stats().stored)
"""
    )
    for n in range(times):
        assert heard(child) == ["entered", f"q{n}"]
        child.send_signal(signal.SIGSTOP)
        assert ask(f"q{n}") == f"parent q{n}", "the lease ended while its holder was stopped"
        child.send_signal(signal.SIGCONT)
        child.stdin.write(f"{n}\n")
        child.stdin.flush()
        assert heard(child) == ["answered", str(n), "None", "0"], "its caller has its own answer; nothing was stored"
    assert [e.response for e in ask.manager.sync.iter_exps(history=True)] == [f"parent q{n}" for n in range(times)]


def test_a_leader_that_raises_lets_others_try_at_once(start, ask):
    child = start("try:\n    ask('q')\nexcept ValueError:\n    say('raised'); sys.stdin.readline()", lease=60)
    assert heard(child) == ["entered", "q"]
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ask, "q")
        child.stdin.write("raise\n")
        child.stdin.flush()
        assert heard(child) == ["raised"]
        assert waiting.result(30) == "parent q", "long before the lease of a minute ends"


def test_a_process_that_ends_gives_its_leases_back(start, ask):
    child = start(
        """
threading.Thread(target=ask, args=("for ever",), daemon=True).start()
sys.stdin.readline()
""",
        lease=60,
    )
    assert heard(child) == ["entered", "for", "ever"]
    child.stdin.close()
    child.wait(30)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(ask, "for ever").result(30) == "parent for ever"


def test_calls_that_cross_between_processes_end(start):
    code = """
mine, theirs = sys.argv[4:]
@manager.exp_cache(name="cross")
def cross(q):
    if q == mine:
        say("entered"); sys.stdin.readline()
        return [q, cross(theirs)]
    return q
say("answer", cross(mine)[0])
"""
    children = []
    for mine, theirs in ("ab", "ba"):
        child = start(code.replace("mine, theirs = sys.argv[4:]", f"mine, theirs = {mine!r}, {theirs!r}"))
        children.append(child)
        assert heard(child) == ["entered"]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [heard(child) for child in children] == [["answer", "a"], ["answer", "b"]]


def test_batches_in_opposite_order_do_not_wait_for_each_other(start):
    code = """
@manager.exp_cache(name="many", batch="items")
def many(items):
    return [item * 2 for item in items]
say("ready"); sys.stdin.readline()
for round in range(50):
    items = [round * 10 + n for n in range(5)]
    assert many(ORDERED) == [item * 2 for item in ORDERED]
say("done")
"""
    children = [start(code.replace("ORDERED", order), lease=60) for order in ("items", "items[::-1]")]
    for child in children:
        assert heard(child) == ["ready"]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [heard(child) for child in children] == [["done"], ["done"]]
