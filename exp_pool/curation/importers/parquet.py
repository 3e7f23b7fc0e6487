"""Parquet: what `exporters` wrote, with ids, scores, annotations and history; or any other table, with ``columns=``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from exp_pool.curation.importers import jsonl, tables
from exp_pool.curation.importers.safe_files import ImportSource, Items
from exp_pool.curation.importers.types import Imported, ImportOptions, Peek
from exp_pool.curation.optional_packages import package
from exp_pool.curation.portable_columns import OWN, from_columns

NEEDS_FUNCTION = False
_MAGIC = b"PAR1"
_BATCH = 256  # rows in memory at once
_MAX_ROWS_PER_BYTE = 100  # a row of nothing takes a thousandth of a byte; a row of a pool takes hundreds


def recognise(peek: Peek) -> bool:
    """Parquet begins with its name."""
    return peek.head.startswith(_MAGIC)


def items(source: ImportSource, options: ImportOptions) -> Items:
    """One for each row."""
    tables.mapping(options)
    parquet, pyarrow = package("pyarrow.parquet", "curation"), package("pyarrow", "curation")
    for file in source.files(".parquet", ".pq"):
        name, number = source.name(file), 0
        try:
            for row in _rows(source, file, parquet, pyarrow):
                number += 1
                yield f"{name} row {number}", row
        except (pyarrow.ArrowException, OSError, ValueError, MemoryError, RecursionError) as err:
            source.damaged(f"{name} row {number + 1}", f"it cannot be read on: {err}")


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """The one of the row."""
    if item.keys() >= OWN:
        yield from jsonl.experiences(from_columns(item), options)
    else:
        yield tables.experience(item, options, "parquet")


def _rows(source: ImportSource, path: Path, parquet: Any, pyarrow: Any) -> Iterable[dict[str, Any]]:
    with source.open(path) as file:
        schema = parquet.read_schema(file)
        # Dictionaries stay packed: a gigabyte of one text over and over takes a few bytes.
        texts = [field.name for field in schema if pyarrow.types.is_string(field.type)]
        table = parquet.ParquetFile(file, read_dictionary=texts)
        size = path.stat().st_size
        if table.metadata.num_rows > _MAX_ROWS_PER_BYTE * size:
            raise ValueError(f"it says it has {table.metadata.num_rows:,} rows in {size:,} bytes")
        for batch in table.iter_batches(batch_size=_BATCH):
            for position in range(batch.num_rows):
                yield batch.slice(position, 1).to_pylist()[0]
