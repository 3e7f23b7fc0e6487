"""Duplicate requests (`duplicates`), and requests with different answers (`conflicts`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from exp_pool.core.record import Record
from exp_pool.curation.near_duplicates import Apart, Groups, MinHashSimilarity, RowNumbers, SimilarityMeasure, plain
from exp_pool.curation.review.frame import at_least, merit, one_of, review_frame, scan_rows, short
from exp_pool.curation.review.vectors import stored_vectors
from exp_pool.runtime.clock import now_us
from exp_pool.stores.pages import rows_by_id

if TYPE_CHECKING:
    import pandas as pd

    from exp_pool.api.manager import ExpManager
    from exp_pool.api.pool import Pool

_LEAST = {"exact": 1.0, "letters": 0.8, "meaning": 0.95}
_WITHIN = ("scope", "function", "pool")
_NAMES = ("reason", "group", "keep", "similarity", "same_answer")


def duplicates(
    manager: ExpManager,
    where: Mapping[str, Any] | None = None,
    *,
    by: str = "letters",
    min_similarity: float | None = None,
    within: str = "scope",
) -> pd.DataFrame:
    """Experiences with the same request, in groups; the best of each group first.

    The best row (``found.keep``) is the annotated one, else the one that is in use, has the best score, is used most,
    is newest, in this order. The similarity of each other row of the group to it (``found.similarity``) is at least
    `min_similarity`; that of two best rows is less. ``found.same_answer``: the row has the answer of the best one, but
    for case and spaces. A deleted experience answers its request no more; with `merge` it answers with the best answer.

    Args:
        manager: whose pool; the namespace is the manager's, or that of ``in_namespace``.
        where: conditions, as in queries.
        by: ``"exact"``: the same but for case and spaces; ``"letters"``: most of their letters in a row
            (`MinHashSimilarity`); ``"meaning"``: the cosine of their stored vectors; pending rows are embedded first.
            Texts that the embedder does not read whole (too long, or in a language that it does not know) are near
            to nothing.
        min_similarity: 0 to 1; by default 0.8 by letters and 0.95 by meaning. At 0.95 two questions may still want
            different answers (one number, one name): look before you delete.
        within: what is compared: calls that differ in nothing but the request's text (``"scope"``), all of one
            ``"function"``, or the whole ``"pool"``.

    Returns:
        a frame of all rows that have a double, with ``found.reason``; edit it, and `apply_frame` it.

    Raises:
        InvalidInputError: a value that cannot be, or `by` meaning in a pool without vectors.
        ConfigurationError: pandas is not installed.
        EmbedderError, StoreError: pending rows cannot be embedded; the store failed.
    """
    least = _least(by, min_similarity)
    pool, rows = _read_rows(manager, where, by, within)
    measure = rows.measure(pool)
    groups = Groups(len(rows))
    groups.join_near(measure, least)
    kept, similarity = _keep_best(rows, groups, measure, least)
    sizes = np.bincount(kept, minlength=len(rows))
    members = [place for place in rows.by_merit() if sizes[kept[place]] > 1]
    members.sort(key=lambda place: (-sizes[kept[place]], kept[place], place != kept[place], -similarity[place]))
    notes: dict[str, dict[str, Any]] = {}
    numbers: dict[int, int] = {}
    requests = _requests(pool, rows, {int(kept[place]) for place in members})
    for place in members:
        best = int(kept[place])
        keep = place == best
        notes[rows.ids[place]] = {
            "reason": f"the best of {sizes[best]}" if keep else f"{similarity[place]:.2f} near to {requests[best]}",
            "group": numbers.setdefault(best, len(numbers)),
            "keep": keep,
            "similarity": float(similarity[place]),
            "same_answer": rows.answers[place] == rows.answers[best],
        }
    return review_frame(pool, notes, _NAMES)


def conflicts(
    manager: ExpManager,
    where: Mapping[str, Any] | None = None,
    *,
    by: str = "letters",
    min_similarity: float | None = None,
    within: str = "scope",
) -> pd.DataFrame:
    """Experiences with the same request and different answers, in groups; the best of each group first.

    Each row has a row in its group that is near to it and has another answer, but for case and spaces. Calls without an
    answer, failures and insights are left out.

    Args:
        manager: whose pool.
        where: conditions, as in queries.
        by: as for `duplicates`.
        min_similarity: likewise.
        within: likewise.

    Returns:
        a frame like that of `duplicates`; ``found.similarity`` is the similarity to the best row of the group,
        ``found.answers`` the number of answers in the group.

    Raises:
        InvalidInputError, ConfigurationError, EmbedderError, StoreError: see `duplicates`.
    """
    least = _least(by, min_similarity)
    pool, rows = _read_rows(manager, where, by, within, answered=True)
    measure = rows.measure(pool)
    answers = rows.numbered_answers()
    groups = Groups(len(rows))
    groups.join_near(measure, least, lambda one, other: answers[one] != answers[other])
    order = np.array(rows.by_merit(), dtype=np.int64)
    sizes = np.bincount(groups.of, minlength=1)
    order = order[sizes[groups.of[order]] > 1]
    order = order[np.argsort(groups.of[order], kind="stable")]  # by group, the best first
    _, first, inverse = np.unique(groups.of[order], return_index=True, return_inverse=True)
    best = order[first][inverse]
    similarity = np.where(order == best, 1.0, measure.similarity(order, best))
    requests = _requests(pool, rows, set(best.tolist()))
    ways = {int(b): len(np.unique(answers[order[best == b]])) for b in np.unique(best)}
    notes: dict[str, dict[str, Any]] = {}
    for place, of, near, group in zip(order.tolist(), best.tolist(), similarity.tolist(), inverse, strict=True):
        said = f"{ways[of]} answers to requests like {requests[of]}"
        notes[rows.ids[place]] = {
            "reason": said,
            "group": int(group),
            "keep": place == of,
            "similarity": near,
            "same_answer": bool(answers[place] == answers[of]),
            "answers": ways[of],
        }
    return review_frame(pool, notes, (*_NAMES, "answers"))


@dataclass
class _Rows:
    """Data of all rows that comparing them needs at once."""

    letters: MinHashSimilarity | None
    exact: bool
    ids: list[str] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    merits: list[tuple[Any, ...]] = field(default_factory=list)
    scopes: list[int] = field(default_factory=list)
    _numbers: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, record: Record, scope: tuple[Any, ...], now: int) -> None:
        scope = (*scope, record.kind, _digest(record.request)) if self.exact else (*scope, record.kind)
        self.ids.append(record.id)
        self.answers.append(_digest("" if record.answer is None else record.answer.strip('"')))
        self.merits.append(merit(record, now))
        self.scopes.append(self._numbers.setdefault(scope, len(self._numbers)))
        if self.letters is not None:
            self.letters.add(record.request, self.scopes[-1])

    def by_merit(self) -> list[int]:
        return sorted(range(len(self)), key=lambda place: (self.merits[place], self.ids[place]), reverse=True)

    def numbered_answers(self) -> RowNumbers:
        numbers: dict[bytes, int] = {}
        return np.array([numbers.setdefault(answer, len(numbers)) for answer in self.answers], dtype=np.int64)

    def measure(self, pool: Pool) -> SimilarityMeasure:
        scopes = np.array(self.scopes, dtype=np.int64)
        if self.exact:
            return _Same(scopes)
        if self.letters is not None:
            return self.letters
        return stored_vectors(pool, self.ids, scopes, whole=True)


class _Same:
    """Measure of equality: rows of one scope are the same."""

    def __init__(self, scopes: RowNumbers) -> None:
        self._scopes = scopes

    def pairs(self, least: float, apart: Apart) -> Iterator[tuple[RowNumbers, RowNumbers]]:  # noqa: ARG002
        """Each with the first of its scope, and with the first that is still apart then: that joins all that differ."""
        _, first, inverse = np.unique(self._scopes, return_index=True, return_inverse=True)
        rows = np.arange(len(inverse))
        worth = apart(first[inverse], rows)
        yield first[inverse][worth], rows[worth]
        if worth.any():
            found = rows[worth]
            _, at = np.unique(self._scopes[found], return_index=True)
            other = np.full(len(first), -1)
            other[inverse[found[at]]] = found[at]
            rows = rows[other[inverse] >= 0]
            worth = apart(other[inverse[rows]], rows)
            yield other[inverse[rows]][worth], rows[worth]

    def similarity(self, one: RowNumbers, other: RowNumbers) -> npt.NDArray[np.float32]:
        same: npt.NDArray[np.float32] = (self._scopes[one] == self._scopes[other]).astype(np.float32)
        return same


def _digest(text: str) -> bytes:
    """Digest that is equal for texts that differ in case and spaces only."""
    return hashlib.blake2b(plain(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _read_rows(
    manager: ExpManager, where: Mapping[str, Any] | None, by: str, within: str, *, answered: bool = False
) -> tuple[Pool, _Rows]:
    one_of("within", within, _WITHIN)
    pool, records = scan_rows(manager, where, "reading requests")
    rows = _Rows(MinHashSimilarity() if by == "letters" else None, by == "exact")
    now = now_us()
    for record in records:
        if answered and (record.answer is None or record.kind != "success"):
            continue
        scope = {
            "scope": (record.function, record.version, record.reuse_scope),
            "function": (record.function,),
            "pool": (),
        }[within]
        rows.add(record, scope, now)
    return pool, rows


def _keep_best(
    rows: _Rows, groups: Groups, measure: SimilarityMeasure, least: float
) -> tuple[RowNumbers, npt.NDArray[np.float32]]:
    """For each row the row that is kept instead, itself where it is kept, and their similarity.

    The best row of a group takes what is near to it; the best of the others goes on, until no row is left. Chains, of
    which the ends are far from each other, so become several.
    """
    kept = np.arange(len(rows))
    similarity = np.ones(len(rows), dtype=np.float32)
    left = np.array(rows.by_merit(), dtype=np.int64)
    left = left[np.bincount(groups.of, minlength=1)[groups.of[left]] > 1]
    while len(left):
        _, first, inverse = np.unique(groups.of[left], return_index=True, return_inverse=True)
        best = left[first][inverse]
        near = measure.similarity(best, left)
        taken = (near >= least) | (best == left)
        kept[left[taken]] = best[taken]
        similarity[left[taken]] = np.where(best == left, 1.0, near)[taken]
        left = left[~taken]
    return kept, similarity


def _requests(pool: Pool, rows: _Rows, places: Iterable[int]) -> dict[int, str]:
    """Beginnings of requests, for reasons."""
    wanted = [*places]
    found = rows_by_id(pool.store, pool.namespace, (rows.ids[place] for place in wanted))
    texts = ("what is gone now" if record is None else short(record.request) for _, record in found)
    return dict(zip(wanted, texts, strict=True))


def _least(by: str, given: float | None) -> float:
    default = _LEAST[one_of("by", by, _LEAST)]
    return default if given is None or by == "exact" else at_least("min_similarity", given, 0.1, 1.0)
