"""Every change of rows in Redis: announced, done, listed.

A row and the listing of its namespace lie in different slots, so no step changes both. Three steps, each of one round
trip for a whole batch:

1. *Announce*: a mark in the namespace's slot names the unit and the ids that come or go; the units are read.
2. *Swap*: what the rules make of each unit is written if its version is still the one that was read, else from the
   start. The server refuses it, too, when the mark is older than `_LATE_US` by its clock.
3. *List*: what is new about the rows goes into the listing, in one step for the namespace, and the mark goes away.
   Places and positions are given out here, so they are visible in order. Only now is anything acknowledged.

Whoever dies between two steps leaves a mark. Before step 2 nothing has happened; after it, the rows are there but not
listed. When a mark is older than `_OLD_US`, nobody can be about to write any more, and whoever reads the listing next,
or `tidy`, lists its unit as it is, under new positions that no reader has passed. A listing never runs ahead of the
rows, and it never goes back: it knows the version of each unit that it shows, takes only the very next one piece by
piece, and wants to be told everything otherwise.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from exp_pool.core.contracts.plugs import Put, PutMode, PutStatus
from exp_pool.errors import StoreError
from exp_pool.runtime.clock import monotonic, now_us
from exp_pool.stores.redis.scripts import LIST, MARK, SWAP, run
from exp_pool.stores.redis.server import Server
from exp_pool.stores.redis.units import LISTED, Keys, Unit, dump, encoded, load, reserved_at, unit_of
from exp_pool.stores.rules import decide, updated

T = TypeVar("T")

PAGE = 500  # units changed, or rows read, in one round trip
# A swap comes at most so long after its mark, and a mark is taken for left behind after twice that: what lies between
# is how far the clocks of two masters may be apart.
_LATE_US, _OLD_US = 30 * 10**6, 60 * 10**6
_HEALED_AT_ONCE = 100


@dataclass
class Seen:
    """What the namespace says about ids that are to be written."""

    taken: set[tuple[bytes, str]] = field(default_factory=set)  # unit and id: rows of other keys have it
    moved: defaultdict[bytes, list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )  # ids listed there, and gone
    deleted: set[str] = field(default_factory=set)
    cutoff: int = -1


@dataclass
class Job:
    """A change of one unit.

    Args:
        namespace: of its rows.
        unit: its name.
        ids: the rows that come, go, or are looked at.
        decide: makes the changes, on what was read; again, if somebody was faster.
        listed: whether the listing has to know: not of a touch.
        reserve: whether the ids are to be reserved for this unit.
        buried: whether it is to be remembered that rows were deleted.
        replicated: whether `Seen.deleted` and `Seen.cutoff` matter.
        leased: whether somebody's lease is to be given back with the write.
    """

    namespace: str
    unit: bytes
    ids: list[str]
    decide: Callable[[Unit, Seen], None]
    listed: bool = True
    reserve: bool = False
    buried: bool = False
    replicated: bool = False
    leased: bool = False
    places: dict[str, int] = field(default_factory=dict)  # ids in the order of the caller's batch
    operation: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def mark(self) -> bytes:
        """What announces it: all that is needed to finish or to forget it."""
        parts = [self.operation, "d" if self.buried else "", self.unit.decode(), self.ids]
        return dump(parts) if self.listed else b""


class Writing:
    """Does jobs."""

    def __init__(self, server: Server, keys: Keys, compress_above: int | None) -> None:
        self._server = server
        self._keys = keys
        self._compress_above = compress_above

    def run(self, jobs: Sequence[Job]) -> None:
        """Do them all, batch by batch.

        Raises:
            StoreError: others kept changing the same rows for longer than the time-out.
        """
        for page in pages(jobs):
            deadline = monotonic() + self._server.timeout_s
            left = page
            while left := self._round(left):
                if monotonic() > deadline:
                    raise StoreError(
                        f"{self._server.location.shown}: {len(left)} keys are changed by others all the time, for "
                        "longer than store_timeout; try again"
                    )

    def _round(self, jobs: list[Job]) -> list[Job]:
        """Announce, swap, list; the jobs in whose way others were."""
        units, late = self._announce(jobs)
        changed = [(job, unit) for job, unit in zip(jobs, units, strict=True) if unit.told]
        outcomes = self._server.pipeline([self._swap(job, unit, late) for job, unit in changed]) if changed else []
        outcome_of = {id(job): outcome for (job, _), outcome in zip(changed, outcomes, strict=True)}
        again, done = [], []
        for job, unit in zip(jobs, units, strict=True):
            outcome = outcome_of.get(id(job), [b"done", unit.version, ""])
            if outcome[0] in (b"changed", b"stale", b"late"):
                again.append(job)
            elif job.listed or unit.told:
                done.append((job, unit, outcome))
        self._list(done)
        return again

    def _announce(self, jobs: list[Job]) -> tuple[list[Unit], int]:
        """The units as they are, each changed as its job decides, and until when the swaps may be made."""
        by_namespace: defaultdict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            by_namespace[job.namespace].append(job)
        commands: list[tuple[object, ...]] = []
        for namespace, mine in by_namespace.items():
            commands += self._announcements(namespace, mine)
        reading = len(commands)
        for job in jobs:
            commands.append(("HMGET", self._keys.unit(job.unit), *Unit.fields(job.ids)))
            if job.leased:
                commands.append(("HGET", self._keys.lease(job.unit), "t"))
        replies = self._server.pipeline(commands)
        seen, late = self._understand(by_namespace, iter(replies[:reading]))
        caught_up = [self._catch_up(namespace, known.moved) for namespace, known in seen.items()]  # each of them
        if any(caught_up):
            return self._announce(jobs)
        units, values = [], iter(replies[reading:])
        for job in jobs:
            read = next(values)
            unit = Unit(job.unit, job.ids, read, next(values) if job.leased else None)
            job.decide(unit, seen[job.namespace])
            units.append(unit)
        return units, late

    def _announcements(self, namespace: str, jobs: list[Job]) -> Iterator[tuple[object, ...]]:
        listing = self._keys.listing(namespace)
        marked = [job for job in jobs if job.listed]
        yield ("SADD", self._keys.namespaces, encoded(namespace))
        values: list[object] = []
        for job in marked:
            ids = [encoded(id_) for id_ in job.ids] if job.reserve else []
            values += [job.unit, job.mark, len(ids), *ids]
        yield run(MARK, [listing.marks, listing.ids], *values)
        replicated = [encoded(id_) for job in jobs if job.replicated for id_ in job.ids]
        if replicated:
            yield ("HGET", listing.counters, "cutoff")
            yield ("ZMSCORE", listing.tombs, *replicated)

    def _understand(self, by_namespace: dict[str, list[Job]], replies: Iterator[Any]) -> tuple[dict[str, Seen], int]:
        seen: dict[str, Seen] = {}
        late = 2**53
        for namespace, jobs in by_namespace.items():
            next(replies)
            at, taken = next(replies)
            late = min(late, int(at) + _LATE_US)
            seen[namespace] = self._taken(jobs, dict(zip(taken[::2], taken[1::2], strict=True)), int(at))
            replicated = [id_ for job in jobs if job.replicated for id_ in job.ids]
            if replicated:
                cutoff = next(replies)
                scores = next(replies)
                seen[namespace].cutoff = -1 if cutoff is None else int(cutoff)
                seen[namespace].deleted = {
                    id_ for id_, score in zip(replicated, scores, strict=True) if score is not None
                }
        return seen, late

    def _taken(self, jobs: list[Job], entries: dict[bytes, bytes], at: int) -> Seen:
        """Which of the ids that could not be reserved rows of other keys really have, or are about to have."""
        suspects = [
            (job.unit, id_, entry)
            for job in jobs
            if job.reserve
            for id_ in job.ids
            if (entry := entries.get(encoded(id_))) is not None and unit_of(entry) != job.unit
        ]
        seen = Seen()
        if not suspects:
            return seen
        found = self._server.pipeline(
            [("HMGET", self._keys.unit(unit_of(entry)), *Unit.fields([id_])) for _, id_, entry in suspects]
        )
        for (unit, id_, entry), values in zip(suspects, found, strict=True):
            since = reserved_at(entry)
            if Unit(unit_of(entry), [id_], values, None).find(id_) is not None or (
                since is not None and at - since < _OLD_US
            ):
                seen.taken.add((unit, id_))
            else:
                seen.moved[unit_of(entry)].append(id_)
        return seen

    def _catch_up(self, namespace: str, moved: dict[bytes, list[str]]) -> bool:
        """List what others deleted and have not listed yet: the id would be listed twice; whether there was any."""
        for unit, ids in moved.items():
            self.relist(namespace, [unit], ids)
        return bool(moved)

    def _swap(self, job: Job, unit: Unit, late: int) -> tuple[object, ...]:
        setting, deleting = unit.changes(self._compress_above)
        channel, message = b"", b""
        if unit.answers_otherwise:
            channel, message = self._keys.changed, dump([job.namespace, unit.key])
        values = (unit.version, job.operation, late, unit.spent, channel, message, len(setting) // 2)
        keys = [self._keys.unit(unit.name), self._keys.lease(unit.name)]
        return run(SWAP, keys, *values, *setting, *deleting)

    def _list(self, done: list[tuple[Job, Unit, list[Any]]]) -> None:
        """Tell the listings what became of the units; those that missed something are told everything."""
        by_namespace: defaultdict[str, list[tuple[Job, Unit, list[Any]]]] = defaultdict(list)
        for job, unit, outcome in done:
            by_namespace[job.namespace].append((job, unit, outcome))
        commands = []
        for namespace, mine in by_namespace.items():
            heads: list[object] = []
            rows: list[tuple[int, tuple[object, ...]]] = []
            for job, unit, (how, version, left) in mine:
                # Done before, its reply being lost: what else has happened to it meanwhile is not known.
                before = unit.version if how == b"done" else b"-1"
                gone = [(id_, unit.gone.get(id_, b"")) for id_ in job.ids if unit.find(id_) is None]
                heads += _head(unit.name, before, version, job.mark, job.buried, left, gone)
                rows += [(job.places.get(id_, -1), unit.entry(id_)) for id_, now in unit.told.items() if now]
            rows.sort(key=lambda row: row[0])
            commands.append(
                run(LIST, self._listed(namespace), 0, len(mine), *heads, *(value for _, row in rows for value in row))
            )
        for (namespace, mine), missed in zip(by_namespace.items(), self._server.pipeline(commands), strict=True):
            if missed:
                wanted = set(missed)
                self._tell(namespace, [(j.unit, j.mark, j.buried, u.gone) for j, u, _ in mine if j.unit in wanted], 0)

    def _listed(self, namespace: str) -> list[bytes]:
        return list(self._keys.listing(namespace)[:LISTED])

    def _tell(self, namespace: str, told: list[tuple[bytes, bytes, bool, dict[str, bytes]]], age: int) -> None:
        """List units as they are: name, mark, whether deletions are remembered, and the stamps of what is gone."""
        deadline = monotonic() + self._server.timeout_s
        while told:
            read = self._server.pipeline([("HGETALL", self._keys.unit(name)) for name, *_ in told])
            heads: list[object] = []
            rows: list[object] = []
            for (name, mark, buried, stamps), fields in zip(told, read, strict=True):
                unit = Unit.whole(name, fields)
                gone = [(id_, stamp) for id_, stamp in stamps.items() if unit.find(id_) is None]
                left = len([f for f in fields if f not in (b"v", b"o")])
                heads += _head(name, b"", unit.version, mark, buried, left, gone)
                rows += [value for stored in unit.rows() for value in unit.entry(stored.record.id)]
            missed = set(self._server.call(*run(LIST, self._listed(namespace), age, len(told), *heads, *rows)))
            told = [what for what in told if what[0] in missed]
            if told and monotonic() > deadline:
                raise StoreError(f"{self._server.location.shown}: keys are changed by others all the time; try again")

    def left_behind(self, namespace: str) -> tuple[object, ...]:
        """The command that asks for marks that somebody left behind."""
        old = f"({now_us() - _OLD_US}"
        return ("ZRANGEBYSCORE", self._keys.listing(namespace).marks, "-inf", old, "LIMIT", 0, _HEALED_AT_ONCE)

    def heal(self, namespace: str, marks: Iterable[bytes]) -> None:
        """List the units that these marks name, as they are. Marks of writers who may still come stay."""
        for page in pages(list(marks)):
            told = []
            for mark in page:
                _, buried, unit, ids = load(mark)
                told.append((unit.encode(), mark, bool(buried), dict.fromkeys(ids, b"*")))
            self._tell(namespace, told, _OLD_US)

    def relist(self, namespace: str, units: Iterable[bytes], gone: Iterable[str] = ()) -> None:
        """List units as they are; of ids that are gone, whatever is listed goes."""
        stamps = dict.fromkeys(gone, b"*")
        for page in pages(list(units)):
            self._tell(namespace, [(unit, b"", False, stamps) for unit in page], 0)


def _head(
    name: bytes, before: bytes, version: bytes, mark: bytes, buried: bool, left: object, gone: list[tuple[str, bytes]]
) -> list[object]:
    pairs = [part for id_, stamp in gone for part in (encoded(id_), stamp)]
    return [name, before, version, mark, "d" if buried else "", left, len(gone), *pairs]


def pages(items: Sequence[T]) -> Iterator[list[T]]:
    """So many at a time as go into one round trip."""
    for start in range(0, len(items), PAGE):
        yield list(items[start : start + PAGE])


def put_all(mine: list[tuple[int, Put]], statuses: list[PutStatus], unit: Unit, seen: Seen) -> None:
    """Decide what becomes of the puts of one unit, in order; their statuses go to their places."""
    for place, put in mine:
        statuses[place] = (_update if put.mode is PutMode.UPDATE else _insert)(unit, put, seen)


def _update(unit: Unit, put: Put, _: Seen) -> PutStatus:
    known = unit.find(put.record.id)
    if known is None or known.record.revision != put.expected_revision:
        return PutStatus.CONFLICT
    unit.write(updated(known.record, put.record))
    return PutStatus.CURRENT if known.record.is_current else PutStatus.HISTORY


def _insert(unit: Unit, put: Put, seen: Seen) -> PutStatus:
    new = put.record
    if put.lease is not None and unit.token != b"%d" % put.lease.token:
        return PutStatus.STALE
    if put.mode is PutMode.REPLICATE and (new.id in seen.deleted or new.created_at <= seen.cutoff):
        return PutStatus.DELETED
    if (unit.name, new.id) in seen.taken or unit.find(new.id) is not None:
        return PutStatus.CONFLICT
    if unit.token is not None and put.lease is not None:
        unit.spent, unit.token = unit.token, None
    current = None if unit.current is None else unit.current.record
    decision = decide(put, None if current is None else current.id, annotated=current is not None and current.annotated)
    if decision.supersedes is not None:
        unit.supersede(new.id)
    unit.write(decision.record)
    seen.deleted.discard(new.id)
    if put.vector is not None and decision.status is PutStatus.CURRENT:
        unit.set_vector(put.vector)
    return decision.status
