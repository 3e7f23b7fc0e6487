"""Names of everything that a pool keeps in Redis: key groups, leases, and the listing of each namespace.

The braces are hash tags: what stands in them decides the slot. Every key group has a slot of its own choice, so a
namespace spreads over the nodes of a cluster; the listing of a namespace lies in one slot as a whole.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from exp_pool.stores.redis.packed import decoded, encoded

LISTED = 14  # so many keys of a `Listing`, the first ones, are brought up to date with each row
HEAD = 48  # bytes of a handle before the id: 16 digits of the row's place, 32 of its key group's name
_NO_PLACE = b"0" * 16


class Listing(NamedTuple):
    """The keys of what is known about a namespace, all in one slot.

    ``ids``: id -> head and details; the head is the row's place in the order of insertion and its key group, and head
    and id are its handle. ``units``: key group -> the version that is listed. Sorted sets of handles: ``rows`` by
    creation, ``current`` by place, ``asked`` by the request, ``embed`` and ``score`` by when they are due, ``vectors``
    by position, of these ``gone`` by the time. ``marks``: intents by the time. ``spaces``: embedder -> vectors.
    ``tombs``: tombstones by the time. ``empty``: key groups without rows by version.
    """

    marks: bytes
    ids: bytes
    units: bytes
    rows: bytes
    current: bytes
    asked: bytes
    embed: bytes
    score: bytes
    vectors: bytes
    gone: bytes
    spaces: bytes
    tombs: bytes
    counters: bytes
    empty: bytes
    states: bytes
    logs: bytes

    def log(self, name: str) -> bytes:
        """The key of a log."""
        return self.logs + b":" + digest(encoded(name))


class Keys:
    """Makes the names of a pool's keys, which all begin with its prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()
        self.namespaces = self._prefix + b":namespaces"
        self.changed = self._prefix + b":changed"
        self.every_group = self._prefix + b":{*}"

    def listing(self, namespace: str) -> Listing:
        """The keys of a namespace's listing."""
        start = self._prefix + b":{" + digest(encoded(namespace)) + b"}:"
        return Listing(*(start + name.encode() for name in Listing._fields))

    def group_name(self, namespace: str, key: str) -> bytes:
        """The name of the key group of a (namespace, key)."""
        return digest(encoded(namespace), encoded(key))

    def group(self, name: bytes) -> bytes:
        """The Redis key of a key group."""
        return self._prefix + b":{" + name + b"}"

    def lease(self, name: bytes) -> bytes:
        """The Redis key of a key group's lease, in the slot of the group."""
        return self.group(name) + b":lease"


def digest(*parts: bytes, size: int = 16) -> bytes:
    """A name of fixed length for text of any length; no choice of text makes two names meet."""
    hashed = hashlib.blake2b(digest_size=size)
    for part in parts:
        hashed.update(b"%d:" % len(part) + part)
    return hashed.hexdigest().encode()


def short_digest(text: str) -> bytes:
    """16 characters that stand before handles: for the hash of a request, or for an embedder."""
    return digest(encoded(text), size=8)


def group_of(handle: bytes) -> bytes:
    """The name of the key group that a listed row stands in."""
    return handle[16:HEAD]


def id_of(handle: bytes) -> str:
    """The id of a listed row."""
    return decoded(handle[HEAD:])


def is_reserved(handle: bytes) -> bool:
    """Whether an id has no listed row yet: it was reserved by an intent."""
    return handle.startswith(_NO_PLACE)
