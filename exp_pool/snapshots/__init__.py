"""Snapshots: a pool as files that nodes exchange, ``YYYY-MM/<function hash>_<date>_<partition>.cache``.

Each file is gzip JSON: an object of entries by their ids, ``{"result": ..., "metadata": {...}}``. Reading it executes
nothing. An entry carries a record and its audit log, so ids, scores, annotations and history survive. Deletions are
entries, too, in files with the hash of an empty function name: what was deleted on one node is deleted on all of them.

Loading a file twice changes nothing. Nodes that load each other's files agree in the end, whatever the order
(`convergence`).
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from exp_pool.core.contracts.plugs import RecordQuery
from exp_pool.core.contracts.rows import audit_log
from exp_pool.core.ttl import Duration, to_seconds
from exp_pool.errors import ConfigurationError, InvalidInputError, SourceError
from exp_pool.runtime.clock import to_datetime
from exp_pool.runtime.progress import progress
from exp_pool.snapshots import files
from exp_pool.snapshots.convergence import SnapshotLoader
from exp_pool.snapshots.entries import SnapshotDeletion, SnapshotEntry, missing_trust_entry
from exp_pool.snapshots.format import fingerprint, merge_entries, read, secret_of, write_deletion, write_row
from exp_pool.snapshots.ownership import check_replaceable, remember_files
from exp_pool.stores.pages import all_deletions, audit_entries

if TYPE_CHECKING:
    from exp_pool.api.manager import ExpManager
    from exp_pool.api.pool import Pool

_BATCH = 500
_SUFFIX = ".cache"
_NAME = re.compile(r"\d{4}-\d{2}/[0-9a-f]{16}_\d{8}_\d+\.cache")


def save(manager: ExpManager, folder: str | Path, partition_size: int = 10_000) -> list[Path]:
    """Write the manager's namespace as partition files, with history and deletions, and return their paths in order.

    Old files of the folder are removed once the new ones are written, if this pool has their content: it saved them, or
    loaded them as they are. Files with the same content are not written again. A namespace that never had anything
    removes nothing, and a warning says so.

    Args:
        manager: whose pool.
        folder: where the month folders go; made where it is not there.
        partition_size: entries in one file at most.

    Raises:
        InvalidInputError: `partition_size` is not at least 1.
        ConfigurationError: files of another pool would be lost, a month's folder is a link, or `folder` is a file.
        StoreError: the store failed; the folder holds what it held.
        OSError: a file cannot be written.
    """
    if isinstance(partition_size, bool) or not isinstance(partition_size, int) or partition_size < 1:
        raise InvalidInputError(f"partition_size={partition_size!r} must be a whole number of at least 1")
    pool, root = manager.sync, Path(folder)
    if root.exists() and not root.is_dir():
        raise ConfigurationError(f"{root} is a file; name a folder")
    SnapshotLoader(pool)  # ends what a killed process left half done
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    staged: list[files.Staged] = []
    try:
        for path, entries in chain(_rows(pool, root, partition_size), _gone(pool, root, partition_size)):
            staged.append(files.stage(path, entries))
        earlier = set(_files(root))  # now, as others may have saved meanwhile
        if earlier and not staged:
            pool.notices.warn_once(
                f"snapshot:{root}",
                f"namespace {pool.namespace!r} never had anything, so the {len(earlier):,} files in {root} are another "
                "one's, or of an earlier process, and stay. Load them first, or name another folder",
            )
            return []
        check_replaceable(pool, root, sorted(earlier), staged)
        remember_files(pool, [each.digest for each in staged])
        for each in staged:
            each.put()
    finally:
        for each in staged:
            each.discard()
    for path in earlier - {each.path for each in staged}:
        path.unlink()
    return [each.path for each in staged]


def _rows(pool: Pool, root: Path, partition_size: int) -> Iterator[tuple[Path, dict[str, Any]]]:
    namespace, secret = pool.namespace, fingerprint(pool.secret)
    logs = set(pool.store.names(namespace).logs)
    groups: dict[tuple[str, str], list[str]] = {}
    for record in pool.store.scan(RecordQuery(namespace, history=True)):
        groups.setdefault((f"{to_datetime(record.created_at):%Y-%m}", record.function), []).append(record.id)
    for (month, function), ids in progress(sorted(groups.items()), "saving"):
        for partition, start in enumerate(range(0, len(ids), partition_size)):
            part = pool.store.get_many(namespace, ids[start : start + partition_size], by="id")
            rows = [row for row in part if row is not None]
            entries = {}
            for row in rows:
                log = audit_entries(pool.store, namespace, row.id) if audit_log(row.id) in logs else []
                if untold := missing_trust_entry(row, log):
                    pool.store.append_log(namespace, audit_log(row.id), untold)
                entries[row.id] = write_row(row, [*log, *untold], secret)
            yield _path(root, month, function, rows[0].created_at if rows else 0, partition), entries


def _gone(pool: Pool, root: Path, partition_size: int) -> Iterator[tuple[Path, dict[str, Any]]]:
    namespace = pool.namespace
    gone = [
        SnapshotDeletion(id_, deleted_at) for id_, deleted_at in all_deletions(pool.store, namespace) if deleted_at > 0
    ]
    if (cutoff := pool.store.cleared_at(namespace)) is not None:
        gone.append(SnapshotDeletion("", cutoff))
    months: dict[str, list[SnapshotDeletion]] = {}
    for each in sorted(gone, key=lambda each: (each.at, each.id)):
        months.setdefault(f"{to_datetime(each.at):%Y-%m}", []).append(each)
    for month, listed in months.items():
        for partition, start in enumerate(range(0, len(listed), partition_size)):
            part = listed[start : start + partition_size]
            yield _path(root, month, "", part[0].at, partition), {each.id: write_deletion(each) for each in part}


def _path(root: Path, month: str, function: str, first_at: int, partition: int) -> Path:
    name = hashlib.sha256(function.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return root / month / f"{name}_{to_datetime(first_at):%Y%m%d}_{partition}{_SUFFIX}"


def _files(root: Path) -> Iterator[Path]:
    """Partition files of a folder, in order."""
    for path in sorted(root.glob(f"*/*{_SUFFIX}")):
        if _NAME.fullmatch(path.relative_to(root).as_posix()) and not path.parent.is_symlink():
            yield path


def load(manager: ExpManager, path: str | Path, incremental: bool = False, *, clear: bool = False) -> int:
    """Load one file, or every partition file of a folder, into the namespace; return how many rows were written.

    Rows that were deleted in the pool that saved it are deleted here, and counted. A damaged file of a folder, or a
    damaged entry of a file, is skipped, and a warning names it.

    Args:
        manager: whose pool.
        path: a file, or a folder that `save` wrote.
        incremental: only entries whose id is not there yet, and deletions; otherwise also rows that were changed since.
        clear: where the other node has deleted everything up to some time, delete what is that old here, too. Without
            it what is here stays (a warning says so), and nothing that old is brought in.

    Raises:
        ConfigurationError: the path is not there, or it was saved under another `key_secret`: nothing would be found.
        SourceError: the file is damaged, a link, a bomb or no snapshot. Of a folder that is a warning.
        StoreError: the store failed; what was written before is kept.
    """
    pool, root = manager.sync, Path(path)
    pool.check_writable()
    if not root.exists() and not root.is_symlink():
        raise ConfigurationError(f"{root} is not there; give a folder that snapshots.save wrote, or one of its files")
    folder = root.is_dir()
    here = SnapshotLoader(pool)
    written, whole = 0, []
    for file in progress(sorted(root.glob(f"*/*{_SUFFIX}")) if folder else [root], "loading"):
        try:
            entries, digest = files.read(file, root if folder else file.parent)
        except SourceError as err:
            if not folder:
                raise
            pool.notices.warn_once(f"snapshot:{file}", f"a file was skipped, the other files are loaded: {err}")
            continue
        found = _readable(pool, file, entries)
        _same_secret(pool, file, {id_: entries[id_] for id_, each in found.items() if isinstance(each, SnapshotEntry)})
        rest = iter(found.values())
        while batch := list(islice(rest, _BATCH)):
            gone = [each for each in batch if isinstance(each, SnapshotDeletion)]
            written += here.deletions(gone)
            for each in gone:
                written += 0 if each.id else _clear(pool, here, file, each.at, delete=clear)
            written += here.rows(
                [each for each in batch if isinstance(each, SnapshotEntry)], changed_too=not incremental
            )
        if here.all_in() and len(found) == len(entries) and not incremental:
            whole.append(digest)
    if whole:
        remember_files(pool, whole)
    return written


def _clear(pool: Pool, here: SnapshotLoader, file: Path, at: int, *, delete: bool) -> int:
    went, stay = here.cleared(at, delete=delete)
    if stay:
        pool.notices.warn_once(
            f"snapshot:{file}",
            f"{file}: its pool deleted everything up to {to_datetime(at):%Y-%m-%d %H:%M:%S} UTC; {stay:,} rows of this "
            "one are that old and stay. load(..., clear=True) deletes them, too",
        )
    return went


def _same_secret(pool: Pool, file: Path, rows: Mapping[str, Any]) -> None:
    ours = fingerprint(pool.secret)
    for id_, entry in rows.items():
        if (theirs := secret_of(entry)) != ours:
            under = "another key_secret" if theirs and ours else "a key_secret" if theirs else "no key_secret"
            raise ConfigurationError(
                f"{file} was saved under {under}, and this pool has {'one' if ours else 'none'}: no call would be "
                f"answered by it, such as {id_!r}. Load it with the key_secret of the pool that saved it"
            )


def _readable(pool: Pool, file: Path, entries: Mapping[str, Any]) -> dict[str, SnapshotEntry | SnapshotDeletion]:
    found: dict[str, SnapshotEntry | SnapshotDeletion] = {}
    for id_, entry in entries.items():
        try:
            found[id_] = read(id_, entry)
        except (ValueError, TypeError, RecursionError) as err:
            skipped = f"{file}: the entry {id_!r:.60} was skipped, the others are loaded: {err}"
            pool.notices.warn_once(f"snapshot:{file}", skipped)
    return found


def merge(paths: Sequence[str | Path], out: str | Path) -> Path:
    """Merge several files into one and return its path. Of two entries with one id the later one stays.

    A folder stands for all partition files in it.

    Raises:
        ConfigurationError: `out` is there already, a file cannot be read, or two were saved under different
            `key_secret`s, so that no pool could load both; the message names it.
    """
    target = Path(out)
    if target.exists() or target.is_symlink():
        raise ConfigurationError(f"{target} is there already; give another path, or remove it first")
    entries: dict[str, Any] = {}
    secrets: dict[str | None, Path] = {}
    for path in _each_file(paths):
        try:
            for id_, entry in files.read(path, path.parent)[0].items():
                if isinstance(read(id_, entry), SnapshotEntry):
                    secrets.setdefault(secret_of(entry), path)
                entries[id_] = merge_entries(entries[id_], entry, id_) if id_ in entries else entry
        except (SourceError, ValueError, TypeError, RecursionError) as err:
            raise ConfigurationError(f"{path} cannot be merged: {err}") from err
    if len(secrets) > 1:
        one, other, *_ = secrets.values()
        raise ConfigurationError(
            f"{one} and {other} hold rows that were saved under different key_secrets: no pool would find both. Load "
            "each into a pool with its key_secret"
        )
    files.write(target, dict(sorted(entries.items())))
    return target


def _each_file(paths: Sequence[str | Path]) -> Iterator[Path]:
    for path in map(Path, paths):
        found = list(_files(path)) if path.is_dir() else [path]
        if not found:
            raise ConfigurationError(f"{path} is a folder without files of a snapshot; name the files, or another one")
        yield from found


@contextmanager
def saving(
    manager: ExpManager,
    folder: str | Path,
    every: Duration = "10m",
    *,
    partition_size: int = 10_000,
    saved: Callable[[list[Path]], object] | None = None,
) -> Iterator[None]:
    """Save periodically while the block runs, in a background thread, and once more at its end.

    A save that fails is logged and tried again the next time; the one at the end raises as `save` does.

    Args:
        manager: whose pool.
        folder: as for `save`.
        every: seconds, a timedelta or text such as ``"1h"``.
        partition_size: as for `save`.
        saved: called with the paths after each save.

    Raises:
        ConfigurationError: `every` is no duration.
    """
    seconds, ended = to_seconds(every, "every"), threading.Event()

    def once() -> None:
        paths = save(manager, folder, partition_size)
        if saved is not None:
            saved(paths)

    def again() -> None:
        while not ended.wait(seconds):
            try:
                once()
            except Exception as err:  # of `saved` too: the next save may be the one that is needed
                logger.warning("a snapshot could not be saved, it is tried again: {!r}", err)

    # In the namespace, and with all else, that surrounds the block: a thread begins with none of it.
    thread = threading.Thread(target=copy_context().run, args=(again,), name="exp_pool-snapshots", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        once()


__all__ = ["load", "merge", "save", "saving"]
