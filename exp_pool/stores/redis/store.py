"""``redis://host:6379/0``, ``rediss://`` (TLS), ``redis+cluster://host1:6379,host2:6379``: a pool in Redis >= 6.2.

All rows of a (namespace, key) lie in one hash, so in one slot; what is known about a namespace as a whole lies in
another. How the two stay one is told in `writes`.

What it does not promise: `Capabilities.durable` is False, because a server that appends to its file once a second, or
only saves snapshots, forgets the last writes when it is killed. With ``?durable=true`` opening checks that the server
has ``appendonly yes`` and ``appendfsync always``, where it may be asked, and what is acknowledged survives a kill. Even
then a failover loses what the replica had not got yet: replication is asynchronous, and nobody waits for it. Rows that
expired stay until they are evicted or cleared, because people look at them and `if_error` serves them; the engine's
own expiry is used for leases only. Eviction reads the namespace, then deletes; a row that was annotated in between
stays.
"""

from __future__ import annotations

import functools
import heapq
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import (
    Capabilities,
    Claim,
    Deletion,
    Evicted,
    EvictionOrder,
    IndexPartition,
    Lease,
    LogEntry,
    Names,
    Put,
    PutMode,
    PutStatus,
    RecordQuery,
    RequestRow,
    Settlement,
    State,
    Touch,
    Usage,
    VectorRow,
)
from exp_pool.core.record import Duty, Record, Vector
from exp_pool.runtime.clock import monotonic, now_us
from exp_pool.stores.listener import Listener
from exp_pool.stores.redis.changes import subscribed
from exp_pool.stores.redis.reads import Reading
from exp_pool.stores.redis.repair import Care
from exp_pool.stores.redis.scripts import APPEND, CLAIM, CUT_OFF, FORGET, RELEASE, RENEW, WRITE_STATE, run
from exp_pool.stores.redis.server import Location, Server, parse, translated
from exp_pool.stores.redis.units import HEAD, Keys, Unit, decoded, dump, encoded, id_of, unit_of, unpack
from exp_pool.stores.redis.writes import Job, Seen, Writing, pages, put_all
from exp_pool.stores.rules import matches, owes, settle, turn

_TIDY_EVERY_US = 3600 * 10**6  # what was remembered of deletions is looked through once an hour
_CLAIMS = 3  # a row that is no answer may give way to another one meanwhile
_HEAL_EVERY_S = 30.0  # and what was left behind twice a minute
_STUBS_US = 2 * 3600 * 10**6  # units are listed as empty for longer than they are kept as empty
_FORGOTTEN_AT_ONCE = 1000


class RedisStore:
    """A record store in Redis, shared by processes and hosts.

    Args:
        location: what the URL says.
        timeout_s: seconds that each command may take, and that others are waited for.
        compress_above: bytes above which a row is compressed; None: never.
    """

    def __init__(self, location: Location, timeout_s: float = 5.0, compress_above: int | None = 65536) -> None:
        self.capabilities = Capabilities(durable=location.durable, shared=True, leases=True)
        self.shown = location.shown
        self._keys = Keys(location.prefix)
        self._server = Server(location, timeout_s)
        self._writing = Writing(self._server, self._keys, compress_above)
        self._reading = Reading(self._server, self._keys, self._writing)
        self._care = Care(self._server, self._keys, self._writing, self._reading)
        self._tidied_us, self._healed_s = 0, 0.0

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig) -> RedisStore:
        """The store of ``redis://[user:password@]host[:port][/database][?prefix=&durable=&ssl_ca_certs=]``.

        Raises:
            ConfigurationError: the URL cannot be a pool's.
        """
        return cls(parse(location), config.store_timeout, config.compress_above)

    @translated
    def close(self) -> None:
        self._server.close()

    # Rows

    @translated
    def get_many(self, namespace: str, refs: Sequence[str], *, by: Literal["key", "id"] = "key") -> list[Record | None]:
        found: list[Record | None] = []
        for page in pages(refs):
            if by == "key":
                units = [self._keys.unit(self._keys.unit_name(namespace, key)) for key in page]
                stored = [unpack(raw) for raw in self._server.pipeline([("HGET", unit, "=") for unit in units])]
                found += [None if row is None else row.record for row in stored]
            else:
                by_id = self._by_id(namespace, page)
                found += [by_id.get(id_) for id_ in page]
        return found

    def _by_id(self, namespace: str, ids: Sequence[str]) -> dict[str, Record]:
        entries = self._reading.entries(namespace, ids)
        handles = [raw[:HEAD] + encoded(id_) for id_, raw in entries.items()]
        rows = zip(entries, self._reading.rows_of(handles), strict=True)
        return {id_: stored.record for id_, stored in rows if stored is not None}

    @translated
    def put_many(self, puts: Sequence[Put]) -> list[PutStatus]:
        return [status for some in _one_after_the_other(puts) for status in self._put(some)]

    def _put(self, puts: Sequence[Put]) -> list[PutStatus]:
        statuses = [PutStatus.CONFLICT] * len(puts)
        units = self._units_of_updates(puts)
        jobs: dict[bytes, Job] = {}
        mine: defaultdict[bytes, list[tuple[int, Put]]] = defaultdict(list)
        for place, put in enumerate(puts):
            row = put.record
            unit = units.get((row.namespace, row.id)) if put.mode is PutMode.UPDATE else None
            unit = unit or self._keys.unit_name(row.namespace, row.key)
            job = jobs.setdefault(
                unit, Job(row.namespace, unit, [], functools.partial(put_all, mine[unit], statuses), reserve=True)
            )
            mine[unit].append((place, put))
            if row.id not in job.places:
                job.ids.append(row.id)
                job.places[row.id] = place
            job.leased |= put.lease is not None
            job.replicated |= put.mode is PutMode.REPLICATE
        self._writing.run(list(jobs.values()))
        return statuses

    def _units_of_updates(self, puts: Sequence[Put]) -> dict[tuple[str, str], bytes]:
        """Where the rows are that are to be updated: their keys stay, whatever the new rows say."""
        ids: defaultdict[str, list[str]] = defaultdict(list)
        for put in puts:
            if put.mode is PutMode.UPDATE:
                ids[put.record.namespace].append(put.record.id)
        return {
            (namespace, id_): unit_of(entry)
            for namespace, some in ids.items()
            for id_, entry in self._reading.entries(namespace, some).items()
        }

    def _jobs(
        self,
        namespace: str,
        ids: Sequence[str],
        change: Callable[[Unit, str], None],
        *,
        listed: bool = True,
        buried: bool = False,
    ) -> list[Job]:
        """What changes these rows, one after the other."""
        by_unit: defaultdict[bytes, list[str]] = defaultdict(list)
        for id_, entry in self._reading.entries(namespace, ids).items():
            by_unit[unit_of(entry)].append(id_)
        return [
            Job(namespace, unit, some, functools.partial(_change_all, change, some), listed=listed, buried=buried)
            for unit, some in by_unit.items()
        ]

    @translated
    def delete_many(self, namespace: str, ids: Sequence[str]) -> list[str]:
        deleted = self._remove(namespace, ids, buried=True)
        return [id_ for id_ in dict.fromkeys(ids) if id_ in deleted]

    def _remove(
        self, namespace: str, ids: Sequence[str], *, buried: bool = False, protected: bool = True
    ) -> dict[str, Record]:
        """Delete rows, those that are protected only if told so; the rows that were there."""
        removed: dict[str, Record] = {}

        def remove(unit: Unit, id_: str) -> None:
            removed.pop(id_, None)
            known = unit.find(id_)
            if known is not None and (protected or not known.record.protected):
                unit.remove(id_)
                removed[id_] = known.record

        self._writing.run(self._jobs(namespace, ids, remove, buried=buried))
        return removed

    @translated
    def usage(self, namespace: str) -> Usage:
        listing = self._keys.listing(namespace)
        rows, size = self._reading.ask(namespace, ("ZCARD", listing.rows), ("HGET", listing.counters, "bytes"))
        return Usage(rows, int(size or 0))

    @translated
    def namespaces(self) -> list[str]:
        kept = self._reading.ask_each(
            self._reading.namespaces(),
            lambda at: [("EXISTS", at.rows, at.tombs, at.states, at.logs), ("HEXISTS", at.counters, "cutoff")],
        )
        return [namespace for namespace, something in kept.items() if namespace and any(something)]

    @translated
    def evict(self, namespace: str, order: EvictionOrder, count: int) -> list[Evicted]:
        now = now_us()
        everything = self._reading.matching(RecordQuery(namespace, history=True))
        rows = sorted((pair for pair in everything if not pair[1].protected), key=lambda pair: pair[0][:HEAD])
        rows.sort(key=lambda pair: turn(pair[1], order, now))
        chosen = [id_of(handle) for handle, _ in rows[:count]]
        removed = self._remove(namespace, chosen, protected=False)
        gone = [removed[id_] for id_ in chosen if id_ in removed]
        return [Evicted(row.id, row.function, row.key, row.size_bytes) for row in gone]

    @translated
    def clear(self, namespace: str) -> int:
        at = self._keys.listing(namespace)
        *_, marks, logs, _ = self._server.pipeline(
            [
                ("SADD", self._keys.namespaces, encoded(namespace)),
                run(CUT_OFF, [at.counters], now_us()),
                ("ZRANGE", at.marks, 0, -1),
                ("HKEYS", at.logs),
                ("PUBLISH", self._keys.changed, dump([namespace])),
            ]
        )
        self._writing.heal(namespace, marks)  # what was written but not listed goes, too
        self._server.pipeline([("DEL", key) for key in (at.logs, *(at.log(decoded(name)) for name in logs))])
        (handles,) = self._reading.ask(namespace, ("ZRANGE", at.rows, 0, -1))
        return len(self._remove(namespace, [id_of(handle) for handle in handles]))

    @translated
    def count(self, query: RecordQuery, *, limit: int | None = None) -> int:
        return self._reading.count(query, limit)

    def scan(
        self, query: RecordQuery, *, order_by: str = "created_at", descending: bool = False, limit: int | None = None
    ) -> Iterator[Record]:
        rows = self._reading.scan(query, order_by=order_by, descending=descending, limit=limit)
        while (row := self._scanned(rows)) is not None:
            yield row

    @translated
    def _scanned(self, rows: Iterator[Record]) -> Record | None:
        return next(rows, None)

    @translated
    def touch_many(self, namespace: str, touches: Sequence[Touch]) -> None:
        by_id: defaultdict[str, list[Touch]] = defaultdict(list)
        for touch in touches:
            by_id[touch.id].append(touch)

        def add(unit: Unit, id_: str) -> None:
            for touch in by_id[id_]:
                if (known := unit.find(id_)) is not None:
                    row, last = known.record, max(touch.last_access, known.record.last_access or 0)
                    unit.write(replace(row, access_count=row.access_count + touch.count, last_access=last))

        self._writing.run(self._jobs(namespace, list(by_id), add, listed=False))

    @translated
    def settle_many(self, settlements: Sequence[Settlement]) -> None:
        by_id: defaultdict[str, defaultdict[str, list[Settlement]]] = defaultdict(lambda: defaultdict(list))
        for settled in settlements:
            by_id[settled.namespace][settled.id].append(settled)

        def settle_all(mine: dict[str, list[Settlement]], unit: Unit, id_: str) -> None:
            for settled in mine[id_]:
                known = unit.find(id_)
                if known is not None and owes(known.record, settled):
                    unit.write(settle(known.record, settled))
                    if settled.vector is not None:
                        unit.set_vector(settled.vector)

        for namespace, mine in by_id.items():
            self._writing.run(self._jobs(namespace, list(mine), functools.partial(settle_all, mine)))

    @translated
    def owe(self, query: RecordQuery, duty: Duty) -> int:
        now, owing = now_us(), set()
        found: defaultdict[str, list[str]] = defaultdict(list)
        for _, row in self._reading.matching(query):
            if row.is_current:
                found[row.namespace].append(row.id)

        def owe_it(unit: Unit, id_: str) -> None:
            known = unit.find(id_)
            if known is not None and known.record.is_current and matches(known.record, query, now):
                changes: dict[str, object] = {f"{duty}_due": now, f"{duty}_tries": 0}
                unit.write(replace(known.record, **changes))  # type: ignore[arg-type]
                owing.add((known.record.namespace, id_))

        for namespace, ids in found.items():
            self._writing.run(self._jobs(namespace, ids, owe_it))
        return len(owing)

    # Vectors and requests

    @translated
    def get_vectors(self, namespace: str, ids: Sequence[str]) -> list[Vector | None]:
        entries = self._reading.entries(namespace, ids)
        found: dict[str, Vector] = {}
        for page in pages(list(entries)):
            stored = self._reading.vectors_at([entries[id_][:HEAD] + encoded(id_) for id_ in page])
            found |= {id_: one.vector for id_, one in zip(page, stored, strict=True) if one is not None}
        return [found.get(id_) for id_ in ids]

    @translated
    def vectors_after(self, namespace: str, embedder: str, position: int, limit: int) -> list[VectorRow]:
        return self._reading.vectors_after(namespace, embedder, position, limit)

    @translated
    def spaces(self, namespace: str | None = None) -> dict[IndexPartition, int]:
        return self._reading.spaces(namespace)

    @translated
    def requests_after(self, namespace: str, position: int, limit: int) -> list[RequestRow]:
        return self._reading.requests_after(namespace, position, limit)

    # Leases, states, logs

    def _unit_and_lease(self, namespace: str, key: str) -> list[bytes]:
        name = self._keys.unit_name(namespace, key)
        return [self._keys.unit(name), self._keys.lease(name)]

    @translated
    def claim(self, namespace: str, key: str, owner: str, ttl_s: float, passing: str | None = None) -> Claim:
        digits = f"{secrets.randbelow(1000):03d}"
        no_answer = b""
        for _ in range(_CLAIMS):
            values = (encoded(owner), int(ttl_s * 1e6), digits, no_answer)
            found = self._server.call(*run(CLAIM, self._unit_and_lease(namespace, key), *values))
            if not found:
                return Claim()
            if found[0] is None:
                return Claim(lease=Lease(namespace, key, owner, int(found[1]), int(found[2])))
            if (stored := unpack(found[0])) is not None and stored.record.id != passing:
                return Claim(record=stored.record)
            no_answer = found[0]  # it is damaged, or to be passed
        return Claim()

    @translated
    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        _, key = self._unit_and_lease(lease.namespace, lease.key)
        ends = self._server.call(*run(RENEW, [key], lease.token, int(ttl_s * 1e6)))
        return None if ends is None else replace(lease, expires_at=int(ends))

    @translated
    def release(self, lease: Lease) -> None:
        _, key = self._unit_and_lease(lease.namespace, lease.key)
        self._server.call(*run(RELEASE, [key], lease.token))

    @translated
    def read_state(self, namespace: str, name: str) -> State | None:
        raw = self._server.call("HGET", self._keys.listing(namespace).states, encoded(name))
        if raw is None:
            return None
        revision, _, value = raw.partition(b":")
        return State(decoded(value), int(revision))

    @translated
    def write_state(self, namespace: str, name: str, value: str, expected_revision: int | None) -> bool:
        expected = "" if expected_revision is None else expected_revision
        states = self._keys.listing(namespace).states
        writing = run(WRITE_STATE, [states], encoded(name), expected, encoded(value))
        # Not sent again where the reply is lost: it would find its own revision and say that it was not written.
        return bool(self._server.pipeline([self._naming(namespace), writing], again=False)[-1])

    def _naming(self, namespace: str) -> tuple[object, ...]:
        return ("SADD", self._keys.namespaces, encoded(namespace))

    @translated
    def append_log(self, namespace: str, name: str, entries: Sequence[str]) -> int:
        if not entries:
            return 0
        at = self._keys.listing(namespace)
        appending = run(APPEND, [at.counters, at.logs, at.log(name)], encoded(name), *map(encoded, entries))
        return int(self._server.pipeline([self._naming(namespace), appending], again=False)[-1])

    @translated
    def read_log(self, namespace: str, name: str, *, after: int = 0, limit: int = 1000) -> list[LogEntry]:
        log = self._keys.listing(namespace).log(name)
        found = self._server.call("XRANGE", log, f"({after}-0" if after > 0 else "-", "+", "COUNT", limit)
        return [LogEntry(int(at.partition(b"-")[0]), decoded(entry[b"e"])) for at, entry in found]

    @translated
    def drop_logs(self, namespace: str, names: Sequence[str]) -> None:
        at = self._keys.listing(namespace)
        if names:
            dropping = [("DEL", at.log(name)) for name in names]
            self._server.pipeline([*dropping, ("HDEL", at.logs, *map(encoded, names))])

    @translated
    def names(self, namespace: str) -> Names:
        at = self._keys.listing(namespace)
        found = self._server.pipeline([("HKEYS", at.states), ("HKEYS", at.logs)])
        return Names(*(sorted(map(decoded, names)) for names in found))

    # Deletions

    @translated
    def deletions(self, namespace: str, *, after: str = "", limit: int = 1000) -> list[Deletion]:
        tombs = self._keys.listing(namespace).tombs
        (flat,) = self._reading.ask(namespace, ("ZRANGE", tombs, 0, -1, "WITHSCORES"))
        found = ((decoded(id_), int(at)) for id_, at in zip(flat[::2], flat[1::2], strict=True))
        return [Deletion(*pair) for pair in heapq.nsmallest(limit, (pair for pair in found if pair[0] > after))]

    @translated
    def cutoff(self, namespace: str) -> int | None:
        raw = self._server.call("HGET", self._keys.listing(namespace).counters, "cutoff")
        return None if raw is None else int(raw)

    @translated
    def bury(self, namespace: str, deletions: Sequence[Deletion], cutoff: int | None = None) -> None:
        at = self._keys.listing(namespace)
        for page in pages(deletions):  # remembered first: whoever dies here does it again, and nothing comes back
            pairs = [part for deletion in page for part in (deletion.deleted_at, encoded(deletion.id))]
            self._server.pipeline([self._naming(namespace), ("ZADD", at.tombs, *pairs)])
        self._remove(namespace, [deletion.id for deletion in deletions])
        if cutoff is not None:
            self._server.pipeline([self._naming(namespace), run(CUT_OFF, [at.counters], cutoff)])

    # Upkeep

    @translated
    def tidy(self, forget_before: int) -> None:
        forgetting = forget_before - self._tidied_us >= _TIDY_EVERY_US
        healing = monotonic() - self._healed_s >= _HEAL_EVERY_S
        if not (forgetting or healing):
            return
        spaces = self._reading.namespaces()
        self._reading.ask_each(spaces, lambda _: ())  # what was left behind is listed
        self._healed_s = monotonic()
        if forgetting:
            for space in spaces:
                at = self._keys.listing(space)
                keys = [at.vectors, at.gone, at.tombs, at.units, at.empty]
                while self._server.call(*run(FORGET, keys, forget_before, now_us() - _STUBS_US, _FORGOTTEN_AT_ONCE)):
                    pass
            self._tidied_us = forget_before

    @translated
    def vacuum(self) -> None:
        self._care.vacuum()

    @translated
    def check(self) -> list[str]:
        return [f"{self.shown}: {what}" for what in self._care.check()]

    @translated
    def repair(self) -> list[str]:
        return [f"{self.shown}: {what}" for what in self._care.repair()]

    def changes(
        self, heard: Callable[[str, Sequence[str] | None], object], listening: Callable[[bool], object]
    ) -> Callable[[], None]:
        """See `protocols.AnnouncingStore`; by PUBLISH, within the script that writes, and SUBSCRIBE."""
        return Listener(functools.partial(subscribed, self._server, self._keys.changed), heard, listening).stop


def _one_after_the_other(puts: Sequence[Put]) -> Iterator[list[Put]]:
    """The batch in pieces, each with an id under one key: of two keys in one piece nobody knows which comes first."""
    piece: list[Put] = []
    keys: dict[tuple[str, str], str] = {}
    for put in puts:
        row = put.record
        if keys.setdefault((row.namespace, row.id), row.key) != row.key:
            yield piece
            piece, keys = [], {(row.namespace, row.id): row.key}
        piece.append(put)
    yield piece


def _change_all(change: Callable[[Unit, str], None], ids: list[str], unit: Unit, _: Seen) -> None:
    for id_ in ids:
        change(unit, id_)
