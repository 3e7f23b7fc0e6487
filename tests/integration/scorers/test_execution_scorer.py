"""`execution` runs the code of answers in processes of its own, within limits; accidents and the obvious are stopped."""

import subprocess
import sys
import textwrap

import pytest
from exp_pool.scorers.execution import ExecutionScorer, code_of

from exp_pool import Experience
from exp_pool.errors import ConfigurationError, NotScorableError
from exp_pool.protocols import ScoreContext


def context(answer, **fields):
    return ScoreContext(Experience(function="f", request="r", response=answer, **fields))


def run(answer, tests=(), **options):
    return ExecutionScorer(tests, **{"timeout": 60, **options})(context(answer))


ADD = "def add(a, b):\n    return a + b\n"


def test_the_share_of_tests_that_pass():
    score = run(ADD, ["assert add(1, 2) == 3", "assert add('a', 'b') == 'ba'", "add(1)", "assert add(1, 1) == 2"])
    assert score.value == 0.5
    assert score.reason.startswith("passes 2 of 4 tests; \"assert add('a', 'b') == 'ba'\": AssertionError")


def test_without_tests_it_must_run_to_its_end():
    assert run("if __name__ == '__main__':\n    x = 1").value == 1
    assert run("import sys; sys.exit(0)").value == 1
    assert run("import sys; sys.exit(3)").reason == "it exits with 3"
    assert run("1 / 0").reason == "ZeroDivisionError: division by zero"
    assert run("this is prose").value == 0


def test_tests_of_the_experience():
    scorer = ExecutionScorer(lambda c: c.experience.metadata["tests"])
    assert scorer(context(ADD, metadata={"tests": ["assert add(2, 2) == 4"]})).value == 1


def test_the_code_is_what_is_fenced():
    answer = f"Here it is:\n```python\n{ADD}```\nand\n```\nx = add(1, 2)\n```\nGood luck!"
    assert code_of(answer) == f"{ADD}\nx = add(1, 2)\n"
    assert run(answer, "assert x == 3").value == 1


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(0)",
        "import sys; sys.exit(0)",
        "raise SystemExit",
        'print(\'{"token": "x", "error": ""}\'); import os; os._exit(0)',
        'import os\nfor fd in range(1, 20):\n    try: os.write(fd, b\'{"token": "", "error": ""}\')\n    except OSError: pass\nos._exit(0)',
    ],
)
def test_code_that_ends_early_passes_no_test(code):
    assert run(f"{ADD}\n{code}", "assert True").value == 0


def test_tests_do_not_see_each_other():
    assert run("seen = []", ["seen.append(1); assert len(seen) == 1"] * 2).value == 1


def test_time_is_over():
    score = run("while True: pass", ["assert 1"] * 3, timeout=0.5)
    assert score.value == 0
    assert "took longer than 0.5 s" in score.reason


def test_memory_is_bounded():
    assert "MemoryError" in run("x = bytearray(8 << 30)").reason
    assert run("x = bytearray(8 << 20)").value == 1


def test_files_are_bounded_and_stay_in_its_folder(tmp_path):
    assert run("open('here', 'w').write('x'); import os; os.mkdir('d'); os.rename('here', 'd/there')").value == 1
    assert run("f = open('big', 'wb')\nwhile True: f.write(bytes(1 << 20))").value == 0
    outside = tmp_path / "outside"
    outside.write_text("mine")
    for code in (
        f"open({str(outside)!r}, 'w')",
        f"open({str(outside)!r}, 'r+')",
        f"import os; os.open({str(outside)!r}, os.O_WRONLY)",
        f"import os; os.remove({str(outside)!r})",
        f"import os; os.rename({str(outside)!r}, 'mine')",
        f"import os; os.symlink({str(tmp_path)!r}, 'link'); open('link/outside', 'w')",
        f"import shutil; shutil.rmtree({str(tmp_path)!r})",
        f"import pathlib; pathlib.Path({str(outside)!r}).unlink()",
    ):
        assert run(code).value == 0, code
    assert outside.read_text() == "mine"


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket()",
        "import socket; socket.create_connection(('127.0.0.1', 80))",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1')",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import os; os.fork()",
        "import os; os.execv('/bin/true', ['true'])",
        "import os, signal; os.kill(os.getppid(), signal.SIGTERM)",
        "import ctypes; ctypes.CDLL(None)",
    ],
)
def test_no_network_and_no_other_processes(code):
    score = run(code)
    assert score.value == 0
    assert "may not do" in score.reason


def _kernel_allows():
    probe = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x10000000 | 0x40000000) != 0)"
    return sys.platform == "linux" and subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


@pytest.mark.skipif(not _kernel_allows(), reason="this kernel gives no network namespace without root")
def test_its_network_has_nothing_in_it():
    assert (
        run(
            "names = [line.split(':')[0].strip() for line in open('/proc/self/net/dev') if ':' in line]\nassert names == ['lo'], names"
        ).value
        == 1
    )


def test_it_gets_no_secret_and_no_input(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert run("import os; assert set(os.environ) <= {'LC_CTYPE'}, os.environ").value == 1
    assert run("import sys; assert sys.stdin.read() == ''").value == 1
    assert run("import os; assert os.listdir() == []").value == 1


def test_what_it_prints_goes_nowhere():
    assert run("import sys\nfor _ in range(1000): print('x' * 100_000); print('x' * 1000, file=sys.stderr)").value == 1


def test_nothing_is_left_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run("open('x', 'w').write('y')")
    run("while True: pass", timeout=0.3)
    assert list(tmp_path.iterdir()) == []


def test_a_plain_library_can_be_used():
    assert run("import numpy; assert numpy.ones(3).sum() == 3").value == 1


def test_what_is_no_text_is_not_run():
    with pytest.raises(NotScorableError):
        run({"code": "1"})


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": 7200}, {"memory_mb": 1}, {"tests": 3}, {"tests": [1]}])
def test_settings_that_cannot_be(options):
    with pytest.raises(ConfigurationError):
        ExecutionScorer(**options)


def test_it_leaves_the_interpreter_free_to_end():
    script = textwrap.dedent("""
        import threading
        from exp_pool import Experience
        from exp_pool.protocols import ScoreContext
        from exp_pool.scorers.execution import ExecutionScorer
        context = ScoreContext(Experience(function="f", request="r", response="import time; time.sleep(600)"))
        threading.Thread(target=ExecutionScorer(timeout=600), args=(context,), daemon=True).start()
    """)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
