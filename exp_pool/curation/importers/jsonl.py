"""JSON lines of a pool, as `exporters` writes them: ids, scores, annotations and history come back.

With ``columns=`` anybody's JSON lines: which member is which field of an experience.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from exp_pool.core.experience import Experience
from exp_pool.curation.importers import tables
from exp_pool.curation.importers.safe_files import ImportSource, Items
from exp_pool.curation.importers.types import Imported, ImportOptions, LeftOutError, Peek
from exp_pool.curation.portable import from_line, namespace_of

NEEDS_FUNCTION = False


def recognise(peek: Peek) -> bool:
    """Lines of experiences, with or without what `Experience.to_dict` always writes."""
    names = peek.value.keys() if isinstance(peek.value, dict) else set()
    return "function" in names and bool({"request", "arguments"} & names) and bool({"response", "expected"} & names)


def items(source: ImportSource, options: ImportOptions) -> Items:
    """One for each line."""
    tables.mapping(options)
    for file in source.files(".jsonl", ".jsonl.gz", ".json"):
        yield from source.values(file)


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """The row of the line; where it has no id, it was written by hand, and gets one from its content."""
    if not isinstance(item, dict):
        raise LeftOutError("it is no experience: an object is needed")
    if options.columns:
        yield tables.experience(_flat(item, options.columns.values()), options, "jsonl")
        return
    line = item if options.function is None else {**item, "function": options.function}
    if "id" in line:
        namespace = namespace_of(item) or options.namespace
        yield from_line(line, namespace, options.secret, believe_key=options.trusted)
    else:
        yield Experience.from_dict({"created_at": options.written_at, **line})


def _flat(item: dict[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    """Selected members of a line; ``message.content`` is a member of an inner object, unless a name has the dot."""
    found: dict[str, Any] = {}
    for column in columns:
        value: Any = item.get(column, item)
        if value is item:
            for name in column.split("."):
                value = value.get(name) if isinstance(value, dict) else None
        found[column] = value
    return found
