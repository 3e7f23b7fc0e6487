"""Clusters of requests with keywords (k-means), and outliers among them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exp_pool.core.tokenizer import words
from exp_pool.curation.near_duplicates import RowNumbers, k_means, nearest_centres
from exp_pool.curation.review.frame import at_least, one_of, review_frame, scan_rows, short
from exp_pool.curation.review.vectors import stored_vectors
from exp_pool.errors import InvalidInputError

if TYPE_CHECKING:
    import pandas as pd

    from exp_pool.api.manager import ExpManager

_MOST, _LEAST = 30, 2  # clusters, by default: more than a person looks at are of no use
_KEYWORDS = 3
_ROUNDS = 10  # of k-means; later ones move one request in a hundred
_DIMENSIONS = 64  # of words, made fewer by their occurring together
_FEATURES = 2**16
_LONGEST = 2000  # letters of a request that say what it is about
_NEIGHBOURS = 5  # the similarity to this one is how near a request is to others
_COMPARED = 10_000  # of more requests each is compared with a sample of so many
_BLOCK = 1024
_FENCE = 1.5


def clusters(
    manager: ExpManager, where: Mapping[str, Any] | None = None, *, count: int | None = None, by: str = "meaning"
) -> pd.DataFrame:
    """Clusters of experiences by their requests: the largest first, in each the most typical requests first.

    Clusters are made by k-means; their labels are the words that stand in them more often than elsewhere (class-based
    TF-IDF: Grootendorst, "BERTopic", 2022).

    Args:
        manager: whose pool.
        where: conditions, as in queries.
        count: how many clusters; by default the root of half the number of requests, 30 at most.
        by: ``"meaning"``: stored vectors (pending rows are embedded first); or ``"words"``, without any.

    Returns:
        a frame with ``found.cluster`` (0 is the largest), ``found.label``, ``found.size``, ``found.similarity`` to the
        middle of its cluster, and ``found.reason``.

    Raises:
        InvalidInputError: a value that cannot be, or `by` meaning in a pool without vectors.
        ConfigurationError: pandas is not installed.
        EmbedderError, StoreError: pending rows cannot be embedded; the store failed.
    """
    one_of("by", by, ("meaning", "words"))
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise InvalidInputError(f"count={count!r} must be a whole number of at least 1")
    pool, records = scan_rows(manager, where, "reading requests")
    ids, texts = _read(records)
    names = ("reason", "cluster", "label", "size", "similarity")
    if not ids:
        return review_frame(pool, {}, names)
    if by == "words":
        places, vectors = np.arange(len(ids)), _by_words(texts)
    else:
        meaning = stored_vectors(pool, ids)
        places, vectors = meaning.places, meaning.vectors
    wanted = count or max(_LEAST, min(_MOST, round(math.sqrt(len(places) / 2))))
    cluster, similarity = _k_means(vectors, min(wanted, len(places)))
    labels = keywords([texts[place] for place in places], cluster)
    sizes = np.bincount(cluster)
    order = np.lexsort((-similarity, cluster))
    notes = {
        ids[places[at]]: {
            "reason": f"{sizes[cluster[at]]:,} requests about {labels[cluster[at]]}",
            "cluster": int(cluster[at]),
            "label": labels[cluster[at]],
            "size": int(sizes[cluster[at]]),
            "similarity": float(similarity[at]),
        }
        for at in order
    }
    return review_frame(pool, notes, names)


def outliers(
    manager: ExpManager, where: Mapping[str, Any] | None = None, *, share: float | None = None
) -> pd.DataFrame:
    """Outliers: experiences whose requests are unlike the others (junk, another language, a new subject).

    How near a request is to others is its cosine to the fifth nearest of them (Ramaswamy, Rastogi, Shim, "Efficient
    algorithms for mining outliers", 2000); an outlier lies below the lower quartile by more than 1.5 times the distance
    of the quartiles (Tukey), which is rare where requests are about everything; then say which
    share to look at. Of more than 10,000 requests each is compared with a sample of so many.

    Args:
        manager: whose pool.
        where: conditions, as in queries; by ``{"function": f}`` those of one function are compared.
        share: of all requests, so many, whether they lie outside or not; 0 to 1.

    Returns:
        a frame with ``found.reason``, ``found.similarity`` (to the fifth nearest) and ``found.nearest``, an id.

    Raises:
        InvalidInputError: an unknown field in `where`, a `share` that cannot be, or a pool without vectors.
        ConfigurationError: pandas is not installed.
        EmbedderError, StoreError: pending rows cannot be embedded; the store failed.
    """
    if share is not None:
        at_least("share", share, 0.0, 1.0)
    pool, records = scan_rows(manager, where, "reading requests")
    ids, texts = _read(records)
    notes: dict[str, dict[str, Any]] = {}
    meaning = stored_vectors(pool, ids)
    if len(meaning.places) > _NEIGHBOURS:
        similarity, nearest = _to_others(meaning.vectors)
        low, high = np.quantile(similarity, [0.25, 0.75])
        outside = np.count_nonzero(similarity < low - _FENCE * (high - low))
        for at in np.argsort(similarity, kind="stable")[: outside if share is None else round(share * len(similarity))]:
            near = int(meaning.places[nearest[at]])
            notes[ids[meaning.places[at]]] = {
                "reason": f"unlike the others; the nearest is {short(texts[near])}",
                "similarity": float(similarity[at]),
                "nearest": ids[near],
            }
    return review_frame(pool, notes, ("reason", "similarity", "nearest"))


def keywords(texts: Sequence[str], cluster: RowNumbers) -> list[str]:
    """Keywords of each cluster: words more frequent in it than elsewhere, without numbers and English stop words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    counts: list[Counter[str]] = [Counter() for _ in range(int(cluster.max(initial=-1)) + 1)]
    for text, number in zip(texts, cluster.tolist(), strict=True):
        said = set(words(text)) - ENGLISH_STOP_WORDS
        counts[number].update(word for word in said if not word.isdigit() and len(word) > 1)
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    usual = total.total() / max(1, len(counts))
    labels = []
    for count in counts:
        weight = {word: often * math.log1p(usual / total[word]) for word, often in count.items()}
        best = sorted(weight, key=lambda word: (-weight[word], word))[:_KEYWORDS]
        labels.append(", ".join(best) or "no words")
    return labels


def _read(records: Any) -> tuple[list[str], list[str]]:
    ids: list[str] = []
    texts: list[str] = []
    for record in records:
        ids.append(record.id)
        texts.append(record.request[:_LONGEST])
    return ids, texts


def _by_words(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """(n, d) vectors by latent semantic analysis (Deerwester and others, 1990)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    counted = HashingVectorizer(analyzer=words, n_features=_FEATURES, alternate_sign=False, norm=None).transform(texts)
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(counted)
    dimensions = min(_DIMENSIONS, len(texts) - 1)
    if dimensions < 1 or not weighted.nnz:
        return np.ones((len(texts), 1), dtype=np.float32)
    vectors = TruncatedSVD(dimensions, random_state=0).fit_transform(weighted).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return unit


def _k_means(vectors: npt.NDArray[np.float32], count: int) -> tuple[RowNumbers, npt.NDArray[np.float32]]:
    """(n,) number of each row's cluster, the largest is 0; (n,) cosine to its centre."""
    middles = k_means(vectors, count, rounds=_ROUNDS)
    home = nearest_centres(vectors, middles, 1)[:, 0]
    found, home, sizes = np.unique(home, return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(-sizes, kind="stable"), kind="stable")
    similarity: npt.NDArray[np.float32] = np.einsum("ij,ij->i", vectors, middles[found][home])
    return rank[home], similarity


def _to_others(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], RowNumbers]:
    """(n,) the cosine to the fifth nearest other; (n,) which one is the nearest."""
    count = len(vectors)
    sample = np.arange(count)
    if count > _COMPARED:
        sample = np.sort(np.random.default_rng(0).choice(count, _COMPARED, replace=False))
    others = vectors[sample]
    fifth = np.empty(count, dtype=np.float32)
    nearest = np.empty(count, dtype=np.int64)
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, count))
        similar = vectors[rows] @ others.T
        similar[rows[:, None] == sample[None, :]] = -np.inf  # itself
        nearest[rows] = sample[similar.argmax(axis=1)]
        fifth[rows] = np.partition(similar, len(sample) - _NEIGHBOURS, axis=1)[:, len(sample) - _NEIGHBOURS]
    return fifth, nearest
