"""Output of commands: tables in a terminal, tab-separated lines in a pipe, JSON for scripts, a pager for long tables.

What is stored is shown as text: control characters are escaped, so that nothing stored moves the cursor, clears the
screen or changes the colours of whoever looks at it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_CUT_OFF = 141  # the exit code that a shell gives a program which SIGPIPE has ended


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Stop: the reader, such as `head`, has closed the pipe."""
        stop_writing()


out = _Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)

_BRIEF = 200  # characters of a text in a table; the terminal cuts off more
_SHORT_ID = 8  # of an id: its end, because ids of one time begin alike


@dataclass(frozen=True, slots=True)
class TableColumn:
    """Column of a table. `least`: narrower terminals leave it out; `flexible`: it gives way to others."""

    name: str
    right: bool = False
    flexible: bool = False
    least: int = 0


def line(text: str, style: str | None = None) -> None:
    """Print a line of text."""
    out.print(Text(_encodable(text), style=style or ""))


def note(kind: str, text: str, style: str) -> None:
    """Print a line on the error stream that begins with its kind.

    Args:
        kind: such as ``error``.
        text: the message.
        style: of the kind, as rich names it.
    """
    err.print(Text.assemble((kind, style), ": ", _encodable(escaped(text, lines=True))))


def table(columns: Sequence[TableColumn], rows: Iterable[Sequence[str]]) -> None:
    """Print rows: a table that fits the terminal, with a pager if it is long; whole lines with tabs in a pipe."""
    if not out.is_terminal:
        _write("\t".join(column.name for column in columns))
        for row in rows:
            _write("\t".join(_encodable(escaped(cell)) for cell in row))
        return
    shown = [at for at, column in enumerate(columns) if column.least <= out.width]
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for at in shown:
        column = columns[at]
        grid.add_column(column.name, justify="right" if column.right else "left", no_wrap=not column.flexible)
    count = 0
    for row in rows:
        cells = (_encodable(brief(row[at])) for at in shown)
        grid.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells))
        count += 1
    if count + 5 < out.height or not sys.stdin.isatty():
        out.print(grid)
        return
    os.environ.setdefault("LESS", "FRX")  # colours, and no pager where it fits after all
    with out.pager(styles=out.color_system is not None):
        out.print(grid)


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values, one under the other."""
    listed = list(pairs)
    width = max((len(name) for name, _ in listed), default=0)
    for name, value in listed:
        out.print(Text.assemble((name.ljust(width), "bold"), "  ", _encodable(escaped(value, lines=True))))


def as_json(value: Any, *, lines: bool = False) -> None:
    """Print a value as JSON: indented, or in one line of many.

    Characters that the output cannot write (lone surrogates; all but ASCII in some terminals) are escaped as JSON does.
    """
    indent = None if lines else 2
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=True, indent=indent)
    _write(text)


def stop_writing() -> NoReturn:
    """End the program without a traceback when nobody reads its output any more."""
    with suppress(OSError, ValueError):  # an output without a file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(_CUT_OFF)


def _write(text: str) -> None:
    """Print a line unchanged; rich would turn tabs into spaces."""
    try:
        sys.stdout.write(text + "\n")
    except BrokenPipeError:
        stop_writing()


def escaped(text: str, *, lines: bool = False) -> str:
    """Text without control characters; line ends stay if `lines`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c == "\n") else _escape(c) for c in text)


def _escape(char: str) -> str:
    return " " if char in "\n\r\t" else repr(char)[1:-1]


def brief(text: str) -> str:
    """Beginning of a text, in one line."""
    return escaped(" ".join(text[: 2 * _BRIEF].split()))[:_BRIEF]


def shown(value: Any) -> str:
    """Value as people read it: text as it is, the rest as JSON where it can be."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return repr(value)


def moment(at: datetime | None) -> str:
    """Time in UTC."""
    return "" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def number(value: float | None) -> str:
    """Score with two digits."""
    return "" if value is None else f"{value:.2f}"


def short_id(id_: str) -> str:
    """End of an id in a terminal; commands accept it."""
    return id_[-_SHORT_ID:] if out.is_terminal else id_


def _encodable(text: str) -> str:
    encoding = out.encoding
    return text.encode(encoding, "backslashreplace").decode(encoding)
