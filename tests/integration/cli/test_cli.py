"""``python -m exp_pool``: what it says, what it does, and its exit codes."""

import random
import shutil
import subprocess
import sys

import pytest
from conftest import letters
from typer.testing import CliRunner

from exp_pool import Experience, ExpManager
from exp_pool.cli import app


@pytest.fixture
def pool(tmp_path):
    settings = {"store": f"sqlite:///{tmp_path}/pool/pool.db", "index": f"chroma:///{tmp_path}/pool/chroma"}
    with ExpManager(**settings, embedder=letters, index_from=1) as manager:
        manager.sync.create_exps([Experience(function="f", request=f"r{i}", response="x" * 2000) for i in range(50)])
        manager.sync.flush()
    return tmp_path / "pool"


@pytest.fixture
def run(pool, monkeypatch):
    monkeypatch.setenv("EXP_POOL_INDEX_FROM", "1")

    def run(*command, code=0):
        options = ["--store", f"sqlite:///{pool}/pool.db"]
        if command[0] in ("doctor", "reindex"):
            options += ["--index", f"chroma:///{pool}/chroma"]
        done = CliRunner().invoke(app, [*command, *options])
        assert done.exit_code == code, done.output
        return done.output

    return run


def test_it_can_be_run_and_helps():
    done = subprocess.run([sys.executable, "-m", "exp_pool", "--help"], capture_output=True, text=True, check=True)
    for command in ("doctor", "reindex", "backup", "restore", "vacuum", "migrate"):
        assert command in done.stdout


def test_a_sound_pool(run):
    said = run("doctor")
    assert "50 experiences" in said
    assert "0 to embed" in said
    assert "nothing is damaged" in said


def test_a_damaged_index_is_named_then_mended(run, pool):
    (generation,) = [path for path in (pool / "chroma").rglob("g*-*") if path.is_dir()]
    shutil.rmtree(next(path for path in generation.iterdir() if path.is_dir()))
    assert "its files are not those that were closed" in run("doctor", code=1)
    assert "mended: the index was built anew" in run("doctor", "--fix")
    assert "nothing is damaged" in run("doctor")


def test_a_damaged_store_is_named_then_set_aside(run, pool):
    chance = random.Random(5)
    with (pool / "pool.db").open("r+b") as file:
        for _ in range(5):
            file.seek(chance.randrange(8192, 60_000))
            file.write(chance.randbytes(500))
    assert "doctor --fix" in run("doctor", code=1)
    assert "was set aside as pool.db.damaged-" in run("doctor", "--fix")
    assert "nothing is damaged" in run("doctor")


def test_the_index_is_built_anew_on_demand(run):
    assert "50 rows" in run("reindex")


def test_backup_and_restore(run, pool, tmp_path):
    run("backup", str(tmp_path / "copy.db"))
    assert "overwrites nothing" in run("backup", str(tmp_path / "copy.db"), code=1)
    with ExpManager(store=f"sqlite:///{pool}/pool.db", index="none://") as manager:
        manager.sync.delete_all_exps()
    assert "pool.db.before-restore-" in run("restore", str(tmp_path / "copy.db"))
    assert "50 experiences" in run("doctor", "--fix")
    assert "is no file" in run("restore", "nowhere", code=1)


def test_vacuum_gives_space_back(run, pool):
    with ExpManager(store=f"sqlite:///{pool}/pool.db", index="none://") as manager:
        manager.sync.delete_all_exps()
    before = (pool / "pool.db").stat().st_size
    run("vacuum")
    assert (pool / "pool.db").stat().st_size < before


def test_a_pool_moves(pool, tmp_path):
    urls = (f"sqlite:///{pool}/pool.db", f"json:///{tmp_path}/folder")

    def move(*options, code=0):
        done = CliRunner().invoke(app, ["migrate", *urls, *options])
        assert done.exit_code == code, done.output
        return done.output

    assert "would move 50 rows and 0 of history" in move("--dry-run")
    assert not (tmp_path / "folder").exists()
    assert "would move 1 rows" in move("--dry-run", "--where", '{"request": "r7"}')
    since = '{"created_at": {"gte": "2020-01-01T00:00:00+00:00", "exists": true}}'
    assert "would move 50 rows" in move("--dry-run", "--where", since)
    said = move("--namespace", "default")
    assert f"{urls[0]} -> {urls[1]}: moved 50 rows" in said
    assert "verified, checksum" in said
    said = move()
    assert "the target held 50 rows before" in said
    assert "50 rows were there already" in said
    for wrong in ("{", "[]", "3"):
        assert "Invalid value for --where" in move("--where", wrong, code=2)
    for wrong in ('{"created_at": 5}', '{"created_at": {"gte": "soon"}}'):
        assert "ISO 8601" in move("--where", wrong, code=1)
    assert "unknown field" in move("--where", '{"nothing": 1}', code=1)
    assert "is not in the source" in move("--namespace", "nobody", code=1)


def test_a_move_that_cannot_be(pool):
    def move(*urls, code=1):
        done = CliRunner().invoke(app, ["migrate", *urls])
        assert done.exit_code == code, done.output
        return done.output

    url = f"sqlite:///{pool}/pool.db"
    assert "are the same store" in move(url, url)
    assert "there is no pool at" in move("sqlite:///nowhere.db", url)
    said = move(url, "mongodb://me:p/ss@w0rd@host/x?sslpassword=w0rd")
    assert "unknown scheme; known:" in said
    assert "w0rd" not in said
    assert "Missing argument" in move(url, code=2)
    damaged = pool / "pool.db"
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    for path in pool.glob("pool.db-*"):
        path.unlink()
    assert "It is no SQLite file" in move(url, f"json:///{pool}/b")


def test_what_is_not_understood_or_not_there():
    runner = CliRunner()
    assert runner.invoke(app, ["doctr"]).exit_code == 2
    for command in ("doctor", "reindex", "vacuum"):
        done = runner.invoke(app, [command, "--store", "sqlite:///nowhere/pool.db"])
        assert (done.exit_code, "there is no pool at" in done.output) == (1, True)
    done = runner.invoke(app, ["doctor", "--store", "sqlit:///x"])
    assert (done.exit_code, "unknown scheme; known:" in done.output) == (1, True)
    done = runner.invoke(app, ["backup", "x", "--store", "memory://"])
    assert (done.exit_code, "is no file that could be copied" in done.output) == (1, True)


def test_where_a_namespace_is_required_it_is_an_option(run, monkeypatch):
    monkeypatch.setenv("EXP_POOL_REQUIRE_NAMESPACE", "true")
    refused = run("stats", code=1)
    assert "--namespace" in refused
    assert "in_namespace" not in refused
    assert "50" in run("stats", "--namespace", "default")
