"""What a clone cannot have is skipped with the reason, and `--outside` runs just that."""

import subprocess
import sys

import pytest
from support.paths import TESTS

FILE = """
import pytest
from conftest import large_data

def test_alone():
    pass

def test_of_another_package():
    pytest.skip("no such package")

def test_server(redis_url):
    print("SERVER")

@pytest.mark.parametrize("kind", ["memory", "redis_url"])
def test_some_kinds(kind, request):
    if kind != "memory":
        request.getfixturevalue(kind)

def test_data():
    assert large_data("numbers.txt").read_text() == "1 2 3"
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "test_it.py").write_text(FILE)
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\npythonpath = {TESTS} {TESTS.parent / 'examples'}\naddopts = -p conftest\n"
    )

    def run(*options, **environment):
        command = [sys.executable, "-m", "pytest", "-rA", "test_it.py", *options]
        path = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "PYTHONPATH": f"{TESTS}:{TESTS.parent / 'examples'}:{TESTS.parent}",
        }
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**path, **environment}).stdout

    return run


def test_a_clone_on_its_own_skips_what_it_cannot_have(run):
    said = run(EXP_POOL_TEST_SERVERS="none")
    assert "2 passed, 4 skipped" in said
    assert said.count("outside of the clone: no servers: EXP_POOL_TEST_SERVERS=none") >= 1
    assert "outside of the clone: no numbers.txt: EXP_POOL_TEST_DATA names the folder that holds it" in said


def test_only_that_is_run_beside_servers_and_data(run, redis_url, tmp_path):
    (tmp_path / "numbers.txt").write_text("1 2 3")
    run("-n", "2", EXP_POOL_TEST_SERVERS="none")
    beside = {"EXP_POOL_TEST_REDIS_URL": redis_url, "EXP_POOL_TEST_DATA": str(tmp_path)}
    for workers in ("2", "0"):  # it may be run again
        said = run("--outside", "-n", workers, **beside)
        assert "3 passed" in said
        assert "skipped" not in said
        assert "test_alone" not in said
