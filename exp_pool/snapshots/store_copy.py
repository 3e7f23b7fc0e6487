"""How one namespace goes from a store to another, and whether it got there: `migration` says what for."""

from __future__ import annotations

import hashlib
import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, fields, replace
from enum import Enum, auto
from itertools import chain, islice
from typing import NamedTuple, TypeVar

from exp_pool.core.contracts.plugs import Deletion, Put, PutMode, PutStatus, RecordQuery, RecordStore, Touch
from exp_pool.core.contracts.rows import audit_log
from exp_pool.core.filters import Condition
from exp_pool.core.record import Record, Vector
from exp_pool.stores.pages import all_deletions, log_entries
from exp_pool.stores.store_proxy import StoreProxy

T = TypeVar("T")

_PAGE_ROWS, _PAGE_BYTES = 500, 16 * 2**20  # whichever comes first: rows may have megabytes each
_PAGE_ENTRIES = 100  # of logs, which hold what was edited
_CHUNK = 50_000  # deletions held in memory at once, 10 MB; the other side's are read once for each chunk
_NAMED = 5  # ids in a message

# A row is brought up to date by burying it at this time and inserting it anew. One that was buried so, and not inserted
# because the process was killed, is told from what was really deleted by it. (Nothing short of this changes currency,
# revision, duties and vector in one go; UPDATE leaves most of them alone.)
_AWAITED = 0
_OWED = 1  # a time that has come; 0 would be no time

# What changes about a row without its being edited; the rest is what it says.
_CIRCUMSTANCES = frozenset(
    "is_current superseded_by last_access access_count revision embed_due embed_tries score_due score_tries".split()
)
_substance = operator.attrgetter(*(f.name for f in fields(Record) if f.name not in _CIRCUMSTANCES))

_OWNER = "embedder"  # the state that names whose vectors a namespace has
_POSITIONS = "index:"  # the states that say how far an index got


class Row(NamedTuple):
    """A row with its vector, if it has one."""

    record: Record
    vector: Vector | None


class Standing(Enum):
    """How a row of the target stands to that of the source."""

    ABSENT = auto()
    SAME = auto()
    USED = auto()  # the source has counted more use
    BEHIND = auto()  # the source has a later state
    AHEAD = auto()  # the target has a later state
    SUPERSEDED = auto()  # the same but for currency: the target's own answer of the call is current
    CLASH = auto()  # neither state is the later one


class Judged(NamedTuple):
    """A row of the source, what the target has of it, and the target's own current answer of the same call."""

    row: Row
    there: Row | None
    rival: Record | None
    standing: Standing


def standing(row: Row, there: Row, rival: Record | None) -> Standing:
    """How the target's row stands to the source's of the same id."""
    new, old = row.record, there.record
    if _substance(new) != _substance(old):
        mine, theirs = ((state.annotated, state.revision) for state in (new, old))  # a person first
        return Standing.CLASH if mine == theirs else Standing.BEHIND if mine > theirs else Standing.AHEAD
    if new.is_current and not old.is_current and rival is not None and prevails(rival, new):
        return Standing.SUPERSEDED
    if (
        new.revision > old.revision
        or new.is_current != old.is_current
        or (not new.is_current and new.superseded_by != old.superseded_by)
        or (row.vector is not None and row.vector != there.vector)
        or any(getattr(new, due) is None and getattr(old, due) is not None for due in ("embed_due", "score_due"))
    ):
        return Standing.BEHIND
    if new.access_count > old.access_count or (new.last_access or 0) > (old.last_access or 0):
        return Standing.USED
    return Standing.SAME


def prevails(one: Record, other: Record) -> bool:
    """Which of two answers of one call is current, whatever the direction of the move; as snapshots decide."""
    first, second = ((row.annotated, row.created_at, row.id) for row in (one, other))
    return first > second


class _States(NamedTuple):
    behind: list[str]
    ahead: list[str]


class Moving:
    """Moves namespaces, and verifies them.

    Args:
        source: from where; only read.
        target: to where.
        where: which rows; empty: everything.
        tally: what was done, by the names of `migration.Moved`.
        advance: hears of rows that were looked at.

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
        advance: Callable[[int], None],
    ) -> None:
        self._source, self.target, self._where = source, target, where
        self._tally, self._advance = tally, advance
        self._owner: dict[str, str | None] = {}  # whose vectors a namespace of the target has, where not the source's
        self._audited: set[str] = set()  # the audit logs of rows that match
        self._written: set[tuple[str, str]] = set()  # states
        self.checksum = 0

    def move(self, space: str) -> None:
        """Bring over what the target does not have of a namespace."""
        if not self._where:
            for buried in self._unburied(space):
                self.target.apply_tombstones(space, buried)
                self._tally["deletions"] += len(buried)
        awaited = frozenset(d.id for d in all_deletions(self.target, space) if d.deleted_at == _AWAITED)
        for page in self._pages(space):
            self._bring(space, page, awaited)
            self._advance(len(page))
        states = self._states(space)
        for name in states.behind:
            self._write_state(space, name)
        self._tally["kept"] += len(states.ahead)
        for name in self._logs(space):
            for entries in self._unlogged(space, name):
                self.target.append_log(space, name, entries)
                self._tally["logs"] += len(entries)
        cutoff = self._later_cutoff(space)
        if cutoff is not None:
            self.target.apply_tombstones(space, [], cutoff)

    def verify(self, space: str) -> list[str]:
        """Read everything back; what is wrong, in words, each with some ids."""
        query = RecordQuery(space, self._where, history=True)
        wrong: dict[str, list[str]] = {"are not as in the source": [], "are of one revision, but not the same": []}
        seen = found = vectors = 0
        absent: dict[str, int] = {}
        for page in self._pages(space):
            for judged in self._judge(space, page):
                record = judged.row.record
                if judged.there is None:
                    absent[record.id] = record.created_at
                    continue
                found += 1
                if judged.standing is Standing.BEHIND:
                    wrong["are not as in the source"].append(record.id)
                elif judged.standing is Standing.CLASH:
                    wrong["are of one revision, but not the same"].append(record.id)
                elif judged.standing in (Standing.SAME, Standing.USED):
                    vectors += judged.row.vector is not None
                    self.checksum = (self.checksum + _digest(judged.there)) % 2**128
            seen += len(page)
            self._advance(len(page))
        wrong["are not there"] = self._lost(space, absent)
        wrong["states are not as in the source"] = self._states(space).behind
        wrong["logs are not complete"] = [n for n in self._logs(space) if next(self._unlogged(space, n), None)]
        if not self._where:
            wrong["deletions are not remembered"] = [d.id for chunk in self._unburied(space) for d in chunk]
        said = [_said(what, ids) for what, ids in wrong.items() if ids]
        if self._later_cutoff(space) is not None:
            said.append("it was cleared, and the target does not know")
        kept = self._source.count(query)
        if kept != seen:
            said.append(
                f"the source counts {kept:,} rows and gives {seen:,}: damaged (exp-pool doctor), or changed meanwhile"
            )
        if (counted := self.target.count(query)) < found:
            said.append(f"the target gives {found:,} rows and counts {counted:,}")
        if (counted := sum(self.target.partitions(space).values())) < vectors:
            said.append(f"the target gives {vectors:,} vectors and counts {counted:,}")
        return [f"namespace {space!r}: {what}" for what in said]

    # Rows

    def _pages(self, space: str) -> Iterator[list[Record]]:
        page: list[Record] = []
        size = 0
        logs = set(self._source.names(space).logs) if self._where else set()
        for record in self._source.scan(RecordQuery(space, self._where, history=True)):
            page.append(record)
            size += record.size_bytes
            self._audited |= logs & {audit_log(record.id)}
            if len(page) >= _PAGE_ROWS or size >= _PAGE_BYTES:
                yield page
                page, size = [], 0
        if page:
            yield page

    def _judge(self, space: str, page: Sequence[Record]) -> list[Judged]:
        rows = [self._without_strange(space, row) for row in _with_vectors(self._source, space, page)]
        known = self.target.get_many(space, [record.id for record in page], by="id")
        there = {r.record.id: r for r in _with_vectors(self.target, space, [k for k in known if k is not None])}
        rivals = self._rivals(space, [row.record for row in rows], there)
        judged = []
        for row in rows:
            old = there.get(row.record.id)
            rival = rivals.get(row.record.key) if row.record.is_current else None
            judged.append(Judged(row, old, rival, Standing.ABSENT if old is None else standing(row, old, rival)))
        return judged

    def _without_strange(self, space: str, row: Row) -> Row:
        """A row whose vector the target's embedder would not find is embedded there."""
        if space not in self._owner:
            ours, theirs = (store.read_state(space, _OWNER) for store in (self._source, self.target))
            same = theirs is None or (ours is not None and ours.value == theirs.value)
            self._owner[space] = None if same or theirs is None else theirs.value
        owner = self._owner[space]
        if owner is None or row.vector is None or row.vector.embedder == owner:
            return row
        return Row(replace(row.record, embed_due=_OWED, embed_tries=0), None)

    def _rivals(self, space: str, records: Sequence[Record], there: dict[str, Row]) -> dict[str, Record]:
        """By their keys: current rows of the target that are no earlier state of the source."""
        keys = [r.key for r in records if r.is_current and not (r.id in there and there[r.id].record.is_current)]
        others = [row for row in self.target.get_many(space, keys) if row is not None]
        known = self._source.get_many(space, [row.id for row in others], by="id")
        return {
            other.key: other
            for other, row in zip(others, known, strict=True)
            if row is None or standing(Row(row, None), Row(other, None), None) is Standing.AHEAD
        }

    def _bring(self, space: str, page: Sequence[Record], awaited: frozenset[str]) -> None:
        puts, buried, touches = [], [], []
        for row, there, rival, how in self._judge(space, page):
            self._tally["skipped"] += how in (Standing.SAME, Standing.USED, Standing.SUPERSEDED, Standing.CLASH)
            self._tally["kept"] += how is Standing.AHEAD
            record = row.record
            if how in (Standing.ABSENT, Standing.BEHIND):
                mode = PutMode.REPLICATE
                if there is not None:
                    buried.append(Deletion(record.id, _AWAITED))
                if there is not None or record.id in awaited:
                    mode = PutMode.INSERT
                self._tally["conflicts"] += rival is not None
                if rival is not None and prevails(rival, record):
                    record = replace(record, is_current=False, superseded_by=rival.id)
                puts.append(Put(record, mode, row.vector if record.is_current else None))
            elif how is Standing.USED and there is not None:
                more = record.access_count - there.record.access_count
                touches.append(Touch(record.id, max(0, more), record.last_access or 0))
        if buried:
            self.target.apply_tombstones(space, buried)
        if touches:
            self.target.touch_many(space, touches)
        if puts:
            self._count(puts, self.target.put_many(puts), {deletion.id for deletion in buried})

    def _count(self, puts: Sequence[Put], statuses: Sequence[PutStatus], updated: set[str]) -> None:
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
                case _:  # somebody else is moving it, too
                    self._tally["skipped"] += 1

    # States and logs

    def _states(self, space: str) -> _States:
        """States in which the target differs from the source."""
        behind: list[str] = []
        ahead: list[str] = []
        for name in () if self._where else self._source.names(space).states:
            new, old = self._source.read_state(space, name), self.target.read_state(space, name)
            if new is None or name.startswith(_POSITIONS) or (name == _OWNER and old is not None):
                continue
            if old is None or (old.value != new.value and (space, name) in self._written):
                behind.append(name)
            elif old.value != new.value:
                (behind if new.revision > old.revision else ahead).append(name)
        return _States(behind, ahead)

    def _write_state(self, space: str, name: str) -> None:
        new, old = self._source.read_state(space, name), self.target.read_state(space, name)
        if new is not None and self.target.write_state(space, name, new.value, old.revision if old else None):
            self._written.add((space, name))
            self._tally["states"] += 1

    def _logs(self, space: str) -> list[str]:
        return [name for name in self._source.names(space).logs if not self._where or name in self._audited]

    def _unlogged(self, space: str, name: str) -> Iterator[list[str]]:
        """What is to be appended: the rest of the source's log, once the target's holds its beginning, in order.

        The target's may hold entries of its own in between.
        """
        entries = log_entries(self._source, space, name)
        wanted = next(entries, None)
        for entry in log_entries(self.target, space, name):
            if entry == wanted:
                wanted = next(entries, None)
            if wanted is None:
                return
        if wanted is not None:
            yield from _chunks(chain((wanted,), entries), _PAGE_ENTRIES)

    # Deletions

    def _unburied(self, space: str) -> Iterator[list[Deletion]]:
        """Deletions that the target does not remember, or not for as long."""
        real = (deletion for deletion in all_deletions(self._source, space) if deletion.deleted_at != _AWAITED)
        for chunk in _chunks(real, _CHUNK):
            missing = {deletion.id: deletion for deletion in chunk}
            for id_, deleted_at in all_deletions(self.target, space):
                if id_ in missing and missing[id_].deleted_at <= deleted_at:
                    del missing[id_]
            for ids in _chunks(list(missing), _PAGE_ROWS):
                # A file that a person put back into a folder of json:// is there although it was deleted.
                alive = self._source.get_many(space, ids, by="id")
                if gone := [missing[id_] for id_, row in zip(ids, alive, strict=True) if row is None]:
                    yield gone

    def _later_cutoff(self, space: str) -> int | None:
        """The source's, where the target was not cleared as late."""
        theirs, ours = self._source.cleared_at(space), self.target.cleared_at(space)
        return None if self._where or theirs is None or (ours is not None and ours >= theirs) else theirs

    def _lost(self, space: str, absent: dict[str, int]) -> list[str]:
        """Of these rows (by id, when they were created) those which the target did not delete."""
        cutoff = self.target.cleared_at(space)
        lost = {id_ for id_, created_at in absent.items() if cutoff is None or created_at > cutoff}
        if lost:
            lost -= {id_ for id_, deleted_at in all_deletions(self.target, space) if deleted_at != _AWAITED}
        return sorted(lost)


class Unwritten(StoreProxy):
    """A store to read from; what is written to it is answered and forgotten."""

    def put_many(self, puts: Sequence[Put]) -> list[PutStatus]:
        """As if nothing stood in the way."""
        return [PutStatus.CURRENT if put.record.is_current else PutStatus.HISTORY for put in puts]

    def touch_many(self, namespace: str, touches: Sequence[Touch]) -> None:
        """Nothing."""

    def write_state(self, namespace: str, name: str, value: str, expected_revision: int | None) -> bool:  # noqa: ARG002
        """As if nobody else had written it."""
        return True

    def append_log(self, namespace: str, name: str, entries: Sequence[str]) -> int:  # noqa: ARG002
        """As if it were the first."""
        return len(entries)

    def apply_tombstones(self, namespace: str, deletions: Sequence[Deletion], cleared_at: int | None = None) -> None:
        """Nothing."""


def _with_vectors(store: RecordStore, space: str, records: Sequence[Record]) -> list[Row]:
    ids = [record.id for record in records if record.is_current]  # history has none
    vectors = dict(zip(ids, store.get_vectors(space, ids), strict=True))
    return [Row(record, vectors.get(record.id)) for record in records]


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _digest(row: Row) -> int:
    text = repr((_substance(row.record), row.record.is_current, row.vector and astuple(row.vector)))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())


def _said(what: str, ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
    return f"{len(ids):,} {what}: {', '.join(map(repr, ids[:_NAMED]))}{more}"
