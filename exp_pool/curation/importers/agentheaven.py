"""AgentHeaven's JSON cache: a folder with a file for each entry (``func``, ``inputs``, ``output``, ``expected``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from exp_pool.core.experience import MISSING
from exp_pool.curation.importers.safe_files import values_of_files
from exp_pool.curation.importers.types import Imported, ImportOptions, LeftOutError, Peek, imported_call

NEEDS_FUNCTION = False
items = values_of_files(".json", ".jsonl")


def recognise(peek: Peek) -> bool:
    """An object with `func` and `inputs`."""
    return isinstance(peek.value, dict) and {"func", "inputs"} <= peek.value.keys()


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """As `Experience.from_agentheaven`, with the time of the entry where its metadata say one."""
    if not isinstance(item, dict) or not isinstance(item.get("inputs", {}), dict):
        raise LeftOutError("it is no entry of a cache: an object with func, inputs and output is needed")
    answers = {name: item[name] for name in ("output", "expected") if item.get(name, ...) is not ...}
    yield imported_call(
        options,
        "agentheaven",
        item.get("func"),
        item.get("inputs", {}),
        answers.get("output", MISSING),
        expected=answers.get("expected", MISSING),
        metadata=item.get("metadata") or {},
    )
