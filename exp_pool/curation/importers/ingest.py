"""Batched writes of imported experiences: new ones are inserted, what the pool has stays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from exp_pool.core.contracts.plugs import Put, PutMode, PutStatus
from exp_pool.core.contracts.rows import audit_log
from exp_pool.core.experience import Experience, ExperienceKind, Origin, Trust
from exp_pool.core.record import Record, to_record
from exp_pool.core.values.encoding import json_dumps
from exp_pool.core.values.redaction import redacted
from exp_pool.curation.importers.report import ImportReport
from exp_pool.curation.importers.types import Imported
from exp_pool.curation.portable import PortableRow, derived_key
from exp_pool.errors import ExpPoolError
from exp_pool.stores.lineage import with_inherited_trust
from exp_pool.stores.pages import audit_entries

if TYPE_CHECKING:
    from exp_pool.api.pool import Pool

_BATCH, _BATCH_BYTES = 500, 16 * 2**20  # whichever comes first: rows may have megabytes each
_OF_CONTENT = ("response", "expected", "kind", "model")  # with the key: what makes the id of a stranger's experience
# Rows of a pool are the same if these are, too: what neither an import nor use changes.
_SUBSTANCE = (*_OF_CONTENT, "function", "version", "key", "arguments", "request", "codec", "metadata")


class _PendingRow(NamedTuple):
    where: str
    row: PortableRow
    of_a_pool: bool


class Ingester:
    """Writes imported experiences into the pool's namespace, in batches. `finish` writes the rest."""

    def __init__(self, pool: Pool, report: ImportReport, trust: Trust, *, revive: bool, keep_namespaces: bool) -> None:
        self._pool, self._report, self._trust, self._namespace = pool, report, trust, pool.namespace
        self._mode = PutMode.INSERT if revive else PutMode.REPLICATE
        self._keep_namespaces = keep_namespaces
        self._waiting: dict[str, list[_PendingRow]] = {}  # by namespace
        self._size = self._count = 0

    def add(self, where: str, made: Imported) -> None:
        """Add to the batch. What cannot be stored is reported."""
        of_a_pool = isinstance(made, PortableRow)
        try:
            row = made if isinstance(made, PortableRow) else PortableRow(self._record(made))
        except (ExpPoolError, ValueError) as err:
            self._report.skip(where, str(err))
            return
        record = row.record  # just made and not shared yet: changed in place, because copies cost a tenth of it all
        if not self._keep_namespaces:
            record.namespace = self._namespace
        if self._trust is not Trust.TRUSTED or row.answer_redacted:
            record.trust = Trust.QUARANTINED.value
        record.origin = Origin.IMPORTED.value
        self._waiting.setdefault(record.namespace, []).append(_PendingRow(where, row, of_a_pool))
        self._count += 1
        self._size += record.size_bytes
        if self._count >= _BATCH or self._size >= _BATCH_BYTES:
            self.finish()

    def finish(self) -> None:
        """Write the rest of the batch."""
        waiting, self._waiting, self._count, self._size = self._waiting, {}, 0, 0
        for namespace, batch in waiting.items():
            self._write(namespace, batch)

    def _record(self, experience: Experience) -> Record:
        """Row of a foreign experience: without secrets, with an id made from its content.

        The key is made before secrets are left out, so that calls which differ in them stay apart.
        """
        namespace, secret = self._namespace, self._pool.secret
        record = to_record(experience, namespace, key=derived_key(experience, secret), secret=secret)
        texts = {name: redacted(getattr(experience, name)) for name in ("request", "arguments", "metadata")}
        texts["trajectory"] = [step.model_copy(update=redacted(step.model_dump())) for step in experience.trajectory]
        if any(texts[name] != getattr(experience, name) for name in texts):
            shown = to_record(experience.model_copy(update=texts), namespace, key=record.key)
            record = replace(shown, reuse_scope=record.reuse_scope)
        content = [experience.key, *(getattr(record, name) for name in _OF_CONTENT)]
        record.id = hashlib.sha256(json_dumps(content).encode()).hexdigest()[:32]
        return record

    def _write(self, namespace: str, batch: Sequence[_PendingRow]) -> None:
        self._pool.check_writable()
        store, report = self._pool.store, self._report
        found = store.get_many(namespace, [each.row.record.id for each in batch], by="id")
        known = {row.id: row for row in found if row is not None}
        current = {
            row.key: row for row in store.get_many(namespace, [w.row.record.key for w in batch]) if row is not None
        }
        puts: list[Put] = []
        placed: list[str] = []
        logs: list[PortableRow] = []
        trusted = with_inherited_trust(store, [each.row.record for each in batch])
        for (where, row, of_a_pool), record in zip(batch, trusted, strict=True):
            there = known.get(record.id)
            if there is not None and not _same(there, record, _SUBSTANCE if of_a_pool else _OF_CONTENT):
                report.skip(where, "the pool has another state of it, which stays")
                continue
            if row.log:
                logs.append(row)
            if there is not None:
                report.known += 1
                continue
            rival = current.get(record.key) if record.is_current else None
            why = None if rival is None else _why_it_stays(rival, record)
            if rival is not None and why is not None:
                record = replace(record, is_current=False, superseded_by=rival.id, embed_due=None)  # noqa: PLW2901
                report.put_behind(where, why)
            elif record.is_current:
                current[record.key] = record
            known[record.id] = record
            puts.append(Put(record, self._mode))
            placed.append(where)
        self._count_statuses(placed, store.put_many(puts) if puts else [])
        for row in logs:
            self._append_log(namespace, row)
        if puts:
            self._pool.services.maintenance.stored({namespace}, by_hand=True)

    def _count_statuses(self, placed: Sequence[str], statuses: Sequence[PutStatus]) -> None:
        for where, status in zip(placed, statuses, strict=True):
            match status:
                case PutStatus.CURRENT:
                    self._report.stored += 1
                case PutStatus.HISTORY:
                    self._report.history += 1
                case PutStatus.DELETED:
                    self._report.skip(where, "it was deleted from this pool; revive=True brings it back")
                case _:  # another process imports it, too
                    self._report.known += 1

    def _append_log(self, namespace: str, row: PortableRow) -> None:
        """Append entries that the log of the row lacks, also after an import that was killed."""
        (there,) = self._pool.store.get_many(namespace, [row.record.id], by="id")
        if there is None:
            return
        have = set(audit_entries(self._pool.store, namespace, row.record.id))
        if missing := [entry for entry in row.log if entry not in have]:
            self._pool.store.append_log(namespace, audit_log(row.record.id), missing)


def _same(one: Record, other: Record, names: Sequence[str]) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _why_it_stays(current: Record, new: Record) -> str | None:
    """Reason why the pool's own answer of the call stays current; None if the new one may replace it."""
    if current.trust == Trust.TRUSTED and new.trust != Trust.TRUSTED:
        return "the pool's own answer of this call is trusted, and stays"
    if current.kind == ExperienceKind.SUCCESS and new.kind != ExperienceKind.SUCCESS:
        return "the pool has an answer of this call, and this is no answer"
    if current.annotated != new.annotated:
        return "the pool's own answer of this call is annotated, and stays" if current.annotated else None
    if (current.created_at, current.id) > (new.created_at, new.id):
        return "the pool's own answer of this call is newer, and stays"
    return None
