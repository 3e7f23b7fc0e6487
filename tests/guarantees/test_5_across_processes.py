"""Guarantee 5 over a shared store: one call once across processes; a dead leader is replaced, its late write refused."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

PLAIN = {"index": "none://", "embedder": "none"}

CHILD = """
import os, sys
from exp_pool import ExpManager

manager = ExpManager(store=sys.argv[1], index="none://", embedder="none", lease_timeout=float(sys.argv[2]))

def say(*words):
    print(*words, flush=True)

@manager.exp_cache(name="ask")
def ask(q):
    say("entered", q)
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


@pytest.fixture
def start(tmp_path):
    """Start a child that runs `code` after the decorated functions are there."""
    children = []

    def begin(code, lease=0.3):
        arguments = [sys.executable, "-c", CHILD + code, f"sqlite:///{tmp_path}/pool.db", str(lease), f"{tmp_path}/log"]
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
def ask(make_manager, tmp_path):
    manager = make_manager(store=f"sqlite:///{tmp_path}/pool.db", lease_timeout=0.3, **PLAIN)

    @manager.exp_cache(name="ask")
    def ask(q):
        return f"parent {q}"

    ask.manager = manager
    return ask


def test_of_a_thousand_calls_in_four_processes_one_runs(start, tmp_path):
    code = """
from concurrent.futures import ThreadPoolExecutor
say("ready"); sys.stdin.readline()
with ThreadPoolExecutor(25) as threads:
    answers = list(threads.map(quick, ["q"] * 250))
assert answers == [{"q": "q"}] * 250
say("done", manager.stats().misses)
"""
    children = [start(code, lease=5) for _ in range(4)]
    for child in children:
        assert heard(child) == ["ready"]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert sorted(heard(child) for child in children) == [["done", "0"]] * 3 + [["done", "1"]]
    assert (tmp_path / "log").read_text() == "q\n"


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


def test_a_killed_leader_is_replaced_twenty_times(start, ask):
    children = [start(f"ask('q{n}')") for n in range(20)]
    for n, child in enumerate(children):
        assert heard(child) == ["entered", f"q{n}"]
    with ThreadPoolExecutor(20) as threads:
        waiting = [threads.submit(ask, f"q{n}") for n in range(20)]
        for child in children:
            child.send_signal(signal.SIGKILL)
        assert [one.result(30) for one in waiting] == [f"parent q{n}" for n in range(20)]


def test_the_late_write_of_a_leader_that_was_stopped_is_refused_twenty_times(start, ask):
    child = start(
        """
for n in range(20):
    answer = ask.call(f"q{n}")
    say("answered", answer.value.split()[1], answer.id, manager.stats().stored)
"""
    )
    for n in range(20):
        assert heard(child) == ["entered", f"q{n}"]
        child.send_signal(signal.SIGSTOP)
        assert ask(f"q{n}") == f"parent q{n}", "the lease ended while its holder was stopped"
        child.send_signal(signal.SIGCONT)
        child.stdin.write(f"{n}\n")
        child.stdin.flush()
        assert heard(child) == ["answered", str(n), "None", "0"], "its caller has its own answer; nothing was stored"
    assert [e.response for e in ask.manager.sync.iter_exps(history=True)] == [f"parent q{n}" for n in range(20)]


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
import threading
threading.Thread(target=ask, args=("q",), daemon=True).start()
sys.stdin.readline()
""",
        lease=60,
    )
    assert heard(child) == ["entered", "q"]
    child.stdin.close()
    child.wait(30)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(ask, "q").result(30) == "parent q"


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
