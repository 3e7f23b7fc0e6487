"""Rows in a collection of Milvus, on a server or in a file of Milvus Lite: the same client, the same requests.

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
    """Say what to install.

    Raises:
        ConfigurationError: one of these packages is not there.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ConfigurationError(f"index='milvus://...' needs {missing[0]}; run {to_install(extra)}")


def connect(timeout_s: float, **where: Any) -> Any:
    """A client of its own."""
    from pymilvus import MilvusClient

    return MilvusClient(timeout=timeout_s, dedicated=True, **where)


def create(client: Any, name: str, dimension: int, index: dict[str, Any], timeout_s: float) -> None:
    """Make a collection, ready to be searched. What is written is found by the next search."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_ID_BYTES)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    for field in scope("", "", ""):
        schema.add_field(field, DataType.VARCHAR, max_length=_DIGEST_BYTES)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", metric_type="COSINE", **index)
    client.create_collection(name, schema=schema, consistency_level="Strong", timeout=timeout_s)
    client.create_index(name, indexes, timeout=timeout_s, sync=False)  # or it waits half a second, for an empty index
    client.load_collection(name, timeout=timeout_s)


def upsert(client: Any, name: str, rows: Sequence[VectorRow], timeout_s: float) -> None:
    """Add or replace rows."""
    vectors = from_bytes([row.vector.values for row in rows if row.vector is not None])
    entities = [
        {"id": quote(row.id), "vector": vector, **scope(row.function, row.version, row.reuse_scope)}
        for row, vector in zip(rows, vectors, strict=True)
    ]
    client.upsert(name, entities, timeout=timeout_s)


def delete(client: Any, name: str, ids: Sequence[str], timeout_s: float) -> None:
    """Forget rows."""
    client.delete(name, ids=[quote(id_) for id_ in ids], timeout=timeout_s)


def count(client: Any, name: str, timeout_s: float) -> int:
    """How many rows there are."""
    found = client.query(name, filter="", output_fields=["count(*)"], timeout=timeout_s)
    return int(found[0]["count(*)"])


def nearest(
    client: Any, name: str, vectors: np.ndarray, query: VectorQuery, parameters: dict[str, Any], timeout_s: float
) -> list[list[Neighbour]]:
    """The neighbours of each vector, among the rows in scope.

    Raises:
        VectorIndexError: more are asked for than Milvus gives.
    """
    if query.limit > _WIDEST:
        raise VectorIndexError(f"{query.limit} neighbours were asked for, and Milvus gives {_WIDEST} at most")
    wanted = scope(query.function, query.version, query.reuse_scope)
    found = client.search(
        name,
        [np.asarray(vector, dtype=np.float32) for vector in vectors],
        limit=query.limit,
        filter=" and ".join(f'{field} == "{value}"' for field, value in wanted.items()),
        output_fields=["id"],
        search_params={"metric_type": "COSINE", "params": parameters},
        timeout=timeout_s,
    )
    return [
        [Neighbour(unquote(hit["id"]), float(hit["distance"])) for hit in hits if np.isfinite(hit["distance"])]
        for hits in found
    ]


# pymilvus writes each error to stderr, with its trace, before it raises it.

_ours = threading.local()


@contextmanager
def quiet() -> Iterator[None]:
    """What pymilvus logs on this thread meanwhile is not shown: the error that it raises says the same."""
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
