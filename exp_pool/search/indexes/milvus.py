"""``milvus://host:port``: a Milvus server or cluster, shared by processes and hosts. It gets ids, vectors and scope.

One collection for each (pool, namespace, embedder): what is searched are rows of one namespace only, and a namespace
that is cleared takes its collection with it. (One collection with a partition key would serve more namespaces than the
65,536 collections of a cluster, but deleted rows of a namespace would stay in the segments of others until compaction.)
The last part of a collection's name is drawn by lot and names the generation: one that was lost is filled again.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import IndexPartition, Neighbour, RecordStore, VectorQuery, VectorRow
from exp_pool.errors import VectorIndexError
from exp_pool.runtime.forks import reset_in_child
from exp_pool.search.indexes import _milvus_collection as milvus
from exp_pool.search.indexes._address import parse
from exp_pool.search.indexes._identifiers import digest

T = TypeVar("T")

_PORT = 19530
_BATCH = 500  # 0.8 MB of 384 dimensions
_INDEX = {"index_type": "HNSW", "params": {"M": 32, "efConstruction": 200}}  # as for Chroma
_EF = 400


class MilvusIndex:
    """Approximate similarity (HNSW, cosine) on a Milvus server; consistency is strong: what was written is found.

    Args:
        url: ``milvus://user:password@host:port/database``, all but the host optional; ``?ssl=true`` for TLS.
        timeout_s: how long each request may wait for the server.

    Raises:
        ConfigurationError: the URL cannot be understood, or pymilvus is not installed.
    """

    derived = True

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        milvus.need("pymilvus", extra="milvus")
        self._address = parse(url, port=_PORT, paths=1)
        self._timeout_s = timeout_s
        self._client: Any = None
        self._collections: dict[IndexPartition, milvus.MilvusCollection] = {}
        self._left_to_parent: list[object] = []
        reset_in_child(self._leave_to_parent)

    def _leave_to_parent(self) -> None:
        """After a fork gRPC's threads are gone, and its connections are the parent's."""
        if self._client is not None:
            self._left_to_parent.append(self._client)  # dropping it would close them
        self._client = None
        self._collections = {}

    @classmethod
    def from_url(cls, url: str, config: ExpPoolConfig, store: RecordStore) -> MilvusIndex:  # noqa: ARG003
        """The index of ``milvus://host:port``."""
        return cls(url, timeout_s=config.store_timeout)

    def generation(self, partition: IndexPartition, pool: str) -> str:
        prefix = f"{_prefix(partition.namespace, pool)}{digest(partition.embedder)}_"
        found = self._do(lambda client: self._named(client, prefix))
        name = min(found, default=f"{prefix}{uuid.uuid4().hex[:8]}")
        if found:  # a server that was started again may have let go of it
            self._do(lambda client: client.load_collection(name, timeout=self._timeout_s))
        self._collections[partition] = milvus.MilvusCollection(
            name, _INDEX, self._timeout_s, exists=bool(found), ef=_EF
        )
        return name

    def upsert_many(self, partition: IndexPartition, rows: Sequence[VectorRow]) -> None:
        collection = self._collection(partition)
        for start in range(0, len(rows), _BATCH):
            self._do(functools.partial(collection.upsert, rows=rows[start : start + _BATCH]))

    def delete_many(self, partition: IndexPartition, ids: Sequence[str]) -> None:
        collection, unique = self._collection(partition), list(dict.fromkeys(ids))
        for start in range(0, len(unique) if collection.exists else 0, _BATCH):
            self._do(functools.partial(collection.delete, ids=unique[start : start + _BATCH]))

    def count(self, partition: IndexPartition) -> int:
        collection = self._collection(partition)
        return self._do(collection.count) if collection.exists else 0

    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        collection = self._collections.get(IndexPartition(query.namespace, query.embedder))
        if collection is None or not collection.exists:
            return [[] for _ in query.vectors]
        return self._do(lambda client: collection.nearest(client, query.vectors, query))

    def clear(self, namespace: str, pool: str) -> None:
        for partition in [partition for partition in self._collections if partition.namespace == namespace]:
            self._collections.pop(partition).exists = False
        for name in self._do(lambda client: self._named(client, _prefix(namespace, pool))):
            self._do(lambda client, name=name: client.drop_collection(name, timeout=self._timeout_s))  # type: ignore[misc]

    def close(self) -> None:
        client, self._client = self._client, None
        self._collections = {}
        if client is not None:
            client.close()

    def _collection(self, partition: IndexPartition) -> milvus.MilvusCollection:
        collection = self._collections.get(partition)
        if collection is None:
            raise VectorIndexError(f"{partition} is not open")
        return collection

    def _named(self, client: Any, prefix: str) -> list[str]:
        return [name for name in client.list_collections(timeout=self._timeout_s) if name.startswith(prefix)]

    def _do(self, job: Callable[[Any], T]) -> T:
        if self._left_to_parent:
            raise VectorIndexError("opened by a process that then forked; start workers by spawn to have it there")
        client = self._client
        try:
            with milvus.quiet():
                if client is None:
                    client = self._client = self._connected()
                return job(client)
        except VectorIndexError:
            raise
        except Exception as err:
            if client is not None:  # pymilvus does not connect again once that has failed
                self._client = None
                client.close()
            raise VectorIndexError(
                f"Milvus at {self._address.shown}: {err}; is it running, and do user and password fit?"
            ) from err

    def _connected(self) -> Any:
        address = self._address
        return milvus.connect(
            self._timeout_s,
            uri=f"{'https' if address.flag('ssl') else 'http'}://{address.host}:{address.port}",
            token=f"{address.user}:{address.password}" if address.password else address.user,
            db_name="".join(address.path),
        )


def _prefix(namespace: str, pool: str) -> str:
    """The prefix of the names of a namespace's collections."""
    return f"exp_pool_{digest(pool, namespace)}_"
