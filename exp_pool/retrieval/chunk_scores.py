"""Scores of chunks against queries: by words, by meaning, by both, or by a callable of the user's."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from exp_pool.core.tokenizer import unspaced, words
from exp_pool.errors import ConfigurationError, InvalidInputError
from exp_pool.runtime.async_bridge import call_async
from exp_pool.runtime.notices import Notices
from exp_pool.search.bm25 import damping, rarity
from exp_pool.search.embedders._sentence_models import MULTILINGUAL

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager

SCORINGS = ("overlap", "bm25", "semantic", "hybrid")

Scoring: TypeAlias = Callable[[str, list[str]], Sequence[float] | Awaitable[Sequence[float]]]
"""Gets the query and the texts of chunks, returns how well each fits: any numbers, the larger the better."""

Scores: TypeAlias = Callable[[list[str]], Awaitable[Sequence[float]]]
"""Gets the texts of chunks, returns the best score of each over the queries of one retrieval."""


def check_scoring(scoring: Any) -> None:
    """Refuse what is no scoring.

    Raises:
        ConfigurationError: it is none.
    """
    if scoring not in SCORINGS and (isinstance(scoring, str) or not callable(scoring)):
        raise ConfigurationError(
            f"scoring={scoring!r} is unknown; known: {', '.join(SCORINGS)}, or a callable(query, texts) -> numbers"
        )


async def scores_for(
    scoring: str | Scoring, queries: Sequence[str], manager: ExpManager | None, notices: Notices
) -> Scores:
    """The scoring, prepared for these queries.

    Args:
        scoring: a name of `SCORINGS`, or a callable.
        queries: the query, or several that replace it: a text gets the best score of them.
        manager: whose embedder is asked; None: that of `get_exp_manager()`.
        notices: gives warnings once.

    Raises:
        EmbedderError: a query cannot be embedded.
    """
    match scoring:
        case "overlap":
            return _Overlap(queries)
        case "bm25":
            return _BM25(queries)
        case "semantic":
            return await _Semantic.of(queries, manager, notices)
        case "hybrid":
            return _Hybrid(_BM25(queries), await _Semantic.of(queries, manager, notices))
        case _:
            assert callable(scoring)
            return partial(_of_callable, scoring, queries)


class _Overlap:
    """The share of a query's words that a text holds."""

    def __init__(self, queries: Sequence[str]) -> None:
        self._queries = [set(words(query)) for query in queries]

    async def __call__(self, texts: list[str]) -> Sequence[float]:
        return [self._best(text) for text in texts]

    def _best(self, text: str) -> float:
        there = set(words(text))
        return max(_share(query, _found(query, there, text)) for query in self._queries)


def _share(query: set[str], found: set[str]) -> float:
    return len(found) / len(query) if query else 0.0


def _found(query: set[str], there: set[str], text: str) -> set[str]:
    """The query's words in a text. A single character of a script without spaces is also found within a run."""
    return {word for word in query if word in there or (len(word) == 1 and unspaced(word) and word in text)}


class _BM25:
    """BM25 as a share of what the query itself would get.

    How rare words are, and how long chunks, is learned from the chunks scored so far: a stream has no other corpus.
    """

    def __init__(self, queries: Sequence[str]) -> None:
        self._queries = [Counter(words(query)) for query in queries]
        self._containing = Counter[str]()
        self._texts = self._length = 0

    async def __call__(self, texts: list[str]) -> Sequence[float]:
        counted = [self._counted(text) for text in texts]
        for length, counts in counted:
            self._texts += 1
            self._length += length
            self._containing.update(counts.keys())
        mean = max(1.0, self._length / self._texts)
        return [max(self._score(query, counts, length, mean) for query in self._queries) for length, counts in counted]

    def _counted(self, text: str) -> tuple[int, dict[str, int]]:
        """How many words there are, and how often those of the queries."""
        there = Counter(words(text))
        wanted = set[str]().union(*self._queries)
        return there.total(), {word: there[word] or text.count(word) for word in _found(wanted, set(there), text)}

    def _score(self, query: Counter[str], counts: dict[str, int], length: int, mean: float) -> float:
        score = itself = 0.0
        for word, times in query.items():
            weight = times * rarity(self._texts, self._containing[word])
            score += weight * counts.get(word, 0) / (counts.get(word, 0) + damping(float(length), mean))
            itself += weight * times / (times + damping(float(query.total()), mean))
        return min(1.0, score / itself) if itself else 0.0


class _Semantic:
    """The cosine similarity of embeddings, by a manager's embedder, which remembers texts of a moment ago."""

    def __init__(self, manager: ExpManager, vectors: np.ndarray, notices: Notices) -> None:
        self._manager, self._queries, self._notices = manager, vectors, notices

    @classmethod
    async def of(cls, queries: Sequence[str], manager: ExpManager | None, notices: Notices) -> _Semantic:
        if manager is None:
            from exp_pool.api.manager import get_exp_manager

            manager = await asyncio.to_thread(get_exp_manager)  # the first to ask opens the store
        return cls(manager, (await manager.embed(queries)).vectors, notices)

    async def __call__(self, texts: list[str]) -> Sequence[float]:
        embedded = await self._manager.embed(texts)
        if not all(embedded.legible):
            text = texts[embedded.legible.index(False)]
            self._notices.warn_once(
                "unknown words",
                f"the embedder does not know the words of {text[:60]!r}, so its score is chance; use an embedder that "
                f"reads the language, such as embedder={MULTILINGUAL!r}",
            )
        elif not all(embedded.whole):
            length = len(texts[embedded.whole.index(False)])
            self._notices.warn_once(
                "cut",
                f"a chunk of {length} characters is longer than the embedder reads, so "
                "its end is not scored: give AsyncRAGGenerator a smaller chunk_size",
            )
        similarities: list[float] = (embedded.vectors @ self._queries.T).max(axis=1).tolist()
        return similarities


class _Hybrid:
    """The mean of BM25 and cosine. Ranks cannot be fused, as searches do: a stream has none."""

    def __init__(self, by_words: _BM25, by_meaning: _Semantic) -> None:
        self._by_words, self._by_meaning = by_words, by_meaning

    async def __call__(self, texts: list[str]) -> Sequence[float]:
        pairs = zip(await self._by_words(texts), await self._by_meaning(texts), strict=True)
        return [(by_words + max(0.0, by_meaning)) / 2 for by_words, by_meaning in pairs]


async def _of_callable(scoring: Scoring, queries: Sequence[str], texts: list[str]) -> Sequence[float]:
    best = [-math.inf] * len(texts)
    for query in queries:
        scores = np.asarray(await call_async(scoring, query, texts), dtype=np.float64)
        if scores.shape != (len(texts),) or not np.isfinite(scores).all():
            raise InvalidInputError(
                f"scoring={scoring!r} gave shape {scores.shape} for {len(texts)} texts, or something that is no finite "
                "number; it must give one number for each text"
            )
        best = np.maximum(best, scores).tolist()
    return best
