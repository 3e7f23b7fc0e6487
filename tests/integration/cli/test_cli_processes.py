"""``exp-pool`` as people start it: in pipes, without colours, in terminals of several widths."""

import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl

import pytest

from exp_pool import Experience, ExpManager

COMMAND = [sys.executable, "-m", "exp_pool"]
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def environment(tmp_path):
    url = f"sqlite:///{tmp_path}/pool.db"
    with ExpManager(store=url, index="none://", embedder="none") as manager:
        manager.sync.create_exps([
            Experience(function="app.agents.answer", request=f"question {i} 怎么办? é 😀 " + "long " * 40, response="x" * 300)
            for i in range(600)
        ])  # fmt: skip
    return {**os.environ, "EXP_POOL_STORE": url, "TERM": "xterm-256color", "LESS": "FRX", "PAGER": "cat"}


def in_terminal(environment, width, *command, height=1000):
    """What a command writes to a terminal of this width."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    environment = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [*COMMAND, *command], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env=environment
    )
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # Linux says so of a terminal that nobody has open
        pass
    assert process.wait(60) == 0
    os.close(ours)
    return said.decode()


def test_whoever_stops_reading_sees_no_traceback(environment):
    line = f"set -o pipefail; {sys.executable} -m exp_pool list --json | head -n 1"
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "")
    assert json.loads(done.stdout)["function"] == "app.agents.answer"
    line = line.replace(" --json", "")
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_pipe_gets_plain_whole_lines(environment):
    done = subprocess.run([*COMMAND, "list", "--limit", "3"], env=environment, capture_output=True, text=True)
    rows = done.stdout.splitlines()
    assert len(rows) == 4
    assert not re.search(r"[\x1b─-╿…]", done.stdout)
    assert all(row.count("\t") == 7 and not row.endswith(" ") for row in rows)
    assert "x" * 300 in rows[1]


def test_json_where_the_terminal_knows_ascii_only(environment):
    ascii_only = {**environment, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for options in (["--json"], []):
        done = subprocess.run(
            [*COMMAND, "list", "--limit", "1", *options], env=ascii_only, capture_output=True, check=True
        )
        assert done.stdout.isascii()
    done = subprocess.run([*COMMAND, "list", "--limit", "1", "--json"], env=ascii_only, capture_output=True, check=True)
    assert "怎么办? é 😀" in json.loads(done.stdout)["request"]


@pytest.mark.parametrize("width", [40, 80, 160])
def test_tables_fit_the_terminal(environment, width):
    from rich.cells import cell_len

    said = _ESCAPE.sub("", in_terminal(environment, width, "list", "--limit", "3"))
    rows = [row for row in said.replace("\r", "").splitlines() if row]
    assert len(rows) == 5
    assert max(map(cell_len, rows)) <= width
    assert ("created" in rows[0], "answer" in rows[0]) == (width >= 100, width >= 60)
    assert "question 599" in said


def test_colours_are_for_terminals_that_want_them(environment):
    coloured = in_terminal(environment, 80, "stats")
    plain = in_terminal({**environment, "NO_COLOR": "1"}, 80, "stats")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain)
    assert _ESCAPE.sub("", coloured) == _ESCAPE.sub("", plain)
    done = subprocess.run([*COMMAND, "stats"], env={**environment, "FORCE_COLOR": ""}, capture_output=True, text=True)
    assert "\x1b" not in done.stdout


def test_a_terminal_is_shown_a_hundred_and_told_of_the_rest(environment):
    said = in_terminal(environment, 120, "list")
    assert "500 more: say --limit" in said
    assert "question 499" not in said


def test_what_is_longer_than_the_terminal_goes_through_the_pager(environment):
    paged = {**environment, "PAGER": "sed s/^/paged:/"}
    for rows in (5, 40):
        said = in_terminal(paged, 120, "list", "--limit", str(rows), height=24)
        assert ("paged:" in said) == (rows == 40)


def test_completion_knows_the_commands(environment):
    asking = {**environment, "_EXP_POOL_COMPLETE": "complete_bash", "COMP_WORDS": "exp-pool sn", "COMP_CWORD": "1"}
    program = "import sys; sys.argv[0] = 'exp-pool'; from exp_pool.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], env=asking, capture_output=True, text=True)
    assert done.stdout.split() == ["snapshot"]
