"""Train and test split without leakage: similar experiences are clustered, and a cluster goes to one side.

Two experiences are in one cluster if their requests are the same but for case and spaces, or share most of their
letters in a row, or have vectors with a cosine of at least `_NEAR_MEANING` where the pool has vectors, or if one was
shown when the other was made (`curation.near_duplicates` compares them). Clusters are closed: what is near to a member
belongs to it. So the same question in other words does not stand on both sides.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from exp_pool.core.contracts.plugs import RecordStore
from exp_pool.core.record import Record
from exp_pool.curation.near_duplicates import Groups, MinHashSimilarity, VectorSimilarity

_NEAR_LETTERS = 0.7  # of the pieces that two texts have together: at least this share in both
_NEAR_MEANING = 0.85  # cosine; paraphrases of all-MiniLM-L6-v2 mostly lie above 0.8


class Clusters:
    """Collects rows and splits them by cluster. It needs 5 KB for a row at most, and vectors while it compares them."""

    def __init__(self, store: RecordStore, namespace: str) -> None:
        self._store, self._namespace = store, namespace
        self._ids: list[str] = []
        self._current: list[bool] = []
        self._place: dict[str, int] = {}
        self._parents: list[tuple[int, str]] = []
        self._letters = MinHashSimilarity()

    def add(self, record: Record) -> None:
        """Add a row."""
        mine = len(self._ids)
        self._place[record.id] = mine
        self._ids.append(record.id)
        self._current.append(record.is_current)
        self._parents += [(mine, parent) for parent in json.loads(record.parents)]
        self._letters.add(record.request)

    def split(self, share: float, seed: int) -> tuple[frozenset[str], dict[str, Any]]:
        """Split by clusters: the ids of the test side, and counts of clusters."""
        groups = Groups(len(self._ids))
        groups.join_near(self._letters, _NEAR_LETTERS)
        current = np.flatnonzero(self._current)  # history has no vectors
        ids = [self._ids[place] for place in current]
        groups.join_near(VectorSimilarity.stored(self._store, self._namespace, ids, current), _NEAR_MEANING)
        shown = [(mine, self._place[parent]) for mine, parent in self._parents if parent in self._place]
        groups.join(*np.array(shown, dtype=np.int64).reshape(-1, 2).T)
        members: dict[int, list[str]] = {}
        for id_, group in zip(self._ids, groups.of.tolist(), strict=True):
            members.setdefault(group, []).append(id_)
        test: set[str] = set()
        for ids in members.values():
            # By its own name, not in turn: what is added later does not move the others.
            name = hashlib.sha256(f"{seed}:{min(ids)}".encode("utf-8", "surrogatepass")).digest()
            if int.from_bytes(name[:8]) < share * 2**64:
                test.update(ids)
        largest = max(map(len, members.values()), default=0)
        return frozenset(test), {"clusters": len(members), "largest_cluster": largest}
