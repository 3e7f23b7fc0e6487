"""Deleter of experiences: by id, key or conditions, what has expired, and (`erase`) without a trace on the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loguru import logger

from exp_pool.api.namespaces import Namespaces
from exp_pool.calls.request import KeyOfCall
from exp_pool.calls.store_result import failure_key
from exp_pool.core.contracts.plugs import RecordQuery, RecordStore
from exp_pool.core.contracts.rows import logs_of
from exp_pool.core.filters import Condition, parse_where
from exp_pool.errors import InvalidInputError, StoreError, VectorIndexError
from exp_pool.maintenance.index_sync import IndexSync
from exp_pool.maintenance.outcomes import Outcomes
from exp_pool.runtime.clock import now_us
from exp_pool.runtime.notices import Notices
from exp_pool.runtime.switches import PoolSwitches
from exp_pool.stores.journal import Journal

_DELETE_BATCH = 500


@dataclass(kw_only=True, eq=False)
class Deleter:
    """Deletes experiences of one pool; see `ExpManager` for what each method does."""

    store: RecordStore  # where they live
    opened: RecordStore  # the same as it was opened, which may have files set aside
    switches: PoolSwitches  # whether anything may be deleted
    namespaces: Namespaces  # whose are meant
    notices: Notices  # for what a developer should act on
    index_sync: IndexSync  # takes deleted rows from the index
    outcomes: Outcomes  # forgets what was said about deleted rows
    lease_timeout_s: float  # of the journal of changes

    def delete(self, id_: str) -> bool:
        """Delete an experience. Returns whether it was there."""
        return bool(self._delete([id_]))

    def delete_where(self, where: Mapping[str, Any]) -> int:
        """Delete the current experiences that meet all conditions. Returns how many."""
        if not where:
            raise InvalidInputError("delete_exps needs conditions; delete_all_exps() deletes everything")
        return self.delete_matching(RecordQuery(self.namespaces.of(), parse_where(where)))

    def delete_all(self) -> int:
        """Delete everything in the manager's namespace, history too. Returns the number of rows."""
        self.switches.check_writable()
        space = self.namespaces.of()
        deleted = self.store.clear(space)
        self.outcomes.forget(space)
        try:
            self.index_sync.clear(space)
        except VectorIndexError as err:
            logger.warning("the index keeps deleted rows, which the join drops: {}", err)
        return deleted

    def erase(self, where: Mapping[str, Any]) -> int:
        """Delete what meets all conditions, history too, and leave no byte of it on disk. Returns how many rows."""
        if not where:
            raise InvalidInputError("erase needs conditions, such as {'function': 'ask'} or {'id': '...'}")
        conditions = parse_where(where)
        erased = self.delete_matching(RecordQuery(self.namespaces.of(), conditions, history=True))
        self._drop_logs(self.namespaces.of(), self._journal().erase(conditions))
        self.store.vacuum()
        unreadable = self.store.check()
        try:
            self.index_sync.clear(self.namespaces.of())  # built anew from what is left
        except VectorIndexError as err:
            raise VectorIndexError(
                f"erased from the store, but the index keeps vectors of what was erased: {err}; erase again, with the "
                "same conditions, when no other process has the pool open"
            ) from err
        if unreadable:
            raise StoreError(
                f"{erased} rows were erased, but what is damaged cannot be told from what was to be erased: "
                f"{unreadable[0]}. Then erase again"
            )
        self._warn_of_copies()
        return erased

    def _warn_of_copies(self) -> None:
        copies = [str(path) for path in getattr(self.opened, "set_aside", list)()]
        if copies:
            self.notices.warn_once(
                f"copies:{copies}",
                f"erased, but files that were set aside may still hold it; remove them: {', '.join(copies)}",
            )

    def delete_expired(self) -> int:
        """Delete what has expired. Returns how many."""
        due = Condition("expires_at", "", "lte", now_us())
        return self.delete_matching(RecordQuery(self.namespaces.of(), (due,), history=True))

    def delete_by_key(self, key: str) -> int:
        """Delete what is stored under a key (``.key()`` of a decorated function), history too. Returns how many."""
        space = key.namespace if isinstance(key, KeyOfCall) else self.namespaces.of()
        return self.delete_matching(RecordQuery(space, parse_where({"key": str(key)}), history=True))

    def delete_call(self, namespace: str, key: str) -> int:
        """Delete what is stored of a call in its namespace, history and failures too. Returns the number of rows."""
        both = parse_where({"key": {"in": [key, failure_key(key)]}})
        return self.delete_matching(RecordQuery(namespace, both, history=True))

    def forget_change(self, id_: str) -> int:
        """Drop what a change needs to be undone. Returns how many deleted experiences are gone for good."""
        self.switches.check_writable()
        gone = self._journal().forget(id_)
        self._drop_logs(self.namespaces.of(), gone)
        return len(gone)

    def delete_matching(self, query: RecordQuery) -> int:
        """Delete the rows that a query finds. Returns how many."""
        self.switches.check_writable()
        assert query.namespace is not None
        ids = [record.id for record in self.store.scan(query)]
        return sum(
            len(self._delete(ids[start : start + _DELETE_BATCH], query.namespace))
            for start in range(0, len(ids), _DELETE_BATCH)
        )

    def _journal(self) -> Journal:
        return Journal(self.store, self.namespaces.of(), self.lease_timeout_s)

    def _delete(self, ids: Sequence[str], namespace: str | None = None) -> list[str]:
        self.switches.check_writable()
        space = self.namespaces.of(namespace)
        deleted = self.store.delete_many(space, ids)
        self._drop_logs(space, deleted)
        return deleted

    def _drop_logs(self, space: str, ids: Sequence[str]) -> None:
        if ids:
            self.store.drop_logs(space, logs_of(ids))
