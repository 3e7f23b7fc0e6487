"""Similar experiences: by meaning, by words, or both; whatever an index finds is joined back to the record store.

The join is where the store's authority shows: whatever an index answers, a row is only returned if the store has it,
current, fresh, trusted and in scope, with its similarity computed from the stored vector. So an index that is stale,
damaged or lying can hide a row, never serve a wrong one.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from exp_pool.core.contracts.plugs import Embedder, RecordQuery, RecordStore, VectorQuery
from exp_pool.core.filters import Condition, holds
from exp_pool.core.record import Match, Record
from exp_pool.core.values.vectors import cosines, from_bytes, sound
from exp_pool.errors import ConfigurationError
from exp_pool.reuse.boilerplate import LEAST, without_boilerplate
from exp_pool.runtime.clock import now_us
from exp_pool.runtime.notices import Notices
from exp_pool.search.embedders._sentence_models import MULTILINGUAL
from exp_pool.search.embedders.service import Embedded, EmbeddingService
from exp_pool.search.indexes.lexical import LexicalIndex, LexicalQuery
from exp_pool.search.nearest import Candidates, NearestNeighbours

_SPARE = 10  # candidates asked for beyond the limit, for those that the join drops
_JOINED_AT_ONCE = 500
_ROUNDING = 1e-5  # of similarities in single precision, by whichever library
_WIDER = 4  # how much more is asked for when the join dropped too many
_SHORT = 60  # characters of a text, in a warning
_FUSED = 50  # of each ranking at least: what stands lower in both decides nothing
# Of reciprocal rank fusion, as its authors have it. Both rankings weigh the same: with half the weight for words, 1,000
# paraphrases would find their question 1 point more often (97.2% in the first five, not 96.2%; by meaning alone 97.8%),
# but what words alone find would stand behind everything that is faintly near in meaning, an error code for example.
_RANK_OFFSET = 60


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to look for. A field that is None does not restrict.

    Attributes:
        namespace: only its rows are found.
        text: the request text that rows are compared with.
        limit: how many matches at most.
        min_similarity: the least cosine similarity, or share of words, of a match.
        function: only rows of this function.
        version: only rows of this version of the function.
        reuse_scope: only rows of this reuse scope.
        where: conditions that every match meets.
        thorough: True: if too few candidates meet `where`, rank every row that does. False: stop at 500 candidates,
            which is what a decorated call can wait for.
        whole: only rows whose text, like this one, the embedder has read to its end.
    """

    namespace: str
    text: str
    limit: int
    min_similarity: float | None = None
    function: str | None = None
    version: str | None = None
    reuse_scope: str | None = None
    where: tuple[Condition, ...] = ()
    thorough: bool = True
    whole: bool = False

    def rows(self, where: tuple[Condition, ...] = ()) -> RecordQuery:
        """The rows of the namespace, and of the function, that may be found, and that meet more conditions."""
        function = () if self.function is None else (Condition("function", "", "eq", self.function),)
        return RecordQuery(self.namespace, (*function, *where), expired=False, quarantined=False)

    def admits(self, record: Record, now: int) -> bool:
        """Whether this row may be a match at this time (microseconds)."""
        return (
            record.is_current
            and record.trust == "trusted"
            and not record.expired(now)
            and self.function in (None, record.function)
            and self.version in (None, record.version)
            and self.reuse_scope in (None, record.reuse_scope)
            and all(holds(condition, record) for condition in self.where)
        )

    def ordered(self, matches: Iterable[Match]) -> list[Match]:
        """The matches that are similar enough, by falling similarity; of equal ones the first stays first."""
        least = -math.inf if self.min_similarity is None else self.min_similarity
        return sorted((match for match in matches if match.similarity >= least), key=lambda match: -match.similarity)


class Search:
    """Finds rows by the text of their requests.

    Args:
        store: the authority, which every candidate is joined to.
        neighbours: finds candidates by their vectors.
        embeddings: makes vectors of texts; None: nothing is compared by meaning.
        lexical: finds candidates by their words.
        notices: hears of texts that the embedder cannot read.
    """

    def __init__(
        self,
        store: RecordStore,
        neighbours: NearestNeighbours,
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

    def loading(self, query: SearchQuery) -> Future[Embedder] | None:
        """What a caller must wait for before the text can be embedded; None: nothing.

        Where there are no rows to compare with, the caller does not wait, but the loading begins for the next one.
        """
        service = self._embeddings
        if service is None or service.ready:
            return None
        made = service.begin()
        return None if made.done() or not self.any_rows(query) else made

    def patience(self) -> float:
        """How many seconds a decorated call may still wait for the embedder."""
        return 0.0 if self._embeddings is None else self._embeddings.patience()

    def prepared(self, query: SearchQuery) -> bool:
        """Whether there are rows to compare with; if so, the embedder is there, for which `patience` is spent.

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
        if not self.any_rows(query):
            return False
        if not service.ready:
            service.wait(self.patience())
        return True

    def embedded(self, query: SearchQuery, timeout_s: float) -> Embedded | None:
        """The text's vector; None where it was to be read whole and was not.

        Raises:
            EmbedderError: the text could not be embedded within the time-out.
        """
        assert self._embeddings is not None
        embedded = self._embeddings.embed([query.text], timeout_s)
        if query.whole and not embedded.whole[0]:
            self._warn_of_unknown_words(query, embedded)
            return None
        return embedded

    def any_rows(self, query: SearchQuery) -> bool:
        """Whether there is a row to compare with; if not, nothing need be embedded."""
        return bool(self._store.count(query.rows(), limit=1))

    def start_over(self) -> None:
        """Forget what was read: another store lies there now."""
        self._lexical.close()

    def nearest(self, query: SearchQuery, embedded: Embedded) -> list[Match]:
        """At most `limit` matches of a text that is embedded already, by falling cosine similarity.

        Raises:
            StoreError: the store failed.
        """
        self._warn_of_unknown_words(query, embedded)
        return self._best(_ByMeaning(self._store, self._neighbours, query, embedded))

    def comparable(self, query: SearchQuery, embedded: Embedded, timeout_s: float) -> list[Match]:
        """As `nearest`; where two texts share most of what they say, the similarity is that of what they do not share.

        Args:
            query: what to look for.
            embedded: its text's vector.
            timeout_s: for embedding the parts that differ.

        Raises:
            EmbedderError: these parts could not be embedded within the time-out.
            StoreError: the store failed.
        """
        if len(query.text) < LEAST:
            return self.nearest(query, embedded)
        # Who shares the most is not who asks the same: more are compared than are wanted.
        nearest = self.nearest(replace(query, limit=query.limit + _SPARE), embedded)
        return self._by_what_differs(query, nearest, timeout_s)[: query.limit]

    def _by_what_differs(self, query: SearchQuery, matches: list[Match], timeout_s: float) -> list[Match]:
        """The matches with the similarity of what they do not share with the text, where they share most of it."""
        assert self._embeddings is not None
        parts = [without_boilerplate(query.text, match.record.request) for match in matches]
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
        return query.ordered(compared)

    def by_words(self, query: SearchQuery) -> list[Match]:
        """At most `limit` matches that have words in common with the text, best first; see `LexicalIndex.search`.

        Raises:
            StoreError: the store failed.
        """
        return self._best(_ByWords(self._store, self._lexical, query))

    def by_both(self, query: SearchQuery, embedded: Embedded) -> list[Match]:
        """At most `limit` matches of either kind, by reciprocal rank fusion; the similarity is the cosine.

        Of a row that has no vector the similarity is its share of words. (Cormack, Clarke, Büttcher: Reciprocal Rank
        Fusion outperforms Condorcet and individual Rank Learning Methods, 2009.)

        Raises:
            StoreError: the store failed.
        """
        deep = replace(query, limit=max(_FUSED, 2 * query.limit), min_similarity=None)
        by_meaning, by_words = self.nearest(deep, embedded), self.by_words(deep)
        merits: defaultdict[str, float] = defaultdict(float)
        for ranking in (by_meaning, by_words):
            for rank, match in enumerate(ranking, start=1):
                merits[match.record.id] += 1 / (_RANK_OFFSET + rank)
        meant = {match.record.id: match for match in by_meaning}
        worded = {match.record.id: match for match in by_words}
        by_vector = _ByMeaning(self._store, self._neighbours, deep, embedded)
        compared = by_vector.joined([id_ for id_ in worded if id_ not in meant])
        cosines_of = {match.record.id: match.similarity for match in (*by_meaning, *compared)}
        matches = []
        for id_ in sorted(merits, key=lambda id_: -merits[id_]):
            match = meant.get(id_) or worded[id_]
            similarity = cosines_of.get(id_, match.similarity)
            if query.min_similarity is None or similarity >= query.min_similarity:
                by = "+".join(kind.found_by for kind in (meant.get(id_), worded.get(id_)) if kind)
                matches.append(Match(match.record, similarity, by))
        return matches[: query.limit]

    def _warn_of_unknown_words(self, query: SearchQuery, embedded: Embedded) -> None:
        if not all(embedded.legible):
            of_whom = "" if query.function is None else f" of {query.function}"
            self._notices.warn_once(
                "unknown words",
                f"the embedder does not know the words of the request {query.text[:_SHORT]!r}{of_whom}, so what is "
                "similar to it is chance, and none of that answers it; use an embedder that reads the language: "
                f"embedder={MULTILINGUAL!r}",
            )

    def _best(self, ranking: _ByMeaning | _ByWords) -> list[Match]:
        """The best candidates that hold when they are joined; more are asked for until the matches are the best."""
        query = ranking.query
        asked = query.limit + _SPARE
        while True:
            candidates = ranking.candidates(asked)
            matches = ranking.joined(candidates.ids)[: query.limit]
            # Enough are not yet the nearest: of the index's, dead rows may have kept live ones out.
            bound = candidates.upper_bound
            complete = len(matches) == query.limit and matches[-1].similarity >= bound - _ROUNDING
            below = query.min_similarity is not None and bound < query.min_similarity - _ROUNDING
            if complete or below or bound == -math.inf:
                return matches
            if query.where and asked > query.limit + _SPARE:
                if query.thorough:  # few rows meet the conditions: rank those
                    return self._among_all(ranking)
                if asked >= _JOINED_AT_ONCE:
                    return matches
            asked *= _WIDER

    def _among_all(self, ranking: _ByMeaning | _ByWords) -> list[Match]:
        """The best of every row that meets the query's conditions."""
        query = ranking.query
        best: list[Match] = []
        ids = (record.id for record in self._store.scan(query.rows(query.where)))
        while page := list(itertools.islice(ids, _JOINED_AT_ONCE)):
            best += ranking.joined(page)
            best = sorted(best, key=lambda match: -match.similarity)[: query.limit]
        return best


@dataclass(slots=True)
class _ByMeaning:
    """A query's candidates by the cosine of their vectors."""

    store: RecordStore
    neighbours: NearestNeighbours
    query: SearchQuery
    embedded: Embedded

    def candidates(self, limit: int) -> Candidates:
        query = self.query
        return self.neighbours.find(
            VectorQuery(
                namespace=query.namespace,
                embedder=self.embedded.embedder,
                vectors=self.embedded.vectors,
                limit=limit,
                function=query.function,
                version=query.version,
                reuse_scope=query.reuse_scope,
            )
        )

    def joined(self, ids: Sequence[str]) -> list[Match]:
        """Those of these rows that match, with the similarity of the vectors that the store has."""
        query, vector = self.query, self.embedded.vectors[0]
        records = self.store.get_many(query.namespace, ids, by="id")
        stored = self.store.get_vectors(query.namespace, ids)
        now = now_us()
        kept = [
            (record, found.values)
            for record, found in zip(records, stored, strict=True)
            if record is not None
            and found is not None
            and found.embedder == self.embedded.embedder
            and sound(found.values, vector.size)
            and (found.whole or not query.whole)
            and query.admits(record, now)
        ]
        if not kept:
            return []
        similarities = cosines(from_bytes([values for _, values in kept]), vector)
        found = zip(kept, similarities, strict=True)
        return query.ordered(Match(record, float(cosine), "semantic") for (record, _), cosine in found)


class _ByWords:
    """A query's candidates by the words that they share with its text."""

    def __init__(self, store: RecordStore, lexical: LexicalIndex, query: SearchQuery) -> None:
        self.query = query
        self._store = store
        self._lexical = lexical
        self._shares: dict[str, float] = {}  # of each row that was found: its similarity

    def candidates(self, limit: int, ids: Sequence[str] | None = None) -> Candidates:
        query = self.query
        found = self._lexical.search(
            LexicalQuery(query.namespace, query.text, limit, query.function, query.version, ids)
        )
        self._shares.update(found)
        return Candidates([id_ for id_, _ in found], found[-1].similarity if len(found) == limit else -math.inf)

    def joined(self, ids: Sequence[str]) -> list[Match]:
        """Those of these rows that match; the index forgets those that are gone."""
        unknown = [id_ for id_ in ids if id_ not in self._shares]
        if unknown:
            self.candidates(len(unknown), unknown)
        query, ids = self.query, [id_ for id_ in ids if id_ in self._shares]
        records = self._store.get_many(query.namespace, ids, by="id")
        gone = [id_ for id_, record in zip(ids, records, strict=True) if record is None or not record.is_current]
        if gone:
            self._lexical.forget(query.namespace, gone)
        now = now_us()
        kept = (record for record in records if record is not None and query.admits(record, now))
        return query.ordered(Match(record, self._shares[record.id], "lexical") for record in kept)
