"""Frames of review results: rows with reasons, which can be edited and applied like any other frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from exp_pool.core.contracts.plugs import RecordQuery
from exp_pool.core.filters import parse_where
from exp_pool.core.record import Record
from exp_pool.curation.columns import FOUND
from exp_pool.curation.frames import frame_of, recover_unfinished
from exp_pool.curation.optional_packages import package
from exp_pool.errors import InvalidInputError
from exp_pool.runtime.clock import now_us
from exp_pool.runtime.progress import watched
from exp_pool.stores.pages import rows_by_id

if TYPE_CHECKING:
    import pandas as pd

    from exp_pool.api.manager import ExpManager
    from exp_pool.api.pool import Pool

_TEXT = 60  # characters of a request in a reason
_SHOWN = (
    *("function", "request", "response", "expected", "annotated", "kind", "trust", "score", "access_count"),
    *("created_at", "last_access", "expires_at", "deleted"),
)

Notes = Mapping[str, Mapping[str, Any]]
"""What was found about rows, by id, in the order in which they are shown; the same names for each."""


def scan_rows(
    manager: ExpManager, where: Mapping[str, Any] | None, what: str, *, history: bool = False
) -> tuple[Pool, Iterator[Record]]:
    """Pool and the rows that meet the conditions, with a progress bar. Expired and quarantined rows are included.

    Args:
        manager: whose pool.
        where: conditions, as in queries.
        what: is being done, for the progress bar.
        history: earlier answers, too.

    Raises:
        InvalidInputError: an unknown field in `where`.
    """
    pool = manager.sync
    package("pandas", "curation")
    recover_unfinished(pool)
    query = RecordQuery(pool.namespace, parse_where(where), history=history)
    return pool, watched(pool.store.scan(query), what, pool.store.count(query))


def review_frame(pool: Pool, notes: Notes, names: Sequence[str]) -> pd.DataFrame:
    """Frame of rows with notes as ``found.<name>``, and whether each row is in use (``found.state``).

    What was deleted meanwhile is left out.

    Args:
        pool: where the rows are.
        notes: by id, in the order of the frame.
        names: of the notes.
    """
    states: dict[str, str] = {}
    now = now_us()

    def there() -> Iterator[Record]:
        for id_, record in rows_by_id(pool.store, pool.namespace, notes):
            if record is not None:
                states[id_] = state(record, now)
                yield record

    frame = frame_of(pool, there(), _SHOWN)
    pandas = package("pandas", "curation")
    columns = {name: [notes[id_][name] for id_ in frame["id"]] for name in names}
    columns["state"] = [states[id_] for id_ in frame["id"]]
    for at, (name, cells) in enumerate(columns.items(), 1):
        frame.insert(at, FOUND + name, pandas.Series(cells, dtype=None if cells else object))
    return frame


def state(record: Record, now: int) -> str:
    """Reasons why a row answers nothing, in words; ``in use`` where it does."""
    reasons = [
        why
        for why, holds in (
            ("history", not record.is_current),
            ("quarantined", record.trust != "trusted"),
            ("expired", record.expired(now)),
        )
        if holds
    ]
    return ", ".join(reasons) or "in use"


def merit(record: Record, now: int) -> tuple[Any, ...]:
    """Sort key of the best row: annotated by a person, in use, scored well, used much, new."""
    in_use = record.trust == "trusted" and not record.expired(now)
    return record.annotated, in_use, record.score or 0.0, record.access_count, record.created_at


def short(text: str) -> str:
    """The beginning of a text, on one line, in quotes."""
    line = " ".join(text.split())
    return repr(line if len(line) <= _TEXT else line[: _TEXT - 1] + "…")


def at_least(name: str, value: Any, low: float, high: float) -> float:
    """Check a number against a range.

    Args:
        name: of the parameter, for the message.
        value: what was passed.
        low: the least that may be.
        high: the most that may be.

    Raises:
        InvalidInputError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidInputError(f"{name}={value!r:.80} must be a number of {low:g} to {high:g}")
    return float(value)


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """Check a word against a list.

    Args:
        name: of the parameter, for the message.
        value: what was passed.
        choices: what may be.

    Raises:
        InvalidInputError: it is none.
    """
    known = [*choices]
    if value not in known:
        raise InvalidInputError(f"{name}={value!r:.80} is unknown; known: {', '.join(known)}")
    return str(value)
