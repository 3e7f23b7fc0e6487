"""MetaGPT's experience pool: files of experiences, and the log lines in which it writes new ones.

A file is a JSON array of experiences (``req``, ``resp``, ``tag``, ``metric`` with the score, ``traj``, ...), or a log
whose lines hold ``New experience: {...}``; MetaGPT leaves the score out of these, and a score that is there is taken.
The messages in a log are text; they become a message list again, as in the files.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from exp_pool.core.experience import Experience
from exp_pool.curation.importers.safe_files import ImportSource, Items, parse
from exp_pool.curation.importers.types import Imported, ImportOptions, LeftOutError, Peek, from_json

NEEDS_FUNCTION = False
_IN_LOGS = "New experience: "
_BEFORE_JSON = b"\xef\xbb\xbf \t"


def recognise(peek: Peek) -> bool:
    """An object with `req` and `resp`, or a log line that announces one."""
    if _IN_LOGS.encode() in peek.head:
        return True
    return isinstance(peek.value, dict) and {"req", "resp"} <= peek.value.keys()


def items(source: ImportSource, options: ImportOptions) -> Items:  # noqa: ARG001
    """One for each experience."""
    for file in source.files():
        _, first = next(source.lines(file), (0, b""))
        if first.lstrip(_BEFORE_JSON).startswith((b"{", b"[")):
            yield from source.values(file)
        elif first:
            yield from _logged(source, file)


def experiences(item: Any, options: ImportOptions) -> Iterable[Imported]:
    """What `Experience.from_metagpt` reads; MetaGPT's own id is in ``metadata.source_id``."""
    if not isinstance(item, dict):
        raise LeftOutError("it is no experience: an object with req and resp is needed")
    req = from_json(item.get("req"))
    found = Experience.from_metagpt(
        {**item, "req": req if isinstance(req, list) else item.get("req")}, function=options.function
    )
    metadata = {"source": "metagpt", **({"source_id": str(item["uuid"])} if item.get("uuid") else {})}
    created_at = found.created_at if item.get("timestamp") else options.written_at
    yield found.model_copy(update={"metadata": metadata, "created_at": created_at})


def _logged(source: ImportSource, file: Path) -> Items:
    for number, line in source.lines(file):
        _, announced, text = line.partition(_IN_LOGS.encode())
        if not announced:
            continue
        where = source.line(file, number)
        try:
            yield where, parse(text)
        except ValueError as err:
            source.damaged(where, str(err))
