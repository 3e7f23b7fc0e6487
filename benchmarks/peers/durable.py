"""On a disk: another instance, another process, several processes at once."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from peers.bench import Lab, Unsupported, Wrong, case, ran, twin

_CHILD = Path(__file__).with_name("child.py")
_PROCESSES = 3
_WORK = 0.5  # seconds: longer than processes need to notice that they may begin


def question(text: str) -> dict[str, Any]:
    """An answer that JSON alone would not bring back."""
    ran()
    time.sleep(_WORK)
    return {"text": text, "pair": (1, b"\x00"), "none": None}


def needs_disk(lab: Lab) -> None:
    """It is about what is kept."""
    if not lab.peer.durable:
        raise Unsupported("keeps nothing on a disk of its own")


@case("durable", "found again by another instance")
async def _(lab: Lab) -> None:
    needs_disk(lab)
    wanted = {"text": "x", "pair": (1, b"\x00"), "none": None}
    folder = lab.peer.folder / "kept"
    folder.mkdir()
    for _ in range(2):
        peer = type(lab.peer)(folder, keep=True)
        await lab.expect(peer.cached(question) if peer.sync else peer.cached_async(twin(question)), wanted, "x")
        await peer.close()
    lab.ran_at_most(1)


async def child(lab: Lab, folder: Path, *more: str) -> tuple[int, str]:
    """How often the function ran in a process of its own, and the answer there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "ignore",
        str(_CHILD),
        lab.peer.name,
        str(folder),
        *more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise RuntimeError(err.decode().strip().splitlines()[-1])
    runs, answer = json.loads(out.decode().splitlines()[-1])
    return runs, answer


@case("durable", "found again by another process", timeout=60)
async def _(lab: Lab) -> None:
    needs_disk(lab)
    folder = lab.peer.folder / "kept"
    folder.mkdir()
    (first, wanted), (second, got) = await child(lab, folder), await child(lab, folder)
    lab.check(got, wanted)
    if first != 1:
        raise Wrong(f"ran {first} times in the first process")
    for _ in range(second):
        ran()
    lab.ran_at_most(0)


@case("durable", "processes at once, one cold call", timeout=60)
async def _(lab: Lab) -> None:
    needs_disk(lab)
    folder = lab.peer.folder / "kept"
    folder.mkdir()
    go = lab.peer.folder / "go"
    tasks = [asyncio.create_task(child(lab, folder, str(go))) for _ in range(_PROCESSES)]
    while len(list(lab.peer.folder.glob("go.*"))) < _PROCESSES and not any(t.done() for t in tasks):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    go.touch()
    results = await asyncio.gather(*tasks)
    for runs, got in results:
        lab.check(got, results[0][1])
        for _ in range(runs):
            ran()
    lab.must_run_at_most(1)
