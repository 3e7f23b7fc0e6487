"""What the programs of `source.py` import: the library that is asked, and a call that says who answered.

Such a program is started as ``python PROGRAM LIBRARY FOLDER``; FOLDER is where the library keeps its answers.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.adapters import PEERS
from peers.bench import RUNS, twin

_LIBRARY, _FOLDER = sys.argv[1:]
_PEER = next(one for one in PEERS if one.name == _LIBRARY)(Path(_FOLDER), keep=True)


def cached(function: Callable[..., Any]) -> Any:
    """The function behind the library."""
    return _PEER.cached(function) if _PEER.sync else _PEER.cached_async(twin(function))


def ask(function: Callable[..., Any], *args: Any) -> None:
    """Print how often the function ran, and its answer."""

    async def story() -> Any:
        answer = function(*args)
        if inspect.isawaitable(answer):
            answer = await answer
        await _PEER.close()
        return answer

    answer = asyncio.run(story())
    print(json.dumps([len(RUNS), repr(answer)]))
