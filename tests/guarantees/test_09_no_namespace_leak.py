"""Guarantee 9: whatever is asked in one namespace, nothing of another comes back, though all hold the same requests.

Same texts, same keys, same vectors and, for half of the rows, same ids; only the answers tell whose they are. Threads
ask in every way there is, changing the namespace from one question to the next.
"""

import os
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import ContextVar
from urllib.parse import urlsplit

import pytest
from support.pools import new_url
from support.servers import postgres, until

from exp_pool import Experience, ThresholdJudge, bypass, in_namespace
from exp_pool.core.values.vectors import from_bytes
from exp_pool.errors import NotFoundError
from exp_pool.protocols import VectorQuery
from exp_pool.snapshots import load, save
from exp_pool.stores.sql.postgres import PostgresStore

FULL = os.environ.get("EXP_POOL_FULL") == "1"
SPACES, ROWS, LOOKUPS = (20, 500, 10_000) if FULL else (8, 60, 400)

# Names that patterns, case, trimming, Unicode forms or C strings would take for each other, and plain ones.
NAMES = ["tenant 1", "Tenant 1", "tenant 1 ", "tenant%", "tenant_1", "t\u00e9nant 1", "te\u0301nant 1", "tenant 1\0"]
NAMES = [*NAMES, *(f"tenant {n}" for n in range(10, 10 + SPACES - len(NAMES)))]

TENANT = ContextVar("tenant")


def text_of(n):
    """The tiny embedder counts letters: each text has a direction of its own."""
    return "ask " + "a" * (n % 8) + "b" * (n // 8 % 8) + "c" * (n // 64)


def id_of(space, n):
    return f"row {n}" if n % 2 else f"row {n} of {space}"


@pytest.fixture(params=["memory", "sqlite"])
def manager(request, make_manager, tmp_path):
    """A pool in which every namespace holds the same requests, all of them embedded."""
    manager = make_manager(store="memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/pool.db")
    put_rows(manager)
    return manager


@pytest.fixture(params=["postgresql", "mysql", "redis", "redis cluster"])
def on_a_server(request, make_manager):
    """The same on a server."""
    with new_url(request.param, request) as url:
        manager = make_manager(store=url, store_timeout=30)
        put_rows(manager)
        yield manager
        manager.sync.close()


@pytest.fixture(params=["scanned", "hnsw"])
def on_pgvector(request, make_manager):
    """The same where pgvector answers, without and with an HNSW index for each namespace."""
    with new_url("pgvector", request) as url:
        index_from = 10**6 if request.param == "scanned" else 1
        if index_from == 1:  # so few rows would be sorted instead
            ask(url, f"ALTER DATABASE {urlsplit(url).path[1:]} SET enable_sort = off")
        manager = make_manager(store=url, index="pgvector://", index_from=0, store_timeout=30)
        manager.sync._store.search_from(index_from)
        put_rows(manager)
        with closing(PostgresStore(url, 30)) as store:
            store.search_from(index_from)
            store.tidy(0)
            if index_from == 1:  # the manager's worker may be at it, and only one builds at a time
                until(lambda: store.tidy(0) or ask(url, COUNTED)[0] == SPACES, "every namespace has its index")
        assert ask(url, COUNTED) == (SPACES if index_from == 1 else 0, 0)
        yield manager
        manager.sync.close()
        if index_from == 1:
            until(lambda: ask(url, COUNTED)[1] > LOOKUPS / 10, "the server counts what was answered by an index")


COUNTED = "SELECT count(*), coalesce(sum(idx_scan), 0) FROM pg_stat_user_indexes WHERE indexrelname LIKE 'nearest%'"


def ask(url, statement):
    with postgres.connect(url) as connection:
        answer = connection.execute(statement)
        return answer.fetchone() if answer.description else None


def put_rows(manager):
    for space in NAMES:
        rows = [
            Experience(id=id_of(space, n), function="ask", request=text_of(n), response={"space": space, "n": n})
            for n in range(ROWS)
        ]
        with in_namespace(space):
            manager.sync.create_exps(rows)
    manager.sync.flush()
    assert manager.stats().embedded == SPACES * ROWS


@pytest.fixture(params=["chroma_url", "milvus_lite", "milvus_url"])
def indexed(request, make_manager, tmp_path):
    """The same with an index that answers: `scan` would hide what it does wrong."""
    if request.param == "milvus_lite":
        request.getfixturevalue("milvus_lite")
        url = f"milvus:///{tmp_path}/file.db"
    else:
        url = request.getfixturevalue(request.param)
    manager = make_manager(store=f"sqlite:///{tmp_path}/pool.db", index=url, index_from=0, store_timeout=30)
    put_rows(manager)
    assert manager.stats().indexed == SPACES * ROWS
    return manager


class Asker:
    """Each method asks in one way, fails where something is another's, and says whether it found its own."""

    def __init__(self, manager):
        self.pool = manager.sync

        @manager.exp_cache(name="ask")
        def ask(req):
            return "ran"

        @manager.exp_cache(name="ask", namespace=lambda call: TENANT.get())
        def ask_of(req):
            return "ran"

        @manager.exp_cache(name="ask", judge=ThresholdJudge(0.999))
        def ask_similar(req):
            return "ran"

        @manager.exp_cache(name="ask", inject="shown")
        def ask_shown(req, shown=()):
            return [experience.response for experience in shown]

        self.ask, self.ask_of, self.ask_similar, self.ask_shown = ask, ask_of, ask_similar, ask_shown

    def check(self, space, experiences, n=None):
        for experience in experiences:
            assert (experience.namespace, experience.response["space"]) == (space, space)
        return n is None or n in [experience.response["n"] for experience in experiences]

    def search(self, space, other, n):
        with in_namespace(space):
            hits = self.pool.search(text_of(n), top_k=5)
        assert len(hits) == 5
        return self.check(space, [hit.experience for hit in hits], n)

    def search_wide_by_name(self, space, other, n):
        with in_namespace(other):  # what is said in the query counts
            found = self.pool.query_exps(text_of(n), top_k=2 * ROWS, namespace=space, function="ask")
        assert len(found) == ROWS
        return self.check(space, found, n)

    def search_by_words(self, space, other, n):
        with in_namespace(space):
            hits = self.pool.search(text_of(n), query_type="lexical", top_k=5)
        assert len(hits) == 5
        return self.check(space, [hit.experience for hit in hits], n)

    def search_by_both(self, space, other, n):
        with in_namespace(other):
            found = self.pool.query_exps(text_of(n), query_type="hybrid", top_k=5, namespace=space)
        assert len(found) == 5
        return self.check(space, found, n)

    def search_exact(self, space, other, n):
        with in_namespace(space):
            found = self.pool.query_exps(text_of(n), query_type="exact")
        assert len(found) == 1
        return self.check(space, found, n)

    def get(self, space, other, n):
        with in_namespace(space):
            found = self.pool.get_exp(id_of(space, n))
        return self.check(space, [found], n)

    def get_foreign(self, space, other, n):
        n -= n % 2  # the ids that are not everybody's
        with in_namespace(space):
            return self.pool.get_exp(id_of(other, n)) is None

    def change_foreign(self, space, other, n):
        n -= n % 2
        with in_namespace(space):
            assert not self.pool.delete_exp(id_of(other, n))
            assert self.pool.delete_exps({"id": id_of(other, n)}) == 0
            with pytest.raises(NotFoundError):
                self.pool.annotate(id_of(other, n), expected="mine")
            with pytest.raises(NotFoundError):
                self.pool.update_exp(id_of(other, n), metadata={"mine": True})
        return True

    def iterate(self, space, other, n):
        with in_namespace(space):
            found = self.pool.iter_exps({"request": text_of(n)}, history=True)
        with in_namespace(other):  # it was asked before
            return self.check(space, list(found), n)

    def iterate_all(self, space, other, n):
        with in_namespace(space):
            found = list(self.pool.iter_exps(order_by="-created_at"))
        assert len(found) == ROWS
        return self.check(space, found, n)

    def count(self, space, other, n):
        with in_namespace(space):
            return (self.pool.get_exps_count(), self.pool.get_exps_count({"request": text_of(n)})) == (ROWS, 1)

    def call(self, space, other, n):
        with in_namespace(space):
            return self.ask(text_of(n)) == {"space": space, "n": n}

    def call_of(self, space, other, n):
        TENANT.set(space)
        return self.ask_of(text_of(n)) == {"space": space, "n": n}

    def call_similar(self, space, other, n):
        with in_namespace(space), bypass(read=False):
            answer = self.ask_similar.call(text_of(n) + "!")  # another key, the same vector
        assert answer.value["space"] == space
        return (answer.found_by, answer.id) == ("semantic", id_of(space, n))

    def call_shown(self, space, other, n):
        with in_namespace(space), bypass(read=False):
            shown = self.ask_shown(text_of(n) + "!")
        assert [one["space"] for one in shown] == [space] * 5
        return n in [one["n"] for one in shown]

    def look_up(self, space, other, n):
        with in_namespace(space):
            return self.check(space, [self.ask.lookup(text_of(n)).experience], n)


KINDS = [name for name in vars(Asker) if not name.startswith("_") and name != "check"]


def test_no_lookup_of_any_kind_crosses_and_each_finds_its_own(manager):
    ask_in_all_ways(manager)


@pytest.mark.timeout(1800)
def test_nor_where_an_index_answers(indexed):
    """In the end each index is asked without the join, too, which would drop what is another's."""
    ask_in_all_ways(indexed)
    assert_each_space_has_its_own(indexed)


@pytest.mark.timeout(1800)
def test_nor_on_a_server(on_a_server):
    ask_in_all_ways(on_a_server)


@pytest.mark.timeout(1800)
def test_nor_by_pgvector(on_pgvector):
    ask_in_all_ways(on_pgvector)
    assert_each_space_has_its_own(on_pgvector)


def assert_each_space_has_its_own(manager):
    store, index = manager.sync._store, manager.sync._index
    for space in NAMES:
        (at,) = store.partitions(space)
        vector = from_bytes([store.get_vectors(space, [id_of(space, 1)])[0].values])
        ids = {near.id for near in index.search(VectorQuery(*at, vector, 2 * ROWS))[0]}
        assert len(ids) >= 0.99 * ROWS
        assert ids <= {id_of(space, n) for n in range(ROWS)}


def ask_in_all_ways(manager):
    asker, chance = Asker(manager), random.Random(4)
    often = [kind for kind in KINDS if kind not in ("iterate_all", "search_wide_by_name")]  # which read everything
    kinds = [*KINDS * 2, *(chance.choice(often) for _ in range(LOOKUPS - 2 * len(KINDS)))]
    questions = [(kind, *chance.sample(NAMES, 2), chance.randrange(ROWS)) for kind in kinds]
    with ThreadPoolExecutor(4) as threads:
        found = Counter(threads.map(lambda asked: (asked[0], getattr(asker, asked[0])(*asked[1:])), questions))
    missed = {kind: count for (kind, own), count in found.items() if not own}
    assert found.total() == LOOKUPS
    assert sum(missed.values()) <= 0.01 * LOOKUPS, missed
    assert manager.stats().degraded == 0
    for space in NAMES:
        with in_namespace(space):
            assert manager.sync.get_exps_count() == ROWS


def test_what_is_done_to_one_namespace_is_done_to_no_other(manager):
    first, second, third, *rest = NAMES
    pool, asker = manager.sync, Asker(manager)
    with in_namespace(first):
        assert pool.delete_all_exps() == ROWS
    with in_namespace(second):
        assert pool.delete_exps({"function": "ask"}) == ROWS
        assert asker.ask(text_of(1)) == "ran"
        assert [hit.experience.response for hit in pool.search(text_of(1))] == ["ran"]
    with in_namespace(third):
        assert pool.annotate(id_of(third, 1), expected="better").value == "better"
        assert asker.ask(text_of(1)) == "better"
        assert asker.ask.invalidate(text_of(3)) == 1
    for space in rest:
        for n in (0, 1, 3):
            assert asker.call(space, first, n)
            assert asker.search(space, first, n)
        with in_namespace(space):
            assert pool.get_exps_count() == ROWS


def test_the_same_call_in_all_namespaces_at_once_is_one_call_in_each(manager):
    all_run = threading.Barrier(SPACES, timeout=20)

    @manager.exp_cache
    def whose(req):
        all_run.wait()
        return TENANT.get()

    def call(space):
        TENANT.set(space)
        with in_namespace(space):
            return whose("the same")

    with ThreadPoolExecutor(SPACES) as threads:
        assert list(threads.map(call, NAMES)) == NAMES
    assert [call(space) for space in NAMES] == NAMES
    assert (manager.stats().misses, manager.stats().hits) == (SPACES, SPACES)


def test_an_export_holds_its_own_namespace_only(manager, make_manager, tmp_path):
    space, store = NAMES[0], manager.sync.store
    exporting = make_manager(store=store, namespace=space)
    save(exporting, tmp_path / "files")
    with make_manager(namespace=space) as importing:
        assert load(importing, tmp_path / "files") == ROWS
        found = list(importing.sync.iter_exps(history=True))
    assert [e.response["space"] for e in found] == [space] * ROWS
