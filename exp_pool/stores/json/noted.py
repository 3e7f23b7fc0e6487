"""Tables that tell what changes about them as lines for the journal, and take over what others told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from exp_pool.core.contracts.plugs import IndexPartition, Lease, LogEntry, State, VectorRow
from exp_pool.core.record import Vector
from exp_pool.runtime.clock import now_us
from exp_pool.stores.json.journal import Growing
from exp_pool.stores.tables import Ref, Tables

_KEEP_LEASES_US = 3600 * 10**6  # after their end: whoever holds one may still renew it if nobody took it


class Noted(NamedTuple):
    """What the journal says about a row: which content it had, and how it was used since."""

    digest: str
    revision: int
    size_bytes: int
    request_hash: str
    last_access: int | None
    access_count: int
    embed_due: int | None
    embed_tries: int
    score_due: int | None
    score_tries: int

    def use(self) -> dict[str, Any]:
        """The columns that are not in the file and have nothing to do with its content."""
        return {name: getattr(self, name) for name in USE}


USE = Noted._fields[Noted._fields.index("last_access") :]


class NotedTables(Tables):
    """Tables with a line for each change in `_lines`; not for rows: what is noted of these depends on their files."""

    def __init__(self) -> None:
        self._growing = Growing()
        super().__init__()

    def _start_empty(self) -> None:
        super()._start_empty()
        self._positions = self._tokens = self._log_positions = self._growing
        self._noted: dict[Ref, Noted] = {}  # in the order in which the rows were inserted
        self._forget_pending()

    def _forget_pending(self) -> None:
        self._lines: list[list[Any]] = []
        self._sync = False  # one of them may not be lost by a power cut

    # Lines of others

    def _apply(self, entry: list[Any]) -> None:
        """What another process changed, or this one in a former life."""
        match entry:
            case ["row", namespace, id_, None]:
                self._drop_known((namespace, id_))
            case ["row", namespace, id_, *values]:
                self._noted[namespace, id_] = noted = Noted(*values)
                if (namespace, id_) in self._rows:
                    self._rows[namespace, id_] = replace(self._rows[namespace, id_], **noted.use())
            case ["vector", namespace, id_, function, version, scope, position, embedder, whole, values]:
                vector = Vector(embedder, values, whole)
                super()._place_vector(VectorRow(id_, namespace, function, version, scope, position, vector))
                self._growing.saw(position)
            case ["gone", namespace, id_, function, version, scope, position, embedder, at]:
                gone = VectorRow(id_, namespace, function, version, scope, position, None)
                self._vectors.pop((namespace, id_), None)
                self._forgotten[IndexPartition(namespace, embedder)].append((gone, at))
                self._position = position
                self._growing.saw(position)
            case ["tombstone", namespace, id_, None]:
                self._tombstones.pop((namespace, id_), None)
            case ["tombstone", namespace, id_, at]:
                self._tombstones[namespace, id_] = at
            case ["cutoff", namespace, at]:
                self._cutoffs[namespace] = at
            case ["lease", namespace, key]:
                self._leases.pop((namespace, key), None)
            case ["lease", namespace, key, owner, token, expires_at]:
                self._leases[namespace, key] = Lease(namespace, key, owner, token, expires_at)
                self._growing.saw(token)
            case ["state", namespace, name, value, revision]:
                self._states[namespace, name] = State(value, revision)
            case ["log", namespace, name, None]:
                self._logs.pop((namespace, name), None)
            case ["log", namespace, name, entries]:
                self._logs[namespace, name] += [LogEntry(*each) for each in entries]
                self._growing.saw(entries[-1][0])
            case ["tidied", at]:
                super().tidy(at)
            case _:
                raise ValueError(entry[0])

    def _drop_known(self, ref: Ref) -> None:
        """Another process removed the row and its file, and has told its vector's readers."""
        self._noted.pop(ref, None)
        row = self._rows.pop(ref, None)
        self._unlist(ref)
        if row is None:
            return
        if self._current.get((row.namespace, row.key)) == row.id:
            del self._current[row.namespace, row.key]
        self._by_request[row.namespace, row.request_hash].pop(row.id, None)

    # Lines of our own

    def _row_line(self, ref: Ref) -> list[Any]:
        noted = self._noted.get(ref)
        return ["row", *ref, None] if noted is None else ["row", *ref, *noted]

    def _all_lines(self) -> list[list[Any]]:
        """What a journal has to say from its start; nothing is pending."""
        alive = now_us() - _KEEP_LEASES_US
        forgotten = [(space, gone, at) for space, rows in self._forgotten.items() for gone, at in rows]
        moves = [_vector_line(row) for row in self._vectors.values()] + [_gone_line(*each) for each in forgotten]
        lines = [self._row_line(ref) for ref in self._noted]
        lines += sorted(moves, key=_position_of)  # a vector that came back was forgotten before
        lines += [["tombstone", *ref, at] for ref, at in self._tombstones.items()]
        lines += [["cutoff", namespace, at] for namespace, at in self._cutoffs.items()]
        lines += [_lease_line(lease) for lease in self._leases.values() if lease.expires_at > alive]
        lines += [["state", *ref, *state] for ref, state in self._states.items()]
        lines += [["log", *ref, [list(entry) for entry in log]] for ref, log in self._logs.items() if log]
        return lines

    def _say(self, *line: Any, sync: bool = False) -> None:
        self._lines.append(list(line))
        self._sync |= sync

    def _place_vector(self, row: VectorRow) -> None:
        super()._place_vector(row)
        self._say(*_vector_line(row))

    def _displace_vector(self, space: IndexPartition, gone: VectorRow, at: int) -> None:
        super()._displace_vector(space, gone, at)
        self._say(*_gone_line(space, gone, at))

    def _set_tombstone(self, ref: Ref, at: int) -> None:
        super()._set_tombstone(ref, at)
        self._say("tombstone", *ref, at, sync=True)

    def _drop_tombstone(self, ref: Ref) -> None:
        super()._drop_tombstone(ref)
        self._say("tombstone", *ref, None)

    def _set_cutoff(self, namespace: str, at: int) -> None:
        super()._set_cutoff(namespace, at)
        self._say("cutoff", namespace, at, sync=True)

    def _set_lease(self, lease: Lease) -> None:
        super()._set_lease(lease)
        self._say(*_lease_line(lease))

    def _drop_lease(self, ref: Ref) -> None:
        super()._drop_lease(ref)
        self._say("lease", *ref)

    def _set_state(self, ref: Ref, state: State) -> None:
        super()._set_state(ref, state)
        self._say("state", *ref, *state, sync=True)

    def _extend_log(self, ref: Ref, entries: list[LogEntry]) -> None:
        super()._extend_log(ref, entries)
        self._say("log", *ref, [list(entry) for entry in entries], sync=True)

    def _drop_log(self, ref: Ref) -> None:
        super()._drop_log(ref)
        self._say("log", *ref, None, sync=True)


def _vector_line(row: VectorRow) -> list[Any]:
    assert row.vector is not None
    scope = (row.namespace, row.id, row.function, row.version, row.reuse_scope)
    return ["vector", *scope, row.position, row.vector.embedder, row.vector.whole, row.vector.values]


def _gone_line(space: IndexPartition, gone: VectorRow, at: int) -> list[Any]:
    scope = (gone.namespace, gone.id, gone.function, gone.version, gone.reuse_scope)
    return ["gone", *scope, gone.position, space.embedder, at]


def _lease_line(lease: Lease) -> list[Any]:
    return ["lease", lease.namespace, lease.key, lease.owner, lease.token, lease.expires_at]


_POSITION = 6  # in both kinds of lines


def _position_of(line: list[Any]) -> int:
    return int(line[_POSITION])
