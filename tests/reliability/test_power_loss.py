"""Power loss, as a file sees it: a write-ahead log that ends anywhere, or that has one wrong byte.

Each copy of the pool opens, is whole, holds exactly the writes that were complete before the damage, and can be written
to. Every third write replaces an earlier answer, so that a write torn in two would show as a key without an answer.
"""

import bisect
import os
import random
import shutil
import sqlite3
from contextlib import closing

import pytest

from exp_pool import Experience, ExpManager

FULL = os.environ.get("EXP_POOL_FULL") == "1"
COPIES = 200 if FULL else 40
BEFORE, WRITES = 20, 200  # rows in the file itself, rows altogether

PLAIN = {"index": "none://", "embedder": "none"}


def key_of(number):
    return f"again {number % 7}" if number % 3 == 0 else f"once {number}"


def answers_after(count):
    """What answers which request after so many writes."""
    return {key_of(number): number for number in range(count)}


def write(manager, number):
    return manager.sync.create_exp(Experience(function="f", request=key_of(number), response=number))


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """A folder with pool.db, its log, and how long the log was after each write."""
    live, folder = tmp_path_factory.mktemp("live"), tmp_path_factory.mktemp("copy")
    with ExpManager(store=f"sqlite:///{live}/pool.db", **PLAIN) as manager:
        for number in range(BEFORE):
            write(manager, number)
    lengths = []
    with (
        ExpManager(store=f"sqlite:///{live}/pool.db", **PLAIN) as manager,
        closing(sqlite3.connect(live / "pool.db", isolation_level=None)) as reader,
    ):
        reader.execute("BEGIN")  # a reader of the old state keeps the log from being moved into the file
        assert reader.execute("SELECT count(*) FROM experiences").fetchone() == (BEFORE,)
        for number in range(BEFORE, WRITES):
            write(manager, number)
            lengths.append((live / "pool.db-wal").stat().st_size)
        for name in ("pool.db", "pool.db-wal"):
            shutil.copy(live / name, folder / name)
    assert lengths == sorted(set(lengths)), "each write made the log longer"
    return folder, lengths


def damaged_copies():
    chance = random.Random(2)
    ways = [("cut", share) for share in (0.0, 1.0)] + [("flip", share) for share in (0.0, 0.0001)]
    while len(ways) < COPIES:
        ways.append((chance.choice(["cut", "flip"]), chance.random()))
    return ways


def test_a_copy_with_a_damaged_log_holds_the_writes_before_the_damage(pool, make_manager, tmp_path):
    source, lengths = pool
    chance, survived = random.Random(3), set()
    for number, (way, share) in enumerate(damaged_copies()):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        log = bytearray((folder / "pool.db-wal").read_bytes())
        position = int(share * len(log))
        if way == "cut":
            del log[position:]
        else:
            log[position] ^= chance.randrange(1, 256)
        (folder / "pool.db-wal").write_bytes(log)
        whole = BEFORE + bisect.bisect_right(lengths, position)
        check(make_manager, folder, whole)
        survived.add(whole)
    assert {BEFORE, WRITES} < survived
    assert len(survived) > COPIES // 2, "the damage was spread over the log"


def check(make_manager, folder, whole):
    store = f"sqlite:///{folder}/pool.db"
    manager = make_manager(store=store, **PLAIN)
    assert sorted(e.response for e in manager.sync.iter_exps(history=True)) == list(range(whole)), "a prefix"
    assert {e.request: e.response for e in manager.sync.iter_exps()} == answers_after(whole)
    write(manager, whole)  # the next one goes where the damage was
    assert manager.stats().degraded == 0
    manager.sync.close()
    with closing(sqlite3.connect(folder / "pool.db")) as connection:  # quick_check, and the indexes
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    manager = make_manager(store=store, **PLAIN)
    assert sorted(e.response for e in manager.sync.iter_exps(history=True)) == list(range(whole + 1))
    manager.sync.close()
