"""Descendants of experiences: answers of calls that were shown them, and insights that cite them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from exp_pool.curation.bulk_edit import ids_of
from exp_pool.curation.review.frame import review_frame, scan_rows
from exp_pool.stores.lineage import descended

if TYPE_CHECKING:
    import pandas as pd

    from exp_pool.api.manager import ExpManager
    from exp_pool.core.experience import Experience


def descendants(manager: ExpManager, experiences: Iterable[str | Experience]) -> pd.DataFrame:
    """Experiences drawn from these, directly or through others, the nearest first.

    Look here when one turns out to be wrong or poisoned: what is stored from then on is quarantined as it is, what was
    stored before is not.

    Args:
        manager: whose pool.
        experiences: which, or their ids; they may be deleted by now. (Who was drawn from one that is deleted, and named
            only by others, is not found: what its parents were is gone with it.)

    Returns:
        a frame with ``found.reason``, ``found.generation`` (1: was shown one of these itself) and ``found.parents``
        (those through which it descends). Set `trust` to quarantined, or `deleted`; and `apply_frame` it.

    Raises:
        InvalidInputError: one is neither an experience nor an id.
        ConfigurationError: pandas is not installed.
        StoreError: the store failed.
    """
    ids = ids_of(experiences)
    pool, records = scan_rows(manager, None, "looking for what was drawn from them", history=True)
    notes = {
        id_: {
            "reason": f"{'cites' if kind == 'insight' else 'was shown'} {', '.join(parents)}",
            "generation": generation,
            "parents": list(parents),
        }
        for id_, (kind, generation, parents) in descended(records, ids).items()
    }
    return review_frame(pool, notes, ("reason", "generation", "parents"))
