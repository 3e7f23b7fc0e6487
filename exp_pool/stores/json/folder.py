"""The folder of a JSON pool: its files, and what is set aside. Places are relative: ``folder/xx/name.json``.

Links are not followed, so that nothing outside is read, written or removed. No name is made of a user's text, except
those that a person gave.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from exp_pool.errors import StoreError
from exp_pool.runtime.files import create_folder, replace_file, sync_folder

FORMAT = 1
STATE = ".state"
_POOL = "pool.json"
_CORRUPT = "corrupt"
DATABASE = "pool.db"  # in the folder STATE
_STATE_FILES = (*(f"{DATABASE}{ending}" for ending in ("", "-wal", "-shm", "-journal")), "journal", "lock")
_IGNORED = f"/{STATE}/\n/{_CORRUPT}/\n*.new\n"
_ELSE = "or give another path in store='json:///...'"
# Windows knows none of these; there a link needs rights that others do not have.
_READ = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


class FileStamp(NamedTuple):
    """What a file is recognized by without reading it."""

    mtime_ns: int
    size: int
    inode: int


class Folder:
    """The files of one pool. Whoever writes them holds the write lock of the pool's database.

    Args:
        root: the folder; created by `open`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / STATE

    def open(self) -> None:
        """Create the folder, and look whether it is a pool that this version can use.

        Raises:
            StoreError: it is not; nothing was changed.
            OSError: it cannot be read or created.
        """
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root} is no folder; move it away, {_ELSE}")
        self._check_format()
        for name in (STATE, _CORRUPT, *(f"{STATE}/{name}" for name in _STATE_FILES)):
            if (self.root / name).is_symlink():
                raise StoreError(f"{self.root / name} is a link, which is not followed; remove it, {_ELSE}")
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        create_folder(self.state)

    def _check_format(self) -> None:
        path = self.root / _POOL
        try:
            found = json.loads(path.read_bytes())["format"]
        except FileNotFoundError:
            names = [path.name for path in self.root.iterdir()] if self.root.exists() else []
            others = sorted(name for name in names if not name.startswith((".", _POOL)))
            if others and not path.exists():  # another process may just have made it
                raise StoreError(
                    f"{self.root} holds {others[0]!r} and no {_POOL}, so it is no pool; empty it, {_ELSE}"
                ) from None
            return
        except (ValueError, LookupError, TypeError) as err:
            raise StoreError(f'{path} is damaged ({err}); put {{"format": {FORMAT}}} into it, {_ELSE}') from err
        if type(found) is not int or found > FORMAT:
            raise StoreError(
                f"{self.root}: written by a newer exp_pool (format {found}, this one knows {FORMAT}); upgrade "
                "exp_pool. Nothing was changed"
            )

    def prepare(self) -> None:
        """Write what stands in the root, if it is not there, and remove what killed processes left."""
        for name, content in ((".gitignore", _IGNORED), (_POOL, f'{{\n  "format": {FORMAT}\n}}\n')):
            if not (self.root / name).exists():
                replace_file(self.root / name, content.encode())
        for path in (*self.root.glob("*.new"), *(path for shard in self._shards() for path in shard.glob("*.new"))):
            if path.name.startswith((f"{_POOL}.", ".gitignore.")) or ".json." in path.name:
                path.unlink(missing_ok=True)

    def _shards(self) -> Iterator[Path]:
        """The folders that hold rows."""
        return (Path(shard.path) for folder in _folders(self.root) for shard in _folders(folder.path))

    # Files of rows

    def walk(self) -> dict[str, FileStamp]:
        """All files that may be rows, with their stamps."""
        found = {}
        for shard in self._shards():
            at = f"{shard.parent.name}/{shard.name}/"
            with suppress(FileNotFoundError), os.scandir(shard) as entries:
                for entry in entries:
                    if entry.name.endswith(".json") and entry.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):
                            found[at + entry.name] = _stamp(entry.stat(follow_symlinks=False))
        return found

    def stamp(self, place: str) -> FileStamp | None:
        """The stamp of one file; None where there is none, or it is a link."""
        try:
            there = os.stat(f"{self.root}/{place}", follow_symlinks=False)  # noqa: PTH116 - half the time of Path's
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _stamp(there) if stat.S_ISREG(there.st_mode) else None

    def read(self, place: str) -> tuple[bytes, FileStamp] | None:
        """Content and stamp of one file; None where there is none, or a link leads there.

        Raises:
            OSError: it cannot be read.
        """
        path = self.root / place
        if any(each.is_symlink() for each in (path, path.parent, path.parent.parent)):
            return None
        try:
            with os.fdopen(os.open(path, _READ), "rb") as file:
                there = os.fstat(file.fileno())
                return (file.read(), _stamp(there)) if stat.S_ISREG(there.st_mode) else None
        except FileNotFoundError:
            return None

    def write(self, place: str, content: bytes) -> FileStamp:
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

    def links(self) -> list[Path]:
        """Links among the rows' files and folders: what they lead to is not read."""
        found: list[Path] = []
        for path, folders, files in os.walk(self.root):
            names = [*folders, *files]
            if path == str(self.root):  # other files that stand there are nobody's rows
                names = folders[:] = [name for name in folders if not name.startswith(".") and name != _CORRUPT]
            found += (link for name in names if (link := Path(path, name)).is_symlink())
        return sorted(found)

    def remove_empty(self) -> None:
        """Remove folders of rows that hold nothing any more."""
        for folder in _folders(self.root):
            for path in (*(shard.path for shard in _folders(folder.path)), folder.path):
                with suppress(OSError):  # it holds something
                    Path(path).rmdir()

    # Files that are no rows

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


def _stamp(there: os.stat_result) -> FileStamp:
    return FileStamp(there.st_mtime_ns, there.st_size, there.st_ino)


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
