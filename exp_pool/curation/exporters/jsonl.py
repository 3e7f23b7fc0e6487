"""JSON lines of a pool, one row each, as `portable` writes them. They can be imported again."""

from __future__ import annotations

from exp_pool.curation.exporters.output import Output
from exp_pool.curation.exporters.selection import ExportSelection

FOLDER = False
TRAINING = False


def write(selection: ExportSelection, output: Output) -> None:
    """One line for each row."""
    for side in selection.sides:
        with output.file(f"{side}.jsonl", side) as file:
            for _, line in selection.lines(side):
                file.line(line)
