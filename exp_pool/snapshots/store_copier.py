"""Store copier: copies one namespace into another store, and verifies the copy. `migration` uses it."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, replace
from itertools import chain, islice
from typing import NamedTuple, TypeVar

from exp_pool.core.contracts.plugs import Deletion, Put, PutMode, PutStatus, RecordQuery, RecordStore, Touch
from exp_pool.core.contracts.rows import audit_log
from exp_pool.core.filters import Condition
from exp_pool.core.record import Record
from exp_pool.snapshots.row_comparison import (
    RowComparison,
    RowWithVector,
    TargetState,
    substance,
    takes_precedence,
    target_state,
)
from exp_pool.stores.pages import all_deletions, log_entries

T = TypeVar("T")

_PAGE_ROWS, _PAGE_BYTES = 500, 16 * 2**20  # whichever comes first: rows may have megabytes each
_PAGE_ENTRIES = 100  # of logs, which hold what was edited
_CHUNK = 50_000  # deletions held in memory at once, 10 MB; the other side's are read once for each chunk
_NAMED = 5  # ids in a message

# A row is brought up to date by burying it at this time and inserting it anew. One that was buried so, and not inserted
# because the process was killed, is told from what was really deleted by it. (Nothing short of this changes currency,
# revision, pending tasks and vector in one go; UPDATE leaves most of them alone.)
_AWAITED = 0
_OWED = 1  # a time that has come; 0 would be no time

_OWNER = "embedder"  # the state that names whose vectors a namespace has
_POSITIONS = "index:"  # the states that say how far an index got


class _StateDiff(NamedTuple):
    behind: list[str]
    ahead: list[str]


class StoreCopier:
    """Copies namespaces into another store, and verifies the copies.

    Args:
        source: from where; only read.
        target: to where.
        where: which rows; empty: everything.
        tally: what was done, by the names of `migration.MigrationReport`.
        advance: of a progress bar (`progress.bar`): hears of rows that were looked at.
        dry_run: write nothing; the tally says what would be done.

    Attributes:
        target: to where; another store on the same place may take over before `verify`.
        checksum: the sum of the digests of what was verified, modulo 2 ** 128.
    """

    def __init__(
        self,
        source: RecordStore,
        target: RecordStore,
        where: tuple[Condition, ...],
        tally: Counter[str],
        advance: Callable[..., None],
        *,
        dry_run: bool = False,
    ) -> None:
        self._dry_run = dry_run
        self._source, self.target, self._where = source, target, where
        self._tally, self._advance = tally, functools.partial(advance, "")
        self._owner: dict[str, str | None] = {}  # whose vectors a namespace of the target has, where not the source's
        self._audited: set[str] = set()  # the audit logs of rows that match
        self._written: set[tuple[str, str]] = set()  # states
        self.checksum = 0

    def copy(self, namespace: str) -> None:
        """Copy what the target lacks of a namespace."""
        if not self._where:
            for buried in self._missing_deletions(namespace):
                self._bury(namespace, buried)
                self._tally["deletions"] += len(buried)
        awaited = frozenset(d.id for d in all_deletions(self.target, namespace) if d.deleted_at == _AWAITED)
        for page in self._pages(namespace):
            self._copy_page(namespace, page, awaited)
            self._advance(len(page))
        states = self._states(namespace)
        for name in states.behind:
            self._write_state(namespace, name)
        self._tally["kept"] += len(states.ahead)
        for name in self._logs(namespace):
            for entries in self._missing_log_entries(namespace, name):
                if not self._dry_run:
                    self.target.append_log(namespace, name, entries)
                self._tally["logs"] += len(entries)
        cutoff = self._later_cutoff(namespace)
        if cutoff is not None:
            self._bury(namespace, [], cutoff)

    def verify(self, namespace: str) -> list[str]:
        """Read everything back; return what is wrong, in words, each with some ids."""
        query = RecordQuery(namespace, self._where, history=True)
        wrong: dict[str, list[str]] = {"are not as in the source": [], "are of one revision, but not the same": []}
        seen = found = vectors = 0
        absent: dict[str, int] = {}
        for page in self._pages(namespace):
            for compared in self._compare(namespace, page):
                record = compared.row.record
                if compared.there is None:
                    absent[record.id] = record.created_at
                    continue
                found += 1
                if compared.target_state is TargetState.BEHIND:
                    wrong["are not as in the source"].append(record.id)
                elif compared.target_state is TargetState.CLASH:
                    wrong["are of one revision, but not the same"].append(record.id)
                elif compared.target_state in (TargetState.SAME, TargetState.USED):
                    vectors += compared.row.vector is not None
                    self.checksum = (self.checksum + _digest(compared.there)) % 2**128
            seen += len(page)
            self._advance(len(page))
        wrong["are not there"] = self._missing_rows(namespace, absent)
        wrong["states are not as in the source"] = self._states(namespace).behind
        wrong["logs are not complete"] = [
            n for n in self._logs(namespace) if next(self._missing_log_entries(namespace, n), None)
        ]
        if not self._where:
            wrong["deletions are not remembered"] = [
                d.id for chunk in self._missing_deletions(namespace) for d in chunk
            ]
        said = [_problem(what, ids) for what, ids in wrong.items() if ids]
        if self._later_cutoff(namespace) is not None:
            said.append("it was cleared, and the target does not know")
        kept = self._source.count(query)
        if kept != seen:
            said.append(
                f"the source counts {kept:,} rows and gives {seen:,}: damaged (exp-pool doctor), or changed meanwhile"
            )
        if (counted := self.target.count(query)) < found:
            said.append(f"the target gives {found:,} rows and counts {counted:,}")
        if (counted := sum(self.target.partitions(namespace).values())) < vectors:
            said.append(f"the target gives {vectors:,} vectors and counts {counted:,}")
        return [f"namespace {namespace!r}: {what}" for what in said]

    # Rows

    def _pages(self, namespace: str) -> Iterator[list[Record]]:
        page: list[Record] = []
        size = 0
        logs = set(self._source.names(namespace).logs) if self._where else set()
        for record in self._source.scan(RecordQuery(namespace, self._where, history=True)):
            page.append(record)
            size += record.size_bytes
            self._audited |= logs & {audit_log(record.id)}
            if len(page) >= _PAGE_ROWS or size >= _PAGE_BYTES:
                yield page
                page, size = [], 0
        if page:
            yield page

    def _compare(self, namespace: str, page: Sequence[Record]) -> list[RowComparison]:
        rows = [self._without_foreign_vector(namespace, row) for row in _with_vectors(self._source, namespace, page)]
        known = self.target.get_many(namespace, [record.id for record in page], by="id")
        there = {r.record.id: r for r in _with_vectors(self.target, namespace, [k for k in known if k is not None])}
        rivals = self._rivals(namespace, [row.record for row in rows], there)
        compared = []
        for row in rows:
            old = there.get(row.record.id)
            rival = rivals.get(row.record.key) if row.record.is_current else None
            compared.append(
                RowComparison(row, old, rival, TargetState.ABSENT if old is None else target_state(row, old, rival))
            )
        return compared

    def _without_foreign_vector(self, namespace: str, row: RowWithVector) -> RowWithVector:
        """Row without its vector if the target's embedder is another one: it is embedded there."""
        if namespace not in self._owner:
            ours, theirs = (store.read_state(namespace, _OWNER) for store in (self._source, self.target))
            same = theirs is None or (ours is not None and ours.value == theirs.value)
            self._owner[namespace] = None if same or theirs is None else theirs.value
        owner = self._owner[namespace]
        if owner is None or row.vector is None or row.vector.embedder == owner:
            return row
        return RowWithVector(replace(row.record, embed_due=_OWED, embed_tries=0), None)

    def _rivals(self, namespace: str, records: Sequence[Record], there: dict[str, RowWithVector]) -> dict[str, Record]:
        """Current rows of the target, by key, that are no earlier state of a row of the source."""
        keys = [r.key for r in records if r.is_current and not (r.id in there and there[r.id].record.is_current)]
        others = [row for row in self.target.get_many(namespace, keys) if row is not None]
        known = self._source.get_many(namespace, [row.id for row in others], by="id")
        return {
            other.key: other
            for other, row in zip(others, known, strict=True)
            if row is None
            or target_state(RowWithVector(row, None), RowWithVector(other, None), None) is TargetState.AHEAD
        }

    def _copy_page(self, namespace: str, page: Sequence[Record], awaited: frozenset[str]) -> None:
        puts, buried, touches = [], [], []
        for row, there, rival, how in self._compare(namespace, page):
            self._tally["skipped"] += how in (
                TargetState.SAME,
                TargetState.USED,
                TargetState.SUPERSEDED,
                TargetState.CLASH,
            )
            self._tally["kept"] += how is TargetState.AHEAD
            record = row.record
            if how in (TargetState.ABSENT, TargetState.BEHIND):
                mode = PutMode.REPLICATE
                if there is not None:
                    buried.append(Deletion(record.id, _AWAITED))
                if there is not None or record.id in awaited:
                    mode = PutMode.INSERT
                self._tally["conflicts"] += rival is not None
                if rival is not None and takes_precedence(rival, record):
                    record = replace(record, is_current=False, superseded_by=rival.id)
                puts.append(Put(record, mode, row.vector if record.is_current else None))
            elif how is TargetState.USED and there is not None:
                more = record.access_count - there.record.access_count
                touches.append(Touch(record.id, max(0, more), record.last_access or 0))
        if buried:
            self._bury(namespace, buried)
        if touches and not self._dry_run:
            self.target.touch_many(namespace, touches)
        if puts:
            expected = (PutStatus.CURRENT if put.record.is_current else PutStatus.HISTORY for put in puts)
            statuses = [*expected] if self._dry_run else self.target.put_many(puts)
            self._count_statuses(puts, statuses, {deletion.id for deletion in buried})

    def _bury(self, namespace: str, deletions: Sequence[Deletion], cutoff: int | None = None) -> None:
        if not self._dry_run:
            self.target.apply_tombstones(namespace, deletions, cutoff)

    def _count_statuses(self, puts: Sequence[Put], statuses: Sequence[PutStatus], updated: set[str]) -> None:
        for put, status in zip(puts, statuses, strict=True):
            match status:
                case PutStatus.CURRENT | PutStatus.HISTORY if put.record.id in updated:
                    self._tally["updated"] += 1
                case PutStatus.CURRENT:
                    self._tally["rows"] += 1
                    self._tally["vectors"] += put.vector is not None
                case PutStatus.HISTORY:
                    self._tally["history"] += 1
                case PutStatus.DELETED:
                    self._tally["refused"] += 1
                case _:  # another process copies it, too
                    self._tally["skipped"] += 1

    # States and logs

    def _states(self, namespace: str) -> _StateDiff:
        """Named states in which the target differs from the source."""
        behind: list[str] = []
        ahead: list[str] = []
        for name in () if self._where else self._source.names(namespace).states:
            new, old = self._source.read_state(namespace, name), self.target.read_state(namespace, name)
            if new is None or name.startswith(_POSITIONS) or (name == _OWNER and old is not None):
                continue
            if old is None or (old.value != new.value and (namespace, name) in self._written):
                behind.append(name)
            elif old.value != new.value:
                (behind if new.revision > old.revision else ahead).append(name)
        return _StateDiff(behind, ahead)

    def _write_state(self, namespace: str, name: str) -> None:
        new, old = self._source.read_state(namespace, name), self.target.read_state(namespace, name)
        revision = old.revision if old else None
        if new is not None and (self._dry_run or self.target.write_state(namespace, name, new.value, revision)):
            self._written.add((namespace, name))
            self._tally["states"] += 1

    def _logs(self, namespace: str) -> list[str]:
        return [name for name in self._source.names(namespace).logs if not self._where or name in self._audited]

    def _missing_log_entries(self, namespace: str, name: str) -> Iterator[list[str]]:
        """Entries to append: the rest of the source's log, after those that the target has, in order.

        The target's may hold entries of its own in between.
        """
        entries = log_entries(self._source, namespace, name)
        wanted = next(entries, None)
        for entry in log_entries(self.target, namespace, name):
            if entry == wanted:
                wanted = next(entries, None)
            if wanted is None:
                return
        if wanted is not None:
            yield from _chunks(chain((wanted,), entries), _PAGE_ENTRIES)

    # Deletions

    def _missing_deletions(self, namespace: str) -> Iterator[list[Deletion]]:
        """Deletions that the target does not remember, or remembers with an earlier time."""
        real = (deletion for deletion in all_deletions(self._source, namespace) if deletion.deleted_at != _AWAITED)
        for chunk in _chunks(real, _CHUNK):
            missing = {deletion.id: deletion for deletion in chunk}
            for id_, deleted_at in all_deletions(self.target, namespace):
                if id_ in missing and missing[id_].deleted_at <= deleted_at:
                    del missing[id_]
            for ids in _chunks(list(missing), _PAGE_ROWS):
                # A file that a person put back into a folder of json:// is there although it was deleted.
                alive = self._source.get_many(namespace, ids, by="id")
                if gone := [missing[id_] for id_, row in zip(ids, alive, strict=True) if row is None]:
                    yield gone

    def _later_cutoff(self, namespace: str) -> int | None:
        """Cut-off of the source, where it is later than that of the target."""
        theirs, ours = self._source.cleared_at(namespace), self.target.cleared_at(namespace)
        return None if self._where or theirs is None or (ours is not None and ours >= theirs) else theirs

    def _missing_rows(self, namespace: str, absent: dict[str, int]) -> list[str]:
        """Ids of rows that the target lacks although it did not delete them."""
        cutoff = self.target.cleared_at(namespace)
        lost = {id_ for id_, created_at in absent.items() if cutoff is None or created_at > cutoff}
        if lost:
            lost -= {id_ for id_, deleted_at in all_deletions(self.target, namespace) if deleted_at != _AWAITED}
        return sorted(lost)


def _with_vectors(store: RecordStore, namespace: str, records: Sequence[Record]) -> list[RowWithVector]:
    ids = [record.id for record in records if record.is_current]  # history has none
    vectors = dict(zip(ids, store.get_vectors(namespace, ids), strict=True))
    return [RowWithVector(record, vectors.get(record.id)) for record in records]


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _digest(row: RowWithVector) -> int:
    text = repr((substance(row.record), row.record.is_current, row.vector and astuple(row.vector)))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())


def _problem(what: str, ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
    return f"{len(ids):,} {what}: {', '.join(map(repr, ids[:_NAMED]))}{more}"
