"""A process of its own: ``python child.py LIBRARY FOLDER [DONE]`` asks one question and prints who answered.

With DONE, it says that it is ready by a file beside that one and begins when DONE exists.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from peers.adapters import PEERS
from peers.bench import RUNS, twin
from peers.durable import question


def wait_for(go: Path) -> None:
    """Say that this process is ready; return when the file exists."""
    go.with_suffix(f".{os.getpid()}").touch()
    while not go.exists():
        time.sleep(0.01)


async def main() -> None:
    """Ask."""
    library, folder, *go = sys.argv[1:]
    peer = next(one for one in PEERS if one.name == library)(Path(folder), keep=True)
    peer.crowd = bool(go)
    f: Any = peer.cached(question) if peer.sync else peer.cached_async(twin(question))
    if go:
        wait_for(Path(go[0]))
    answer = f("x")
    if inspect.isawaitable(answer):
        answer = await answer
    await peer.close()
    print(json.dumps([len(RUNS), repr(answer)]))


if __name__ == "__main__":
    asyncio.run(main())
