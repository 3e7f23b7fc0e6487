"""An index in a folder, by a library that survives neither kills nor damage: what every such index has in common.

Each (namespace, embedder) has a folder of its own, which one process owns (`_generations`), and which is opened here
only if nothing speaks against it. Whatever is wrong, it is rebuilt from the store.

The library is loaded and opened by upkeep, never by a caller. One thread of our own talks to it: it may wait for its
own locks for ever, so whoever waits here has a deadline instead.
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

_PATIENCE = 20  # times `timeout_s`, for upkeep; a caller waits once


class Engine(Protocol):
    """One generation of one space, open; used by one thread only."""

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
        """Everything has been handed over."""

    def close(self) -> None:
        """Write everything and let go of the files."""


class FolderIndex(ABC):
    """A folder of spaces, each with its generations.

    Args:
        path: the folder; created at first use, for this user only.
        timeout_s: how long a caller waits for the library.
    """

    derived = True
    library: ClassVar[str]
    """The package whose version must be the one that wrote the files."""
    scheme: ClassVar[str]
    """Of the URL, for errors."""
    batch: ClassVar[int]
    """Rows handed to the engine at once."""

    def __init__(self, path: str | Path, timeout_s: float = 5.0) -> None:
        self._path = Path(path)
        self._timeout_s = timeout_s
        self._thread = SingleThreadExecutor(f"exp_pool-{self.scheme}")
        self._shelves: dict[IndexPartition, _Shelf] = {}
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
        self._left_to_parent.append(self._shelves)  # dropping them would close its files
        for shelf in self._shelves.values():
            shelf.generations.leave_to_parent()
        self._shelves = {}

    def generation(self, space: IndexPartition, pool: str) -> str:
        return self._do(lambda: self._take(space, pool).filling, _PATIENCE)

    def doubt(self, space: IndexPartition) -> str:
        return self._do(lambda: self._shelf(space).generations.doubt, _PATIENCE)

    def findable(self, space: IndexPartition) -> set[str] | None:
        shelf = self._do(lambda: self._shelf(space))
        return None if shelf.generations.hopeless or self._left_to_parent else self._found_in(shelf.place)

    def believe(self, space: IndexPartition) -> None:
        self._do(lambda: setattr(self._shelf(space).generations, "doubt", ""), _PATIENCE)

    def count(self, space: IndexPartition) -> int:
        return self._do(lambda: self._shelf(space).filled().count(), _PATIENCE)

    def renew(self, space: IndexPartition) -> str:
        return self._do(lambda: self._shelf(space).renew(), _PATIENCE)

    def complete(self, space: IndexPartition) -> None:
        self._do(lambda: self._shelf(space).complete(), _PATIENCE)

    def upsert_many(self, space: IndexPartition, rows: Sequence[VectorRow]) -> None:
        for start in range(0, len(rows), self.batch):
            batch = rows[start : start + self.batch]
            self._do(lambda some=batch: self._shelf(space).upsert(some), _PATIENCE)  # type: ignore[misc]

    def delete_many(self, space: IndexPartition, ids: Sequence[str]) -> None:
        unique = list(dict.fromkeys(ids))
        for start in range(0, len(unique), self.batch):
            batch = unique[start : start + self.batch]
            self._do(lambda some=batch: self._shelf(space).filled().delete(some), _PATIENCE)  # type: ignore[misc]

    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        def search() -> list[list[Neighbour]]:
            shelf = self._shelves.get(IndexPartition(query.namespace, query.embedder))
            if shelf is None or shelf.generations.current is None or shelf.generations.doubt:
                return [[] for _ in query.vectors]  # it has nothing yet
            engine = shelf.answering()
            return [engine.nearest(vector, query) for vector in query.vectors]

        return self._do(search)

    def clear(self, namespace: str, pool: str) -> None:
        def clear() -> None:
            if not self._path.exists():
                return
            self._claim_for(pool)
            for place in self._path.glob(f"{digest(namespace)}-{'[0-9a-f]' * 32}"):
                shelf = next((s for s in self._shelves.values() if s.generations.folder == place), None)
                if shelf is None:
                    shelf = self._new_shelf(IndexPartition(namespace, ""), place)
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
            raise VectorIndexError(f"{self.library} at {self._path}: {err}") from err

    def _take(self, space: IndexPartition, pool: str) -> _Shelf:
        shelf = self._shelves.get(space)
        if shelf is None:
            if self._left_to_parent:
                raise VectorIndexError("opened by a process that then forked; start workers by spawn to have it there")
            self._claim_for(pool)
            shelf = self._new_shelf(space, self._path / f"{digest(space.namespace)}-{digest(space.embedder)}")
            shelf.open()
            self._shelves[space] = shelf
        return shelf

    def _new_shelf(self, space: IndexPartition, folder: Path) -> _Shelf:
        library = f"{self.library} {importlib.metadata.version(self.library)}"
        return _Shelf(space, Generations(folder, library), self._open)

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
                f"index='{self.scheme}:///...', or remove the folder if that pool is gone. Nothing was changed"
            )

    def _shelf(self, space: IndexPartition) -> _Shelf:
        shelf = self._shelves.get(space)
        if shelf is None:
            raise VectorIndexError(f"{space} is not open")
        return shelf

    def _close(self) -> None:
        while self._shelves:
            self._shelves.popitem()[1].close()


class _Shelf:
    """The folder of one space, with engines on the generation that answers and on the one being filled."""

    def __init__(self, space: IndexPartition, generations: Generations, open_engine: Callable[[Path], Engine]) -> None:
        self.space = space
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
        """The one being filled."""
        return self._engine(self.filling)

    def answering(self) -> Engine:
        """The one that answers."""
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
        """Libraries create their files for everyone to read; vectors tell what was asked."""
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
