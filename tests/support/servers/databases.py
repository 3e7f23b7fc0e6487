"""New databases on a server that others use, too: named after their process, dropped when done."""

import contextlib
import os
import secrets
from urllib.parse import urlsplit

import psutil
from support.servers import mariadb, postgres, with_database

_PREFIX = "exp_pool_test_"


@contextlib.contextmanager
def new_database(url):
    """The URL of a new database on the server of ``url`` (``postgresql://`` or ``mysql://``); dropped in the end,
    whoever is still connected. Those that dead processes of this machine left behind go first.
    """
    server = _Postgres(url) if url.startswith("postgres") else _MySQL(url)
    name = f"{_PREFIX}{os.getpid()}_{secrets.token_hex(4)}"
    if urlsplit(url).hostname in {"127.0.0.1", "localhost", "::1"}:  # elsewhere a pid says nothing
        server.drop(*filter(_is_left_over, server.names()))
    server.create(name)
    try:
        yield with_database(url, name)
    finally:
        server.drop(name)


def _is_left_over(name):
    pid = name.removeprefix(_PREFIX).partition("_")[0]
    return name.startswith(_PREFIX) and pid.isdigit() and not psutil.pid_exists(int(pid))


class _Postgres:
    def __init__(self, url):
        self.url = url

    def ask(self, statement):
        with postgres.connect(self.url) as connection:
            answer = connection.execute(statement)
            return answer.fetchall() if answer.description else []

    def names(self):
        return [name for (name,) in self.ask("SELECT datname FROM pg_database")]

    def create(self, name):
        self.ask(f"CREATE DATABASE {name}")

    def drop(self, *names):
        for name in names:
            self.ask(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class _MySQL:
    def __init__(self, url):
        self.url = url

    def ask(self, statement):
        with mariadb.connect(self.url) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def names(self):
        return [name for (name,) in self.ask("SHOW DATABASES")]

    def create(self, name):
        self.ask(f"CREATE DATABASE {name}")

    def drop(self, *names):
        for name in names:
            # an open transaction would keep DROP waiting for a day
            for (thread,) in self.ask(f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"):
                with contextlib.suppress(Exception):  # it went by itself
                    self.ask(f"KILL {thread}")
            self.ask(f"DROP DATABASE IF EXISTS {name}")
