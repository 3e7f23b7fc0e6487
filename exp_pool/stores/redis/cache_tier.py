"""``hot="redis://..."``: a cache tier in Redis, for rows that calls have asked for; see `exp_pool.stores.near_cache`.

Per key there are three entries: the number of its writers, the mark of the latest writer, and the cached row. Per
namespace there are the first two. All entries of a namespace share one hash slot; their prefix changes when the store's
contents are replaced. Every entry may be lost: a server without persistence, and with ``maxmemory-policy allkeys-lru``,
is right.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from exp_pool.core.config import ExpPoolConfig
from exp_pool.core.contracts.plugs import Ticket
from exp_pool.core.record import Record
from exp_pool.runtime.clock import now_us
from exp_pool.stores.redis.failures import translated
from exp_pool.stores.redis.keys import digest
from exp_pool.stores.redis.location import Location, parse
from exp_pool.stores.redis.packed import StoredRow, encoded, new_stamp, pack, unpack
from exp_pool.stores.redis.scripts import TIER_BEGIN, TIER_END, TIER_FILL, TIER_MARK, run
from exp_pool.stores.redis.server import Server

_KEPT_MS = 3_600_000  # a row; marks are kept for twice as long, so that none outlives what was there before it
_WRITING_MS = 60_000  # a writer who is heard no more was killed: the server has long settled what he wrote
_CLEARING_MS = 600_000
_SEPARATOR = b"|"  # not in a mark


@translated
class RedisCacheTier:
    """A cache tier in Redis, one or a cluster.

    Args:
        location: what the URL says.
        timeout_s: seconds that each command may take.
        compress_above: bytes above which a row is compressed; None: never.
    """

    def __init__(self, location: Location, timeout_s: float = 5.0, compress_above: int | None = 65536) -> None:
        self.shown = location.shown
        self._prefix = f"{location.prefix}:hot".encode()
        self._server = Server(location, timeout_s)
        self._compress_above = compress_above

    @classmethod
    def from_url(cls, location: str, config: ExpPoolConfig) -> RedisCacheTier:
        """The tier of ``redis://...``, ``rediss://...``, ``redis+cluster://...``.

        Raises:
            ConfigurationError: the URL cannot be one.
        """
        return cls(parse(location), config.store_timeout, config.compress_above)

    def _places(self, contents: str, namespace: str, keys: Sequence[str]) -> list[bytes]:
        """The names of the two entries of the namespace, then of the three of each key."""
        space = b"%s:{%s}" % (self._prefix, digest(encoded(contents), encoded(namespace)).hex().encode())
        places = [space + b":n", space + b":m"]
        for key in keys:
            place = b"%s:%s" % (space, digest(encoded(key)).hex().encode())
            places += [place + b":n", place + b":m", place]
        return places

    def look(self, contents: str, namespace: str, keys: Sequence[str]) -> list[tuple[Record | None, Ticket | None]]:
        if not keys:
            return []
        places = self._places(contents, namespace, keys)
        clearing, whole, *found = self._server.call("MGET", *places)
        if int(clearing or 0) > 0:
            return [(None, None)] * len(keys)
        if whole is None:  # without it, a ticket from before the server lost everything would be good afterwards
            whole = self._server.call(*run(TIER_MARK, places[1:2], uuid.uuid4().hex.encode(), 2 * _KEPT_MS))
        looked: list[tuple[Record | None, Ticket | None]] = []
        for key, writing, own, row in zip(keys, found[::3], found[1::3], found[2::3], strict=True):
            since, _, body = (row or b"").partition(_SEPARATOR)
            stored = unpack(body) if row is not None and since == whole else None
            record = stored.record if stored else None
            if record is not None and (record.namespace, record.key) != (namespace, key):
                record = None
            busy = int(writing or 0) > 0
            looked.append((None if busy else record, None if busy else (whole, own or b"")))
        return looked

    def fill(self, contents: str, rows: Sequence[tuple[Record, Ticket]]) -> None:
        commands = []
        for record, (whole, own) in rows:
            left_ms = self._left_ms(record)
            if left_ms > 0:
                places = self._places(contents, record.namespace, [record.key])
                commands.append(run(TIER_FILL, places, whole, own, self._packed(record), left_ms))
        if commands:
            self._server.pipeline(commands)

    def _packed(self, record: Record) -> bytes:
        return pack(StoredRow(new_stamp(), record), self._compress_above)

    def _left_ms(self, record: Record) -> int:
        if record.expires_at is None:
            return _KEPT_MS
        return min(_KEPT_MS, (record.expires_at - now_us()) // 1000)

    def begin(self, contents: str, namespace: str, keys: Sequence[str]) -> bytes:
        mine, places = uuid.uuid4().hex.encode(), self._places(contents, namespace, keys)
        pending = _WRITING_MS if keys else _CLEARING_MS
        command = run(TIER_BEGIN, places, mine, pending, 2 * _KEPT_MS)
        whole: bytes = self._server.call(*command, again=False)
        return mine + _SEPARATOR + whole

    def end(
        self, contents: str, namespace: str, keys: Sequence[str], mark: bytes, rows: Sequence[Record | None] = ()
    ) -> None:
        mine, _, whole = mark.partition(_SEPARATOR)
        values: list[object] = []
        for row in rows or [None] * len(keys):
            left_ms = 0 if row is None else self._left_ms(row)
            values += [b"", 1] if row is None or left_ms <= 0 else [self._packed(row), left_ms]
        places = self._places(contents, namespace, keys)
        self._server.call(*run(TIER_END, places, mine, whole, 2 * _KEPT_MS, *values), again=False)

    def close(self) -> None:
        self._server.close()
