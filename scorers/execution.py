"""``execution``: runs the Python code of an answer, and tests on it, in a process of its own with limits."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import regex

from exp_pool.errors import ConfigurationError, NotScorableError, ScorerError
from exp_pool.protocols import Score, ScoreContext

from ._texts import answer_of, version_of

_FENCED = regex.compile(
    r"^[ \t]*```[ \t]*(?:python|py|python3)?[ \t]*\n(.*?)^[ \t]*```[ \t]*$", regex.M | regex.S | regex.I
)
_DRIVER = Path(__file__).with_name("_execution_driver.py")
_REPORT = 64 * 1024  # bytes of the process's report that are read
_FILE = 16 * 1024 * 1024  # bytes that the code may write into one file
_SHOWN = 200  # characters

Tests = str | Sequence[str] | Callable[[ScoreContext], Sequence[str]]


class ExecutionScorer:
    """The share of tests that the answer's code passes; without tests, 1 where it runs to its end, else 0.

    The code is what stands in the answer's Markdown fences, else the whole answer. Each test is Python that is run
    after it, in the same names and in a new process, and passes if it raises nothing: ``"assert add(1, 2) == 3"``.

    Each process has its own process group, which is killed at its end; a limit of time for all tests together, of CPU
    seconds, memory and file size; a new folder, removed afterwards; no environment variables; nothing to read from, and
    what it prints goes nowhere. On Linux, where the kernel allows that without root, it has a network of its own with
    nothing in it. Besides, a hook in the interpreter refuses sockets, other processes, ctypes, and writing outside of
    the folder.

    **This is no sandbox.** It stops accidents, and answers that try the obvious. The code runs as your user and can
    read your files; who knows how can take the hook away, or claim that a test passed. Where answers come from people
    you do not trust, score them on a machine that has nothing to lose.

    Args:
        tests: one test, several, or a callable of the `ScoreContext` that gives them.
        timeout: seconds for all tests of one answer together, at most an hour.
        memory_mb: address space of each process, in MiB. (macOS does not enforce it.)

    Raises:
        ConfigurationError: one of these cannot be, or this is Windows, which has no such limits.
    """

    name = "execution"

    def __init__(self, tests: Tests = (), *, timeout: float = 10.0, memory_mb: int = 1024) -> None:
        if sys.platform == "win32":
            raise ConfigurationError("the scorer 'execution' needs the limits of a POSIX system; Windows has none")
        if not 0 < timeout <= 3600 or memory_mb < 32:  # noqa: PLR2004
            raise ConfigurationError(
                f"timeout={timeout!r} must be above 0 and at most 3600 seconds, memory_mb={memory_mb!r} at least 32"
            )
        self._tests = tests if callable(tests) else _listed(tests)
        self._timeout, self._memory_mb = timeout, memory_mb
        self.timeout_s = timeout + 10.0
        tested = getattr(tests, "__qualname__", "") if callable(tests) else self._tests
        self.version = version_of([tested, timeout, memory_mb])

    def __call__(self, context: ScoreContext, /) -> Score:
        """The score.

        Raises:
            NotScorableError: the answer is no text.
            ScorerError: no process could be started.
        """
        answer = answer_of(context)
        if not isinstance(answer, str):
            raise NotScorableError(f"the answer is no text with code in it, but {type(answer).__name__}")
        code = code_of(answer)
        deadline = time.monotonic() + self._timeout
        tests = _listed(self._tests(context)) if callable(self._tests) else self._tests
        if not tests:
            failed = self._run(code, None, deadline)
            return Score(value=float(not failed), reason=failed or "runs to its end")
        failures = [self._run(code, test, deadline) for test in tests]
        passed = failures.count("")
        first = next((f"; {test[:_SHOWN]!r}: {why}" for test, why in zip(tests, failures, strict=True) if why), "")
        return Score(value=passed / len(tests), reason=f"passes {passed} of {len(tests)} tests{first}")

    def _run(self, code: str, test: str | None, deadline: float) -> str:
        """Why it failed; ``""`` where it did not."""
        left = deadline - time.monotonic()
        if left <= 0:
            return f"no time left, of {self._timeout:g} s"
        token = secrets.token_hex(16)
        job = {
            "code": code,
            "test": test,
            "token": token,
            "seconds": left,
            "memory": self._memory_mb << 20,
            "file": _FILE,
        }
        with (
            tempfile.TemporaryDirectory(prefix="exp_pool-", ignore_cleanup_errors=True) as folder,
            tempfile.TemporaryFile() as told,
            tempfile.TemporaryFile() as report,
        ):
            told.write(json.dumps(job).encode())
            told.seek(0)
            status = self._in_a_process(folder, told, report, left)
            report.seek(0)
            said = report.read(_REPORT)
        if status is None:
            return f"took longer than {self._timeout:g} s"
        try:
            verdict = json.loads(said)
            finished, why = verdict["token"] == token, str(verdict["error"])[:_SHOWN]
        except (ValueError, LookupError, TypeError):
            finished, why = False, ""
        if finished:
            return why
        if test is None and status == 0:  # `os._exit(0)`: it says itself that all is well, as programs do
            return ""
        return "its memory or time ran out" if status < 0 else f"it ended before the test did, with status {status}"

    def _in_a_process(self, folder: str, told: Any, report: Any, seconds: float) -> int | None:
        """Its exit status; None where it was killed because its time was over."""
        try:
            process = subprocess.Popen(  # noqa: S603  (what it runs is what this is for)
                [sys.executable, "-I", "-B", str(_DRIVER)],
                stdin=told,
                stdout=report,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={},
                start_new_session=True,
            )
        except OSError as err:
            raise ScorerError(f"no process could be started: {err}") from err
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError, PermissionError):  # those that it started, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def code_of(answer: str) -> str:
    """The code in an answer: what stands in Markdown fences, one after another, else all of it."""
    fenced = _FENCED.findall(answer)
    return "\n".join(fenced) if fenced else answer


def _listed(tests: object) -> list[str]:
    listed = [tests] if isinstance(tests, str) else list(tests) if isinstance(tests, Sequence) else None
    if listed is None or not all(isinstance(test, str) for test in listed):
        raise ConfigurationError(f"tests={tests!r:.80} must be Python code: a text, or a list of texts")
    return listed
