"""``json:///folder``: one file for each experience, to be read and edited by hand and kept in git.

It is meant for thousands of experiences, not millions: every row is in the memory of every process, counting and
scanning look at the stamp of every file, and each write waits for the disk. POSIX only (``flock``), for one machine.

::

    pool.json                       the format's number
    NAMESPACE-digest/xx/DIGEST.json the current experience of a key
    .../DIGEST.DIGEST.json          history
    corrupt/                        files that could not be read, set aside
    .state/                         use, duties, vectors, leases, states, logs; not for git, and may be lost

The files are the authority. What a person changes, adds or removes there is found by the files' stamps: by looking up
a key, that of its file; by counting and scanning, those of all. Fields that say what was asked (request, arguments,
key) can be edited like all others, but the key is not computed anew: it answers the call that it answered before.
Where ``.state`` is lost, everything is owed again. A row and what is known of its use are two writes: a process
killed in between leaves a row that is owed everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import (
    Capabilities,
    Claim,
    Completion,
    Deletion,
    Evicted,
    EvictionOrder,
    IndexPartition,
    Lease,
    LogEntry,
    Names,
    Put,
    PutStatus,
    RecordQuery,
    RequestRow,
    State,
    Touch,
    Usage,
    VectorRow,
)
from exp_pool.core.record import Record, TaskKind, Vector
from exp_pool.errors import StoreError
from exp_pool.runtime.clock import now_us
from exp_pool.stores.json.mirror import Mirror
from exp_pool.stores.json.rows import UnreadableError, place_of_key, read_row

_PAGE = 50  # rows written under one lock, 0.1 s: a bound on how long other processes wait


def _everywhere() -> None:
    """All files are looked at."""


def _nowhere() -> tuple[str, ...]:
    """No file is looked at, only the journal."""
    return ()


class JsonStore(Mirror):
    """A record store of one file for each experience, shared by threads and processes of one machine.

    Args:
        path: the folder; created at first use.
        timeout_s: how long to wait for another writer before giving up.
    """

    capabilities = Capabilities(
        durable=True, shared=True, leases=True, transactional_vectors=False, atomic_batches=False
    )

    def __init__(self, path: str | Path, timeout_s: float = 5.0) -> None:
        super().__init__(path, timeout_s)

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig) -> JsonStore:
        """The store of ``json:///folder``."""
        return cls(location, timeout_s=config.store_timeout)

    def __del__(self) -> None:
        with suppress(StoreError, AttributeError):  # it may not have been made whole
            self.close()

    def close(self) -> None:
        with self._alone():
            self._journal.close()
            self._loaded = False

    # Where rows stand

    def _of_keys(self, namespace: str, keys: Sequence[str]) -> list[str]:
        return [place_of_key(namespace, key) for key in keys]

    def _of_ids(self, namespace: str, ids: Sequence[str]) -> list[str] | None:
        """Everywhere, where one of them is not known: a person may have added it."""
        if all((namespace, id_) in self._where for id_ in ids):
            return [self._where[namespace, id_] for id_ in ids]
        return None

    def _of_puts(self, puts: Sequence[Put]) -> list[str] | None:
        """The current rows of their keys, and the rows of their ids; a new id is one that the journal does not know."""
        places: list[str] = []
        for put in puts:
            ref = (put.record.namespace, put.record.id)
            if ref in self._where:
                places.append(self._where[ref])
            elif ref in self._noted:
                return None
            places.append(place_of_key(put.record.namespace, put.record.key))
        return places

    def _of_noted(self, refs: Sequence[tuple[str, str]]) -> list[str] | None:
        """Everywhere, where another process has stored one of them and it was not looked at yet."""
        if any(ref in self._noted and ref not in self._where for ref in refs):
            return None
        return [self._where[ref] for ref in refs if ref in self._where]

    # Rows

    def get_many(self, namespace: str, refs: Sequence[str], *, by: Literal["key", "id"] = "key") -> list[Record | None]:
        with self._looking(lambda: (self._of_keys if by == "key" else self._of_ids)(namespace, refs)):
            return super().get_many(namespace, refs, by=by)

    def put_many(self, puts: Sequence[Put]) -> list[PutStatus]:
        statuses: list[PutStatus] = []
        for start in range(0, len(puts), _PAGE):
            statuses += self._put_page(puts[start : start + _PAGE])
        return statuses

    def _put_page(self, puts: Sequence[Put]) -> list[PutStatus]:
        with self._writing(lambda: self._of_puts(puts)):
            return super().put_many(puts)

    def delete_many(self, namespace: str, ids: Sequence[str]) -> list[str]:
        deleted: list[str] = []
        for start in range(0, len(ids), _PAGE):
            deleted += self._delete_page(namespace, ids[start : start + _PAGE])
        return deleted

    def _delete_page(self, namespace: str, ids: Sequence[str]) -> list[str]:
        with self._writing(lambda: self._of_ids(namespace, ids)):
            return super().delete_many(namespace, ids)

    def usage(self, namespace: str) -> Usage:
        with self._looking(_everywhere):
            return super().usage(namespace)

    def evict(self, namespace: str, order: EvictionOrder, count: int) -> list[Evicted]:
        with self._writing(_everywhere):
            return super().evict(namespace, order, count)

    def clear(self, namespace: str) -> int:
        with self._writing(_everywhere):
            return super().clear(namespace)

    def scan(
        self, query: RecordQuery, *, order_by: str = "created_at", descending: bool = False, limit: int | None = None
    ) -> Iterator[Record]:
        with self._looking(_everywhere):
            return super().scan(query, order_by=order_by, descending=descending, limit=limit)

    def count(self, query: RecordQuery, *, limit: int | None = None) -> int:
        with self._looking(_everywhere):
            return super().count(query, limit=limit)

    def touch_many(self, namespace: str, touches: Sequence[Touch]) -> None:
        with self._writing(lambda: self._of_noted([(namespace, touch.id) for touch in touches])):
            super().touch_many(namespace, touches)

    def complete_many(self, completions: Sequence[Completion]) -> None:
        with self._writing(
            lambda: self._of_noted([(completion.namespace, completion.id) for completion in completions])
        ):
            super().complete_many(completions)

    def enqueue(self, query: RecordQuery, task: TaskKind) -> int:
        with self._writing(_everywhere):
            return super().enqueue(query, task)

    # Vectors

    def get_vectors(self, namespace: str, ids: Sequence[str]) -> list[Vector | None]:
        with self._looking(lambda: self._of_noted([(namespace, id_) for id_ in ids])):
            return super().get_vectors(namespace, ids)

    def vectors_after(self, namespace: str, embedder: str, position: int, limit: int) -> list[VectorRow]:
        with self._looking(_nowhere):
            return super().vectors_after(namespace, embedder, position, limit)

    def partitions(self, namespace: str | None = None) -> dict[IndexPartition, int]:
        with self._looking(_nowhere):
            return super().partitions(namespace)

    # Leases, states, logs

    def claim(self, namespace: str, key: str, owner: str, ttl_s: float, passing: str | None = None) -> Claim:
        (record,) = self.get_many(namespace, [key])  # most claims find the row; reading locks nobody out
        if record is not None and record.id != passing and not record.expired(now_us()):
            return Claim(record=record)
        with self._writing(lambda: self._of_keys(namespace, [key])):
            return super().claim(namespace, key, owner, ttl_s, passing)

    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        with self._writing(_nowhere):
            return super().renew(lease, ttl_s)

    def release(self, lease: Lease) -> None:
        with self._writing(_nowhere):
            super().release(lease)

    def read_state(self, namespace: str, name: str) -> State | None:
        with self._looking(_nowhere):
            return super().read_state(namespace, name)

    def write_state(self, namespace: str, name: str, value: str, expected_revision: int | None) -> bool:
        with self._writing(_nowhere):
            return super().write_state(namespace, name, value, expected_revision)

    def append_log(self, namespace: str, name: str, entries: Sequence[str]) -> int:
        with self._writing(_nowhere):
            return super().append_log(namespace, name, entries)

    def read_log(self, namespace: str, name: str, *, after: int = 0, limit: int = 1000) -> list[LogEntry]:
        with self._looking(_nowhere):
            return super().read_log(namespace, name, after=after, limit=limit)

    def drop_logs(self, namespace: str, names: Sequence[str]) -> None:
        with self._writing(_nowhere):
            super().drop_logs(namespace, names)

    def requests_after(self, namespace: str, position: int, limit: int) -> list[RequestRow]:
        with self._looking(_everywhere):
            return super().requests_after(namespace, position, limit)

    def names(self, namespace: str) -> Names:
        with self._looking(_nowhere):
            return super().names(namespace)

    def deletions(self, namespace: str, *, after: str = "", limit: int = 1000) -> list[Deletion]:
        with self._looking(_nowhere):
            return super().deletions(namespace, after=after, limit=limit)

    def cutoff(self, namespace: str) -> int | None:
        with self._looking(_nowhere):
            return super().cutoff(namespace)

    def bury(self, namespace: str, deletions: Sequence[Deletion], cutoff: int | None = None) -> None:
        with self._writing(lambda: self._of_ids(namespace, [deletion.id for deletion in deletions])):
            super().bury(namespace, deletions, cutoff)

    # Upkeep

    def tidy(self, forget_before: int) -> None:
        if any(at < forget_before for at in self._deletions()):
            with self._writing(_nowhere):
                super().tidy(forget_before)
                self._say("tidied", forget_before)

    def _deletions(self) -> list[int]:
        """When what is remembered of deletions happened."""
        with self._looking(_nowhere):
            return [*self._tombstones.values(), *(at for gone in self._forgotten.values() for _, at in gone)]

    def vacuum(self) -> None:
        with self._writing(_everywhere):
            self._commit()
            self._compact()
            self._folder.sweep()
            self._folder.remove_empty()

    def namespaces(self) -> list[str]:
        with self._looking(_everywhere):
            return super().namespaces()

    def repair(self) -> list[str]:
        before = set(self._folder.aside())
        self._read_anew()
        with self._writing(_everywhere):
            done = [f"{path} was set aside" for path in self._folder.aside() if path not in before]
            if self._journal.damaged:
                self._commit()
                self._compact()
                done.append(f"{self._folder.journal} was written anew, without the lines that cannot be read")
        return done

    def _read_anew(self) -> None:
        """The next look reads every file again, whatever its stamp says."""
        with self._alone():
            self._loaded = False

    def check(self) -> list[str]:
        self._read_anew()
        with self._looking(_everywhere):
            found = [self._about(path, place) for path, place in self._folder.aside().items()]
            found += [
                f"{path}: a link, which is not followed; put the file itself there" for path in self._folder.links()
            ]
            if self._journal.damaged:
                found.append(
                    f"{self._folder.journal}: {self._journal.damaged} lines cannot be read, so some use counts, "
                    "duties or states are lost, and done again; `exp-pool doctor --fix` writes it anew"
                )
        return found

    def _about(self, path: Path, place: str) -> str:
        try:
            read_row(path.read_bytes())
            reason = "set aside, and can be read; move it back"
        except (UnreadableError, OSError) as err:
            reason = f"set aside: {err}; mend it and move it back"
        return f"{path}: {reason} to {self.path / place}, or delete it"
