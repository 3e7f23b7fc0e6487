"""Each plug of a server or library that is not installed says what to install, to programs and on the command line."""

import subprocess
import sys

import pytest

# What is named, and the package that is taken away.
WITHOUT = {
    "redis://127.0.0.1:1": ("store", "redis"),
    "redis+cluster://127.0.0.1:1": ("store", "redis"),
    "postgresql://127.0.0.1:1/x": ("store", "psycopg"),
    "mysql://127.0.0.1:1/x": ("store", "pymysql"),
    "milvus://127.0.0.1:1": ("index", "pymilvus"),
    "hot redis://127.0.0.1:1": ("hot", "redis"),
    "openai/x": ("embedder", "openai"),
}
PROGRAM = """
import sys
sys.modules[sys.argv[1]] = None  # as if it were not installed
from exp_pool.cli import main
from exp_pool.errors import ConfigurationError
from exp_pool import ExpManager
settings = {"store": "memory://", "index": "exact://", "embedder": "none", sys.argv[2]: sys.argv[3]}
try:
    with ExpManager(**settings) as manager:
        manager.sync.create_exp(__import__("exp_pool").Experience(function="f", request="x", response="y"))
        manager.sync.query_exps("x")
except Exception as err:
    print(type(err).__name__, err)
"""


@pytest.mark.parametrize("named", WITHOUT)
def test_a_package_that_is_not_there_is_named_with_the_command_that_installs_it(named, tmp_path):
    option, package = WITHOUT[named]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, package, option, named.split()[-1]],
        capture_output=True,
        cwd=tmp_path,
        text=True,
        timeout=120,
    )
    assert "pip install" in done.stdout, done.stdout + done.stderr
    assert "ModuleNotFoundError" not in done.stdout


def test_the_command_line_says_it_in_a_line(tmp_path):
    program = "import sys; sys.modules['redis'] = None; from exp_pool.cli import main; sys.argv[1:] = ['stats']; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, cwd=tmp_path, text=True, timeout=120,
        env={**__import__("os").environ, "EXP_POOL_STORE": "redis://127.0.0.1:1"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "redis:// needs redis: pip install" in done.stderr
    assert "Traceback" not in done.stderr
