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
    for command in ("doctor", "reindex", "backup", "restore", "vacuum"):
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
