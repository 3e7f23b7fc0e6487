"""Reads of a pool in Redis: first where rows stand, by the listing of their namespace, then the rows, page by page.

A handle that leads to no row is skipped: the row has just gone.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from exp_pool.core.contracts.plugs import (
    SCAN_ORDERS,
    Deletion,
    IndexPartition,
    RecordQuery,
    RequestRow,
    Usage,
    VectorRow,
)
from exp_pool.core.record import Record, TaskKind, Vector, hash_text
from exp_pool.runtime.clock import now_us
from exp_pool.stores.redis.failures import translated
from exp_pool.stores.redis.keys import HEAD, group_of, id_of, is_reserved, short_digest
from exp_pool.stores.redis.listing import PAGE, Listings, pages
from exp_pool.stores.redis.location import Location
from exp_pool.stores.redis.packed import StoredRow, StoredVector, decoded, unpack, unpack_vector
from exp_pool.stores.redis.side_data import RedisSideData
from exp_pool.stores.rules import matches, order_of

_FIRST_PAGES = (20, 100)  # rows read at first: who counts to a limit, or wants the last one, needs few
_SHORT = 16  # characters of a `short_digest` before a handle


@translated
class RedisReads(RedisSideData):
    """What the store reads of rows and their listings.

    Args:
        location: what the URL says.
        timeout_s: seconds that each command may take, and that other clients are waited for.
    """

    def __init__(self, location: Location, timeout_s: float) -> None:
        super().__init__(location, timeout_s)
        self._listings = Listings(self._server, self._keys)

    # Rows

    def get_many(self, namespace: str, refs: Sequence[str], *, by: Literal["key", "id"] = "key") -> list[Record | None]:
        found: list[Record | None] = []
        for page in pages(refs):
            if by == "key":
                groups = [self._keys.group(self._keys.group_name(namespace, key)) for key in page]
                stored = [unpack(raw) for raw in self._server.pipeline([("HGET", group, "=") for group in groups])]
                found += [None if row is None else row.record for row in stored]
            else:
                by_id = self._by_id(namespace, page)
                found += [by_id.get(id_) for id_ in page]
        return found

    def _by_id(self, namespace: str, ids: Sequence[str]) -> dict[str, Record]:
        handles = self._listings.handles_of(namespace, ids)
        rows = zip(handles, self._rows_at(list(handles.values())), strict=True)
        return {id_: stored.record for id_, stored in rows if stored is not None}

    def usage(self, namespace: str) -> Usage:
        listing = self._keys.listing(namespace)
        rows, size = self._listings.ask(namespace, ("ZCARD", listing.rows), ("HGET", listing.counters, "bytes"))
        return Usage(rows, int(size or 0))

    def namespaces(self) -> list[str]:
        kept = self._listings.ask_each(
            self._listings.namespaces(),
            lambda at: [("EXISTS", at.rows, at.tombs, at.states, at.logs), ("HEXISTS", at.counters, "cutoff")],
        )
        return [namespace for namespace, something in kept.items() if namespace and any(something)]

    def _rows_at(self, handles: Sequence[bytes]) -> list[StoredRow | None]:
        commands = [("HMGET", self._keys.group(group_of(h)), "=", b"r:" + h[HEAD:]) for h in handles]
        return [_of(values, id_of(h)) for h, values in zip(handles, self._server.pipeline(commands), strict=True)]

    def scan(
        self, query: RecordQuery, *, order_by: str = "created_at", descending: bool = False, limit: int | None = None
    ) -> Iterator[Record]:
        """By creation, rows are read as they are asked for; by another order, twice."""
        assert order_by in SCAN_ORDERS
        now = now_us()
        handles: Iterable[bytes] = self._handles(query, now, descending=descending)
        if order_by != "created_at":
            rows = self._matching_at(sorted(handles, key=_place), query, now)
            found = [(order_of(getattr(row, order_by)), handle) for handle, row in rows]
            found.sort(key=lambda pair: pair[0], reverse=descending)  # ties stay in the order of insertion
            handles = [handle for _, handle in found[:limit]]
        for _, row in itertools.islice(self._matching_at(handles, query, now), limit):
            yield row

    def count(self, query: RecordQuery, *, limit: int | None = None) -> int:
        if query.namespace is not None and query == RecordQuery(query.namespace, history=query.history):
            listing = self._keys.listing(query.namespace)
            (found,) = self._listings.ask(
                query.namespace, ("ZCARD", listing.rows if query.history else listing.current)
            )
            return int(found) if limit is None else min(int(found), limit)
        return sum(1 for _ in itertools.islice(self._matching(query), limit))

    def _matching(self, query: RecordQuery) -> Iterator[tuple[bytes, Record]]:
        """Rows that the query finds, and where they stand; in the order of their creation."""
        now = now_us()
        return self._matching_at(self._handles(query, now), query, now)

    def _matching_at(self, handles: Iterable[bytes], query: RecordQuery, now: int) -> Iterator[tuple[bytes, Record]]:
        left = iter(handles)
        for size in itertools.chain(_FIRST_PAGES, itertools.repeat(PAGE)):
            page = list(itertools.islice(left, size))
            for handle, stored in zip(page, self._rows_at(page), strict=True):
                if stored is not None and matches(stored.record, query, now):
                    yield handle, stored.record
            if len(page) < size:
                return

    def _handles(self, query: RecordQuery, now: int, *, descending: bool = False) -> Iterator[bytes]:
        """Where rows may stand that the query finds, by creation, ties in the order of insertion."""
        namespaces = self._listings.namespaces() if query.namespace is None else [query.namespace]
        if query.pending is not None:  # of all namespaces at once: the worker asks this every second
            due = "embed" if query.pending is TaskKind.EMBED else "score"
            few = self._listings.ask_each(
                namespaces, lambda listing: [("ZRANGEBYSCORE", getattr(listing, due), "-inf", now)]
            )
            found = [pair for namespace, (some,) in few.items() for pair in self._created(namespace, some)]
        else:
            few_of = [self._candidates(namespace, query) for namespace in namespaces]
            if few_of == [None]:
                yield from self._in_order(namespaces[0], descending=descending)
                return
            found = []
            for namespace, some in zip(namespaces, few_of, strict=True):
                if some is None:
                    (flat,) = self._listings.ask(
                        namespace, ("ZRANGE", self._keys.listing(namespace).rows, 0, -1, "WITHSCORES")
                    )
                    found += _pairs(flat)
                else:
                    found += some
        yield from _ordered(found, descending=descending)

    def _in_order(self, namespace: str, *, descending: bool) -> Iterator[bytes]:
        """Every row of a namespace: some first, for those who want no more, then all others."""
        rows = self._keys.listing(namespace).rows
        walk, on, end = ("ZREVRANGE", "ZREVRANGEBYSCORE", "-inf") if descending else ("ZRANGE", "ZRANGEBYSCORE", "+inf")
        (flat,) = self._listings.ask(namespace, (walk, rows, 0, PAGE - 1, "WITHSCORES"))
        if len(flat) == 2 * PAGE:
            edge = flat[-1]  # of the rows created at this very time some may be missing: they come with the others
            yield from _ordered([pair for pair in _pairs(flat) if pair[0] != float(edge)], descending=descending)
            (flat,) = self._listings.ask(namespace, (on, rows, edge, end, "WITHSCORES"))
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
                listed = self._listings.handles_of(namespace, texts).values()
                return list(self._created(namespace, [handle for handle in listed if not is_reserved(handle)]))
            if condition.field == "request":
                starts = [short_digest(hash_text(text)) for text in texts]
                commands = [("ZRANGEBYLEX", listing.asked, b"[" + start, b"(" + start + b"~") for start in starts]
                same = {member[_SHORT:] for members in self._listings.ask(namespace, *commands) for member in members}
                return list(self._created(namespace, list(same)))
            if condition.field == "key":
                return list(self._created(namespace, self._of_keys(namespace, texts)))
        return None

    def _of_keys(self, namespace: str, texts: Sequence[str]) -> list[bytes]:
        groups = [self._keys.group(self._keys.group_name(namespace, text)) for text in texts]
        found = self._server.pipeline([("HGETALL", group) for group in groups])
        ids = [decoded(field[2:]) for fields in found for field in fields if field.startswith(b"r:")]
        ids += [stored.record.id for fields in found if (stored := unpack(fields.get(b"="))) is not None]
        return list(self._listings.handles_of(namespace, ids).values())

    def _created(self, namespace: str, handles: Sequence[bytes]) -> Iterator[tuple[float, bytes]]:
        for page in pages(handles):
            times = self._server.call("ZMSCORE", self._keys.listing(namespace).rows, *page)
            yield from ((float(at), handle) for at, handle in zip(times, page, strict=True) if at is not None)

    # Deletions, vectors, and readers that follow changes

    def deletions(self, namespace: str, *, after: str = "", limit: int = 1000) -> list[Deletion]:
        tombs = self._keys.listing(namespace).tombs
        (flat,) = self._listings.ask(namespace, ("ZRANGE", tombs, 0, -1, "WITHSCORES"))
        found = ((decoded(id_), int(at)) for id_, at in zip(flat[::2], flat[1::2], strict=True))
        return [Deletion(*pair) for pair in heapq.nsmallest(limit, (pair for pair in found if pair[0] > after))]

    def get_vectors(self, namespace: str, ids: Sequence[str]) -> list[Vector | None]:
        handles = self._listings.handles_of(namespace, ids)
        found: dict[str, Vector] = {}
        for page in pages(list(handles)):
            stored = self._vectors_at([handles[id_] for id_ in page])
            found |= {id_: one.vector for id_, one in zip(page, stored, strict=True) if one is not None}
        return [found.get(id_) for id_ in ids]

    def _after(self, namespace: str, key: bytes, position: int, limit: int) -> Iterator[list[tuple[bytes, int]]]:
        """Members of a sorted set and their positions, the next ones after a position, so many at a time."""
        while True:
            (flat,) = self._listings.ask(
                namespace, ("ZRANGEBYSCORE", key, f"({position}", "+inf", "WITHSCORES", "LIMIT", 0, limit)
            )
            page = list(zip(flat[::2], map(int, flat[1::2]), strict=True))
            yield page
            if not page or len(page) < limit:
                return
            position = page[-1][1]

    def requests_after(self, namespace: str, position: int, limit: int) -> list[RequestRow]:
        found: list[RequestRow] = []
        for page in self._after(namespace, self._keys.listing(namespace).current, position, limit):
            for (_, place), stored in zip(page, self._rows_at([handle for handle, _ in page]), strict=True):
                if stored is not None and stored.record.is_current:
                    row = stored.record
                    found.append(RequestRow(row.id, row.function, row.version, row.request, place))
            if len(found) >= limit:
                break
        return found[:limit]

    def vectors_after(self, namespace: str, embedder: str, position: int, limit: int) -> list[VectorRow]:
        found: list[VectorRow] = []
        mine = short_digest(embedder)
        for page in self._after(namespace, self._keys.listing(namespace).vectors, position, limit):
            at = [(member[_SHORT:], place) for member, place in page if member.startswith(mine)][: limit - len(found)]
            for (handle, place), stored in zip(at, self._vectors_at([handle for handle, _ in at]), strict=True):
                there = stored is not None and stored.vector.embedder == embedder
                gone = VectorRow(id_of(handle), namespace, "", "", "", place, None)
                found.append(stored.row(namespace, place) if stored is not None and there else gone)
            if len(found) >= limit:
                break
        return found

    def _vectors_at(self, handles: Sequence[bytes]) -> list[StoredVector | None]:
        raws = self._server.pipeline([("HGET", self._keys.group(group_of(handle)), "x") for handle in handles])
        found = [unpack_vector(raw) for raw in raws]
        return [
            None if stored is None or stored.id != id_of(handle) else stored
            for handle, stored in zip(handles, found, strict=True)
        ]

    def partitions(self, namespace: str | None = None) -> dict[IndexPartition, int]:
        namespaces = self._listings.namespaces() if namespace is None else [namespace]
        found = self._listings.ask_each(namespaces, lambda listing: [("HGETALL", listing.spaces)])
        return {
            IndexPartition(namespace, decoded(embedder)): int(count)
            for namespace, (counts,) in found.items()
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
