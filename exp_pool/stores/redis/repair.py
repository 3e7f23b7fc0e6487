"""The doctor's checks and repairs: rows against their listings, both ways, and what the server may do.

Finding rows that no listing has means looking through all keys of the server, a thousand at a time (SCAN): only the
doctor does that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeAlias

from redis.exceptions import ResponseError

from exp_pool.stores.redis.keys import Keys, group_of, id_of
from exp_pool.stores.redis.listing import ANY_STAMP, Intent, Listings, pages
from exp_pool.stores.redis.packed import encoded, unpack
from exp_pool.stores.redis.server import Server

_SCANNED = 1000
_ROW = (b"=", b"r:")

Ids: TypeAlias = dict[tuple[str, bytes], set[str]]
"""Ids of rows by namespace and key group."""


class RepairTool:
    """Finds and repairs mismatches between rows and their listings."""

    def __init__(self, server: Server, keys: Keys, listings: Listings) -> None:
        self._server = server
        self._keys = keys
        self._listings = listings

    def vacuum(self) -> None:
        """Have the file of a server that keeps one written anew, so that what was deleted is no longer in it."""
        for node in self._server.nodes():
            with suppress(ResponseError):  # it may not be asked, or is at it already
                facts: dict[str, Any] = node.execute_command("INFO", "persistence")
                if facts.get("aof_enabled"):
                    node.execute_command("BGREWRITEAOF")

    def check(self) -> list[str]:
        """What is wrong, each with what to do."""
        remedy = "run `exp-pool doctor --fix`"
        found = [*self._evicting()]
        damaged, unlisted, missing = self._compare()
        if damaged:
            found.append(f"{len(damaged)} rows are damaged and left out; {remedy}: it sets them aside")
        if rows := _rows(unlisted):
            found.append(f"{rows} rows are in no list, so only their keys find them; {remedy}: it lists them")
        if rows := _rows(missing):
            found.append(f"{rows} rows are listed and not there; {remedy}: it takes them off the lists")
        return [*found, *self._miscounted()]

    def repair(self) -> list[str]:
        """Set damaged rows aside, and list every key group as it is; what was done."""
        for namespace in self._listings.namespaces():  # young intents, too, although their clients may be at it
            intents = self._server.call("ZRANGE", self._keys.listing(namespace).marks, 0, -1)
            self._listings.recover(namespace, map(Intent.read, intents))
        damaged, unlisted, missing = self._compare()
        for page in pages(damaged):
            raws = self._server.pipeline([("HGET", group, field) for group, field in page])
            found = [(group, field, raw) for (group, field), raw in zip(page, raws, strict=True) if raw is not None]
            self._server.pipeline([("HSET", group, b"damaged:" + field, raw) for group, field, raw in found])
            self._server.pipeline([("HDEL", group, field) for group, field in page])
        by_namespace: defaultdict[str, list[Intent]] = defaultdict(list)
        for namespace, group in {**unlisted, **missing}:
            gone = dict.fromkeys(missing.get((namespace, group), ()), ANY_STAMP)
            by_namespace[namespace].append(Intent(group, gone))
        for namespace, wrong in by_namespace.items():
            self._server.call("SADD", self._keys.namespaces, encoded(namespace))
            self._listings.recover(namespace, wrong)
        counts = {
            "damaged rows were set aside, as fields `damaged:...` where they were": len(damaged),
            "rows were listed again": _rows(unlisted),
            "rows that are not there were taken off the lists": _rows(missing),
        }
        return [f"{count} {what}" for what, count in counts.items() if count]

    def _compare(self) -> tuple[list[tuple[bytes, bytes]], Ids, Ids]:
        """Damaged rows (key and field); ids that are in no list; ids that are listed and not there.

        Rows are damaged that cannot be read, or stand where rows of another key belong.
        """
        missing: Ids = defaultdict(set)
        for namespace in self._listings.namespaces():
            (handles,) = self._listings.ask(namespace, ("ZRANGE", self._keys.listing(namespace).rows, 0, -1))
            for handle in handles:
                missing[namespace, group_of(handle)].add(id_of(handle))
        damaged: list[tuple[bytes, bytes]] = []
        unlisted: Ids = defaultdict(set)
        for key, fields in self._all_groups():
            name = key.rpartition(b"{")[2][:-1]
            for field, raw in fields.items():
                if not field.startswith(_ROW):
                    continue
                stored = unpack(raw)
                if stored is None or self._keys.group_name(stored.record.namespace, stored.record.key) != name:
                    damaged.append((key, field))
                    continue
                at, id_ = (stored.record.namespace, name), stored.record.id
                if id_ in missing.get(at, ()):
                    missing[at].discard(id_)
                else:
                    unlisted[at].add(id_)
        return damaged, unlisted, {at: ids for at, ids in missing.items() if ids}

    def _all_groups(self) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        """Every key group of the pool: its key and its fields."""
        for node in self._server.nodes():
            seen: set[bytes] = set()
            for page in pages(list(node.scan_iter(match=self._keys.every_group, count=_SCANNED, _type="hash"))):
                groups = [key for key in page if key.endswith(b"}") and key not in seen]
                seen.update(groups)
                yield from zip(groups, self._server.pipeline([("HGETALL", key) for key in groups]), strict=True)

    def _miscounted(self) -> Iterator[str]:
        """Counts that say something else than what they count; only rows make them, so only listing anew helps."""
        for namespace in self._listings.namespaces():
            at = self._keys.listing(namespace)
            vectors, gone, counts = self._listings.ask(
                namespace, ("ZCARD", at.vectors), ("ZCARD", at.gone), ("HVALS", at.spaces)
            )
            if vectors - gone != sum(map(int, counts)):
                yield f"namespace {namespace!r} counts {sum(map(int, counts))} vectors and lists {vectors - gone}"

    def _evicting(self) -> Iterator[str]:
        """Servers that drop keys by themselves when their memory is full."""
        policies: Counter[str] = Counter()
        for node in self._server.nodes():
            with suppress(ResponseError):
                facts: dict[str, Any] = node.execute_command("INFO", "memory")
                policy = str(facts.get("maxmemory_policy", "noeviction"))
                if policy not in ("noeviction", "volatile-lru", "volatile-lfu", "volatile-ttl", "volatile-random"):
                    policies[policy] += 1
        for policy in policies:
            yield (
                f"the server has maxmemory-policy {policy}, so it drops experiences by itself when its memory is full; "
                "set it to noeviction, and limit the pool by max_entries or max_bytes"
            )


def _rows(ids: Ids) -> int:
    return sum(map(len, ids.values()))
