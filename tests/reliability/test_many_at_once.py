"""Four processes of sixteen threads on one pool: no error reaches a caller, nothing acknowledged is lost, nothing doubled.

They call, store, annotate, delete, search and get, on keys that all of them share and on keys of which each thread knows
what it did last. Legitimate are a conflict or a missing row where somebody else changed or deleted it in between.
"""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

from exp_pool.protocols import RecordQuery

FULL = os.environ.get("EXP_POOL_FULL") == "1"
SECONDS = 60 if FULL else 3
PROCESSES, THREADS = 4, 16

PLAIN = {"index": "none://", "embedder": "none"}

CHILD = """
import itertools, json, random, sys, threading, time, traceback
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from exp_pool import Experience, ExpManager
from exp_pool.errors import ConflictError, NotFoundError

store, process, threads, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
manager = ExpManager(store=store, index="none://", embedder="none")
pool = manager.sync

running, numbers = threading.local(), itertools.count(1)

@manager.exp_cache(name="ask")
def ask(req):
    running.ran = True
    return answer_to(req, 0)

def answer_to(req, number):
    return {"req": req, "long": req * 20, "number": number}

def right(req, value):
    assert value == answer_to(req, value["number"]), (req, value)

def experience(req, number):
    return Experience(function="ask", request=req, response=answer_to(req, number))

lately = deque(maxlen=200)  # (id, req) that anybody in this process may change

def work(thread):
    chance, errors, done = random.Random(f"{process} {thread}"), [], Counter()
    mine = {}  # req: the id and the number of what answers it, None after it was deleted

    def shared():
        return f"shared {chance.randrange(300)}"

    def own():
        return f"own {process} {thread} {chance.randrange(4)}"

    def call():
        req = shared()
        answer = ask.call(req)
        right(req, answer.value)
        lately.append((answer.id, req))
        assert answer.id is not None, "a healthy pool stores every answer"

    def call_plainly():
        req = shared()
        right(req, ask(req))

    def call_own():
        req = own()
        answer = ask.call(req)
        known = mine.get(req)
        if known is None:
            assert answer.found_by is None, "it was deleted, or never there"
            known = mine[req] = answer.id, 0
        else:
            assert answer.found_by == "exact"
        assert (answer.id, answer.value) == (known[0], answer_to(req, known[1]))

    def call_own_plainly():
        req = own()
        known = mine.get(req)
        for _ in range(2):  # the second time it may come from memory
            running.ran = False
            value = ask(req)
            assert running.ran == (known is None), (known, value)
            if known is None:
                known = mine[req] = ask.lookup(req).experience.id, 0
            assert value == answer_to(req, known[1])

    def store_own():
        req, number = own(), next(numbers)
        mine[req] = pool.create_exp(experience(req, number)), number

    def delete_own():
        req = own()
        if mine.get(req) is not None:
            assert pool.delete_exp(mine[req][0])
        mine[req] = None

    def annotate_own():
        req, number = own(), next(numbers)
        if mine.get(req) is not None:
            pool.annotate(mine[req][0], expected=answer_to(req, number))
            mine[req] = mine[req][0], number

    def create():
        req = shared()
        lately.append((pool.create_exp(experience(req, next(numbers))), req))

    def annotate():
        id_, req = chance.choice(lately)
        try:
            right(req, pool.annotate(id_, metadata={"by": thread}).value)
        except (ConflictError, NotFoundError) as err:
            done[type(err).__name__] += 1

    def delete():
        pool.delete_exp(chance.choice(lately)[0])

    def search():
        req = shared()
        found = pool.query_exps(req, query_type="exact")
        assert len(found) <= 1, [one.id for one in found]
        for one in found:
            right(req, one.value)

    def get():
        id_, req = chance.choice(lately)
        found = pool.get_exp(id_)
        assert found is None or (found.id, found.request) == (id_, req)

    call()
    does = [call, call_plainly, call_own, call_own_plainly, store_own, delete_own, annotate_own, create, annotate,
            delete, search, get]
    while time.monotonic() < until:
        what = chance.choice(does)
        try:
            what()
        except Exception:
            errors.append(f"{what.__name__}: {traceback.format_exc()}")
        done[what.__name__] += 1
    return errors, done, mine

print("ready", flush=True)
sys.stdin.readline()
until = time.monotonic() + seconds
with ThreadPoolExecutor(threads) as workers:
    ended = list(workers.map(work, range(threads)))
told = {
    "errors": [error for errors, _, _ in ended for error in errors],
    "done": sum((done for _, done, _ in ended), Counter()),
    "mine": {req: known for _, _, mine in ended for req, known in mine.items()},
    "degraded": manager.stats().degraded,
}
pool.close()
print(json.dumps(told), flush=True)
"""


def test_many_threads_of_many_processes_do_everything_at_once(make_manager, tmp_path):
    store = f"sqlite:///{tmp_path}/pool.db"
    arguments = [[sys.executable, "-c", CHILD, store, str(n), str(THREADS), str(SECONDS)] for n in range(PROCESSES)]
    children = [
        subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for call in arguments
    ]
    try:
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        told = []
        for child in children:
            said, troubles = child.communicate(timeout=SECONDS + 120)
            assert (child.returncode, troubles) == (0, "")
            told.append(json.loads(said))
    finally:
        for child in children:
            child.kill()
            child.communicate()
    errors = [error for one in told for error in one["errors"]]
    assert not errors, f"{len(errors)} errors, such as {errors[0]}"
    assert [one["degraded"] for one in told] == [0] * PROCESSES

    manager = make_manager(store=store, **PLAIN)
    mine = {req: known for one in told for req, known in one["mine"].items()}
    assert len(mine) > PROCESSES * THREADS
    for req, known in mine.items():
        found = [[e.id, e.value["number"]] for e in manager.sync.query_exps(req, query_type="exact")]
        assert found == ([] if known is None else [known]), "what its thread did last"
    current = list(manager.sync.store.scan(RecordQuery("default")))
    assert len({record.key for record in current}) == len(current)
    manager.sync.close()
    with closing(sqlite3.connect(tmp_path / "pool.db")) as connection:
        doubles = (
            "SELECT key FROM experiences NOT INDEXED WHERE is_current = 1 GROUP BY namespace, key HAVING count(*) > 1"
        )
        assert connection.execute(doubles).fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]  # quick_check, and the indexes
