"""CSV with a header line; comma, semicolon, tab or bar separate the cells. ``columns=`` maps them to fields."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from exp_pool.curation.importers import tables
from exp_pool.curation.importers.safe_files import MAX_VALUE, ImportSource, Items
from exp_pool.curation.importers.types import Imported, ImportOptions, Peek

NEEDS_FUNCTION = False
_SEPARATORS = ",;\t|"


def recognise(peek: Peek) -> bool:
    """The file's name says so."""
    return peek.name.removesuffix(".gz").endswith((".csv", ".tsv"))


def items(source: ImportSource, options: ImportOptions) -> Items:
    """One for each row."""
    tables.mapping(options)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_VALUE))  # of the process; it is 128 KB, answers may have more
    for file in source.files(".csv", ".tsv", ".csv.gz", ".tsv.gz"):
        yield from _rows(source, file)


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """The one of the row."""
    yield tables.experience(item, options, "csv")


def _rows(source: ImportSource, file: Path) -> Items:
    lines = _texts(source, file)
    head = next(lines, None)
    if head is None:
        return
    separator = max(_SEPARATORS, key=head.count)
    try:
        names = next(csv.reader([head], delimiter=separator, strict=True))
    except csv.Error as err:
        source.damaged(source.line(file, 1), str(err))
        return
    rows = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        try:
            row = next(rows, None)
        except csv.Error as err:
            source.damaged(source.line(file, rows.line_num + 1), str(err))
            continue
        if row is None:
            return
        where = source.line(file, rows.line_num + 1)
        if row and len(row) != len(names):
            source.damaged(where, f"it has {len(row)} cells, the first line has {len(names)}")
        elif row:
            yield where, dict(zip(names, row, strict=True))


def _texts(source: ImportSource, file: Path) -> Iterator[str]:
    for number, line in source.lines(file, blank=True):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as err:
            source.damaged(source.line(file, number), f"it is not UTF-8: {err}")
            continue
        if "\0" in text:
            source.damaged(source.line(file, number), "it holds NUL, so it is no text")
            continue
        yield text.removesuffix("\r") + "\n"
