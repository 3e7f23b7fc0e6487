"""Processes of their own: scripts that tell what they found, a line of JSON each, and the children that they kill."""

import json
import os
import subprocess
import sys


def told_by(script, *arguments, cwd=None):
    """What it told, and what it wrote about trouble; it must not fail itself."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(script.parents[1]), *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def in_child(job):
    """How the job ended, in a child that has nothing open: its exit status, or the signal below zero."""
    pid = os.fork()
    if not pid:
        try:
            job()
        except BaseException as err:
            sys.stderr.write(f"{repr(err)[:2000]}\n")
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
