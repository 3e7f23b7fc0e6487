"""Calls from a file for ``exp-pool prefill``, and importing a decorated function by its name."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exp_pool.api.cached_function import Decorated
from exp_pool.errors import InvalidInputError


def decorated_function(name: str) -> Any:
    """Import the decorated function ``module:function`` or ``module:Class.method`` from the current folder.

    Raises:
        InvalidInputError: there is none, or it is not decorated.
    """
    module, _, path = name.partition(":")
    if not (module and path):
        raise InvalidInputError(f"{name!r} names no function; write module:function, such as app.agents:answer")
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as err:
        raise InvalidInputError(f"{name!r} cannot be imported from {Path.cwd()}: {err}") from err
    finally:
        sys.path.remove(str(Path.cwd()))
    if not isinstance(found, Decorated):
        raise InvalidInputError(f"{name!r} is not decorated with exp_cache, so no pool is in front of it")
    return found


def prefill_from(function: Any, items: Path, *, concurrency: int = 1, progress: bool = True) -> int:
    """Make the calls of a file, one JSON value in a line, and return how many ran. The file is read as far as needed.

    Args:
        function: the decorated function.
        items: the file.
        concurrency: calls at a time.
        progress: whether to show a bar.

    Raises:
        InvalidInputError: a line is no JSON.
        OSError: the file cannot be read.
        ExceptionGroup: what the function raised, after all other calls were made.
    """
    ran = function.prefill(_calls(items), concurrency=concurrency, progress=progress)
    return int(asyncio.run(ran) if inspect.iscoroutine(ran) else ran)


def _calls(path: Path) -> Iterator[Any]:
    """Calls of the file. An array holds the positional arguments."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    call = json.loads(line)
                except ValueError as err:
                    raise InvalidInputError(f"{path}, line {number}: no JSON ({err}): {line.strip()[:80]!r}") from err
                yield tuple(call) if isinstance(call, list) else call
