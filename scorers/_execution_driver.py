"""Program that runs one answer's code and one test on it, started by `execution`; it imports nothing of ours.

It reads the job as JSON from standard input, takes its network and its limits away, and says in one line of JSON how it
went. Everything that the code prints goes nowhere.
"""

from __future__ import annotations

import ctypes  # before the hook, which refuses it: numpy imports it, too
import json
import os
import resource
import sys
from typing import Any, NoReturn

_REFUSED = (
    "socket.",
    "subprocess.",
    "os.fork",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "ctypes.",
    "pty.",
)
_CHANGES = (
    "os.remove os.rename os.rmdir os.mkdir os.chmod os.chown os.link os.symlink os.truncate os.utime os.kill "
    "os.killpg os.chflags os.setxattr os.removexattr shutil.rmtree shutil.move"
).split()
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET


def main() -> None:
    """Run the job that standard input describes."""
    job = json.load(sys.stdin)
    report = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    _leave_the_network()
    _limit(job)
    folder = os.path.realpath(".")
    _refuse(folder)
    error = ""
    names: dict[str, Any] = {"__name__": "__main__" if job["test"] is None else "answer", "__builtins__": __builtins__}
    try:
        exec(compile(job["code"], "answer.py", "exec"), names)  # noqa: S102  (it is what this is for)
        if job["test"] is not None:
            names["__name__"] = "test"
            exec(compile(job["test"], "test.py", "exec"), names)  # noqa: S102
    except SystemExit as end:
        # Without a test that is how programs end; with one, it ended before it was tested.
        error = "" if job["test"] is None and end.code in (None, 0) else f"it exits with {end.code!r}"
    except BaseException as err:
        error = f"{type(err).__name__}: {err}" if str(err) else type(err).__name__
    _end(report, {"token": job["token"], "error": error})


def _end(report: int, verdict: dict[str, str]) -> NoReturn:
    os.write(report, json.dumps(verdict).encode()[:60_000])
    os._exit(0)  # threads and exit handlers of the code's do not matter any more


def _leave_the_network() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).unshare(_NEW_USER | _NEW_NETWORK)  # where it is refused, the hook has to do


def _limit(job: dict[str, Any]) -> None:
    seconds = max(1, int(job["seconds"]) + 1)
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, job["memory"]),
        (resource.RLIMIT_FSIZE, job["file"]),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            resource.setrlimit(what, (most, most))
        except (OSError, ValueError):  # the system has a lower one already, or does not know this one
            continue


def _refuse(folder: str) -> None:
    """From now on, and for good: an audit hook cannot be removed by Python code."""

    def inside(path: Any) -> bool:
        try:
            real = os.path.realpath(os.fsdecode(path))
        except (TypeError, ValueError):
            return False
        return real == folder or real.startswith(folder + os.sep) or real == os.devnull

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = (isinstance(mode, str) and any(letter in mode for letter in "wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            )
            if writes and not isinstance(path, int) and not inside(path):
                raise PermissionError("code that is scored writes into its own folder only")
        elif event in _CHANGES:
            if not all(inside(path) for path in arguments if isinstance(path, str | bytes | os.PathLike)):
                raise PermissionError(f"code that is scored may not do {event} outside of its own folder")
            if event in ("os.kill", "os.killpg"):
                raise PermissionError(f"code that is scored may not do {event}")
        elif event.startswith(_REFUSED):
            raise PermissionError(f"code that is scored may not do {event}")

    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
