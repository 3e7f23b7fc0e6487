"""Similar experiences: by meaning, by words, or both; whatever an index finds is joined back to the record store.

The join is where the store's authority shows: whatever an index answers, a row is only returned if the store has it,
current, fresh, trusted and in scope, with its similarity computed from the stored vector. So an index that is stale,
damaged or lying can hide a row, never serve a wrong one.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from exp_pool.core.contracts.plugs import Embedder, RecordQuery, RecordStore, VectorQuery
from exp_pool.core.filters import Condition, holds
from exp_pool.core.record import Match, Record
from exp_pool.core.values.vectors import cosines, from_bytes, sound
from exp_pool.errors import ConfigurationError
from exp_pool.reuse.shared import LEAST, unshared
from exp_pool.runtime.clock import now_us
from exp_pool.runtime.notices import Notices
from exp_pool.search.embedders._sentence_models import MULTILINGUAL
from exp_pool.search.embedders.service import Embedded, EmbeddingService
from exp_pool.search.indexes.lexical import LexicalIndex, WordsQuery
from exp_pool.search.nearest import Near, Neighbours

_SPARE = 10  # neighbours asked for beyond the limit, for those that the join drops
_JOINED_AT_ONCE = 500
_ROUNDING = 1e-5  # of similarities in single precision, by whichever library
_WIDER = 4  # how much more is asked for when it dropped too many
_SHORT = 60  # characters of a text, in a warning
_FUSED = 50  # of each ranking at least: what stands lower in both decides nothing
# Of reciprocal rank fusion, as its authors have it. Both rankings weigh the same: with half the weight for words, 1,000
# paraphrases would find their question 1 point more often (97.2% in the first five, not 96.2%; by meaning alone 97.8%),
# but what words alone find would stand behind everything that is faintly near in meaning, an error code for example.
_RANK_OFFSET = 60


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
    thorough: bool = True  # all that meets the conditions is looked at if need be; else as much as a call can wait for
    whole: bool = False  # only if the embedder read both texts to their end


class Search:
    """Finds rows by the text of their requests."""

    def __init__(
        self,
        store: RecordStore,
        neighbours: Neighbours,
        embeddings: EmbeddingService | None,
        lexical: LexicalIndex,
        notices: Notices,
    ) -> None:
        self._store = store
        self._neighbours = neighbours
        self._embeddings = embeddings
        self._lexical = lexical
        self._notices = notices

    @property
    def ready(self) -> bool:
        """Whether texts can be embedded without waiting for a model."""
        return self._embeddings is not None and self._embeddings.ready

    def loading(self, wanted: Wanted) -> Future[Embedder] | None:
        """What is waited for before the text can be embedded; None: nothing.

        With nothing to compare with nobody waits, but the next one will: the loading begins.
        """
        service = self._embeddings
        if service is None or service.ready:
            return None
        made = service.begin()
        return None if made.done() or not self.anything(wanted) else made

    def patience(self) -> float:
        """How much longer a decorated call may wait for that."""
        return 0.0 if self._embeddings is None else self._embeddings.patience()

    def prepared(self, wanted: Wanted) -> bool:
        """Whether a call that looks for this has anything to embed its text for; then the embedder is there.

        It is waited for as long as `patience` allows.

        Raises:
            ConfigurationError: this manager has no index or no embedder.
            StillLoadingError: the embedder is not there yet.
            EmbedderError: it cannot be had.
            StoreError: the store failed.
        """
        service = self._embeddings
        if service is None:
            raise ConfigurationError(
                "nothing can be similar with index='none://' or embedder='none'; use another of these"
            )
        if not service.ready:
            service.begin()
        if not self.anything(wanted):
            return False
        if not service.ready:
            service.wait(self.patience())
        return True

    def embedded(self, wanted: Wanted, timeout_s: float) -> Embedded | None:
        """The text's vector; None where it was to be read whole and was not.

        Raises:
            EmbedderError: the text could not be embedded within the time-out.
        """
        assert self._embeddings is not None
        embedded = self._embeddings.embed([wanted.text], timeout_s)
        if wanted.whole and not embedded.whole[0]:
            self._tell_of_unknown_words(wanted, embedded)
            return None
        return embedded

    def comparable(self, wanted: Wanted, embedded: Embedded, timeout_s: float) -> list[Match]:
        """As `nearest`; where two texts share most of what they say, the similarity is that of what they do not share.

        Raises:
            EmbedderError: that could not be embedded within the time-out.
            StoreError: the store failed.
        """
        if len(wanted.text) < LEAST:
            return self.nearest(wanted, embedded)
        # Who shares the most is not who asks the same: more are compared than are wanted.
        nearest = self.nearest(replace(wanted, limit=wanted.limit + _SPARE), embedded)
        return self._by_what_differs(wanted, nearest, timeout_s)[: wanted.limit]

    def _by_what_differs(self, wanted: Wanted, matches: list[Match], timeout_s: float) -> list[Match]:
        """The matches with the similarity of what they do not share with the text, where they share most of it."""
        assert self._embeddings is not None
        parts = [unshared(wanted.text, match.record.request) for match in matches]
        texts = list(dict.fromkeys(itertools.chain.from_iterable(filter(None, parts))))
        if not texts:
            return matches
        embedded = self._embeddings.embed(texts, timeout_s)
        vectors = {text: at for text, at, whole in zip(texts, embedded.vectors, embedded.whole, strict=True) if whole}
        compared = []
        for match, part in zip(matches, parts, strict=True):
            if part is None:
                compared.append(match)
            elif part[0] in vectors and part[1] in vectors:
                (cosine,) = cosines(vectors[part[0]][None], vectors[part[1]])
                compared.append(replace(match, similarity=float(cosine)))
        return _ordered(wanted, compared)

    def anything(self, wanted: Wanted) -> bool:
        """Whether there is anything to compare with; if not, nothing need be embedded."""
        function = () if wanted.function is None else (Condition("function", "", "eq", wanted.function),)
        return bool(
            self._store.count(RecordQuery(wanted.namespace, function, expired=False, quarantined=False), limit=1)
        )

    def nearest(self, wanted: Wanted, embedded: Embedded) -> list[Match]:
        """At most `limit` matches of a text that is embedded already, by falling cosine similarity.

        Raises:
            StoreError: the store failed.
        """
        self._tell_of_unknown_words(wanted, embedded)

        def find(limit: int) -> Near:
            return self._neighbours.find(
                VectorQuery(
                    namespace=wanted.namespace,
                    embedder=embedded.embedder,
                    vectors=embedded.vectors,
                    limit=limit,
                    function=wanted.function,
                    version=wanted.version,
                    reuse_scope=wanted.reuse_scope,
                )
            )

        return self._best(wanted, find, lambda ids: self._joined_by_vector(wanted, ids, embedded))

    def by_words(self, wanted: Wanted) -> list[Match]:
        """At most `limit` matches that have words in common with the text, best first; see `LexicalIndex.search`.

        Raises:
            StoreError: the store failed.
        """
        asked = WordsQuery(wanted.namespace, wanted.text, wanted.limit, wanted.function, wanted.version)
        shares: dict[str, float] = {}

        def find(limit: int, ids: Sequence[str] | None = None) -> Near:
            found = self._lexical.search(replace(asked, limit=limit, ids=ids))
            shares.update(found)
            return Near([id_ for id_, _ in found], found[-1].similarity if len(found) == limit else -math.inf)

        def join(ids: Sequence[str]) -> list[Match]:
            unknown = [id_ for id_ in ids if id_ not in shares]
            if unknown:
                find(len(unknown), unknown)
            return self._joined_by_words(wanted, [id_ for id_ in ids if id_ in shares], shares)

        return self._best(wanted, find, join)

    def by_both(self, wanted: Wanted, embedded: Embedded) -> list[Match]:
        """At most `limit` matches of either kind, by reciprocal rank fusion; the similarity is the cosine.

        Of a row that has no vector it is its share of words. (Cormack, Clarke, Büttcher: Reciprocal Rank Fusion
        outperforms Condorcet and individual Rank Learning Methods, 2009.)

        Raises:
            StoreError: the store failed.
        """
        deep = replace(wanted, limit=max(_FUSED, 2 * wanted.limit), min_similarity=None)
        by_meaning, by_words = self.nearest(deep, embedded), self.by_words(deep)
        merits: defaultdict[str, float] = defaultdict(float)
        for ranking in (by_meaning, by_words):
            for rank, match in enumerate(ranking, start=1):
                merits[match.record.id] += 1 / (_RANK_OFFSET + rank)
        meant = {match.record.id: match for match in by_meaning}
        worded = {match.record.id: match for match in by_words}
        compared = self._joined_by_vector(deep, [id_ for id_ in worded if id_ not in meant], embedded)
        cosines = {match.record.id: match.similarity for match in (*by_meaning, *compared)}
        matches = []
        for id_ in sorted(merits, key=lambda id_: -merits[id_]):
            match = meant.get(id_) or worded[id_]
            similarity = cosines.get(id_, match.similarity)
            if wanted.min_similarity is None or similarity >= wanted.min_similarity:
                by = "+".join(kind.found_by for kind in (meant.get(id_), worded.get(id_)) if kind)
                matches.append(Match(match.record, similarity, by))
        return matches[: wanted.limit]

    def start_over(self) -> None:
        """Another store lies there now: nothing that was read from the one before holds."""
        self._lexical.close()

    def _tell_of_unknown_words(self, wanted: Wanted, embedded: Embedded) -> None:
        if not all(embedded.legible):
            of_whom = "" if wanted.function is None else f" of {wanted.function}"
            self._notices.once(
                "unknown words",
                f"the embedder does not know the words of the request {wanted.text[:_SHORT]!r}{of_whom}, so what is "
                "similar to it is chance, and none of that answers it; use an embedder that reads the language: "
                f"embedder={MULTILINGUAL!r}",
            )

    def _best(
        self, wanted: Wanted, find: Callable[[int], Near], join: Callable[[list[str]], list[Match]]
    ) -> list[Match]:
        """The best of what is found that holds when it is joined; more is asked for until it is enough."""
        asked = wanted.limit + _SPARE
        while True:
            near = find(asked)
            matches = join(near.ids)[: wanted.limit]
            # Enough are not yet the nearest: of the index's, dead rows may have kept live ones out.
            complete = len(matches) == wanted.limit and matches[-1].similarity >= near.others - _ROUNDING
            below = wanted.min_similarity is not None and near.others < wanted.min_similarity - _ROUNDING
            if complete or below or near.others == -math.inf:
                return matches
            if wanted.where and asked > wanted.limit + _SPARE:
                if wanted.thorough:  # few rows meet the conditions: rank those
                    return self._among_those_that_meet(wanted, join)
                if asked >= _JOINED_AT_ONCE:
                    return matches
            asked *= _WIDER

    def _among_those_that_meet(self, wanted: Wanted, join: Callable[[list[str]], list[Match]]) -> list[Match]:
        function = () if wanted.function is None else (Condition("function", "", "eq", wanted.function),)
        query = RecordQuery(wanted.namespace, (*function, *wanted.where), expired=False, quarantined=False)
        best: list[Match] = []
        ids = (record.id for record in self._store.scan(query))
        while page := list(itertools.islice(ids, _JOINED_AT_ONCE)):
            best += join(page)
            best = sorted(best, key=lambda match: -match.similarity)[: wanted.limit]
        return best

    def _joined_by_vector(self, wanted: Wanted, ids: list[str], embedded: Embedded) -> list[Match]:
        vector = embedded.vectors[0]
        records = self._store.get_many(wanted.namespace, ids, by="id")
        stored = self._store.get_vectors(wanted.namespace, ids)
        now = now_us()
        kept = [
            (record, found.values)
            for record, found in zip(records, stored, strict=True)
            if record is not None
            and found is not None
            and found.embedder == embedded.embedder
            and sound(found.values, vector.size)
            and (found.whole or not wanted.whole)
            and _fits(record, wanted, now)
        ]
        if not kept:
            return []
        similarities = cosines(from_bytes([values for _, values in kept]), vector)
        found = zip(kept, similarities, strict=True)
        return _ordered(wanted, (Match(record, float(cosine), "semantic") for (record, _), cosine in found))

    def _joined_by_words(self, wanted: Wanted, ids: list[str], shares: Mapping[str, float]) -> list[Match]:
        records = self._store.get_many(wanted.namespace, ids, by="id")
        gone = [id_ for id_, record in zip(ids, records, strict=True) if record is None or not record.is_current]
        if gone:
            self._lexical.forget(wanted.namespace, gone)
        now = now_us()
        kept = (record for record in records if record is not None and _fits(record, wanted, now))
        return _ordered(wanted, (Match(record, shares[record.id], "lexical") for record in kept))


def _ordered(wanted: Wanted, matches: Iterable[Match]) -> list[Match]:
    """Those that are similar enough, by falling similarity; of equal ones the first stays first."""
    kept = (match for match in matches if wanted.min_similarity is None or match.similarity >= wanted.min_similarity)
    return sorted(kept, key=lambda match: -match.similarity)


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
