"""``chroma:///folder``: an embedded Chroma. It gets ids, vectors and scope, never texts, and embeds nothing itself.

Chroma alone survives neither kills nor damage: it writes its files in place, a damaged one takes the whole process
down, and two processes disagree. So it is kept as `_folder_index` says, and what a kill left is opened here only after
another process has looked (`_chroma_probe`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import RecordStore
from exp_pool.search.indexes._chroma_collection import HNSW, ChromaCollection
from exp_pool.search.indexes._chroma_probe import COLLECTION, client
from exp_pool.search.indexes._folder_index import FolderIndex
from exp_pool.search.indexes._identifiers import unquote

_PROBE_S = 60.0  # and a second for each MiB


class ChromaIndex(FolderIndex):
    """Approximate similarity (HNSW, cosine) in a folder.

    Args:
        path: the folder; created at first use, for this user only.
        timeout_s: how long a caller waits for Chroma, which waits up to 1000 s for its own locks.
        sync_threshold: rows after which Chroma writes its graph; fewer only make it slower, and kills likelier to hit.
    """

    library = "chromadb"
    scheme = "chroma"
    batch = 2000  # Chroma takes at most 5461 rows at once

    def __init__(self, path: str | Path, timeout_s: float = 5.0, *, sync_threshold: int = 1000) -> None:
        super().__init__(path, timeout_s)
        self._hnsw = {**HNSW, "sync_threshold": sync_threshold, "batch_size": min(100, sync_threshold)}

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig, store: RecordStore) -> ChromaIndex:  # noqa: ARG003
        """The index of ``chroma:///folder``."""
        return cls(location, timeout_s=config.store_timeout)

    def _open(self, folder: Path) -> _FolderCollection:
        return _FolderCollection(folder, self._hnsw)

    def _found_in(self, folder: Path) -> set[str] | None:
        """What another process finds there; None where it dies, complains or takes too long."""
        command = [sys.executable, "-m", "exp_pool.search.indexes._chroma_probe", str(folder)]
        if not sys.executable:
            return None
        try:
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            done = subprocess.run(command, capture_output=True, check=True, timeout=_PROBE_S + size / 2**20)  # noqa: S603
            found = json.loads(done.stdout)
        except (subprocess.SubprocessError, OSError, ValueError):
            return None
        return {unquote(str(id_)) for id_ in found}


class _FolderCollection(ChromaCollection):
    """The one collection of a Chroma of its own, in a folder."""

    def __init__(self, folder: Path, hnsw: dict[str, Any]) -> None:
        self._client = client(folder)
        super().__init__(
            self._client.get_or_create_collection(COLLECTION, configuration={"hnsw": hnsw}, embedding_function=None)
        )

    def settle(self) -> None:
        """Nothing to do: what Chroma has not put into its graph it searches beside it."""

    def close(self) -> None:
        self._client.close()
