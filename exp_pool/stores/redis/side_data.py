"""Side data of the Redis store: leases, named states, logs, and the cut-off of each namespace."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from exp_pool.core.contracts.plugs import Claim, Lease, LogEntry, Names, State
from exp_pool.stores.redis.failures import translated
from exp_pool.stores.redis.keys import Keys
from exp_pool.stores.redis.location import Location
from exp_pool.stores.redis.packed import decoded, encoded, unpack
from exp_pool.stores.redis.scripts import APPEND, CLAIM, RELEASE, RENEW, WRITE_STATE, run
from exp_pool.stores.redis.server import Command, Server

_CLAIMS = 3  # a row that is no answer may give way to another one meanwhile


@translated
class RedisSideData:
    """The part of the store that keeps no rows and touches no listing of rows.

    Args:
        location: what the URL says.
        timeout_s: seconds that each command may take.
    """

    def __init__(self, location: Location, timeout_s: float) -> None:
        self.shown = location.shown
        self._keys = Keys(location.prefix)
        self._server = Server(location, timeout_s)

    def close(self) -> None:
        self._server.close()

    # Leases

    def _group_and_lease(self, namespace: str, key: str) -> list[bytes]:
        name = self._keys.group_name(namespace, key)
        return [self._keys.group(name), self._keys.lease(name)]

    def claim(self, namespace: str, key: str, owner: str, ttl_s: float, passing: str | None = None) -> Claim:
        digits = f"{secrets.randbelow(1000):03d}"
        no_answer = b""
        for _ in range(_CLAIMS):
            values = (encoded(owner), int(ttl_s * 1e6), digits, no_answer)
            found = self._server.call(*run(CLAIM, self._group_and_lease(namespace, key), *values))
            if not found:
                return Claim()
            if found[0] is None:
                return Claim(lease=Lease(namespace, key, owner, int(found[1]), int(found[2])))
            if (stored := unpack(found[0])) is not None and stored.record.id != passing:
                return Claim(record=stored.record)
            no_answer = found[0]  # it is damaged, or to be passed
        return Claim()

    def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        _, key = self._group_and_lease(lease.namespace, lease.key)
        ends = self._server.call(*run(RENEW, [key], lease.token, int(ttl_s * 1e6)))
        return None if ends is None else replace(lease, expires_at=int(ends))

    def release(self, lease: Lease) -> None:
        _, key = self._group_and_lease(lease.namespace, lease.key)
        self._server.call(*run(RELEASE, [key], lease.token))

    # States, logs

    def _naming(self, namespace: str) -> Command:
        return ("SADD", self._keys.namespaces, encoded(namespace))

    def read_state(self, namespace: str, name: str) -> State | None:
        raw = self._server.call("HGET", self._keys.listing(namespace).states, encoded(name))
        if raw is None:
            return None
        revision, _, value = raw.partition(b":")
        return State(decoded(value), int(revision))

    def write_state(self, namespace: str, name: str, value: str, expected_revision: int | None) -> bool:
        expected = "" if expected_revision is None else expected_revision
        states = self._keys.listing(namespace).states
        writing = run(WRITE_STATE, [states], encoded(name), expected, encoded(value))
        # Not sent again where the reply is lost: it would find its own revision and say that it was not written.
        return bool(self._server.pipeline([self._naming(namespace), writing], again=False)[-1])

    def append_log(self, namespace: str, name: str, entries: Sequence[str]) -> int:
        if not entries:
            return 0
        at = self._keys.listing(namespace)
        appending = run(APPEND, [at.counters, at.logs, at.log(name)], encoded(name), *map(encoded, entries))
        return int(self._server.pipeline([self._naming(namespace), appending], again=False)[-1])

    def read_log(self, namespace: str, name: str, *, after: int = 0, limit: int = 1000) -> list[LogEntry]:
        log = self._keys.listing(namespace).log(name)
        found = self._server.call("XRANGE", log, f"({after}-0" if after > 0 else "-", "+", "COUNT", limit)
        return [LogEntry(int(at.partition(b"-")[0]), decoded(entry[b"e"])) for at, entry in found]

    def drop_logs(self, namespace: str, names: Sequence[str]) -> None:
        at = self._keys.listing(namespace)
        if names:
            dropping = [("DEL", at.log(name)) for name in names]
            self._server.pipeline([*dropping, ("HDEL", at.logs, *map(encoded, names))])

    def names(self, namespace: str) -> Names:
        at = self._keys.listing(namespace)
        found = self._server.pipeline([("HKEYS", at.states), ("HKEYS", at.logs)])
        return Names(*(sorted(map(decoded, names)) for names in found))

    def cleared_at(self, namespace: str) -> int | None:
        raw = self._server.call("HGET", self._keys.listing(namespace).counters, "cutoff")
        return None if raw is None else int(raw)
