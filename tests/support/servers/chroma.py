"""An own Chroma server: ``chroma run``, which comes with chromadb."""

import shutil
import sys
from pathlib import Path

import httpx
from support.servers.process import Server


def binary():
    """Its path, None without it."""
    return shutil.which("chroma", path=Path(sys.executable).parent) or shutil.which("chroma")


class Chroma(Server):
    """What it acknowledges survives a kill."""

    def __init__(self):
        super().__init__()
        self.data = self.folder / "data"  # that it makes itself; who removes it while it is dead starts an empty one

    @property
    def url(self):
        return f"chroma://127.0.0.1:{self.port}"

    def command(self):
        return [binary(), "run", "--path", self.data, "--port", str(self.port), "--host", "127.0.0.1"]

    def ping(self):
        httpx.get(f"http://127.0.0.1:{self.port}/api/v2/heartbeat", timeout=5).raise_for_status()
