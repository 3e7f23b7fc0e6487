"""JSON lines of a pool, as `exporters` writes them: ids, scores, annotations and history come back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from exp_pool.curation.importers.making import LeftOutError, Made, Options, Peek
from exp_pool.curation.importers.reading import Items, Source
from exp_pool.curation.portable import from_line, namespace_of

NEEDS_FUNCTION = False


def recognise(peek: Peek) -> bool:
    """Lines of experiences: the names that `Experience.to_dict` always writes."""
    return isinstance(peek.value, dict) and {"id", "function", "arguments", "request"} <= peek.value.keys()


def items(source: Source, options: Options) -> Items:  # noqa: ARG001
    """One for each line."""
    for file in source.files(".jsonl", ".jsonl.gz", ".json"):
        yield from source.values(file)


def experiences(item: Any, options: Options) -> Iterable[Made]:
    """The row of the line."""
    if not isinstance(item, dict):
        raise LeftOutError("it is no experience: an object is needed")
    line = item if options.function is None else {**item, "function": options.function}
    yield from_line(line, namespace_of(item) or options.namespace, options.secret)
