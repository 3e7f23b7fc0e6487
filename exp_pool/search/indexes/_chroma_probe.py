"""Health check of a Chroma folder, in a process of its own: a damaged one kills the process that opens it.

``python -m exp_pool.search.indexes._chroma_probe FOLDER`` prints the ids as JSON, or dies.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

COLLECTION = "vectors"
_SAMPLE = 256  # rows that must find themselves: each walks down the graph by another way
_SAME = 1e-3  # cosine distance to itself, in float32


def client(folder: Path) -> Any:
    """A client of Chroma on this folder."""
    import chromadb
    from chromadb.config import Settings

    return chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))


def findable(collection: Any) -> list[str]:
    """The ids that a search for everything finds: `count` would tell those that are registered.

    Raises:
        ValueError: some of them do not find themselves.
    """
    count = collection.count()
    if not count:
        return []
    some = collection.get(limit=_SAMPLE, include=["embeddings"])
    everything = collection.query(query_embeddings=some["embeddings"][:1], n_results=count, include=[])["ids"][0]
    found = collection.query(query_embeddings=some["embeddings"], n_results=3, include=["distances"])
    for id_, ids, distances in zip(some["ids"], found["ids"], found["distances"], strict=True):
        near = {
            other for other, distance in zip(ids, distances, strict=True) if np.isfinite(distance) and distance < _SAME
        }
        if id_ not in near and len(near) < len(ids):  # unless as many others are the same
            raise ValueError(f"{id_} does not find itself")
    return list(everything)


if __name__ == "__main__":
    json.dump(findable(client(Path(sys.argv[1])).get_collection(COLLECTION, embedding_function=None)), sys.stdout)
