"""Safe reading of untrusted files: no links followed, no pipes, bounded sizes, one value in memory at a time.

A source is one file or a folder of files. Links, devices and pipes are refused, gzip is unpacked as it is read and
watched for bombs, and a line or value of more than `MAX_VALUE` bytes ends before it is in memory. JSON is taken
strictly: no NaN, no number beyond a float, no name twice in an object, no deeper than the pool itself can store.
"""

from __future__ import annotations

import codecs
import gzip
import json
import math
import os
import re
import stat
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

from exp_pool.core.values.encoding import MAX_DEPTH
from exp_pool.errors import SourceError

MAX_VALUE = 64 * 2**20  # bytes of one line or JSON value; a pool's rows are smaller by orders of magnitude
_CHUNK = 2**20
_MAX_RATIO = 200  # what gzip may make of its bytes; logs pack 5 to 50 times, zeros 1,000 times
_UNWATCHED = 8 * 2**20  # bytes that it may make of anything
_MAX_FOLDERS = 32  # below each other
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

Items = Iterator[tuple[str, Any]]
"""What stands in a source, each with where: ``line 3``, ``a/b.json``."""


class ImportSource:
    """Source of an import: one file, or all files of a folder.

    Args:
        path: the file or folder; no link.
        skip_damaged: what cannot be read is reported to `skipped` and left out, instead of ending the import.
        skipped: hears where something stood and why it was left out.

    Raises:
        SourceError: there is no such file, or it is a link, a device or a pipe.
    """

    def __init__(
        self, path: Path, *, skip_damaged: bool = False, skipped: Callable[[str, str], None] = lambda _where, _why: None
    ) -> None:
        self.path, self._skip_damaged, self._skipped = path, skip_damaged, skipped
        self._consumed: Callable[[int], None] = lambda _bytes: None
        try:
            mode = path.lstat().st_mode
        except (OSError, ValueError) as err:  # ValueError: a NUL in the name
            raise SourceError(f"{str(path)!r:.200} cannot be read: {err}") from err
        _refuse_strange(path, mode, folders=True)
        self.is_folder = stat.S_ISDIR(mode)

    def report_bytes_to(self, consumed: Callable[[int], None]) -> None:
        """Report bytes read to `consumed` from now on."""
        self._consumed = consumed

    def files(self, *suffixes: str) -> Iterator[Path]:
        """Files with one of these endings (all, if none is given), in order, at any depth of the folder."""
        if not self.is_folder:
            yield self.path
            return
        for path in self._walk(self.path, 0):
            if not suffixes or path.name.endswith(suffixes):
                yield path

    def _walk(self, folder: Path, depth: int) -> Iterator[Path]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as err:
            self.damaged(self.name(folder), f"it cannot be read: {err}")
            return
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith((".", "_")):  # as readers of Parquet folders do: a manifest, half a file
                continue
            try:
                _refuse_strange(path, entry.stat(follow_symlinks=False).st_mode, folders=True)
                if depth > _MAX_FOLDERS:
                    raise SourceError(f"{path} stands in more than {_MAX_FOLDERS} folders; move it up")
            except SourceError as err:
                self.damaged(self.name(path), str(err))
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(path, depth + 1)
            else:
                yield path

    def size(self) -> int:
        """Bytes of all files on disk; 0 where that is unknown."""
        try:
            return sum(path.lstat().st_size for path in ImportSource(self.path, skip_damaged=True).files())
        except OSError:
            return 0

    def name(self, path: Path) -> str:
        """Name of a file in messages: its path in the folder."""
        return path.relative_to(self.path).as_posix() if self.is_folder else path.name

    def damaged(self, where: str, why: str) -> None:
        """Report damage: it ends the import, or is skipped and listed in the report.

        Raises:
            SourceError: unless damage is skipped.
        """
        if not self._skip_damaged:
            raise SourceError(f"{self.path}, {where}: {why}; what stood before it is imported")
        self._skipped(where, why)

    @contextmanager
    def open(self, path: Path) -> Iterator[IO[bytes]]:
        """Open a file.

        Raises:
            SourceError: it is a link, a device or a pipe, or cannot be read.
        """
        try:
            # Without NONBLOCK the opening of a pipe would wait for somebody to write into it.
            number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except (OSError, ValueError) as err:
            raise SourceError(f"{path} cannot be read: {err}") from err
        with os.fdopen(number, "rb") as file:
            _refuse_strange(path, os.fstat(number).st_mode, folders=False)
            yield file

    def chunks(self, path: Path) -> Iterator[bytes]:
        """Content of a file in pieces, unpacked if it is gzip. Damage ends it.

        Raises:
            SourceError: unless damage is skipped.
        """
        try:
            with self.open(path) as file:
                yield from self._unpacked(file)
        except (SourceError, OSError, EOFError, zlib.error) as err:
            self.damaged(self.name(path), f"it cannot be read on: {err}")

    def _unpacked(self, file: IO[bytes]) -> Iterator[bytes]:
        start = file.read(4)
        file.seek(0)
        if start == _ZIP:
            raise SourceError("it is a zip archive: unpack it first")
        if start[:2] in _WIDE:
            raise SourceError("it is UTF-16: write it as UTF-8 first")
        packed = start[:2] == _GZIP
        reader: IO[bytes] = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]
        unpacked = before = 0
        while chunk := reader.read(_CHUNK):
            unpacked += len(chunk)
            at = file.tell()
            if packed and unpacked > max(_UNWATCHED, _MAX_RATIO * at):
                raise SourceError(f"it unpacks to more than {_MAX_RATIO} times its size: unpack it yourself")
            self._consumed(at - before)
            before = at
            yield chunk

    def lines(self, path: Path, *, blank: bool = False) -> Generator[tuple[int, bytes]]:
        """Lines of a file with their numbers from 1 on, without line ends; `blank`: empty ones, too."""
        number, size = 1, 0
        parts: list[bytes] = []
        for chunk in self.chunks(path):
            *whole, rest = chunk.split(b"\n")
            for end in whole:
                if size + len(end) > MAX_VALUE:
                    self._too_long(path, number)
                elif (line := b"".join((*parts, end))).strip() or blank:
                    yield number, line
                number, parts, size = number + 1, [], 0
            size += len(rest)
            if size <= MAX_VALUE:
                parts.append(rest)
            else:
                if not self._skip_damaged:
                    self._too_long(path, number)
                parts = []
        if size > MAX_VALUE:
            self._too_long(path, number)
        elif (line := b"".join(parts)).strip():
            yield number, line

    def _too_long(self, path: Path, number: int) -> None:
        self.damaged(self.line(path, number), f"it is longer than {MAX_VALUE // 2**20} MB")

    def line(self, path: Path, number: int) -> str:
        """Place of a line in messages."""
        return f"{self.name(path)} line {number}" if self.is_folder else f"line {number}"

    def values(self, path: Path) -> Items:
        """JSON values of a file: one in each line, the elements of one array, or values over several lines."""
        lines = self.lines(path)
        first = next(lines, None)
        if first is None:
            return
        text = first[1].removeprefix(codecs.BOM_UTF8).strip()
        if text.startswith(b"[") or _goes_on(text):
            lines.close()
            yield from _JsonScanner(self, path).values()
            return
        for number, line in chain([first], lines):
            where = self.line(path, number)
            try:
                value = parse(line.removeprefix(codecs.BOM_UTF8) if number == first[0] else line)
            except ValueError as err:
                self.damaged(where, str(err))
            else:
                yield where, value


def values_of_files(*suffixes: str) -> Callable[[ImportSource, Any], Items]:
    """The `items` of a format in which each JSON value is one: those of all files with one of these endings."""

    def items(source: ImportSource, options: Any) -> Items:  # noqa: ARG001
        for file in source.files(*suffixes):
            yield from source.values(file)

    return items


def parse(text: bytes | str) -> Any:
    """Parse a JSON value strictly.

    Raises:
        ValueError: it is none, or one that could not be stored; the message says why.
    """
    try:
        whole = text if isinstance(text, str) else text.decode()
        return _checked(_decoder.decode(whole), whole)
    except RecursionError as err:
        raise ValueError(_TOO_DEEP) from err
    except UnicodeDecodeError as err:
        raise ValueError(f"it is not UTF-8: {err}") from err


def first_value(head: bytes) -> Any:
    """First JSON value, or first element of an array, at the beginning of a file; None where there is none."""
    text = head.decode("utf-8-sig", "ignore").lstrip()
    text = text[1:].lstrip() if text.startswith("[") else text
    try:
        return _decoder.raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None


class _JsonScanner:
    """Incremental JSON parser: the elements of an array, or a sequence of values, read piece by piece."""

    def __init__(self, source: ImportSource, path: Path) -> None:
        self._source, self._path = source, path
        self._chunks = source.chunks(path)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended = "", 0, False

    def values(self) -> Items:
        """Values with their places. Nothing behind damage can be found: it ends there."""
        number = 1
        try:
            in_array = self._next() == "["
            self._at += in_array
            while (sign := self._next()) and not (in_array and sign == "]"):
                value = self._value()
                yield f"{self._source.name(self._path)} value {number}", value
                number += 1
                if in_array and (sign := self._next()) != "]":
                    if sign != ",":
                        found = repr(sign) if sign else "the end of the file"
                        raise ValueError(f"expected a comma or the array's end, found {found}")
                    self._at += 1
                    if self._next() == "]":
                        raise ValueError("there is a comma before the array's end")
            if in_array and not sign:
                raise ValueError("the array has no end")
            self._at += in_array
            if in_array and self._next():
                raise ValueError("something stands behind the array's end")
        except RecursionError:
            self._source.damaged(f"value {number}", _TOO_DEEP)
        except UnicodeDecodeError as err:
            self._source.damaged(f"value {number}", f"it is not UTF-8: {err}")
        except ValueError as err:
            self._source.damaged(f"value {number}", str(err))

    def _value(self) -> Any:
        wanted = _CHUNK
        while True:
            try:
                value, end = _decoder.raw_decode(self._text, self._at)
                # A number at the end of the piece may go on in the next one.
                if end < len(self._text) or not self._read(wanted):
                    value = _checked(value, self._text[self._at : end])
                    self._at = end
                    return value
            except json.JSONDecodeError:
                if len(self._text) - self._at > MAX_VALUE:
                    raise ValueError(f"it is longer than {MAX_VALUE // 2**20} MB") from None
                if not self._read(wanted):
                    raise
            wanted *= 2  # or a long value would be scanned once for each piece

    def _next(self) -> str:
        """Next character that is no space, "" at the end; it is not consumed."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read(_CHUNK):
                return ""

    def _read(self, wanted: int) -> bool:
        """Read this much more, or the rest; return whether there was any."""
        parts = [self._text[self._at :]]
        had = wanted
        while wanted > 0 and not self._ended:
            chunk = next(self._chunks, None)
            self._ended = chunk is None
            parts.append(self._decoder.decode(chunk or b"", final=self._ended))
            wanted -= len(chunk or b"")
        self._text, self._at = "".join(parts), 0
        return wanted < had


def _checked(value: Any, text: str) -> Any:
    """The value, if it is not nested deeper than can be stored. Counting brackets first avoids most walks."""
    if text.count("{") + text.count("[") > MAX_DEPTH:
        level, depth = [value], 0
        while level:
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(_TOO_DEEP)
            level = [
                item
                for each in level
                if isinstance(each, dict | list)
                for item in (each.values() if isinstance(each, dict) else each)
            ]
    return value


def _goes_on(line: bytes) -> bool:
    """Whether a line begins a value that ends in a later line."""
    try:
        _decoder.decode(line.decode())
    except json.JSONDecodeError as err:
        return err.pos >= len(err.doc)
    except (ValueError, RecursionError):
        pass
    return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the name {twice!r:.60} twice")
    return found


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text:.40} is too large")
    return number


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _refuse_strange(path: Path, mode: int, *, folders: bool) -> None:
    if stat.S_ISLNK(mode):
        raise SourceError(f"{path} is a link, and links are not followed; give the file itself")
    if not (stat.S_ISREG(mode) or (folders and stat.S_ISDIR(mode))):
        raise SourceError(f"{path} is no plain file; give one")


_TOO_DEEP = f"it is nested deeper than {MAX_DEPTH} levels"
_SPACE = re.compile(r"[ \t\n\r]*")
_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
