"""Curation: edit experiences as data frames, apply and undo changes, find duplicates, merge, distill, verify.

::

    from exp_pool import curation

    frame = curation.to_frame(manager, {"function": "ask"})
    frame.loc[frame["request"].str.contains("password"), "expected"] = "Use the link on the login page."
    curation.diff(manager, frame)  # what would change
    change = curation.apply_frame(manager, frame, dry_run=False, why="the old link is gone")
    curation.undo(manager, change.id)

Plain functions of a manager, blocking, from a notebook's running loop, too. They work on its namespace, or that of
``in_namespace``. Frames need pandas and pyarrow: ``pip install 'exp_pool[curation]'``.
"""

from exp_pool.curation.bulk_edit import promote, quarantine, relabel
from exp_pool.curation.cells import NONE
from exp_pool.curation.change_log import apply_frame, forget, history, recover, undo
from exp_pool.curation.change_set import Change
from exp_pool.curation.consolidation import merge
from exp_pool.curation.frame_diff import diff
from exp_pool.curation.frames import iter_frames, to_arrow, to_frame, to_polars
from exp_pool.curation.insights import distill
from exp_pool.curation.reruns import RerunOutcome as Outcome
from exp_pool.curation.reruns import Verification, Verified, verify
from exp_pool.curation.review import clusters, conflicts, coverage, descendants, duplicates, low_scores, outliers, stale
from exp_pool.stores.change_history import ChangeNote

__all__ = [
    "NONE",
    "Change",
    "ChangeNote",
    "Outcome",
    "Verification",
    "Verified",
    "apply_frame",
    "clusters",
    "conflicts",
    "coverage",
    "descendants",
    "diff",
    "distill",
    "duplicates",
    "forget",
    "history",
    "iter_frames",
    "low_scores",
    "merge",
    "outliers",
    "promote",
    "quarantine",
    "recover",
    "relabel",
    "stale",
    "to_arrow",
    "to_frame",
    "to_polars",
    "undo",
    "verify",
]
