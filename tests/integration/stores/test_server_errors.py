"""A server that cannot be used: the error says which one, what was tried and what to do, and no password; calls go on."""

import io
import logging
import socketserver
import threading
import traceback
import warnings
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from loguru import logger
from support.servers import free_port, mariadb, need, postgres

from exp_pool import ExpManager
from exp_pool.api.registry import open_store
from exp_pool.core.config import ExpPoolConfig
from exp_pool.errors import ConfigurationError, ExpPoolWarning, StoreError, VectorIndexError
from exp_pool.runtime.display import without_password

SECRET = "s3cret-pässword%"
QUOTED = "s3cret-p%C3%A4ssword%25"
SECRETS = (SECRET, QUOTED, "s3cret")


def as_user(url, user):
    """The URL with a user who has the password."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{QUOTED}@{parts.netloc.rpartition('@')[2]}").geturl()


@contextmanager
def everything_said():
    """What is logged, by us and by drivers."""
    said, handler = io.StringIO(), logging.StreamHandler(io.StringIO())
    number = logger.add(said, level="DEBUG", backtrace=True, diagnose=False)
    logger.enable("exp_pool")
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lambda: said.getvalue() + handler.stream.getvalue()
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        logger.disable("exp_pool")
        logger.remove(number)


def in_words(err):
    """The error and all that caused it, as a traceback shows them."""
    return "".join(traceback.format_exception(err))


def assert_unusable(url, *what, index="none://", **settings):
    """Asked directly, it raises an error that says all of this; a decorated call runs once, uncached, and says so once."""
    ran = []
    with everything_said() as said, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        manager = ExpManager(store=url, index=index, embedder="none", **{"store_timeout": 2, **settings})
        try:

            @manager.exp_cache(name="f")
            def f(number):
                ran.append(number)
                return number

            assert [f(1), f(1), f(2)] == [1, 1, 2]
            assert ran == [1, 1, 2]
            with pytest.raises(StoreError) as caught:
                manager.sync.get_exps_count()
            assert manager.stats().degraded > 0
        finally:
            manager.sync.close()
    of_ours = [str(w.message) for w in warned if issubclass(w.category, ExpPoolWarning)]
    # Once that it could not look for an answer, and once that it could not store one.
    assert 1 <= len({said.partition(url.partition("://")[0])[0] for said in of_ours}) == len(of_ours) <= 2, of_ours
    place = urlsplit(url)
    assert place.hostname in str(caught.value)
    for words in what:
        assert words in str(caught.value)
    everywhere = "".join([in_words(caught.value), said(), *(str(w.message) for w in warned), repr(manager)])
    assert not [secret for secret in SECRETS if secret in everywhere]
    return of_ours[0]


# ── Nobody there ──────────────────────────────────────────────────────────────────────────────────────────────────────

FORMS = ["postgresql://ann:{}@{}/pool", "mysql://ann:{}@{}/pool", "redis://ann:{}@{}/0", "redis+cluster://ann:{}@{}"]


@pytest.mark.parametrize("form", FORMS)
def test_nobody_listens(form):
    url = form.format(QUOTED, f"127.0.0.1:{free_port()}")
    said = assert_unusable(url, "***@127.0.0.1:", "refused" if "cluster" not in form else "reached")
    assert "***@127.0.0.1:" in said


@pytest.mark.parametrize("form", FORMS)
def test_no_such_host(form):
    assert_unusable(
        form.format(QUOTED, "no-such-host.invalid"),
        "host" if "cluster" not in form else "No node of the cluster can be reached",
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_host_that_does_not_answer(form):
    """It accepts, and says nothing."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.ended = threading.Event()
        try:
            url = form.format(QUOTED, f"127.0.0.1:{server.server_address[1]}")
            assert_unusable(url, "store_timeout" if "cluster" not in form else "reached", store_timeout=0.5)
        finally:
            server.ended.set()
            server.shutdown()


class _Silent(socketserver.BaseRequestHandler):
    def handle(self):
        self.server.ended.wait(60)


@pytest.mark.parametrize("fixture", ["postgres_url", "mysql_url"])
def test_all_connections_in_use(fixture, request, monkeypatch):
    monkeypatch.setattr("exp_pool.stores.sql.server._CONNECTIONS", 1)
    url = request.getfixturevalue(fixture)
    with closing(open_store(url, ExpPoolConfig(store_timeout=1))) as store:
        with pytest.raises(
            StoreError, match="all 1 connections were in use for longer than store_timeout=1 s"
        ) as caught:
            store._read(lambda _: store.namespaces())
        assert str(caught.value).startswith(without_password(url))
        assert store.namespaces() == []


# ── Not let in ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def strict_postgres(own_postgres):
    """Which asks for passwords, but by its socket."""
    url = own_postgres.url
    with postgres.connect(url) as connection:
        quoted = SECRET.replace("'", "''")
        connection.execute("DROP ROLE IF EXISTS ann")
        connection.execute(f"CREATE ROLE ann LOGIN PASSWORD '{quoted}'")
        (path,) = connection.execute("SHOW hba_file").fetchone()
        rules = Path(path)
        before = rules.read_text()
        rules.write_text(f"host all ann all scram-sha-256\n{before}")
        connection.execute("SELECT pg_reload_conf()")
    yield url
    rules.write_text(before)
    with postgres.connect(url) as connection:
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP OWNED BY ann")
        connection.execute("DROP ROLE ann")


def test_postgresql_wrong_password(strict_postgres):
    url = as_user(strict_postgres, "ann").replace("s3cret", "wrong-s3cret")
    assert_unusable(url, "ann:***@", "password authentication failed", "Check the user and the password")


def test_postgresql_no_password(strict_postgres):
    url = urlsplit(strict_postgres)
    assert_unusable(url._replace(netloc=f"ann@{url.netloc.rpartition('@')[2]}").geturl(), "Give the password")


def test_postgresql_a_user_who_may_not_create(strict_postgres):
    assert_unusable(as_user(strict_postgres, "ann"), "permission denied", "GRANT CREATE ON DATABASE")


def test_mysql_wrong_password_and_a_user_who_may_not_create(mysql_url):
    assert_unusable(as_user(mysql_url, "nobody"), "Access denied", "Check user and password")
    name = urlsplit(mysql_url).path.strip("/")
    quoted = SECRET.replace("'", "''").replace("%", "%%")
    with mariadb.connect(mysql_url) as connection, connection.cursor() as cursor:
        user = f"reader_{name[-8:]}"
        cursor.execute(f"CREATE USER {user}@localhost IDENTIFIED BY '{quoted}'", ())
        cursor.execute(f"CREATE USER {user}@127.0.0.1 IDENTIFIED BY '{quoted}'", ())
        for host in ("localhost", "127.0.0.1"):
            cursor.execute(f"GRANT SELECT ON {name}.* TO {user}@{host}")
    try:
        assert_unusable(as_user(mysql_url, user), "CREATE command denied", "GRANT ALL ON database.*")
    finally:
        with mariadb.connect(mysql_url) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP USER {user}@localhost, {user}@127.0.0.1")


def test_redis_passwords(own_redis):
    assert_unusable(as_user(own_redis.url, "ann"), "ann:***@", "The user or the password is wrong")


# ── The wrong place ───────────────────────────────────────────────────────────────────────────────────────────────────


def other_database(url, name="there_is_none"):
    return urlsplit(url)._replace(path=f"/{name}").geturl()


def test_postgresql_missing_database(postgres_url):
    assert_unusable(other_database(as_user(postgres_url, "postgres")), "does not exist", "createdb there_is_none")


def test_postgresql_missing_user(own_postgres):
    assert_unusable(as_user(own_postgres.url, "there_is_none"), "does not exist", "CREATE ROLE there_is_none")


def test_postgresql_missing_table(postgres_url):
    with closing(open_store(postgres_url, ExpPoolConfig())) as store:
        assert store.namespaces() == []
        run(postgres_url, "DROP TABLE exp_pool.vectors")
        with pytest.raises(StoreError, match=r"exp_pool\.vectors|vectors.* does not exist") as caught:
            store.vectors_after("n", "e", 0, 9)
    assert "dropped" in str(caught.value)
    assert "createdb" not in str(caught.value)


def test_mysql_missing_database(mysql_url):
    assert_unusable(other_database(mysql_url), "Unknown database", "CREATE DATABASE")


def test_redis_missing_database(redis_url):
    assert_unusable(other_database(redis_url, "4711"), "redis://host/0 is the first")


@pytest.mark.parametrize("fixture", ["postgres_url", "mysql_url"])
def test_somebody_elses_tables(fixture, request):
    url = request.getfixturevalue(fixture)
    place = f"{url}?schema=theirs" if "postgres" in url else url
    statements = ["CREATE SCHEMA theirs", "CREATE TABLE theirs.experiences (id integer)"]
    run(url, *(statements if "postgres" in url else ["CREATE TABLE experiences (id integer)"]))
    assert_unusable(place, "tables that are not exp_pool's: experiences", "database or schema of its own")


@pytest.mark.parametrize("fixture", ["postgres_url", "mysql_url"])
def test_a_schema_of_a_newer_version(fixture, request):
    url = request.getfixturevalue(fixture)
    with ExpManager(store=url, index="none://", embedder="none") as manager:
        assert manager.sync.get_exps_count() == 0
    run(url, f"UPDATE {'exp_pool.' if 'postgres' in url else ''}exp_pool_schema SET version = 99")
    assert_unusable(url, "schema version 99", "install a newer exp_pool")


def run(url, *statements):
    connect = postgres.connect if url.startswith("postgres") else mariadb.connect
    with connect(url) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        connection.commit()


# ── Not the server that is needed ─────────────────────────────────────────────────────────────────────────────────────


def test_postgresql_without_tls(postgres_url):
    if "ssl" in run_one(postgres_url, "SELECT CASE WHEN current_setting('ssl')::bool THEN 'ssl' ELSE '' END"):
        need("this PostgreSQL has TLS; EXP_POOL_TEST_POSTGRES_URL may name one without")
    url = f"{as_user(postgres_url, 'postgres')}?sslmode=require"
    assert_unusable(url, "does not support SSL", "?sslmode=prefer")


def run_one(url, statement):
    with postgres.connect(url) as connection:
        return connection.execute(statement).fetchone()[0]


def test_mysql_without_tls(mysql_url):
    assert_unusable(f"{mysql_url}?ssl=true", "SSL", "?ssl=true")


def test_redis_without_tls(own_redis):
    url = own_redis.url.replace("redis://", "rediss://")
    assert_unusable(url, "speak", "TLS", store_timeout=1)


class _Old(socketserver.BaseRequestHandler):
    """Greets as MySQL 5.5, and lets everybody in."""

    def handle(self):
        salt = b"x" * 8 + b"\0"
        tail = b"y" * 12 + b"\0mysql_native_password\0"
        # protocol, version, thread, salt, capabilities, utf8, autocommit, more capabilities, length of the salt
        greeting = b"\x0a5.5.62\0" + b"\1\0\0\0" + salt + b"\xff\xf7\x21\2\0\x0f\x80\x15" + b"\0" * 10 + tail
        self.packet(0, greeting)
        number = 2
        while header := self.request.recv(4):
            self.request.recv(int.from_bytes(header[:3], "little"))
            self.packet(number, b"\0\0\0\2\0\0\0")  # OK
            number = 1

    def packet(self, number, body):
        self.request.sendall(len(body).to_bytes(3, "little") + bytes([number]) + body)


def test_mysql_of_long_ago():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Old) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"mysql://ann:{QUOTED}@127.0.0.1:{server.server_address[1]}/pool"
            assert_unusable(url, "is MySQL 5.5", "needs 8.0 or newer")
        finally:
            server.shutdown()


class _OldRedis(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            words = [self.rfile.readline() and self.rfile.readline().strip() for _ in range(int(line[1:]))]
            info = b"# Server\r\nredis_version:5.0.7\r\nredis_mode:standalone\r\n"
            self.wfile.write(b"$%d\r\n%s\r\n" % (len(info), info) if words[0] == b"INFO" else b"+OK\r\n")


def test_redis_of_long_ago():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _OldRedis) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"redis://ann:{QUOTED}@127.0.0.1:{server.server_address[1]}/0"
            assert_unusable(url, "is Redis 5.0.7", "needs 6.2 or newer")
        finally:
            server.shutdown()


def test_a_cluster_by_the_wrong_name_and_no_cluster(redis_cluster_url, redis_url):
    one = redis_cluster_url.replace("redis+cluster://", "").partition(",")[0]
    assert_unusable(f"redis://{one}", "write redis+cluster://")
    assert_unusable(redis_url.replace("redis://", "redis+cluster://").removesuffix("/0"), "write redis://")


# ── pgvector ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pgvector_where_the_server_does_not_have_it(postgres_url, embedder):
    if run_one(postgres_url, "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"):
        need("this PostgreSQL has pgvector; EXP_POOL_TEST_POSTGRES_URL may name one without")
    url = as_user(postgres_url, "postgres")
    with everything_said() as said:
        manager = ExpManager(store=url, index="pgvector://", embedder=embedder, index_from=0)
        try:
            f = manager.exp_cache(name="f")(lambda req: req)
            assert [f("a"), f("b")] == ["a", "b"]
            assert f("a") == "a"
            with pytest.raises(VectorIndexError, match="no extension pgvector: install it there") as caught:
                manager.sync.search("a")
            assert (manager.stats().hits, manager.sync.get_exps_count()) == (1, 2)
        finally:
            manager.sync.close()
    assert "postgres:***@" in str(caught.value)
    assert not [secret for secret in SECRETS if secret in in_words(caught.value) + said()]


@pytest.mark.parametrize("store", ["sqlite:///pool.db", "memory://", "redis://127.0.0.1:1/0"])
def test_pgvector_beside_another_store(store):
    with pytest.raises(ConfigurationError, match=r"use it with store='postgresql://\.\.\.', or another index"):
        ExpManager(store=store, index="pgvector://", embedder="none")
