"""What is known of rows beside their files: one line of JSON for each change, appended under the folder's lock.

It is the sidecar (use, what is owed, vectors), the shared memory (leases, states, logs, deletions) and the news for
other processes in one file: whoever has read up to somewhere reads on from there. It is written anew without what is
outdated when it has grown; then it is another file, and all of it is read again. Appending costs the same however many
rows there are. A file for each row, and a version file beside them, was rejected: every use would replace three files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from exp_pool.core.values.encoding import dumps, loads
from exp_pool.errors import DecodingError
from exp_pool.runtime.clock import now_us
from exp_pool.runtime.files import replace_file, sync_folder

_LARGE = 2**20  # bytes; below this a journal is not worth writing anew
_GROWN = 3  # times what it was when it was last written as a whole


class Growing(Iterator[int]):
    """Numbers that grow from one process to the next, even where the journal was lost: the time, or one more."""

    def __init__(self) -> None:
        self._last = 0

    def __next__(self) -> int:
        self._last = max(self._last + 1, now_us())
        return self._last

    def saw(self, number: int) -> None:
        """Somebody else gave this one."""
        self._last = max(self._last, number)


class Journal:
    """The reader and writer of one process. Not thread-safe.

    Args:
        path: the file; made with the first line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._at = 0  # what was read, or written by this process: whole lines only
        self._whole = 0  # its size when it was last written, or found, as a whole
        self.damaged = 0  # lines that could not be read

    def close(self) -> None:
        """Forget where reading stood; from now on it is read from its start."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._at, self._whole, self.damaged = None, 0, 0, 0

    @property
    def grown(self) -> bool:
        """Whether most of it may be outdated."""
        return self._at > max(_LARGE, _GROWN * self._whole)

    def replaced(self) -> bool:
        """Whether it is another file than the one read so far: written anew, or lost."""
        if self._file is None:
            return self._path.exists()
        mine = os.fstat(self._file)  # as long as it is open, no other file has its number
        try:
            there = self._path.lstat()
        except FileNotFoundError:
            return True
        return (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino) or there.st_size < self._at

    def news(self) -> list[list[Any]]:
        """What was written since the last time, without what somebody is still writing.

        Raises:
            OSError: it cannot be read.
        """
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return []
        first = self._at == 0
        written = bytearray()
        while part := os.pread(self._file, _LARGE, self._at + len(written)):
            written += part
        whole = bytes(written)[: written.rfind(b"\n") + 1]
        self._at += len(whole)
        if first:
            self._whole = self._at
        return [entry for line in whole.splitlines() if (entry := self._read(line))]

    def _read(self, line: bytes) -> list[Any] | None:
        """None for what a power cut left, or a person: what it said is lost, which costs work and nothing else."""
        try:
            entry = loads(line.decode())
        except (DecodingError, UnicodeDecodeError):
            entry = None
        if isinstance(entry, list) and entry:
            return entry
        self.damaged += 1
        return None

    def append(self, entries: Iterable[list[Any]], *, sync: bool) -> None:
        """Add lines. The caller holds the folder's lock, and has read the news.

        Args:
            entries: lists of JSON values, bytes and any text.
            sync: a power cut may not take them.

        Raises:
            OSError: they cannot be written; a part of them may stand there.
        """
        lines = "".join(f"{dumps(entry)}\n" for entry in entries).encode()
        if not lines:
            return
        if self._file is None:
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o600)
            sync_folder(self._path.parent)
        if os.fstat(self._file).st_size > self._at:  # a line that a killed process did not finish
            os.ftruncate(self._file, self._at)
        left = lines
        while left:
            left = left[os.write(self._file, left) :]
        if sync:
            os.fsync(self._file)
        self._at += len(lines)

    def rewrite(self, entries: Iterable[list[Any]]) -> None:
        """Replace all of it by these lines. The caller holds the folder's lock.

        Raises:
            OSError: it cannot be written; the old lines stay.
        """
        lines = "".join(f"{dumps(entry)}\n" for entry in entries).encode()
        replace_file(self._path, lines)
        self.close()
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._at = self._whole = len(lines)
