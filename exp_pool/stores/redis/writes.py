"""Every change of rows in Redis: announced, done, listed.

A row and the listing of its namespace lie in different slots, so no step changes both. Three steps, each of one round
trip for a whole batch:

1. *Announce*: an intent in the namespace's slot names the key group and the ids that come or go; the groups are read.
2. *Swap*: what the rules make of each group is written if its version is still the one that was read, else from the
   start. The server refuses it, too, when the intent is older than `LATE_US` by its clock.
3. *List*: what changed goes into the listing, in one step for the namespace, and the intent goes away. Places and
   positions are given out here, so they are visible in order. Only now is anything acknowledged.

A client that dies between two steps leaves its intent. Before step 2 nothing has happened; after it, the rows are there
but not listed. When an intent is older than `LEFT_BEHIND_US`, its client cannot be about to write any more, and the
next reader of the listing, `tidy` or the doctor recovers it (`Listings.recover`): its group is listed as it is, under
new positions that no reader has passed.

The intent cannot stand with the row alone: a reader would have to look through all slots to find it.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from exp_pool.core.contracts.plugs import Put, PutMode, PutStatus
from exp_pool.stores.redis.key_group import KeyGroup
from exp_pool.stores.redis.keys import Keys
from exp_pool.stores.redis.listing import ANY_STAMP, LATE_US, Intent, ListedChange, Listings, pages
from exp_pool.stores.redis.packed import decoded, dump, encoded
from exp_pool.stores.redis.scripts import ANNOUNCE, SWAP, run
from exp_pool.stores.redis.server import Command, Server
from exp_pool.stores.rules import decide, updated


class Announced(NamedTuple):
    """What the slot of a namespace says about ids that are to be written."""

    at: int  # microseconds, of the server
    cutoff: int  # rows created then or before were deleted; -1: none were
    taken: set[str]  # ids that rows of other keys have
    deleted: set[str]  # ids that have a tombstone


@dataclass
class GroupChange:
    """A change of one key group."""

    namespace: str
    group: bytes  # its name
    decide: Callable[[KeyGroup, Announced], None]  # changes what was read; again, if another client was faster
    places: dict[str, int] = field(default_factory=dict)  # ids of the rows looked at -> places in the caller's batch
    listed: bool = True  # whether the listing has to know: not of a touch
    tombstones: bool = False  # whether rows that go leave tombstones
    leased: bool = False  # whether a lease is given back with the write
    operation: str = field(default_factory=lambda: secrets.token_hex(8))

    @cached_property
    def intent(self) -> Intent:
        """What announces the change; the same, however often it is tried."""
        ids = list(self.places)
        announced = dump([self.operation, "d" if self.tombstones else "", self.group.decode(), ids])
        gone = dict.fromkeys(ids, ANY_STAMP)
        return Intent(self.group, gone, self.tombstones, announced if self.listed else b"")

    def listed_change(self, group: KeyGroup, before: bytes, version: bytes, left: object) -> ListedChange:
        """What the listing is told.

        Args:
            group: as the change left it.
            before: the version that was read.
            version: the version that was written.
            left: how many rows it has now; "" where that is not known.
        """
        gone = {id_: group.removed.get(id_, b"") for id_ in self.places if group.find(id_) is None}
        rows = [(self.places.get(id_, -1), group.listed_as(stored)) for id_, stored in group.changed.items() if stored]
        return ListedChange(self.intent._replace(gone=gone), before, version, left, rows)


class Writer:
    """Performs changes of key groups."""

    def __init__(self, server: Server, keys: Keys, listings: Listings, compress_above: int | None) -> None:
        self._server = server
        self._keys = keys
        self._listings = listings
        self._compress_above = compress_above

    def run(self, changes: Sequence[GroupChange]) -> None:
        """Perform them all, batch by batch.

        Raises:
            StoreError: other clients kept changing the same rows for longer than the time-out.
        """
        for page in pages(changes):
            self._server.until_done(self._attempt, page)

    def _attempt(self, changes: list[GroupChange]) -> list[GroupChange]:
        """Announce, swap, list; the changes that other clients were in the way of."""
        announced, groups = self._announce(changes)
        taken = [namespace for namespace, found in announced.items() if found.taken]  # by a dead client, perhaps
        if sum(self._listings.recover_left_behind(namespace) for namespace in taken):
            announced, groups = self._announce(changes)
        for change, group in zip(changes, groups, strict=True):
            change.decide(group, announced[change.namespace])
        late = min(found.at for found in announced.values()) + LATE_US
        swaps = [self._swap(c, group, late) for c, group in zip(changes, groups, strict=True) if group.changed]
        outcomes = iter(self._server.pipeline(swaps))
        again: list[GroupChange] = []
        done: defaultdict[str, list[ListedChange]] = defaultdict(list)
        for change, group in zip(changes, groups, strict=True):
            how, *now = next(outcomes) if group.changed else (b"done", group.version, "")
            if not now:  # the group was changed, its lease taken, or it is too late
                again.append(change)
            elif change.listed or group.changed:
                # Where it was done before and its reply was lost, other clients may have changed the group since.
                before = group.version if how == b"done" else b"-1"
                done[change.namespace].append(change.listed_change(group, before, *now))
        self._listings.update(done)
        return again

    def _announce(self, changes: list[GroupChange]) -> tuple[dict[str, Announced], list[KeyGroup]]:
        """What the namespaces say, and the groups as they are."""
        by_namespace: defaultdict[str, list[object]] = defaultdict(list)
        for change in changes:
            ids = list(map(encoded, change.places))
            values = [change.group, change.intent.stored, len(ids), *ids] if change.listed else []
            by_namespace[change.namespace] += values
        commands: list[Command] = []
        for namespace, values in by_namespace.items():
            at = self._keys.listing(namespace)
            commands.append(("SADD", self._keys.namespaces, encoded(namespace)))
            commands.append(run(ANNOUNCE, (at.marks, at.ids, at.tombs, at.counters), *values))
        for change in changes:
            commands.append(("HMGET", self._keys.group(change.group), *KeyGroup.fields(change.places)))
            if change.leased:
                commands.append(("HGET", self._keys.lease(change.group), "t"))
        replies = iter(self._server.pipeline(commands))
        announced = {namespace: _announced(next(replies), next(replies)) for namespace in by_namespace}
        return announced, [
            KeyGroup(c.group, list(c.places), next(replies), next(replies) if c.leased else None) for c in changes
        ]

    def _swap(self, change: GroupChange, group: KeyGroup, late: int) -> Command:
        setting, deleting = group.field_changes(self._compress_above)
        channel, message = b"", b""
        if group.answers_otherwise:
            channel, message = self._keys.changed, dump([change.namespace, group.key])
        values = (group.version, change.operation, late, group.spent, channel, message, len(setting) // 2)
        return run(SWAP, (self._keys.group(group.name), self._keys.lease(group.name)), *values, *setting, *deleting)


def _announced(_: object, reply: tuple[bytes, bytes, list[bytes], list[bytes]]) -> Announced:
    at, cutoff, taken, deleted = reply
    return Announced(int(at), int(cutoff or -1), set(map(decoded, taken)), set(map(decoded, deleted)))


def put_all(puts: Sequence[tuple[int, Put]], statuses: list[PutStatus], group: KeyGroup, found: Announced) -> None:
    """Decide what becomes of the puts of one key group, in order.

    Args:
        puts: each with its place in the batch.
        statuses: of the batch; those of these puts are set.
        group: changed by the puts.
        found: about their ids.
    """
    for place, put in puts:
        statuses[place] = _update(group, put) if put.mode is PutMode.UPDATE else _insert(group, put, found)


def _update(group: KeyGroup, put: Put) -> PutStatus:
    known = group.find(put.record.id)
    if known is None or known.record.revision != put.expected_revision:
        return PutStatus.CONFLICT
    group.write(updated(known.record, put.record))
    return PutStatus.CURRENT if known.record.is_current else PutStatus.HISTORY


def _insert(group: KeyGroup, put: Put, found: Announced) -> PutStatus:
    new = put.record
    if put.lease is not None and group.token != b"%d" % put.lease.token:
        return PutStatus.STALE
    if put.mode is PutMode.REPLICATE and (new.id in found.deleted or new.created_at <= found.cutoff):
        return PutStatus.DELETED
    if new.id in found.taken or group.find(new.id) is not None:
        return PutStatus.CONFLICT
    if group.token is not None and put.lease is not None:
        group.spent, group.token = group.token, None
    current = None if group.current is None else group.current.record
    decision = decide(put, None if current is None else current.id, annotated=current is not None and current.annotated)
    if decision.supersedes is not None:
        group.supersede(new.id)
    group.write(decision.record)
    found.deleted.discard(new.id)
    if put.vector is not None and decision.status is PutStatus.CURRENT:
        group.set_vector(put.vector)
    return decision.status
