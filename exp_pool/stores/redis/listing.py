"""The listing of a namespace: brought up to date after each write, and completed where a client died before it did so.

The listing never runs ahead of the rows, and never goes back: it knows the version of each key group that it shows,
takes the changes of only the very next version, and otherwise has to be told every row of the group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from exp_pool.runtime.clock import now_us
from exp_pool.stores.redis.key_group import KeyGroup
from exp_pool.stores.redis.keys import HEAD, LISTED, Keys, Listing
from exp_pool.stores.redis.packed import decoded, encoded, load
from exp_pool.stores.redis.scripts import LIST, run
from exp_pool.stores.redis.server import Command, Server

T = TypeVar("T")

PAGE = 500  # key groups changed, or rows read, in one round trip
# A swap comes at most so long after its intent, and an intent is taken for left behind after twice that: what lies
# between is how far the clocks of two masters may be apart.
LATE_US, LEFT_BEHIND_US = 30 * 10**6, 60 * 10**6
_RECOVERED_AT_ONCE = 100
ANY_STAMP = b"*"


class Intent(NamedTuple):
    """An announced change of a key group: all that is needed to complete it, or to take it back."""

    group: bytes  # its name
    # Ids of rows that may be gone -> the stamp of the row that was removed; b"": there was none, only a reservation.
    gone: Mapping[str, bytes]
    tombstones: bool = False  # whether rows that are gone leave tombstones
    stored: bytes = b""  # the intent as it stands in the namespace's slot; b"": it was not announced

    @classmethod
    def read(cls, stored: bytes) -> Intent:
        """An intent that was found."""
        _, tombstones, group, ids = load(stored)
        return cls(group.encode(), dict.fromkeys(ids, ANY_STAMP), bool(tombstones), stored)


class ListedChange(NamedTuple):
    """What became of a key group."""

    intent: Intent  # with the rows that are gone
    before: bytes  # the version that the listing must have; b"": any, as every row of the group is among `rows`
    version: bytes  # of the group, now
    left: object  # how many rows the group has; "" where that is not known
    rows: Sequence[tuple[int, tuple[object, ...]]]  # those that changed: place in the batch, `KeyGroup.listed_as`


class Listings:
    """The listings of all namespaces of a pool."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys

    def update(self, changes: Mapping[str, Sequence[ListedChange]]) -> None:
        """Show what a batch changed, by namespace, in one round trip unless another client was in the way."""
        commands = [self._list(namespace, some, 0) for namespace, some in changes.items()]
        for (namespace, some), missed in zip(changes.items(), self._server.pipeline(commands), strict=True):
            wanted = set(missed)
            self.recover(namespace, [c.intent for c in some if c.intent.group in wanted], older_than_us=0)

    def _list(self, namespace: str, changes: Sequence[ListedChange], older_than_us: int) -> Command:
        values: list[object] = [older_than_us, len(changes)]
        for (group, gone, tombstones, stored), before, version, left, _ in changes:
            stamps = [part for id_, stamp in gone.items() for part in (encoded(id_), stamp)]
            values += [group, before, version, stored, "d" if tombstones else "", left, len(gone), *stamps]
        rows = sorted((row for change in changes for row in change.rows), key=lambda row: row[0])
        return run(LIST, self._keys.listing(namespace)[:LISTED], *values, *(value for _, row in rows for value in row))

    def recover(self, namespace: str, intents: Iterable[Intent], *, older_than_us: int | None = None) -> None:
        """Complete or take back changes: list their key groups as they are now.

        Readers call this for intents that they meet and whose client must be dead, the doctor for groups that are
        listed wrong, and writers for groups that other clients changed between their own write and its listing.

        Args:
            namespace: of all the groups.
            intents: what was announced, or what is wrong.
            older_than_us: microseconds; younger intents stay, as their clients may be about to write. By default as
                long as it takes to be sure that they are not.
        """
        age = LEFT_BEHIND_US if older_than_us is None else older_than_us

        def attempt(left: list[Intent]) -> list[Intent]:
            read = self._server.pipeline([("HGETALL", self._keys.group(intent.group)) for intent in left])
            changes = [_whole(intent, fields) for intent, fields in zip(left, read, strict=True)]
            missed = set(self._server.call(*self._list(namespace, changes, age)))
            return [intent for intent in left if intent.group in missed]

        for page in pages(list(intents)):
            self._server.until_done(attempt, page)

    def _left_behind(self, namespace: str) -> Command:
        """The command that asks for intents whose clients must be dead; what it gives is for `Intent.read`."""
        old = f"({now_us() - LEFT_BEHIND_US}"
        return ("ZRANGEBYSCORE", self._keys.listing(namespace).marks, "-inf", old, "LIMIT", 0, _RECOVERED_AT_ONCE)

    def ask(self, namespace: str, *commands: Command) -> list[Any]:
        """Replies about a namespace's listing, which shows everything that was ever written."""
        return self.ask_each([namespace], lambda _: commands)[namespace]

    def ask_each(
        self, namespaces: Sequence[str], commands_of: Callable[[Listing], Sequence[Command]]
    ) -> dict[str, list[Any]]:
        """Replies about the listings of several namespaces, in one round trip; in a second one after a recovery."""
        found: dict[str, list[Any]] = {}
        left = list(namespaces)
        for recovering in (True, False):  # once: to a clock that is fast, intents look old that the server keeps
            asking = {name: (self._left_behind(name), *commands_of(self._keys.listing(name))) for name in left}
            replies = iter(self._server.pipeline([command for commands in asking.values() for command in commands]))
            left = []
            for name, commands in asking.items():
                intents, *found[name] = [next(replies) for _ in commands]
                if intents and recovering:
                    self.recover(name, map(Intent.read, intents))
                    left.append(name)
        return found

    def namespaces(self) -> list[str]:
        """Every namespace that anything was ever written to, in order."""
        return sorted(decoded(raw) for raw in self._server.call("SMEMBERS", self._keys.namespaces))

    def handles_of(self, namespace: str, ids: Iterable[str]) -> dict[str, bytes]:
        """The handles of the rows of these ids; see `is_reserved` for rows that are not there yet."""
        found: dict[str, bytes] = {}
        at = self._keys.listing(namespace).ids
        for page in pages(list(dict.fromkeys(ids))):
            entries = self._server.call("HMGET", at, *map(encoded, page))
            found |= {id_: raw[:HEAD] + encoded(id_) for id_, raw in zip(page, entries, strict=True) if raw is not None}
        return found

    def recover_left_behind(self, namespace: str) -> bool:
        """Recover what clients left behind; whether there was anything."""
        found = self._server.call(*self._left_behind(namespace))
        self.recover(namespace, map(Intent.read, found))
        return bool(found)


def _whole(intent: Intent, fields: dict[bytes, bytes]) -> ListedChange:
    """A key group as it is: what the intent names is gone only if it is not there."""
    group = KeyGroup.whole(intent.group, fields)
    gone = {id_: stamp for id_, stamp in intent.gone.items() if group.find(id_) is None}
    left = len(fields.keys() - {b"v", b"o"})
    rows = [(-1, group.listed_as(stored)) for stored in group.rows()]
    return ListedChange(intent._replace(gone=gone), b"", group.version, left, rows)


def pages(items: Sequence[T]) -> Iterator[list[T]]:
    """Pieces of as many items as go into one round trip."""
    for start in range(0, len(items), PAGE):
        yield list(items[start : start + PAGE])
