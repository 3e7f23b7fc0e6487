"""A pool in Redis and the world around it: processes, servers that die, hang or refuse, hostile text."""

import os
import queue
import subprocess
import sys
import threading
import uuid

import pytest
import redis
from support.servers import until
from support.servers.redis_server import pool_at

from exp_pool import ExpManager
from exp_pool.api.registry import open_store
from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.filters import parse_where
from exp_pool.core.record import TaskKind, Vector
from exp_pool.core.values.vectors import to_bytes
from exp_pool.errors import ConfigurationError, StoreError
from exp_pool.protocols import Completion, Put, PutStatus, RecordQuery
from exp_pool.testing.factories import put, row, unit, vector

CALLER = """
import sys
from exp_pool import ExpManager
url, out, keys = sys.argv[1], sys.argv[2], int(sys.argv[3])
manager = ExpManager(store=url, index="none://", embedder="none", namespace="many", lease_timeout=20)

@manager.exp_cache(name="slow")
def slow(number):
    with open(out, "a") as file:  # one short line: written in one go
        file.write(f"{number}\\n")
    return f"answer {number}"

print("ready", flush=True)
sys.stdin.readline()
assert [slow(number) for number in range(keys)] == [f"answer {number}" for number in range(keys)]
manager.sync.close()
"""


@pytest.fixture
def prefix():
    return f"test-{uuid.uuid4().hex}"


@pytest.mark.parametrize("kind", ["redis_url", pytest.param("redis_cluster_url", marks=pytest.mark.slow)])
def test_of_four_processes_one_runs_each_call(kind, request, prefix, tmp_path):
    url = request.getfixturevalue(kind)
    with pool_at(url, prefix) as store:
        ran = tmp_path / "ran"
        line = [sys.executable, "-c", CALLER, f"{url}?prefix={prefix}", str(ran), "50"]
        callers = [subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        for caller in callers:
            assert caller.stdout.readline() == "ready\n"
        for caller in callers:
            caller.stdin.write("go\n")
            caller.stdin.flush()
        for caller in callers:
            caller.communicate(timeout=120)
            assert caller.returncode == 0
        assert sorted(map(int, ran.read_text().split())) == list(range(50))
        assert store.count(RecordQuery("many")) == 50


def test_leases_end_by_the_servers_clock_and_are_kept_no_longer(redis_url, prefix, monkeypatch):
    with pool_at(redis_url, prefix) as store, pool_at(redis_url, prefix) as other:
        lease = store.claim("n", "k", "me", 60).lease
        monkeypatch.setattr("exp_pool.runtime.clock.now_us", lambda: 2**52)  # this process believes that it is 2112
        assert other.claim("n", "k", "you", 60).lease is None
        monkeypatch.undo()
        late = store.claim("n", "gone", "me", -1).lease
        taken = other.claim("n", "gone", "you", 60).lease
        assert taken.token > late.token
        with store._server.client as client:
            assert 3600 < client.pttl(store._keys.lease(store._keys.group_name("n", "k"))) / 1000 <= 3660
        store.release(lease)
        assert other.claim("n", "k", "you", 60).lease.token > lease.token


def test_who_was_taken_over_cannot_write_even_after_the_rows_went(redis_url, prefix):
    with pool_at(redis_url, prefix) as store:
        mine = row()
        first = store.claim("n", mine.key, "me", -1).lease
        second = store.claim("n", mine.key, "you", 60).lease
        yours = row(response="yours")
        assert put(store, yours, lease=second) == [PutStatus.CURRENT]
        store.clear("n")
        assert put(store, mine, lease=first) == [PutStatus.STALE]
        third = store.claim("n", mine.key, "me", 60).lease
        assert third.token > second.token > first.token
        assert put(store, mine, lease=second) == [PutStatus.STALE]
        assert put(store, mine, lease=third) == [PutStatus.CURRENT]


def test_what_a_durable_server_acknowledged_survives_its_kill(own_redis):
    store = open_store(f"{own_redis.url}?durable=true", ExpPoolConfig())
    assert store.capabilities.durable
    kept, stop = [], threading.Event()

    def write():
        while not stop.is_set():
            new = row(f"{len(kept)}")
            try:
                put(store, new)
            except StoreError:
                return
            kept.append(new)

    writer = threading.Thread(target=write)
    writer.start()
    while len(kept) < 50:
        assert writer.is_alive()
    own_redis.kill()
    stop.set()
    writer.join()
    own_redis.start()
    until(lambda: store.usage("n").rows, "the store to try again")
    assert store.get_many("n", [r.key for r in kept]) == kept
    assert {r.id for r in kept} <= {r.id for r in store.scan(RecordQuery("n"))}
    put(store, row("and on"))
    store.close()


def test_durability_is_promised_only_where_the_server_has_it(own_redis_in_memory):
    url = own_redis_in_memory.url
    assert not open_store(url, ExpPoolConfig()).capabilities.durable
    store = open_store(f"{url}?durable=true", ExpPoolConfig())
    with pytest.raises(StoreError, match="appendonly no: set appendonly yes and appendfsync always"):
        store.get_many("n", ["k"])


def test_while_a_server_hangs_or_is_gone_calls_run_and_afterwards_they_are_cached(own_redis_in_memory):
    server, ran = own_redis_in_memory, []
    manager = ExpManager(store=server.url, index="none://", embedder="none", store_timeout=0.3, hot_ttl=0)

    @manager.exp_cache(name="f")
    def f(number):
        ran.append(number)
        return number

    assert [f(1), f(1), ran] == [1, 1, [1]]
    server.pause()
    answers = queue.Queue()
    caller = threading.Thread(target=lambda: answers.put(f(1)))
    caller.start()
    assert answers.get(timeout=20) == 1  # while it is still paused
    assert ran == [1, 1]
    server.resume()
    caller.join()
    server.kill()
    assert (f(2), ran) == (2, [1, 1, 2])
    server.start()  # nothing is kept: it is a server without a file
    until(lambda: f.call("probe").id, "the store to try again")
    assert [f(3), f(3), ran[-1], ran.count(3)] == [3, 3, 3, 1]
    manager.sync.close()


def test_a_forked_child_uses_connections_of_its_own(redis_url, prefix):
    with pool_at(redis_url, prefix) as store:
        kept = row()
        put(store, kept)
        mine = store._server.client
        child = os.fork()
        if child == 0:  # no assertion here: it would go on as the parent's test
            same = store.get_many("n", [kept.key]) == [kept] and store._server.client is not mine
            os._exit(0 if same else 1)
        assert [store.get_many("n", [kept.key]) for _ in range(20)] == [[kept]] * 20
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    ("config", "address", "said"),
    [
        ({"requirepass": "right"}, "redis://:s3cr%40t@{}", "password is wrong"),
        ({"requirepass": "right"}, "redis://{}", "wants a password"),
        ({}, "redis://:s3cr%40t@{}", "has no password: leave it out"),
        ({"replicaof": "127.0.0.1 1", "replica-serve-stale-data": "yes"}, "redis://{}", "name the master"),
        ({"cluster-enabled": "yes"}, "redis://{}", "write redis\\+cluster://"),
        ({}, "redis+cluster://{}", "write redis://"),
        ({}, "rediss://user:s3cr%40t@{}", "with rediss://, speaks no TLS"),
        ({}, "redis://{}/77", "redis://host/0 is the first"),
        ({"maxmemory": "1"}, "redis://{}", "raise its maxmemory"),
    ],
)
def test_servers_that_refuse_are_named_without_the_password_and_with_the_remedy(redis_with, config, address, said):
    server = redis_with(config)
    url = address.format(f"127.0.0.1:{server.port}")
    store = open_store(url, ExpPoolConfig(store_timeout=2))
    with pytest.raises(StoreError, match=said) as caught:
        put(store, row())
    told = f"{caught.value} {caught.value.__cause__!r}"
    assert f"127.0.0.1:{server.port}" in told
    assert "s3cr" not in told
    store.close()


@pytest.mark.parametrize(
    "url", ["redis://user:s3cret@127.0.0.1:1/0", "redis+cluster://:s3cret@127.0.0.1:1", "rediss://:s3cret@127.0.0.1:1"]
)
def test_a_host_that_is_not_there_is_named_and_calls_run(url):
    store = open_store(url, ExpPoolConfig(store_timeout=1))
    for trying in (
        lambda: store.get_many("n", ["k"]),
        lambda: list(store.scan(RecordQuery("n"))),
        lambda: store.claim("n", "k", "me", 1),
        lambda: store.append_log("n", "l", ["x"]),
        store.check,
    ):
        with pytest.raises(StoreError, match=r"127\.0\.0\.1:1.*(check host and port|can be reached)") as caught:
            trying()
        assert "s3cret" not in str(caught.value)
    manager = ExpManager(store=url, index="none://", embedder="none", store_timeout=1)
    assert manager.exp_cache(name="f")(lambda number: number + 1)(1) == 2
    manager.sync.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://", "no host"),
        ("redis://host/zero", "number as its path"),
        ("redis://host:port", "no host:port"),
        ("redis://host?color=red", "unknown option 'color'; known: prefix"),
        ("redis://host?prefix={a}", "prefix takes letters"),
        ("redis://host?durable=maybe", "takes true or false"),
        ("redis://a,b", r"write redis\+cluster://"),
        ("redis+cluster://a,b/3", "one database"),
        ("redis://:s3cret@host/zero", "number as its path"),
    ],
)
def test_urls_that_cannot_work_are_refused_where_they_are_written(url, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        open_store(url, ExpPoolConfig())
    assert "s3cret" not in str(caught.value)


def test_twenty_namespaces_with_the_same_vectors_keep_apart(redis_url, prefix):
    with pool_at(redis_url, prefix) as store:
        vectors = [Vector("e", to_bytes(one)) for one in unit(1, 30)]
        rows = {}
        for tenant in range(20):
            rows[tenant] = [row(f"r{i}", f"of {tenant}", namespace=f"t{tenant}") for i in range(30)]
            store.put_many([Put(r, vector=v) for r, v in zip(rows[tenant], vectors, strict=True)])
        for tenant in range(20):
            mine = {r.id for r in rows[tenant]}
            assert {v.id for v in store.vectors_after(f"t{tenant}", "e", 0, 1000)} == mine
            assert {r.id for r in store.requests_after(f"t{tenant}", 0, 1000)} == mine
            others = [r.id for r in rows[(tenant + 1) % 20]]
            assert store.get_many(f"t{tenant}", others, by="id") == [None] * 30
            assert store.delete_many(f"t{tenant}", others) == []
        assert store.count(RecordQuery(None)) == len(list(store.scan(RecordQuery(None)))) == 600


HOSTILE = [
    "{",
    "}{",
    "{}:rows",
    "*",
    "a:b",
    "\0",
    "\ud83d\ude00",
    "\ud800",
    "KEYS[1]",
    "~",
    "\r\n*1\r\n",
    "x" * 100_000,
    "é" * 9000,
]


@pytest.mark.parametrize("kind", ["redis_url", "redis_cluster_url"])
def test_any_name_is_only_a_name(kind, request):
    url = request.getfixturevalue(kind)
    with pool_at(url) as store:
        for text in HOSTILE:
            kept = row(text, namespace=text, id=text, key=text, function=text, model=text)
            other = row(text, namespace=text + "2", id=text, key=text)
            store.put_many([Put(kept, vector=vector(1, embedder=text)), Put(other)])
            assert store.get_many(text, [text]) == store.get_many(text, [text], by="id") == [kept]
            assert list(store.scan(RecordQuery(text, parse_where({"request": text, "id": text, "key": text})))) == [
                kept
            ]
            assert [v.id for v in store.vectors_after(text, text, 0, 9)] == [text]
            assert store.claim(text, text, text, 1).record == kept
            store.write_state(text, text, text, None)
            store.append_log(text, text, [text])
            assert (store.read_state(text, text).value, store.read_log(text, text)[0].entry) == (text, text)
            assert store.names(text) == ([text], [text])
            assert store.delete_many(text, [text]) == [text]
            assert [d.id for d in store.deletions(text)] == [text]
        assert store.namespaces() == sorted(name for text in HOSTILE for name in (text, text + "2"))
        assert store.check() == []


@pytest.mark.parametrize("kind", ["redis_url", "redis_cluster_url"])
def test_a_manager_does_everything_on_it(kind, request, prefix, make_manager):
    url = request.getfixturevalue(kind)
    with pool_at(url, prefix):
        first = make_manager(store=f"{url}?prefix={prefix}")
        second = make_manager(store=f"{url}?prefix={prefix}", hot_ttl=0)
        answer = first.exp_cache(name="answer")(lambda question: question[::-1])
        assert [answer("how do birds sing"), answer("why is the sky blue")] == [
            "gnis sdrib od woh",
            "eulb yks eht si yhw",
        ]
        (best,) = second.sync.search("do birds sing", top_k=1)
        assert best.experience.request == "how do birds sing"
        second.sync.annotate(best.experience.id, expected="with a syrinx")
        again = second.exp_cache(name="answer")(lambda question: pytest.fail("it is stored"))
        assert again("how do birds sing") == "with a syrinx"
        assert second.sync.get_exps_count() == 2
        second.sync.flush()
        second.sync.delete_exp(best.experience.id)
        assert [hit.experience.request for hit in first.sync.search("do birds sing")] == ["why is the sky blue"]
        assert first.sync.delete_all_exps() == 1
        assert second.sync.search("do birds sing") == []


def test_several_pools_share_a_server(redis_url):
    with pool_at(redis_url) as one, pool_at(redis_url) as other:
        kept = row()
        put(one, kept)
        assert other.get_many("n", [kept.key]) == [None]
        assert (other.namespaces(), list(other.scan(RecordQuery(None)))) == ([], [])
        other.clear("n")
        assert one.get_many("n", [kept.key]) == [kept]


@pytest.mark.parametrize("kind", ["redis_url", "redis_cluster_url"])
def test_the_doctor_finds_what_is_damaged_or_listed_wrong_and_mends_it(kind, request):
    url = request.getfixturevalue(kind)
    with pool_at(url) as store:
        rows = [row(f"r{i}") for i in range(6)]
        store.put_many([Put(r, vector=vector(1)) for r in rows])
        client, keys = store._server.client, store._keys
        units = [keys.group(keys.group_name("n", r.key)) for r in rows]
        assert store.check() == []
        client.hset(units[0], "=", b"no row")  # damaged
        client.delete(units[1])  # gone behind the pool's back
        at = keys.listing("n")
        for name in ("ids", "rows", "current"):  # the listing is lost
            client.delete(getattr(at, name))
        put(store, row("later"))
        assert store.get_many("n", [rows[0].key]) == [None]
        assert len(store.check()) >= 2
        said = " ".join(store.repair())
        assert "1 damaged rows were set aside" in said
        assert "listed again" in said
        assert {r.id for r in rows[2:]} <= {r.id for r in store.scan(RecordQuery("n"))}
        assert not [what for what in store.check() if "damaged" in what or "list" in what and "vectors" not in what]
        assert client.hget(units[0], "damaged:=") == b"no row"


def test_rows_that_the_server_dropped_are_taken_off_the_lists(redis_url):
    with pool_at(redis_url, store_timeout=2) as store:
        dropped, kept = row("dropped"), row("kept")
        store.put_many([Put(dropped, vector=vector(1)), Put(kept, vector=vector(2))])
        store._server.client.delete(store._keys.group(store._keys.group_name("n", dropped.key)))
        assert list(store.scan(RecordQuery("n"))) == [kept]
        (said,) = store.check()
        assert "1 rows are listed and not there" in said
        (said,) = store.repair()
        assert "1 rows that are not there were taken off" in said
        assert store.check() == []
        assert (store.usage("n").rows, store.partitions("n")) == (1, {("n", "e"): 1})
        again = row("dropped", "again")
        put(store, again)
        assert [r.id for r in store.scan(RecordQuery("n"))] == [kept.id, again.id]


def test_a_mark_that_outlived_its_unit_keeps_nobody_from_reading(redis_url, prefix, monkeypatch):
    with pool_at(redis_url, prefix, store_timeout=2) as store, pool_at(redis_url, prefix) as doomed:
        gone = row("gone")
        put(store, gone)
        send, count = doomed._server.send, 0

        def dying(node, commands):
            nonlocal count
            count += 1
            if count > 3:  # it is deleted, and listed as ever
                raise redis.TimeoutError("it was made to die here")
            return send(node, commands)

        assert doomed.get_many("n", ["nothing"]) == [None]
        doomed._server.send = dying
        with pytest.raises(StoreError):
            doomed.delete_many("n", [gone.id])
        store._server.client.delete(store._keys.group(store._keys.group_name("n", gone.key)))  # as after an hour
        monkeypatch.setattr("exp_pool.stores.redis.listing.LEFT_BEHIND_US", -(10**9))
        assert list(store.scan(RecordQuery("n"))) == []
        assert [d.id for d in store.deletions("n")] == [gone.id]
        assert store.usage("n").rows == 0


def test_a_server_that_drops_what_it_likes_is_reported(redis_with):
    server = redis_with({"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"})
    with pool_at(server.url) as store:
        assert any("maxmemory-policy allkeys-lru" in what for what in store.check())


@pytest.mark.parametrize("kind", ["redis_url", "redis_cluster_url"])
def test_changes_are_heard_by_others(kind, request, prefix):
    url, heard = request.getfixturevalue(kind), queue.Queue()
    with pool_at(url, prefix) as store, pool_at(url, prefix) as other:
        listens = threading.Event()
        stop = other.changes(lambda *what: heard.put(what), lambda works: works and listens.set())
        assert listens.wait(20)
        first = row("a")
        put(store, first, row("b"))
        store.complete_many([Completion("n", first.id, TaskKind.EMBED, vector=vector(1))])
        store.delete_many("n", [first.id])
        store.clear("n")
        said = []
        while ("n", None) not in said or ("n", [row("b").key]) not in said or said.count(("n", [first.key])) < 2:
            said.append(heard.get(timeout=20))  # those of several masters come in any order
        assert said.count(("n", [first.key])) == 2  # nobody's answer depends on vectors
        stop()


def test_whoever_may_have_missed_changes_is_told_so(own_redis_in_memory):
    server, heard, listening = own_redis_in_memory, queue.Queue(), queue.Queue()
    with pool_at(server.url) as store:
        stop = store.changes(lambda *what: heard.put(what), listening.put)
        assert listening.get(timeout=20) is True
        put(store, row("a"))
        assert heard.get(timeout=20) == ("n", [row("a").key])
        server.kill()
        assert listening.get(timeout=30) is False
        server.start()
        while listening.get(timeout=30) is not True:
            pass
        put(store, row("b"))
        assert heard.get(timeout=20) == ("n", [row("b").key])
        stop()


@pytest.mark.slow
def test_a_cluster_that_loses_a_master_goes_on(own_redis_cluster):
    manager = ExpManager(store=own_redis_cluster.url, index="none://", embedder="none", store_timeout=2, hot_ttl=0)
    ran = []

    @manager.exp_cache(name="f")
    def f(number):
        ran.append(number)
        return number

    try:
        assert [f(i) for i in range(30)] == list(range(30))
        own_redis_cluster.kill_master()
        assert [f(i) for i in range(30)] == list(range(30))

        def cached_again():
            number = len(ran) + 1000
            f(number)
            before = len(ran)
            return f(number) == number and len(ran) == before

        until(lambda: all(cached_again() for _ in range(20)), "the replica to take over")
    finally:
        manager.sync.close()
