"""Filling a pool before it is needed: what a list of calls may look like, and a bar for those who watch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

_WORTH_A_BAR = 10  # calls


def as_call(item: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One call: of a tuple its positional arguments, of a dict its named ones, else the only argument."""
    if isinstance(item, tuple):
        return item, {}
    if isinstance(item, dict):
        return (), item
    return (item,), {}


def progress(items: Iterable[Any], what: str) -> Iterator[Any]:
    """The items; with a progress bar where there are many and somebody watches."""
    listed = list(items)
    if len(listed) < _WORTH_A_BAR or not sys.stderr.isatty():
        yield from listed
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(listed, description=what, console=Console(stderr=True), transient=True)
