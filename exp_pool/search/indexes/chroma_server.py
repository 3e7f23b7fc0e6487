"""``chroma://host:port``: a Chroma server, shared by processes and hosts. It gets ids, vectors and scope, never texts.

One collection for each (pool, namespace, embedder): what is searched are rows of one namespace only, and a namespace
that is cleared takes its collection with it. The server gives each collection an id of its own, which names the
generation: one that was lost and made again is filled again.

The client's constructor asks the server without a time-out, and so does every request of it; so `ServerAPI`, on which
that client is built, is used instead, with a bound on each request.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import IndexPartition, Neighbour, RecordStore, VectorQuery, VectorRow
from exp_pool.errors import ConfigurationError, VectorIndexError
from exp_pool.runtime.forks import reinit_after_fork
from exp_pool.search.indexes._address import Address, parse
from exp_pool.search.indexes._chroma_collection import HNSW, ChromaCollection
from exp_pool.search.indexes._identifiers import digest

T = TypeVar("T")

_PORT = 8000
_BATCH = 500  # 0.2 s of a server that is not busy: far below any time-out
_LISTED = 500  # collections in one reply


@reinit_after_fork()
class ChromaServerIndex:
    """Approximate similarity (HNSW, cosine) on a Chroma server.

    Args:
        url: ``chroma://host:port``, with ``/tenant/database`` where they are not the default ones, and ``?ssl=true``
            for TLS. What else the server asks for, such as a token, the client takes from ``CHROMA_*`` in the
            environment.
        timeout_s: how long each request may wait for the server.

    Raises:
        ConfigurationError: the URL cannot be understood.
    """

    derived = True

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        self._address = parse(url, port=_PORT, paths=2)
        if self._address.user:
            raise ConfigurationError(
                f"index={self._address.shown!r}: a Chroma server takes no user and password in its URL; put "
                "CHROMA_CLIENT_AUTH_PROVIDER and CHROMA_CLIENT_AUTH_CREDENTIALS into the environment"
            )
        if len(self._address.path) == 1:
            raise ConfigurationError(f"index={self._address.shown!r} names a tenant only; write /tenant/database")
        self._timeout_s = timeout_s
        self._server: _Server | None = None
        self._collections: dict[IndexPartition, ChromaCollection] = {}

    @classmethod
    def from_url(cls, url: str, config: ExpPoolConfig, store: RecordStore) -> ChromaServerIndex:  # noqa: ARG003
        """The index of ``chroma://host:port``."""
        return cls(url, timeout_s=config.store_timeout)

    def generation(self, partition: IndexPartition, pool: str) -> str:
        name = f"{_prefix(partition.namespace, pool)}{digest(partition.embedder)}"
        collection = self._do(lambda: self._connected().collection(name))
        self._collections[partition] = collection
        return collection.id

    def upsert_many(self, partition: IndexPartition, rows: Sequence[VectorRow]) -> None:
        collection = self._collection(partition)
        for start in range(0, len(rows), _BATCH):
            self._do(functools.partial(collection.upsert, rows[start : start + _BATCH]))

    def delete_many(self, partition: IndexPartition, ids: Sequence[str]) -> None:
        collection = self._collection(partition)
        unique = list(dict.fromkeys(ids))
        for start in range(0, len(unique), _BATCH):
            self._do(functools.partial(collection.delete, unique[start : start + _BATCH]))

    def count(self, partition: IndexPartition) -> int:
        return self._do(self._collection(partition).count)

    def search(self, query: VectorQuery) -> list[list[Neighbour]]:
        collection = self._collections.get(IndexPartition(query.namespace, query.embedder))
        if collection is None:
            return [[] for _ in query.vectors]
        return self._do(lambda: [collection.nearest(vector, query) for vector in query.vectors])

    def clear(self, namespace: str, pool: str) -> None:
        for partition in [partition for partition in self._collections if partition.namespace == namespace]:
            del self._collections[partition]
        self._do(lambda: self._connected().drop(_prefix(namespace, pool)))

    def close(self) -> None:
        server, self._server = self._server, None
        self._collections = {}
        if server is not None:
            server.close()

    def _collection(self, partition: IndexPartition) -> ChromaCollection:
        collection = self._collections.get(partition)
        if collection is None:
            raise VectorIndexError(f"{partition} is not open")
        return collection

    def _connected(self) -> _Server:
        if self._server is None:
            self._server = _Server(self._address, self._timeout_s)
        return self._server

    def _do(self, job: Callable[[], T]) -> T:
        import httpx

        address = self._address
        try:
            return job()
        except httpx.TimeoutException as err:
            raise VectorIndexError(
                f"the Chroma server at {address.shown} gave no answer within {self._timeout_s:g} s (store_timeout)"
            ) from err
        except httpx.TransportError as err:
            raise VectorIndexError(
                f"no Chroma server at {address.shown}: {err}; start one with "
                f"`chroma run --path FOLDER --port {address.port}`"
            ) from err
        except Exception as err:
            raise VectorIndexError(f"the Chroma server at {address.shown} refused: {err}") from err


class _Server:
    """A connection to a server, with a time-out on each request."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        import httpx
        from chromadb.api.fastapi import FastAPI
        from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings, System

        tenant, database = address.path or (DEFAULT_TENANT, DEFAULT_DATABASE)
        self._where = {"tenant": tenant, "database": database}
        settings = Settings(
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            chroma_server_host=address.host,
            chroma_server_http_port=address.port,
            chroma_server_ssl_enabled=address.flag("ssl"),
            anonymized_telemetry=False,
        )
        self._system = System(settings)
        self._api: Any = self._system.instance(FastAPI)
        self._api._session.timeout = httpx.Timeout(timeout_s)  # noqa: SLF001  (no setting says it)
        self._system.start()

    def collection(self, name: str) -> ChromaCollection:
        """The collection of this name, made where there is none."""
        from chromadb.api.models.Collection import Collection

        model = self._api.get_or_create_collection(name=name, configuration={"hnsw": HNSW}, **self._where)
        return ChromaCollection(Collection(client=self._api, model=model, embedding_function=None))

    def drop(self, prefix: str) -> None:
        """Remove the collections whose names begin so."""
        from chromadb.errors import NotFoundError

        names: list[str] = []
        while page := self._api.list_collections(limit=_LISTED, offset=len(names), **self._where):
            names += [model.name for model in page]
        for name in names:
            if name.startswith(prefix):
                try:
                    self._api.delete_collection(name, **self._where)
                except NotFoundError:  # another process was quicker
                    continue

    def close(self) -> None:
        """Give back the connections."""
        self._system.stop()
        self._api._session.close()  # noqa: SLF001  (it has no method for that)


def _prefix(namespace: str, pool: str) -> str:
    """The prefix of the names of a namespace's collections."""
    return f"exp_pool-{digest(pool, namespace)}-"
