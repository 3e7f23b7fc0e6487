"""Row operations of one writing SQL transaction, in as few statements as a batch allows; the caller holds it.

Namespaces, ids, keys and embedders are in the form of `columns.keep` here.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from exp_pool.core.contracts.plugs import Completion, Evicted, EvictionOrder, Lease, Put, PutMode, PutStatus
from exp_pool.core.record import Record, Vector
from exp_pool.runtime.clock import now_us
from exp_pool.stores.columns import COLUMNS, NAMES, checksum, keep, restore, to_row
from exp_pool.stores.rules import CONTENT, decide, to_history
from exp_pool.stores.sql.dialect import Connection, Dialect, marks

Ref: TypeAlias = tuple[str, str]  # namespace and id, or key
Scope: TypeAlias = tuple[str, str, str]  # function, version and reuse scope

_STORED = f"SELECT checksum, {NAMES} FROM experiences WHERE namespace = ? AND id = ?"
_UPDATE = (
    f"UPDATE experiences SET {', '.join(f'{name} = ?' for name in CONTENT)}, checksum = ?, revision = revision + 1 "
    "WHERE namespace = ? AND id = ? AND revision = ?"
)
_TO_HISTORY = (
    "UPDATE experiences SET is_current = 0, superseded_by = ?, revision = revision + 1, embed_due = NULL, "
    "score_due = NULL WHERE namespace = ? AND id = ?"
)
_IS_CURRENT, _KEY = COLUMNS.index("is_current"), COLUMNS.index("key")
_CONTENT_AT = tuple(COLUMNS.index(name) for name in CONTENT)
_SEQUENCE = "seq"  # a column of this name is filled by the engine


@functools.cache
def _new_row(listed: str) -> str:
    names = [NAMES, "checksum", *([] if listed == _SEQUENCE else [listed])]
    return f"INSERT INTO experiences ({', '.join(names)}) VALUES ({marks(len(COLUMNS) + len(names) - 1)})"


def _once_each(completions: Sequence[Completion]) -> Iterator[tuple[str, dict[Ref, Completion]]]:
    """Completions in their order, grouped so that a group is about one task and has each row once."""
    for task, group in itertools.groupby(completions, lambda completion: completion.task.value):
        some: dict[Ref, Completion] = {}
        for completion in group:
            ref = (keep(completion.namespace), keep(completion.id))
            if ref in some:
                yield task, some
                some = {}
            some[ref] = completion
        yield task, some


def by_namespace(refs: Iterable[Ref]) -> dict[str, list[str]]:
    """Group ids or keys by their namespaces."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for namespace, ref in refs:
        found[namespace].append(ref)
    return found


class Rows:
    """The rows of one transaction.

    Args:
        connection: in a transaction that writes.
        dialect: of its engine.
        compress_above: see `columns.to_row`.
    """

    def __init__(self, connection: Connection, dialect: Dialect, compress_above: int | None) -> None:
        self._connection = connection
        self._dialect = dialect
        self._compress_above = compress_above

    def alone(self, namespaces: Iterable[str]) -> None:
        """Lock these namespaces against other writers until the transaction ends. To be called first."""
        for namespace in sorted(set(namespaces)):
            self._dialect.alone(self._connection, namespace)

    # Vectors

    def set_vectors(self, vectors: dict[Ref, tuple[Vector, Scope]]) -> None:
        """Store vectors at new positions. Those of another embedder are erased first: their readers learn of it."""
        if not vectors:
            return
        known = self._embedders(vectors)
        self.forget_vectors([ref for ref, embedder in known.items() if embedder != keep(vectors[ref][0].embedder)])
        columns: tuple[str, ...] = ("embedder", "whole", "position", "data")
        columns += ('"function"', "version", "reuse_scope") if self._dialect.scoped else ()
        columns += ("embedding",) if self._dialect.embedding else ()
        rows: list[list[object]] = []
        for (ref, (vector, scope)), position in zip(vectors.items(), self._positions(vectors), strict=True):
            row = [*ref, keep(vector.embedder), int(vector.whole), position, vector.values]
            row += scope if self._dialect.scoped else ()
            row += [self._dialect.embedding(vector.values)] if self._dialect.embedding else []
            rows.append(row)
        self._connection.executemany(self._dialect.upsert("vectors", ("namespace", "id"), columns), rows)

    def forget_vectors(self, refs: Sequence[Ref]) -> None:
        """Erase vectors; readers of vectors learn of it at new positions."""
        held = self._embedders(refs)
        if not held:
            return
        now = now_us()
        rows = [
            (position, namespace, embedder, id_, now)
            for ((namespace, id_), embedder), position in zip(held.items(), self._positions(held), strict=True)
        ]
        self._connection.executemany("DELETE FROM vectors WHERE namespace = ? AND id = ?", list(held))
        self._connection.executemany(
            "INSERT INTO forgotten (position, namespace, embedder, id, forgotten_at) VALUES (?, ?, ?, ?, ?)", rows
        )

    def _embedders(self, refs: Iterable[Ref]) -> dict[Ref, str]:
        """The embedders of the vectors that these rows have; rows without a vector are left out."""
        found: dict[Ref, str] = {}
        for namespace, ids in by_namespace(refs).items():
            statement = f"SELECT id, embedder FROM vectors WHERE namespace = ? AND id IN ({marks(len(ids))})"
            rows = self._connection.execute(statement, (namespace, *ids)).fetchall()
            found |= {(namespace, id_): embedder for id_, embedder in rows}
        return found

    def _positions(self, refs: Iterable[Ref]) -> list[int]:
        """A new position for each of these rows, in their order."""
        counts = {namespace: len(ids) for namespace, ids in by_namespace(refs).items()}
        numbers = {
            namespace: itertools.count(self._dialect.draw(self._connection, namespace, count))
            for namespace, count in counts.items()
        }
        return [next(numbers[namespace]) for namespace, _ in refs]

    # Writing

    def put(self, puts: Sequence[Put]) -> list[PutStatus]:
        """See `protocols.RecordStore.put_many`."""
        self.alone(keep(put.record.namespace) for put in puts)
        statuses: list[PutStatus] = []
        for update, group in itertools.groupby(puts, lambda put: put.mode is PutMode.UPDATE):
            some = list(group)
            statuses += [self._update(put) for put in some] if update else self._insert(some)
        return statuses

    def _update(self, put: Put) -> PutStatus:
        """Replace a row's content, if it still has the expected revision."""
        row = to_row(put.record, self._compress_above)
        ref = (keep(put.record.namespace), keep(put.record.id))
        found = self._connection.execute(_STORED, ref).fetchone()
        if found is None:
            return PutStatus.CONFLICT
        stored = found[1:]
        changed = [row[at] if at in _CONTENT_AT else value for at, value in enumerate(stored)]
        content = (row[position] for position in _CONTENT_AT)
        values = (*content, checksum(changed), *ref, put.expected_revision)
        if not self._connection.execute(_UPDATE, values).rowcount:
            return PutStatus.CONFLICT
        self._dialect.announce(self._connection, ref[0], [stored[_KEY]])
        return PutStatus.CURRENT if stored[_IS_CURRENT] else PutStatus.HISTORY

    def _insert(self, puts: Sequence[Put]) -> list[PutStatus]:
        """Decide row by row, seeing the batch's earlier rows; then write all of them."""
        places = [(keep(put.record.namespace), keep(put.record.id), keep(put.record.key)) for put in puts]
        taken, current = self._present(places)
        buried = self._buried([place for put, place in zip(puts, places, strict=True) if put.mode is PutMode.REPLICATE])
        new: dict[Ref, Record] = {}
        vectors: dict[Ref, tuple[Vector, Scope]] = {}
        left: dict[Ref, str] = {}  # rows that become history, and which ones follow them
        statuses = []
        for put, (namespace, id_, key) in zip(puts, places, strict=True):
            ref, record, refused = (namespace, id_), put.record, None
            if put.mode is PutMode.REPLICATE and (
                ref in buried or record.created_at <= buried.get((namespace, ""), -1)
            ):
                refused = PutStatus.DELETED
            elif ref in taken:
                refused = PutStatus.CONFLICT
            if put.lease is not None and not (self._holds if refused else self._give_back)(put.lease):
                status = PutStatus.STALE
            elif refused:
                status = refused
            else:
                other, annotated = current.get((namespace, key), (None, False))
                if annotated and (namespace, other) not in new:
                    annotated = self._sound((namespace, str(other)))
                decision = decide(put, None if other is None else restore(other), annotated=annotated)
                status = decision.status
                if decision.supersedes is not None:
                    was = (namespace, str(other))
                    vectors.pop(was, None)
                    if was in new:
                        new[was] = to_history(new[was], record.id)
                    else:
                        left[was] = id_
                new[ref] = decision.record
                taken.add(ref)
                buried.pop(ref, None)
                if status is PutStatus.CURRENT:
                    current[namespace, key] = (id_, record.annotated)
                    if put.vector is not None:
                        vectors[ref] = (put.vector, (keep(record.function), keep(record.version), record.reuse_scope))
            statuses.append(status)
        self.store(new, vectors, left)
        return statuses

    def _present(self, places: Sequence[tuple[str, str, str]]) -> tuple[set[Ref], dict[Ref, tuple[str, bool]]]:
        """Which of these ids are taken; and by key, which row is current, and whether it is annotated."""
        taken, current = set(), {}
        ids = by_namespace((namespace, id_) for namespace, id_, _ in places)
        keys = by_namespace((namespace, key) for namespace, _, key in places)
        for namespace in ids:
            some, others = ids[namespace], keys[namespace]
            rows = self._connection.execute(
                'SELECT id, "key", is_current, expected IS NOT NULL FROM experiences '
                f"WHERE (namespace = ? AND id IN ({marks(len(some))})) "
                f'OR (namespace = ? AND "key" IN ({marks(len(others))}) AND is_current = 1){self._dialect.lock}',
                (namespace, *some, namespace, *others),
            ).fetchall()
            for id_, key, is_current, annotated in rows:
                taken.add((namespace, id_))
                if is_current:
                    current[namespace, key] = (id_, bool(annotated))
        return taken, current

    def _buried(self, places: Sequence[tuple[str, str, str]]) -> dict[Ref, int]:
        """When each of these ids was deleted; under the id ``""``, when the namespace was cleared."""
        buried: dict[Ref, int] = {}
        for namespace, ids in by_namespace((namespace, id_) for namespace, id_, _ in places).items():
            statement = f"SELECT id, deleted_at FROM tombstones WHERE namespace = ? AND id IN ({marks(len(ids))})"
            rows = self._connection.execute(statement, (namespace, *ids)).fetchall()
            buried |= {(namespace, id_): at for id_, at in rows}
            cleared = self._connection.execute(
                "SELECT cleared_at FROM cutoffs WHERE namespace = ?", (namespace,)
            ).fetchone()
            if cleared is not None:
                buried[namespace, ""] = cleared[0]
        return buried

    def _holds(self, lease: Lease) -> bool:
        statement = 'SELECT token FROM leases WHERE namespace = ? AND "key" = ?'
        found = self._connection.execute(statement, (keep(lease.namespace), keep(lease.key))).fetchone()
        return found is not None and found[0] == lease.token

    def _give_back(self, lease: Lease) -> bool:
        mine = (keep(lease.namespace), keep(lease.key), lease.token)
        statement = 'DELETE FROM leases WHERE namespace = ? AND "key" = ? AND token = ?'
        return self._connection.execute(statement, mine).rowcount == 1

    def _sound(self, ref: Ref) -> bool:
        """Whether the row's checksum is right: a damaged row answers nothing, so it does not outrank a new one."""
        check, *row = self._connection.execute(_STORED, ref).fetchone()
        return check is None or check == checksum(row)

    def store(
        self,
        new: dict[Ref, Record],
        vectors: dict[Ref, tuple[Vector, Scope]],
        left: dict[Ref, str] | None = None,
    ) -> None:
        """Store rows that are not there.

        Args:
            new: the rows, as they are to be stored.
            vectors: those that some of them have.
            left: rows that become history, and the ids of those that follow them.
        """
        if left:  # before the rows that follow them: one is current at any moment
            self._connection.executemany(_TO_HISTORY, [(successor, *ref) for ref, successor in left.items()])
            self.forget_vectors(list(left))
            followed = ((namespace, keep(new[namespace, id_].key)) for (namespace, _), id_ in left.items())
            for namespace, keys in by_namespace(followed).items():
                self._dialect.announce(self._connection, namespace, keys)
        if not new:
            return
        rows: list[list[object]] = []
        for record in new.values():
            row = to_row(record, self._compress_above)
            rows.append([*row, checksum(row)])
        if self._dialect.listed != _SEQUENCE:
            for row, listed in zip(rows, self._positions(new), strict=True):
                row.append(listed)
        self._connection.executemany(_new_row(self._dialect.listed), rows)
        for namespace, ids in by_namespace(new).items():
            self._connection.execute(
                f"DELETE FROM tombstones WHERE namespace = ? AND id IN ({marks(len(ids))})", (namespace, *ids)
            )
        self.set_vectors(vectors)

    # Deleting

    def delete(self, namespace: str, ids: Sequence[str]) -> list[str]:
        """Delete rows and their vectors, without tombstones; the ids of the rows that were there."""
        if not ids:
            return []
        self.alone([namespace])
        there = self._connection.execute(
            f'SELECT id, "key" FROM experiences WHERE namespace = ? AND id IN ({marks(len(ids))}){self._dialect.lock}',
            (namespace, *ids),
        ).fetchall()
        refs = [(namespace, id_) for id_, _ in there]
        if refs:
            self._connection.executemany("DELETE FROM experiences WHERE namespace = ? AND id = ?", refs)
            self.forget_vectors(refs)
            self._dialect.announce(self._connection, namespace, [key for _, key in there])
        return [id_ for id_, _ in there]

    def apply_tombstones(self, namespace: str, deleted: Iterable[tuple[str, int]]) -> None:
        """Remember that these ids were deleted, and when."""
        statement = self._dialect.upsert("tombstones", ("namespace", "id"), ("deleted_at",))
        self._connection.executemany(statement, [(namespace, id_, at) for id_, at in deleted])

    def set_cleared_at(self, namespace: str, at: int) -> None:
        """Remember when the namespace was cleared, unless it was cleared later."""
        latest = f"{self._dialect.greatest}({{old}}, {{new}})"
        statement = self._dialect.upsert("cutoffs", ("namespace",), ("cleared_at",), cleared_at=latest)
        self._connection.execute(statement, (namespace, at))

    def evict(self, namespace: str, order: EvictionOrder, count: int) -> list[Evicted]:
        """See `protocols.RecordStore.evict`."""
        self.alone([namespace])
        now, values = self._dialect.now()
        rows = self._connection.execute(
            'SELECT id, "function", "key", size_bytes FROM experiences '
            "WHERE namespace = ? AND expected IS NULL AND origin <> 'manual' AND kind <> 'insight' "
            f"ORDER BY (expires_at IS NULL OR expires_at > {now}), is_current, {_EVICTION_ORDER[order]}, seq "
            f"LIMIT ?{self._dialect.lock}",
            (namespace, *values, count),
        ).fetchall()
        self.delete(namespace, [id_ for id_, *_ in rows])
        return [Evicted(restore(id_), restore(function), restore(key), size) for id_, function, key, size in rows]

    # Maintenance

    def settle(self, completions: Sequence[Completion]) -> None:
        """See `protocols.RecordStore.complete_many`."""
        self.alone(keep(completion.namespace) for completion in completions)
        for task, some in _once_each(completions):
            owing: dict[Ref, Scope] = {}
            for namespace, ids in by_namespace(some).items():
                rows = self._connection.execute(
                    'SELECT id, "function", version, reuse_scope FROM experiences '
                    f"WHERE namespace = ? AND id IN ({marks(len(ids))}) "
                    f"AND is_current = 1 AND {task}_due IS NOT NULL{self._dialect.lock}",
                    (namespace, *ids),
                ).fetchall()
                owing |= {(namespace, id_): tuple(scope) for id_, *scope in rows}
            changes = [
                (
                    None if some[ref].done else some[ref].retry_at,
                    0 if some[ref].done else 1,
                    int(not some[ref].done),
                    *ref,
                )
                for ref in owing
            ]
            statement = f"UPDATE experiences SET {task}_due = ?, {task}_tries = {task}_tries * ? + ? "
            self._connection.executemany(f"{statement} WHERE namespace = ? AND id = ?", changes)
            found = {ref: (vector, owing[ref]) for ref in owing if (vector := some[ref].vector) is not None}
            self.set_vectors(found)


_EVICTION_ORDER = {
    EvictionOrder.LRU: "coalesce(last_access, created_at)",
    EvictionOrder.LFU: "access_count, coalesce(last_access, created_at)",
    EvictionOrder.FIFO: "created_at",
    EvictionOrder.TTL: "(expires_at IS NULL), coalesce(expires_at, created_at)",
}
