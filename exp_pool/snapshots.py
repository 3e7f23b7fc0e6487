"""A pool as files that nodes exchange: ``YYYY-MM/<function hash>_<date>_<partition>.cache``.

Each file is gzip JSON, an object of entries by their ids: ``{"result": ..., "metadata": {...}}``. Nothing in it is ever
executed. Vectors, leases and what is owed are not in it: they are made anew. The format carries what a record holds, so
ids, scores, annotations and history survive; a checksum in each entry tells what was damaged.

Loading a file twice changes nothing. Where two nodes have an answer of one call, the annotated one is current, else the
later one, whatever the order of loading. What this pool has deleted stays deleted.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exp_pool._clock import now_us, to_datetime
from exp_pool.errors import ConfigurationError, DecodingError, InvalidInputError
from exp_pool.progress import progress
from exp_pool.protocols import Put, PutMode, PutStatus, RecordQuery
from exp_pool.records import Record, to_experience

if TYPE_CHECKING:
    from exp_pool.manager import ExpManager
    from exp_pool.pool import Pool

FORMAT = 1
_MAX_BYTES = 2**30  # of one file when it is unpacked: gzip makes a gigabyte of a megabyte
_MAX_ENTRIES = 1_000_000
_BATCH = 500
_SUFFIX = ".cache"
_NAME = re.compile(r"\d{4}-\d{2}/[0-9a-f]{16}_\d{8}_\d+\.cache")
_OWED = frozenset(f"{duty}_{what}" for duty in ("embed", "score") for what in ("due", "tries"))
_LEFT_OUT = _OWED | {"response"}


def save(manager: ExpManager, folder: str | Path, partition_size: int = 10_000) -> list[Path]:
    """Write the manager's namespace, history too, as partition files; their paths, in order.

    Files of an earlier save into the same folder that are no longer needed are removed after the new ones are there.

    Args:
        manager: whose pool.
        folder: where the month folders go; made where it is not there.
        partition_size: entries in one file at most.

    Raises:
        InvalidInputError: `partition_size` is not at least 1.
        StoreError: the store failed; the folder holds what it held.
        OSError: a file cannot be written.
    """
    if isinstance(partition_size, bool) or not isinstance(partition_size, int) or partition_size < 1:
        raise InvalidInputError(f"partition_size={partition_size!r} must be a whole number of at least 1")
    pool, space, root = manager.sync, manager.config.namespace, Path(folder)
    earlier = {path for path in root.glob(f"*/*{_SUFFIX}") if _NAME.fullmatch(path.relative_to(root).as_posix())}
    written: list[Path] = []
    groups: dict[tuple[str, str], list[str]] = {}
    for record in pool.store.scan(RecordQuery(space, history=True)):
        at = to_datetime(record.created_at)
        groups.setdefault((f"{at:%Y-%m}", record.function), []).append(record.id)
    for (month, function), ids in progress(sorted(groups.items()), "saving"):
        name = hashlib.sha256(function.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        for partition, start in enumerate(range(0, len(ids), partition_size)):
            part = pool.store.get_many(space, ids[start : start + partition_size], by="id")
            rows = [row for row in part if row is not None]
            first = to_datetime(rows[0].created_at) if rows else to_datetime(0)
            path = root / month / f"{name}_{first:%Y%m%d}_{partition}{_SUFFIX}"
            _write(path, {row.id: _entry(row) for row in rows})
            written.append(path)
    for path in earlier - set(written):
        path.unlink()
    return written


def load(manager: ExpManager, path: str | Path, incremental: bool = False) -> int:
    """Read one file, or every partition file of a folder, into the manager's namespace; how many rows were written.

    A damaged file or entry is reported (a warning that names it) and skipped.

    Args:
        manager: whose pool.
        path: a file, or a folder that `save` wrote.
        incremental: only entries whose id is not there yet; otherwise also those that were changed since.

    Raises:
        ConfigurationError: the path is not there.
        StoreError: the store failed.
    """
    pool, root = manager.sync, Path(path)
    if not root.exists():
        raise ConfigurationError(f"{root} is not there; give a folder that snapshots.save wrote, or one of its files")
    files = sorted(root.glob(f"*/*{_SUFFIX}")) if root.is_dir() else [root]
    written = 0
    for file in progress(files, "loading"):
        try:
            entries = _read(file, root if root.is_dir() else file.parent)
        except (OSError, EOFError, zlib.error, ValueError, RecursionError) as err:
            pool.notices.once(f"snapshot:{file}", f"{file} was skipped, the other files are loaded: {err}")
            continue
        rows = _rows(pool, file, entries)
        while batch := list(islice(rows, _BATCH)):
            written += _bring_in(pool, batch, changed_too=not incremental)
    return written


def merge(paths: Sequence[str | Path], out: str | Path) -> Path:
    """Put the entries of several files into one; of two with one id the one of the higher revision. Its path.

    Raises:
        ConfigurationError: `out` is there already, or a file cannot be read; the message names it.
    """
    target = Path(out)
    if target.exists():
        raise ConfigurationError(f"{target} is there already; give another path, or remove it first")
    entries: dict[str, Any] = {}
    for path in map(Path, paths):
        try:
            found = _read(path, path.parent)
        except (OSError, EOFError, zlib.error, ValueError, RecursionError) as err:
            raise ConfigurationError(f"{path} cannot be merged: {err}") from err
        for id_, entry in found.items():
            known = entries.get(id_)
            if known is None or _rank(known) < _rank(entry):
                entries[id_] = entry
    _write(target, dict(sorted(entries.items())))
    return target


# ── Entries ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _entry(record: Record) -> dict[str, Any]:
    """What is written of a row. The response stands apart, for those who read the files."""
    metadata = {name: value for name, value in asdict(record).items() if name not in _LEFT_OUT}
    entry = {"result": None if record.response is None else json.loads(record.response), "metadata": metadata}
    if record.response is None:
        metadata["no_result"] = True
    metadata["format"] = FORMAT
    metadata["checksum"] = _checksum(entry)
    return entry


def _checksum(entry: dict[str, Any]) -> str:
    metadata = {name: value for name, value in entry["metadata"].items() if name != "checksum"}
    text = json.dumps([entry["result"], metadata], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _rank(entry: Any) -> tuple[int, str]:
    """Which of two entries of one id is the later one: a total order."""
    metadata = entry.get("metadata", {}) if isinstance(entry, dict) else {}
    revision = metadata.get("revision")
    return (revision if isinstance(revision, int) else 0, str(metadata.get("checksum")))


_TYPES = {f.name: f.type for f in fields(Record)}


def _row(pool: Pool, id_: str, entry: Any) -> Record:
    """The row of an entry, in the manager's namespace. Raises ValueError for what is damaged."""
    if not isinstance(entry, dict) or not isinstance(entry.get("metadata"), dict) or "result" not in entry:
        raise ValueError("it is no entry")
    metadata = dict(entry["metadata"])
    if metadata.get("format") != FORMAT:
        raise ValueError(f"its format is {metadata.get('format')!r}, this version reads {FORMAT}")
    if metadata.get("checksum") != _checksum(entry):
        raise ValueError("its checksum is wrong")
    for name in ("format", "checksum"):
        del metadata[name]
    result = entry["result"]
    response = None if metadata.pop("no_result", False) else json.dumps(result, separators=(",", ":"))
    if metadata.keys() != _TYPES.keys() - _LEFT_OUT or metadata["id"] != id_:
        raise ValueError("its fields are not those of a record")
    for name, value in metadata.items():
        kind = _TYPES[name]
        allowed: tuple[type, ...] = (int,) if "int" in kind else (float, int) if "float" in kind else (str,)
        allowed = (bool,) if "bool" in kind else allowed
        if not (isinstance(value, allowed) or (value is None and "None" in kind)):
            raise ValueError(f"its {name} is {value!r:.40}")
    owed = now_us() if metadata["is_current"] else None
    record = Record(**{**metadata, "namespace": pool.config.namespace, "response": response, "embed_due": owed})
    try:
        to_experience(record)
    except DecodingError as err:
        raise ValueError(str(err)) from err
    return record


def _rows(pool: Pool, file: Path, entries: dict[str, Any]) -> Iterator[Record]:
    for id_, entry in entries.items():
        try:
            yield _row(pool, id_, entry)
        except (ValueError, TypeError, RecursionError) as err:
            skipped = f"{file}: the entry {id_!r} was skipped, the others are loaded: {err}"
            pool.notices.once(f"snapshot:{file}", skipped)


def _bring_in(pool: Pool, rows: Iterable[Record], *, changed_too: bool) -> int:
    """Write rows; how many. One by one: which row of a key is current depends on those before."""
    store, space, written = pool.store, pool.config.namespace, 0
    for row in rows:
        (known,) = store.get_many(space, [row.id], by="id")
        if known is not None:
            if not changed_too or _content(row) == _content(known) or _later(known, row):
                continue
            put = Put(replace(row, revision=known.revision), PutMode.UPDATE, expected_revision=known.revision)
        else:
            (current,) = store.get_many(space, [row.key])
            if row.is_current and current is not None and _precedence(current) > _precedence(row):
                row = replace(row, is_current=False, superseded_by=current.id)  # noqa: PLW2901
            put = Put(row, PutMode.REPLICATE)
        (status,) = store.put_many([put])
        written += status in (PutStatus.CURRENT, PutStatus.HISTORY)
    if written:
        pool.ports.later.stored({space})
    return written


_CHANGEABLE = tuple(
    "response expected codec kind trust scores metric trajectory model strategy parents metadata".split()
)


def _content(record: Record) -> tuple[Any, ...]:
    """What may change about a row without its becoming another one."""
    return (record.expires_at, *(getattr(record, name) for name in _CHANGEABLE))


def _later(one: Record, other: Record) -> bool:
    """Whether the first of two states of one row stays: a total order, so that nodes agree."""
    first, second = ((r.annotated, r.revision, repr(_content(r))) for r in (one, other))
    return first > second


def _precedence(record: Record) -> tuple[bool, int, str]:
    """Which of two answers of one call is current, whatever the order of loading."""
    return (record.annotated, record.created_at, record.id)


# ── Files ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _write(path: Path, entries: dict[str, Any]) -> None:
    """Replace a file as a whole: whoever reads it sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = json.dumps(entries, separators=(",", ":")).encode()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")  # 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(gzip.compress(text, mtime=0))  # equal content, equal bytes
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read(path: Path, root: Path) -> dict[str, Any]:
    """The entries of a file. Raises ValueError, OSError, EOFError or zlib.error for one that is none."""
    if path.is_symlink() or not path.resolve().is_relative_to(root.resolve()):
        raise ValueError("links are not followed")
    with gzip.open(path, "rb") as file:
        text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES} bytes when it is unpacked")
    entries = json.loads(text)
    if not isinstance(entries, dict):
        raise ValueError("it is no object of entries")  # noqa: TRY004  (what is read is damaged, not a type wrong)
    if len(entries) > _MAX_ENTRIES:
        raise ValueError(f"it has more than {_MAX_ENTRIES} entries")
    return entries
