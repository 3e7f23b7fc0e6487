"""Parquet of a pool, in folders of months (``month=2026-11/part-0.parquet``). It can be imported again.

DuckDB, Spark and Ray read the folder as one table (``read_parquet('folder/**/*.parquet')``), in which the month is a
column and so is the side of a split. `columns` says what stands where.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from exp_pool.curation.exporters.output import Output
from exp_pool.curation.exporters.selection import ExportSelection
from exp_pool.curation.optional_packages import package
from exp_pool.curation.portable_columns import JSON, NUMBERS, TEXTS, TIMES, to_columns
from exp_pool.runtime.clock import to_datetime

FOLDER = True
TRAINING = False
_GROUP, _GROUP_BYTES = 5000, 32 * 2**20  # rows of a row group, whichever comes first: it is held in memory
_PART = 100  # row groups of a file


def write(selection: ExportSelection, output: Output) -> None:
    """One table, in files of one month each at most."""
    pyarrow, parquet = package("pyarrow", "curation"), package("pyarrow.parquet", "curation")
    types = {
        **dict.fromkeys((*TEXTS, *JSON, "exact"), pyarrow.string()),
        **dict.fromkeys(TIMES, pyarrow.timestamp("us", tz="UTC")),
        **dict.fromkeys(NUMBERS, pyarrow.int64()),
        "score": pyarrow.float64(),
        "is_current": pyarrow.bool_(),
    }
    schema = pyarrow.schema(list(types.items()))
    for side in selection.sides:
        months = groupby(_groups(selection, side), key=lambda group: group[0])
        for month, groups in months:
            folder = f"month={month}" if side is None else f"side={side}/month={month}"
            for part, of_part in groupby(enumerate(groups), key=lambda numbered: numbered[0] // _PART):
                with (
                    output.file(f"{folder}/part-{part}.parquet", side) as file,
                    parquet.ParquetWriter(file, schema, compression="zstd") as writer,
                ):
                    for _, (_, rows) in of_part:
                        writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
                        file.rows += len(rows)


def _groups(selection: ExportSelection, side: str | None) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Rows of one month; rows come in the order of their creation."""
    for month, lines in groupby(selection.lines(side), key=lambda line: f"{to_datetime(line[0].created_at):%Y-%m}"):
        rows: list[dict[str, Any]] = []
        size = 0
        for record, line in lines:
            rows.append(to_columns(line))
            size += record.size_bytes
            if len(rows) >= _GROUP or size >= _GROUP_BYTES:
                yield month, rows
                rows, size = [], 0
        if rows:
            yield month, rows
