"""What can be wrong with a pool in Redis, and mending it: listings against rows, both ways; what the server may do.

Looking for rows that no listing knows means looking through all keys of the server, a thousand at a time (SCAN): only
the doctor does that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from redis.exceptions import ResponseError

from exp_pool.stores.redis.reads import Reading
from exp_pool.stores.redis.server import Server
from exp_pool.stores.redis.units import Keys, id_of, unit_of, unpack
from exp_pool.stores.redis.writes import Writing, pages

_SCANNED = 1000
_ROW = (b"=", b"r:")


class Care:
    """The doctor's hands."""

    def __init__(self, server: Server, keys: Keys, writing: Writing, reading: Reading) -> None:
        self._server = server
        self._keys = keys
        self._writing = writing
        self._reading = reading

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
        listed = self._listed()
        damaged, unlisted = self._units(listed)
        if damaged:
            found.append(f"{len(damaged)} rows are damaged and left out; {remedy}: it sets them aside")
        if unlisted:
            rows = sum(map(len, unlisted.values()))
            found.append(f"{rows} rows are in no list, so only their keys find them; {remedy}: it lists them")
        missing = sum(len(ids) for ids in listed.values())
        if missing:
            found.append(f"{missing} rows are listed and not there; {remedy}: it takes them off the lists")
        found += self._miscounted()
        return found

    def repair(self) -> list[str]:
        """Damaged rows set aside, every unit listed as it is; what was done."""
        done = []
        for namespace in self._reading.namespaces():  # what was announced, whoever may still be at it
            marks = self._server.call("ZRANGE", self._keys.listing(namespace).marks, 0, -1)
            self._writing.heal(namespace, marks)
        listed = self._listed()
        damaged, unlisted = self._units(listed)
        for page in pages(damaged):
            raws = self._server.pipeline([("HGET", unit, field) for unit, field in page])
            kept = [
                ("HSET", u, b"damaged:" + f, raw) for (u, f), raw in zip(page, raws, strict=True) if raw is not None
            ]
            self._server.pipeline([*kept, *(("HDEL", unit, field) for unit, field in page)])
        if damaged:
            done.append(f"{len(damaged)} damaged rows were set aside, as fields `damaged:...` where they were")
        by_namespace: defaultdict[str, set[bytes]] = defaultdict(set)
        for namespace, unit in unlisted:
            by_namespace[namespace].add(unit)
        for namespace, units in by_namespace.items():
            self._server.call("SADD", self._keys.namespaces, namespace.encode("utf-8", "surrogatepass"))
            self._writing.relist(namespace, units)
        if unlisted:
            done.append(f"{sum(map(len, unlisted.values()))} rows were listed again")
        gone = 0
        for (namespace, unit), ids in listed.items():
            gone += len(ids)
            self._writing.relist(namespace, [unit], gone=ids)
        if gone:
            done.append(f"{gone} rows that are not there were taken off the lists")
        return done

    def _listed(self) -> dict[tuple[str, bytes], set[str]]:
        """The ids that every listing has, by unit."""
        found: defaultdict[tuple[str, bytes], set[str]] = defaultdict(set)
        for namespace in self._reading.namespaces():
            (handles,) = self._reading.ask(namespace, ("ZRANGE", self._keys.listing(namespace).rows, 0, -1))
            for handle in handles:
                found[namespace, unit_of(handle)].add(id_of(handle))
        return found

    def _units(
        self, listed: dict[tuple[str, bytes], set[str]]
    ) -> tuple[list[tuple[bytes, bytes]], dict[tuple[str, bytes], set[str]]]:
        """Damaged rows, and rows that are not listed; takes what is there out of `listed`, so that what is left is not.

        Rows are damaged that cannot be read, or stand where rows of another key belong.
        """
        damaged: list[tuple[bytes, bytes]] = []
        unlisted: defaultdict[tuple[str, bytes], set[str]] = defaultdict(set)
        for unit, fields in self._all():
            name = unit.rpartition(b"{")[2][:-1]
            for field, raw in fields.items():
                if not field.startswith(_ROW):
                    continue
                stored = unpack(raw)
                if stored is None or self._keys.unit_name(stored.record.namespace, stored.record.key) != name:
                    damaged.append((unit, field))
                    continue
                ref = (stored.record.namespace, name)
                if stored.record.id in listed.get(ref, ()):
                    listed[ref].discard(stored.record.id)
                else:
                    unlisted[ref].add(stored.record.id)
        return damaged, unlisted

    def _all(self) -> Iterator[tuple[bytes, dict[bytes, bytes]]]:
        """Every unit of the pool."""
        for node in self._server.nodes():
            seen: set[bytes] = set()
            for page in pages(list(node.scan_iter(match=self._keys.every_unit, count=_SCANNED, _type="hash"))):
                units = [unit for unit in page if unit.endswith(b"}") and unit not in seen]
                seen.update(units)
                yield from zip(units, self._server.pipeline([("HGETALL", unit) for unit in units]), strict=True)

    def _miscounted(self) -> Iterator[str]:
        """Counts that say something else than what they count; only rows make them, so only listing anew helps."""
        for namespace in self._reading.namespaces():
            at = self._keys.listing(namespace)
            vectors, gone, counts = self._reading.ask(
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
