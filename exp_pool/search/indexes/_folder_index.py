"""An index in a folder, by a library that survives neither kills nor damage (Chroma, Milvus Lite).

Each partition (namespace, embedder) has a folder of its own, which one process owns (`_generations`), and which is
opened here only if nothing speaks against it. Whatever is wrong, it is rebuilt from the store.

The library is loaded and opened by maintenance, never by a caller. One thread of our own talks to it: it may wait for
its own locks for ever, so callers wait here with a deadline instead.
"""

from __future__ import annotations

import importlib.metadata
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

import numpy as np

from exp_pool.core.contracts.plugs import IndexPartition, Neighbour, VectorQuery, VectorRow
from exp_pool.errors import VectorIndexError
from exp_pool.runtime.files import create_folder, replace_file
from exp_pool.runtime.forks import reset_in_child
from exp_pool.runtime.single_thread import SingleThreadExecutor
from exp_pool.search.indexes._generations import Generations
from exp_pool.search.indexes._identifiers import digest

T = TypeVar("T")

_PATIENCE = 20  # times `timeout_s`, for maintenance; a caller waits once


class Engine(Protocol):
    """One generation of one partition, open; used by one thread only."""

    def upsert(self, rows: Sequence[VectorRow]) -> None:
        """Add or replace rows."""

    def delete(self, ids: Sequence[str]) -> None:
        """Forget rows; no id stands there twice."""

    def nearest(self, vector: np.ndarray, query: VectorQuery) -> list[Neighbour]:
        """The neighbours of one vector."""
        ...

    def count(self) -> int:
        """How many rows it has."""
        ...

    def settle(self) -> None:
        """Make lasting what was handed over, if the library wants to be told: everything has been."""

    def close(self) -> None:
        """Write everything and close the files."""


class FolderIndex(ABC):
    """A folder of partitions, each with its generations.

    Args:
        path: the folder; created at first use, for this user only.
        timeout_s: how long a caller waits for the library.
    """

    derived = True
    library: ClassVar[str]
    """The package whose version must be the one that wrote the files."""
    scheme: ClassVar[str]
    """The scheme of the index's URL, for error messages."""
    batch: ClassVar[int]
    """Rows handed to the engine at once."""

    def __init__(self, path: str | Path, timeout_s: float = 5.0) -> None:
        self._path = Path(path)
        self._timeout_s = timeout_s
        self._thread = SingleThreadExecutor(f"exp_pool-{self.scheme}")
        self._opened: dict[IndexPartition, _OpenPartition] = {}
        self._left_to_parent: list[object] = []
        reset_in_child(self._leave_to_parent)

    @abstractmethod
    def _open(self, folder: Path) -> Engine:
        """Open a generation, or make it."""

    def _found_in(self, folder: Path) -> set[str] | None:  # noqa: ARG002
        """What `RenewableIndex.findable` says of the files of a generation."""
        return None

    def _leave_to_parent(self) -> None:
        """After a fork the library's threads are gone: it would hang for ever, with the interpreter's lock in hand."""
        self._left_to_parent.append(self._opened)  # dropping them would close its files
        for opened in self._opened.values():
            opened.generations.leave_to_parent()
        self._opened = {}

    def generation(self, partition: IndexPartition, pool: str) -> str:
        return self._do(lambda: self._take(partition, pool).filling, _PATIENCE)

    def doubt(self, partition: IndexPartition) -> str:
        return self._do(lambda: self._get(partition).generations.doubt, _PATIENCE)

    def findable(self, partition: IndexPartition) -> set[str] | None:
        opened = self._do(lambda: self._get(partition))
        return None if opened.generations.hopeless or self._left_to_parent else self._found_in(opened.place)

    def believe(self, partition: IndexPartition) -> None:
        self._do(lambda: setattr(self._get(partition).generations, "doubt", ""), _PATIENCE)

    def count(self, partition: IndexPartition) -> int:
        return self._do(lambda: self._get(partition).filled().count(), _PATIENCE)

    def renew(self, partition: IndexPartition) -> str:
        return self._do(lambda: self._get(partition).renew(), _PATIENCE)

    def complete(self, partition: IndexPartition) -> None:
        self._do(lambda: self._get(partition).complete(), _PATIENCE)

    def upsert_many(self, partition: IndexPartition, rows: Sequence[VectorRow]) -> None:
        for start in range(0, len(rows), self.batch):
            batch = rows[start : start + self.batch]
            self._do(lambda some=batch: self._get(partition).upsert(some), _PATIENCE)  # type: ignore[misc]

    def delete_many(self, partition: IndexPartition, ids: Sequence[str]) -> None:
        unique = list(dict.fromkeys(ids))
        for start in range(0, len(unique), self.batch):
            batch = unique[start : start + self.batch]
            self._do(lambda some=batch: self._get(partition).filled().delete(some), _PATIENCE)  # type: ignore[misc]

    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        def search() -> list[list[Neighbour]]:
            opened = self._opened.get(IndexPartition(query.namespace, query.embedder))
            if opened is None or opened.generations.current is None or opened.generations.doubt:
                return [[] for _ in query.vectors]  # it has nothing yet
            engine = opened.answering()
            return [engine.nearest(vector, query) for vector in query.vectors]

        return self._do(search)

    def clear(self, namespace: str, pool: str) -> None:
        def clear() -> None:
            if not self._path.exists():
                return
            self._claim_for(pool)
            for place in self._path.glob(f"{digest(namespace)}-{'[0-9a-f]' * 32}"):
                opened = next((s for s in self._opened.values() if s.generations.folder == place), None)
                if opened is None:
                    opened = self._new_partition(IndexPartition(namespace, ""), place)
                    opened.generations.acquire()
                opened.clear()
                self._opened.pop(opened.partition, None)

        self._do(clear, _PATIENCE)

    def close(self) -> None:
        if self._opened:
            self._do(self._close, 2)
        self._thread.stop(self._timeout_s)

    # On the index's own thread

    def _do(self, job: Callable[[], T], patience: float = 1) -> T:
        try:
            return self._thread.run(job, self._timeout_s * patience)
        except VectorIndexError:
            raise
        except Exception as err:
            raise VectorIndexError(f"{self.library} at {self._path}: {err}") from err

    def _take(self, partition: IndexPartition, pool: str) -> _OpenPartition:
        opened = self._opened.get(partition)
        if opened is None:
            if self._left_to_parent:
                raise VectorIndexError("opened by a process that then forked; start workers by spawn to have it there")
            self._claim_for(pool)
            opened = self._new_partition(
                partition, self._path / f"{digest(partition.namespace)}-{digest(partition.embedder)}"
            )
            opened.open()
            self._opened[partition] = opened
        return opened

    def _new_partition(self, partition: IndexPartition, folder: Path) -> _OpenPartition:
        library = f"{self.library} {importlib.metadata.version(self.library)}"
        return _OpenPartition(partition, Generations(folder, library), self._open)

    def _claim_for(self, pool: str) -> None:
        """Mark the folder as this pool's: two pools over one folder would take turns in rebuilding it."""
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
                f"index='{self.scheme}:///...', or remove the folder if that pool is gone. Nothing was changed"
            )

    def _get(self, partition: IndexPartition) -> _OpenPartition:
        opened = self._opened.get(partition)
        if opened is None:
            raise VectorIndexError(f"{partition} is not open")
        return opened

    def _close(self) -> None:
        while self._opened:
            self._opened.popitem()[1].close()


class _OpenPartition:
    """The folder of one partition, with engines on the generation that answers and on the one being filled."""

    def __init__(
        self, partition: IndexPartition, generations: Generations, open_engine: Callable[[Path], Engine]
    ) -> None:
        self.partition = partition
        self.generations = generations
        self.filling = ""
        self._open_engine = open_engine
        self._engines: dict[str, Engine] = {}

    @property
    def place(self) -> Path:
        return self.generations.path(self.filling)

    def open(self) -> None:
        self.generations.acquire()
        self.filling = self.generations.current or self.generations.begin()

    def filled(self) -> Engine:
        """The engine of the generation that is being filled."""
        return self._engine(self.filling)

    def answering(self) -> Engine:
        """The engine of the generation that answers."""
        return self._engine(self.generations.current or self.filling)

    def _engine(self, name: str) -> Engine:
        engine = self._engines.get(name)
        if engine is None:
            self.generations.mark_open()
            engine = self._engines[name] = self._open_engine(self.generations.path(name))
            self._protect()
        return engine

    def upsert(self, rows: Sequence[VectorRow]) -> None:
        self.filled().upsert(rows)
        self._protect()

    def _protect(self) -> None:
        """Take the files from other users: libraries create them for everyone to read, and vectors tell requests."""
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
        if self.filling in self._engines:
            self._engines[self.filling].settle()
        if self.filling != self.generations.current:
            for name in [name for name in self._engines if name != self.filling]:
                self._drop(name)
            self.generations.flip(self.filling)

    def _drop(self, name: str) -> None:
        engine = self._engines.pop(name, None)
        if engine is not None:
            engine.close()

    def clear(self) -> None:
        for name in list(self._engines):
            self._drop(name)
        self.generations.remove()
        self.generations.release()

    def close(self) -> None:
        try:
            for name in list(self._engines):
                self._drop(name)
            if not self.generations.doubt:
                self.generations.mark_sound()
        finally:
            self.generations.release()
