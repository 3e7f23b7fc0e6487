"""Review: duplicates, conflicts, clusters, outliers, stale or low-scored experiences, gaps in coverage.

Each function gives a frame with ids and reasons (columns ``found.*``, which are never stored), that goes into
`apply_frame` as any other does: mark rows as `deleted`, set `trust`, write what is `expected`.
"""

from exp_pool.curation.review.clusters import clusters, outliers
from exp_pool.curation.review.coverage import coverage
from exp_pool.curation.review.descendants import descendants
from exp_pool.curation.review.duplicates import conflicts, duplicates
from exp_pool.curation.review.quality import low_scores, stale

__all__ = ["clusters", "conflicts", "coverage", "descendants", "duplicates", "low_scores", "outliers", "stale"]
