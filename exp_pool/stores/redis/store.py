"""``redis://host:6379/0``, ``rediss://`` (TLS), ``redis+cluster://host1:6379,host2:6379``: a pool in Redis >= 6.2.

All rows of a (namespace, key) lie in one hash, so in one slot (`key_group`); what is known about a namespace as a whole
lies in another (`keys.Listing`). `writes` says how the two stay one.

What it does not promise: `Capabilities.durable` is False, because a server that appends to its file once a second, or
only saves snapshots, forgets the last writes when it is killed. With ``?durable=true`` opening checks that the server
has ``appendonly yes`` and ``appendfsync always``, where it may be asked, and what is acknowledged survives a kill. Even
then a failover loses what the replica had not got yet: replication is asynchronous, and no client waits for it. Rows
that expired stay until they are evicted or cleared, because people look at them and `if_error` serves them; the
engine's own expiry is used for leases only. Eviction reads the namespace, then deletes; a row that was annotated in
between stays.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import (
    Capabilities,
    Completion,
    Deletion,
    Evicted,
    EvictionOrder,
    Put,
    PutMode,
    PutStatus,
    RecordQuery,
    Touch,
)
from exp_pool.core.record import Record, TaskKind
from exp_pool.runtime.clock import monotonic, now_us
from exp_pool.stores.listener import Listener
from exp_pool.stores.redis.failures import translated
from exp_pool.stores.redis.key_group import KeyGroup
from exp_pool.stores.redis.keys import HEAD, group_of, id_of
from exp_pool.stores.redis.listing import Intent, pages
from exp_pool.stores.redis.location import Location, parse
from exp_pool.stores.redis.packed import decoded, dump, encoded
from exp_pool.stores.redis.reads import RedisReads
from exp_pool.stores.redis.repair import RepairTool
from exp_pool.stores.redis.scripts import CUT_OFF, FORGET, run
from exp_pool.stores.redis.writes import Announced, GroupChange, Writer, put_all
from exp_pool.stores.rules import complete, eviction_sort_key, is_pending, matches

_TIDY_EVERY_US = 3600 * 10**6  # deletions are looked through for what can be forgotten once an hour
_RECOVER_EVERY_S = 30.0  # and what clients left behind twice a minute
_EMPTY_US = 2 * 3600 * 10**6  # key groups are listed as empty for longer than they are kept as empty
_FORGOTTEN_AT_ONCE = 1000


@translated
class RedisStore(RedisReads):
    """A record store in Redis, shared by processes and hosts.

    Args:
        location: what the URL says.
        timeout_s: seconds that each command may take, and that other clients are waited for.
        compress_above: bytes above which a row is compressed; None: never.
    """

    def __init__(self, location: Location, timeout_s: float = 5.0, compress_above: int | None = 65536) -> None:
        super().__init__(location, timeout_s)
        self.capabilities = Capabilities(durable=location.durable, shared=True, leases=True)
        self._writer = Writer(self._server, self._keys, self._listings, compress_above)
        self._repair_tool = RepairTool(self._server, self._keys, self._listings)
        self._tidied_us, self._recovered_s = 0, 0.0

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig) -> RedisStore:
        """The store of ``redis://[user:password@]host[:port][/database][?prefix=&durable=&ssl_ca_certs=]``.

        Raises:
            ConfigurationError: the URL cannot be a pool's.
        """
        return cls(parse(location), config.store_timeout, config.compress_above)

    # Rows

    def put_many(self, puts: Sequence[Put]) -> list[PutStatus]:
        return [status for some in _one_after_the_other(puts) for status in self._put(some)]

    def _put(self, puts: Sequence[Put]) -> list[PutStatus]:
        statuses = [PutStatus.CONFLICT] * len(puts)
        groups = self._groups_of_updates(puts)
        changes: dict[bytes, GroupChange] = {}
        mine: defaultdict[bytes, list[tuple[int, Put]]] = defaultdict(list)
        for place, put in enumerate(puts):
            row = put.record
            group = groups.get((row.namespace, row.id)) if put.mode is PutMode.UPDATE else None
            group = group or self._keys.group_name(row.namespace, row.key)
            decide = functools.partial(put_all, mine[group], statuses)
            change = changes.setdefault(group, GroupChange(row.namespace, group, decide))
            mine[group].append((place, put))
            change.places.setdefault(row.id, place)
            change.leased |= put.lease is not None
        self._writer.run(list(changes.values()))
        return statuses

    def _groups_of_updates(self, puts: Sequence[Put]) -> dict[tuple[str, str], bytes]:
        """Where the rows are that are to be updated: their keys stay, whatever the new rows say."""
        ids: defaultdict[str, list[str]] = defaultdict(list)
        for put in puts:
            if put.mode is PutMode.UPDATE:
                ids[put.record.namespace].append(put.record.id)
        return {
            (namespace, id_): group_of(handle)
            for namespace, some in ids.items()
            for id_, handle in self._listings.handles_of(namespace, some).items()
        }

    def _change(
        self,
        namespace: str,
        ids: Iterable[str],
        change: Callable[[KeyGroup, str], None],
        *,
        listed: bool = True,
        tombstones: bool = False,
    ) -> None:
        """Change rows that are there, one after the other in each key group; see `GroupChange`."""

        def decide(group: KeyGroup, _: Announced, mine: Iterable[str]) -> None:
            for id_ in mine:
                change(group, id_)

        by_group: defaultdict[bytes, dict[str, int]] = defaultdict(dict)
        for id_, handle in self._listings.handles_of(namespace, ids).items():
            by_group[group_of(handle)][id_] = -1
        self._writer.run([
            GroupChange(namespace, group, functools.partial(decide, mine=mine), mine, listed, tombstones)
            for group, mine in by_group.items()
        ])  # fmt: skip

    def delete_many(self, namespace: str, ids: Sequence[str]) -> list[str]:
        deleted = self._remove(namespace, ids, tombstones=True)
        return [id_ for id_ in dict.fromkeys(ids) if id_ in deleted]

    def _remove(
        self, namespace: str, ids: Sequence[str], *, tombstones: bool = False, protected: bool = True
    ) -> dict[str, Record]:
        """Delete rows, those that are protected only if told so; the rows that were there."""
        removed: dict[str, Record] = {}

        def remove(group: KeyGroup, id_: str) -> None:
            removed.pop(id_, None)
            known = group.find(id_)
            if known is not None and (protected or not known.record.protected):
                group.remove(id_)
                removed[id_] = known.record

        self._change(namespace, ids, remove, tombstones=tombstones)
        return removed

    def evict(self, namespace: str, order: EvictionOrder, count: int) -> list[Evicted]:
        now = now_us()
        everything = self._matching(RecordQuery(namespace, history=True))
        rows = sorted((pair for pair in everything if not pair[1].protected), key=lambda pair: pair[0][:HEAD])
        rows.sort(key=lambda pair: eviction_sort_key(pair[1], order, now))
        chosen = [id_of(handle) for handle, _ in rows[:count]]
        removed = self._remove(namespace, chosen, protected=False)
        gone = [removed[id_] for id_ in chosen if id_ in removed]
        return [Evicted(row.id, row.function, row.key, row.size_bytes) for row in gone]

    def clear(self, namespace: str) -> int:
        at = self._keys.listing(namespace)
        *_, intents, logs, _ = self._server.pipeline(
            [
                ("SADD", self._keys.namespaces, encoded(namespace)),
                run(CUT_OFF, [at.counters], now_us()),
                ("ZRANGE", at.marks, 0, -1),
                ("HKEYS", at.logs),
                ("PUBLISH", self._keys.changed, dump([namespace])),
            ]
        )
        self._listings.recover(namespace, map(Intent.read, intents))  # what was written but not listed goes, too
        self._server.pipeline([("DEL", key) for key in (at.logs, *(at.log(decoded(name)) for name in logs))])
        (handles,) = self._listings.ask(namespace, ("ZRANGE", at.rows, 0, -1))
        return len(self._remove(namespace, [id_of(handle) for handle in handles]))

    def touch_many(self, namespace: str, touches: Sequence[Touch]) -> None:
        by_id: defaultdict[str, list[Touch]] = defaultdict(list)
        for touch in touches:
            by_id[touch.id].append(touch)

        def add(group: KeyGroup, id_: str) -> None:
            for touch in by_id[id_]:
                if (known := group.find(id_)) is not None:
                    row, last = known.record, max(touch.last_access, known.record.last_access or 0)
                    group.write(replace(row, access_count=row.access_count + touch.count, last_access=last))

        self._change(namespace, by_id, add, listed=False)

    def complete_many(self, completions: Sequence[Completion]) -> None:
        by_id: defaultdict[str, defaultdict[str, list[Completion]]] = defaultdict(lambda: defaultdict(list))
        for completion in completions:
            by_id[completion.namespace][completion.id].append(completion)

        def complete_all(mine: dict[str, list[Completion]], group: KeyGroup, id_: str) -> None:
            for completion in mine[id_]:
                known = group.find(id_)
                if known is not None and is_pending(known.record, completion):
                    group.write(complete(known.record, completion))
                    if completion.vector is not None:
                        group.set_vector(completion.vector)

        for namespace, mine in by_id.items():
            self._change(namespace, mine, functools.partial(complete_all, mine))

    def enqueue(self, query: RecordQuery, task: TaskKind) -> int:
        now, enqueued = now_us(), set()
        found: defaultdict[str, list[str]] = defaultdict(list)
        for _, row in self._matching(query):
            if row.is_current:
                found[row.namespace].append(row.id)

        def enqueue_one(group: KeyGroup, id_: str) -> None:
            known = group.find(id_)
            if known is not None and known.record.is_current and matches(known.record, query, now):
                changes: dict[str, object] = {f"{task}_due": now, f"{task}_tries": 0}
                group.write(replace(known.record, **changes))  # type: ignore[arg-type]
                enqueued.add((known.record.namespace, id_))

        for namespace, ids in found.items():
            self._change(namespace, ids, enqueue_one)
        return len(enqueued)

    # Deletions

    def apply_tombstones(self, namespace: str, deletions: Sequence[Deletion], cleared_at: int | None = None) -> None:
        at = self._keys.listing(namespace)
        for page in pages(deletions):  # remembered first: whoever dies here does it again, and nothing comes back
            pairs = [part for deletion in page for part in (deletion.deleted_at, encoded(deletion.id))]
            self._server.pipeline([self._naming(namespace), ("ZADD", at.tombs, *pairs)])
        self._remove(namespace, [deletion.id for deletion in deletions])
        if cleared_at is not None:
            self._server.pipeline([self._naming(namespace), run(CUT_OFF, [at.counters], cleared_at)])

    # Maintenance

    def tidy(self, forget_before: int) -> None:
        forgetting = forget_before - self._tidied_us >= _TIDY_EVERY_US
        recovering = monotonic() - self._recovered_s >= _RECOVER_EVERY_S
        if not (forgetting or recovering):
            return
        namespaces = self._listings.namespaces()
        self._listings.ask_each(namespaces, lambda _: ())  # recovers what clients left behind
        self._recovered_s = monotonic()
        if forgetting:
            for namespace in namespaces:
                at = self._keys.listing(namespace)
                keys = [at.vectors, at.gone, at.tombs, at.units, at.empty]
                while self._server.call(*run(FORGET, keys, forget_before, now_us() - _EMPTY_US, _FORGOTTEN_AT_ONCE)):
                    pass
            self._tidied_us = forget_before

    def vacuum(self) -> None:
        self._repair_tool.vacuum()

    def check(self) -> list[str]:
        return [f"{self.shown}: {what}" for what in self._repair_tool.check()]

    def repair(self) -> list[str]:
        return [f"{self.shown}: {what}" for what in self._repair_tool.repair()]

    def changes(
        self, heard: Callable[[str, Sequence[str] | None], object], listening: Callable[[bool], object]
    ) -> Callable[[], None]:
        """See `protocols.AnnouncingStore`; by PUBLISH, within the script that writes, and SUBSCRIBE."""
        return Listener(functools.partial(self._server.subscribed, self._keys.changed), heard, listening).stop


def _one_after_the_other(puts: Sequence[Put]) -> Iterator[list[Put]]:
    """The batch in pieces, each with an id under one key: of two keys in one piece either may come first."""
    piece: list[Put] = []
    keys: dict[tuple[str, str], str] = {}
    for put in puts:
        row = put.record
        if keys.setdefault((row.namespace, row.id), row.key) != row.key:
            yield piece
            piece, keys = [], {(row.namespace, row.id): row.key}
        piece.append(put)
    yield piece
