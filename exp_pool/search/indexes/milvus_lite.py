"""``milvus:///file.db``: Milvus Lite, for those who will move to a Milvus server: the same client, the same requests.

Milvus Lite (3.x) is written in Python and runs in this process, as a gRPC server on a free port of the loopback
interface; what it calls a file is a folder. Its WAL is not synchronized, so what a kill left is built anew. Its graph
starves searches with filters, so its index is FLAT: exact, and no slower at 10,000 rows, where bookkeeping rules.
"""

from __future__ import annotations

import atexit
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Neighbour, RecordStore, VectorQuery, VectorRow
from exp_pool.search.indexes import _milvus_collection as milvus
from exp_pool.search.indexes._folder_index import FolderIndex

_NAME = "vectors"
_PLACE = "rows.db"  # pymilvus knows Milvus Lite by the end of the name
_FRESH = 1000  # rows that were not flushed, from which on they are: searching them costs 33 us each, others 3 us


class MilvusLiteIndex(FolderIndex):
    """Exact similarity (FLAT, cosine) in a folder that one process owns; for each partition a server of its own.

    Raises:
        ConfigurationError: pymilvus or milvus-lite is not installed.
    """

    library = "milvus-lite"
    scheme = "milvus"
    batch = 1000

    def __init__(self, path: str | Path, timeout_s: float = 5.0) -> None:
        milvus.need("pymilvus", "milvus_lite", extra="milvus-lite")
        super().__init__(path, timeout_s)

    def _leave_to_parent(self) -> None:
        """When a child by fork ends, its copy of the servers would be closed, and with it the parent's files."""
        super()._leave_to_parent()
        if "milvus_lite.server_manager" in sys.modules:
            atexit.unregister(_servers().release_all)

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig, store: RecordStore) -> MilvusLiteIndex:  # noqa: ARG003
        """The index of ``milvus:///file.db``."""
        return cls(location, timeout_s=config.store_timeout)

    def _open(self, folder: Path) -> _LiteCollection:
        return _LiteCollection(folder / _PLACE, self._timeout_s)


class _LiteCollection:
    """One Milvus Lite of its own, with one collection, which is made with the first row."""

    def __init__(self, place: Path, timeout_s: float) -> None:
        self._place = str(place)
        self._timeout_s = timeout_s
        self._fresh = 0
        logging.getLogger("milvus_lite").addHandler(logging.NullHandler())  # or Python shows its warnings itself
        with milvus.quiet():
            self._client: Any = milvus.connect(timeout_s, uri=self._place)
            exists = bool(self._client.has_collection(_NAME, timeout=timeout_s))
            self._rows = milvus.MilvusCollection(_NAME, {"index_type": "FLAT"}, timeout_s, exists=exists)
            if exists:
                self._client.load_collection(_NAME, timeout=timeout_s)

    def upsert(self, rows: Sequence[VectorRow]) -> None:
        with milvus.quiet():
            self._rows.upsert(self._client, rows)
        self._fresh += len(rows)

    def delete(self, ids: Sequence[str]) -> None:
        with milvus.quiet():
            self._rows.delete(self._client, ids)

    def nearest(self, vector: np.ndarray, query: VectorQuery) -> list[Neighbour]:
        with milvus.quiet():
            return self._rows.nearest(self._client, vector[None], query)[0]

    def count(self) -> int:
        with milvus.quiet():
            return self._rows.count(self._client)

    def settle(self) -> None:
        if self._fresh >= _FRESH:
            with milvus.quiet():
                self._client.flush(_NAME, timeout=self._timeout_s)
            self._fresh = 0

    def close(self) -> None:
        self._client.close()
        _servers().release_server(self._place)


def _servers() -> Any:
    from milvus_lite.server_manager import server_manager_instance

    return server_manager_instance
