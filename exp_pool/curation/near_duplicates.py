"""Near-duplicate search among very many texts: MinHash of their letters, or cosine of stored vectors.

Comparing all with all is hours of work at 100,000 texts, so candidates are looked for first, and only these compared.

* `MinHashSimilarity`: the share of 5-letter pieces that two texts have in common (Jaccard). Candidates are those whose
  MinHash signatures meet in a band (Broder, "On the resemblance and containment of documents", 1997; banding: Leskovec,
  Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3); these are compared piece by piece.
* `VectorSimilarity`: the cosine of two vectors. Up to `_ALL_WITH_ALL` of them all are compared; of more, each only with
  those of the nearest cells (inverted file: Sivic, Zisserman, "Video Google", 2003).

`Groups` are made of what is near, directly or through others. Everything is the same each time it is asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from exp_pool.core.contracts.plugs import RecordStore
from exp_pool.core.values.vectors import from_bytes
from exp_pool.runtime.progress import watched

RowNumbers: TypeAlias = npt.NDArray[np.int64]
"""Numbers of rows."""
Apart: TypeAlias = Callable[[Any, Any], Any]
"""Whether pairs are still worth a look; called with two arrays of places that fit together (broadcast)."""

_PIECE = 5
_LONGEST = 20_000  # letters of a text that are looked at
_SKETCH = 512  # pieces kept of a text: all of most; of longer ones the smallest hashes, a fair sample (error 0.02)
_HASHES = 64
_SURE = 0.15  # by which 64 hashes may err: 2.6 standard deviations at 0.7
_WINDOW = 100  # of those that meet in a band each is compared with so many
_COMPARED_AT_ONCE = 100_000  # pairs

_ALL_WITH_ALL = 20_000  # vectors: 5 s on two cores
_BLOCK = 1024  # vectors compared with all others at once: 1024 x 100,000 float32 are 400 MB
_PROBES = 5  # cells that are looked into
_SAMPLE = 20  # vectors for each cell, among which the first middles are
_MANY = 200_000  # near pairs of a block; more are joined in two steps


class SimilarityMeasure(Protocol):
    """Measure that compares rows by their numbers."""

    def pairs(self, least: float, apart: Apart) -> Iterator[tuple[RowNumbers, RowNumbers]]:
        """Pairs of at least this similarity for which `apart` holds; some may come twice."""
        ...

    def similarity(self, one: RowNumbers, other: RowNumbers) -> npt.NDArray[np.float32]:
        """Similarity of each pair; 0 where it is unknown."""
        ...


class Groups:
    """Disjoint groups of rows: `of` holds a number for each row, the same within a group."""

    def __init__(self, count: int) -> None:
        self.of: RowNumbers = np.arange(count)

    def join_near(self, measure: SimilarityMeasure, least: float, differ: Apart | None = None) -> None:
        """Join rows that are similar.

        Args:
            measure: compares rows.
            least: the least similarity.
            differ: joins only pairs for which this holds.
        """

        def apart(one: Any, other: Any) -> Any:
            separate = self.of[one] != self.of[other]
            return separate if differ is None else separate & differ(one, other)

        for one, other in measure.pairs(least, apart):
            self.join(one, other)

    def join(self, one: RowNumbers, other: RowNumbers) -> None:
        """Join the groups of these pairs."""
        if not len(one):
            return
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        count = int(self.of.max()) + 1
        edges = np.ones(len(one), dtype=np.int32), (self.of[one], self.of[other])
        _, found = connected_components(coo_matrix(edges, shape=(count, count)), directed=False)
        self.of = found.astype(np.int64)[self.of]


def plain(text: str) -> str:
    """Text without differences of case and spaces."""
    return " ".join(text.casefold().split())


class MinHashSimilarity:
    """Similarity of texts by their letters (Jaccard, MinHash), but for case and spaces. At most 5 KB for each text.

    Only texts of the same scope are near to each other.
    """

    def __init__(self) -> None:
        self._signatures: list[npt.NDArray[np.uint32]] = []
        self._sketches: list[npt.NDArray[np.uint32]] = []
        self._scopes: list[int] = []
        self._rows: Any = None
        generator = np.random.default_rng(0)  # fixed: the same rows make the same groups
        self._factors = generator.integers(1, 2**32, _HASHES, dtype=np.uint64) | np.uint64(1)
        self._addends = generator.integers(0, 2**32, _HASHES, dtype=np.uint64)
        self._spread = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio (Knuth, volume 3, 6.4): the high bits mix

    def __len__(self) -> int:
        return len(self._scopes)

    def add(self, text: str, scope: int = 0) -> None:
        """Add a text; its number is the next one."""
        letters = np.frombuffer(
            plain(text)[:_LONGEST].ljust(_PIECE).encode("utf-32-le", "surrogatepass"), dtype=np.uint32
        ).astype(np.uint64)
        pieces = np.zeros(len(letters) - _PIECE + 1, dtype=np.uint64)
        for offset in range(_PIECE):  # wraps around at 2**64, as a hash may
            pieces = pieces * np.uint64(1_000_003) + letters[offset : offset + len(pieces)]
        sketch = np.unique((pieces ^ (pieces >> np.uint64(29))) * self._spread)[:_SKETCH]
        mixed = (self._factors[:, None] * sketch[None, :] + self._addends[:, None]) >> np.uint64(32)
        self._signatures.append(mixed.min(axis=1).astype(np.uint32))
        self._sketches.append(np.unique((sketch >> np.uint64(32)).astype(np.uint32)))
        self._scopes.append(scope)
        self._rows = None

    def pairs(self, least: float, apart: Apart) -> Iterator[tuple[RowNumbers, RowNumbers]]:
        """Similar pairs. Of those with a similarity of 0.7, 99 in 100 meet in a band; the nearer, the surer."""
        if len(self) < 2:  # noqa: PLR2004
            return
        signatures, scopes = np.stack(self._signatures), np.array(self._scopes)
        width = 4 if least >= 0.7 else 3 if least >= 0.5 else 2  # noqa: PLR2004  (16, 21 or 32 bands)
        for start in watched(range(0, _HASHES - width + 1, width), "comparing letters", _HASHES // width):
            # In a band those with more hashes in common stand together: the window finds them first.
            columns = [signatures[:, (start + at) % _HASHES] for at in reversed(range(width + 3))]
            order = np.lexsort([*columns, scopes])
            band = np.column_stack([scopes[order], signatures[order, start : start + width]])
            meets = (band[1:] == band[:-1]).all(axis=1)
            bucket = np.cumsum(np.concatenate([[0], ~meets]))
            for shift in range(1, _WINDOW + 1):
                same = np.flatnonzero(bucket[shift:] == bucket[:-shift])
                if not len(same):
                    break
                yield from self._near(order[same], order[same + shift], signatures, least, apart)

    def _near(
        self, one: RowNumbers, other: RowNumbers, signatures: npt.NDArray[np.uint32], least: float, apart: Apart
    ) -> Iterator[tuple[RowNumbers, RowNumbers]]:
        for start in range(0, len(one), _COMPARED_AT_ONCE):
            these, those = one[start : start + _COMPARED_AT_ONCE], other[start : start + _COMPARED_AT_ONCE]
            worth = apart(these, those)
            these, those = these[worth], those[worth]
            likely = (signatures[these] == signatures[those]).mean(axis=1) >= least - _SURE
            these, those = these[likely], those[likely]
            near = self.similarity(these, those) >= least
            yield these[near], those[near]

    def similarity(self, one: RowNumbers, other: RowNumbers) -> npt.NDArray[np.float32]:
        """Share of the pieces of two texts that both have."""
        if not len(one):
            return np.empty(0, dtype=np.float32)
        if self._rows is None:
            self._rows = _Sketches(self._sketches)
        similar: npt.NDArray[np.float32] = self._rows.similarity(one, other)
        return similar


class _Sketches:
    """The smallest hashes of texts, as rows of a matrix (Bar-Yossef and others, "Counting distinct elements", 2002)."""

    def __init__(self, sketches: Sequence[npt.NDArray[np.uint32]]) -> None:
        from scipy.sparse import csr_matrix

        lengths = np.array([len(sketch) for sketch in sketches])
        hashes = np.concatenate(sketches).astype(np.int64)
        self._ends = np.concatenate([[0], np.cumsum(lengths)])
        self._matrix = csr_matrix((np.ones(len(hashes), dtype=np.int16), hashes, self._ends), (len(sketches), 2**32))
        self._sorted = np.repeat(np.arange(len(sketches)) << 32, lengths) | hashes
        # A text is known up to its largest hash, or as a whole: two are compared up to where both are known.
        self._known = np.where(lengths < _SKETCH, 2**32 - 1, hashes[self._ends[1:] - 1])

    def similarity(self, one: RowNumbers, other: RowNumbers) -> npt.NDArray[np.float32]:
        common = np.asarray(self._matrix[one].multiply(self._matrix[other]).sum(axis=1)).ravel()
        known = np.minimum(self._known[one], self._known[other])
        either = self._count(one, known) + self._count(other, known) - common
        shares: npt.NDArray[np.float32] = (common / either).astype(np.float32)
        return shares

    def _count(self, places: RowNumbers, known: RowNumbers) -> RowNumbers:
        counts: RowNumbers = np.searchsorted(self._sorted, places << 32 | known, side="right") - self._ends[places]
        return counts


class VectorSimilarity:
    """Similarity of rows by the cosine of their vectors.

    Args:
        vectors: (n, d) float32 of unit length.
        places: (n,) whose they are; other rows are near to nothing.
        scopes: (n,) only those of the same scope are near to each other.
    """

    def __init__(self, vectors: npt.NDArray[np.float32], places: RowNumbers, scopes: RowNumbers | None = None) -> None:
        self.vectors, self.places = vectors, places
        self._scopes = np.zeros(len(places), dtype=np.int64) if scopes is None else scopes
        self._at = np.full(int(places.max(initial=-1)) + 2, -1)  # the last one stands for all that lie beyond
        self._at[places] = np.arange(len(places))

    @classmethod
    def stored(
        cls,
        store: RecordStore,
        namespace: str,
        ids: Sequence[str],
        places: RowNumbers,
        scopes: RowNumbers | None = None,
        *,
        whole: bool = False,
    ) -> Self:
        """Similarity by the stored vectors of these rows, those of the embedder that made most of them.

        With `whole` only those of texts that it read whole: of others it knows a part, which many may share.

        Args:
            store: where the vectors are.
            namespace: of the rows.
            ids: (n,) of the rows.
            places: (n,) their numbers.
            scopes: (n,) see the class.
            whole: only vectors of texts that the embedder read whole.
        """
        partitions = store.partitions(namespace)
        owner = (
            max(partitions, key=lambda partition: (partitions[partition], partition.embedder)).embedder
            if partitions
            else None
        )
        known: list[int] = []
        values: list[bytes] = []
        for start in range(0, len(ids) if partitions else 0, _BLOCK):
            found = store.get_vectors(namespace, ids[start : start + _BLOCK])
            for at, vector in enumerate(found, start):
                if vector is not None and vector.embedder == owner and (vector.whole or not whole):
                    known.append(at)
                    values.append(vector.values)
        vectors = from_bytes(values) if values else np.empty((0, 0), dtype=np.float32)
        return cls(vectors, places[known], None if scopes is None else scopes[known])

    def pairs(self, least: float, apart: Apart) -> Iterator[tuple[RowNumbers, RowNumbers]]:
        """Similar pairs of one scope."""
        order = np.argsort(self._scopes, kind="stable")
        edges = np.flatnonzero(np.diff(self._scopes[order])) + 1
        for rows in np.split(order, edges):
            if len(rows) > 1:
                blocks = _all_with_all if len(rows) <= _ALL_WITH_ALL else _near_cells
                for these, those in blocks(self.vectors[rows]):
                    yield from self._near(rows[these], rows[those], least, apart)

    def _near(
        self, these: RowNumbers, those: RowNumbers, least: float, apart: Apart
    ) -> Iterator[tuple[RowNumbers, RowNumbers]]:
        near = self.vectors[these] @ self.vectors[those].T >= least
        one, other = self.places[these], self.places[those]
        if np.count_nonzero(near) > _MANY:  # by one of its neighbours each first; that leaves few that are apart
            near &= apart(one[:, None], other[None, :])
            first, found = near.argmax(axis=0), near.any(axis=0)
            yield one[first[found]], other[found]
            near &= apart(one[:, None], other[None, :])
        left, right = np.nonzero(near)
        worth = apart(one[left], other[right])
        yield one[left[worth]], other[right[worth]]

    def similarity(self, one: RowNumbers, other: RowNumbers) -> npt.NDArray[np.float32]:
        """Cosine of each pair."""
        left, right = self._row(one), self._row(other)
        found: npt.NDArray[np.float32] = np.zeros(len(one), dtype=np.float32)
        for start in range(0, len(one), _COMPARED_AT_ONCE):
            part = slice(start, start + _COMPARED_AT_ONCE)
            found[part] = np.einsum("ij,ij->i", self.vectors[left[part]], self.vectors[right[part]])
        return np.where((left < 0) | (right < 0), np.float32(0), found)

    def _row(self, places: RowNumbers) -> RowNumbers:
        return self._at[np.minimum(places, len(self._at) - 1)]


def _all_with_all(vectors: npt.NDArray[np.float32]) -> Iterator[tuple[RowNumbers, RowNumbers]]:
    rows = np.arange(len(vectors))
    for start in watched(range(0, len(rows), _BLOCK), "comparing vectors", math.ceil(len(rows) / _BLOCK)):
        yield rows[start : start + _BLOCK], rows[start:]


def _near_cells(vectors: npt.NDArray[np.float32]) -> Iterator[tuple[RowNumbers, RowNumbers]]:
    """Vectors of each cell with all vectors that have the cell among their nearest ones."""
    nearest = nearest_centres(vectors, k_means(vectors, math.isqrt(len(vectors))), _PROBES)
    order = np.argsort(nearest[:, 0], kind="stable")
    visits = np.argsort(nearest, axis=None, kind="stable")
    homes, guests = nearest[order, 0], nearest.ravel()[visits]
    for cell in watched(range(int(nearest.max()) + 1), "comparing vectors", int(nearest.max()) + 1):
        at_home = order[slice(*np.searchsorted(homes, [cell, cell + 1]))]
        visitors = visits[slice(*np.searchsorted(guests, [cell, cell + 1]))] // nearest.shape[1]
        for start in range(0, len(visitors), _BLOCK):
            yield visitors[start : start + _BLOCK], at_home


def k_means(vectors: npt.NDArray[np.float32], count: int, rounds: int = 3) -> npt.NDArray[np.float32]:
    """K-means by cosine: (count, d) centres of unit length.

    It begins with vectors of a sample that are far from each other (Arthur, Vassilvitskii, "k-means++", 2007).

    Args:
        vectors: (n, d) float32 of unit length.
        count: how many centres.
        rounds: of k-means over all vectors; the first centres come from a sample.
    """
    random = np.random.default_rng(0)
    sample = vectors[random.choice(len(vectors), min(len(vectors), _SAMPLE * count), replace=False)]
    middles = np.empty((count, vectors.shape[1]), dtype=np.float32)
    far = np.ones(len(sample))
    for cell in range(count):
        middles[cell] = sample[np.searchsorted(np.cumsum(far), random.random() * far.sum())]
        far = np.minimum(far, np.maximum(1e-9, 1 - sample @ middles[cell]))
    for _ in range(rounds):
        home = nearest_centres(vectors, middles, 1)[:, 0]
        for cell, rows in enumerate(np.split(np.argsort(home, kind="stable"), np.cumsum(np.bincount(home))[:-1])):
            length = np.linalg.norm(middle := vectors[rows].sum(axis=0))
            if length > 0:
                middles[cell] = middle / length
    return middles


def nearest_centres(
    vectors: npt.NDArray[np.float32], centres: npt.NDArray[np.float32], count: int
) -> npt.NDArray[np.int64]:
    """(n, count) numbers of the nearest centres, the nearest one first.

    Args:
        vectors: (n, d) float32.
        centres: (m, d) float32.
        count: how many of them for each vector.
    """
    count = min(count, len(centres))
    found = np.empty((len(vectors), count), dtype=np.int64)
    for start in range(0, len(vectors), _BLOCK):
        similar = vectors[start : start + _BLOCK] @ centres.T
        some = np.argpartition(-similar, count - 1, axis=1)[:, :count]
        by = np.argsort(-np.take_along_axis(similar, some, axis=1), axis=1, kind="stable")
        found[start : start + _BLOCK] = np.take_along_axis(some, by, axis=1)
    return found
