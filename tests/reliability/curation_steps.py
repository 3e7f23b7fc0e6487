"""Is killed before or after the n-th call of the store (`both`: one after the other) while a change is applied or undone.

``python curation_steps.py apply|undo FOLDER STRIDE [both]`` prints one JSON line for each try: how the process ended, what
`history` said before anything was mended, and what is wrong with the pool once the next call has been made. Each try and
each look is a child by fork: the killed one ends by SIGKILL, and nothing of it is left but SQLite's files.
"""

import json
import os
import shutil
import signal
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from support.children import in_child
from support.curated_pools import contents, of_everything

from exp_pool import Experience, ExpManager
from exp_pool.core.record import sized
from exp_pool.curation import history, recover, undo
from exp_pool.curation.change_log import commit
from exp_pool.curation.change_set import planned
from exp_pool.runtime import clock
from exp_pool.stores.sql.sqlite import SqliteStore

MINUTE_NS = 60 * 10**9


class DyingStore:
    """A store whose process ends before the n-th call, or after its work."""

    def __init__(self, store, n, after):
        self._store, self._n, self._after, self.calls = store, n, after, 0

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def call(*args, **kwargs):
            self.calls += 1
            if self.calls == self._n and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = found(*args, **kwargs)
            if self.calls == self._n:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call


def manager_of(folder, n=0, after=False):
    store = DyingStore(SqliteStore(folder / "pool.db"), n, after)
    return closing(ExpManager(store=store, index="none://", embedder="none").sync)


def mixed(pool):
    """Rows edited, deleted and added, as an edited frame would have it; without pandas, which takes a second to load."""
    rows = [pool.editor.record(exp.id) for exp in pool.iter_exps()]
    edited = [(row, sized(replace(row, expected='"said"', strategy="s"))) for row in rows[:4]]
    new = Experience(id="new", function="ask", request="new", response="r", created_at=datetime(2026, 2, 1, tzinfo=UTC))
    return planned(
        pool.namespace, "apply", [*edited, (rows[5], None), (rows[6], None), (None, pool.editor.record_of(new))]
    )


def do(operation, pool):
    if operation == "apply":
        commit(pool, mixed(pool), who="ann", why="")
    else:
        undo(SimpleNamespace(sync=pool), history(SimpleNamespace(sync=pool))[0].id)


def prepare(operation, base):
    with manager_of(base) as pool:
        pool.create_exps(of_everything(9))
        original = contents(pool)
        do("apply", pool)
        applied = contents(pool)
        do("undo", pool)
        assert contents(pool) == original
    shutil.rmtree(base)
    with manager_of(base) as pool:
        pool.create_exps([Experience.from_dict(exp) for exp, *_ in original.values()])
        original = contents(pool)
        if operation == "undo":
            do("apply", pool)
            applied = contents(pool)
    states = (original, applied) if operation == "apply" else (applied, original)
    (base / "states").write_text(repr(tuple(map(repr, states))))


def look(folder, operation, before, after):
    """What history said, and what is wrong."""
    real = clock.time
    clock.time = SimpleNamespace(time_ns=lambda: real.time_ns() + MINUTE_NS, monotonic=real.monotonic)  # leases ended
    wrong = []
    with manager_of(folder) as pool:
        manager = SimpleNamespace(sync=pool)
        said = [note.standing for note in history(manager) if note.what == operation]
        named = any("is unfinished" in problem for problem in pool.doctor().problems)
        if named != ("unfinished" in said):
            wrong.append(f"the doctor said {named}, and history {said}")
        ended = recover(manager)
        if named and ended is None:
            wrong.append("the doctor named it, and nothing was ended")
        (standing,) = [note.standing for note in history(manager) if note.what == operation] or [None]
        if standing not in (None, "applied", "taken back"):
            wrong.append(f"it is {standing}")
        if repr(contents(pool)) != (after if standing == "applied" else before):
            wrong.append(f"it is {standing}, and the pool has something else")
        if standing != "applied":
            do(operation, pool)
            if repr(contents(pool)) != after:
                wrong.append("done again, it came to something else")
        if pool.doctor().problems:
            wrong.append(f"the doctor finds {pool.doctor().problems}")
    return {"said": said, "standing": standing, "wrong": wrong}


def attempt(operation, folder, n, after):
    with manager_of(folder, n, after) as pool:
        do(operation, pool)


def main(operation, place, stride, both):
    place = Path(place)
    base, folder, found = place / "base", place / "pool", place / "found"
    assert in_child(lambda: prepare(operation, base)) == 0
    before, after = eval((base / "states").read_text())
    n = 1
    while True:
        ends = []
        for late in (False, True) if both else (n % 8 == 1,):
            shutil.copytree(base, folder)
            ends.append(in_child(lambda: attempt(operation, folder, n, late)))
            looked = in_child(lambda: found.write_text(json.dumps(look(folder, operation, before, after))))
            said = json.loads(found.read_text()) if looked == 0 else {"wrong": [f"could not be looked at: {looked}"]}
            print(json.dumps({"n": n, "after": late, "status": ends[-1], **said}), flush=True)
            shutil.rmtree(folder)
        if not any(ends):
            return
        n += stride


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), len(sys.argv) > 4)
