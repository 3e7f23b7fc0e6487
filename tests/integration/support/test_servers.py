"""The servers that other tests kill, pause and cut off: each answers, dies, comes back with its data."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from support.paths import TESTS
from support.servers import fixtures, need, until
from support.servers.databases import new_database
from support.servers.mariadb import connect as mysql_connect
from support.servers.postgres import connect as postgres_connect
from support.servers.redis_server import Redis
from support.servers.redis_server import connect as redis_connect
from support.servers.redis_server import ping as redis_ping


def ask(url, *statements):
    """The first value of the last answer."""
    if url.startswith("redis"):
        with redis_connect(url) as client:
            return [client.execute_command(*statement.split()) for statement in statements][-1]
    connect = postgres_connect if url.startswith("postgres") else mysql_connect
    with connect(url) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def processes(server):
    process = psutil.Process(server.pid)
    return [process, *process.children(recursive=True)]


SQL = ["CREATE TABLE kept (value INTEGER)", "INSERT INTO kept VALUES (7)"], "SELECT value FROM kept"
REDIS = ["SET kept 7"], "GET kept"


@pytest.fixture(params=["own_postgres", "own_pgvector", "own_mariadb", "own_redis"])
def server(request):
    return request.getfixturevalue(request.param)


def test_what_was_acknowledged_survives_a_kill(server):
    write, read = REDIS if server.url.startswith("redis") else SQL
    ask(server.url, *write)
    alive = processes(server)
    server.kill()
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in alive)
    with pytest.raises(Exception, match="refused"):
        ask(server.url, read)
    server.restart()
    assert int(ask(server.url, read)) == 7


def test_paused_it_hangs_resumed_it_answers(server):
    read = "PING" if server.url.startswith("redis") else "SELECT 7"
    server.pause()
    states = {each.status() for each in processes(server)}
    assert states - {psutil.STATUS_ZOMBIE} == {psutil.STATUS_STOPPED}  # a stopped parent buries nobody
    with ThreadPoolExecutor(1) as elsewhere:
        answer = elsewhere.submit(ask, server.url, read)
        with pytest.raises(TimeoutError):
            answer.result(timeout=0.1)
        server.resume()
        assert answer.result(timeout=10)


def test_a_redis_without_persistence_forgets(own_redis_in_memory):
    ask(own_redis_in_memory.url, *REDIS[0])
    own_redis_in_memory.restart()
    assert ask(own_redis_in_memory.url, REDIS[1]) is None


def test_pgvector_is_there(pgvector_url):
    assert ask(pgvector_url, "CREATE EXTENSION vector", "SELECT '[1,2]'::vector <-> '[1,3]'") == 1


def test_a_cluster_that_loses_a_master_serves_all_again(own_redis_cluster):
    from redis.cluster import RedisCluster

    cluster = own_redis_cluster
    with RedisCluster(host="127.0.0.1", port=cluster.nodes[-1].port) as client:
        client.set("key", "value")
        client.wait(1, 5000, target_nodes=client.get_node_from_key("key"))
        dead = cluster.kill_master("key")
        cluster.wait()
        assert len(cluster.masters()) == 3
        assert until(lambda: client.get("key"), "the client finds the new master") == b"value"
        dead.restart()
        cluster.wait()
        assert dead not in cluster.masters()
        assert len(cluster.masters()) == 3


@pytest.mark.parametrize("fixture", ["postgres_url", "mysql_url"])
def test_a_new_database_is_empty_and_leaves_nothing(fixture, request):
    url = request.getfixturevalue(fixture)
    ask(url, *SQL[0])
    with new_database(url) as other:
        with pytest.raises(Exception, match="kept"):
            ask(other, SQL[1])
        with (postgres_connect if "postgres" in fixture else mysql_connect)(other) as connection:
            connection.cursor().execute("SELECT 1")  # still connected when it is dropped
            names_before = names(url)
            assert other.rpartition("/")[2] in names_before
            with new_database(url):
                pass
            assert names(url) == names_before
    assert other.rpartition("/")[2] not in names(url)


def names(url):
    connect, statement = (
        (postgres_connect, "SELECT datname FROM pg_database")
        if url.startswith("postgres")
        else (mysql_connect, "SHOW DATABASES")
    )
    with connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return {name for (name,) in cursor.fetchall() if str(os.getpid()) in name}


DIES_WITH_EVERYTHING_OPEN = """
import os, sys
from support.servers.databases import new_database
from support.servers.redis_server import Redis
database = new_database(sys.argv[1])
server = Redis()
print(database.__enter__().rpartition("/")[2], server.__enter__().folder, server.pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("fixture", ["postgres_server_url", "mysql_server_url"])
def test_what_a_dead_run_left_goes_with_the_next(fixture, request, own_redis):
    url = request.getfixturevalue(fixture)
    here = os.environ | {"PYTHONPATH": str(TESTS)}
    run = [sys.executable, "-c", DIES_WITH_EVERYTHING_OPEN, url]
    done = subprocess.run(run, stdout=subprocess.PIPE, text=True, check=False, env=here)
    name, folder, pid = done.stdout.split()
    assert psutil.pid_exists(int(pid))
    with new_database(url) as other:
        assert ask(other, f"SELECT count(*) FROM information_schema.schemata WHERE schema_name = '{name}'") == 0
    with Redis():
        assert not Path(folder).exists()
    until(lambda: not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == "zombie", "it is gone")


def test_a_server_that_dies_at_its_start_says_why(own_redis):
    wrong = Redis({"no-such-setting": "1"})
    with pytest.raises(RuntimeError, match="died") as caught, wrong:
        pass
    assert "no-such-setting" in str(caught.value.__notes__)
    assert not wrong.folder.exists()


def test_an_own_server_stands_in_where_none_answers(own_redis, monkeypatch):
    nobody = "redis://127.0.0.1:1/0"
    with fixtures.served(own_redis.url, "EXP_POOL_TEST_NOBODY_URL", redis_ping, Redis) as url:
        assert url == own_redis.url
    with fixtures.served(nobody, "EXP_POOL_TEST_NOBODY_URL", redis_ping, Redis) as url:
        assert ask(url, "PING")
    monkeypatch.setenv("EXP_POOL_TEST_NOBODY_URL", nobody)  # who names a server means that one
    with (
        pytest.raises(pytest.fail.Exception, match="refused"),
        fixtures.served(nobody, "EXP_POOL_TEST_NOBODY_URL", redis_ping, Redis),
    ):
        pass


def test_a_missing_service_is_skipped_or_fails_where_it_is_required(monkeypatch):
    outcomes = pytest.skip.Exception, pytest.fail.Exception  # the wrong one alone would skip this test, not fail it
    monkeypatch.delenv("EXP_POOL_REQUIRE_SERVICES", raising=False)
    with pytest.raises(outcomes, match="no such thing") as caught:
        need("no such thing")
    assert caught.type is pytest.skip.Exception
    monkeypatch.setenv("EXP_POOL_REQUIRE_SERVICES", "1")
    with pytest.raises(outcomes, match="no such thing") as caught:
        need("no such thing")
    assert caught.type is pytest.fail.Exception


def test_through_a_proxy(server, proxied):
    read = "PING" if server.url.startswith("redis") else "SELECT 7"
    proxy = proxied(server.url)
    assert ask(proxy.url, read)
    proxy.cut_after(20 if "redis" not in server.url else 3)
    with pytest.raises(Exception):
        ask(proxy.url, read)
    assert proxy.cuts == 1
    assert ask(proxy.url, read)
