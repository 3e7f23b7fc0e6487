"""Output of an export: files for this user only, written whole or not at all, and a manifest of counts and hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from exp_pool.errors import ConfigurationError, InvalidInputError
from exp_pool.runtime.clock import now
from exp_pool.runtime.files import sync_folder

_IN_FOLDER = "_manifest.json"  # readers of Parquet folders skip names with an underscore
_BESIDE = ".manifest.json"


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file: its path in the folder, rows, bytes, and the SHA-256 of its content."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Manifest of an export: ``_manifest.json`` in a folder, ``NAME.manifest.json`` beside a file.

    Attributes:
        format: one of `FORMATS`.
        path: the file or folder.
        created_at: when, ISO 8601.
        rows: in all files.
        files: each file.
        sides: rows of ``train`` and ``test``, where it was split.
        left_out: how many were not written, by reason.
        said: what else there is to know, such as how many clusters a split has found.
    """

    format: str
    path: str
    created_at: str
    rows: int
    files: tuple[ManifestFile, ...]
    sides: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        said = [f"{self.rows:,} rows written to {self.path} ({self.format})"]
        said += [f"{rows:,} {side}" for side, rows in self.sides.items()]
        said += [f"{count:,} left out: {why}" for why, count in self.left_out.items()]
        return "; ".join(said)


def verify(path: str | Path) -> list[str]:
    """Compare an export with its manifest; return the differences in words.

    Raises:
        ConfigurationError: there is no manifest, or it cannot be read.
    """
    root = Path(path)
    wrong = []
    for file in _read_manifest(root):
        place = root / file.path if root.is_dir() else root.parent / file.path
        if not place.is_file():
            wrong.append(f"{file.path} is not there")
        elif _digest(place) != file.sha256:
            wrong.append(f"{file.path} has another content")
    return wrong


def _read_manifest(root: Path) -> list[ManifestFile]:
    try:
        manifest = json.loads(_manifest_of(root).read_text(encoding="utf-8"))
        return [ManifestFile(**file) for file in manifest["files"]]
    except (OSError, ValueError, LookupError, TypeError) as err:
        raise ConfigurationError(f"{root} has no manifest that can be read: {err}") from err


class ExportFile:
    """File of an export while it is written; counts rows and bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.rows, self.bytes = file, hashlib.sha256(), 0, 0
        self.closed = False  # what pyarrow asks for

    def write(self, content: bytes) -> int:
        """Write bytes."""
        self._hash.update(content)
        self.bytes += len(content)
        return self._file.write(content)

    def line(self, value: Any) -> None:
        """Write one row as a line of JSON."""
        self.write(as_json(value) + b"\n")
        self.rows += 1

    def flush(self) -> None:
        """Flush; writers of other packages call it."""
        self._file.flush()

    def tell(self) -> int:
        """Bytes so far; writers of other packages ask for it."""
        return self.bytes

    @property
    def sha256(self) -> str:
        """Digest of what was written."""
        return self._hash.hexdigest()


class Output:
    """File or folder of an export. It appears when everything is written, and not at all if something fails."""

    def __init__(self, path: Path, format_: str, *, folder: bool, overwrite: bool) -> None:
        self.path, self._format, self.folder = path, format_, folder
        self._overwrite = overwrite
        self._files: list[ManifestFile] = []
        self._sides: dict[str, int] = {}
        _refuse_to_replace(path, folder=folder, overwrite=overwrite)

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._unfinished = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".part"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._unfinished, ignore_errors=True)

    @property
    def root(self) -> Path:
        """Folder for unfinished files; code of another package writes here, then `count_file` counts its files."""
        return self._unfinished

    def path_of(self, name: str) -> Path:
        """Path of a file until the export is finished."""
        path = self._unfinished / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def uncounted(self) -> list[str]:
        """Files that code of another package wrote and `count_file` has not counted, in order."""
        noted = {file.path for file in self._files}
        there = (_within(path, self._unfinished) for path in sorted(self._unfinished.rglob("*")) if path.is_file())
        return [name for name in there if name not in noted]

    @contextmanager
    def file(self, name: str, side: str | None = None) -> Iterator[ExportFile]:
        """Open a file for writing; its name matters in a folder only."""
        path = self.path_of(name if self.folder else self.path.name)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            writing = ExportFile(file)
            yield writing
            file.flush()
            os.fsync(file.fileno())
        self._count(ManifestFile(_within(path, self._unfinished), writing.rows, writing.bytes, writing.sha256), side)

    def count_file(self, name: str, rows: int, side: str | None = None) -> None:
        """Count a file that the code of another package has written.

        Args:
            name: its path in the folder.
            rows: of the pool in it.
            side: of the split; None: no split.
        """
        path = self._unfinished / name
        path.parent.chmod(0o700)
        path.chmod(0o600)
        self._count(ManifestFile(name, rows, path.stat().st_size, _digest(path)), side)

    def _count(self, file: ManifestFile, side: str | None) -> None:
        self._files.append(file)
        if side is not None:
            self._sides[side] = self._sides.get(side, 0) + file.rows

    def finish(self, left_out: Mapping[str, int], said: Mapping[str, Any]) -> Manifest:
        """Move everything to its place and return the manifest."""
        rows = sum(file.rows for file in self._files)
        manifest = Manifest(
            self._format,
            str(self.path),
            now().isoformat(),
            rows,
            tuple(self._files),
            self._sides,
            dict(left_out),
            dict(said),
        )
        with self.file_of_manifest() as file:
            fields = {name: value for name, value in asdict(manifest).items() if name != "path"}
            file.write(json.dumps(fields, ensure_ascii=False, indent=1).encode())
        # Another process may have written it meanwhile.
        _refuse_to_replace(self.path, folder=self.folder, overwrite=self._overwrite)
        if self.folder:
            if self.path.exists():
                old = Path(tempfile.mkdtemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".old"))
                self.path.replace(old)
                self._unfinished.replace(self.path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                self._unfinished.replace(self.path)
        else:
            (self._unfinished / self.path.name).replace(self.path)
            (self._unfinished / _manifest_of(self.path).name).replace(_manifest_of(self.path))
        sync_folder(self.path.parent)
        return manifest

    @contextmanager
    def file_of_manifest(self) -> Iterator[BinaryIO]:
        """Open the file of the manifest."""
        name = _IN_FOLDER if self.folder else _manifest_of(self.path).name
        descriptor = os.open(self._unfinished / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield cast("BinaryIO", file)


def as_json(value: Any) -> bytes:
    """JSON as UTF-8; lone surrogates, which UTF-8 cannot hold, as escapes."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def _manifest_of(path: Path) -> Path:
    return path / _IN_FOLDER if path.is_dir() else path.with_name(path.name + _BESIDE)


def _refuse_to_replace(path: Path, *, folder: bool, overwrite: bool) -> None:
    """Refuse to replace a path unless `overwrite` is set and an export wrote it."""
    if not (path.exists() or path.is_symlink()):
        return
    if not overwrite:
        raise InvalidInputError(f"{path} is there already; give another path, or overwrite=True")
    if path.is_symlink() or not _manifest_of(path).is_file():
        raise InvalidInputError(f"{path} has no manifest, so it was not written by an export; give another path")
    if path.is_dir() != folder:
        raise InvalidInputError(f"{path} is {'a folder' if path.is_dir() else 'a file'}; give another path")
    if folder:
        of_the_export = {path / file.path for file in _read_manifest(path)} | {path / _IN_FOLDER}
        others = {each for each in path.rglob("*") if not each.is_dir()} - of_the_export
        if others:
            raise InvalidInputError(f"{min(others)} was not written by an export; move it, or give another path")


def _within(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
