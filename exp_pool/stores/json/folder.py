"""The folder of a JSON pool: its files, its lock, and what is set aside. Places are relative, ``folder/xx/name.json``.

Links are not followed, so that nothing outside is read, written or removed. No name is made of a user's text, except
those that a person gave.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from exp_pool.errors import StoreError
from exp_pool.runtime.clock import monotonic
from exp_pool.runtime.files import create_folder, replace_file, sync_folder

FORMAT = 1
_POOL = "pool.json"
_STATE = ".state"
_CORRUPT = "corrupt"
_IGNORED = f"/{_STATE}/\n/{_CORRUPT}/\n*.new\n"
_ELSE = "or give another path in store='json:///...'"
_PAUSES = (0.001, 0.002, 0.005, 0.01, 0.02)  # seconds between two tries for the lock; the last for all further ones


class Stamp(NamedTuple):
    """What a file is recognized by without reading it."""

    mtime_ns: int
    size: int
    inode: int


class Folder:
    """The files of one pool.

    Args:
        root: the folder; created by `open`.
        timeout_s: how long to wait for another process's write.
    """

    def __init__(self, root: Path, timeout_s: float) -> None:
        self.root = root
        self.journal = root / _STATE / "journal"
        self._prefix = f"{root}/"
        self._timeout_s = timeout_s
        self._locked: int | None = None

    def open(self) -> None:
        """Create what is missing, and look whether it is a pool that this version can use.

        Raises:
            StoreError: it is not; nothing was changed.
            OSError: it cannot be read or created.
        """
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root} is no folder; move it away, {_ELSE}")
        known = self._knows_format()
        for name in (_STATE, _CORRUPT):
            if (self.root / name).is_symlink():
                raise StoreError(f"{self.root / name} is a link, which is not followed; remove it, {_ELSE}")
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        create_folder(self.root / _STATE)
        if not known or not (self.root / ".gitignore").exists():
            with self.lock():
                self._describe()

    def _describe(self) -> None:
        """Write what stands in the root, except what another process has just written."""
        for name, content in ((".gitignore", _IGNORED), (_POOL, f'{{\n  "format": {FORMAT}\n}}\n')):
            if not (self.root / name).exists():
                replace_file(self.root / name, content.encode())

    def _knows_format(self) -> bool:
        """Whether it is a pool of ours; False where there is nothing yet."""
        path = self.root / _POOL
        try:
            found = json.loads(path.read_bytes())["format"]
        except FileNotFoundError:
            names = [path.name for path in self.root.iterdir()] if self.root.exists() else []
            others = sorted(name for name in names if not name.startswith((".", _POOL)))
            if not others or path.exists():  # another process may just have made it
                return path.exists()
            raise StoreError(
                f"{self.root} holds {others[0]!r} and no {_POOL}, so it is no pool; empty it, {_ELSE}"
            ) from None
        except (ValueError, LookupError, TypeError) as err:
            raise StoreError(f'{path} is damaged ({err}); put {{"format": {FORMAT}}} into it, {_ELSE}') from err
        if type(found) is not int or found > FORMAT:
            raise StoreError(
                f"{self.root}: written by a newer exp_pool (format {found}, this one knows {FORMAT}); upgrade "
                "exp_pool. Nothing was changed"
            )
        return True

    # The lock

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Exclude every other process, and every other store of this one. Not to be nested.

        Raises:
            StoreError: somebody had it for longer than the time-out.
            OSError: the lock file cannot be opened.
        """
        path, deadline = self.journal.with_name("lock"), monotonic() + self._timeout_s
        tries = 0
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                if _take(file, path):
                    break
            except BaseException:
                os.close(file)
                raise
            os.close(file)
            if monotonic() >= deadline:
                raise StoreError(
                    f"{self.root} is locked: another process is writing for longer than store_timeout={self._timeout_s}"
                )
            time.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1
        self._locked = file
        try:
            yield
        finally:
            self._locked = None
            fcntl.flock(file, fcntl.LOCK_UN)  # not by closing: a forked child may have it open, too
            os.close(file)

    def leave_to_parent(self) -> None:
        """After a fork: the lock that another thread of the parent held stays the parent's."""
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    # Files

    def walk(self) -> dict[str, Stamp]:
        """All files that may be rows, with their stamps."""
        found = {}
        for folder in _folders(self.root):
            for shard in _folders(folder.path):
                at = f"{folder.name}/{shard.name}/"
                with suppress(FileNotFoundError), os.scandir(shard.path) as entries:
                    for entry in entries:
                        if entry.name.endswith(".json") and entry.is_file(follow_symlinks=False):
                            with suppress(FileNotFoundError):
                                found[at + entry.name] = _stamp(entry.stat(follow_symlinks=False))
        return found

    def stamp(self, place: str) -> Stamp | None:
        """The stamp of one file; None where there is none, or it is a link."""
        try:
            there = os.stat(self._prefix + place, follow_symlinks=False)  # noqa: PTH116 - half the time of Path's
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _stamp(there) if stat.S_ISREG(there.st_mode) else None

    def read(self, place: str) -> tuple[bytes, Stamp]:
        """Content and stamp of one file.

        Raises:
            FileNotFoundError: there is none, or a link leads there.
            OSError: it cannot be read.
        """
        path = self.root / place
        if path.parent.is_symlink() or path.parent.parent.is_symlink():
            raise FileNotFoundError(place)
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            there = os.fstat(file.fileno())
            if not stat.S_ISREG(there.st_mode):
                raise FileNotFoundError(place)
            return file.read(), _stamp(there)

    def write(self, place: str, content: bytes) -> Stamp:
        """Replace or create one file; its stamp.

        Raises:
            StoreError: a link stands where its folder should be.
            OSError: it cannot be written; the old content stays.
        """
        path = self.root / place
        for folder in (path.parent.parent, path.parent):
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                if folder.is_symlink():
                    raise StoreError(f"{folder} is a link, which is not followed; remove it, {_ELSE}") from None
            else:
                sync_folder(folder.parent)
        replace_file(path, content)
        return _stamp(path.lstat())

    def remove(self, place: str) -> None:
        """Remove one file, if it is there."""
        (self.root / place).unlink(missing_ok=True)

    def set_aside(self, place: str) -> Path:
        """Move a file to where nobody looks for rows, under a name that tells where it was; the new path."""
        (self.root / _CORRUPT).mkdir(mode=0o700, exist_ok=True)
        name, number = place.replace("/", "~"), 1
        while (path := self.root / _CORRUPT / (name if number == 1 else f"{name}.{number}")).exists():
            number += 1
        (self.root / place).rename(path)
        sync_folder(path.parent)
        return path

    def aside(self) -> dict[Path, str]:
        """The files that were set aside, and where each was."""
        try:
            names = sorted(path.name for path in (self.root / _CORRUPT).iterdir())
        except FileNotFoundError:
            return {}
        places = {name: name[: name.rfind(".json") + len(".json")].replace("~", "/") for name in names}
        return {self.root / _CORRUPT / name: place for name, place in places.items()}

    def links(self) -> list[Path]:
        """Links among the rows' files and folders: what they lead to is not read."""
        found = []
        for path, folders, files in os.walk(self.root):
            names = [*folders, *files]
            if path == str(self.root):  # other files that stand there are nobody's rows
                names = folders[:] = [name for name in folders if not name.startswith(".") and name != _CORRUPT]
            found += [Path(path, name) for name in names if Path(path, name).is_symlink()]
        return sorted(found)

    def sweep(self) -> None:
        """Remove what killed processes left. The caller holds the lock: nobody is writing."""
        for place in (self.root, self.journal.parent):
            for path in place.glob("*.new"):
                if path.name.startswith((f"{_POOL}.", ".gitignore.", f"{self.journal.name}.")):
                    path.unlink(missing_ok=True)
        for folder in _folders(self.root):
            for shard in _folders(folder.path):
                for path in Path(shard).glob("*.json.*.new"):
                    path.unlink(missing_ok=True)

    def remove_empty(self) -> None:
        """Remove folders that hold nothing any more. The caller holds the lock."""
        for folder in _folders(self.root):
            for path in (*_folders(folder.path), folder):
                with suppress(OSError):  # not empty
                    Path(path).rmdir()


def _take(file: int, path: Path) -> bool:
    """Whether the lock is ours now, and still the one that others use."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


def _stamp(there: os.stat_result) -> Stamp:
    return Stamp(there.st_mtime_ns, there.st_size, there.st_ino)


def _folders(path: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [
                entry
                for entry in entries
                if not entry.name.startswith(".") and entry.name != _CORRUPT and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
