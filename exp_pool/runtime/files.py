"""Files and folders for this user only, atomic replacement of files, and the root of a project."""

from __future__ import annotations

import os
from pathlib import Path


def root_above(folder: Path) -> Path | None:
    """The root of the project of a folder: the nearest one upward with pyproject.toml or .git, else exp_pool.toml."""
    upward = (folder, *folder.parents)
    of_project = (f for f in upward if _is_there(f / "pyproject.toml") or _is_there(f / ".git"))
    return next(of_project, None) or next((f for f in upward if _is_there(f / "exp_pool.toml")), None)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder that may not be looked into
        return False


def create_folder(path: Path) -> None:
    """Create the folder if it is not there, for this user only, with a ``.gitignore`` of its own.

    Raises:
        OSError: it cannot be created.
    """
    if path.exists():
        return
    path.mkdir(parents=True, exist_ok=True, mode=0o700)  # another process may be faster
    (path / ".gitignore").write_text("*\n", encoding="utf-8")  # what agents were asked belongs in no repository


def create_file(path: Path) -> None:
    """Create the file, empty, if it is not there, for this user only.

    Raises:
        OSError: it cannot be created or written to.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def replace_file(path: Path, content: bytes) -> None:
    """Replace the content of a file atomically: readers, also after a power cut, find the old content or the new.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make created, renamed and removed files of the folder survive a power cut, where the system can."""
    try:
        folder = os.open(path, os.O_RDONLY)
    except OSError:  # not on Windows
        return
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
