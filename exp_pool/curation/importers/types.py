"""Types of importers: the `Importer` protocol, options of an import, and fields as sources write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from exp_pool.core.experience import MISSING, Experience
from exp_pool.core.identity.request_text import text_of
from exp_pool.curation.importers.safe_files import ImportSource, Items, parse
from exp_pool.curation.portable import PortableRow
from exp_pool.errors import InvalidInputError

Imported: TypeAlias = Experience | PortableRow
"""An experience of a stranger, which gets its id from its content; or a row of a pool, which has one."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Options of `load`.

    Attributes:
        function: the name under which everything is stored; None: what the source says.
        columns: of a table, by a field of an experience the column it stands in.
        requests: the file that holds the requests, where the source has the answers only.
        written_at: when the source was written: the time of what has none of its own.
        namespace: where it goes.
        secret: the manager's key secret.
        trusted: what comes may be used at once.
    """

    function: str | None
    columns: Mapping[str, str] = field(default_factory=dict)
    requests: Path | None = None
    written_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    namespace: str = ""
    secret: bytes | None = None
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class Peek:
    """Sample of a source: one of its files.

    Attributes:
        name: of a file.
        head: its first bytes, unpacked.
        value: its first JSON value, None where it does not begin with one.
    """

    name: str
    head: bytes
    value: Any


class Importer(Protocol):
    """A format, as a module. What raises in `experiences` is left out and reported; `items` raises what ends it all."""

    NEEDS_FUNCTION: bool
    """The source never says whose calls these are."""

    def recognise(self, peek: Peek) -> bool:
        """Whether a source looks like this format and no other."""
        ...

    def items(self, source: ImportSource, options: ImportOptions) -> Items:
        """What stands in the source, one after the other, each with where."""
        ...

    def experiences(self, item: Any, options: ImportOptions) -> Iterable[Imported]:
        """What there is to import of one item; none where it holds no call.

        Raises:
            ExpPoolError, ValueError, LookupError, TypeError, AttributeError: it cannot be imported; it says why.
        """
        ...


class LeftOutError(InvalidInputError):
    """Item with nothing to import; the report says why."""


def imported_call(
    options: ImportOptions,
    source: str,
    function: str | None,
    arguments: Mapping[str, Any] | None,
    response: Any,
    *,
    source_id: Any = None,
    created_at: datetime | None = None,
    metadata: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Experience:
    """Experience of one imported call; its `metadata` names the source and the id there.

    Args:
        options: of the import; its `function` replaces that of the source.
        source: the format.
        function: the name under which it is stored; None: the source does not say.
        arguments: what the call was given; None: `fields` has a `request`.
        response: the answer; `MISSING`: none.
        source_id: the id in the source.
        created_at: None: when the source was written.
        metadata: more of it.
        fields: other fields of the experience; those that are None are left out.

    Raises:
        LeftOutError: its function is unknown, or it has no answer.
        pydantic.ValidationError: a field has a wrong value.
        UnkeyableError: an argument cannot be part of a key.
    """
    name = options.function or function
    if not name:
        raise LeftOutError("it does not say whose call it is; say so with function=")
    if response is MISSING and fields.get("expected", MISSING) is MISSING:
        raise LeftOutError("it has no answer")
    told = {"source": source, **({} if source_id is None else {"source_id": str(source_id)}), **(metadata or {})}
    given = {name: value for name, value in fields.items() if value is not None}
    if arguments is not None:
        given["arguments"] = dict(arguments)
    return Experience(
        function=name, response=response, metadata=told, created_at=created_at or options.written_at, **given
    )


def arguments_of(content: Any) -> dict[str, Any]:
    """Arguments of a call as sources write them: named ones, messages, or a text."""
    if isinstance(content, Mapping):
        return dict(content)
    return {"messages" if isinstance(content, list) and text_of(content) is not None else "input": content}


def parse_time(value: Any) -> datetime | None:
    """Time as sources write it: ISO 8601 (UTC where it does not say), or seconds to nanoseconds since 1970.

    Raises:
        ValueError: it is none.
    """
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, str) and not value.isdigit():
        found = datetime.fromisoformat(value)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise LeftOutError(f"{value!r:.40} is no time")
    number = float(value)
    for digits in (1e17, 1e14, 1e11):  # nanoseconds, microseconds, milliseconds: 1973 at the earliest
        if number >= digits:
            number /= 1000
    try:
        return datetime.fromtimestamp(number, UTC)
    except (OverflowError, OSError) as err:
        raise LeftOutError(f"{value!r:.40} is no time") from err


def seconds_between(start: Any, end: Any) -> float | None:
    """Duration, where both times are known and in order."""
    first, last = parse_time(start), parse_time(end)
    if first is None or last is None or last < first:
        return None
    return (last - first).total_seconds()


def from_json(text: Any) -> Any:
    """Value of JSON text; anything else as it is."""
    if not isinstance(text, str) or not text.lstrip().startswith(("{", "[", '"')):
        return text
    try:
        return parse(text)
    except ValueError:
        return text


def token_count(value: Any) -> int | None:
    """Number of tokens; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return None
    return number if number >= 0 else None
