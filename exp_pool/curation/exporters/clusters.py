"""Which experiences are too near to each other to stand on both sides of a split.

Two are in one cluster if their requests are the same but for case and spaces, share most of their letters in a row
(MinHash of 5-letter pieces: Broder, "On the resemblance and containment of documents", 1997), have vectors with a
cosine of at least `_NEAR_MEANING` where the pool has vectors, or if one was shown when the other was made. Clusters
are closed: what is near to a member belongs to it. So the same question in other words does not stand on both sides.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from exp_pool.protocols import RecordStore
from exp_pool.records import Record

_NEAR_LETTERS = 0.7  # of the pieces that two texts have together: at least this share in both
_NEAR_MEANING = 0.85  # cosine; paraphrases of all-MiniLM-L6-v2 mostly lie above 0.8
_PIECE = 5
_HASHES, _BANDS = 64, 16  # 16 bands of 4: two texts that share 0.7 of their pieces meet with 0.99
_LONGEST = 20_000  # letters of a text that are looked at
_BLOCK = 1024  # vectors compared with all others at once: 1024 x 100,000 float32 are 400 MB


class Clusters:
    """Takes rows, and splits them. About 700 bytes for each row, and its vector while meaning is compared."""

    def __init__(self, store: RecordStore, namespace: str) -> None:
        self._store, self._namespace = store, namespace
        self._ids: list[str] = []
        self._current: list[bool] = []
        self._place: dict[str, int] = {}
        self._above: list[int] = []  # union-find: each points to one of its cluster, the root to itself
        self._parents: list[tuple[int, str]] = []
        self._buckets: dict[bytes, int] = {}  # the first member with this text, or this band
        self._signatures: list[npt.NDArray[np.uint32]] = []
        generator = np.random.default_rng(0)  # fixed: the same rows make the same clusters
        self._factors = generator.integers(1, 2**32, _HASHES, dtype=np.uint64) | np.uint64(1)
        self._addends = generator.integers(0, 2**32, _HASHES, dtype=np.uint64)

    def add(self, record: Record) -> None:
        """One more row."""
        mine = len(self._ids)
        self._place[record.id] = mine
        self._ids.append(record.id)
        self._current.append(record.is_current)
        self._above.append(mine)
        self._parents += [(mine, parent) for parent in json.loads(record.parents)]
        text = " ".join(record.request.casefold().split())[:_LONGEST]
        self._join(mine, self._buckets.setdefault(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), mine))
        signature = self._signature(text)
        self._signatures.append(signature)
        for band, part in enumerate(signature.reshape(_BANDS, -1)):
            other = self._buckets.setdefault(bytes([band]) + part.tobytes(), mine)
            if other != mine and np.mean(signature == self._signatures[other]) >= _NEAR_LETTERS:
                self._join(mine, other)

    def split(self, share: float, seed: int) -> tuple[frozenset[str], dict[str, Any]]:
        """The ids of the test side, whole clusters; and what there is to know about the clusters."""
        for mine, parent in self._parents:
            if parent in self._place:
                self._join(mine, self._place[parent])
        self._join_by_meaning()
        members: dict[int, list[str]] = {}
        for place, id_ in enumerate(self._ids):
            members.setdefault(self._root(place), []).append(id_)
        test: set[str] = set()
        for ids in members.values():
            # By its own name, not in turn: what is added later does not move the others.
            name = hashlib.sha256(f"{seed}:{min(ids)}".encode("utf-8", "surrogatepass")).digest()
            if int.from_bytes(name[:8]) < share * 2**64:
                test.update(ids)
        largest = max(map(len, members.values()), default=0)
        return frozenset(test), {"clusters": len(members), "largest_cluster": largest}

    def _signature(self, text: str) -> npt.NDArray[np.uint32]:
        letters = np.frombuffer(text.ljust(_PIECE).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(
            np.uint64
        )
        pieces = np.zeros(len(letters) - _PIECE + 1, dtype=np.uint64)
        for offset in range(_PIECE):  # wraps around at 2**64, as a hash may
            pieces = pieces * np.uint64(1_000_003) + letters[offset : offset + len(pieces)]
        pieces = np.unique(pieces ^ (pieces >> np.uint64(29)))
        mixed = (self._factors[:, None] * pieces[None, :] + self._addends[:, None]) >> np.uint64(32)
        smallest: npt.NDArray[np.uint32] = mixed.min(axis=1).astype(np.uint32)
        return smallest

    def _join_by_meaning(self) -> None:
        places = [place for place, current in enumerate(self._current) if current]  # history has no vectors
        rows, vectors, owner = [], [], None
        for start in range(0, len(places), _BLOCK):
            part = places[start : start + _BLOCK]
            for place, vector in zip(
                part, self._store.get_vectors(self._namespace, [self._ids[p] for p in part]), strict=True
            ):
                owner = owner or (vector.embedder if vector else None)
                if vector is not None and vector.embedder == owner:
                    rows.append(place)
                    vectors.append(np.frombuffer(vector.values, dtype="<f4"))
        if not vectors:
            return
        matrix = np.stack(vectors)
        for start in range(0, len(rows), _BLOCK):
            near = matrix[start : start + _BLOCK] @ matrix[start:].T >= _NEAR_MEANING
            for one, other in np.argwhere(np.triu(near, k=1)):
                self._join(rows[start + one], rows[start + other])

    def _join(self, one: int, other: int) -> None:
        first, second = self._root(one), self._root(other)
        if first != second:
            self._above[max(first, second)] = min(first, second)

    def _root(self, place: int) -> int:
        while self._above[place] != place:
            self._above[place] = self._above[self._above[place]]
            place = self._above[place]
        return place
