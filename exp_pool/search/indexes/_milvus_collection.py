"""A collection of Milvus, on a server or in a file of Milvus Lite: the same client, the same requests.

Filters hold digests only, so there is nothing in them that could be taken for an operator. (Milvus has templates for
filters; Milvus Lite does not know them.)
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from exp_pool.core.contracts.plugs import Neighbour, VectorQuery, VectorRow
from exp_pool.core.values.vectors import from_bytes
from exp_pool.errors import ConfigurationError, VectorIndexError
from exp_pool.runtime.plugs import to_install
from exp_pool.search.indexes._identifiers import quote, scope, unquote

_ID_BYTES = 65535  # the most that Milvus takes: an id that is longer when quoted is refused, and scanned
_DIGEST_BYTES = 32
_WIDEST = 16384  # the most neighbours that Milvus gives


def need(*packages: str, extra: str) -> None:
    """Check that packages are installed.

    Raises:
        ConfigurationError: one of these packages is not there.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigurationError(f"index='milvus://...' needs {missing[0]}; run {to_install(extra)}")


def connect(timeout_s: float, **where: Any) -> Any:
    """A client with a connection of its own."""
    from pymilvus import MilvusClient

    return MilvusClient(timeout=timeout_s, dedicated=True, **where)


class MilvusCollection:
    """One collection, which is made with its first row. Every method gets the client: a server's is made anew at times.

    Args:
        name: of the collection.
        index: the type and the parameters of its vectors' index.
        timeout_s: how long each request may wait.
        exists: whether it has been made.
        ef: candidates that the index looks at, where it is HNSW; at least as many as are asked for.
    """

    def __init__(
        self, name: str, index: dict[str, Any], timeout_s: float, *, exists: bool, ef: int | None = None
    ) -> None:
        self.name = name
        self.exists = exists
        self._index = index
        self._timeout_s = timeout_s
        self._ef = ef

    def upsert(self, client: Any, rows: Sequence[VectorRow]) -> None:
        """Add or replace rows. The next search finds them."""
        vectors = from_bytes([row.vector.values for row in rows if row.vector is not None])
        if not self.exists:
            self._create(client, vectors.shape[1])
        entities = [
            {"id": quote(row.id), "vector": vector, **scope(row.function, row.version, row.reuse_scope)}
            for row, vector in zip(rows, vectors, strict=True)
        ]
        client.upsert(self.name, entities, timeout=self._timeout_s)

    def _create(self, client: Any, dimension: int) -> None:
        from pymilvus import DataType

        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_ID_BYTES)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
        for field in scope("", "", ""):
            schema.add_field(field, DataType.VARCHAR, max_length=_DIGEST_BYTES)
        indexes = client.prepare_index_params()
        indexes.add_index("vector", metric_type="COSINE", **self._index)
        client.create_collection(self.name, schema=schema, consistency_level="Strong", timeout=self._timeout_s)
        # Not in step, or it waits half a second, for an empty index.
        client.create_index(self.name, indexes, timeout=self._timeout_s, sync=False)
        client.load_collection(self.name, timeout=self._timeout_s)
        self.exists = True

    def delete(self, client: Any, ids: Sequence[str]) -> None:
        """Forget rows."""
        if self.exists:
            client.delete(self.name, ids=[quote(id_) for id_ in ids], timeout=self._timeout_s)

    def count(self, client: Any) -> int:
        """How many rows there are."""
        if not self.exists:
            return 0
        found = client.query(self.name, filter="", output_fields=["count(*)"], timeout=self._timeout_s)
        return int(found[0]["count(*)"])

    def nearest(self, client: Any, vectors: np.ndarray, query: VectorQuery) -> list[list[Neighbour]]:
        """The neighbours of each vector, among the rows in scope.

        Args:
            client: of the server or the file.
            vectors: (m, d) float32, unit length.
            query: what restricts the rows, and how many are wanted.

        Raises:
            VectorIndexError: more are asked for than Milvus gives.
        """
        if not self.exists:
            return [[] for _ in vectors]
        if query.limit > _WIDEST:
            raise VectorIndexError(f"{query.limit} neighbours were asked for, and Milvus gives {_WIDEST} at most")
        wanted = scope(query.function, query.version, query.reuse_scope)
        found = client.search(
            self.name,
            [np.asarray(vector, dtype=np.float32) for vector in vectors],
            limit=query.limit,
            filter=" and ".join(f'{field} == "{value}"' for field, value in wanted.items()),
            output_fields=["id"],
            search_params={
                "metric_type": "COSINE",
                "params": {} if self._ef is None else {"ef": max(self._ef, query.limit)},
            },
            timeout=self._timeout_s,
        )
        return [
            [Neighbour(unquote(hit["id"]), float(hit["distance"])) for hit in hits if np.isfinite(hit["distance"])]
            for hits in found
        ]


# pymilvus writes each error to stderr, with its trace, before it raises it.

_ours = threading.local()


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress what pymilvus logs on this thread: the error that it raises says the same."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # or it tells of each fork on stderr
    import pymilvus  # noqa: F401  (it makes its handlers when it is imported)

    for handler in logging.getLogger("pymilvus").handlers:
        handler.addFilter(_not_ours)  # once, however often it is said
    before, _ours.quiet = getattr(_ours, "quiet", False), True
    try:
        yield
    finally:
        _ours.quiet = before


def _not_ours(record: logging.LogRecord) -> bool:  # noqa: ARG001
    return not getattr(_ours, "quiet", False)
