"""An own MariaDB server, from the system's binaries."""

import os
import shutil
from urllib.parse import unquote, urlsplit

from support.servers.process import Server, run


def connect(url, seconds=5):
    import pymysql

    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        database=parts.path.strip("/") or None,
        autocommit=True,
        connect_timeout=seconds,
        read_timeout=4 * seconds,  # creating and dropping databases wait for the disk
    )


def ping(url):
    with connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def binary(name):
    """Its path, None without it. Debian keeps the server in a folder that only root has on the PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/libexec")


def is_installed():
    return bool(binary("mariadbd") and binary("mariadb-install-db"))


class MariaDB(Server):
    """What it acknowledges survives a kill. Its default character set is latin1, as MariaDB's is without a
    configuration: tables that hold text must say utf8mb4 themselves.
    """

    database = "mysql"  # the one that is there from the start

    @property
    def url(self):
        return f"mysql://root@127.0.0.1:{self.port}/{self.database}"

    def _options(self):
        yield "--no-defaults"
        yield f"--datadir={self.folder / 'data'}"
        if os.geteuid() == 0:
            yield "--user=root"

    def prepare(self):
        options = [*self._options(), "--auth-root-authentication-method=normal", "--skip-test-db"]
        run([binary("mariadb-install-db"), *options], cwd=self.folder)

    def command(self):
        own = [f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={self.folder / 'socket'}"]
        durable = ["--innodb-flush-log-at-trx-commit=1"]
        return [binary("mariadbd"), *self._options(), *own, *durable]

    def ping(self):
        ping(self.url)
