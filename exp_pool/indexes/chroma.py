"""``chroma:///folder``: an embedded Chroma. It gets ids, vectors and scope, never texts, and embeds nothing itself.

Chroma alone survives neither kills nor damage: it writes its files in place, a damaged one takes the whole process
down, and two processes disagree. So each (namespace, embedder) has a folder of its own, which one process owns
(`_generations`), and which is opened here only if nothing speaks against it, or after another process has looked
(`_chroma_probe`). Whatever is wrong, it is rebuilt from the store.

Chroma is loaded and opened by upkeep, never by a caller. One thread of our own talks to it: it waits up to 1000 s for
its own locks, so whoever waits here has a deadline instead.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from exp_pool.config import ExpPoolConfig
from exp_pool.errors import VectorIndexError
from exp_pool.files import create_folder, replace_file
from exp_pool.forks import reset_in_child
from exp_pool.indexes._chroma_probe import COLLECTION, SPACE, client
from exp_pool.indexes._generations import Generations
from exp_pool.one_thread import OneThread
from exp_pool.protocols import Neighbour, RecordStore, Space, VectorQuery, VectorRow
from exp_pool.vectors import from_bytes

T = TypeVar("T")

_BATCH = 2000  # Chroma takes at most 5461 rows at once
_PROBE_S = 60.0  # and a second for each MiB
_PATIENCE = 20  # times `timeout_s`, for upkeep; a caller waits once
# Recall@10 of 0.43 by Chroma's defaults (100, 100, 16) at 100,000 clustered vectors, 0.90 by these, in 2.7 ms.
_HNSW = {"space": SPACE, "ef_search": 400, "ef_construction": 200, "max_neighbors": 32}
_WIDER = 4
_WIDEST = 4096
_PLAIN_ID = re.compile(r"[0-9A-Za-z._-]{1,128}")
_QUOTED = "x:"  # not in a plain id, so no user's id can pass for a quoted one


class ChromaIndex:
    """Approximate similarity (HNSW, cosine) in a folder.

    Args:
        path: the folder; created at first use, for this user only.
        timeout_s: how long a caller waits for Chroma.
        sync_threshold: rows after which Chroma writes its graph; fewer only make it slower, and kills likelier to hit.
    """

    derived = True

    def __init__(self, path: str | Path, timeout_s: float = 5.0, *, sync_threshold: int = 1000) -> None:
        self._path = Path(path)
        self._timeout_s = timeout_s
        self._hnsw = {**_HNSW, "sync_threshold": sync_threshold, "batch_size": min(100, sync_threshold)}
        self._thread = OneThread("exp_pool-chroma")
        self._shelves: dict[Space, _Shelf] = {}
        self._left_to_parent: list[object] = []
        reset_in_child(self._leave_to_parent)

    def _leave_to_parent(self) -> None:
        """After a fork Chroma's threads are gone: it would hang for ever, with the interpreter's lock in hand."""
        self._left_to_parent.append(self._shelves)  # dropping its clients would close them
        for shelf in self._shelves.values():
            shelf.generations.leave_to_parent()
        self._shelves = {}

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig, store: RecordStore) -> ChromaIndex:  # noqa: ARG003
        """The index of ``chroma:///folder``."""
        return cls(location, timeout_s=config.store_timeout)

    def generation(self, space: Space, pool: str) -> str:
        return self._do(lambda: self._take(space, pool).filling, _PATIENCE)

    def doubt(self, space: Space) -> str:
        return self._do(lambda: self._shelf(space).generations.doubt, _PATIENCE)

    def findable(self, space: Space) -> set[str] | None:
        shelf = self._do(lambda: self._shelf(space))
        found = None if shelf.generations.hopeless or self._left_to_parent else _probe(shelf.place)
        if found is None:
            return None
        return {_unquote(id_) for id_ in found}

    def believe(self, space: Space) -> None:
        self._do(lambda: setattr(self._shelf(space).generations, "doubt", ""), _PATIENCE)

    def count(self, space: Space) -> int:
        return self._do(lambda: int(self._shelf(space).collection(self._hnsw).count()), _PATIENCE)

    def renew(self, space: Space) -> str:
        return self._do(lambda: self._shelf(space).renew(), _PATIENCE)

    def complete(self, space: Space) -> None:
        self._do(lambda: self._shelf(space).complete(), _PATIENCE)

    def upsert_many(self, space: Space, rows: Sequence[VectorRow]) -> None:
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            self._do(lambda some=batch: self._shelf(space).upsert(some, self._hnsw), _PATIENCE)  # type: ignore[misc]

    def delete_many(self, space: Space, ids: Sequence[str]) -> None:
        quoted = [_quote(id_) for id_ in dict.fromkeys(ids)]  # Chroma refuses an id that stands there twice
        for start in range(0, len(quoted), _BATCH):
            batch = quoted[start : start + _BATCH]
            self._do(lambda some=batch: self._shelf(space).collection(self._hnsw).delete(ids=some), _PATIENCE)  # type: ignore[misc]

    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        def search() -> list[list[Neighbour]]:
            shelf = self._shelves.get(Space(query.namespace, query.embedder))
            if shelf is None or shelf.generations.current is None or shelf.generations.doubt:
                return [[] for _ in query.vectors]  # it has nothing yet
            collection = shelf.answering(self._hnsw)
            return [_nearest(collection, vector, query) for vector in query.vectors]

        return self._do(search)

    def clear(self, namespace: str, pool: str) -> None:
        def clear() -> None:
            if not self._path.exists():
                return
            self._claim_for(pool)
            for place in self._path.glob(f"{_digest(namespace)}-{'[0-9a-f]' * 32}"):
                shelf = next((s for s in self._shelves.values() if s.generations.folder == place), None)
                if shelf is None:
                    shelf = _Shelf(Space(namespace, ""), Generations(place, _library()))
                    shelf.generations.acquire()
                shelf.clear()
                self._shelves.pop(shelf.space, None)

        self._do(clear, _PATIENCE)

    def close(self) -> None:
        if self._shelves:
            self._do(self._close, 2)
        self._thread.stop(self._timeout_s)

    # On the index's own thread

    def _do(self, job: Callable[[], T], patience: float = 1) -> T:
        try:
            return self._thread.run(job, self._timeout_s * patience)
        except VectorIndexError:
            raise
        except Exception as err:
            raise VectorIndexError(f"Chroma at {self._path}: {err}") from err

    def _take(self, space: Space, pool: str) -> _Shelf:
        shelf = self._shelves.get(space)
        if shelf is None:
            if self._left_to_parent:
                raise VectorIndexError("opened by a process that then forked; start workers by spawn to have it there")
            self._claim_for(pool)
            name = f"{_digest(space.namespace)}-{_digest(space.embedder)}"
            shelf = _Shelf(space, Generations(self._path / name, _library()))
            shelf.open()
            self._shelves[space] = shelf
        return shelf

    def _claim_for(self, pool: str) -> None:
        """Two pools over one folder would take turns in rebuilding it."""
        create_folder(self._path.parent)
        self._path.mkdir(exist_ok=True, mode=0o700)
        mark = self._path / "pool"
        try:
            owner = mark.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            owner = ""
        except UnicodeDecodeError:
            owner = "?"
        if not owner:
            replace_file(mark, pool.encode())
        elif owner != pool:
            raise VectorIndexError(
                f"{self._path} is the index of another pool; give this one a folder of its own with "
                "index='chroma:///...', or remove the folder if that pool is gone. Nothing was changed"
            )

    def _shelf(self, space: Space) -> _Shelf:
        shelf = self._shelves.get(space)
        if shelf is None:
            raise VectorIndexError(f"{space} is not open")
        return shelf

    def _close(self) -> None:
        while self._shelves:
            self._shelves.popitem()[1].close()


class _Shelf:
    """The folder of one space, with Chroma's clients on the generation that answers and on the one being filled."""

    def __init__(self, space: Space, generations: Generations) -> None:
        self.space = space
        self.generations = generations
        self.filling = ""
        self._clients: dict[str, Any] = {}
        self._collections: dict[str, Any] = {}

    @property
    def place(self) -> Path:
        return self.generations.path(self.filling)

    def open(self) -> None:
        self.generations.acquire()
        self.filling = self.generations.current or self.generations.begin()

    def collection(self, hnsw: dict[str, Any]) -> Any:
        """The one being filled."""
        return self._collection(self.filling, hnsw)

    def answering(self, hnsw: dict[str, Any]) -> Any:
        """The one that answers."""
        return self._collection(self.generations.current or self.filling, hnsw)

    def _collection(self, name: str, hnsw: dict[str, Any]) -> Any:
        collection = self._collections.get(name)
        if collection is None:
            self.generations.mark_open()
            self._clients[name] = client(self.generations.path(name))
            collection = self._collections[name] = self._clients[name].get_or_create_collection(
                COLLECTION, configuration={"hnsw": hnsw}, embedding_function=None
            )
            self._protect()
        return collection

    def upsert(self, rows: Sequence[VectorRow], hnsw: dict[str, Any]) -> None:
        self.collection(hnsw).upsert(
            ids=[_quote(row.id) for row in rows],
            embeddings=from_bytes([row.vector.values for row in rows if row.vector is not None]),
            metadatas=[_scope(row.function, row.version, row.reuse_scope) for row in rows],
        )
        self._protect()

    def _protect(self) -> None:
        """Chroma creates its files for everyone to read; vectors tell what was asked."""
        for folder, _, files in os.walk(self.place):
            os.chmod(folder, 0o700)  # noqa: PTH101  (one call of many in a walk over strings)
            for name in files:
                os.chmod(os.path.join(folder, name), 0o600)  # noqa: PTH101, PTH118

    def renew(self) -> str:
        if self.filling != self.generations.current:
            self._drop(self.filling)
        self.generations.condemn()
        self.filling = self.generations.begin()
        return self.filling

    def complete(self) -> None:
        if self.filling != self.generations.current:
            for name in [name for name in self._clients if name != self.filling]:
                self._drop(name)
            self.generations.flip(self.filling)

    def _drop(self, name: str) -> None:
        self._collections.pop(name, None)
        opened = self._clients.pop(name, None)
        if opened is not None:
            opened.close()

    def clear(self) -> None:
        for name in list(self._clients):
            self._drop(name)
        self.generations.remove()
        self.generations.release()

    def close(self) -> None:
        try:
            for name in list(self._clients):
                self._drop(name)
            if not self.generations.doubt:
                self.generations.mark_sound()
        finally:
            self.generations.release()


def _library() -> str:
    return f"chromadb {importlib.metadata.version('chromadb')}"


def _probe(folder: Path) -> list[str] | None:
    """What another process finds there; None where it dies, complains or takes too long."""
    command = [sys.executable, "-m", "exp_pool.indexes._chroma_probe", str(folder)]
    if not sys.executable:
        return None
    try:
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        done = subprocess.run(command, capture_output=True, check=True, timeout=_PROBE_S + size / 2**20)  # noqa: S603
        found = json.loads(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        return None
    return [str(id_) for id_ in found]


def _nearest(collection: Any, vector: np.ndarray, query: VectorQuery) -> list[Neighbour]:
    """Filtering is done here, on more than was asked for: by Chroma itself a filter costs 270 ms at 100,000 rows."""
    wanted = _scope(query.function, query.version, query.reuse_scope)
    limit, include = query.limit, ["distances", *(["metadatas"] if wanted else [])]
    one = np.asarray(vector, dtype=np.float32)[None]
    while True:
        found = collection.query(query_embeddings=one, n_results=limit, include=include)
        ids, distances = found["ids"][0], found["distances"][0]
        kept = list(zip(ids, distances, found["metadatas"][0] if wanted else ids, strict=True))
        if wanted:
            kept = [item for item in kept if all(item[2].get(name) == value for name, value in wanted.items())]
        if len(kept) >= query.limit or len(ids) < limit:
            break
        if limit >= _WIDEST:
            terms = [{name: value} for name, value in wanted.items()]
            where = {"$and": terms} if len(terms) > 1 else terms[0]
            found = collection.query(query_embeddings=one, n_results=query.limit, where=where, include=["distances"])
            kept = list(zip(found["ids"][0], found["distances"][0], found["ids"][0], strict=True))
            break
        limit *= _WIDER
    return [
        Neighbour(_unquote(id_), 1.0 - distance) for id_, distance, _ in kept[: query.limit] if np.isfinite(distance)
    ]


def _digest(text: str) -> str:
    """Folder names must not tell the namespace's."""
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
