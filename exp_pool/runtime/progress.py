"""Progress bars, shown in a terminal or a notebook where there is much to do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_WORTH_A_BAR = 10  # things


def progress(items: Iterable[Any], what: str) -> Iterator[Any]:
    """The items; with a progress bar where there are many, in a terminal or a notebook."""
    listed = list(items)
    yield from watched(listed, what, len(listed))


def watched(items: Iterable[Any], what: str, total: int) -> Iterator[Any]:
    """The items as they come; with a progress bar as `progress` shows it.

    Args:
        items: to go through.
        what: is done with them.
        total: how many there are.
    """
    with bar(what, total) as done:
        for item in items:
            yield item
            done("")


@contextmanager
def bar(
    what: str, total: float | None, *, show: bool = True, least: int = _WORTH_A_BAR
) -> Iterator[Callable[..., None]]:
    """Show a bar; gives the function to call after each step, with a note to show, such as the cost so far.

    A second argument of that function says how many steps were done.

    Args:
        what: is done.
        total: how many steps; None where that is unknown.
        show: False: no bar in any case.
        least: no bar for fewer steps.
    """
    console = _console() if show and (total is None or total >= least) else None
    if console is None:
        yield lambda _note, _count=1: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    note = TextColumn("{task.fields[note]}")
    with Progress(*columns, note, console=console, transient=True) as shown:
        task = shown.add_task(what, total=total, note="")
        yield lambda said, count=1: shown.update(task, advance=count, note=said)


def _console() -> Console | None:
    from rich.console import Console

    console = Console(stderr=True)
    in_notebook = console.is_jupyter and find_spec("ipywidgets") is not None  # without it rich warns in each cell
    return console if sys.stderr.isatty() or in_notebook else None
