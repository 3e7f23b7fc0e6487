"""Similar experiences: embed the text, look for neighbours, join them back to the record store.

The join is where the store's authority shows: whatever an index answers, a row is only returned if the store has it,
current, fresh, trusted and in scope, with its similarity computed from the stored vector. So an index that is stale,
damaged or lying can hide a row, never serve a wrong one.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from exp_pool._clock import now_us
from exp_pool.embedders.service import Embedded, EmbeddingService
from exp_pool.errors import ConfigurationError
from exp_pool.filters import Condition, holds
from exp_pool.neighbours import Neighbours
from exp_pool.protocols import RecordQuery, RecordStore, VectorQuery
from exp_pool.records import Record
from exp_pool.steps import Match
from exp_pool.vectors import from_bytes, sound

_SPARE = 10  # neighbours asked for beyond the limit, for those that the join drops
_JOINED_AT_ONCE = 500
_ROUNDING = 1e-5  # of similarities in single precision, by whichever library
_WIDER = 4  # how much more is asked for when it dropped too many


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for. What is None does not restrict."""

    namespace: str
    text: str
    limit: int
    min_similarity: float | None = None
    function: str | None = None
    version: str | None = None
    reuse_scope: str | None = None
    where: tuple[Condition, ...] = ()
    whole: bool = False  # only if the embedder read both texts to their end


class Search:
    """Finds the rows of neighbours."""

    def __init__(self, store: RecordStore, neighbours: Neighbours, embeddings: EmbeddingService | None) -> None:
        self._store = store
        self._neighbours = neighbours
        self._embeddings = embeddings

    def similar(self, wanted: Wanted, timeout_s: float) -> list[Match]:
        """At most `limit` matches, most similar first. Nothing is embedded where there is nothing to compare with.

        Raises:
            ConfigurationError: this manager has no index or no embedder.
            EmbedderError: the text could not be embedded within the time-out.
            StoreError: the store failed.
        """
        if self._embeddings is None:
            raise ConfigurationError(
                "nothing can be similar with index='none://' or embedder='none'; use another of these"
            )
        if not self.anything(wanted):
            return []
        embedded = self._embeddings.embed([wanted.text], timeout_s)
        if wanted.whole and not embedded.whole[0]:
            return []
        return self.nearest(wanted, embedded)

    def anything(self, wanted: Wanted) -> bool:
        """Whether there is anything to compare with; if not, nothing need be embedded."""
        function = () if wanted.function is None else (Condition("function", "", "eq", wanted.function),)
        return bool(
            self._store.count(RecordQuery(wanted.namespace, function, expired=False, quarantined=False), limit=1)
        )

    def nearest(self, wanted: Wanted, embedded: Embedded) -> list[Match]:
        """At most `limit` matches of a text that is embedded already, most similar first.

        Raises:
            StoreError: the store failed.
        """
        asked = wanted.limit + _SPARE
        while True:
            near = self._neighbours.find(
                VectorQuery(
                    namespace=wanted.namespace,
                    embedder=embedded.embedder,
                    vectors=embedded.vectors,
                    limit=asked,
                    function=wanted.function,
                    version=wanted.version,
                    reuse_scope=wanted.reuse_scope,
                )
            )
            matches = self._joined(wanted, near.ids, embedded.vectors[0], embedded.embedder)[: wanted.limit]
            # Enough are not yet the nearest: of the index's, dead rows may have kept live ones out.
            complete = len(matches) == wanted.limit and matches[-1].similarity >= near.others - _ROUNDING
            below = wanted.min_similarity is not None and near.others < wanted.min_similarity - _ROUNDING
            if complete or below or near.others == -math.inf:
                return matches
            if wanted.where and asked > wanted.limit + _SPARE:  # few rows meet the conditions: rank those
                return self._among_those_that_meet(wanted, embedded)
            asked *= _WIDER

    def _among_those_that_meet(self, wanted: Wanted, embedded: Embedded) -> list[Match]:
        function = () if wanted.function is None else (Condition("function", "", "eq", wanted.function),)
        query = RecordQuery(wanted.namespace, (*function, *wanted.where), expired=False, quarantined=False)
        best: list[Match] = []
        ids = (record.id for record in self._store.scan(query))
        while page := list(itertools.islice(ids, _JOINED_AT_ONCE)):
            best += self._joined(wanted, page, embedded.vectors[0], embedded.embedder)
            best = sorted(best, key=lambda match: -match.similarity)[: wanted.limit]
        return best

    def _joined(self, wanted: Wanted, ids: list[str], vector: np.ndarray, embedder: str) -> list[Match]:
        records = self._store.get_many(wanted.namespace, ids, by="id")
        stored = self._store.get_vectors(wanted.namespace, ids)
        now = now_us()
        kept = [
            (record, found.values)
            for record, found in zip(records, stored, strict=True)
            if record is not None
            and found is not None
            and found.embedder == embedder
            and sound(found.values, vector.size)
            and (found.whole or not wanted.whole)
            and _fits(record, wanted, now)
        ]
        if not kept:
            return []
        similarities = np.clip(from_bytes([values for _, values in kept]) @ vector, -1.0, 1.0)
        matches = [
            Match(record, float(similarity), "semantic")
            for (record, _), similarity in zip(kept, similarities, strict=True)
            if wanted.min_similarity is None or similarity >= wanted.min_similarity
        ]
        return sorted(matches, key=lambda match: -match.similarity)


def _fits(record: Record, wanted: Wanted, now: int) -> bool:
    return (
        record.is_current
        and record.trust == "trusted"
        and not record.expired(now)
        and wanted.function in (None, record.function)
        and wanted.version in (None, record.version)
        and wanted.reuse_scope in (None, record.reuse_scope)
        and all(holds(condition, record) for condition in wanted.where)
    )
