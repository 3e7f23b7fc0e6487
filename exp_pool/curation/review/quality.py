"""Low-quality experiences: stale ones, and those that scorers rated low."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from exp_pool.core.record import Record, read_scores
from exp_pool.core.ttl import Duration, to_seconds
from exp_pool.curation.review.frame import at_least, review_frame, scan_rows
from exp_pool.runtime.clock import now_us, to_datetime

if TYPE_CHECKING:
    import pandas as pd

    from exp_pool.api.manager import ExpManager


def stale(manager: ExpManager, where: Mapping[str, Any] | None = None, *, unused_for: Duration = "30d") -> pd.DataFrame:
    """Stale experiences: expired, superseded by a later answer, or unused for long; the oldest first.

    Args:
        manager: whose pool.
        where: conditions, as in queries.
        unused_for: since when it was not used, or was stored and never used: ``"30d"``, seconds, a timedelta.

    Returns:
        a frame with ``found.reason``, and ``found.protected``: a person made it or annotated it, or it is an insight,
        which maintenance never evicts. Mark what is to go as `deleted`, and `apply_frame` it.

    Raises:
        InvalidInputError: an unknown field in `where`.
        ConfigurationError: `unused_for` is no duration; pandas is not installed.
        StoreError: the store failed.
    """
    seconds = to_seconds(unused_for, "unused_for")
    now = now_us()
    before = now - int((seconds or 0) * 1e6)
    pool, records = scan_rows(manager, where, "looking for what is stale", history=True)
    notes = {
        record.id: {"reason": "; ".join(why), "protected": record.protected}
        for record in records
        if (why := _stale(record, now, before))
    }
    return review_frame(pool, notes, ("reason", "protected"))


def _stale(record: Record, now: int, before: int) -> list[str]:
    why = []
    if not record.is_current:
        why.append(f"superseded by {record.superseded_by or 'a later answer'}")
    if record.expired(now):
        why.append(f"expired {_day(record.expires_at or 0)}")
    if record.last_access is None and record.created_at < before:
        why.append(f"never used since {_day(record.created_at)}")
    elif record.last_access is not None and max(record.last_access, record.created_at) < before:
        why.append(f"not used since {_day(record.last_access)}")
    return why


def _day(moment: int) -> str:
    return f"{to_datetime(moment):%Y-%m-%d}"


def low_scores(
    manager: ExpManager, where: Mapping[str, Any] | None = None, *, below: float = 0.5, scorer: str | None = None
) -> pd.DataFrame:
    """Experiences with low scores, the lowest first, and the reason of the scorer.

    Args:
        manager: whose pool.
        where: conditions, as in queries.
        below: the least score that is good enough, 0 to 1.
        scorer: whose score; by default the deciding one (`Experience.score`).

    Returns:
        a frame with ``found.reason``, ``found.scorer`` and ``found.score``. Correct what they should have answered in
        `expected`, set `trust` to quarantined, or `deleted`; and `apply_frame` it.

    Raises:
        InvalidInputError: an unknown field in `where`, or `below` is no score.
        ConfigurationError: pandas is not installed.
        StoreError: the store failed.
    """
    at_least("below", below, 0.0, 1.0)
    pool, records = scan_rows(manager, where, "looking for low scores")
    found: list[tuple[float, str, dict[str, Any]]] = []
    for record in records:
        scores = read_scores(record.scores)
        name = scorer if scorer is not None else next(reversed(scores), None)
        score = scores.get(name) if name is not None else None
        if score is not None and score.value < below:
            said = f"{name}: {score.value:g}" + (f", {score.reason}" if score.reason else "")
            found.append((score.value, record.id, {"reason": said, "scorer": name, "score": score.value}))
    found.sort(key=lambda row: row[:2])
    return review_frame(pool, {id_: note for _, id_, note in found}, ("reason", "scorer", "score"))
