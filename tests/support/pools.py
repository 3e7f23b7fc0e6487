"""Pools that hold something of everything, and all that a store keeps: for tests that compare two stores."""

import itertools
import secrets
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import NamedTuple

from support.servers.databases import new_database
from support.servers.redis_server import pool_at

from exp_pool.api.registry import open_store
from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.record import TaskKind
from exp_pool.protocols import Completion, Deletion, Put, PutMode, RecordQuery, Touch, VectorQuery
from exp_pool.search.indexes.pgvector import PgVectorIndex
from exp_pool.stores.json.store import JsonStore
from exp_pool.stores.memory import MemoryStore
from exp_pool.stores.sql.sqlite import SqliteStore
from exp_pool.testing.factories import NASTY_TEXTS, put, row, unit, vector

# Every store that a pool may move from and to; a new one is one line here: from a folder of its own to an empty store.
STORES = {
    "json": lambda folder: JsonStore(folder / "pool"),
    "memory": lambda folder: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(folder / "pool.db"),
}
# And on servers, each with the fixture that has its URL.
SERVERS = {
    "postgresql": "postgres_server_url",
    "pgvector": "pgvector_server_url",
    "mysql": "mysql_server_url",
    "redis": "redis_url",
    "redis cluster": "redis_cluster_url",
}
ROUTES = [
    *itertools.product(STORES, STORES),
    *(route for kind in SERVERS for route in (("sqlite", kind), (kind, "sqlite"))),
    ("postgresql", "redis"),
]


@contextmanager
def new_url(kind, request):
    """The URL of an empty pool on a server, which is gone afterwards."""
    server = request.getfixturevalue(SERVERS[kind])
    if not kind.startswith("redis"):
        with new_database(server) as url:
            yield url
        return
    prefix = f"test-{secrets.token_hex(8)}"
    with pool_at(server, prefix):
        yield f"{server}?prefix={prefix}"


@contextmanager
def new_store(kind, request, folder):
    """An empty store; on a server it is gone afterwards."""
    with ExitStack() as stack:
        if kind in STORES:
            yield stack.enter_context(closing(STORES[kind](folder)))
            return
        url = stack.enter_context(new_url(kind, request))
        store = stack.enter_context(closing(open_store(url, ExpPoolConfig(store_timeout=20))))
        if kind == "pgvector":
            PgVectorIndex(store).search(VectorQuery("n", "e", unit(0), 1))  # from now on vectors are kept for it
        yield store


class Kept(NamedTuple):
    """What a namespace holds that belongs to no place."""

    rows: list
    vectors: list
    states: dict
    logs: dict
    deletions: list
    cutoff: int | None


def everything(store, in_order=True):
    """By namespace, as read back: rows in their order (or that of their ids), vectors, states, logs, deletions, cut-off."""
    return {space: _kept(store, space, in_order) for space in store.namespaces()}


def _kept(store, space, in_order):
    rows = list(store.scan(RecordQuery(space, history=True)))
    if not in_order:
        rows.sort(key=lambda r: r.id)
    names = store.names(space)
    return Kept(
        rows,
        store.get_vectors(space, [r.id for r in rows]),
        {n: store.read_state(space, n).value for n in names.states if not n.startswith("index:")},
        {n: [entry for _, entry in store.read_log(space, n, limit=10**6)] for n in names.logs},
        sorted(store.deletions(space, limit=10**6)),
        store.cleared_at(space),
    )


def fill(store, count):
    """About `count` rows in several namespaces, a fifth of them history; vectors of two embedders; and all the rest."""
    for space, share in (("n", count * 3 // 4), ("日本語 \ud800\0'%", count // 4 - 2 * len(NASTY_TEXTS))):
        rows = [_row(i, share, space) for i in range(share)]
        vectors = [vector(*unit(i)[0], embedder=f"e{i % 2}", whole=i % 5 != 0) for i in range(share)]
        store.put_many(
            [Put(r, vector=v if i % 3 else None) for i, (r, v) in enumerate(zip(rows, vectors, strict=True))]
        )
        current = [r for r in store.get_many(space, [r.id for r in rows], by="id") if r.is_current]
        store.delete_many(space, [r.id for r in rows[3 : share // 20]])
        edited = [r for r in current[-9:] if not r.annotated]
        put_updates(store, [replace(r, response='"edited"', trust="quarantined") for r in edited])
        store.touch_many(space, [Touch(r.id, i, 1_700_000_000_000_000 + i) for i, r in enumerate(current[::7])])
        store.complete_many(
            [Completion(space, r.id, TaskKind.EMBED, vector=vector(1, 2, embedder="e1")) for r in current[:40:4]]
        )
        store.complete_many([Completion(space, r.id, TaskKind.EMBED, done=False, retry_at=5) for r in current[1:40:4]])
        store.enqueue(RecordQuery(space, history=False), TaskKind.SCORE)
        for revision in (None, 1, 2):
            store.write_state(space, "judge", f'{{"seen": {revision}}}', revision)
        store.write_state(space, "index:e0", "here only", None)
        store.append_log(space, "long", [f"entry {i % 7}" for i in range(230)])
        for r in current[::10]:
            store.append_log(space, f"audit:{r.id}", ["created", "edited"])
    for text in NASTY_TEXTS:
        put(store, row(text, text, text or "-", id=text or "id", principal=text, model=text, strategy=text))
        store.write_state(text or "-", text, text, None)
        store.append_log(text or "-", text, [text, text])
    put(store, row("gone", namespace="cleared"))
    store.clear("cleared")
    put(store, row("since", namespace="cleared"), row("restored", namespace="cleared", created_at=7))
    store.apply_tombstones("buried", [Deletion("x", 5), Deletion("y", 6)])
    store.write_state("", "pool", "this one", None)
    store.claim("leased", "k", "me", 3600)


def _row(i, share, space):
    more = {
        0: {"expected": "what a person said"},
        1: {"expires_at": 5},
        2: {"trust": "quarantined"},
        3: {"origin": "manual", "strategy": "s"},
        4: {"score": 0.5, "metadata": {"tags": ["a", NASTY_TEXTS[i % len(NASTY_TEXTS)]]}},
    }.get(i % 11, {})
    asked = i % max(1, share * 4 // 5)  # a fifth is asked again
    request = f"{NASTY_TEXTS[asked % len(NASTY_TEXTS)]} {asked}"
    return row(
        request, {"answer": i}, space, function=f"f{asked % 3}", created_at=10**15 + i // 4, id=f"{i:08}", **more
    )


def put_updates(store, records):
    """Edit rows."""
    store.put_many([Put(r, PutMode.UPDATE, expected_revision=r.revision) for r in records])


def change(store):
    """What a pool in use does after it was copied; of the namespace n. What is compared later is all brought along."""
    rows = [r for r in store.scan(RecordQuery("n")) if not r.annotated]
    put_updates(store, [replace(rows[0], response='"edited twice"'), replace(rows[1], expected='"annotated"')])
    put_updates(store, store.get_many("n", [rows[0].id], by="id"))
    put(store, row("new"), row("superseding", is_current=True, key=rows[2].key), row("old", is_current=False))
    annotated = next(r for r in store.scan(RecordQuery("n")) if r.annotated)
    put(store, row("by hand", origin="manual", key=annotated.key, created_at=3))
    store.delete_many("n", [rows[3].id])
    later = row("superseded, then the later one deleted", key=rows[4].key)
    put(store, later)
    store.delete_many("n", [later.id])
    store.touch_many("n", [Touch(rows[5].id, 3, 2_000_000_000_000_000)])
    put(store, row("owed"))
    store.complete_many([Completion("n", rows[6].id, TaskKind.EMBED, vector=vector(5, 6, embedder="e0"))])
    store.complete_many([Completion("n", rows[7].id, TaskKind.SCORE)])
    store.write_state("n", "judge", "seen more", store.read_state("n", "judge").revision)
    store.append_log("n", "long", ["entry 1", "entry 1", "the last"])
