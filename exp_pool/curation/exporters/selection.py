"""What goes out: chosen, without secrets, without doubles, and each on its side of a split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
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


class Selection:
    """The rows that meet the conditions.

    Attributes:
        min_gap: by how much scores differ at least that decide between two answers.
        left_out: how many were left out, by reason.
        said: what else was found out.
    """

    def __init__(
        self,
        pool: Pool,
        where: tuple[Condition, ...],
        *,
        include: frozenset[str],
        history: bool,
        deduplicate: bool,
        redact: bool,
        training: bool,
        test_share: float,
        seed: int,
        min_gap: float,
    ) -> None:
        self.namespace = pool.space  # now: whoever is asked for rows later may stand in another one
        self._pool, self._where, self._include, self._history = pool, where, include, history
        self._deduplicate, self._redact, self._training = deduplicate, redact, training
        self._test_share, self._seed, self.min_gap = test_share, seed, min_gap
        self._now = now_us()
        self._test: frozenset[str] | None = None
        self.left_out: Counter[str] = Counter()
        self.said: dict[str, Any] = {}

    @property
    def store(self) -> RecordStore:
        """Where the rows are."""
        return self._pool.store

    @property
    def sides(self) -> tuple[str | None, ...]:
        """The sides that there are; None where it is not split."""
        return (TRAIN, TEST) if self._test_share > 0 else (None,)

    def records(self, side: str | None = None, *, all_answers: bool = False) -> Iterator[Record]:
        """The rows of a side, in the order of their creation; what is left out is counted once.

        With `all_answers` history and doubles, too, whatever was asked for.
        """
        seen: set[bytes] = set()
        first = self.sides[0] == side
        query = RecordQuery(self.namespace, self._where, history=self._history or all_answers)
        for record in watched(self.store.scan(query), f"exporting {side or ''}".strip(), self.store.count(query)):
            why = self._why_not(record)
            if why is None and self._deduplicate and not all_answers:
                content = _content(record)
                why = "twice" if content in seen else None
                seen.add(content)
            if why is not None:
                self.left_out[why] += first
            elif side is None or (record.id in self._test_ids()) is (side == TEST):
                yield record

    def experiences(self, side: str | None = None) -> Iterator[Experience]:
        """The experiences of a side, without secrets."""
        for record in self.records(side):
            experience = self.experience(record)
            if experience is not None:
                yield experience

    def experience(self, record: Record) -> Experience | None:
        """One of them without secrets; None, and counted, if it cannot be read."""
        try:
            experience = to_experience(record)
        except DecodingError:
            self.left_out["unreadable"] += 1
            return None
        return without_secrets(experience) if self._redact else experience

    def lines(self, side: str | None = None) -> Iterator[tuple[Record, dict[str, Any]]]:
        """The rows of a side with what is written of them so that they can be imported again."""
        logs = frozenset(self.store.names(self.namespace).logs)  # few rows have one, and asking for each takes time
        for record in self.records(side):
            has_log = audit_log(record.id) in logs
            log = audit_entries(self.store, self.namespace, record.id) if has_log else []
            try:
                yield record, to_line(record, log, self._pool.secret, redact=self._redact)
            except DecodingError:
                self.left_out["unreadable"] += 1

    def _why_not(self, record: Record) -> str | None:
        if record.trust != "trusted" and "quarantined" not in self._include:
            return "quarantined"
        if record.expired(self._now) and "expired" not in self._include:
            return "expired"
        if record.kind == "failure" and "failures" not in self._include:
            return "failure"
        if self._training and record.kind == "insight":
            return "insight"
        if self._training and record.answer is None:
            return "no answer"
        return None

    def _test_ids(self) -> frozenset[str]:
        """What is on the test side; found out once, over everything that is there, so that it is the same for all."""
        if self._test is None:
            clusters = Clusters(self.store, self.namespace)
            for record in self.store.scan(RecordQuery(self.namespace, self._where, history=True)):
                if self._why_not(record) is None:
                    clusters.add(record)
            self._test, self.said = clusters.split(self._test_share, self._seed)
        return self._test


def _content(record: Record) -> bytes:
    """The same for rows that say the same, but for case and spaces."""
    texts = (" ".join(text.casefold().split()) for text in (record.request, record.answer or ""))
    return hashlib.blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
