"""Guarantee 6: nothing acknowledged is lost, whoever is killed: each key has one answer, and the file is whole.

Four processes write into one SQLite pool, by `create_exp` and by a decorated function, new keys and keys that all of
them write. Each says what was acknowledged and is SIGKILLed at a moment of its own, some while they create the file.
"""

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from exp_pool import Experience

FULL = os.environ.get("EXP_POOL_FULL") == "1"
ROUNDS = 25 if FULL else 3
WRITERS = 4
MOST = 600 if FULL else 300  # acknowledgements heard from one writer before it is killed

PLAIN = {"index": "none://", "embedder": "none"}

WRITER = """
import itertools, json, sys
from exp_pool import Experience, ExpManager

store, name = sys.argv[1:]
manager = ExpManager(store=store, index="none://", embedder="none")

@manager.exp_cache(name="ask")
def ask(q):
    return {"q": q, "by": name}

def create(q, n):
    return manager.sync.create_exp(Experience(function="tell", request=q, response={"q": q, "by": name, "n": n}))

print("ready", flush=True)
for n in itertools.count():
    q = f"{name} {n}"
    what = ("ask", "tell", "refresh", "shared")[n % 4]
    if what == "ask":
        acknowledged = ask.call(q).id
    elif what == "refresh":  # one of few keys again and again: its row before becomes history
        q = f"{name} again {n % 5}"
        acknowledged = ask.refresh(q).id
    elif what == "tell":
        acknowledged = create(q, n)
    else:
        q = f"shared {n % 50}"
        acknowledged = create(q, n)
    print(json.dumps([what, q, n, acknowledged]), flush=True)
"""


def write_until_killed(store, name, hear):
    """Everything that the writer acknowledged: heard before the kill, or left in the pipe."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, store, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as writer:
        try:
            assert writer.stdout.readline() == "ready\n"
            heard = [writer.stdout.readline() for _ in range(hear)]
        finally:
            writer.kill()
        heard += writer.stdout.readlines()
        assert writer.wait(30) == -9, writer.stderr.read()
    return [(name, *json.loads(line)) for line in heard if line.endswith("\n")]


def response_of(name, what, q, n):
    return {"q": q, "by": name} if what in ("ask", "refresh") else {"q": q, "by": name, "n": n}


def check_file(path):
    """What `quick_check` looks at, and that the indexes agree with the rows; by a connection of its own."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        doubles = (
            "SELECT key FROM experiences NOT INDEXED WHERE is_current = 1 GROUP BY namespace, key HAVING count(*) > 1"
        )
        assert connection.execute(doubles).fetchall() == []


def test_no_acknowledged_write_is_lost_when_four_writers_are_killed_again_and_again(make_manager, tmp_path):
    chance, store = random.Random(1), f"sqlite:///{tmp_path}/pool.db"
    acknowledged = []
    for number in range(ROUNDS):
        hear = [chance.choice([0, chance.randrange(5), chance.randrange(MOST)]) for _ in range(WRITERS)]
        hear[number % WRITERS] = MOST // 2 + chance.randrange(MOST)  # long enough for the log to be emptied meanwhile
        names = [f"round {number} writer {n}" for n in range(WRITERS)]
        with ThreadPoolExecutor(WRITERS) as threads:
            new = [ack for acks in threads.map(write_until_killed, [store] * WRITERS, names, hear) for ack in acks]
        assert len(new) >= sum(hear)
        acknowledged += new
        manager = make_manager(store=store, **PLAIN)
        check_rows(manager, new)
        manager.sync.close()
        check_file(tmp_path / "pool.db")
    manager = make_manager(store=store, **PLAIN)
    check_rows(manager, acknowledged)  # later rounds took nothing from earlier ones
    manager.sync.close()


def check_rows(manager, acknowledged):
    rows = {experience.id: experience for experience in manager.sync.iter_exps(history=True)}
    current = defaultdict(list)
    for experience in manager.sync.iter_exps():
        current[experience.function, experience.request].append(experience)
    assert all(len(experiences) == 1 for experiences in current.values())
    for name, what, q, n, id_ in acknowledged:
        assert id_ is not None, "a healthy pool stores every answer"
        assert rows[id_].response == response_of(name, what, q, n)
        function = "ask" if what in ("ask", "refresh") else "tell"
        assert current[function, q], "its key has an answer: this one, or one that was stored later"

    @manager.exp_cache(name="ask")
    def ask(q):
        return "ran"

    for name, what, q, _, _ in acknowledged[-200:]:
        if what in ("ask", "refresh"):
            assert ask(q) == {"q": q, "by": name}

    assert manager.stats().degraded == 0
    id_ = manager.sync.create_exp(Experience(function="check", request="again", response=len(rows)))
    assert manager.sync.get_exp(id_).response == len(rows), "and it can be written"
