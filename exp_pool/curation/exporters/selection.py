"""Selection for an export: filtered, without secrets or duplicates, each row on its side of a split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from exp_pool.core.contracts.plugs import RecordQuery, RecordStore
from exp_pool.core.contracts.rows import audit_log
from exp_pool.core.experience import Experience
from exp_pool.core.filters import Condition
from exp_pool.core.record import Record, to_experience
from exp_pool.curation.exporters.clusters import Clusters
from exp_pool.curation.portable import to_line, without_secrets
from exp_pool.errors import DecodingError
from exp_pool.runtime.clock import now_us
from exp_pool.runtime.progress import watched
from exp_pool.stores.pages import audit_entries

if TYPE_CHECKING:
    from exp_pool.api.pool import Pool

INCLUDABLE = frozenset({"quarantined", "expired", "failures"})
TRAIN, TEST = "train", "test"


@dataclass(kw_only=True, eq=False)
class ExportSelection:
    """Rows to export.

    Attributes:
        pool: whose rows; `namespace` is its namespace when the selection is made.
        where: conditions.
        include: of `INCLUDABLE`.
        history, deduplicate, redact, test_share, seed, min_gap: see `exporters.save`.
        training: the rows become training data.
        left_out: how many were left out, by reason.
        said: counts of clusters.
    """

    pool: Pool
    where: tuple[Condition, ...]
    include: frozenset[str]
    history: bool
    deduplicate: bool
    redact: bool
    training: bool
    test_share: float
    seed: int
    min_gap: float
    left_out: Counter[str] = field(default_factory=Counter)
    said: dict[str, Any] = field(default_factory=dict)
    _now: int = field(default_factory=now_us)
    _test: frozenset[str] | None = None

    def __post_init__(self) -> None:
        self.namespace = self.pool.namespace  # now: rows may be read later, within another namespace

    @property
    def store(self) -> RecordStore:
        """Store of the rows."""
        return self.pool.store

    @property
    def sides(self) -> tuple[str | None, ...]:
        """Sides of the split; a single None without one."""
        return (TRAIN, TEST) if self.test_share > 0 else (None,)

    def records(self, side: str | None = None, *, all_answers: bool = False) -> Iterator[Record]:
        """Rows of a side in the order of their creation; what is left out is counted once.

        With `all_answers` history and doubles, too, whatever was asked for.
        """
        seen: set[bytes] = set()
        first = self.sides[0] == side
        query = RecordQuery(self.namespace, self.where, history=self.history or all_answers)
        for record in watched(self.store.scan(query), f"exporting {side or ''}".strip(), self.store.count(query)):
            why = self._reason_to_leave_out(record)
            if why is None and self.deduplicate and not all_answers:
                content = _content(record)
                why = "twice" if content in seen else None
                seen.add(content)
            if why is not None:
                self.left_out[why] += first
            elif side is None or (record.id in self._test_ids()) is (side == TEST):
                yield record

    def experiences(self, side: str | None = None) -> Iterator[Experience]:
        """Experiences of a side, without secrets."""
        for record in self.records(side):
            experience = self.experience(record)
            if experience is not None:
                yield experience

    def experience(self, record: Record) -> Experience | None:
        """Experience of a row, without secrets; None, and counted, if it cannot be read."""
        try:
            experience = to_experience(record)
        except DecodingError:
            self.left_out["unreadable"] += 1
            return None
        return without_secrets(experience) if self.redact else experience

    def lines(self, side: str | None = None) -> Iterator[tuple[Record, dict[str, Any]]]:
        """Rows of a side with their portable form."""
        logs = frozenset(self.store.names(self.namespace).logs)  # few rows have one, and asking for each takes time
        for record in self.records(side):
            has_log = audit_log(record.id) in logs
            log = audit_entries(self.store, self.namespace, record.id) if has_log else []
            try:
                yield record, to_line(record, log, self.pool.secret, redact=self.redact)
            except DecodingError:
                self.left_out["unreadable"] += 1

    def _reason_to_leave_out(self, record: Record) -> str | None:
        if record.trust != "trusted" and "quarantined" not in self.include:
            return "quarantined"
        if record.expired(self._now) and "expired" not in self.include:
            return "expired"
        if record.kind == "failure" and "failures" not in self.include:
            return "failure"
        if self.training and record.kind == "insight":
            return "insight"
        if self.training and record.answer is None:
            return "no answer"
        return None

    def _test_ids(self) -> frozenset[str]:
        """Ids of the test side, computed once over all rows, so that the split is the same for all readers."""
        if self._test is None:
            clusters = Clusters(self.store, self.namespace)
            for record in self.store.scan(RecordQuery(self.namespace, self.where, history=True)):
                if self._reason_to_leave_out(record) is None:
                    clusters.add(record)
            self._test, self.said = clusters.split(self.test_share, self.seed)
        return self._test


def _content(record: Record) -> bytes:
    """Digest that is equal for rows with the same request and answer, but for case and spaces."""
    texts = (" ".join(text.casefold().split()) for text in (record.request, record.answer or ""))
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
