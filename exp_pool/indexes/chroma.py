"""``chroma:///folder``: an embedded Chroma. It gets ids, vectors and scope, never texts, and embeds nothing itself.

Chroma is loaded and opened by the first search or upkeep, never by an exact hit. One thread of our own talks to it: it
waits up to 1000 s for its own locks, so whoever waits here has a deadline instead. A collection belongs to one
namespace and one embedder, so nothing crosses either before the nearest neighbours are looked for. Ids are not ranked
by Chroma's distance in the end: `exp_pool.search` computes it again from the stored vector.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from exp_pool.config import ExpPoolConfig
from exp_pool.errors import VectorIndexError
from exp_pool.forks import reset_in_child
from exp_pool.one_thread import OneThread
from exp_pool.protocols import Neighbour, RecordStore, VectorQuery, VectorRow
from exp_pool.vectors import from_bytes

T = TypeVar("T")

_GENERATION = "generation"
_BATCH = 2000  # Chroma takes at most 5461 rows at once
_PLAIN_ID = re.compile(r"[0-9A-Za-z._-]{1,128}")
_QUOTED = "x:"  # not in a plain id, so no user's id can pass for a quoted one


class ChromaIndex:
    """Approximate similarity (HNSW, cosine) in a folder.

    Args:
        path: the folder; created at first use, for this user only.
        timeout_s: how long a caller waits for Chroma.
    """

    derived = True

    def __init__(self, path: str | Path, timeout_s: float = 5.0) -> None:
        self._path = Path(path)
        self._timeout_s = timeout_s
        self._thread = OneThread("exp_pool-chroma")
        self._client: Any = None
        self._collections: dict[str, Any] = {}
        self._inherited: Any = None
        reset_in_child(self._leave_to_parent)

    def _leave_to_parent(self) -> None:
        """After a fork: Chroma's threads are gone, and it would hang for ever, with the interpreter's lock in hand."""
        self._inherited, self._client, self._collections = self._client or self._inherited, None, {}

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig, store: RecordStore) -> ChromaIndex:  # noqa: ARG003
        """The index of ``chroma:///folder``."""
        return cls(location, timeout_s=config.store_timeout)

    def generation(self) -> str:
        """A name written into the folder when it was created, so that an emptied or foreign folder is noticed."""
        mark = self._path / _GENERATION
        try:
            if not mark.exists():
                self._create()
                mark.write_text(uuid.uuid4().hex, encoding="ascii")
                mark.chmod(0o600)
            return mark.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as err:
            raise VectorIndexError(f"Chroma at {self._path}: {err}") from err

    def _create(self) -> None:
        if not self._path.parent.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self._path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
        self._path.mkdir(exist_ok=True, mode=0o700)

    def upsert_many(self, rows: Sequence[VectorRow]) -> None:
        by_collection: defaultdict[tuple[str, str], list[VectorRow]] = defaultdict(list)
        for row in rows:
            if row.vector is not None:
                by_collection[row.namespace, row.vector.embedder].append(row)
        for (namespace, embedder), group in by_collection.items():
            for start in range(0, len(group), _BATCH):
                batch = group[start : start + _BATCH]
                # No deadline of a caller's here: upkeep waits, and gives up on a hung Chroma only after a long while.
                self._do(lambda ns=namespace, em=embedder, b=batch: self._upsert(ns, em, b), wait=20)  # type: ignore[misc]

    def _upsert(self, namespace: str, embedder: str, rows: Sequence[VectorRow]) -> None:
        self._collection(namespace, embedder).upsert(
            ids=[_quote(row.id) for row in rows],
            embeddings=from_bytes([row.vector.values for row in rows if row.vector is not None]),
            metadatas=[_scope(row.function, row.version, row.reuse_scope) for row in rows],
        )
        self._protect()

    def delete_many(self, namespace: str, ids: Sequence[str]) -> None:
        quoted = [_quote(id_) for id_ in ids]

        def delete() -> None:
            for collection in self._of_namespace(namespace):
                for start in range(0, len(quoted), _BATCH):
                    collection.delete(ids=quoted[start : start + _BATCH])

        self._do(delete, wait=20)

    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        return self._do(lambda: self._search(query))

    def _search(self, query: VectorQuery) -> list[list[Neighbour]]:
        wanted = _scope(query.function, query.version, query.reuse_scope)
        terms = [{name: value} for name, value in wanted.items()]
        where = {"$and": terms} if len(terms) > 1 else terms[0] if terms else None
        found = self._collection(query.namespace, query.embedder).query(
            query_embeddings=np.asarray(query.vectors, dtype=np.float32),
            n_results=query.limit,
            where=where,
            include=["distances"],
        )
        return [
            [Neighbour(_unquote(id_), 1.0 - distance) for id_, distance in zip(ids, distances, strict=True)]
            for ids, distances in zip(found["ids"], found["distances"], strict=True)
        ]

    def clear(self, namespace: str) -> None:
        def clear() -> None:
            for collection in self._of_namespace(namespace):
                self._open().delete_collection(collection.name)
                self._collections.pop(collection.name, None)

        self._do(clear, wait=20)

    def close(self) -> None:
        if self._client is not None:
            self._do(self._close, wait=2)
        self._thread.stop(self._timeout_s)

    # On the index's own thread

    def _do(self, job: Callable[[], T], *, wait: float = 1) -> T:
        try:
            return self._thread.run(job, self._timeout_s * wait)
        except Exception as err:
            raise VectorIndexError(f"Chroma at {self._path}: {err}") from err

    def _open(self) -> Any:
        if self._inherited is not None:
            raise VectorIndexError(
                "opened by the parent process before it forked; start workers by spawn to have it here"
            )
        if self._client is None:
            import chromadb
            from chromadb.config import Settings

            self._create()
            self._client = chromadb.PersistentClient(str(self._path), settings=Settings(anonymized_telemetry=False))
            self._protect()
        return self._client

    def _close(self) -> None:
        client, self._client, self._collections = self._client, None, {}
        client.close()

    def _collection(self, namespace: str, embedder: str) -> Any:
        name = f"{_digest(namespace)}-{_digest(embedder)}"
        collection = self._collections.get(name)
        if collection is None:
            collection = self._open().get_or_create_collection(
                name, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
            )
            self._collections[name] = collection
        return collection

    def _of_namespace(self, namespace: str) -> list[Any]:
        prefix = _digest(namespace) + "-"
        return [c for c in self._open().list_collections() if c.name.startswith(prefix)]

    def _protect(self) -> None:
        """Chroma creates its files for everyone to read.

        Vectors tell what was asked, so they are for this user only.
        """
        for folder, _, files in os.walk(self._path):
            os.chmod(folder, 0o700)  # noqa: PTH101  (one call of many in a walk over strings)
            for name in files:
                os.chmod(os.path.join(folder, name), 0o600)  # noqa: PTH101, PTH118


def _digest(text: str) -> str:
    """Collection names take few characters, and must not tell the namespace's."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _scope(function: str | None, version: str | None, reuse_scope: str | None) -> dict[str, str]:
    """What rows are filtered by, as digests: Chroma refuses some texts, and function names are nobody's business."""
    given = {"function": function, "version": version, "scope": reuse_scope}
    return {name: _digest(text) for name, text in given.items() if text is not None}


def _quote(id_: str) -> str:
    return id_ if _PLAIN_ID.fullmatch(id_) else _QUOTED + id_.encode("utf-8", "surrogatepass").hex()


def _unquote(text: str) -> str:
    if not text.startswith(_QUOTED):
        return text
    return bytes.fromhex(text[len(_QUOTED) :]).decode("utf-8", "surrogatepass")
