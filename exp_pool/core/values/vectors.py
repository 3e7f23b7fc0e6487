"""Vectors of unit length, float32: cosine similarity is then one product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from exp_pool.errors import EmbedderError

_NOT_UNIT = 1e-3
_ROUNDED = 1e-6  # eight steps of single precision below 1; a few hundred products come to two or three
_BYTES = np.dtype("<f4")  # stored little endian, whatever the machine


def to_unit(vectors: Any, count: int) -> np.ndarray:
    """(count, d) float32 of unit length, from whatever an embedder returned for `count` texts.

    Raises:
        EmbedderError: another shape, something that is no finite number, or a vector of length zero.
    """
    try:
        array = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as err:
        raise EmbedderError(
            f"the embedder returned {type(vectors).__name__}, not vectors of one length: {err}"
        ) from err
    if array.ndim != 2 or array.shape[0] != count or array.shape[1] == 0:  # noqa: PLR2004  (rows and columns)
        raise EmbedderError(
            f"the embedder returned shape {array.shape} for {count} texts; expected ({count}, dimension)"
        )
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise EmbedderError("the embedder returned NaN or infinity")
    if not lengths.all():
        raise EmbedderError("the embedder returned a vector of length zero, which is similar to nothing")
    unit: np.ndarray = array / lengths
    return unit


def cosines(vectors: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """(n,) cosines of unit vectors with one: at most 1, and 1 of what differs in nothing but rounding.

    Or a text would be less similar to itself than 1, and whoever asks for 1 would not find it.
    """
    found: np.ndarray = np.clip(vectors @ vector, -1.0, 1.0)
    found[found >= 1.0 - _ROUNDED] = 1.0
    return found


def to_bytes(vector: np.ndarray) -> bytes:
    """A vector as it is stored."""
    return np.ascontiguousarray(vector, dtype=_BYTES).tobytes()


def from_bytes(values: Sequence[bytes]) -> np.ndarray:
    """(n, d) float32 of n stored vectors of one dimension."""
    return np.frombuffer(b"".join(values), dtype=_BYTES).reshape(len(values), -1).astype(np.float32, copy=False)


def sound(values: bytes, dimension: int) -> bool:
    """Whether these are still the bytes of a unit vector: damage makes others, which may be similar to everything."""
    if len(values) != dimension * _BYTES.itemsize:
        return False
    vector = np.frombuffer(values, dtype=_BYTES)
    return bool(abs(float(vector @ vector) - 1.0) < _NOT_UNIT)  # false for NaN


def top(similarities: np.ndarray, limit: int) -> np.ndarray:
    """Positions of the largest values, largest first; ties in the order in which they stand."""
    if limit < similarities.size:
        cut = np.argpartition(-similarities, limit - 1)[:limit]
        cut.sort()
    else:
        cut = np.arange(similarities.size)
    return cut[np.argsort(-similarities[cut], kind="stable")]


class VectorTable:
    """Vectors of one namespace and embedder in memory, with what they are filtered by. Not thread-safe.

    float32: numpy multiplies float16 forty times slower, for want of instructions.

    Args:
        start: the position in the store's changes after which it begins.
    """

    def __init__(self, start: int = 0) -> None:
        self.start = self.position = start
        self._ids: list[str] = []
        self._row_of: dict[str, int] = {}
        self._matrix = np.empty((0, 0), dtype=np.float32)
        self._labels = np.empty((0, 3), dtype=np.int64)  # function, version, reuse scope: a number for each text
        self._numbers: dict[tuple[int, str], int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def nbytes(self) -> int:
        """Bytes of memory, about: ids and numbers of rows are objects, which have some hundred."""
        return self._matrix.nbytes + self._labels.nbytes + 250 * len(self._ids)

    def put_many(self, rows: Sequence[tuple[str, bytes, tuple[str, str, str]]]) -> None:
        """Add or replace rows: id, vector, and labels of each. A page at once is ten times faster than one by one."""
        if not rows:
            return
        vectors = from_bytes([values for _, values, _ in rows])
        self._reserve(len(self._ids) + len(rows), vectors.shape[1])
        places = []
        for id_, _, _ in rows:
            place = self._row_of.get(id_)
            if place is None:
                place = self._row_of[id_] = len(self._ids)
                self._ids.append(id_)
            places.append(place)
        self._matrix[places] = vectors
        numbers = self._numbers
        self._labels[places] = [
            [numbers.setdefault((column, text), len(numbers)) for column, text in enumerate(labels)]
            for _, _, labels in rows
        ]

    def remove(self, id_: str) -> None:
        """Forget a row: the last one takes its place, so the matrix stays dense."""
        row = self._row_of.pop(id_, None)
        if row is None:
            return
        last = self._ids.pop()
        if last != id_:
            self._ids[row] = last
            self._row_of[last] = row
            self._matrix[row] = self._matrix[len(self._ids)]
            self._labels[row] = self._labels[len(self._ids)]

    def nearest(
        self, query: np.ndarray, limit: int, labels: Iterable[str | None] = (None, None, None)
    ) -> list[tuple[str, float]]:
        """The ids most similar to a vector, nearest first, with their cosines.

        Args:
            query: (d,) float32 of unit length.
            limit: how many at most.
            labels: function, version and reuse scope that rows must have; None: any.
        """
        count = len(self._ids)
        if not count or query.size != self._matrix.shape[1]:
            return []
        chosen = None
        for column, text in enumerate(labels):
            if text is not None:
                number = self._numbers.get((column, text), -1)
                match = self._labels[:count, column] == number
                chosen = match if chosen is None else chosen & match
        if chosen is None:
            similarities = self._matrix[:count] @ query
            return [(self._ids[row], float(similarities[row])) for row in top(similarities, limit)]
        rows = np.flatnonzero(chosen)
        similarities = self._matrix[rows] @ query
        return [(self._ids[rows[at]], float(similarities[at])) for at in top(similarities, limit)]

    def _reserve(self, rows: int, dimension: int) -> None:
        """Room for so many rows and a quarter more, so that adding one costs the same at any size."""
        if rows > self._matrix.shape[0]:
            capacity = max(64, rows + rows // 4)
            matrix = np.empty((capacity, dimension), dtype=np.float32)
            labels = np.empty((capacity, 3), dtype=np.int64)
            kept = len(self._ids)
            if kept:
                matrix[:kept] = self._matrix[:kept]
                labels[:kept] = self._labels[:kept]
            self._matrix, self._labels = matrix, labels
