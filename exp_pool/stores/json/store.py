"""``json:///folder``: one file for each experience, to be read and edited by hand and kept in git.

It is meant for thousands of experiences, not millions: opening reads every file, counting and scanning look at the
stamp of each, and each write waits for the disk. For threads and processes of one machine.

::

    pool.json                       the format's number
    NAMESPACE-digest/xx/DIGEST.json the current experience of a key
    .../DIGEST.DIGEST.json          history
    corrupt/                        files that could not be read, set aside
    .state/                         an SQLite pool: rows again, use, pending tasks, vectors, leases, logs; not for git

The files are the authority; the database answers queries, and may be lost. What a person changes, adds or removes is
found by the files' stamps: by looking up a key, that of its file; by counting and scanning, those of all. Fields that
say what was asked (request, arguments, key) can be edited like all others, but the key is not computed anew: it answers
the call that it answered before. Where ``.state`` is lost, everything is pending again.

A writing transaction of the database locks out all other processes. Files are written before it ends: those that a
killed process leaves look as if a person had edited them, and are taken over in the same way. A journal and tables of
our own in the place of the database were given up: they took a thousand lines, and showed nobody more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import (
    Capabilities,
    Claim,
    Deletion,
    Evicted,
    EvictionOrder,
    Put,
    PutMode,
    PutStatus,
    RecordQuery,
    RequestRow,
    Usage,
)
from exp_pool.core.record import Record, TaskKind
from exp_pool.stores.json.folder_cache import FolderCache
from exp_pool.stores.json.rows import UnreadableError, place_of, place_of_key, read_row
from exp_pool.stores.sql.engine import translated

_PAGE = 50  # rows written under one lock, 0.1 s: a bound on how long other processes wait


class JsonStore(FolderCache):
    """A record store of one file for each experience, shared by threads and processes of one machine.

    Args:
        path: the folder; created at first use.
        timeout_s: how long to wait for another writer before giving up.
    """

    capabilities = Capabilities(durable=True, shared=True, leases=True, transactional_vectors=False)

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig) -> JsonStore:
        """The store of ``json:///folder``."""
        return cls(location, timeout_s=config.store_timeout)

    # Questions of one row look at its file, all others at all

    def get_many(self, namespace: str, refs: Sequence[str], *, by: Literal["key", "id"] = "key") -> list[Record | None]:
        rows = super().get_many(namespace, refs, by=by)
        if by == "key":
            places = [place_of_key(namespace, ref) for ref in refs]
        elif None in rows:  # a person may have added it, anywhere
            return super().get_many(namespace, refs, by=by) if self._look() else rows
        else:
            places = [place_of(row) for row in rows if row is not None]
        if self._look(places):
            return super().get_many(namespace, refs, by=by)
        odd = [place for row, place in zip(rows, places, strict=True) if (row is None) == (place in self._seen)]
        if odd:  # a file that never was seen is gone; or it is there, and its row is damaged, or came or went just now
            self._take_over(odd)
            return super().get_many(namespace, refs, by=by)
        return rows

    @translated
    def _take_over(self, places: list[str]) -> None:
        for place in places:
            self._seen.pop(place, None)
        self._write(self._adopt)

    def claim(self, namespace: str, key: str, owner: str, ttl_s: float, passing: str | None = None) -> Claim:
        (record,) = self.get_many(namespace, [key])
        if record is not None and record.id != passing and self._fresh(record):
            return Claim(record=record)
        return super().claim(namespace, key, owner, ttl_s, passing)

    def put_many(self, puts: Sequence[Put]) -> list[PutStatus]:
        statuses: list[PutStatus] = []
        for start in range(0, len(puts), _PAGE):
            page = puts[start : start + _PAGE]
            self._look([place_of_key(put.record.namespace, put.record.key) for put in page])
            for put in page:
                if put.mode is PutMode.UPDATE:
                    self.get_many(put.record.namespace, [put.record.id], by="id")
            statuses += super().put_many(page)
        return statuses

    def delete_many(self, namespace: str, ids: Sequence[str]) -> list[str]:
        self.get_many(namespace, ids, by="id")
        return super().delete_many(namespace, ids)

    def apply_tombstones(self, namespace: str, deletions: Sequence[Deletion], cleared_at: int | None = None) -> None:
        self.get_many(namespace, [deletion.id for deletion in deletions], by="id")
        super().apply_tombstones(namespace, deletions, cleared_at)

    def usage(self, namespace: str) -> Usage:
        self._look()
        return super().usage(namespace)

    def namespaces(self) -> list[str]:
        self._look()
        return super().namespaces()

    def evict(self, namespace: str, order: EvictionOrder, count: int) -> list[Evicted]:
        self._look()
        return super().evict(namespace, order, count)

    def clear(self, namespace: str) -> int:
        self._look()
        return super().clear(namespace)

    def count(self, query: RecordQuery, *, limit: int | None = None) -> int:
        self._look()
        return super().count(query, limit=limit)

    def _pages(self, query: RecordQuery, order_by: str, descending: bool, limit: int | None) -> Iterator[list[Record]]:
        self._look()
        return super()._pages(query, order_by, descending, limit)

    def enqueue(self, query: RecordQuery, task: TaskKind) -> int:
        self._look()
        return super().enqueue(query, task)

    def requests_after(self, namespace: str, position: int, limit: int) -> list[RequestRow]:
        self._look()
        return super().requests_after(namespace, position, limit)

    # Maintenance

    @translated
    def vacuum(self) -> None:
        self._look_again()
        self._write(lambda _: self._folder.remove_empty())
        super().vacuum()

    @translated
    def repair(self) -> list[str]:
        before = self._folder.aside()
        self._look_again()
        done = [f"{path} was set aside" for path in self._folder.aside() if path not in before]
        if self._damage():
            self._mend()
            self._look()
            done.append(f"{self._file.path} was written anew from what could be read of it, and the files")
        return done

    @translated
    def check(self) -> list[str]:
        self._look_again()
        return [
            *(self._about(path, place) for path, place in self._folder.aside().items()),
            *(f"{path}: a link, which is not followed; put the file itself there" for path in self._folder.links()),
            *(f"{self._file.path}: {what}; run `exp-pool doctor --fix`" for what in self._damage()),
        ]

    def _look_again(self) -> None:
        """Read every file, whatever its stamp says, and remove what killed processes left."""
        self._opened = None
        self._look()

    def _damage(self) -> list[str]:
        try:
            return self._file.quick_check()
        except sqlite3.DatabaseError as err:
            return [str(err)]

    def _about(self, path: Path, place: str) -> str:
        try:
            read_row(path.read_bytes())
            reason = "set aside, and can be read; move it back"
        except (UnreadableError, OSError) as err:
            reason = f"set aside: {err}; mend it and move it back"
        return f"{path}: {reason} to {self.path / place}, or delete it"
