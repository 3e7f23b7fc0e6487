"""Reads that go through the listing of a namespace: first where rows stand, then the rows, page by page.

A handle that leads to no row is skipped: the row has just gone. Intents that a client left behind are looked for in the
same round trip; where there are any, they are recovered and the listing is read once more.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from exp_pool.core.contracts.plugs import SCAN_ORDERS, IndexPartition, RecordQuery, RequestRow, VectorRow
from exp_pool.core.record import Record, TaskKind, hash_text
from exp_pool.runtime.clock import now_us
from exp_pool.stores.redis.keys import HEAD, Keys, Listing, group_of, id_of, is_reserved, short_digest
from exp_pool.stores.redis.listing import PAGE, Intent, Listings, pages
from exp_pool.stores.redis.packed import StoredRow, StoredVector, decoded, encoded, unpack, unpack_vector
from exp_pool.stores.redis.server import Command, Server
from exp_pool.stores.rules import matches, order_of

_FIRST_PAGES = (20, 100)  # rows read at first: who counts to a limit, or wants the last one, needs few
_SHORT = 16  # characters of a `short_digest` before a handle


class RowReader:
    """Finds rows of a pool."""

    def __init__(self, server: Server, keys: Keys, listings: Listings) -> None:
        self._server = server
        self._keys = keys
        self._listings = listings

    def ask(self, namespace: str, *commands: Command) -> list[Any]:
        """Replies about a namespace's listing, which shows everything that was ever written."""
        return self.ask_each([namespace], lambda _: commands)[namespace]

    def ask_each(
        self, namespaces: Sequence[str], commands_of: Callable[[Listing], Sequence[Command]]
    ) -> dict[str, list[Any]]:
        """Replies about the listings of several namespaces, in one round trip."""
        found: dict[str, list[Any]] = {}
        left = list(namespaces)
        for recovering in (True, False):  # once: to a clock that is fast, intents look old that the server keeps
            asking = {name: (self._listings.left_behind(name), *commands_of(self._keys.listing(name))) for name in left}
            replies = iter(self._server.pipeline([command for commands in asking.values() for command in commands]))
            left = []
            for name, commands in asking.items():
                intents, *found[name] = [next(replies) for _ in commands]
                if intents and recovering:
                    self._listings.recover(name, map(Intent.read, intents))
                    left.append(name)
        return found

    def namespaces(self) -> list[str]:
        """Every namespace that anything was ever written to, in order."""
        return sorted(decoded(raw) for raw in self._server.call("SMEMBERS", self._keys.namespaces))

    # Rows

    def entries(self, namespace: str, ids: Sequence[str]) -> dict[str, bytes]:
        """Where the rows of these ids stand, or are going to stand."""
        found: dict[str, bytes] = {}
        listing = self._keys.listing(namespace)
        for page in pages(list(dict.fromkeys(ids))):
            values = self._server.call("HMGET", listing.ids, *map(encoded, page))
            found |= {id_: raw for id_, raw in zip(page, values, strict=True) if raw is not None}
        return found

    def rows_of(self, handles: Sequence[bytes]) -> list[StoredRow | None]:
        """The rows that stand there."""
        if not handles:
            return []
        commands = [("HMGET", self._keys.group(group_of(h)), "=", b"r:" + h[HEAD:]) for h in handles]
        return [_of(values, id_of(h)) for h, values in zip(handles, self._server.pipeline(commands), strict=True)]

    def scan(
        self, query: RecordQuery, *, order_by: str = "created_at", descending: bool = False, limit: int | None = None
    ) -> Iterator[Record]:
        """See `RecordStore.scan`. By creation, rows are read as they are asked for; by another order, twice."""
        assert order_by in SCAN_ORDERS
        now = now_us()
        handles: Iterable[bytes] = self.handles(query, now, descending=descending)
        if order_by != "created_at":
            rows = self._matching(sorted(handles, key=_place), query, now)
            found = [(order_of(getattr(row, order_by)), handle) for handle, row in rows]
            found.sort(key=lambda pair: pair[0], reverse=descending)  # ties stay in the order of insertion
            handles = [handle for _, handle in found[:limit]]
        for _, row in itertools.islice(self._matching(handles, query, now), limit):
            yield row

    def count(self, query: RecordQuery, limit: int | None) -> int:
        """See `RecordStore.count`."""
        if query.namespace is not None and query == RecordQuery(query.namespace, history=query.history):
            listing = self._keys.listing(query.namespace)
            (found,) = self.ask(query.namespace, ("ZCARD", listing.rows if query.history else listing.current))
            return int(found) if limit is None else min(int(found), limit)
        return sum(1 for _ in itertools.islice(self.matching(query), limit))

    def matching(self, query: RecordQuery) -> Iterator[tuple[bytes, Record]]:
        """Rows that the query finds, and where they stand; in the order of their creation."""
        now = now_us()
        return self._matching(self.handles(query, now), query, now)

    def _matching(self, handles: Iterable[bytes], query: RecordQuery, now: int) -> Iterator[tuple[bytes, Record]]:
        left = iter(handles)
        for size in itertools.chain(_FIRST_PAGES, itertools.repeat(PAGE)):
            page = list(itertools.islice(left, size))
            for handle, stored in zip(page, self.rows_of(page), strict=True):
                if stored is not None and matches(stored.record, query, now):
                    yield handle, stored.record
            if len(page) < size:
                return

    def handles(self, query: RecordQuery, now: int, *, descending: bool = False) -> Iterator[bytes]:
        """Where rows may stand that the query finds, by creation, ties in the order of insertion.

        Args:
            query: narrows the listing where it names ids, keys, requests or a task.
            now: microseconds.
            descending: the newest first; ties stay in the order of insertion.
        """
        spaces = self.namespaces() if query.namespace is None else [query.namespace]
        if query.pending is not None:  # of all namespaces at once: the worker asks this every second
            due = "embed" if query.pending is TaskKind.EMBED else "score"
            few = self.ask_each(spaces, lambda listing: [("ZRANGEBYSCORE", getattr(listing, due), "-inf", now)])
            found = [pair for namespace, (some,) in few.items() for pair in self._created(namespace, some)]
        else:
            few_of = [self._candidates(namespace, query) for namespace in spaces]
            if few_of == [None]:
                yield from self._in_order(spaces[0], descending=descending)
                return
            found = []
            for namespace, some in zip(spaces, few_of, strict=True):
                if some is None:
                    (flat,) = self.ask(namespace, ("ZRANGE", self._keys.listing(namespace).rows, 0, -1, "WITHSCORES"))
                    found += _pairs(flat)
                else:
                    found += some
        yield from _ordered(found, descending=descending)

    def _in_order(self, namespace: str, *, descending: bool) -> Iterator[bytes]:
        """Every row of a namespace: some first, for those who want no more, then all others."""
        rows = self._keys.listing(namespace).rows
        walk, on, end = ("ZREVRANGE", "ZREVRANGEBYSCORE", "-inf") if descending else ("ZRANGE", "ZRANGEBYSCORE", "+inf")
        (flat,) = self.ask(namespace, (walk, rows, 0, PAGE - 1, "WITHSCORES"))
        if len(flat) == 2 * PAGE:
            edge = flat[-1]  # of the rows created at this very time some may be missing: they come with the others
            yield from _ordered([pair for pair in _pairs(flat) if pair[0] != float(edge)], descending=descending)
            (flat,) = self.ask(namespace, (on, rows, edge, end, "WITHSCORES"))
        yield from _ordered(_pairs(flat), descending=descending)

    def _candidates(self, namespace: str, query: RecordQuery) -> list[tuple[float, bytes]] | None:
        """(creation, handle) of fewer rows to look at, where the query names an id, a key or a request; else None."""
        listing = self._keys.listing(namespace)
        for condition in query.where:
            wanted = condition.value if condition.operator == "in" else (condition.value,)
            if condition.operator not in ("eq", "in") or condition.path or not isinstance(wanted, tuple):
                continue
            texts = [text for text in wanted if isinstance(text, str)]
            if condition.field == "id":
                entries = self.entries(namespace, texts)
                standing = [raw[:HEAD] + encoded(id_) for id_, raw in entries.items() if not is_reserved(raw)]
                return list(self._created(namespace, standing))
            if condition.field == "request":
                starts = [short_digest(hash_text(text)) for text in texts]
                commands = [("ZRANGEBYLEX", listing.asked, b"[" + start, b"(" + start + b"~") for start in starts]
                same = {member[_SHORT:] for members in self.ask(namespace, *commands) for member in members}
                return list(self._created(namespace, list(same)))
            if condition.field == "key":
                return list(self._created(namespace, self._of_keys(namespace, texts)))
        return None

    def _of_keys(self, namespace: str, texts: Sequence[str]) -> list[bytes]:
        groups = [self._keys.group(self._keys.group_name(namespace, text)) for text in texts]
        found = self._server.pipeline([("HGETALL", group) for group in groups]) if groups else []
        ids = [decoded(field[2:]) for fields in found for field in fields if field.startswith(b"r:")]
        ids += [stored.record.id for fields in found if (stored := unpack(fields.get(b"="))) is not None]
        return [raw[:HEAD] + encoded(id_) for id_, raw in self.entries(namespace, ids).items()]

    def _created(self, namespace: str, handles: Sequence[bytes]) -> Iterator[tuple[float, bytes]]:
        for page in pages(handles):
            times = self._server.call("ZMSCORE", self._keys.listing(namespace).rows, *page)
            yield from ((float(at), handle) for at, handle in zip(times, page, strict=True) if at is not None)

    # Readers that follow changes

    def _after(self, namespace: str, key: bytes, position: int, limit: int) -> Iterator[list[tuple[bytes, int]]]:
        """Members of a sorted set and their positions, the next ones after a position, so many at a time."""
        while True:
            (flat,) = self.ask(
                namespace, ("ZRANGEBYSCORE", key, f"({position}", "+inf", "WITHSCORES", "LIMIT", 0, limit)
            )
            page = list(zip(flat[::2], map(int, flat[1::2]), strict=True))
            yield page
            if len(page) < limit:
                return
            position = page[-1][1]

    def requests_after(self, namespace: str, position: int, limit: int) -> list[RequestRow]:
        """See `RecordStore.requests_after`."""
        found: list[RequestRow] = []
        for page in self._after(namespace, self._keys.listing(namespace).current, position, limit):
            for (_, place), stored in zip(page, self.rows_of([handle for handle, _ in page]), strict=True):
                if stored is not None and stored.record.is_current:
                    row = stored.record
                    found.append(RequestRow(row.id, row.function, row.version, row.request, place))
            if len(found) >= limit:
                break
        return found[:limit]

    def vectors_after(self, namespace: str, embedder: str, position: int, limit: int) -> list[VectorRow]:
        """See `RecordStore.vectors_after`."""
        found: list[VectorRow] = []
        mine = short_digest(embedder)
        for page in self._after(namespace, self._keys.listing(namespace).vectors, position, limit):
            at = [(member[_SHORT:], place) for member, place in page if member.startswith(mine)][: limit - len(found)]
            for (handle, place), stored in zip(at, self.vectors_at([handle for handle, _ in at]), strict=True):
                there = stored is not None and stored.vector.embedder == embedder
                gone = VectorRow(id_of(handle), namespace, "", "", "", place, None)
                found.append(stored.row(namespace, place) if stored is not None and there else gone)
            if len(found) >= limit:
                break
        return found

    def vectors_at(self, handles: Sequence[bytes]) -> list[StoredVector | None]:
        """The vectors of the rows that stand there."""
        if not handles:
            return []
        raws = self._server.pipeline([("HGET", self._keys.group(group_of(handle)), "x") for handle in handles])
        found = [unpack_vector(raw) for raw in raws]
        return [
            None if stored is None or stored.id != id_of(handle) else stored
            for handle, stored in zip(handles, found, strict=True)
        ]

    def partitions(self, namespace: str | None) -> dict[IndexPartition, int]:
        """See `RecordStore.spaces`."""
        spaces = self.namespaces() if namespace is None else [namespace]
        found = self.ask_each(spaces, lambda listing: [("HGETALL", listing.spaces)])
        return {
            IndexPartition(space, decoded(embedder)): int(count)
            for space, (counts,) in found.items()
            for embedder, count in counts.items()
        }


def _of(values: Sequence[bytes | None], id_: str) -> StoredRow | None:
    """The row of this id: the one of history, or the current one."""
    current, old = values
    stored = unpack(old if old is not None else current)
    return stored if stored is not None and stored.record.id == id_ else None


def _pairs(flat: Sequence[bytes]) -> list[tuple[float, bytes]]:
    return list(zip(map(float, flat[1::2]), flat[::2], strict=True))


def _ordered(pairs: list[tuple[float, bytes]], *, descending: bool) -> Iterator[bytes]:
    pairs.sort(key=lambda pair: (-pair[0] if descending else pair[0], pair[1]))
    return (handle for _, handle in pairs)


def _place(handle: bytes) -> bytes:
    return handle[:HEAD]
