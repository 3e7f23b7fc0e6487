"""Calls from eight threads, or eight tasks, to a pool whose server dies, hangs or is cut off: what came of each.

Alone, a process that makes such calls and says nothing else: ``calls_in_trouble.py URL``.
"""

import asyncio
import contextlib
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from support.servers import until

from exp_pool import ExpManager
from exp_pool.protocols import EventKind

TIMEOUT_S = 1.0  # of the store
PATIENCE_S = 60  # for what takes seconds unless it hangs
AT_ONCE = 8
PLAIN = {"index": "none://", "embedder": "none", "store_timeout": TIMEOUT_S, "hot_ttl": 0}
_WORK_S = 0.002  # what the function takes: more than one call is in progress


def answer_to(q):
    return {"answer to": q, "long": q * 50}


class Calls:
    """Half of the requests are new, half were made before. They are made when they are let.

    Attributes:
        runs: how often the function ran, by request.
        acknowledged: the requests of all rows that were said to be stored, by id.
        missed: rows that were not stored, by key.
        troubles: what was said to be wrong with the pool, by key.
        wrong: what callers got that is not the function's value.
        slowest_s: the longest call.
        again_s: how long it took after each trouble until the pool was used again.
    """

    def __init__(self, make_manager, url, *, asynchronous=False):
        self.runs, self.missed, self.troubles = Counter(), Counter(), Counter()
        self.acknowledged, self.wrong, self.again_s = {}, [], []
        self.slowest_s, self.done, self.allowed = 0.0, 0, 0
        self._numbers, self._lock = iter(range(10**9)), threading.Lock()
        self._permits, self._ended, self._asynchronous = threading.Semaphore(0), False, asynchronous
        self._probes = 0
        self.manager = make_manager(store=url, callbacks=[self._stored], observers=[self], **PLAIN)
        run = self._run

        def ask(q):
            time.sleep(_WORK_S)
            return run(q)

        async def ask_async(q):
            await asyncio.sleep(_WORK_S)
            return run(q)

        self.ask = self.manager.exp_cache(name="ask", exclude=["run"])(ask_async if asynchronous else ask)
        self.probe = self.manager.exp_cache(name="probe")(answer_to)

    def _run(self, q):
        with self._lock:
            self.runs[q] += 1
        return answer_to(q)

    def _stored(self, key, experience):
        if experience.function == "ask":
            self.acknowledged[experience.id] = experience.request

    def notify(self, event):
        if event.kind is EventKind.DEGRADE and event.function == "ask":
            with self._lock:
                self.troubles[event.key] += 1

    # Making them

    def __enter__(self):
        self._threads = ThreadPoolExecutor(AT_ONCE + 1)
        if self._asynchronous:
            self._working = [self._threads.submit(asyncio.run, self._tasks())]
        else:
            self._working = [self._threads.submit(self._work) for _ in range(AT_ONCE)]
        return self

    def __exit__(self, *_):
        self._ended = True
        self._permits.release(AT_ONCE)
        for working in self._working:
            working.result(PATIENCE_S)
        self._threads.shutdown()

    def _work(self):
        while True:
            self._permits.acquire()
            if self._ended:
                return
            q = _request(next(self._numbers))
            with self._looked_at(q) as told:
                told.append(self.ask.call(q))

    async def _tasks(self):
        async def work():
            loop = asyncio.get_running_loop()
            while True:
                await loop.run_in_executor(self._threads, self._permits.acquire)
                if self._ended:
                    return
                q = _request(next(self._numbers))
                with self._looked_at(q) as told:
                    told.append(await self.ask.call(q))

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    @contextlib.contextmanager
    def _looked_at(self, q):
        began, told = time.monotonic(), []
        try:
            yield told
        except Exception as err:
            self.wrong.append((q, repr(err)))
        took = time.monotonic() - began
        with self._lock:
            for answer in told:
                if answer.value != answer_to(q):
                    self.wrong.append((q, answer.value))
                if answer.found_by is None and answer.id is None:
                    self.missed[self.ask.key(q)] += 1
            self.slowest_s = max(self.slowest_s, took)
            self.done += 1

    # Letting them

    def let(self, count):
        """So many more calls; gives how many there are in all, when they are done."""
        self.allowed += count
        self._permits.release(count)
        return self.allowed

    def until_done(self, count=None):
        until(lambda: self.done >= (count or self.allowed), "the calls end", PATIENCE_S)

    def in_health(self, count):
        """Calls while nothing is wrong: what was stored does not run, anything else runs once.

        Where the machine was too busy for the store to answer in time, which is trouble, too, those that it met, and no
        others, may run once more each time.
        """
        stored, runs, troubles = set(self.acknowledged.values()), self.runs.copy(), self.troubles.copy()
        self.let(count)
        self.until_done()
        met = self.troubles - troubles
        allowed = {q: met[self.ask.key(q)] + (q not in stored) for q in self.runs}
        assert {q: ran for q, ran in (self.runs - runs).items() if ran > allowed[q]} == {}

    @contextlib.contextmanager
    def in_trouble(self):
        """Calls that are made meanwhile may find no pool; afterwards it is used again, and all have ended."""
        yield
        began = time.monotonic()
        self.until_used_again()
        self.again_s.append(time.monotonic() - began)
        self.until_done()

    def until_used_again(self):
        """Until what was just stored is found, again and again: by each master of a cluster."""
        until(lambda: all(self._is_used() for _ in range(20)), "the pool is used again", PATIENCE_S)

    def _is_used(self):
        self._probes += 1
        q = f"probe {self._probes}"
        return (self.probe(q), self.probe.call(q).found_by) == (answer_to(q), "exact")

    # Looking at what came of them

    def check(self, make_manager, url, *, may_lose=False):
        """Every call its value; a second run only after trouble with this key; each acknowledged row once.

        Returns:
            How many acknowledged rows are lost.
        """
        assert (self.done, self.wrong) == (self.allowed, [])
        key_of = {q: self.ask.key(q) for q in self.runs}
        assert [q for q, runs in self.runs.items() if runs > 1 + self.troubles[key_of[q]]] == []
        assert not self.missed - self.troubles, "who stored nothing said why"
        with contextlib.closing(make_manager(store=url, **PLAIN).sync) as pool:
            rows = [row for row in pool.iter_exps(history=True) if row.function == "ask"]
            current = Counter(row.request for row in pool.iter_exps() if row.function == "ask")
        assert all(row.response == answer_to(row.request) for row in rows)
        assert not Counter(row.request for row in rows) - self.runs, "no row twice"
        assert set(current.values()) <= {1}
        lost = self.acknowledged.keys() - {row.id for row in rows}
        assert may_lose or not lost
        return len(lost)

    def told(self, what, lost):
        """One line for people."""
        values, twice = self.done - len(self.wrong), sum(runs > 1 for runs in self.runs.values())
        return (
            f"{what}: {self.done} calls, {values} own values, {twice} run twice, {len(self.acknowledged)} acknowledged, "
            f"{lost} lost, used again after {max(self.again_s):.1f} s, slowest call {self.slowest_s:.1f} s"
        )


def _request(number):
    chance = random.Random(number)
    return f"q{number if chance.random() < 0.5 else chance.randrange(number + 1)}"


def main(url):
    """Calls for as long as its reader wants."""
    import warnings

    from exp_pool.errors import ExpPoolWarning

    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ExpPoolWarning)
    calls = Calls(ExpManager, url)
    with calls:
        for line in sys.stdin:
            calls.let(int(line))
            calls.until_done()
            print("done", flush=True)
    calls.manager.sync.close()
    sys.exit(str(calls.wrong) if calls.wrong else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
