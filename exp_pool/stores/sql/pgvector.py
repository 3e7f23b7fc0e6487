"""Nearest-neighbour search by pgvector, in the database that has the rows and their vectors: one transaction for both.

Small spaces are scanned exactly, by the index over (namespace, embedder). A space that is large gets an HNSW index of
its own, which leaves out everybody else's rows: one index over all tenants would look at thousands of rows of others
before it came to a small tenant's own. Within a space, function, version and reuse scope are conditions of the same
query, and the index goes on until enough rows meet them (iterative scan, pgvector 0.8).
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
from psycopg import Connection, sql
from psycopg.adapt import Dumper
from psycopg.pq import Format

from exp_pool.core.contracts.plugs import IndexPartition, Neighbour, VectorQuery
from exp_pool.errors import StoreError
from exp_pool.stores.columns import keep, restore

_OLDEST = (0, 8)
_WIDEST = 2000  # dimensions that pgvector's HNSW takes; wider vectors are scanned
# Recall@10 of 0.99 at 100,000 vectors in clusters of near duplicates; pgvector's defaults (16, 64, 40) gave 0.9.
_BUILD = "m = 16, ef_construction = 128"
_SEARCH = "SET hnsw.ef_search = 200; SET hnsw.iterative_scan = strict_order; SET hnsw.max_scan_tuples = 1000000"
# Whoever made the extension may have put it into any schema.
_REACH = """SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(n.nspname), false)
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'vector' AND n.nspname <> ALL (current_schemas(false))"""
_PAGE = 1000
_BUILDING = 0x58504F4D  # the numbers of the advisory locks of whoever builds an index, and makes the column
_ENABLING = 0x58504F4E


class Embedding:
    """A stored vector, in pgvector's binary form on its way to the server."""

    def __init__(self, values: bytes) -> None:
        self.values = values


class _EmbeddingDumper(Dumper):
    format = Format.BINARY  # and no type: the server knows it by the column

    def dump(self, obj: Embedding) -> bytes:
        floats = np.frombuffer(obj.values, "<f4").astype(">f4")
        return struct.pack(">HH", floats.size, 0) + floats.tobytes()


def can_search(link: Connection[Any]) -> bool:
    """Prepare a connection; whether vectors of this schema are kept for pgvector, too."""
    link.adapters.register_dumper(Embedding, _EmbeddingDumper)
    link.execute(_REACH)
    statement = (
        "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('vectors') AND attname = 'embedding' AND attnum > 0"
    )
    if link.execute(statement).fetchone() is None:
        return False
    link.execute(_SEARCH)
    return True


def enable(link: Connection[Any], place: str) -> None:
    """Keep vectors for pgvector from now on, in a transaction. Where another process has done so, prepare for it.

    Args:
        link: in a transaction.
        place: the server, for people.

    Raises:
        StoreError: the extension is not there, or too old.
    """
    link.execute("SELECT pg_advisory_xact_lock(%s)", (_ENABLING,))  # IF NOT EXISTS fails where two are at it
    if can_search(link):
        return
    row = link.execute("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    if row is None:
        raise StoreError(
            f"{place}: the server has no extension pgvector: install it there (postgresql-NN-pgvector), or use another "
            "index"
        )
    link.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
    link.execute(_REACH)
    (version,) = link.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone() or ("0",)
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise StoreError(f"{place} has pgvector {version}; 0.8 is needed: ALTER EXTENSION vector UPDATE")
    link.execute("ALTER TABLE vectors ADD COLUMN IF NOT EXISTS embedding vector")
    # Rows up to a page stay whole: out of line, a scan of 20,000 vectors took five times as long.
    link.execute("ALTER TABLE vectors SET (toast_tuple_target = 8160)")
    link.execute("CREATE INDEX IF NOT EXISTS vectors_new ON vectors (namespace, embedder) WHERE embedding IS NULL")
    can_search(link)


def take_in(link: Connection[Any], namespace: str, embedder: str) -> None:
    """Vectors that a process stored which did not know of pgvector yet."""
    statement = (
        "SELECT id, position, data FROM vectors WHERE namespace = %s AND embedder = %s AND embedding IS NULL LIMIT %s"
    )
    while rows := link.execute(statement, (namespace, embedder, _PAGE), binary=True).fetchall():
        with link.cursor() as cursor:
            cursor.executemany(
                "UPDATE vectors SET embedding = %s WHERE namespace = %s AND id = %s AND position = %s",
                [(Embedding(data), namespace, id_, position) for id_, position, data in rows],
            )


def search(link: Connection[Any], query: VectorQuery) -> list[list[Neighbour]]:
    """See `protocols.VectorIndex.search`."""
    namespace, embedder = keep(query.namespace), keep(query.embedder)
    take_in(link, namespace, embedder)
    scope = {"function": query.function, "version": query.version, "reuse_scope": query.reuse_scope}
    wanted = {name: keep(value) for name, value in scope.items() if value is not None}
    dimension = query.vectors.shape[1]
    conditions = "".join(f' AND "{name}" = %s' for name in wanted)
    statement = (
        f"SELECT id, embedding::vector({dimension}) <=> %s::vector AS distance FROM vectors "
        f"WHERE namespace = %s AND embedder = %s{conditions} ORDER BY distance LIMIT %s"
    )
    found = []
    for vector in query.vectors:
        values = (Embedding(vector.astype("<f4").tobytes()), namespace, embedder, *wanted.values(), query.limit)
        # Not prepared: only a plan made for this namespace can use the index that has no other one's rows.
        rows = link.execute(statement, values, prepare=False, binary=True).fetchall()
        found.append([Neighbour(restore(id_), 1.0 - float(distance)) for id_, distance in rows])
    return found


def tend(link: Connection[Any], spaces: dict[IndexPartition, int], index_from: int) -> None:
    """Build an index for each space that has become large, and drop those of spaces that have nothing any more.

    Unless another process is at it: then nothing is done.
    """
    statement = (
        "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE i.indrelid = to_regclass('vectors') AND starts_with(c.relname, 'nearest_')"
    )
    known = dict(link.execute(statement).fetchall())
    names = {_name(space): space for space in spaces}
    large = [name for name, space in names.items() if spaces[space] >= index_from and not known.get(name)]
    dead = known.keys() - names.keys()
    if not (large or dead):
        return
    (mine,) = link.execute("SELECT pg_try_advisory_lock(%s)", (_BUILDING,)).fetchone() or (False,)
    if mine:
        try:
            for name in sorted(dead):
                _drop(link, name)
            for name in large:
                _build(link, names[name], name)
        finally:
            link.execute("SELECT pg_advisory_unlock(%s)", (_BUILDING,))


def _name(space: IndexPartition) -> str:
    return f"nearest_{hashlib.sha256(repr(tuple(space)).encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


def _drop(link: Connection[Any], name: str) -> None:
    link.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(name)))


def _build(link: Connection[Any], space: IndexPartition, name: str) -> None:
    """Beside those who write; what an earlier try left behind is removed first."""
    namespace, embedder = keep(space.namespace), keep(space.embedder)
    take_in(link, namespace, embedder)
    row = link.execute(
        "SELECT vector_dims(embedding) FROM vectors WHERE namespace = %s AND embedder = %s LIMIT 1",
        (namespace, embedder),
    ).fetchone()
    if row is None or row[0] > _WIDEST:
        return
    _drop(link, name)
    vector = f"(embedding::vector({int(row[0])})) vector_cosine_ops"
    statement = (
        f"CREATE INDEX CONCURRENTLY {{name}} ON vectors USING hnsw ({vector}) WITH ({_BUILD}) "
        f"WHERE namespace = {{namespace}} AND embedder = {{embedder}}"
    )
    link.execute(
        sql.SQL(statement).format(
            name=sql.Identifier(name), namespace=sql.Literal(namespace), embedder=sql.Literal(embedder)
        )
    )
