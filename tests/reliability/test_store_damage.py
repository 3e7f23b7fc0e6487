"""Twelve kinds of damage to the database: every call has its value, what can be read is served, the rest is set aside.

Whatever was done to the file: no call fails or is given a wrong answer, `doctor` names what is wrong, and
`doctor(fix=True)` leaves a sound pool that holds every row which could still be read, beside the damaged file, unchanged.
"""

import hashlib
import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import letters

from exp_pool import ExpManager
from exp_pool.errors import StoreError
from exp_pool.protocols import RecordQuery

FULL = os.environ.get("EXP_POOL_FULL") == "1"
SEEDS = range(8 if FULL else 1)
ROWS = 300


def answer(question):
    return f"{question}: " + hashlib.sha256(question.encode()).hexdigest() * 8


@pytest.fixture
def folder(tmp_path):
    """A closed pool of 300 answers."""
    with opened(tmp_path / "pool") as manager:
        f = manager.exp_cache(answer, name="answer")
        for number in range(ROWS):
            f(f"q{number}")
    return tmp_path / "pool"


def opened(folder):
    return ExpManager(store=f"sqlite:///{folder}/pool.db", index="none://", embedder="none", store_timeout=1)


def database(folder):
    return folder / "pool.db"


def truncated(folder, chance):
    os.truncate(database(folder), chance.randrange(5000, database(folder).stat().st_size))


def cut_to_nothing(folder, chance):
    os.truncate(database(folder), chance.randrange(1, 100))


def zeroed(folder, chance):
    overwrite(folder, chance, b"\0" * 4096)


def zeroed_header(folder, chance):
    with database(folder).open("r+b") as file:
        file.write(b"\0" * 100)


def random_bytes(folder, chance):
    for _ in range(5):
        overwrite(folder, chance, chance.randbytes(300))


def overwrite(folder, chance, content):
    with database(folder).open("r+b") as file:
        file.seek(chance.randrange(4096, database(folder).stat().st_size - len(content)))
        file.write(content)


def missing_file(folder, chance):
    database(folder).unlink()


def swapped_files(folder, chance):
    with opened(folder.parent / "other") as other:
        other.exp_cache(answer, name="answer")("q0")
    shutil.copy(folder.parent / "other" / "pool.db", database(folder))


def emptied_folder(folder, chance):
    for path in folder.iterdir():
        path.unlink()


def foreign_text(folder, chance):
    database(folder).write_text("this is somebody's letter\n" * 500)


def half_copied(folder, chance):
    content = database(folder).read_bytes()
    database(folder).write_bytes(content[: len(content) // 2])


def link_out(folder, chance):
    outside = folder.parent / "outside.db"
    shutil.move(database(folder), outside)
    database(folder).symlink_to(outside)


DAMAGED = (truncated, cut_to_nothing, zeroed, zeroed_header, random_bytes, foreign_text, half_copied)
WHOLE = (missing_file, swapped_files, emptied_folder, link_out)


def ask(manager, questions=range(ROWS)):
    """Every call has its value, whatever the pool has."""
    f = manager.exp_cache(answer, name="answer")
    for number in questions:
        assert f(f"q{number}") == answer(f"q{number}")


def rows_of(manager):
    """What the pool holds, each of it right."""
    records = list(manager.sync._store.scan(RecordQuery("default", history=True)))
    for record in records:
        assert json.loads(record.response) == answer(record.request)
    return {record.request for record in records}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("damage", [*DAMAGED, *WHOLE])
def test_calls_have_their_values_and_what_can_be_read_is_kept(folder, damage, seed):
    damage(folder, random.Random(seed))
    if damage in DAMAGED:
        with opened(folder) as manager:
            before = database(folder).read_bytes()
            problems = manager.sync.doctor().problems
            report = manager.sync.doctor(fix=True)
            assert report.sound, report.problems
            (aside,) = [
                path
                for path in folder.iterdir()
                if ".damaged-" in path.name and not path.name.endswith(("-wal", "-shm"))
            ]
            if problems:
                assert str(database(folder)) in problems[0]
                assert aside.name in report.done[0]
            assert len(aside.read_bytes()) >= len(before) * 0.9
            kept = rows_of(manager)
            if damage in (zeroed, random_bytes):
                assert len(kept) >= 50  # a damaged page of the tree hides what is below it
    with opened(folder) as manager:
        ask(manager)
        assert manager.stats().degraded == 0
        assert rows_of(manager) == {f"q{number}" for number in range(ROWS)}
        assert manager.sync.doctor().sound


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("damage", DAMAGED)
def test_nobody_looked_at_it_and_calls_have_their_values_all_the_same(folder, damage, seed):
    damage(folder, random.Random(seed))
    with opened(folder) as manager:
        ask(manager)
        ask(manager, range(ROWS, ROWS + 20))


def test_what_is_left_of_a_damaged_page_is_served(folder):
    """Rows that can be read answer, and a listing leaves out only those that cannot."""
    random_bytes(folder, random.Random(3))
    with opened(folder) as manager:
        assert manager.sync.doctor().problems
        served = [e.request for e in manager.sync.iter_exps(order_by="size_bytes")]
    assert 0.5 * ROWS < len(set(served)) <= ROWS


def test_the_database_of_another_program_and_of_a_newer_version_are_left_alone(folder):
    with closing(sqlite3.connect(database(folder))) as raw:
        raw.execute("PRAGMA user_version = 99")
    newer = database(folder).read_bytes()
    with opened(folder) as manager:
        ask(manager, range(5))
        assert "written by a newer exp_pool" in manager.sync.doctor(fix=True).problems[0]
    assert database(folder).read_bytes() == newer
    database(folder).unlink()
    with closing(sqlite3.connect(database(folder))) as raw:
        raw.execute("CREATE TABLE theirs (x)")
    theirs = database(folder).read_bytes()
    with opened(folder) as manager:
        ask(manager, range(5))
        assert "not a pool" in manager.sync.doctor(fix=True).problems[0]
    assert database(folder).read_bytes() == theirs
    assert not [path for path in folder.iterdir() if "damaged" in path.name]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no users to be on this system")
@pytest.mark.parametrize("kind", ["read-only", "wrong owner"])
def test_files_that_may_not_be_used_are_named(folder, kind, monkeypatch):
    reachable = Path(tempfile.mkdtemp())  # what pytest makes is for one user only
    folder = Path(shutil.move(folder, reachable / "pool"))
    monkeypatch.chdir(reachable)
    for path in [reachable, folder, *folder.iterdir()]:
        path.chmod(0o755 if path.is_dir() else 0o444 if kind == "read-only" else 0o600)
    pid = os.fork()
    if not pid:  # root may do everything: somebody else looks
        try:
            with opened(folder.parent / "loaded") as manager:  # who has dropped his rights may not read Python's files
                ask(manager, range(3))
                manager.sync.doctor(fix=True)
            if os.geteuid() == 0:
                os.setegid(65534), os.seteuid(65534)
            elif kind == "wrong owner":
                os._exit(0)
            manager = opened(folder)
            ask(manager, range(5))
            problems = manager.sync.doctor(fix=True).problems
            os._exit(0 if manager.stats().degraded and "writable" in problems[0] else 1)
        except BaseException as err:
            print(repr(err), file=sys.stderr)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    for path in (folder, *folder.iterdir()):
        path.chmod(0o700 if path.is_dir() else 0o600)
    with opened(folder) as manager:
        assert len(rows_of(manager)) == ROWS
    shutil.rmtree(reachable)


def test_the_pool_of_the_first_version_is_migrated(tmp_path):
    from every_step import prepare

    prepare("migrate", tmp_path / "pool")
    with opened(tmp_path / "pool") as manager:
        assert [e.request for e in manager.sync.iter_exps()] == ["old"]
        assert manager.sync.doctor().sound


def test_a_pool_that_somebody_has_open_is_not_repaired(folder):
    random_bytes(folder, random.Random(0))
    with opened(folder) as other, opened(folder) as manager:
        other.sync.get_exp("nobody")
        assert any("another process has it open" in problem for problem in manager.sync.doctor(fix=True).problems)
    assert not [path for path in folder.iterdir() if "damaged" in path.name]


def test_a_backup_can_be_restored_and_overwrites_nothing(folder, tmp_path):
    with opened(folder) as manager:
        manager.sync.backup(tmp_path / "backup.db")
        assert Path(tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600
        with pytest.raises(Exception, match="a backup overwrites nothing"):
            manager.sync.backup(tmp_path / "backup.db")
        manager.sync.delete_all_exps()
        aside = manager.sync.restore(tmp_path / "backup.db")
        assert len(rows_of(manager)) == ROWS
        assert aside.exists()
        with opened(folder) as other:
            other.sync.get_exps_count()
            with pytest.raises(Exception, match="another process has it open"):
                manager.sync.restore(tmp_path / "backup.db")
        (tmp_path / "backup.db").write_bytes(b"x" * 5000)
        with pytest.raises(Exception, match=r"not a database|no backup"):
            manager.sync.restore(tmp_path / "backup.db")
        assert len(rows_of(manager)) == ROWS
    assert sorted(path.name for path in folder.iterdir() if "restored" in path.name or "repaired" in path.name) == []


@pytest.mark.parametrize("index", ["exact://", "chroma:///{folder}/chroma"])
def test_after_a_restore_nothing_that_was_read_before_is_believed(tmp_path, index):
    settings = {"store": f"sqlite:///{tmp_path}/pool.db", "index": index.format(folder=tmp_path), "index_from": 1}
    with ExpManager(**settings, embedder=letters) as manager:
        f = manager.exp_cache(lambda req: f"about {req}", name="f")
        f("abc")
        manager.sync.backup(tmp_path / "backup.db")
        for text in ("xyz", "xyy", "xxy"):
            f(text), f(text)
        manager.sync.flush()
        assert [e.request for e in manager.sync.query_exps("xyz", top_k=1)] == ["xyz"]
        manager.sync.restore(tmp_path / "backup.db")
        assert f.lookup("xyz") is None
        assert [e.request for e in manager.sync.query_exps("xyz", top_k=5)] == ["abc"]
        f("uvw")  # at a position that was another row's before
        assert [e.request for e in manager.sync.query_exps("uvw", top_k=1)] == ["uvw"]
        manager.sync.flush()
        assert [e.request for e in manager.sync.query_exps("uvw", top_k=1)] == ["uvw"]
        assert manager.sync.doctor().sound


@pytest.mark.parametrize("annotated", [False, True])
def test_a_row_with_a_wrong_byte_is_not_there_is_named_and_blocks_nothing(tmp_path, annotated):
    settings = {"store": f"sqlite:///{tmp_path}/pool.db", "index": "exact://", "embedder": letters, "hot_ttl": 0}
    with ExpManager(**settings) as manager:
        f = manager.exp_cache(lambda req: f"right {req}", name="f")
        f("abc"), f("abd")
        if annotated:
            manager.sync.annotate(f.lookup("abc").experience.id, expected="right by hand")
        manager.sync.flush()
        with closing(sqlite3.connect(tmp_path / "pool.db")) as raw:
            raw.execute(
                "UPDATE experiences SET response = '\"wrong\"', expected = replace(expected, 'right', 'wrong') WHERE request = 'abc'"
            )
            raw.commit()
        assert [e.request for e in manager.sync.query_exps("abc", top_k=5)] == ["abd"]
        assert f.lookup("abc") is None
        assert [e.request for e in manager.sync.iter_exps()] == ["abd"]
        (problem,) = manager.sync.doctor().problems
        assert "1 experiences are damaged and left out" in problem
        with pytest.raises(StoreError, match="cannot be told from.*doctor --fix"):
            manager.sync.erase({"request": "abc"})
        began = time.monotonic()
        assert (f("abc"), f("abc")) == ("right abc", "right abc")
        assert time.monotonic() - began < 5  # nobody was waited for
        assert f.lookup("abc").experience.response == "right abc"
        assert manager.stats().degraded == 0
    with ExpManager(**settings) as manager:
        assert manager.sync.doctor(fix=True).sound
        assert {e.request for e in manager.sync.iter_exps(history=True)} == {"abc", "abd"}
        assert b"wrong" not in (tmp_path / "pool.db").read_bytes()
