"""A Chroma server of the tests' own: ``chroma run`` on a free port, which may be killed, stopped and started again."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

_STARTS_S = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ChromaServer:
    """One server on a folder; its port stays the same when it is started again."""

    def __init__(self, folder):
        self.folder, self.port, self._process = Path(folder), free_port(), None
        self.url = f"chroma://127.0.0.1:{self.port}"

    def start(self, folder=None):
        program = Path(sys.executable).with_name("chroma")
        if not program.exists() and shutil.which("chroma") is None:
            if os.environ.get("EXP_POOL_REQUIRE_SERVICES"):
                pytest.fail("no program `chroma`: it comes with chromadb")
            pytest.skip("no program `chroma`: it comes with chromadb")
        command = [str(program) if program.exists() else "chroma", "run", "--path", str(folder or self.folder)]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port), "--host", "127.0.0.1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + _STARTS_S
        while not self._beats():
            assert self._process.poll() is None, "chroma run ended"
            assert time.monotonic() < until, f"chroma run gave no heartbeat within {_STARTS_S} s"
            time.sleep(0.02)  # between two looks
        return self

    def _beats(self):
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{self.port}/api/v2/heartbeat", timeout=5).is_success
        return False

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def hanging(self):
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def running(folder):
    server = ChromaServer(folder)
    try:
        yield server.start()
    finally:
        server.kill()
