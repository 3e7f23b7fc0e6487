"""Results: what queries, calls and an experience's history give back, and the call that functions of the user's see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from exp_pool.core.experience import Experience, Metric
from exp_pool.runtime.display import Pairs, Shown

T = TypeVar("T")


class QueryType(StrEnum):
    """How `query_exps` and `search` look."""

    EXACT = "exact"  # equal requests
    SEMANTIC = "semantic"  # near in meaning: embeddings
    LEXICAL = "lexical"  # words in common: BM25
    HYBRID = "hybrid"  # both rankings fused


@dataclass(frozen=True, slots=True, repr=False)
class Hit(Shown):
    """An experience that was found, how similar its request is (1.0 for an identical one) and how it was found.

    `similarity` is the cosine of the embeddings, -1 to 1; in a lexical search the BM25 score as a share of what the
    request itself would get, 0 to 1. `found_by` is exact, semantic, lexical or semantic+lexical.
    """

    experience: Experience
    similarity: float
    found_by: str

    def _pairs(self) -> Pairs:
        yield "request", self.experience.request
        yield "value", self.experience.value
        yield "similarity", round(self.similarity, 3)
        yield "found_by", self.found_by
        yield "id", self.experience.id


@dataclass(frozen=True, slots=True, repr=False)
class HistoryEntry(Shown):
    """Something that happened to an experience.

    `what` is ``stored`` (one for each answer of its call, earlier and later ones, too: `id` says which, and `detail`
    has origin, current, trust), ``annotate`` (expected, expected_before, metadata), ``feedback`` (value, reason),
    ``quarantine`` (reason), ``trust`` (before, after), ``update`` (fields) or ``loaded`` (its state, from a snapshot);
    or what a curator did with many at once, such as ``apply``, ``merge`` or ``undo`` (change, who, why, deed, fields).
    """

    at: datetime
    what: str
    id: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class Answer(Shown, Generic[T]):
    """What a decorated call gave: its value, and where from.

    `id` is that of the experience which answered, or was stored; None if nothing was stored. `found_by` is exact,
    semantic, lexical, semantic+lexical, feed or coalesced; None for a live call. `parents` are the ids shown to the
    function.
    """

    value: T
    id: str | None = None
    found_by: str | None = None
    similarity: float | None = None
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Call(Shown):
    """One call of a decorated function, as namespaces, feeds and conditions see it.

    What was recorded while it ran is there for ``cache_if=`` only, which is asked after the function has run.
    """

    func: Callable[..., Any]
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    strategy: str | None = None
    metric: Metric | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
