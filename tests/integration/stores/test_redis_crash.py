"""Whoever writes may die between any two commands, and whoever reads may look at any time: nothing is lost or double."""

import threading
import uuid
from dataclasses import replace

import pytest
import redis
from support.servers.redis_server import pool_at

from exp_pool.core.record import TaskKind, hash_text
from exp_pool.errors import StoreError
from exp_pool.protocols import Completion, Deletion, EvictionOrder, Put, PutMode, RecordQuery, Touch
from exp_pool.runtime.clock import now_us
from exp_pool.stores.redis import listing
from exp_pool.testing.factories import put, row, vector

_BOTH = ["redis_url", pytest.param("redis_cluster_url", marks=pytest.mark.slow)]


class Dying:
    """Lets so many commands through, also of a pipeline, and nothing any more."""

    def __init__(self, server, lives):
        self.left, self._send = lives, server.send

    def __call__(self, node, commands):
        done = self._send(node, commands[: self.left]) if self.left else []
        self.left -= len(done)
        if len(done) < len(commands):
            raise redis.TimeoutError("it was made to die here")
        return done


class Follower:
    """Reads on from where it got to, as the index and the lexical search do."""

    def __init__(self, store):
        self.store, self.vectors, self.requests = store, {}, {}
        self.at = [0, 0]

    def read(self):
        while rows := self.store.vectors_after("n", "e", self.at[0], 3):
            for found in rows:
                self.vectors.pop(found.id, None)
                if found.vector is not None:
                    self.vectors[found.id] = found.vector
            self.at[0] = rows[-1].position
        while rows := self.store.requests_after("n", self.at[1], 3):
            self.requests |= {found.id: found.request for found in rows}
            self.at[1] = rows[-1].position


def life(store, said):
    """Everything that changes rows; `said` hears what was acknowledged: id -> whether it is there."""
    a, b, c = row("a"), row("b"), row("c", embed_due=None)
    said |= {r.id: True for r, _ in zip([a, b], store.put_many([Put(a, vector=vector(1)), Put(b)]), strict=True)}
    yield
    newer = row("a", "newer")
    store.put_many([Put(newer, vector=vector(2)), Put(c)])
    said |= {newer.id: True, c.id: True}
    yield
    store.complete_many([Completion("n", b.id, TaskKind.EMBED, vector=vector(3))])
    yield
    store.put_many([Put(replace(b, response='"changed"'), PutMode.UPDATE, expected_revision=1)])
    store.touch_many("n", [Touch(b.id, 1, 5)])
    said[b.id] = "changed"
    yield
    mine = row("d")
    lease = store.claim("n", mine.key, "me", 60).lease
    store.put_many([Put(mine, lease=lease, vector=vector(4))])
    said[mine.id] = True
    yield
    said[newer.id] = "going"
    assert store.delete_many("n", [newer.id]) == [newer.id]
    said[newer.id] = "buried"
    yield
    said.pop(a.id)
    assert [gone.id for gone in store.evict("n", EvictionOrder.LRU, 1)] == [a.id]  # history goes first
    said[a.id] = False
    yield
    said.pop(c.id)
    store.apply_tombstones("n", [Deletion(c.id, 7)])
    said[c.id] = "buried"
    yield
    everything = dict(said)
    said.clear()
    store.clear("n")
    said |= dict.fromkeys(everything, False)
    yield


def check_all(store, said, follower):
    follower.read()
    rows = {r.id: r for r in store.scan(RecordQuery("n", history=True))}
    assert len(rows) == store.usage("n").rows == store.count(RecordQuery("n", history=True))
    assert sum(r.size_bytes for r in rows.values()) == store.usage("n").bytes
    tombstones = {d.id for d in store.deletions("n")}
    for id_, state in said.items():
        if state == "going":  # nobody was told, but what is gone must not come back with another pool's copy
            assert (id_ in rows) is (id_ not in tombstones)
            continue
        assert (id_ in rows) is (state in (True, "changed")), (id_, state)
        assert state != "buried" or id_ in tombstones
        assert state != "changed" or rows[id_].response == '"changed"'
    current = {r.id: r for r in rows.values() if r.is_current}
    assert len({r.key for r in current.values()}) == len(current)
    assert {r.id for r in store.scan(RecordQuery("n"))} == current.keys()
    assert store.count(RecordQuery("n")) == len(current)
    for r in rows.values():
        assert store.get_many("n", [r.id], by="id") == [r]
        assert r.id in {f.id for f in store.scan(RecordQuery("n", (), history=True), order_by="size_bytes")}
        if r.is_current:
            assert store.get_many("n", [r.key]) == [r]
    vectors = {i: v for i, v in zip(rows, store.get_vectors("n", list(rows)), strict=True) if v is not None}
    assert vectors.keys() <= current.keys()
    assert follower.vectors == vectors
    assert store.partitions() == ({("n", "e"): len(vectors)} if vectors else {})
    assert {i: t for i, t in follower.requests.items() if i in current} == {i: r.request for i, r in current.items()}
    owing = {r.id for r in store.scan(RecordQuery(None, pending=TaskKind.EMBED))}
    assert owing == {r.id for r in current.values() if r.embed_due is not None}
    assert store.check() == []


@pytest.mark.parametrize("kind", _BOTH)
def test_who_dies_between_two_commands_loses_and_doubles_nothing(kind, request, monkeypatch):
    url = request.getfixturevalue(kind)
    died, lives = True, 0
    while died:
        prefix = f"test-{uuid.uuid4().hex}"
        with pool_at(url, prefix) as witness, pool_at(url, prefix) as doomed:
            said, died, follower = {}, False, Follower(witness)
            assert doomed.get_many("n", ["nothing"]) == [None]  # connected, and the scripts are known
            doomed._server.send = Dying(doomed._server, lives)
            try:
                for _ in life(doomed, said):
                    follower.read()
            except StoreError:
                died = True
            with monkeypatch.context() as patch:  # as if a minute had passed
                patch.setattr(listing, "LEFT_BEHIND_US", -(10**9))
                check_all(witness, said, follower)
            again = row("a", "again")
            witness.put_many([Put(again, vector=vector(9))])  # and the pool is used on
            assert witness.get_many("n", [again.key]) == [again]
            check_all(witness, {again.id: True}, follower)
        lives += 1 if kind == "redis_url" else 5
    assert lives > 50


def _supersede(other, mine):
    put(other, row("k", "theirs"))


def _delete(other, mine):
    other.delete_many("n", [mine.id])


def _replace(other, mine):
    """The id goes and comes back as another row."""
    other.delete_many("n", [mine.id])
    put(other, replace(mine, request="another", request_hash=hash_text("another")))


def _clear(other, mine):
    other.clear("n")


def _add_history(other, mine):
    put(other, row("k", "then", is_current=False))


@pytest.mark.parametrize("meanwhile", [_supersede, _delete, _replace, _clear, _add_history])
def test_between_two_steps_of_one_writer_another_may_do_anything(redis_url, meanwhile):
    number, hit = 0, True
    while hit:
        prefix = f"test-{uuid.uuid4().hex}"
        with pool_at(redis_url, prefix) as store, pool_at(redis_url, prefix) as other:
            follower, count, hit, send = Follower(other), 0, False, store._server.send
            first, mine = row("k"), row("k", "mine")
            put(store, first)

            def slow(node, commands):
                nonlocal count, hit
                count += 1
                if count == number:
                    hit = True
                    meanwhile(other, mine)
                    follower.read()
                return send(node, commands)

            store._server.send = slow
            store.put_many([Put(mine, vector=vector(1))])
            store.complete_many([Completion("n", mine.id, TaskKind.EMBED, vector=vector(2))])
            newer = row("k", "newest")
            store.put_many([Put(newer, vector=vector(3))])
            store.delete_many("n", [mine.id])
            store._server.send = send
            check_all(other, {}, follower)
        number += 1
        hit = hit or number == 1
    assert number > 9


def test_an_id_that_comes_back_after_half_a_deletion_is_another_row(redis_url):
    prefix = f"test-{uuid.uuid4().hex}"
    with pool_at(redis_url, prefix) as store, pool_at(redis_url, prefix) as doomed:
        mine, follower = row("k"), Follower(store)
        store.put_many([Put(mine, vector=vector(1))])
        follower.read()
        doomed._server.send = Dying(doomed._server, 5)  # it is gone from its key, and listed as ever
        with pytest.raises(StoreError):
            doomed.delete_many("n", [mine.id])
        assert store.get_many("n", [mine.key]) == [None]
        back = replace(mine, request="another", request_hash=hash_text("another"))
        store.put_many([Put(back, vector=vector(2))])
        check_all(store, {back.id: True}, follower)


@pytest.mark.parametrize("kind", _BOTH)
@pytest.mark.parametrize("half", ["inserted", "deleted"])
def test_an_id_that_a_dead_client_holds_is_a_conflict_under_another_key_until_it_is_recovered(
    kind, half, request, monkeypatch
):
    url, prefix = request.getfixturevalue(kind), f"test-{uuid.uuid4().hex}"
    with pool_at(url, prefix) as store, pool_at(url, prefix) as doomed:
        mine, follower = row("k"), Follower(store)
        assert doomed.get_many("n", ["nothing"]) == [None]
        put(store, row("first"), *([mine] if half == "deleted" else []))  # the listing's master knows the scripts
        doomed._server.send = Dying(
            doomed._server, {"inserted": 3, "deleted": 5}[half]
        )  # announced; or gone, but listed
        with pytest.raises(StoreError):
            put(doomed, mine) if half == "inserted" else doomed.delete_many("n", [mine.id])
        other = replace(row("another"), id=mine.id)
        assert put(store, other) == ["conflict"]
        with monkeypatch.context() as patch:  # as if a minute had passed
            patch.setattr(listing, "LEFT_BEHIND_US", -(10**9))
            assert put(store, other) == ["current"]
            check_all(store, {other.id: True}, follower)


def test_who_is_taken_over_between_two_steps_is_refused(redis_url):
    prefix = f"test-{uuid.uuid4().hex}"
    with pool_at(redis_url, prefix) as store, pool_at(redis_url, prefix) as other:
        mine, yours, send = row(response="mine"), row(response="yours"), store._server.send
        first = store.claim("n", mine.key, "me", -1).lease
        count = 0

        def slow(node, commands):
            nonlocal count
            count += 1
            if count == 2:  # it has read that the lease is its own, and is about to write
                assert other.claim("n", mine.key, "you", 60).lease is not None
            return send(node, commands)

        store._server.send = slow
        assert put(store, mine, lease=first) == ["stale"]
        assert other.get_many("n", [mine.key]) == [None]
        assert put(other, yours, mine) == ["current", "current"]
        check_all(other, {yours.id: True, mine.id: True}, Follower(other))


@pytest.mark.parametrize("kind", _BOTH)
def test_a_reply_that_is_lost_makes_nothing_twice(kind, request):
    """The connection breaks after the server has done it, at every command in turn; the call succeeds all the same."""
    url, number, hit = request.getfixturevalue(kind), 0, True
    while hit:
        with pool_at(url) as store:
            count, hit, send = 0, False, store._server.send

            def losing(node, commands):
                nonlocal count, hit
                replies = send(node, commands)
                count += 1
                if count == number:
                    hit = True
                    raise redis.ConnectionError("its reply was lost")
                return replies

            store._server.client
            store._server.send = losing
            kept, gone = row("kept"), row("gone")
            lease = store.claim("n", kept.key, "me", 60).lease
            assert store.put_many([Put(kept, lease=lease, vector=vector(1)), Put(gone)]) == ["current", "current"]
            store.touch_many("n", [Touch(kept.id, 3, 5)])
            store.complete_many([Completion("n", kept.id, TaskKind.SCORE)])
            assert store.delete_many("n", [gone.id]) == [gone.id]
            (now,) = store.get_many("n", [kept.key])
            assert (now.id, now.access_count) == (kept.id, 3)
            assert [d.id for d in store.deletions("n")] == [gone.id]
            follower = Follower(store)
            check_all(store, {kept.id: True, gone.id: "buried"}, follower)
        number += 1
        hit = hit or number == 1
    assert number > 15


def test_a_process_whose_clock_is_fast_reads_on(redis_url, monkeypatch):
    """It takes every mark for one left behind; the server's clock decides, so the writer's stays."""
    prefix = f"test-{uuid.uuid4().hex}"
    with pool_at(redis_url, prefix) as store, pool_at(redis_url, prefix) as doomed:
        mine = row("k")
        assert doomed.get_many("n", [mine.key]) == [None]
        doomed._server.send = Dying(doomed._server, 4)  # the row is there, and not listed
        with pytest.raises(StoreError):
            put(doomed, mine)
        assert list(store.scan(RecordQuery("n"))) == []
        monkeypatch.setattr(listing, "now_us", lambda: now_us() + 10**9)
        assert list(store.scan(RecordQuery("n"))) == [mine]
        assert store._server.client.zcard(store._keys.listing("n").marks) == 1


def test_readers_that_follow_while_many_write_miss_nothing(redis_url):
    prefix = f"test-{uuid.uuid4().hex}"
    with pool_at(redis_url, prefix) as store:
        follower, writing = Follower(store), threading.Event()

        def write(part):
            for i in range(25):
                new = [row(f"{part}-{i}-{j}") for j in range(2)] + [row(f"shared {i}", f"{part}")]
                store.put_many([Put(r, vector=vector(i, j)) for j, r in enumerate(new)])
                if i % 5 == 0:
                    store.delete_many("n", [new[0].id])

        threads = [threading.Thread(target=write, args=(part,)) for part in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            follower.read()
        writing.set()
        check_all(store, {}, follower)
        assert store.count(RecordQuery("n")) == 4 * 25 * 2 - 4 * 5 + 25
