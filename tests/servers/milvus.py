"""Milvus Lite served by a process of its own: what stands for a Milvus server where there is none."""

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path

from servers.chroma import free_port

_STARTS_S = 60


class MilvusServer:
    """One server on a folder; its port stays the same when it is started again."""

    def __init__(self, folder):
        self.folder, self.port, self._process = Path(folder), free_port(), None
        self.url = f"milvus://127.0.0.1:{self.port}"

    def start(self):
        script = "import sys; from milvus_lite.adapter.grpc.server import run_server; run_server(sys.argv[1], '127.0.0.1', int(sys.argv[2]))"
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, str(self.folder), str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + _STARTS_S
        while not self._listens():
            assert self._process.poll() is None, "Milvus Lite ended"
            assert time.monotonic() < until, f"Milvus Lite did not listen within {_STARTS_S} s"
            time.sleep(0.02)  # between two looks
        return self

    def _listens(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running(folder):
    server = MilvusServer(folder)
    try:
        yield server.start()
    finally:
        server.kill()
