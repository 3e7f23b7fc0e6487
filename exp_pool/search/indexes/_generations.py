"""The folder of one index partition: who owns it, which generation answers, and whether its files are sound.

::

    lock               held by the process that owns the folder, for as long as it has it open
    current            the pointer: the name of the generation that answers
    open               the dirty mark: there while a generation may be written to, so also after a kill
    g3-5f0c.../        what the index's library writes
    g3-5f0c....sound   what lay there when it was last closed: the library's version, each file's length and digest

A generation is built beside the one that answers; then the pointer is flipped and the old one removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from pathlib import Path

from loguru import logger

from exp_pool.errors import IndexOwnedError, VectorIndexError
from exp_pool.runtime.files import create_file, create_folder, replace_file, sync_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"g(\d+)-[0-9a-f]{8}")


class Generations:
    """One folder of generations, owned by this process from `acquire` to `release`.

    Args:
        folder: created when it is acquired.
        library: name and version of what writes the generations.
    """

    def __init__(self, folder: Path, library: str) -> None:
        self.folder = folder
        self.current: str | None = None
        self.doubt = ""
        self._library = library
        self._lock: int | None = None

    # Ownership

    def acquire(self) -> None:
        """Become the owner, and read which generation there is.

        Raises:
            IndexOwnedError: another process owns it.
            OSError: it cannot be made or written to.
        """
        if self._lock is not None:
            return
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            self._set_aside(self.folder, "it is no folder of a pool's own")
        create_folder(self.folder.parent)
        self.folder.mkdir(exist_ok=True, mode=0o700)
        self._lock = self._locked()
        try:
            self._look()
        except BaseException:
            self.release()
            raise

    def _locked(self) -> int:
        path = self.folder / "lock"
        create_file(path)
        if fcntl is None:
            raise VectorIndexError("an embedded index needs file locks, which this system does not have")
        lock = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            os.close(lock)
            raise IndexOwnedError(f"{self.folder} is open in another process") from err
        return lock

    def release(self) -> None:
        """Give the folder back: other processes may own it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def leave_to_parent(self) -> None:
        """After a fork: the lock is the parent's. Closing our copy does not give it back."""
        self.release()
        self.current, self.doubt = None, ""

    def _look(self) -> None:
        """Read the pointer; remove what was being built, and what the pointer has left behind."""
        self.current, self.doubt = self._pointer(), ""
        for entry in self.folder.iterdir():
            name = entry.name.removesuffix(".sound")
            if _NAME.fullmatch(name) and name != self.current:
                _remove(entry)
            elif entry.is_symlink():
                self._set_aside(entry, "it is a link")
        if self.current is not None:
            self.doubt = self._reason(self.current)

    def _pointer(self) -> str | None:
        try:
            name = (self.folder / "current").read_text(encoding="ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        place = self.folder / name
        if not _NAME.fullmatch(name):
            return None
        if place.is_symlink():
            self._set_aside(place, "it is a link")
        return name if place.is_dir() else None

    def _set_aside(self, path: Path, why: str) -> None:
        """Rename what is not ours: it is neither used nor removed."""
        aside = path.with_name(f"{path.name}.set-aside-{uuid.uuid4().hex[:8]}")
        path.rename(aside)
        logger.warning("{} was set aside as {}: {}", path, aside.name, why)

    # Soundness

    def _reason(self, name: str) -> str:
        """Why this generation may be damaged; ``""`` where nothing says so."""
        if (self.folder / "open").exists():
            return "it was not closed by the process that wrote it"
        try:
            written = json.loads((self.folder / f"{name}.sound").read_bytes())
        except (OSError, ValueError):
            return "nothing says in which state it was closed"
        if not isinstance(written, dict) or written.get("library") != self._library:
            return f"it was not written by {self._library}"
        if written.get("files") != _files(self.folder / name):
            return "its files are not those that were closed"
        return ""

    @property
    def hopeless(self) -> bool:
        """Whether the files were changed while no process had them open: then they are not worth a look."""
        return bool(self.doubt) and not (self.folder / "open").exists()

    def mark_open(self) -> None:
        """Set the dirty mark: a process that finds the folder after a kill has a reason to doubt it."""
        if not (self.folder / "open").exists():
            replace_file(self.folder / "open", b"")

    def mark_sound(self) -> None:
        """Record the state of the files and remove the dirty mark, if it was set: everything is written and closed."""
        if not (self.folder / "open").exists():
            return
        if self.current is not None:
            written = {"library": self._library, "files": _files(self.folder / self.current)}
            replace_file(self.folder / f"{self.current}.sound", json.dumps(written, sort_keys=True).encode())
        (self.folder / "open").unlink(missing_ok=True)
        sync_folder(self.folder)

    # Generations

    def path(self, name: str) -> Path:
        """The folder of a generation."""
        return self.folder / name

    def begin(self) -> str:
        """Create the folder of a new generation, and name it."""
        numbers = [int(found[1]) for entry in self.folder.iterdir() if (found := _NAME.fullmatch(entry.name))]
        name = f"g{max(numbers, default=0) + 1}-{uuid.uuid4().hex[:8]}"
        self.mark_open()
        self.path(name).mkdir(mode=0o700)
        return name

    def flip(self, name: str) -> None:
        """Point to this generation, which answers from now on, and remove the others."""
        replace_file(self.folder / "current", name.encode())
        self.current, self.doubt = name, ""
        for entry in list(self.folder.iterdir()):
            other = entry.name.removesuffix(".sound")
            if _NAME.fullmatch(other) and other != name:
                _remove(entry)

    def condemn(self) -> None:
        """Take the pointer from a generation that is in doubt: it does not answer any more."""
        if self.doubt:
            self.current, self.doubt = None, ""

    def remove(self) -> None:
        """Remove everything, the lock last."""
        for entry in list(self.folder.iterdir()):
            if entry.name != "lock":
                _remove(entry)
        self.current, self.doubt = None, ""


def _files(folder: Path) -> dict[str, list[object]]:
    """Length and digest of each file. Times are no sign: copying changes them, and damage need not."""
    found: dict[str, list[object]] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = [
                    path.stat().st_size,
                    hashlib.file_digest(file, "blake2b").hexdigest()[:32],
                ]
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
