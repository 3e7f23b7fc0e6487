"""Snapshot files: written atomically, read as untrusted input."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import stat
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exp_pool.errors import ConfigurationError, SourceError

_MAX_BYTES = 2**30  # of one file when it is unpacked
_MAX_ENTRIES = 1_000_000
_MAX_RATIO = 200  # what gzip may make of its bytes; rows pack 3 to 20 times, zeros 1,000 times
_UNWATCHED = 8 * 2**20  # bytes that it may make of anything
_CHUNK = 2**20
_DIGEST = 16  # digits


@dataclass(frozen=True, slots=True)
class Staged:
    """Staged file: written beside its place, not moved there yet.

    Attributes:
        path: its place.
        digest: of its content, see `digest`.
    """

    path: Path
    digest: str
    _part: Path | None  # None: the file in its place says the same

    def put(self) -> None:
        """Move the file to its place atomically: a reader sees the old file or the new one."""
        if self._part is not None:
            self._part.replace(self.path)

    def discard(self) -> None:
        """Remove the staged file if it was not moved."""
        if self._part is not None:
            self._part.unlink(missing_ok=True)


def stage(path: Path, entries: dict[str, Any]) -> Staged:
    """Write a file beside its place. Equal content gives equal bytes.

    Raises:
        ConfigurationError: the folder is a link: what it leads to is somewhere else.
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.parent.is_symlink():
        raise ConfigurationError(f"{path.parent} is a link; remove it, or name the folder where it leads to")
    text = json.dumps(entries, separators=(",", ":")).encode()
    packed = gzip.compress(text, mtime=0)
    if len(text) > max(_UNWATCHED, _MAX_RATIO * len(packed)):  # or it would be taken for a bomb
        packed = gzip.compress(text, compresslevel=0, mtime=0)
    named = hashlib.sha256(packed).hexdigest()[:_DIGEST]
    if path.is_file() and not path.is_symlink() and digest(path) == named:
        return Staged(path, named, None)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")  # 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(packed)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Staged(path, named, Path(name))


def write(path: Path, entries: dict[str, Any]) -> None:
    """Replace a file atomically; see `stage`."""
    staged = stage(path, entries)
    try:
        staged.put()
    finally:
        staged.discard()


def digest(path: Path) -> str:
    """Digest of the content of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGEST]


def read(path: Path, root: Path) -> tuple[dict[str, Any], str]:
    """Read the entries of a file below `root`, unchecked, and its digest.

    Raises:
        SourceError: it is a link, a device or a pipe, damaged, or larger than such a file can be.
    """
    try:
        linked = path.is_symlink() or (path.parent != root and path.parent.is_symlink())
        if linked or not path.resolve().is_relative_to(root.resolve()):
            raise ValueError("links are not followed")
        text, named = _unpacked(path)
        entries = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as err:
        raise SourceError(f"{path}: it is nested too deeply") from err
    except (OSError, EOFError, zlib.error, ValueError) as err:
        raise SourceError(f"{path}: {err}") from err
    if not isinstance(entries, dict):
        raise SourceError(f"{path}: it is no object of entries")
    if len(entries) > _MAX_ENTRIES:
        raise SourceError(f"{path}: it has more than {_MAX_ENTRIES} entries")
    return entries, named


def _unpacked(path: Path) -> tuple[bytes, str]:
    # Without NONBLOCK the opening of a pipe would wait for somebody to write into it.
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise ValueError("it is no file")
        parts, size = [], 0
        with gzip.GzipFile(fileobj=file) as unpacking:
            while part := unpacking.read(_CHUNK):
                parts.append(part)
                size += len(part)
                if size > _MAX_BYTES:
                    raise ValueError(f"it has more than {_MAX_BYTES} bytes when it is unpacked")
                if size > max(_UNWATCHED, _MAX_RATIO * file.tell()):
                    raise ValueError(f"it unpacks to more than {_MAX_RATIO} times its size")
        file.seek(0)
        return b"".join(parts), hashlib.file_digest(file, "sha256").hexdigest()[:_DIGEST]


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number that JSON knows")
